package oracle

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// GitHub's limits: a file over one of them is refused as a whole.
const (
	codeMaxGzip      = 10_000_000
	codeMaxRuns      = 20
	codeMaxResults   = 25_000
	codeMaxRules     = 25_000
	codeMaxLocations = 1_000
	codeMaxTags      = 20
	codeMaxText      = 1_024
	codeMaxName      = 255
)

// codeCheck is one rule. say tells what breaks it, and where.
type codeCheck struct {
	name  string
	check func(f *codeFile, say func(what string, where ...any))
}

func codeRules() []codeCheck {
	return []codeCheck{
		{"size", func(f *codeFile, say func(string, ...any)) {
			if f.gzipped > codeMaxGzip {
				say(fmt.Sprintf("%d bytes compressed", f.gzipped), "file")
			}
		}},
		{"version", func(f *codeFile, say func(string, ...any)) {
			if f.Version != "2.1.0" {
				say(f.Version, "file")
			}
		}},
		{"runs", func(f *codeFile, say func(string, ...any)) {
			if n := len(f.Runs); n == 0 || n > codeMaxRuns {
				say(fmt.Sprintf("%d runs", n), "file")
			}
		}},
		{"null", func(f *codeFile, say func(string, ...any)) { eachValue(f.value, "", checkNull(say)) }},
		{"harmless", func(f *codeFile, say func(string, ...any)) { eachValue(f.value, "", checkHarmless(say)) }},
		{"categories", checkCategories},
		{"apart", checkApart},
		{"results", eachRun(func(run *codeRun, say func(string, ...any)) {
			if n := len(run.Results); run.Results == nil || n > codeMaxResults {
				say(fmt.Sprintf("%d results, null: %t", n, run.Results == nil))
			}
		})},
		{"rules", eachRun(func(run *codeRun, say func(string, ...any)) {
			if n := len(run.Tool.Driver.Rules); n > codeMaxRules {
				say(fmt.Sprintf("%d rules", n))
			}
		})},
		{"driver", eachRun(func(run *codeRun, say func(string, ...any)) {
			if run.Tool.Driver.Name == "" {
				say("no name")
			}
		})},
		{"invocation", eachRun(checkInvocation)},
		{"rule order", eachRun(checkRuleOrder)},
		{"result order", eachRun(checkResultOrder)},
		{"rule name", eachRule(func(r *codeRule, say func(string, ...any)) {
			if r.ID == "" || len(r.ID) > codeMaxName || r.Name == "" || len(r.Name) > codeMaxName || r.Name == r.ID {
				say(fmt.Sprintf("id %q, name %q", r.ID, r.Name))
			}
		})},
		{"rule description", eachRule(func(r *codeRule, say func(string, ...any)) {
			for _, text := range []string{r.ShortDescription.Text, r.FullDescription.Text} {
				if n := utf8.RuneCountInString(text); n == 0 || n > codeMaxText {
					say(fmt.Sprintf("%d characters", n))
				}
			}
		})},
		{"rule help", eachRule(func(r *codeRule, say func(string, ...any)) {
			if r.Help.Text == "" || r.Help.Markdown == "" {
				say("no text, or no markdown")
			}
		})},
		{"rule link", eachRule(func(r *codeRule, say func(string, ...any)) {
			if u, err := url.Parse(r.HelpURI); err != nil || u.Scheme != "https" || u.Host == "" {
				say(fmt.Sprintf("%q, %v", r.HelpURI, err))
			}
		})},
		{"rule tags", eachRule(func(r *codeRule, say func(string, ...any)) {
			tags := r.Properties.Tags
			if len(tags) > codeMaxTags || !slices.Contains(tags, "security") || slices.Contains(tags, "") {
				say(fmt.Sprintf("%q", tags))
			}
		})},
		{"rule severity", eachRule(func(r *codeRule, say func(string, ...any)) {
			score, err := strconv.ParseFloat(r.Properties.SecuritySeverity, 64)
			if err != nil || score < 0.1 || score > 10 {
				say(fmt.Sprintf("%q", r.Properties.SecuritySeverity))
			}
		})},
		{"rule precision", eachRule(func(r *codeRule, say func(string, ...any)) {
			if !slices.Contains([]string{"very-high", "high", "medium", "low"}, r.Properties.Precision) {
				say(fmt.Sprintf("%q", r.Properties.Precision))
			}
		})},
		{"rule level", eachRule(func(r *codeRule, say func(string, ...any)) {
			if levelRank(r.DefaultConfiguration.Level) < 0 {
				say(fmt.Sprintf("%q", r.DefaultConfiguration.Level))
			}
		})},
		{"result rule", eachResult(checkResultRule)},
		{"result level", eachResult(func(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
			if levelRank(r.Level) < 0 {
				say(fmt.Sprintf("%q", r.Level))
			}
		})},
		{"message", eachResult(func(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
			if r.Message.Text == "" || strings.Contains(r.Message.Text, "](") || strings.Contains(r.Message.Text, "\n") {
				say(fmt.Sprintf("%q", r.Message.Text))
			}
		})},
		{"location", eachResult(checkLocation)},
		{"uri", eachResult(checkURI)},
		{"fingerprint", eachResult(func(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
			if r.fingerprint() == "" {
				say(fmt.Sprint(r.PartialFingerprints))
			}
		})},
		{"fingerprint twice", eachRun(checkFingerprints)},
		{"unstable", eachResult(func(run *codeRun, r *codeResult, unstable []string, say func(string, ...any)) {
			known := []string{run.AutomationDetails.ID, r.RuleID, r.uri(), r.fingerprint()}
			for _, word := range unstable {
				if slices.ContainsFunc(known, func(s string) bool { return strings.Contains(s, word) }) {
					say(fmt.Sprintf("%q is in %q", word, known))
				}
			}
		})},
		{"suppression", eachResult(func(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
			for _, s := range r.Suppressions {
				if s.Kind != "external" || s.Status != "accepted" || s.Justification == "" {
					say(fmt.Sprintf("%+v", s))
				}
			}
		})},
	}
}

