package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// layersFault does one thing to requests for a list, by their number of its page (1, or
// 2 for all that follow), the first so many times.
func layersFault(resource string, page, times int, action kubetest.Action) kubetest.Hook {
	var done atomic.Int32
	return func(r *http.Request) kubetest.Action {
		at := 1
		if r.URL.Query().Get("continue") != "" {
			at = 2
		}
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+resource) && at == page && int(done.Add(1)) <= times {
			return action
		}
		return kubetest.Pass()
	}
}

// slowly answers a list only when the nodes were asked for: with everything else.
func slowly(resource string) kubetest.Hook {
	others := make(chan struct{})
	var once sync.Once
	return func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, "/nodes") {
			once.Do(func() { close(others) })
		}
		if strings.HasSuffix(r.URL.Path, "/"+resource) {
			return kubetest.Hold(others, kubetest.Pass())
		}
		return kubetest.Pass()
	}
}

// What passes by itself leaves no trace.
func testPassingFaults(t *testing.T, server *kubetest.Server) {
	for name, hook := range map[string]kubetest.Hook{
		"none":                    nil,
		"410 on the second page":  layersFault("kubearmorpolicies", 2, 1, kubetest.Gone("")),
		"500 twice":               layersFault("kubearmorpolicies", 2, 2, kubetest.InternalError("etcd: leader changed")),
		"429":                     layersFault("clusterpolicies", 1, 1, kubetest.TooManyRequests(1)),
		"cut":                     layersFault("kubearmorclusterpolicies", 1, 1, kubetest.Cut()),
		"cut in the answer":       layersFault("kubearmorpolicies", 2, 1, kubetest.CutAfter(200)),
		"cut in a binding":        layersFault("validatingadmissionpolicybindings", 1, 1, kubetest.CutAfter(100)),
		"slow KubeArmor policies": slowly("kubearmorpolicies"),
		"slow bindings":           slowly("validatingadmissionpolicybindings"),
	} {
		t.Run(name, func(t *testing.T) {
			proxy := kubetest.NewProxy(t, server.Config(), hook)
			a := liveScan(t, proxy.Config(), "--page-size", "3")
			a.wantComplete(t, exitFindings)
			a.wantLayers(t, layersChange{})
		})
	}
}

// Policies of which only the first page was read are not all there are, and a policy
// that was not read is not one that is not there.
func testLastingFaults(t *testing.T, server *kubetest.Server) {
	guarded := layersChange{}.with(scan.VerdictUnknown, "tools/Deployment/mounter", "roomy/Pod/mounter").unsealed(sealedNamespaces()...)
	silence := kubetest.Hold(nil, kubetest.Pass())
	const ksp, vap = "KubeArmorPolicy.security.kubearmor.com", "ValidatingAdmissionPolicy.admissionregistration.k8s.io"
	for _, test := range []struct {
		name   string
		hook   kubetest.Hook
		failed string
		change layersChange
	}{
		{"403 on the second page", layersFault("kubearmorpolicies", 2, always, kubetest.Forbidden("no more")), ksp + ": forbidden", guarded},
		{"410 for ever", layersFault("kubearmorpolicies", 2, always, kubetest.Gone("")), ksp + ": read error", guarded},
		{"500 for ever", layersFault("kubearmorpolicies", 2, always, kubetest.InternalError("etcd")), ksp + ": read error", guarded},
		{"cut for ever", layersFault("kubearmorpolicies", 2, always, kubetest.CutAfter(200)), ksp + ": read error", guarded},
		{"silence on the second page", layersFault("kubearmorpolicies", 2, always, silence), ksp + ": timeout", guarded},
		{"500 for admission policies", layersFault("validatingadmissionpolicies", 1, always, kubetest.InternalError("etcd")), vap + ": read error", layersChange{}.unsealed("frozen")},
		{"no JSON", layersFault("validatingadmissionpolicies", 1, always, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "{\"items\": [\x1b[2J")
		}), vap + ": read error", layersChange{}.unsealed("frozen")},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change.because = "could not be read (" + strings.TrimPrefix(test.failed[strings.Index(test.failed, ": "):], ": ") + ")"
			proxy := kubetest.NewProxy(t, server.Config(), test.hook)
			a := liveScan(t, proxy.Config(), "--page-size", "3", "--request-timeout", "2s")
			a.wantLayers(t, test.change)
			if got := a.failed(); a.code != exitIncomplete || !a.end.Incomplete || !slices.Equal(got, []string{test.failed}) {
				t.Errorf("exit %d, failures %q, want %q", a.code, got, test.failed)
			}
			if strings.ContainsRune(a.stdout+a.stderr, '\x1b') {
				t.Error("the server's words reach the terminal")
			}
		})
	}
}
