// Package charttest renders the Helm chart of deploy/chart for tests, by the Helm that
// hack/helm.sh puts in bin.
package charttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	// root is the module's folder, as seen from a package two folders below it.
	root = "../.."
	// Chart is the chart's folder, seen from there too.
	Chart = root + "/deploy/chart"
	// Release and Namespace are what the chart is rendered as.
	Release   = "escape-scanner"
	Namespace = "escape-scanner"
	// patience is how long Helm may take on a machine that is busy.
	patience = 2 * time.Minute
)

// Values lists the values files that the chart is tried with, by their names without
// "-values.yaml". "defaults" stands for none.
func Values(tb testing.TB) map[string]string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(Chart, "ci", "*-values.yaml"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("values files of the chart: %v, %v", files, err)
	}
	values := map[string]string{"defaults": ""}
	for _, file := range files {
		values[strings.TrimSuffix(filepath.Base(file), "-values.yaml")] = file
	}
	return values
}

// Helm runs Helm and returns what it prints. An error holds what it complains of.
func Helm(tb testing.TB, args ...string) ([]byte, error) {
	tb.Helper()
	helm, err := filepath.Abs(filepath.Join(root, "bin", "helm"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(helm); err != nil {
		tb.Fatalf(`%v: run "make helm"`, err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, helm, args...)
	// Nothing of what the user has for Helm is read or written.
	home := tb.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+filepath.Join(home, "none"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, stderr.Bytes(), stdout.Bytes())
	}
	return stdout.Bytes(), nil
}

// Render renders the chart with a values file, if any, and more flags of "helm template".
func Render(tb testing.TB, file string, flags ...string) []byte {
	tb.Helper()
	args := append([]string{"template", Release, Chart, "--namespace", Namespace}, flags...)
	if file != "" {
		args = append(args, "--values", file)
	}
	text, err := Helm(tb, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// Objects are the objects of a text of many documents.
func Objects(tb testing.TB, text []byte) []*unstructured.Unstructured {
	tb.Helper()
	var objects []*unstructured.Unstructured
	for _, document := range Documents(tb, text) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			tb.Fatalf("%v in\n%s", err, document)
		}
		objects = append(objects, o)
	}
	return objects
}

// Documents are the documents of a text that hold more than comments.
func Documents(tb testing.TB, text []byte) [][]byte {
	tb.Helper()
	reader := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer reader.Close()
	var documents [][]byte
	buffer := make([]byte, len(text)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			tb.Fatal(err)
		}
		document := bytes.Clone(buffer[:n])
		var any map[string]any
		if err := yaml.Unmarshal(document, &any); err != nil {
			tb.Fatalf("%v in\n%s", err, document)
		}
		if len(any) > 0 {
			documents = append(documents, document)
		}
	}
}
