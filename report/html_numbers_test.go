package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"golang.org/x/net/html"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// pageNumbers is what a page says in numbers, and the verdict of each workload.
type pageNumbers struct {
	verdicts, severities map[string]string
	rows                 map[string]string
	sections             map[string]string
	tallies              map[string]string
	// clusters are the figures of each cluster of a fleet.
	clusters map[string]string
}

// Numbers and verdicts of the page are those of the JSON document.
func TestHTMLCountsAsJSONDoes(t *testing.T) {
	t.Parallel()
	samples := htmlSamples(t)
	samples["demo"] = demoRun(t)
	for name, events := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			j := NewJSON(&out)
			for _, e := range events {
				if err := j.Handle(e); err != nil {
					t.Fatal(err)
				}
			}
			var doc countedRun
			if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			got, want := numbersOf(t, htmlOf(t, events)), numbersOfRun(&doc)
			for _, part := range []struct {
				what      string
				got, want map[string]string
			}{
				{"verdicts", got.verdicts, want.verdicts},
				{"severities", got.severities, want.severities},
				{"rows", got.rows, want.rows},
				{"findings of workloads", got.tallies, want.tallies},
				{"sections", got.sections, want.sections},
				{"clusters", got.clusters, want.clusters},
			} {
				if !maps.Equal(part.got, part.want) {
					t.Errorf("%s: the page says %v, want %v", part.what, part.got, part.want)
				}
			}
		})
	}
}

// countedRun is what a JSON document has of what is counted.
type countedRun struct {
	Clusters []scan.ClusterRun
	Verdicts []scan.WorkloadVerdict
	Findings []scan.Finding
	Failures []scan.Failure
	Policies []scan.Policy
	Nodes    []scan.Node
	Alerts   []scan.Alert
	Lost     []scan.Lost
	End      scan.End
}

// numbersOfRun is what the page has to say.
func numbersOfRun(doc *countedRun) pageNumbers {
	want := pageNumbers{verdicts: map[string]string{}, severities: map[string]string{}, rows: map[string]string{}, sections: map[string]string{}, tallies: map[string]string{}, clusters: map[string]string{}}
	name := func(w scan.Workload) string {
		if len(doc.Clusters) > 0 {
			return rowName(Clean(w.Cluster + "/" + w.String()))
		}
		return rowName(Clean(w.String()))
	}
	for i := range doc.Clusters {
		run := &doc.Clusters[i]
		figures, nodes := []string{runState(run)}, 0
		for _, v := range scan.Verdicts() {
			figures = append(figures, fmt.Sprint(run.End.Verdicts[v]))
		}
		for _, s := range scan.Severities() {
			figures = append(figures, fmt.Sprint(run.End.Findings[s]))
		}
		for k := range doc.Nodes {
			if doc.Nodes[k].Cluster == run.Name {
				nodes++
			}
		}
		want.clusters[rowName(Clean(run.Name))] = strings.ToLower(strings.Join(append(figures, fmt.Sprint(nodes)), " "))
		if run.Start == nil {
			want.clusters[rowName(Clean(run.Name))] = "not read" + strings.Repeat(" -", len(figures))
		}
	}
	for _, v := range scan.Verdicts() {
		want.verdicts[string(v)] = fmt.Sprint(doc.End.Verdicts[v])
	}
	for _, s := range scan.Severities() {
		want.severities[string(s)] = fmt.Sprint(doc.End.Findings[s])
	}
	found := map[string]int{}
	for i := range doc.Findings {
		f := &doc.Findings[i]
		if f.Category != scan.CategoryPSS && f.Category != scan.CategoryEscape {
			continue
		}
		name := name(f.Workload)
		if found[name]++; want.rows[name] == "" {
			want.rows[name] = string(scan.VerdictUnknown)
		}
	}
	judged := map[string]scan.Verdict{}
	for i := range doc.Verdicts {
		v := &doc.Verdicts[i]
		name := name(v.Workload)
		if worst := judged[name]; worst == "" || verdictRank(v.Verdict) < verdictRank(worst) {
			judged[name] = v.Verdict
			want.rows[name] = string(v.Verdict)
		}
	}
	for name := range want.rows {
		want.tallies[name] = plural(found[name], "finding")
	}
	for id, n := range map[string]int{
		"unread": len(doc.Failures) + len(doc.Lost), "workloads": len(want.rows), "alerts": len(doc.Alerts), "policies": len(doc.Policies), "nodes": len(doc.Nodes),
	} {
		if n > 0 {
			want.sections[id] = fmt.Sprint(n)
		}
	}
	return want
}

