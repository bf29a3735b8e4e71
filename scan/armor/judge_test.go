package armor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// enforced is a pod with one ordinary container, c, on a node that enforces all.
func enforced(image string) armor.Pod {
	return armor.Pod{Namespace: "shop", Node: recordedNode, Containers: []armor.Container{{Name: "c", Image: image, Kind: armor.Ordinary}}}
}

func coverOf(t testing.TB, j *armor.Judgement, container, element string) armor.Cover {
	t.Helper()
	for _, c := range j.Containers {
		for _, cover := range c.Covers {
			if c.Name == container && cover.Element.Name == element {
				return cover
			}
		}
	}
	t.Fatalf("no cover of %s in %s", element, container)
	return armor.Cover{}
}

// statuses tells the elements apart by what becomes of them.
func statuses(j *armor.Judgement, container string) map[armor.Status][]string {
	by := map[armor.Status][]string{}
	for _, c := range j.Containers {
		for _, cover := range c.Covers {
			if c.Name == container {
				by[cover.Status] = append(by[cover.Status], cover.Element.Name)
			}
		}
	}
	return by
}

func causes(j *armor.Judgement) []string {
	var all []string
	for _, toothless := range j.Toothless {
		text := toothless.Policy.Name + " " + string(toothless.Cause)
		if toothless.Container != "" {
			text += " in " + toothless.Container
		}
		if !toothless.Certain {
			text += "?"
		}
		all = append(all, text)
	}
	return all
}

func TestElementsAreTheWholeSet(t *testing.T) {
	elements := armor.Elements()
	count := map[armor.ElementKind]int{}
	for _, e := range elements {
		count[e.Kind]++
		if (e.Kind == armor.Capability) != (len(e.Paths) == 0) {
			t.Errorf("%s: paths %v", e.Name, e.Paths)
		}
	}
	if count[armor.Capability] != 5 || count[armor.Chroot] != 1 || count[armor.Tool] != 15 {
		t.Errorf("%v", count)
	}
	// Whoever changes what he got changes nothing for others.
	elements[5].Paths[0] = "changed"
	if armor.Elements()[5].Paths[0] == "changed" {
		t.Error("Elements gives its own table away")
	}
}

func TestTheRecordedSetIsTheWholeSet(t *testing.T) {
	set := recordedPolicies(t, "escape-block.yaml")
	pod := enforced("docker.io/local/debian:12")
	j := armor.Judge(set, pod)
	if by := statuses(j, "c"); len(by[armor.Blocked]) != 21 {
		t.Errorf("%v", by)
	}
	if len(j.Toothless) > 0 {
		t.Errorf("toothless: %v", causes(j))
	}
	if c := coverOf(t, j, "c", "chroot"); len(c.By) != 1 || c.By[0].Name != "escape-chroot" || !slices.Contains(c.Missing, "/usr/bin/chroot") {
		t.Errorf("%+v", c)
	}
	// nimbus forgot one path.
	nimbus := strings.ReplaceAll(setWithout(t, "/usr/local/bin/wget"), "escape-", "nimbus-")
	j = armor.Judge([]*armor.Policy{set[0], set[1], ksp(t, "nimbus", nimbus)}, pod)
	if by := statuses(j, "c"); len(by[armor.Blocked]) != 21 {
		t.Errorf("nimbus's own: %v", by)
	}
	if c := coverOf(t, j, "c", "wget"); !slices.Equal(c.Missing, []string{"/usr/local/bin/wget"}) {
		t.Errorf("%+v", c)
	}
}

// setWithout is the tools' part of the set without some paths.
func setWithout(t testing.TB, without ...string) string {
	var paths []string
	for _, e := range armor.Elements() {
		for _, file := range e.Paths {
			if e.Kind == armor.Tool && !slices.Contains(without, file) {
				paths = append(paths, fmt.Sprintf(`{"path":%q}`, file))
			}
		}
	}
	return `{"process":{"matchPaths":[` + strings.Join(paths, ",") + `]}}`
}

