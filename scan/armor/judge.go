package armor

import (
	"fmt"
	"path"
	"slices"
)

// Judgement is what the policies that select a pod do in it.
type Judgement struct {
	Containers []ContainerJudgement
	// Toothless are those of the policies that have no effect, or less than they say.
	Toothless []Toothless
}

// ContainerJudgement is what they do in one container, for every element of the
// set.
type ContainerJudgement struct {
	Name   string
	Kind   ContainerKind
	Covers []Cover
}

// Judge says for every container of a pod and every element of the escapeToHost set
// whether the policies that select the pod block it, and which of them do not bite.
// It speaks of a container that has run for a second: the first program of a new one
// starts before any policy takes hold.
func Judge(policies []*Policy, pod Pod) *Judgement {
	obstacles := podObstacles(&pod)
	j := &Judgement{Containers: make([]ContainerJudgement, 0, len(pod.Containers))}
	for i := range pod.Containers {
		c := &pod.Containers[i]
		d := newDecider(&pod, obstacles, c, policies)
		covers := make([]Cover, 0, len(places))
		for k := range places {
			covers = append(covers, d.cover(&places[k]))
		}
		j.Containers = append(j.Containers, ContainerJudgement{Name: c.Name, Kind: c.Kind, Covers: covers})
	}
	if len(policies) > 0 {
		j.Toothless = toothless(policies, &pod, obstacles)
	}
	return j
}

func (d *decider) cover(p *place) Cover {
	if len(d.policies) == 0 {
		return Cover{Element: p.Element, Status: NotCovered, Reason: "no policy selects the container"}
	}
	if p.Kind == Capability {
		a := d.capability(p.Name, "")
		return Cover{Element: p.Element, Status: a.status, By: a.refs(), Reason: a.coverReason()}
	}
	d.asked = make(map[string]answer, len(p.Paths))
	a := d.program(p)
	return Cover{Element: p.Element, Status: a.status, By: a.refs(), Reason: a.coverReason(), Missing: d.missing(p)}
}

// ask is exec for any caller, asked once a path while one element is judged.
func (d *decider) ask(file string) answer {
	a, ok := d.asked[file]
	if !ok {
		a = d.exec(file, "")
		d.asked[file] = a
	}
	return a
}

// coverReason leaves the reason out where By says it all.
func (a answer) coverReason() string {
	if a.status == Blocked && len(a.by) > 0 {
		return ""
	}
	return a.reason
}

// missing are paths of an element that are not blocked though others are.
func (d *decider) missing(p *place) []string {
	var missing []string
	blocked := false
	for _, file := range p.Paths {
		if d.ask(file).status == Blocked {
			blocked = true
		} else {
			missing = append(missing, file)
		}
	}
	if !blocked {
		return nil
	}
	return missing
}

// program answers for a program of the set by the files at which it can lie.
func (d *decider) program(p *place) answer {
	files, looked := d.container.found(p)
	if looked && len(files) > 0 {
		return worst(d.execAll(files))
	}
	answers := d.execAll(p.real)
	a := answers[0]
	if slices.ContainsFunc(answers, func(o answer) bool { return o.status != a.status }) {
		return answer{status: Unknown, by: joined(answers),
			reason: fmt.Sprintf("not all of %s are blocked, and which of them is the real path is not known", list(p.real))}
	}
	a.by = joined(answers)
	if looked {
		if a.status == Blocked {
			a.reason = "not in the container now"
		}
		return a
	}
	return d.hinted(p, a)
}

// found are the real paths of a program in a container that was looked into.
func (c *Container) found(p *place) (files []string, looked bool) {
	for _, named := range p.Paths {
		real, ok := c.Paths[named]
		looked = looked || ok
		if real != "" && !slices.Contains(files, real) {
			files = append(files, real)
		}
	}
	return files, looked
}

func (d *decider) execAll(files []string) []answer {
	answers := make([]answer, 0, len(files))
	for _, file := range files {
		answers = append(answers, d.ask(file))
	}
	return answers
}

// worst is the answer that lets most through for certain: one way to a program is
// enough.
func worst(answers []answer) answer {
	order := []Status{NotCovered, Allowed, Audited, Unknown, Blocked}
	w := answers[0]
	for _, a := range answers[1:] {
		if slices.Index(order, a.status) < slices.Index(order, w.status) {
			w = a
		}
	}
	if w.status == Blocked {
		w.by = joined(answers)
	}
	return w
}