func eachRun(check func(*codeRun, func(string, ...any))) func(*codeFile, func(string, ...any)) {
	return func(f *codeFile, say func(string, ...any)) {
		for i := range f.Runs {
			check(&f.Runs[i], func(what string, where ...any) {
				say(what, append([]any{"run", i, f.Runs[i].AutomationDetails.ID}, where...)...)
			})
		}
	}
}

func eachRule(check func(*codeRule, func(string, ...any))) func(*codeFile, func(string, ...any)) {
	return eachRun(func(run *codeRun, say func(string, ...any)) {
		for i := range run.Tool.Driver.Rules {
			r := &run.Tool.Driver.Rules[i]
			check(r, func(what string, where ...any) { say(what, append([]any{"rule", i, r.ID}, where...)...) })
		}
	})
}

func eachResult(check func(*codeRun, *codeResult, []string, func(string, ...any))) func(*codeFile, func(string, ...any)) {
	return func(f *codeFile, say func(string, ...any)) {
		eachRun(func(run *codeRun, say func(string, ...any)) {
			for i := range run.Results {
				r := &run.Results[i]
				check(run, r, f.unstable, func(what string, where ...any) { say(what, append([]any{"result", i, r.RuleID}, where...)...) })
			}
		})(f, say)
	}
}

// checkCategories: GitHub refuses a file of which two runs have one category, and its
// action takes two for one that differ by case and signs only.
func checkCategories(f *codeFile, say func(string, ...any)) {
	seen := map[string]string{}
	for i := range f.Runs {
		id := f.Runs[i].AutomationDetails.ID
		if f.Runs[i].category() == "" {
			say(fmt.Sprintf("%q", id), "run", i)
		}
		folded := strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return r
			}
			return '_'
		}, strings.ToLower(f.Runs[i].category()))
		if other, ok := seen[folded]; ok {
			say(fmt.Sprintf("%q is as %q", id, other), "run", i)
		}
		seen[folded] = id
	}
}

// checkApart: what is found at one place under one fingerprint is one alert, whatever the
// category. Two clusters share one only where one file is to blame in both.
func checkApart(f *codeFile, say func(string, ...any)) {
	seen := map[Alert]string{}
	for i := range f.Runs {
		for _, r := range f.Runs[i].Results {
			if !strings.HasPrefix(r.uri(), "cluster/") {
				continue
			}
			alert := Alert{Rule: r.RuleID, URI: r.uri(), Fingerprint: r.fingerprint()}
			id := f.Runs[i].AutomationDetails.ID
			if other, ok := seen[alert]; ok && other != id {
				say(fmt.Sprintf("%v is in %q too", alert, other), "run", i, id)
			}
			seen[alert] = id
		}
	}
}

