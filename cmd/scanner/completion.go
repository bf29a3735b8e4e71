package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/escape-scanner/escape-scanner/internal/kube"
)

// kubectlCompletion is the name by which kubectl calls what completes the arguments of
// the plugin: a link of that name to the program.
const kubectlCompletion = "kubectl_complete-escape_scanner"

// completionPatience is how long somebody who presses TAB waits for a cluster.
const completionPatience = 3 * time.Second

// completeClusters has the flags of kubectl completed in all commands below cmd: names
// out of the kubeconfig, and namespaces out of the cluster that the flags given so far
// name. Whatever goes wrong, nothing is proposed: a shell shows no errors.
func completeClusters(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeClusters(sub)
	}
	for name, complete := range map[string]cobra.CompletionFunc{
		"context":   fromKubeconfig(func(c *clientcmdapi.Config) []string { return keys(c.Contexts) }),
		"contexts":  fromKubeconfig(func(c *clientcmdapi.Config) []string { return keys(c.Contexts) }),
		"cluster":   fromKubeconfig(func(c *clientcmdapi.Config) []string { return keys(c.Clusters) }),
		"user":      fromKubeconfig(func(c *clientcmdapi.Config) []string { return keys(c.AuthInfos) }),
		"namespace": completeNamespaces,
	} {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		if _, done := cmd.GetFlagCompletionFunc(name); !done {
			// It fails only for a flag that is not there.
			_ = cmd.RegisterFlagCompletionFunc(name, complete)
		}
	}
}

func keys[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}

// clientConfig is the kubeconfig with the flags of a command line that is being
// typed. They are read by name: each command has a struct of its own for them.
func clientConfig(cmd *cobra.Command) clientcmd.ClientConfig {
	value := func(name string) string {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			return flag.Value.String()
		}
		return ""
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = value("kubeconfig")
	// Warnings would stand in the middle of the line that is being typed.
	rules.WarnIfAllMissing = false
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{
		CurrentContext: value("context"),
		Context:        clientcmdapi.Context{Cluster: value("cluster"), AuthInfo: value("user")},
		AuthInfo:       clientcmdapi.AuthInfo{Impersonate: value("as")},
	})
}

// fromKubeconfig completes with names that the kubeconfig knows.
func fromKubeconfig(names func(*clientcmdapi.Config) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		config, err := clientConfig(cmd).RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return proposals(names(&config), toComplete)
	}
}

func completeNamespaces(cmd *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	config, err := clientConfig(cmd).ClientConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	cluster, err := kube.NewCluster(config, kube.Options{PageSize: 500})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	namespaces, err := cluster.Namespaces(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(namespaces))
	for i := range namespaces {
		// What is no name of a namespace does not come from an honest API server.
		if name := namespaces[i].Name; len(validation.IsDNS1123Label(name)) == 0 {
			names = append(names, name)
		}
	}
	return proposals(names, toComplete)
}

// proposals are the names that go on from what was typed, of which several may be
// separated by commas. A name that a shell or a terminal would not take as it stands is
// not proposed.
func proposals(names []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before, last := "", typed
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		before, last = typed[:i+1], typed[i+1:]
	}
	slices.Sort(names)
	var found []cobra.Completion
	for _, name := range names {
		if strings.HasPrefix(name, last) && !strings.ContainsFunc(name, unprintable) {
			found = append(found, before+name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func unprintable(r rune) bool { return r <= ' ' || r >= 0x7f }