// Each reason not to bite, and its twin that bites.
func TestWhatDoesNotBiteAndItsTwin(t *testing.T) {
	block := `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]}}`
	allow := `{"process":{"matchPaths":[{"path":"/usr/bin/sleep"}]},"action":"Allow"}`
	node := func(capabilities, processes, agent kernel.Answer, enforcer string) func(*armor.Pod) {
		return func(p *armor.Pod) {
			p.Node = kernel.Enforcement{Capabilities: capabilities, Processes: processes, Agent: agent, Enforcer: enforcer, Reason: "so it is"}
		}
	}
	kind := func(k armor.ContainerKind) func(*armor.Pod) {
		return func(p *armor.Pod) { p.Containers[0].Kind = k }
	}
	annotated := func(value string) func(*armor.Pod) {
		return func(p *armor.Pod) { p.Annotations = map[string]string{"kubearmor-policy": value} }
	}
	posture := func(value string) func(*armor.Pod) {
		return func(p *armor.Pod) { p.NamespaceAnnotations = map[string]string{"kubearmor-file-posture": value} }
	}
	with := func(image string, paths map[string]string) func(*armor.Pod) {
		return func(p *armor.Pod) { p.Containers[0].Image, p.Containers[0].Paths = image, paths }
	}
	const (
		blocked, audited, passes, unknown = armor.Blocked, armor.Audited, armor.NotCovered, armor.Unknown
	)
	for name, c := range map[string]struct {
		spec          string
		change        func(*armor.Pod)
		chroot, admin armor.Status
		cause         string
	}{
		"nothing in the way":          {spec: block, chroot: blocked, admin: blocked},
		"hostPID":                     {spec: block, change: func(p *armor.Pod) { p.HostPID = true }, chroot: passes, admin: passes, cause: "x hostpid"},
		"init container":              {spec: block, change: kind(armor.Init), chroot: passes, admin: passes, cause: "x init-container in c"},
		"sidecar":                     {spec: block, change: kind(armor.Sidecar), chroot: passes, admin: passes, cause: "x sidecar in c"},
		"ephemeral container":         {spec: block, change: kind(armor.Ephemeral), chroot: passes, admin: passes, cause: "x ephemeral-container in c"},
		"kube-system":                 {spec: block, change: func(p *armor.Pod) { p.Namespace = "kube-system" }, chroot: passes, admin: passes, cause: "x untracked-namespace"},
		"kubearmor's namespace":       {spec: block, change: func(p *armor.Pod) { p.Namespace = "kubearmor" }, chroot: passes, admin: passes, cause: "x untracked-namespace"},
		"annotated audited":           {spec: block, change: annotated("audited"), chroot: audited, admin: passes, cause: "x pod-audited"},
		"annotated disabled":          {spec: block, change: annotated("disabled"), chroot: passes, admin: passes, cause: "x pod-disabled"},
		"annotated enabled":           {spec: block, change: annotated("enabled"), chroot: blocked, admin: blocked},
		"annotated with another word": {spec: block, change: annotated("Disabled"), chroot: blocked, admin: blocked},
		"cilium's pod":                {spec: block, change: func(p *armor.Pod) { p.Labels = map[string]string{"io.cilium/app": "operator"} }, chroot: audited, admin: passes, cause: "x pod-audited"},
		"no agent":                    {spec: block, change: node(kernel.No, kernel.No, kernel.No, ""), chroot: passes, admin: passes, cause: "x no-agent"},
		"no enforcer":                 {spec: block, change: node(kernel.No, kernel.No, kernel.Yes, "none"), chroot: audited, admin: passes, cause: "x no-enforcer"},
		"AppArmor":                    {spec: block, change: node(kernel.No, kernel.Yes, kernel.Yes, "apparmor"), chroot: blocked, admin: passes, cause: "x enforcer"},
		"nothing known of the node":   {spec: block, change: node(kernel.Unknown, kernel.Unknown, kernel.Unknown, ""), chroot: unknown, admin: unknown},
		"too many containers":         {spec: block, change: func(p *armor.Pod) { p.NodeContainers = 257 }, chroot: unknown, admin: unknown, cause: "x too-many-containers?"},
		"just enough containers":      {spec: block, change: func(p *armor.Pod) { p.NodeContainers = 256 }, chroot: blocked, admin: blocked},
		"no rules":                    {spec: `{}`, chroot: passes, admin: passes, cause: "x empty-rules"},
		"empty list of paths":         {spec: `{"process":{"matchPaths":[]}}`, chroot: passes, admin: passes, cause: "x empty-rules"},
		"rules without effect":        {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot","action":"deny"}]}}`, chroot: passes, admin: passes, cause: "x empty-rules"},
		"network rules alone":         {spec: `{"network":{"matchProtocols":[{"protocol":"tcp"}]}}`, chroot: passes, admin: passes},
		"Audit on capabilities":       {spec: `{"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]},"action":"Audit"}`, chroot: passes, admin: passes, cause: "x capability-audit"},
		"Audit on processes":          {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"action":"Audit"}`, chroot: audited, admin: passes},
		"patterns under BPF-LSM":      {spec: `{"process":{"matchPatterns":[{"pattern":"/usr/sbin/ch*"}]}}`, chroot: passes, admin: passes, cause: "x enforcer"},
		"patterns under AppArmor":     {spec: `{"process":{"matchPatterns":[{"pattern":"/usr/sbin/ch*"}]}}`, change: node(kernel.No, kernel.Yes, kernel.Yes, "apparmor"), chroot: unknown, admin: passes},
		"Allow list, posture audit":   {spec: allow, change: posture("audit"), chroot: audited, admin: passes, cause: "x allow-list"},
		"Allow list, no posture":      {spec: allow, chroot: audited, admin: passes, cause: "x allow-list?"},
		"Allow list, posture block":   {spec: allow, change: posture("Block"), chroot: blocked, admin: passes},
		"Allow list, agent's own":     {spec: allow, change: func(p *armor.Pod) { p.FilePosture = "block" }, chroot: blocked, admin: passes},
		"Allow list, posture unread":  {spec: allow, change: func(p *armor.Pod) { p.NamespaceUnknown = true }, chroot: unknown, admin: passes, cause: "x allow-list?"},
		"on the Allow list":           {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"action":"Allow"}`, change: posture("block"), chroot: armor.Allowed, admin: passes},
		"capabilities allowed, block": {spec: `{"capabilities":{"matchCapabilities":[{"capability":"chown"}]},"action":"Allow"}`, change: func(p *armor.Pod) {
			p.NamespaceAnnotations = map[string]string{"kubearmor-capabilities-posture": "block"}
		}, chroot: passes, admin: blocked},
		"only the link of a merged /usr, unseen": {spec: `{"process":{"matchPaths":[{"path":"/sbin/chroot"}]}}`, chroot: unknown, admin: passes, cause: "x symlink in c?"},
		"only the link, looked at": {spec: `{"process":{"matchPaths":[{"path":"/sbin/chroot"}]}}`, change: with("debian:12", map[string]string{"/sbin/chroot": "/usr/sbin/chroot", "/usr/sbin/chroot": "/usr/sbin/chroot"}),
			chroot: passes, admin: passes, cause: "x symlink in c"},
		"link and real path": {spec: `{"process":{"matchPaths":[{"path":"/sbin/chroot"},{"path":"/usr/sbin/chroot"}]}}`, change: with("debian:12", map[string]string{"/sbin/chroot": "/usr/sbin/chroot", "/usr/sbin/chroot": "/usr/sbin/chroot"}),
			chroot: blocked, admin: passes},
		"BusyBox by its name": {spec: block, change: with("docker.io/library/alpine:3.20", nil), chroot: unknown, admin: blocked, cause: "x busybox in c?"},
		"BusyBox, looked at": {spec: block, change: with("app:1", map[string]string{"/usr/sbin/chroot": "/bin/busybox", "/sbin/chroot": ""}),
			chroot: passes, admin: blocked, cause: "x busybox in c"},
		"BusyBox blocked whole": {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"},{"path":"/bin/busybox"},{"path":"/usr/bin/busybox"}]}}`, change: with("alpine", nil), chroot: blocked, admin: passes},
		"an applet that is a hard link": {spec: block, change: with("busybox", map[string]string{"/usr/sbin/chroot": "/usr/sbin/chroot", "/sbin/chroot": ""}),
			chroot: blocked, admin: blocked},
		"Fedora by its name": {spec: block, change: with("quay.io/fedora/fedora:42", nil), chroot: unknown, admin: blocked, cause: "x symlink in c?"},
		"Fedora with its path": {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"},{"path":"/usr/bin/chroot"}]}}`, change: with("fedora:42", nil),
			chroot: blocked, admin: passes},
		"not in the container": {spec: block, change: with("app:1", map[string]string{"/usr/sbin/chroot": "", "/sbin/chroot": ""}), chroot: blocked, admin: blocked},
		"from one caller only": {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot","fromSource":[{"path":"/usr/bin/bash"}]}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin","fromSource":[{"path":"/usr/bin/bash"}]}]}}`,
			chroot: passes, admin: passes},
		"but for one caller": {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"},{"path":"/usr/sbin/chroot","action":"Allow","fromSource":[{"path":"/usr/bin/bash"}]}]}}`,
			chroot: passes, admin: passes, cause: "x allow-list?"},
		"ownerOnly":                        {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot","ownerOnly":true}]}}`, chroot: passes, admin: passes},
		"with arguments":                   {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot","allowedArgs":["/x"]}]}}`, chroot: passes, admin: passes},
		"by its folder":                    {spec: `{"process":{"matchDirectories":[{"dir":"/usr/sbin/"}]}}`, chroot: blocked, admin: passes},
		"by a folder above, recursive":     {spec: `{"process":{"matchDirectories":[{"dir":"/usr/","recursive":true}]}}`, chroot: blocked, admin: passes},
		"by a folder above, not recursive": {spec: `{"process":{"matchDirectories":[{"dir":"/usr/"}]}}`, chroot: passes, admin: passes},
		"by name":                          {spec: `{"process":{"matchPaths":[{"execname":"chroot"}]}}`, chroot: blocked, admin: passes},
		"by name from a caller is nothing": {spec: `{"process":{"matchPaths":[{"execname":"chroot","fromSource":[{"path":"/usr/bin/dash"}]}]}}`, chroot: passes, admin: passes},
		"the file may not be opened":       {spec: `{"file":{"matchPaths":[{"path":"/usr/sbin/chroot"}]}}`, chroot: blocked, admin: passes},
		"the file may be read":             {spec: `{"file":{"matchPaths":[{"path":"/usr/sbin/chroot","readOnly":true}]}}`, chroot: passes, admin: passes},
		"by its folder, and the link":      {spec: `{"process":{"matchPaths":[{"path":"/sbin/chroot"}],"matchDirectories":[{"dir":"/usr/sbin/"}]}}`, change: with("debian:12", map[string]string{"/sbin/chroot": "/usr/sbin/chroot"}), chroot: blocked, admin: passes},
		"from a terminal":                  {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot","pts":false}]}}`, chroot: passes, admin: passes},
		"two files, one left open":         {spec: block, change: with("app:1", map[string]string{"/usr/sbin/chroot": "/usr/sbin/chroot", "/bin/chroot": "/bin/chroot"}), chroot: passes, admin: blocked},
		"two files, both blocked":          {spec: `{"process":{"matchPaths":[{"execname":"chroot"}]}}`, change: with("app:1", map[string]string{"/usr/sbin/chroot": "/usr/sbin/chroot", "/bin/chroot": "/bin/chroot"}), chroot: blocked, admin: passes},
		"hostPID under AppArmor": {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]}}`, change: func(p *armor.Pod) {
			node(kernel.No, kernel.Yes, kernel.Yes, "apparmor")(p)
			p.HostPID = true
		}, chroot: unknown, admin: passes, cause: "x hostpid?"},
		"processes not enforced":   {spec: block, change: node(kernel.Yes, kernel.No, kernel.Yes, ""), chroot: audited, admin: blocked, cause: "x enforcer"},
		"Allow list, agent audits": {spec: allow, change: func(p *armor.Pod) { p.FilePosture = "audit" }, chroot: audited, admin: passes, cause: "x allow-list"},
		"Allow list in an audited pod": {spec: allow, change: func(p *armor.Pod) {
			posture("block")(p)
			annotated("audited")(p)
		}, chroot: audited, admin: passes, cause: "x pod-audited"},
		"partly wrong":      {spec: `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"},{"path":"sbin/chroot"}]}}`, chroot: blocked, admin: passes, cause: "x empty-rules"},
		"another container": {spec: strings.Replace(block, `{`, `{"selector":{"matchLabels":{"kubearmor.io/container.name":"[d]"}},`, 1), chroot: passes, admin: passes},
		"this container":    {spec: strings.Replace(block, `{`, `{"selector":{"matchLabels":{"kubearmor.io/container.name":"[d,c]"}},`, 1), chroot: blocked, admin: blocked},
	} {
		t.Run(name, func(t *testing.T) {
			pod := enforced("docker.io/local/debian:12")
			if c.change != nil {
				c.change(&pod)
			}
			j := armor.Judge([]*armor.Policy{ksp(t, "x", c.spec)}, pod)
			for element, want := range map[string]armor.Status{"chroot": c.chroot, "sys_admin": c.admin} {
				got := coverOf(t, j, "c", element)
				if got.Status != want {
					t.Errorf("%s: %s (%s), want %s", element, got.Status, got.Reason, want)
				}
				if got.Status != armor.Blocked && got.Status != armor.Allowed && got.Reason == "" {
					t.Errorf("%s: %s without a reason", element, got.Status)
				}
			}
			var want []string
			if c.cause != "" {
				want = []string{c.cause}
			}
			if got := causes(j); !slices.Equal(got, want) {
				t.Errorf("toothless %q, want %q", got, want)
			}
			for _, toothless := range j.Toothless {
				if toothless.Reason == "" || toothless.Mend == "" {
					t.Errorf("%+v lacks its reason or mend", toothless)
				}
			}
		})
	}
}

