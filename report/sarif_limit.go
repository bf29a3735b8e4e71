package report

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// flushEvery is how many results are compressed between two looks at the size.
	flushEvery = 100
	// maxTogether is how many results of all runs are looked at: so many never fit into a
	// file, but they would have to be held.
	maxTogether = 100_000
)

// fitting are the runs with as many of their results as the file can hold. What it cannot
// is the least severe of all runs.
func (s *sarifReport) fitting(parts []*sarifPart) ([]runJSON, error) {
	all := make([][]*scan.Finding, len(parts))
	for i, p := range parts {
		all[i] = p.findings
	}
	order := worstFirst(parts)
	fit := min(len(order), max(maxTogether, s.maxResults))
	keepFirst(parts, all, order[:fit])
	runs, err := s.encoded(parts)
	if err != nil {
		return nil, err
	}
	fits, err := s.fits(runs, order[:fit])
	if err != nil {
		return nil, err
	}
	for fits < fit {
		fit = fits
		// When the last finding of a rule is left out its rule goes too, and the
		// indexes of the others change.
		keepFirst(parts, all, order[:fit])
		if runs, err = s.encoded(parts); err != nil {
			return nil, err
		}
		if fits, err = s.lessThan(fit, runs); err != nil {
			return nil, err
		}
	}
	for i, p := range parts {
		if left := all[i][len(p.findings):]; len(left) > 0 {
			s.leave(p, left, fmt.Sprintf("a file may have %.1f MB compressed", float64(s.maxGzip)/1e6))
		}
	}
	return runs, nil
}

// worstFirst is the order in which results of all parts are taken into the file: for each
// the number of its part.
func worstFirst(parts []*sarifPart) []int {
	type place struct{ part, at int }
	var places []place
	for i, p := range parts {
		for k := range p.findings {
			places = append(places, place{i, k})
		}
	}
	if len(parts) > 1 {
		slices.SortStableFunc(places, func(a, b place) int {
			return compareResults(parts[a.part].findings[a.at], parts[b.part].findings[b.at])
		})
	}
	order := make([]int, len(places))
	for i, p := range places {
		order[i] = p.part
	}
	return order
}

// keepFirst leaves each part those of all its findings that are in the order.
func keepFirst(parts []*sarifPart, all [][]*scan.Finding, order []int) {
	counts := make([]int, len(parts))
	for _, part := range order {
		counts[part]++
	}
	for i, p := range parts {
		p.findings = all[i][:counts[i]]
	}
}

// fits is how many of the results, in the order, the file can hold. It compresses once:
// the size after each batch is an upper bound of what the file cut there would have.
func (s *sarifReport) fits(runs []runJSON, order []int) (int, error) {
	bare := make([]runJSON, len(runs))
	total := 0
	for i, r := range runs {
		bare[i] = runJSON{Run: r.Run, Results: []json.RawMessage{}}
		for _, result := range r.Results {
			total += len(result) + 1
		}
	}
	var frame bytes.Buffer
	if err := json.NewEncoder(&frame).Encode(s.file(bare)); err != nil {
		return 0, err
	}
	if total+frame.Len() < s.maxGzip {
		return len(order), nil
	}
	size := &countingWriter{}
	zip := gzip.NewWriter(size)
	if _, err := zip.Write(frame.Bytes()); err != nil {
		return 0, err
	}
	next := make([]int, len(runs))
	for fit := 0; fit < len(order); {
		batch := order[fit:min(fit+flushEvery, len(order))]
		for _, run := range batch {
			if _, err := zip.Write(runs[run].Results[next[run]]); err != nil {
				return 0, err
			}
			next[run]++
		}
		if err := zip.Flush(); err != nil {
			return 0, err
		}
		if size.n > s.maxGzip {
			return fit, nil
		}
		fit += len(batch)
	}
	return len(order), nil
}

// lessThan is how many results to try next where so many are still too much: those of
// several runs were measured in another order than they stand in.
func (s *sarifReport) lessThan(fit int, runs []runJSON) (int, error) {
	if len(runs) == 1 || fit == 0 {
		return fit, nil
	}
	size := &countingWriter{}
	zip := gzip.NewWriter(size)
	if err := newEncoder(zip).encode(s.file(runs)); err != nil {
		return 0, err
	}
	if err := zip.Close(); err != nil {
		return 0, err
	}
	if size.n <= s.maxGzip {
		return fit, nil
	}
	return fit - max(1, fit/20), nil
}

// countingWriter counts what is written to it.
type countingWriter struct{ n int }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
