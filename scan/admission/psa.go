package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// exemptions is what every answer of the labels leaves open.
const exemptions = "the API server's own configuration, which no API shows, may exempt users, namespaces and runtime classes"

// defaultLevel is what stands where a namespace has no label.
const defaultLevel = "the default of the API server's own configuration, which no API shows, decides"

// judgePodSecurity says what the API server's PodSecurity plugin does with a pod by
// the labels of its namespace, at the versions that they name and no newer than the
// server's own. The zero version stands for a server whose version is not known: the
// newest checks are taken. The first ruling is that of enforce; those of warn and
// audit follow where they would refuse what enforce admits.
func (s *Set) judgePodSecurity(sub Subject) []Ruling {
	by := Ref{Mechanism: PodSecurity, Kind: "Namespace", Name: sub.Pod.Namespace, Rule: "enforce"}
	if sub.Namespace == nil {
		why := cmp.Or(sub.NamespaceUnknown, "it was not read")
		return []Ruling{{By: by, Answer: Unknown, Message: "the labels of namespace " + sub.Pod.Namespace + " are not known: " + why}}
	}
	by.Name = sub.Namespace.Name
	labels := readPSALabels(sub.Namespace)
	enforce := s.judgeEnforce(sub, labels)
	enforce.By = by
	rulings := []Ruling{enforce}
	if enforce.Answer == Refuses {
		return rulings
	}
	return append(rulings, s.judgeReports(sub, labels, by)...)
}

// judgeEnforce is the ruling of the enforce label.
func (s *Set) judgeEnforce(sub Subject, labels psaLabels) Ruling {
	server := s.Server
	enforce := labels.policy.Enforce
	refused := s.standardsOf(enforce).judge(sub.Pod)
	if len(refused.ids) > 0 {
		message := fmt.Sprintf("violates PodSecurity %q: %s", enforce.String(), refused.detail)
		if value, invalid := labels.invalid[psa.EnforceLevelLabel]; invalid {
			message += fmt.Sprintf("; the label's value %q is no level, which the server takes as restricted", value)
		}
		return Ruling{Answer: Refuses, Controls: refused.ids, Message: message + " (" + exemptions + ")"}
	}
	ruling := Ruling{Answer: Admits, Message: fmt.Sprintf("PodSecurity %q allows it", enforce.String())}
	switch {
	case !labels.has(psa.EnforceLevelLabel):
		ruling.Message = "the namespace has no label enforce: " + defaultLevel
	case labels.pinned(psa.EnforceVersionLabel, enforce, server):
		newest := psa.LevelVersion{Level: enforce.Level, Version: newestFor(server)}
		if later := s.standardsOf(newest).judge(sub.Pod); len(later.ids) > 0 {
			ruling.Controls = later.ids
			ruling.Toothless = oldVersion(enforce, server, later.ids, "would refuse this pod")
		}
	}
	return ruling
}

// judgeReports are the rulings of warn and audit for a pod that enforce admits.
func (s *Set) judgeReports(sub Subject, labels psaLabels, by Ref) []Ruling {
	var rulings []Ruling
	for _, mode := range labels.reports() {
		refused := s.standardsOf(mode.policy).judge(sub.Pod)
		if len(refused.ids) == 0 {
			continue
		}
		by.Rule = mode.name
		rulings = append(rulings, Ruling{
			By: by, Answer: Admits, Controls: refused.ids,
			Message:   fmt.Sprintf("would violate PodSecurity %q: %s", mode.policy.String(), refused.detail),
			Toothless: notEnforced(mode),
		})
	}
	return rulings
}

func notEnforced(mode psaMode) *Toothless {
	return &Toothless{
		Cause:  CausePSANotEnforced,
		Reason: fmt.Sprintf("the namespace's label %s names level %s, which only reports: pods that violate it are created all the same", mode.name, mode.policy.Level),
		Mend:   fmt.Sprintf("label the namespace %s=%s", psa.EnforceLevelLabel, mode.policy.Level),
	}
}

