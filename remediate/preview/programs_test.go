package preview_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

func TestPrograms(t *testing.T) {
	t.Parallel()
	const (
		command = "spec.containers[0].command"
		image   = "may break|tools||web|spec.containers[0].image"
		probe   = "spec.containers[0].readinessProbe.exec.command"
	)
	for _, test := range []struct {
		name, container string
		want            []string
	}{
		{"a program of its own", `{image: app, command: [/app]}`, nil},
		{"called by a script", `{image: app, command: [sh, -c, "setup && curl -f http://x"]}`, []string{"breaks|tools|curl|web|" + command}},
		{"called by a path", `{image: app, command: [sh, -c, "setup; /usr/bin/wget x; /usr/sbin/chroot /host a"]}`,
			[]string{"breaks|chroot|chroot|web|" + command, "breaks|tools|wget|web|" + command}},
		{"at a path that nothing names", `{image: app, command: [sh, -c, "a; /opt/curl x"]}`, nil},
		{"by a relative path", `{image: app, command: [sh, -c, "a; ./curl x"]}`, []string{"may break|tools|curl|web|" + command}},
		{"the container's own program comes before the policy", `{image: app, command: [curl, -f, "http://x"]}`,
			[]string{"may break|tools|curl|web|" + command}},
		{"only named", `{image: app, command: [retry, curl, x]}`, []string{"may break|tools|curl|web|" + command}},
		{"in a text", `{image: app, command: [sh, -c, "a; echo 'install curl first'"]}`, nil},
		{"a script that is not seen", `{image: app, command: [sh, /start.sh]}`, []string{"may break|tools||web|" + command}},
		{"a variable of the spec", `{image: app, env: [{name: GET, value: curl}], command: [sh, -c, "a; $(GET) x"]}`,
			[]string{"breaks|tools|curl|web|" + command}},
		{"a dollar that is escaped", `{image: app, env: [{name: GET, value: curl}], command: [sh, -c, "a; $$(GET) x; wget"]}`,
			[]string{"breaks|tools|wget|web|" + command, "may break|tools||web|" + command}},
		{"a variable from elsewhere", `{image: app, env: [{name: GET, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], command: [sh, -c, "a; $(GET) x"]}`,
			[]string{"may break|tools||web|" + command}},
		// What is read of a cluster has no values.
		{"a variable whose value was not kept", `{image: app, env: [{name: GET}], command: [sh, -c, "a; $(GET) x"]}`,
			[]string{"may break|tools||web|" + command}},
		{"it is the program", `{image: app, env: [{name: GET}], command: [$(GET), x]}`, []string{"may break|tools||web|" + command}},
		{"a variable of a ConfigMap", `{image: app, envFrom: [{configMapRef: {name: x}}], command: [$(GET), x]}`, []string{"may break|tools||web|" + command}},
		{"a shell's substitution beside a ConfigMap", `{image: app, envFrom: [{configMapRef: {name: x}}], command: [sh, -c, "a; b $(curl x)"]}`,
			[]string{"breaks|tools|curl|web|" + command}},
		{"a script that is the program", `{image: app, command: [/start.sh]}`, []string{"may break|tools||web|" + command}},
		{"the image's entry point", `{image: app}`, []string{image}},
		{"arguments for it", `{image: app, args: [sh, -c, "a; curl x"]}`, []string{
			"may break|tools||web|spec.containers[0].args", "may break|tools|curl|web|spec.containers[0].args"}},
		{"an image of the program's name", `{image: "docker.io/curlimages/curl:8.0@sha256:0"}`, []string{image, "may break|tools|curl|web|spec.containers[0].image"}},
		{"a probe", `{image: app, command: [app], readinessProbe: {exec: {command: [curl, -f, localhost]}}}`, []string{"breaks|tools|curl|web|" + probe}},
		{"a probe's command is expanded", `{image: app, command: [app], env: [{name: GET, value: curl}], readinessProbe: {exec: {command: [$(GET), x]}}}`,
			[]string{"breaks|tools|curl|web|" + probe}},
		{"by a value that was not kept", `{image: app, command: [app], env: [{name: GET}], readinessProbe: {exec: {command: [$(GET), x]}}}`,
			[]string{"may break|tools||web|" + probe}},
		{"and by the container's own env alone", `{image: app, command: [app], envFrom: [{configMapRef: {name: x}}], readinessProbe: {exec: {command: [$(GET), x]}}}`, nil},
		{"a hook's is not", `{image: app, command: [app], env: [{name: GET, value: curl}], lifecycle: {preStop: {exec: {command: [$(GET), x]}}}}`, nil},
		{"hooks", `{image: app, command: [app], lifecycle: {postStart: {exec: {command: [sh, -c, "a; curl x"]}}, preStop: {exec: {command: [wget, x]}}}}`,
			[]string{"breaks|tools|wget|web|spec.containers[0].lifecycle.preStop.exec.command", "may break|tools|curl|web|spec.containers[0].lifecycle.postStart.exec.command"}},
		{"BusyBox has it under another path", `{image: "busybox:1", command: [sh, -c, "a; wget x"]}`, []string{
			"may break|tools|wget|web|" + command, "not covered|chroot||web|", "not covered|tools||web|"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := rendered(t, func(o *set.Options) { o.Only = []string{"chroot", "tools"} })
			wantLines(t, judged(t, s, "containers: ["+test.container+"]"), test.want...)
		})
	}
}