// Who loads first cannot be seen from outside.
func TestPoliciesThatContradictAreUnknown(t *testing.T) {
	block := ksp(t, "a", `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]}}`)
	allow := ksp(t, "b", `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]},"action":"Allow"}`)
	audit := ksp(t, "c", `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]},"action":"Audit"}`)
	above := ksp(t, "d", `{"process":{"matchDirectories":[{"dir":"/usr/sbin/"}]},"action":"Allow"}`)
	for name, c := range map[string]struct {
		policies []*armor.Policy
		want     armor.Status
	}{
		"Block and Allow":             {[]*armor.Policy{block, allow}, armor.Unknown},
		"Block and Audit":             {[]*armor.Policy{audit, block}, armor.Blocked},
		"the path before the folder":  {[]*armor.Policy{above, block}, armor.Blocked},
		"twice the same":              {[]*armor.Policy{block, block}, armor.Blocked},
		"Audit beside an Allow above": {[]*armor.Policy{audit, above}, armor.Allowed},
	} {
		got := coverOf(t, armor.Judge(c.policies, enforced("debian:12")), "c", "chroot")
		if got.Status != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Status, got.Reason, c.want)
		}
	}
}

// KubeArmor's agent compares a cluster policy with others by name alone.
func TestClusterPolicyWithTheNameOfAnotherIsUnknown(t *testing.T) {
	spec := `{"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]}}`
	for name, want := range map[string]armor.Status{"same": armor.Unknown, "other": armor.Blocked} {
		ix := armor.NewIndex([]*armor.Policy{csp(t, name, spec), ksp(t, "same", `{"selector":{"matchLabels":{"app":"elsewhere"}},"process":{"matchPaths":[{"path":"/x"}]}}`)})
		pod := enforced("debian:12")
		got := coverOf(t, armor.Judge(ix.Select(pod.Namespace, pod.Labels), pod), "c", "chroot")
		if got.Status != want {
			t.Errorf("%s: %s (%s), want %s", name, got.Status, got.Reason, want)
		}
	}
}

