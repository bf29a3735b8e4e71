package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/charttest"
)

// rendering is the chart as one of its values files renders it.
type rendering struct {
	*testing.T
	text    []byte
	objects []*unstructured.Unstructured
}

// renderings runs a test for each of the chart's values files.
func renderings(t *testing.T, test func(*rendering)) {
	t.Helper()
	for name, file := range charttest.Values(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := charttest.Render(t, file)
			test(&rendering{T: t, text: text, objects: charttest.Objects(t, text)})
		})
	}
}

// object is the one object of this kind and component, nil when there is none.
func (r *rendering) object(kind, component string) *unstructured.Unstructured {
	i := slices.IndexFunc(r.objects, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == kind && o.GetLabels()["app.kubernetes.io/component"] == component
	})
	if i < 0 {
		return nil
	}
	return r.objects[i]
}

// pod is what the pods of a component are made from, nil when there are none.
func (r *rendering) pod(component string) *corev1.PodSpec {
	r.Helper()
	kind, path := "Deployment", []string{"spec", "template", "spec"}
	switch component {
	case "audit":
		kind, path = "CronJob", append([]string{"spec", "jobTemplate"}, path...)
	case "node-probe":
		kind = "DaemonSet"
	}
	o := r.object(kind, component)
	if o == nil {
		return nil
	}
	fields, found, err := unstructured.NestedMap(o.Object, path...)
	if err != nil || !found {
		r.Fatalf("%s: no pod in it: %v", o.GetName(), err)
	}
	spec := &corev1.PodSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, spec); err != nil {
		r.Fatal(err)
	}
	return spec
}

