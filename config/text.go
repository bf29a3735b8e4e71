package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxProblems and maxShown keep a hostile file from flooding the terminal.
const (
	maxProblems = 20
	maxShown    = 100
)

// problems collects everything that is wrong, so that the user need not find out
// one by one.
type problems struct {
	errs []error
	more int
}

// addf counts without writing once there is enough to read: a file can hold
// many problems.
func (p *problems) addf(format string, args ...any) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	p.add(fmt.Errorf(format, args...))
}

func (p *problems) add(err error) {
	switch {
	case err == nil:
	case len(p.errs) == maxProblems:
		p.more++
	default:
		p.errs = append(p.errs, err)
	}
}

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(slices.Clip(p.errs), fmt.Errorf("and %d more", p.more))...)
	}
	return errors.Join(p.errs...)
}

// harmless returns s as it is when a terminal shows it and does nothing else, and
// quoted otherwise.
func harmless(s string) string {
	if s == "" || strings.TrimSpace(s) != s || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// printable reports whether s is made of nothing but visible characters and
// spaces: no control characters, no marks that turn the direction of text.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// quoted is s for a message: in quotes, and cut when it is long.
func quoted(s string) string {
	if utf8.RuneCountInString(s) > maxShown {
		s = string([]rune(s)[:maxShown]) + "…"
	}
	return strconv.Quote(s)
}
