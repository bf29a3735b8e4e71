package main

import (
	"fmt"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/tools/clientcmd"
)

// validTimeout refuses a time that is none: otherwise the cluster would be told to be
// out of reach for it.
func validTimeout(flags *genericclioptions.ConfigFlags) error {
	if timeout, err := clientcmd.ParseTimeout(*flags.Timeout); err != nil || timeout < 0 {
		return fmt.Errorf("--request-timeout %q: want a number of seconds, or a time such as 30s", *flags.Timeout)
	}
	return nil
}

// nobodyNamed begins a hint about a cluster that was tried because no context names one.
func nobodyNamed(cluster string) string {
	if cluster != clientcmd.ClusterDefaults.Server {
		return ""
	}
	return "no kubeconfig has a current context: see --kubeconfig, --context and KUBECONFIG; "
}
