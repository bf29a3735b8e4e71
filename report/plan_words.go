package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
)

// What other renderers of plans need too: the words, and what is said once. All texts
// are clean.

// ChangeWord says by a sign and a word what would become of the object of a change.
func ChangeWord(c *remediate.Change) (string, Tone) {
	mark := deedOf(c).mark()
	return mark.text, toneOf(mark.style)
}

// ChangeDone is the word for a change that was made: "created", "put back".
func ChangeDone(c *remediate.Change) string { return deedOf(c).done() }

// ChangesToDo counts changes by what is to be done, without those that are blocked, and
// ChangesDone by what was.
func ChangesToDo(changes []remediate.Change) string { return changeCounts(changes, deed.todo) }

// ChangesDone is said of what ChangesToDo said before.
func ChangesDone(changes []remediate.Change) string { return changeCounts(changes, deed.done) }

// StageTitle says what is brought in by a stage.
func StageTitle(s remediate.Stage) string { return stageTitle(s) }

// Whys are for whom the objects of a precise set are. Its texts are not clean.
func Whys(r *Remediation) map[remediate.Ref][]string { return whys(r) }

// OutcomeMeans says what an outcome means for a workload.
func OutcomeMeans(o preview.Outcome) string { return outcomeMeans(o) }

// OutcomeTone is how an outcome sounds.
func OutcomeTone(o preview.Outcome) Tone { return toneOf(outcomeStyle(o)) }

// OutcomeCounts counts workloads by outcome, and those that stand in the way.
func OutcomeCounts(r *preview.Report) string {
	return strings.ReplaceAll(spanTexts(", ", outcomeCounts(r)...), ", (", " (")
}

// EffectSubject is what of a set, and which container, an effect is about.
func EffectSubject(e *preview.Effect) string {
	return strings.TrimSpace(cmp.Or(Clean(e.Element), Clean(string(e.Part))) + "  " + effectContainer(e))
}

// CheckWord is the answer of a check.
func CheckWord(c *remediate.Check) (string, Tone) {
	mark := checkSpans(c)[0]
	return mark.text, toneOf(mark.style)
}

// CheckCounts says how many checks were answered how, empty where there were none.
func CheckCounts(checks []remediate.Check) string { return spanTexts(", ", checkCounts(checks)...) }

// UnreadText is a failure in one line.
func UnreadText(f *scan.Failure) string { return spanTexts("  ", unreadSpans(f)...) }

// OptionTexts say what was chosen of a set, and for whom.
func OptionTexts(o *set.Options) []string {
	where := "the whole cluster"
	if len(o.Scope.Namespaces) > 0 {
		where = labelled("namespaces", strings.Join(o.Scope.Namespaces, ", "))
	} else if len(o.Scope.Exclude) > 0 {
		where += " without " + strings.Join(o.Scope.Exclude, ", ")
	}
	var texts []string
	for _, text := range []string{
		"for " + where,
		labelled("pods labelled", labelText(o.Scope.Labels)),
		"action " + string(o.Action),
		"fit " + string(o.Fit),
		fmt.Sprintf("level %s %s", o.Level, o.PSSVersion),
		labelled("only", strings.Join(o.Only, ", ")),
		labelled("without", strings.Join(o.Without, ", ")),
	} {
		if text != "" {
			texts = append(texts, Clean(text))
		}
	}
	return texts
}

// EffectGroup is an effect with what is said of it in several places.
type EffectGroup struct {
	*preview.Effect
	// Places are fields, Whys and Mends what is said of them, each once.
	Places, Whys, Mends []string
}

// GroupEffects says once what is said of several fields. The order stays.
func GroupEffects(effects []preview.Effect) []EffectGroup {
	type group struct {
		*preview.Effect
		places, whys, mends distinct
	}
	var list []*group
	at := map[string]*group{}
	for i := range effects {
		e := &effects[i]
		k := key(string(e.Outcome), string(e.Part), e.Element, string(e.ContainerKind), e.Container, e.What)
		g := at[k]
		if g == nil {
			g = &group{Effect: e}
			at[k] = g
			list = append(list, g)
		}
		g.places.add(Clean(e.Field))
		g.whys.add(Clean(e.Why))
		g.mends.add(Clean(e.Mend))
	}
	groups := make([]EffectGroup, len(list))
	for i, g := range list {
		groups[i] = EffectGroup{g.Effect, g.places.list, g.whys.list, g.mends.list}
	}
	return groups
}

// toneOf is how a style sounds, empty for one that says nothing.
func toneOf(s style) Tone {
	switch s {
	case green:
		return ToneGood
	case yellow:
		return TonePoor
	case red, alarm:
		return ToneBad
	case doubtful:
		return ToneUnknown
	case plain, bold, dim, cyan:
	}
	return ""
}

// spanTexts are the texts of spans in one line.
func spanTexts(between string, spans ...span) string {
	var texts []string
	for _, s := range spans {
		if s.text != "" {
			texts = append(texts, s.text)
		}
	}
	return strings.Join(texts, between)
}