func oldVersion(pinned psa.LevelVersion, server psa.Version, ids []string, effect string) *Toothless {
	return &Toothless{
		Cause: CausePSAOldVersion,
		Reason: fmt.Sprintf("the namespace enforces %s as it was in %s; what %s has since, %s, %s",
			pinned.Level, pinned.Version, newestFor(server), strings.Join(ids, ", "), effect),
		Mend: fmt.Sprintf("set the namespace's label %s to latest or %s", psa.EnforceVersionLabel, newestFor(server)),
	}
}

// psaLabels are the labels of a namespace as the server reads them.
type psaLabels struct {
	labels map[string]string
	policy psa.Policy
	// invalid has the labels whose value the server does not know.
	invalid map[string]string
}

func readPSALabels(ns *corev1.Namespace) psaLabels {
	privileged := psa.LevelVersion{Level: psa.LevelPrivileged, Version: psa.LatestVersion()}
	read, errs := psa.PolicyToEvaluate(ns.Labels, psa.Policy{Enforce: privileged, Audit: privileged, Warn: privileged})
	invalid := map[string]string{}
	for _, err := range errs {
		// The path ends with the label's key in brackets.
		for key, value := range ns.Labels {
			if strings.HasSuffix(err.Field, "["+key+"]") {
				invalid[key] = value
			}
		}
	}
	return psaLabels{labels: ns.Labels, policy: read, invalid: invalid}
}

func (l psaLabels) has(label string) bool {
	_, ok := l.labels[label]
	return ok
}

// pinned tells whether a version label holds a level back behind the server.
func (l psaLabels) pinned(label string, lv psa.LevelVersion, server psa.Version) bool {
	return l.has(label) && lv.Level != psa.LevelPrivileged && lv.Version.Older(newestFor(server))
}

// psaMode is a label that reports and does not refuse.
type psaMode struct {
	name   string
	policy psa.LevelVersion
}

// reports are the modes that labels of their own make stricter than enforce, those
// that say the same as one.
func (l psaLabels) reports() []psaMode {
	var modes []psaMode
	for _, m := range []struct {
		psaMode
		label string
	}{
		{psaMode{"warn", l.policy.Warn}, psa.WarnLevelLabel},
		{psaMode{"audit", l.policy.Audit}, psa.AuditLevelLabel},
	} {
		if !l.has(m.label) || psa.CompareLevels(m.policy.Level, l.policy.Enforce.Level) <= 0 {
			continue
		}
		if last := len(modes) - 1; last >= 0 && modes[last].policy == m.policy {
			modes[last].name += " and " + m.name
			continue
		}
		modes = append(modes, m.psaMode)
	}
	return modes
}

