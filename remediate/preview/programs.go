package preview

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/remediate/preview/shell"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// source is one place of a spec that says what runs in a container.
type source struct {
	field string
	// who runs it, in a sentence: "its readiness probe".
	who  string
	read shell.Reading
	// entry: it is what the container starts with. early: it runs in the container's first
	// moments.
	entry, early bool
	// image is what by the image's name may be in it.
	image string
}

// programs says what becomes of blocked programs that the container is known to call.
func (v *view) programs(c *container) {
	part, worst := v.reaches(c)
	if worst == "" {
		return
	}
	for _, s := range v.sources(c) {
		called := map[string]bool{}
		for i, program := range s.read.Calls {
			if e, ok := v.call(c, &s, program, i); ok {
				called[e.Element] = true
				v.add(e.in(c))
			}
		}
		for _, word := range s.read.Mentions {
			if !called[path.Base(word)] {
				v.named(c, &s, word, s.who+" names ")
			}
		}
		v.named(c, &s, s.image, "by its name the image runs ")
		if len(s.read.Unseen) > 0 && worst != Safe {
			v.add(Effect{Outcome: worst, Part: part, Field: s.field,
				What: "what " + s.who + " calls is not all known", Why: shorten("not followed: " + list(s.read.Unseen))}.in(c))
		}
	}
}

// named says what may become of a program that is named and perhaps called.
func (v *view) named(c *container, s *source, word, what string) {
	element, ok := v.elementAt(word)
	if !ok {
		return
	}
	if b := v.takesHold(c, element, word); b.any() {
		v.add(Effect{
			Outcome: b.outcome(MayBreak), Part: partOf(element.Kind), Element: element.Name, Field: s.field,
			What: what + element.Name, Why: sentences("whether it is called is not seen", b.reason), Mend: mendCall(element),
		}.in(c))
	}
}

// reaches gives the part of chroot and tools to name for a container, and what may become
// of a program of theirs that is called; empty where none of them reaches it.
func (v *view) reaches(c *container) (part set.Part, worst Outcome) {
	for _, e := range v.elements {
		if e.Kind == armor.Capability {
			continue
		}
		b := v.runtime.element(c, e.Name)
		switch {
		case !b.any() && !b.reported:
			continue
		case worst == "" || b.any() && !b.already:
			worst = Safe
			if b.any() {
				worst = b.outcome(MayBreak)
			}
		}
		// Tools come last, and most of what is called is a tool.
		part = partOf(e.Kind)
	}
	return part, worst
}

// sources are the places of the spec that say what runs in the container.
func (v *view) sources(c *container) []source {
	all := []source{entryOf(c)}
	// The kubelet expands the commands of probes by the container's own env alone, and
	// those of hooks not at all.
	static := literals(c.Container)
	static.open = false
	add := func(field, who string, argv []string) {
		all = append(all, source{field: c.path + "." + field + ".exec.command", who: who, read: shell.Argv(argv), early: field == "lifecycle.postStart"})
	}
	for _, p := range []struct {
		probe      *corev1.Probe
		field, who string
	}{
		{c.StartupProbe, "startupProbe", "its startup probe"},
		{c.ReadinessProbe, "readinessProbe", "its readiness probe"},
		{c.LivenessProbe, "livenessProbe", "its liveness probe"},
	} {
		if p.probe != nil && p.probe.Exec != nil {
			add(p.field, p.who, expand(p.probe.Exec.Command, static))
		}
	}
	if l := c.Lifecycle; l != nil {
		if l.PostStart != nil && l.PostStart.Exec != nil {
			add("lifecycle.postStart", "its postStart hook", l.PostStart.Exec.Command)
		}
		if l.PreStop != nil && l.PreStop.Exec != nil {
			add("lifecycle.preStop", "its preStop hook", l.PreStop.Exec.Command)
		}
	}
	return all
}

// entryOf reads what the container starts with. Without a command the image decides, of
// which the spec says nothing: its arguments may be a command or not.
func entryOf(c *container) source {
	s := source{field: c.path + ".command", who: "its command", entry: true}
	values := literals(c.Container)
	if len(c.Command) > 0 {
		s.read = shell.Argv(expand(slices.Concat(c.Command, c.Args), values))
		return s
	}
	s.field, s.who = c.path+".image", "its image"
	s.read.Unseen = []string{"the entry point stands in the image"}
	if len(c.Args) > 0 {
		s.field, s.who = c.path+".args", "its command"
		read := shell.Argv(expand(c.Args, values))
		s.read.Mentions = slices.Concat(read.Calls, read.Mentions)
	}
	name, _, _ := strings.Cut(c.Image, "@")
	s.image, _, _ = strings.Cut(path.Base(name), ":")
	return s
}

// environment is what the kubelet knows of a container's variables.
type environment struct {
	values map[string]string
	// open: variables come from somewhere else too, so any name may be one.
	open bool
}

