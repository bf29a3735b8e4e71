package report

import (
	"bytes"
	"compress/gzip"
	"encoding/json"

	"github.com/owenrumney/go-sarif/v2/sarif"
)

// flushEvery is how many results are compressed between two looks at the size.
const flushEvery = 100

// fitting returns how many of the results, from the first, the file can hold. It
// compresses once: the size after each batch is an upper bound of what the file
// cut there would have.
func (s *sarifReport) fitting(run *sarif.Run, results []json.RawMessage) (int, error) {
	var frame bytes.Buffer
	if err := json.NewEncoder(&frame).Encode(s.file(run, []json.RawMessage{})); err != nil {
		return 0, err
	}
	total := frame.Len()
	for _, r := range results {
		total += len(r) + 1
	}
	if total < s.maxGzip {
		return len(results), nil
	}
	size := &countingWriter{}
	zip := gzip.NewWriter(size)
	if _, err := zip.Write(frame.Bytes()); err != nil {
		return 0, err
	}
	fit := 0
	for fit < len(results) {
		batch := results[fit:min(fit+flushEvery, len(results))]
		for _, r := range batch {
			if _, err := zip.Write(r); err != nil {
				return 0, err
			}
		}
		if err := zip.Flush(); err != nil {
			return 0, err
		}
		if size.n > s.maxGzip {
			break
		}
		fit += len(batch)
	}
	return fit, nil
}

// countingWriter counts what is written to it.
type countingWriter struct{ n int }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