// rowName is a name without spaces, of which a page may show fewer.
func rowName(name string) string { return strings.Join(strings.Fields(name), "") }

func demoRun(t *testing.T) []scan.Event {
	t.Helper()
	cluster, err := snapshot.Load(t.Context(), demo.Files(), demo.ServerVersion)
	if err != nil {
		t.Fatal(err)
	}
	var events []scan.Event
	err = scan.ScanCluster(t.Context(), cluster, scan.ClusterOptions{Level: psa.LevelBaseline}, scan.HandlerFunc(func(e scan.Event) error {
		events = append(events, e)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func numbersOf(t *testing.T, page []byte) pageNumbers {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	n := pageNumbers{verdicts: map[string]string{}, severities: map[string]string{}, rows: map[string]string{}, sections: map[string]string{}, tallies: map[string]string{}, clusters: map[string]string{}}
	links := map[string]string{}
	for e := range doc.Descendants() {
		switch {
		case e.Data == "ul" && attribute(e, "class") == "legend":
			for li := range children(e, "li") {
				n.verdicts[textOf(firstOf(li, "span"))] = textOf(firstOf(li, "b"))
			}
		case e.Data == "div" && attribute(e, "class") == "measure row":
			spans := []*html.Node{}
			for s := range children(e, "span") {
				spans = append(spans, s)
			}
			n.severities[textOf(spans[0])] = textOf(spans[1])
		case e.Data == "table" && attribute(e, "id") == "cluster-list":
			for tr := range children(firstOf(e, "tbody"), "tr") {
				cells := cellsOf(tr)
				figures := append([]string{textOf(firstOf(tr, "b"))}, cells[3:len(cells)-1]...)
				n.clusters[rowName(cells[0])] = strings.Join(figures, " ")
			}
		case e.Data == "table" && attribute(e, "id") == "matrix":
			for tr := range children(firstOf(e, "tbody"), "tr") {
				cells, cluster := cellsOf(tr), ""
				if attribute(e, "class") == "fleet" {
					cluster, cells = cells[0]+"/", cells[1:]
				}
				name := cells[1] + "/" + cells[2]
				if cells[0] != "-" {
					name = cells[0] + "/" + name
				}
				name = cluster + name
				n.rows[rowName(name)] = cells[3]
				links[attribute(firstOf(tr, "a"), "href")] = rowName(name)
			}
		case e.Data == "div" && attribute(e, "id") == "list":
			for d := range children(e, "details") {
				summary := firstOf(d, "summary")
				n.tallies[links["#"+attribute(d, "id")]] = textOf(firstOf(summary, "i"))
			}
		case e.Data == "a" && e.Parent.Data == "li" && strings.HasPrefix(attribute(e, "href"), "#"):
			id := strings.TrimPrefix(attribute(e, "href"), "#")
			if count := firstOf(e, "span"); count != nil && strings.Contains(" unread workloads alerts policies nodes ", " "+id+" ") {
				n.sections[id] = textOf(count)
			}
		}
	}
	return n
}

// cellsOf are the texts of the cells of a row.
func cellsOf(tr *html.Node) []string {
	var cells []string
	for c := range tr.ChildNodes() {
		if c.Type == html.ElementNode {
			cells = append(cells, textOf(c))
		}
	}
	return cells
}

// children are the elements of one name right below another.
func children(n *html.Node, name string) func(yield func(*html.Node) bool) {
	return func(yield func(*html.Node) bool) {
		for c := range n.ChildNodes() {
			if c.Data == name && !yield(c) {
				return
			}
		}
	}
}

// firstOf is the first element of a name below another, nil where there is none.
func firstOf(n *html.Node, name string) *html.Node {
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.Data == name {
			return c
		}
	}
	return nil
}
