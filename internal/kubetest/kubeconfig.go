package kubetest

import (
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Context is one context of a kubeconfig file: a name, how to reach the server,
// and the namespace that commands take when none is asked for.
type Context struct {
	Name      string
	Config    *rest.Config
	Namespace string
}

// Kubeconfig writes a kubeconfig file with one context, named kubetest, and
// returns its path. The file goes when the test ends.
func Kubeconfig(tb testing.TB, config *rest.Config) string {
	tb.Helper()
	return KubeconfigOf(tb, Context{Name: "kubetest", Config: config})
}

// KubeconfigOf writes a kubeconfig file with the contexts given, of which the
// first is the current one, and returns its path. The file goes when the test
// ends.
func KubeconfigOf(tb testing.TB, contexts ...Context) string {
	tb.Helper()
	file := clientcmdapi.NewConfig()
	for _, context := range contexts {
		if file.CurrentContext == "" {
			file.CurrentContext = context.Name
		}
		file.Contexts[context.Name] = &clientcmdapi.Context{
			Cluster:   context.Name,
			AuthInfo:  context.Name,
			Namespace: context.Namespace,
		}
		file.Clusters[context.Name] = &clientcmdapi.Cluster{
			Server:                   context.Config.Host,
			CertificateAuthorityData: context.Config.CAData,
		}
		file.AuthInfos[context.Name] = &clientcmdapi.AuthInfo{
			ClientCertificateData: context.Config.CertData,
			ClientKeyData:         context.Config.KeyData,
			Token:                 context.Config.BearerToken,
		}
	}
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		tb.Fatalf("kubeconfig %s: %v", path, err)
	}
	return path
}
