// Command escape-scanner tells, for every workload of a Kubernetes cluster or of
// manifests, which ways out to the host are open.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, systemDeps())
	stop()
	os.Exit(code)
}