// NamespaceFaults are the faults of a namespace's pod-security labels that are there
// whatever its pods are: levels that only report, a version that lacks controls which
// the server has, and values that the server does not know.
func NamespaceFaults(ns *corev1.Namespace, server psa.Version) []Toothless {
	labels := readPSALabels(ns)
	var faults []Toothless
	if labels.policy.Enforce.Level == psa.LevelPrivileged {
		for _, mode := range labels.reports() {
			faults = append(faults, *notEnforced(mode))
		}
	}
	if enforce := labels.policy.Enforce; labels.pinned(psa.EnforceVersionLabel, enforce, server) {
		if missing := lacks(enforce, server); len(missing) > 0 {
			faults = append(faults, *oldVersion(enforce, server, missing, "is not enforced"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(labels.invalid)) {
		faults = append(faults, invalidLabel(key, labels.invalid[key]))
	}
	return faults
}

func invalidLabel(key, value string) Toothless {
	t := Toothless{Cause: CausePSAInvalid}
	switch key {
	case psa.EnforceLevelLabel:
		t.Reason = fmt.Sprintf("label %s is %q, which is no level: the server takes it as restricted", key, value)
		t.Mend = "set it to privileged, baseline or restricted"
	case psa.WarnLevelLabel, psa.AuditLevelLabel:
		t.Reason = fmt.Sprintf("label %s is %q, which is no level: the server takes it as privileged and reports nothing", key, value)
		t.Mend = "set it to privileged, baseline or restricted"
	default:
		t.Reason = fmt.Sprintf("label %s is %q, which is no version: the server takes it as latest", key, value)
		t.Mend = "set it to latest or to a version such as v1.36"
	}
	return t
}

// lacks names the controls that a pinned version has not and the server has.
func lacks(pinned psa.LevelVersion, server psa.Version) []string {
	had := standardsOf(pinned, server)
	now := standardsOf(psa.LevelVersion{Level: pinned.Level, Version: newestFor(server)}, server)
	var missing []string
	for _, c := range now {
		replaces := func(old standard) bool { return slices.Contains(c.overrides, old.id) }
		// procMount_restricted came with the version that relaxed procMount, and
		// refuses no more than procMount did before.
		if !had.has(c.id) && (c.id != "procMount_restricted" || !slices.ContainsFunc(had, replaces)) {
			missing = append(missing, string(c.id))
		}
	}
	return missing
}

// standard is one check of the Pod Security Standards at a version.
type standard struct {
	id        policy.CheckID
	level     psa.Level
	check     policy.CheckPodFn
	overrides []policy.CheckID
}

type standards []standard

func (s standards) has(id policy.CheckID) bool {
	return slices.ContainsFunc(s, func(c standard) bool { return c.id == id })
}

// standardsOf are the checks of a level and a version that a server of a version
// makes, in the order in which it names them: an override leaves out what it
// overrides, and a version newer than the server means the server's.
func standardsOf(lv psa.LevelVersion, server psa.Version) standards {
	if lv.Level == psa.LevelPrivileged {
		return nil
	}
	version := lv.Version
	if newest := newestFor(server); newest.Older(version) {
		version = newest
	}
	var checks standards
	var overridden []policy.CheckID
	for _, c := range policy.DefaultChecks() {
		if c.Level == psa.LevelRestricted && lv.Level != psa.LevelRestricted {
			continue
		}
		for _, v := range slices.Backward(c.Versions) {
			if !version.Older(v.MinimumVersion) {
				checks = append(checks, standard{c.ID, c.Level, v.CheckPod, v.OverrideCheckIDs})
				overridden = append(overridden, v.OverrideCheckIDs...)
				break
			}
		}
	}
	checks = slices.DeleteFunc(checks, func(c standard) bool { return slices.Contains(overridden, c.id) })
	checks.sort()
	return checks
}

// Standards keeps the checks of the Pod Security Standards that were needed so far: to put
// them together takes longer than to judge a pod by them. It is safe for concurrent use.
type Standards struct {
	// known are by standardsKey.
	known sync.Map
}

type standardsKey struct {
	of     psa.LevelVersion
	server psa.Version
}

func (s *Set) standardsOf(lv psa.LevelVersion) standards {
	if s.Standards == nil {
		return standardsOf(lv, s.Server)
	}
	key := standardsKey{lv, s.Server}
	if known, ok := s.Standards.known.Load(key); ok {
		if checks, ok := known.(standards); ok {
			return checks
		}
	}
	checks := standardsOf(lv, s.Server)
	s.Standards.known.Store(key, checks)
	return checks
}

func (s standards) sort() {
	slices.SortFunc(s, func(a, b standard) int {
		// "baseline" sorts before "restricted".
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.id, b.id))
	})
}

// refusal is what checks have against a pod: their IDs and the server's own words.
type refusal struct {
	ids    []string
	detail string
}

func (s standards) judge(pod *corev1.Pod) refusal {
	var r refusal
	var results []policy.CheckResult
	for _, c := range s {
		if result := c.check(&pod.ObjectMeta, &pod.Spec); !result.Allowed {
			r.ids = append(r.ids, string(c.id))
			results = append(results, result)
		}
	}
	if len(results) > 0 {
		aggregate := policy.AggregateCheckResults(results)
		r.detail = aggregate.ForbiddenDetail()
	}
	return r
}

// newestFor is the newest version of the standards that a server knows.
func newestFor(server psa.Version) psa.Version {
	if server == (psa.Version{}) {
		return psa.LatestVersion()
	}
	return server
}
