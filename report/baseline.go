package report

import (
	"errors"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ReadFindings returns the findings of a saved run and how it began, in either form that
// Replay reads, and of a watch those that were there at its end. The run must be whole, as
// for Replay, and a watch must have got as far as its first picture.
func ReadFindings(r io.Reader) (*scan.Start, []scan.Finding, error) {
	var start *scan.Start
	var findings []scan.Finding
	pictured := false
	picture := Picture(scan.HandlerFunc(func(e scan.Event) error {
		if e.Finding != nil {
			findings = append(findings, *e.Finding)
		}
		return nil
	}))
	err := Replay(r, scan.HandlerFunc(func(e scan.Event) error {
		if e.Start != nil {
			start, pictured = e.Start, false
		}
		pictured = pictured || e.Picture != nil
		return picture.Handle(e)
	}))
	switch {
	case err != nil:
		return nil, nil, err
	case start.Watch && !pictured:
		return nil, nil, errors.New("the watch had not told its first picture: the findings are not all there")
	}
	return start, findings, nil
}
