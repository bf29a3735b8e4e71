package metrics_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
)

// docs/watch.md names the metrics that there are, each once, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/watch.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Metrics")
	var documented []string
	for line := range strings.Lines(table) {
		if names, _, row := strings.Cut(strings.TrimPrefix(line, "| "), " | "); row {
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(names, -1) {
				documented = append(documented, name[1])
			}
		}
	}
	// The first row says what all names begin with.
	documented = slices.DeleteFunc(documented, func(name string) bool { return name == "escape_scanner_" })

	// What is registered: by its descriptions, for some are absent before a picture.
	m := metrics.New(metrics.Options{})
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.Describe(descs)
	}()
	registered := []string{"update_duration_seconds", "build_info"}
	for d := range descs {
		name := regexp.MustCompile(`fqName: "escape_scanner_([a-z_]+)"`).FindStringSubmatch(d.String())
		if name == nil {
			t.Fatalf("no name in %s", d)
		}
		registered = append(registered, name[1])
	}
	gathered, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range gathered {
		name, ours := strings.CutPrefix(family.GetName(), "escape_scanner_")
		if ours && !slices.Contains(registered, name) {
			t.Errorf("%s is registered beside the figures", name)
		}
	}
	slices.Sort(documented)
	slices.Sort(registered)
	if !slices.Equal(documented, registered) {
		t.Errorf("documented are\n%q\nregistered are\n%q", documented, registered)
	}
}