// run is what a component's pod runs: the program with the arguments and the variables of
// its container, on the configuration that is mounted there.
func (r *rendering) run(pod *corev1.PodSpec) (*app, []string) {
	r.Helper()
	d := testDeps(r.TempDir())
	d.ownNamespace = charttest.Namespace
	container := &pod.Containers[0]
	values := map[string]string{}
	for _, v := range container.Env {
		value := v.Value
		if v.ValueFrom != nil {
			// Where it comes from is not there. A URL will do for all.
			value = "https://example.org/" + strings.ToLower(v.Name)
		}
		values[v.Name] = value
		d.environ = append(d.environ, v.Name+"="+value)
	}
	a := &app{deps: d, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	var args []string
	for _, arg := range container.Args {
		for name, value := range values {
			arg = strings.ReplaceAll(arg, "$("+name+")", value)
		}
		if strings.Contains(arg, "$(") {
			r.Errorf("%s: a variable that is not there", arg)
		}
		if strings.HasPrefix(arg, "--config=") {
			a.configFile = r.configuration()
			continue
		}
		args = append(args, arg)
	}
	return a, args
}

// configuration is a file of what the ConfigMap holds, if it is the chart's own.
func (r *rendering) configuration() string {
	r.Helper()
	file := filepath.Join(r.TempDir(), "config.yaml")
	text := ""
	if o := r.object("ConfigMap", "config"); o != nil {
		text, _, _ = unstructured.NestedString(o.Object, "data", "config.yaml")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
	return file
}

// scanOf parses the arguments of an audit as the program does.
func (r *rendering) scanOf(a *app, args []string) (*scanFlags, *config.Config) {
	r.Helper()
	f := &scanFlags{kube: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{Use: args[0]}
	f.addFlags(cmd, a)
	cfg := r.parse(a, cmd, "scan", args)
	if err := f.validate(cmd, cfg); err != nil {
		r.Fatalf("%q: %v", args, err)
	}
	return f, cfg
}

// watchOf parses the arguments of a watch as the program does.
func (r *rendering) watchOf(a *app, args []string) (*watchFlags, *config.Config) {
	r.Helper()
	f := newWatchFlags()
	cmd := &cobra.Command{Use: args[0]}
	f.addFlags(cmd, a)
	cfg := r.parse(a, cmd, "watch", args)
	if err := f.validate(cmd, cfg); err != nil {
		r.Fatalf("%q: %v", args, err)
	}
	return &f, cfg
}

func (r *rendering) parse(a *app, cmd *cobra.Command, want string, args []string) *config.Config {
	r.Helper()
	if args[0] != want {
		r.Fatalf("%q: want %s", args, want)
	}
	if err := cmd.ParseFlags(args[1:]); err != nil {
		r.Fatalf("%q: %v", args, err)
	}
	if rest := cmd.Flags().Args(); len(rest) > 0 {
		r.Fatalf("%q: %q are no flags", args, rest)
	}
	cfg, _, err := a.load(cmd.Flags())
	if err != nil {
		r.Fatalf("%q: %v", args, err)
	}
	return cfg
}

// The program takes what the chart gives it.
func TestChartArgumentsAreTaken(t *testing.T) {
	t.Parallel()
	renderings(t, func(r *rendering) {
		pods := 0
		if pod := r.pod("audit"); pod != nil {
			pods++
			a, args := r.run(pod)
			r.scanOf(a, args)
		}
		if pod := r.pod("watch"); pod != nil {
			pods++
			a, args := r.run(pod)
			r.watchOf(a, args)
		}
		if pod := r.pod("node-probe"); pod != nil {
			pods++
			a, args := r.run(pod)
			if err := a.nodeCommand().ParseFlags(args[1:]); err != nil || args[0] != "node" {
				r.Errorf("%q: %v", args, err)
			}
		}
		if pods == 0 {
			r.Error("there are no pods")
		}
	})
}

// The example of an exception in values.yaml is one that the program takes.
func TestChartExceptionExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(charttest.Chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "\nexceptions: []\n")
	if !ok {
		t.Fatal("there are no exceptions in values.yaml")
	}
	example := "exceptions:\n"
	for line := range strings.Lines(after) {
		commented, ok := strings.CutPrefix(line, "#")
		if !ok {
			break
		}
		example += commented
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{deps: testDeps(t.TempDir()), configFile: file}
	cfg, _, err := a.load(newFlagSet())
	if err != nil || len(cfg.Exceptions) != 1 {
		t.Errorf("%v in\n%s", err, example)
	}
}

// probeFindings are those that the pod of the node probe has by what it needs: it is root,
// with two directories of the host.
func probeFindings(pod *corev1.PodSpec) []string {
	rules := []string{"restrictedVolumes", "restrictedVolumes", "runAsNonRoot", "runAsUser"}
	container := &pod.Containers[0]
	if *container.VolumeMounts[0].RecursiveReadOnly != corev1.RecursiveReadOnlyEnabled {
		rules = append(rules, "escape-host-sys")
	}
	for range container.SecurityContext.Capabilities.Add {
		rules = append(rules, "capabilities_restricted", "escape-cap-bpf")
	}
	if container.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeUnconfined {
		rules = append(rules, "seccompProfile_restricted", "escape-seccomp-unconfined")
	}
	slices.Sort(rules)
	return rules
}

// The scanner finds nothing in its own pods, but in those of the node probe what its
// documentation says.
func TestChartPodsAreScanned(t *testing.T) {
	t.Parallel()
	renderings(t, func(r *rendering) {
		file := filepath.Join(r.TempDir(), "chart.yaml")
		if err := os.WriteFile(file, r.text, 0o600); err != nil {
			r.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code := run(r.Context(), []string{"scan", "-f", file, "--level", "restricted", "-o", "json", "--fail-on", "none"}, strings.NewReader(""), &stdout, &stderr, testDeps(""))
		if code != exitOK {
			r.Fatalf("exit code %d\n%s", code, stderr.Bytes())
		}
		var result struct {
			Findings []struct {
				Rule     string
				Workload struct{ Kind, Name string }
			}
			Verdicts []struct {
				Verdict  string
				Workload struct{ Kind, Name string }
			}
		}
		if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
			r.Fatal(err)
		}
		var want, have []string
		if pod := r.pod("node-probe"); pod != nil {
			want = probeFindings(pod)
		}
		for _, f := range result.Findings {
			if f.Workload.Kind != "DaemonSet" {
				r.Errorf("%s %s: %s", f.Workload.Kind, f.Workload.Name, f.Rule)
			}
			have = append(have, f.Rule)
		}
		if slices.Sort(have); !slices.Equal(have, want) {
			r.Errorf("node probe: found %q, want %q", have, want)
		}
		for _, v := range result.Verdicts {
			if v.Verdict != "closed" && v.Workload.Kind != "DaemonSet" {
				r.Errorf("%s %s is %s", v.Workload.Kind, v.Workload.Name, v.Verdict)
			}
		}
		if len(result.Verdicts) == 0 {
			r.Error("nothing was judged")
		}
	})
}
