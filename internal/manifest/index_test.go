package manifest_test

import (
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

func TestIndexFindsTheDocumentClosestToTheField(t *testing.T) {
	const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n"
	index := manifest.NewIndex()
	for _, d := range documents(t, head+"      containers:\n      - name: side\n---\n"+
		head+"      containers:\n      - name: web\n        securityContext: {runAsUser: 0}\n---\n"+
		"apiVersion: v1\nkind: Pod\nmetadata: {generateName: p-}\nspec: {hostPID: true}\n---\n"+
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: other}\nspec: {template: {spec: {hostPID: true}}}\n") {
		index.Add(d)
	}
	declared, ok := index.Find(scan.Workload{Cluster: "c", Namespace: "shop", Kind: "Deployment", Name: "web"})
	if !ok {
		t.Fatal("not found")
	}
	if l := declared.Locate("spec.containers[3].securityContext.privileged", "web", ""); l.Line != 18 || !l.Nearest {
		t.Errorf("%+v", l)
	}
	if l := declared.Locate("spec.containers[3].name", "side", ""); l.Line != 8 || l.Nearest {
		t.Errorf("%+v", l)
	}
	declared, ok = index.Find(scan.Workload{Namespace: "other", Kind: "Deployment", Name: "web"})
	if !ok || declared.Locate("spec.hostPID", "", "").Line != 28 {
		t.Errorf("%v", declared)
	}
	if _, ok := index.Find(scan.Workload{Kind: "Pod", Name: "p-*"}); ok {
		t.Error("a generated name was found")
	}
}