func checkInvocation(run *codeRun, say func(string, ...any)) {
	if len(run.Invocations) != 1 || run.Invocations[0].ExecutionSuccessful == nil {
		say("want one, which says whether it was successful")
		return
	}
	failed := 0
	for _, n := range run.Invocations[0].ToolExecutionNotifications {
		if n.Level == "error" {
			failed++
		}
	}
	if !*run.Invocations[0].ExecutionSuccessful && failed == 0 {
		say("not successful, and nothing says why")
	}
}

func checkRuleOrder(run *codeRun, say func(string, ...any)) {
	rules := run.Tool.Driver.Rules
	for i := 1; i < len(rules); i++ {
		if rules[i].ID <= rules[i-1].ID {
			say(fmt.Sprintf("%q comes after %q", rules[i].ID, rules[i-1].ID))
		}
	}
}

// checkResultOrder: what is shown is the first, so the worst come first, and last what is
// suppressed.
func checkResultOrder(run *codeRun, say func(string, ...any)) {
	rank := func(r *codeResult) int {
		if len(r.Suppressions) > 0 {
			return 10 + levelRank(r.Level)
		}
		return levelRank(r.Level)
	}
	for i := 1; i < len(run.Results); i++ {
		if a, b := &run.Results[i-1], &run.Results[i]; rank(b) < rank(a) {
			say(fmt.Sprintf("%s (%s) comes after %s (%s)", b.RuleID, b.Level, a.RuleID, a.Level), "result", i)
		}
	}
}

func levelRank(level string) int {
	return slices.Index([]string{"error", "warning", "note", "none"}, level)
}

func checkResultRule(run *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
	rules := run.Tool.Driver.Rules
	if r.RuleIndex == nil || *r.RuleIndex < 0 || *r.RuleIndex >= len(rules) || rules[*r.RuleIndex].ID != r.RuleID {
		say("its index does not lead to its rule")
	}
}

func checkLocation(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
	if n := len(r.Locations); n == 0 || n > codeMaxLocations {
		say(fmt.Sprintf("%d locations", n))
	}
	for _, l := range r.Locations {
		at := l.PhysicalLocation
		if at.ArtifactLocation.URI == "" || at.Region == nil || at.Region.StartLine < 1 || at.Region.StartColumn < 0 {
			say(fmt.Sprintf("%+v", at))
		}
	}
}

func checkURI(_ *codeRun, r *codeResult, _ []string, say func(string, ...any)) {
	for _, l := range r.Locations {
		at := l.PhysicalLocation.ArtifactLocation
		u, err := url.Parse(at.URI)
		switch {
		case err != nil:
			say(err.Error())
		case u.IsAbs() || strings.HasPrefix(at.URI, "/") || at.URIBaseID != "%SRCROOT%":
			say(fmt.Sprintf("%q in %q is not relative to the repository", at.URI, at.URIBaseID))
		case strings.ContainsAny(at.URI, "\\ ?#") || slices.Contains(strings.Split(u.Path, "/"), ".."):
			say(fmt.Sprintf("%q is no plain path", at.URI))
		}
	}
}

func checkFingerprints(run *codeRun, say func(string, ...any)) {
	seen := map[string]int{}
	for i := range run.Results {
		print := run.Results[i].fingerprint()
		if other, ok := seen[print]; ok {
			say(fmt.Sprintf("as of result %d", other), "result", i, print)
		}
		seen[print] = i
	}
}

// eachValue visits every value of a file, with the path to it.
func eachValue(v any, path string, visit func(path string, v any)) {
	visit(path, v)
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			visit(path, key)
			eachValue(inner, path+"."+key, visit)
		}
	case []any:
		for i, inner := range v {
			eachValue(inner, fmt.Sprintf("%s[%d]", path, i), visit)
		}
	}
}

func checkNull(say func(string, ...any)) func(path string, v any) {
	return func(path string, v any) {
		if v == nil {
			say("null", path)
		}
	}
}

// checkHarmless: names of a cluster are text of strangers.
func checkHarmless(say func(string, ...any)) func(path string, v any) {
	return func(path string, v any) {
		text, _ := v.(string)
		for _, r := range text {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				say(fmt.Sprintf("%U", r), path)
				return
			}
		}
	}
}

func gzipped(tb testing.TB, file []byte) int {
	tb.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if _, err := zip.Write(file); err != nil {
		tb.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Len()
}
