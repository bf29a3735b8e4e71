package scan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Exception excuses findings, precisely: every field that is set must match. In
// Cluster, Namespace, Workload, Container and Image "*" stands for any run of characters.
type Exception struct {
	Rule string
	// Cluster is the name of a cluster: the context.
	Cluster string
	// Workload is NAME or KIND/NAME.
	Namespace, Workload, Container, Image string
	Reason                                string
	// Expires is the last day (UTC) on which the exception is valid; zero means that
	// it does not end.
	Expires time.Time
	// File and Line are where the exception stands.
	File string
	Line int
}

// Matches reports whether the exception speaks of the finding. It does not look
// at the date.
func (x *Exception) Matches(f *Finding) bool {
	workload := f.Workload.Name
	if strings.Contains(x.Workload, "/") {
		workload = f.Workload.Kind + "/" + f.Workload.Name
	}
	return x.Rule == f.Rule &&
		wildcard(x.Cluster, f.Workload.Cluster) &&
		wildcard(x.Namespace, f.Workload.Namespace) &&
		wildcard(x.Workload, workload) &&
		wildcard(x.Container, f.Container) &&
		wildcard(x.Image, f.Image)
}

// wildcard matches s against a pattern with "*"; an empty pattern matches all.
func wildcard(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	first, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, rest)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}

// String describes the exception by what it names.
func (x *Exception) String() string {
	var b strings.Builder
	b.WriteString("rule " + x.Rule)
	for _, part := range []struct{ name, value string }{
		{"cluster", x.Cluster}, {"namespace", x.Namespace}, {"workload", x.Workload}, {"container", x.Container}, {"image", x.Image},
	} {
		if part.value != "" {
			b.WriteString(", " + part.name + " " + part.value)
		}
	}
	return b.String()
}

// Except is the stage that marks what exceptions cover. Before the end it reports
// the exceptions that have expired by now, and those that matched nothing.
func Except(exceptions []Exception, now time.Time, next Handler) Handler {
	return &except{marker: marker{exceptions: exceptions, now: now}, used: make([]int, len(exceptions)), next: next}
}

type except struct {
	marker
	used []int
	next Handler
}

func (s *except) Handle(e Event) error {
	switch {
	case e.Start != nil:
		s.clusters = append(slices.Clip(e.Start.Clusters), e.Start.Cluster)
	case e.Finding != nil:
		e.Finding = s.mark(e.Finding, s.used)
	case e.End != nil:
		for _, f := range s.report(s.used, e.End.Incomplete) {
			if err := s.next.Handle(Event{Finding: f}); err != nil {
				return err
			}
		}
	}
	return s.next.Handle(e)
}

// marker marks what exceptions cover at a time.
type marker struct {
	exceptions []Exception
	now        time.Time
	// clusters are those of the run.
	clusters []string
}

// elsewhere reports whether the exception is for clusters that the run does not look at.
func (m *marker) elsewhere(x *Exception) bool {
	return x.Cluster != "" && !slices.ContainsFunc(m.clusters, func(name string) bool { return wildcard(x.Cluster, name) })
}

// mark gives the finding with the first exception that covers it, and counts in used
// those that match.
func (m *marker) mark(f *Finding, used []int) *Finding {
	for i := range m.exceptions {
		x := &m.exceptions[i]
		if !x.Matches(f) {
			continue
		}
		used[i]++
		if x.Expired(m.now) || f.Excepted != nil {
			continue
		}
		marked := *f
		marked.Excepted = &Excepted{Reason: x.Reason}
		if !x.Expires.IsZero() {
			marked.Excepted.Expires = x.Expires.Format(time.DateOnly)
		}
		f = &marked
	}
	return f
}

// MatchesWorkload reports whether the exception, whatever its rule, speaks of the
// workload and one of its containers, given by name with their images. It does not
// look at the date.
func (x *Exception) MatchesWorkload(w Workload, images map[string]string) bool {
	f := Finding{Rule: x.Rule, Workload: w}
	if x.Container == "" && x.Image == "" {
		return x.Matches(&f)
	}
	for f.Container, f.Image = range images {
		if x.Matches(&f) {
			return true
		}
	}
	return false
}

// Expired reports whether the exception's last day is over.
func (x *Exception) Expired(now time.Time) bool {
	return !x.Expires.IsZero() && !now.Before(x.Expires.AddDate(0, 0, 1))
}

// exceptionKind is the kind of what findings about exceptions name as their workload.
const exceptionKind = "Exception"

// report are the findings about the exceptions themselves: those that have expired,
// and those that matched nothing, as far as all was read.
func (m *marker) report(used []int, incomplete bool) []*Finding {
	var found []*Finding
	for i := range m.exceptions {
		x := &m.exceptions[i]
		f := Finding{
			Category: CategoryException, Field: fmt.Sprintf("exceptions[%d]", i), Now: jsonText(x.String()),
			Workload: Workload{Kind: exceptionKind, Name: x.String()},
			Location: &Location{File: x.File, Line: max(x.Line, 1), Column: 1},
		}
		switch {
		case x.Expired(m.now):
			f.Rule, f.Severity = ruleExceptionExpired, SeverityMedium
			matches := fmt.Sprintf("%d findings", used[i])
			if used[i] == 1 {
				matches = "1 finding"
			}
			f.Message = fmt.Sprintf("the exception expired on %s and covers nothing any more; it matches %s", x.Expires.Format(time.DateOnly), matches)
		case used[i] == 0 && !incomplete && !m.elsewhere(x):
			f.Rule, f.Severity = ruleExceptionUnused, SeverityLow
			f.Message = "the exception matched nothing"
		default:
			continue
		}
		for _, r := range exceptionRules() {
			if r.ID == f.Rule {
				f.Title = r.Title
			}
		}
		found = append(found, &f)
	}
	return found
}