func joined(answers []answer) []*Policy {
	var by []*Policy
	for _, a := range answers {
		for _, p := range a.by {
			if !slices.Contains(by, p) {
				by = append(by, p)
			}
		}
	}
	return by
}

// hinted doubts an answer where nobody looked and something speaks for another real
// path: the image's name, or a rule on a path that is a link in most images.
func (d *decider) hinted(p *place, a answer) answer {
	doubt := func(reason string) answer { return answer{status: Unknown, by: a.by, reason: reason} }
	if a.status == Blocked {
		if p.Kind != Chroot && !applet(p.Name) {
			return a
		}
		switch family := imageFamily(d.container.Image); {
		case family == familyBusyBox && (d.ask(busybox).status != Blocked || d.ask("/usr"+busybox).status != Blocked):
			return doubt("by its name the image is built on BusyBox, where " + p.Name + " is most likely a link to " + busybox)
		case family == familyMergedBin && p.Kind == Chroot && d.ask("/usr/bin/"+p.Name).status != Blocked:
			return doubt("by its name the image keeps " + p.Name + " in /usr/bin, and /usr/sbin is a link")
		}
		return a
	}
	if a.status == Allowed {
		return a
	}
	for _, real := range p.real {
		for _, alias := range aliases(real) {
			if d.ask(alias).status == Blocked {
				return answer{status: Unknown, by: d.ask(alias).by,
					reason: fmt.Sprintf("only %s is blocked, and in an image with a merged /usr the real path is %s", alias, real)}
			}
		}
	}
	return a
}

// Predict says what becomes of a deed in a container. It speaks of policies alone: a
// capability that the container does not hold is refused by the kernel before any
// policy is asked.
func Predict(policies []*Policy, pod Pod, container string, deed Deed) Outcome {
	at := slices.IndexFunc(pod.Containers, func(c Container) bool { return c.Name == container })
	if at < 0 {
		return Outcome{Status: Unknown, Reason: fmt.Sprintf("the pod has no container %q", container)}
	}
	c := &pod.Containers[at]
	d := newDecider(&pod, podObstacles(&pod), c, policies)
	if len(d.policies) == 0 {
		return Outcome{Status: NotCovered, Reason: "no policy selects the container"}
	}
	switch {
	case deed.Capability != "" && deed.Exec != "":
		return Outcome{Status: Unknown, Reason: "a deed is one thing: a capability or a program"}
	case deed.Capability != "":
		a := d.capability(capability(deed.Capability), deed.From)
		a.partly = a.partly && !deed.Anyone
		return a.outcome()
	case deed.Exec != "":
		if !path.IsAbs(deed.Exec) {
			return Outcome{Status: Unknown, Reason: fmt.Sprintf("%q is not an absolute path", deed.Exec)}
		}
		return d.run(path.Clean(deed.Exec), deed.From).outcome()
	}
	return Outcome{Status: Unknown, Reason: "the deed names neither a capability nor a program"}
}

// run answers for a path as typed.
func (d *decider) run(file, from string) answer {
	files := d.container.resolve(file)
	answers := d.execAllFrom(files, from)
	for i, a := range answers[1:] {
		if a.status != answers[0].status || a.partly != answers[0].partly {
			return answer{status: Unknown, by: joined(answers),
				reason: fmt.Sprintf("%s may be a link to %s: for the one it is %s, for the other %s", file, files[i+1], answers[0].status, a.status)}
		}
	}
	return answers[0]
}

func (d *decider) execAllFrom(files []string, from string) []answer {
	answers := make([]answer, 0, len(files))
	for _, file := range files {
		answers = append(answers, d.exec(file, from))
	}
	return answers
}

func (a answer) outcome() Outcome {
	if a.partly {
		a.status = Unknown
	}
	refs := a.refs()
	switch {
	case a.reason != "":
	case len(refs) > 0:
		a.reason = string(a.status) + " by " + refs[0].String()
	default:
		a.reason = "no policy speaks of it"
	}
	return Outcome{Status: a.status, By: refs, Reason: a.reason}
}