// Who looked into the container knows.
func TestProgramsOfAContainerThatWasLookedInto(t *testing.T) {
	t.Parallel()
	const spec = `containers: [{image: "busybox:1", command: [sh, -c, "a; wget x; curl y"]}]`
	s := only(t, "wget", "curl")
	inspected := func(found map[string]string) func(*preview.Input) {
		return func(in *preview.Input) {
			in.Workloads[0].Specimens[0].Inspected = map[string]map[string]string{"web": found}
		}
	}
	files := func(wget, curl string) map[string]string {
		return map[string]string{
			"/usr/bin/wget": "", "/bin/wget": wget, "/usr/local/bin/wget": "",
			"/usr/bin/curl": curl, "/bin/curl": "", "/usr/local/bin/curl": "",
		}
	}
	const command = "spec.containers[0].command"
	wantLines(t, judged(t, s, spec, inspected(files("/bin/wget", "/usr/bin/curl"))),
		"breaks|tools|curl|web|"+command, "breaks|tools|wget|web|"+command)
	// An applet of BusyBox runs on, and is not covered. What is not there fails already.
	w := judged(t, s, spec, inspected(files("/bin/busybox", "")))
	wantLines(t, w, "may break|tools|curl|web|"+command, "not covered|tools||web|")
	if !strings.Contains(w.Effects[1].What, "wget") {
		t.Errorf("%+v", w.Effects[1])
	}
}

// A set that only reports stops no call, and says that it is seen.
func TestAuditedPrograms(t *testing.T) {
	t.Parallel()
	s := rendered(t, func(o *set.Options) { o.Only, o.Action = []string{"curl"}, set.ActionAudit })
	w := judged(t, s, `containers: [{image: app, command: [sh, -c, "a; curl x"], readinessProbe: {exec: {command: [a]}}}]`)
	wantLines(t, w, "safe|tools|curl|web|spec.containers[0].command")
}

func TestJobsStartAnew(t *testing.T) {
	t.Parallel()
	in := inputOf(only(t, "curl"), workloadOf("CronJob", "nightly",
		specimen(t, `{restartPolicy: Never, containers: [{image: app, command: [sh, -c, "a; curl x"]}]}`)))
	w := preview.Judge(in).Workloads[0]
	if w.Outcome != preview.Breaks || !strings.Contains(w.Effects[0].Why, "every run starts it anew") {
		t.Errorf("%+v", w)
	}
}