// The agent's map of a container holds 256 entries.
func TestMoreRulesThanKubeArmorKeeps(t *testing.T) {
	policy := func(n int) string {
		paths := []string{`{"path":"/usr/sbin/chroot"}`}
		for i := range n - 1 {
			paths = append(paths, fmt.Sprintf(`{"path":"/opt/tool%d"}`, i))
		}
		return `{"process":{"matchPaths":[` + strings.Join(paths, ",") + `]}}`
	}
	for n, want := range map[int]armor.Status{256: armor.Blocked, 257: armor.Unknown} {
		// A second policy on the same paths needs no more room.
		j := armor.Judge([]*armor.Policy{ksp(t, "x", policy(n)), ksp(t, "y", policy(100))}, enforced("debian:12"))
		if got := coverOf(t, j, "c", "chroot"); got.Status != want {
			t.Errorf("%d paths: %s (%s), want %s", n, got.Status, got.Reason, want)
		}
		if got := slices.Contains(causes(j), "x enforcer"); got != (want == armor.Unknown) {
			t.Errorf("%d paths: toothless %v", n, causes(j))
		}
	}
}

func TestPredict(t *testing.T) {
	both := `{"process":{"matchPaths":[{"path":"/bin/apt"},{"path":"/usr/bin/apt"}]}}`
	link, real := `{"process":{"matchPaths":[{"path":"/bin/apt"}]}}`, `{"process":{"matchPaths":[{"path":"/usr/bin/apt"}]}}`
	caller := `{"process":{"matchPaths":[{"path":"/usr/bin/apt","fromSource":[{"path":"/usr/bin/dash"}]}]}}`
	merged := map[string]string{"/bin/curl": "/usr/bin/curl", "/usr/bin/curl": "/usr/bin/curl"}
	open := `{"file":{"matchDirectories":[{"dir":"/","recursive":true}]},"action":"Allow"}`
	narrow := `{"file":{"matchPaths":[{"path":"/usr/bin/apt"}]},"action":"Allow"}`
	block := map[string]string{"kubearmor-file-posture": "block"}
	for name, c := range map[string]struct {
		spec    string
		image   string
		paths   map[string]string
		posture map[string]string
		deed    armor.Deed
		want    armor.Status
	}{
		"both paths named, typed either way":         {spec: both, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Blocked},
		"only the link named and typed":              {spec: link, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Unknown},
		"only the real one named, the link typed":    {spec: real, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Unknown},
		"the real one named and typed":               {spec: real, deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Blocked},
		"a folder seen elsewhere tells of this file": {spec: real, paths: merged, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Blocked},
		"the link named where it is seen to be one":  {spec: link, paths: merged, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.NotCovered},
		"looked at: leads elsewhere":                 {spec: both, paths: map[string]string{"/bin/apt": "/opt/apt"}, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.NotCovered},
		"BusyBox by its name":                        {spec: both, image: "busybox:1", deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Unknown},
		"a copy":                                     {spec: both, deed: armor.Deed{Exec: "/tmp/apt"}, want: armor.NotCovered},
		"dots in the path":                           {spec: real, deed: armor.Deed{Exec: "/usr/lib/../bin//apt"}, want: armor.Blocked},
		"no absolute path":                           {spec: both, deed: armor.Deed{Exec: "apt"}, want: armor.Unknown},
		"no deed":                                    {spec: both, want: armor.Unknown},
		"two deeds":                                  {spec: both, deed: armor.Deed{Exec: "/bin/apt", Capability: "SYS_ADMIN"}, want: armor.Unknown},
		"caller unknown":                             {spec: caller, deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Unknown},
		"caller named":                               {spec: caller, deed: armor.Deed{Exec: "/usr/bin/apt", From: "/usr/bin/dash"}, want: armor.Blocked},
		"another caller":                             {spec: caller, deed: armor.Deed{Exec: "/usr/bin/apt", From: "/usr/bin/python3"}, want: armor.NotCovered},
		"Fedora by its name":                         {spec: real, image: "fedora:42", deed: armor.Deed{Exec: "/sbin/apt"}, want: armor.Unknown},
		"a sibling leads to BusyBox":                 {spec: both, paths: map[string]string{"/bin/wget": "/bin/busybox"}, deed: armor.Deed{Exec: "/bin/apt"}, want: armor.Unknown},
		"two callers that differ, one a riddle": {spec: `{"process":{"matchPaths":[{"path":"/usr/bin/apt"},{"path":"/usr/bin/apt","ownerOnly":true,"fromSource":[{"path":"/a"}]}]}}`,
			deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Unknown},
		"files allowed wide":                     {spec: open, posture: block, deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.NotCovered},
		"the program allowed, its libraries not": {spec: narrow, posture: block, deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Unknown},
		"a file that is not allowed":             {spec: narrow, posture: block, deed: armor.Deed{Exec: "/usr/bin/dpkg"}, want: armor.Blocked},
		"a file that is not allowed, audited":    {spec: narrow, deed: armor.Deed{Exec: "/usr/bin/dpkg"}, want: armor.NotCovered},
		"an inner folder goes before an outer one": {spec: `{"process":{"matchDirectories":[{"dir":"/","recursive":true},{"dir":"/usr/bin/","recursive":true,"action":"Allow"}]}}`,
			deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Allowed},
		"an outer recursive folder goes before the own": {spec: `{"process":{"matchDirectories":[{"dir":"/usr/","recursive":true},{"dir":"/usr/bin/","action":"Allow"}]}}`,
			deed: armor.Deed{Exec: "/usr/bin/apt"}, want: armor.Blocked},
	} {
		t.Run(name, func(t *testing.T) {
			pod := enforced(c.image)
			pod.Containers[0].Paths, pod.NamespaceAnnotations = c.paths, c.posture
			got := armor.Predict([]*armor.Policy{ksp(t, "x", c.spec)}, pod, "c", c.deed)
			if got.Status != c.want || got.Reason == "" {
				t.Errorf("%s (%s), want %s", got.Status, got.Reason, c.want)
			}
		})
	}
	if got := armor.Predict([]*armor.Policy{ksp(t, "x", both)}, enforced("a"), "other", armor.Deed{Exec: "/bin/apt"}); got.Status != armor.Unknown {
		t.Errorf("a container that is not there: %+v", got)
	}
	if got := armor.Predict(nil, enforced("a"), "c", armor.Deed{Exec: "/bin/apt"}); got.Status != armor.NotCovered {
		t.Errorf("no policy: %+v", got)
	}
}