// literals are the values that the spec itself gives to variables. An empty one counts as
// not known: what was read of a cluster has no values.
func literals(c *corev1.Container) environment {
	env := environment{values: make(map[string]string, len(c.Env)), open: len(c.EnvFrom) > 0}
	for _, e := range c.Env {
		env.values[e.Name] = e.Value
		if e.Value == "" || strings.Contains(e.Value, "$(") {
			env.values[e.Name] = shell.Hole
		}
	}
	return env
}

// value is that of $(name); ok is false where nothing is put in its place.
func (e environment) value(name string) (value string, ok bool) {
	if value, ok = e.values[name]; ok {
		return value, true
	}
	// A shell's $(date) is no variable: names of those are mostly in capitals.
	return shell.Hole, e.open && name != "" && name == strings.ToUpper(name) && !strings.ContainsAny(name, " \t\n")
}

// expand does what the kubelet does with $(NAME) in a command: the value where there is
// such a variable, $(NAME) itself for $$(NAME), and nothing where there is none.
func expand(argv []string, env environment) []string {
	out := make([]string, len(argv))
	for i, arg := range argv {
		var b strings.Builder
		for {
			before, after, ok := strings.Cut(arg, "$")
			b.WriteString(before)
			if !ok {
				break
			}
			name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")")
			value, known := env.value(name)
			switch {
			case strings.HasPrefix(after, "$"):
				b.WriteByte('$')
				arg = after[1:]
			case strings.HasPrefix(after, "(") && closed && known:
				b.WriteString(value)
				arg = rest
			default:
				b.WriteByte('$')
				arg = after
			}
		}
		out[i] = b.String()
	}
	return out
}

// elementAt finds the program of the set that a word names: by its name, or by a path
// that ends in it.
func (j *judge) elementAt(word string) (armor.Element, bool) {
	base := path.Base(word)
	for _, e := range j.elements {
		if e.Kind != armor.Capability && e.Name == base {
			return e, true
		}
	}
	return armor.Element{}, false
}

// takesHold is how far the set refuses a program that is written like this. A bare name
// is looked for where distributions put the program.
func (v *view) takesHold(c *container, e armor.Element, program string) bite {
	found := v.specimen.Inspected[c.Name]
	if path.IsAbs(program) {
		program = path.Clean(program)
		b := v.runtime.exec(c, program)
		if real, looked := found[program]; looked && real == "" {
			b = b.unless(program + " is not in the container now")
		}
		return b
	}
	b := v.runtime.element(c, e.Name)
	switch {
	case strings.Contains(program, "/"):
		b = b.unless("the path is relative, to a folder that is not known")
	case found != nil && !anyFound(e, found):
		b = b.unless(e.Name + " is not in the container now")
	}
	return b
}

// unless makes possible for this reason what is certain.
func (b bite) unless(reason string) bite {
	if b.certain {
		b.certain, b.possible, b.reason = false, true, reason
	}
	return b
}

func anyFound(e armor.Element, found map[string]string) bool {
	return slices.ContainsFunc(e.Paths, func(p string) bool { return found[p] != "" })
}

// call says what becomes of the program that is called as the nth, from 0.
func (v *view) call(c *container, s *source, program string, nth int) (Effect, bool) {
	element, ok := v.elementAt(program)
	if !ok {
		return Effect{}, false
	}
	b := v.takesHold(c, element, program)
	e := Effect{Part: partOf(element.Kind), Element: element.Name, Field: s.field}
	if !b.any() {
		if b.reported {
			e.Outcome, e.What = Safe, s.who+" calls "+element.Name+", which is reported and not stopped"
		}
		return e, b.reported
	}
	e.Outcome, e.What, e.Mend = b.outcome(Breaks), s.who+" calls "+element.Name+", which is refused", mendCall(element)
	e.Why = shorten("it is called as " + program)
	if s.entry {
		e.Why = sentences(e.Why, v.everyStart())
	}
	switch {
	case s.entry && nth == 0 || s.early:
		e.Outcome = b.outcome(MayBreak)
		e.Why = sentences(e.Why, "it mostly starts before a policy takes hold, which is 0.1 to 0.3 seconds after the container starts")
	case s.entry && nth == 1:
		e.Why = sentences(e.Why, "a call in the first 0.1 to 0.3 seconds of a container may come before the policy")
	}
	e.Why = sentences(e.Why, b.reason)
	return e, true
}

// everyStart says of a workload that starts anew each time that every start is concerned.
func (v *view) everyStart() string {
	switch v.workload.Kind {
	case "CronJob", "Job":
		return "every run starts it anew"
	}
	return ""
}

func mendCall(e armor.Element) string {
	return fmt.Sprintf("do without %s, or leave it out (--without %s)", e.Name, e.Name)
}
