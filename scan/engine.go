package scan

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Engine judges pods. It holds no state of a run and may be used by many
// goroutines at once.
type Engine struct {
	controls []control
	paths    []escapePath
	gates    []string
	// drafts keeps the working copies of pods for the next ones.
	drafts sync.Pool
}

// Facts are what a pod's verdict depends on beyond its own spec.
type Facts struct {
	// RuntimeHandlers gives for each RuntimeClass its handler, the runtime's name
	// on the node. RuntimeHandlersKnown is false where they could not be read.
	RuntimeHandlers      map[string]string
	RuntimeHandlersKnown bool
	// ClaimsUnknown is true where it could not be read which persistent volumes are
	// paths of the host.
	ClaimsUnknown bool
}

// Judgement is what the rules say of one pod. The findings have no workload yet.
type Judgement struct {
	Findings []Finding
	// Allowed tells whether the Pod Security Standards allow the pod; Controls are
	// the IDs of those that refuse.
	Allowed  bool
	Controls []string
	// Paths are the IDs of the open escape paths, Severity the worst of them.
	Paths    []string
	Severity Severity
	// Unsure says what could not be read and would decide whether a path is open;
	// empty when nothing is missing.
	Unsure string

	// What the layers ask of the spec: whether the pod shares the host's processes, its
	// containers, and which capabilities each of them holds of those that shut a path.
	hostPID    bool
	containers []armor.Container
	holds      map[string][]string
	// twice are names that more than one container has, as no API server admits.
	twice []string
	// more says why further paths may be open that are not seen, empty when none may.
	more string
	// boxed is the sandbox that the pod runs in, maybeBoxed why that is not known; empty
	// where it runs in none.
	boxed, maybeBoxed string
}

// NewEngine prepares the controls of a level (baseline or restricted) at a version
// of the Pod Security Standards. A version beyond the newest known means the
// newest.
func NewEngine(level psa.Level, version psa.Version) (*Engine, error) {
	if level != psa.LevelBaseline && level != psa.LevelRestricted {
		return nil, fmt.Errorf("level %q: want baseline or restricted", level)
	}
	controls, err := controlsFor(level, version)
	if err != nil {
		return nil, err
	}
	return &Engine{controls: controls, paths: escapeTable(), gates: gateCapabilities()}, nil
}

// Begin makes the engine of a run, and completes the run's Start by what it judges
// with. Level and version are as the user gives them; server is the API server's
// version, empty where there is none.
func Begin(start Start, level psa.Level, version, server string) (*Engine, Start, error) {
	resolved, notes, err := ResolvePSS(version, server)
	if err != nil {
		return nil, start, err
	}
	engine, err := NewEngine(level, resolved)
	if err != nil {
		return nil, start, err
	}
	start.Schema, start.RuleSet, start.ServerVersion = SchemaVersion, RuleSetVersion, server
	start.Level, start.PSSVersion = string(level), resolved.String()
	start.Notes = slices.Concat(start.Notes, notes)
	return engine, start, nil
}

// Judge asks every rule about the pod. The pod is not changed.
func (e *Engine) Judge(pod Pod, facts Facts) *Judgement {
	j := &Judgement{Allowed: true}
	d, _ := e.drafts.Get().(*draft)
	if d == nil {
		d = &draft{}
	}
	d.read(pod)
	e.judgeControls(d, j)
	e.judgePaths(d, facts, j)
	e.forLayers(d, j)
	j.Findings = d.keep()
	d.forget()
	e.drafts.Put(d)
	return j
}

// forLayers keeps what the layers ask of the spec.
func (e *Engine) forLayers(d *draft, j *Judgement) {
	j.hostPID = d.spec.HostPID
	j.containers = make([]armor.Container, len(d.containers))
	for i := range d.containers {
		c := &d.containers[i]
		if slices.ContainsFunc(j.containers[:i], func(other armor.Container) bool { return other.Name == c.Name }) {
			j.twice = append(j.twice, c.Name)
		}
		j.containers[i] = armor.Container{Name: c.Name, Image: c.Image, Kind: armor.ContainerKind(c.kind)}
		if len(j.Paths) == 0 {
			continue
		}
		for _, capability := range e.gates {
			if c.holds(capability) {
				if j.holds == nil {
					j.holds = map[string][]string{}
				}
				j.holds[c.Name] = append(j.holds[c.Name], capability)
			}
		}
	}
}

// judgeControls finds what each control refuses and by which fields. The draft is
// as before when it returns.
func (e *Engine) judgeControls(d *draft, j *Judgement) {
	for i := range e.controls {
		c := &e.controls[i]
		result := c.check(&d.meta, &d.spec)
		if result.Allowed {
			continue
		}
		j.Allowed = false
		j.Controls = append(j.Controls, c.ID)
		needed := toBlame(c.repairs(d), func() bool { return c.check(&d.meta, &d.spec).Allowed })
		if needed == nil {
			// The check refuses for a reason that no repair reaches: its own words say
			// more than a wrong field would.
			c.report(d.found(), nil, result.ForbiddenDetail)
			continue
		}
		for k := range needed {
			c.report(d.found(), &needed[k], result.ForbiddenReason)
		}
		undoAll(needed)
		d.repairs = append(d.repairs, needed)
	}
	if len(d.repairs) > 0 {
		e.provePod(d)
	}
}

// provePod judges the pod with all its repairs at once, and takes back the fixes
// of every control that then still refuses.
func (e *Engine) provePod(d *draft) {
	for _, needed := range d.repairs {
		for i := range needed {
			needed[i].do()
		}
	}
	for i := range e.controls {
		c := &e.controls[i]
		if c.check(&d.meta, &d.spec).Allowed {
			continue
		}
		for k := range d.findings {
			if d.findings[k].Rule == c.ID {
				d.findings[k].Fix = nil
			}
		}
	}
	for _, needed := range slices.Backward(d.repairs) {
		undoAll(needed)
	}
}

// report fills in the finding of a control that r would satisfy; detail is the
// check's own words.
func (c *control) report(f *Finding, r *repair, detail string) {
	f.Rule, f.Category, f.Title, f.Level, f.Severity = c.ID, CategoryPSS, c.Title, c.Level, c.Severity
	f.Message = detail
	if r != nil {
		r.describe(f)
		return
	}
	f.Field, f.Now = "spec", jsonText(nil)
}

// describe writes where and what the repair is.
func (r *repair) describe(f *Finding) {
	f.Field, f.Item, f.Now, f.Related = r.field, r.item, r.now, r.related
	if !r.unproven {
		f.Fix = &r.fix
	}
	if r.why != "" {
		f.Message += ": " + r.why
	}
	if r.container != nil {
		r.container.describe(f)
	}
}

func (c *containerRef) describe(f *Finding) {
	f.Container, f.ContainerKind, f.Image = c.Name, c.kind, c.Image
}

// rulePage is where the page of a rule is published.
func rulePage(id string) string {
	return "https://github.com/escape-scanner/escape-scanner/blob/main/docs/rules/" + id + ".md"
}

// Rules lists the record of every rule, sorted by ID.
func Rules() []Rule {
	var rules []Rule
	for _, c := range controlTable() {
		rules = append(rules, c.Rule)
	}
	for _, p := range escapeTable() {
		rules = append(rules, p.Rule)
	}
	rules = slices.Concat(rules, exceptionRules(), policyRules())
	slices.SortFunc(rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return rules
}