func TestActionsOfAPolicy(t *testing.T) {
	p := ksp(t, "x", `{"process":{"matchPaths":[{"path":"/a","action":"Allow"}],"matchPatterns":[{"pattern":"/b*"}]},"capabilities":{"matchCapabilities":[{"capability":"kill"}]},"action":"Audit"}`)
	if got := p.Actions(); !slices.Equal(got, []armor.Action{armor.Audit, armor.Allow}) {
		t.Errorf("%v", got)
	}
}

// A folder takes an entry for itself and for each that it lies in, once.
func TestFoldersThatShareTheirParentsShareEntries(t *testing.T) {
	policy := func(dirs int) *armor.Policy {
		var all []string
		for i := range dirs {
			all = append(all, fmt.Sprintf(`{"dir":"/a/b/c/d/e/%d/"}`, i))
		}
		return ksp(t, "x", `{"process":{"matchDirectories":[`+strings.Join(all, ",")+`]}}`)
	}
	for n, want := range map[int]bool{60: false, 125: false, 126: true} {
		got := slices.Contains(causes(armor.Judge([]*armor.Policy{policy(n)}, enforced("debian:12"))), "x enforcer")
		if got != want {
			t.Errorf("%d folders are too many: %v, want %v", n, got, want)
		}
	}
}

func TestPathsToInspect(t *testing.T) {
	paths := armor.PathsToInspect([]*armor.Policy{ksp(t, "x", `{"process":{"matchPaths":[{"path":"/opt/x"},{"path":"/opt/y","action":"Allow"}],"matchDirectories":[{"dir":"/opt/z/"}]}}`)})
	for file, want := range map[string]bool{"/opt/x": true, "/opt/y": false, "/opt/z": false, "/usr/sbin/chroot": true, "/bin/wget": true} {
		if slices.Contains(paths, file) != want {
			t.Errorf("%s: %v, want %v", file, !want, want)
		}
	}
	if !slices.IsSorted(paths) || len(slices.Compact(slices.Clone(paths))) != len(paths) {
		t.Error("not sorted, or with repeats")
	}
}
