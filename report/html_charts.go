package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// htmlChart is a ring or a bar of parts, and the same in words.
type htmlChart struct {
	Name, Label string
	Total       int
	Parts       []htmlPart
	// Short and Text are set where the chart is of a layer.
	Short, Text string
}

// htmlPart is one part of a chart. Lengths are of a hundred, for attributes of SVG.
type htmlPart struct {
	Class, Name  string
	Count        int
	Start, Len   string
	Rest, Offset string
}

// barChart lays the parts side by side, on a length that stands for total.
func barChart(name string, total int, parts ...htmlPart) htmlChart {
	c := htmlChart{Name: name, Total: total, Parts: parts}
	at := 0.0
	var words []string
	for i := range c.Parts {
		p := &c.Parts[i]
		length := 0.0
		if total > 0 {
			length = 100 * float64(p.Count) / float64(total)
		}
		p.Start, p.Len, p.Rest, p.Offset = number(at), number(length), number(100-length), number(125-at)
		at += length
		words = append(words, fmt.Sprintf("%d %s", p.Count, p.Name))
	}
	c.Label = joined(": ", name, strings.Join(words, ", "))
	return c
}

// number is a length with no more digits than can be seen.
func number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.2f", f), ".00") }

func verdictChart(counts map[scan.Verdict]int) htmlChart {
	var parts []htmlPart
	total := 0
	for _, v := range scan.Verdicts() {
		parts = append(parts, htmlPart{Class: string(v), Name: string(v), Count: counts[v]})
		total += counts[v]
	}
	return barChart("Workloads by verdict", total, parts...)
}

func severityChart(counts map[scan.Severity]int) htmlChart {
	var parts []htmlPart
	total := 0
	for _, s := range scan.Severities() {
		parts = append(parts, htmlPart{Class: string(s), Name: string(s), Count: counts[s]})
		total += counts[s]
	}
	c := barChart("Findings by severity", total, parts...)
	most := 1
	for _, p := range parts {
		most = max(most, p.Count)
	}
	// Each has a bar of its own, the longest the whole length.
	for i := range c.Parts {
		c.Parts[i].Len = number(100 * float64(c.Parts[i].Count) / float64(most))
	}
	return c
}

// layerNames are the layers for people, in the order of LayerCells.
func layerNames() [3]string { return [3]string{"Admission", "Runtime", "Kernel"} }

// layerQuestions are what the cells of a layer answer.
func layerQuestions() [3]string {
	return [3]string{
		"would refuse the like of it", "stops what it leaves open", "enforces that",
	}
}

// layerCharts say of how many workloads each layer keeps the way out shut.
func layerCharts(workloads []*htmlWorkload) []htmlChart {
	var counts [3]map[Tone]int
	total := 0
	short := [3]string{}
	for i := range counts {
		counts[i] = map[Tone]int{}
	}
	for _, w := range workloads {
		if w.Cells == nil {
			continue
		}
		total++
		for i, c := range w.Cells {
			counts[i][c.Tone]++
			short[i] = c.Short
		}
	}
	if total == 0 {
		return nil
	}
	var charts []htmlChart
	names, questions := layerNames(), layerQuestions()
	for i, name := range names {
		c := barChart(name+" over "+plural(total, "workload"), total,
			htmlPart{Class: "good", Name: "yes", Count: counts[i][ToneGood]},
			htmlPart{Class: "poor", Name: "partly", Count: counts[i][TonePoor]},
			htmlPart{Class: "bad", Name: "no", Count: counts[i][ToneBad]},
			htmlPart{Class: "unknown", Name: "unknown", Count: counts[i][ToneUnknown]},
		)
		c.Name, c.Short, c.Text = name, short[i], questions[i]
		charts = append(charts, c)
	}
	return charts
}
