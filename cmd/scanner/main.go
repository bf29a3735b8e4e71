// Command escape-scanner tells, for every workload of a Kubernetes cluster or of
// manifests, which ways out to the host are open.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	// client-go logs to the process's stderr, past the writer of the run and
	// unescaped. The logger belongs to the process, so it is set here and not by run.
	klog.SetLoggerWithOptions(logr.Discard(), klog.ContextualLogger(true))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, systemDeps())
	stop()
	os.Exit(code)
}
