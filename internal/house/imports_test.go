package house_test

import (
	"slices"
	"strings"
	"testing"
)

// everything, among the packages that a room may import, stands for all of ours.
const everything = "*"

// rooms are the packages of the project and what of ours each may import. A
// package below one of them belongs to it.
var rooms = map[string][]string{
	"cmd/scanner":         {everything},
	"config":              {},
	"hack/shots":          {},
	"internal/armor":      {"scan", "internal/pause"},
	"internal/armortest":  {},
	"internal/charttest":  {},
	"internal/demo":       {},
	"internal/deploytest": {},
	"internal/house":      {},
	"internal/kube":       {"scan", "remediate", "internal/pause"},
	"internal/kubetest":   {},
	"internal/manifest":   {"scan"},
	"internal/node":       {"scan"},
	"internal/oracle":     {},
	"internal/pause":      {},
	"internal/s3":         {"internal/pause"},
	"internal/s3test":     {},
	// Events are written there as everywhere: by report.
	"internal/sink":     {"scan", "report", "internal/pause"},
	"internal/snapshot": {"scan", "internal/manifest"},
	"internal/watch":    {"scan", "internal/sink"},
	"remediate":         {"scan"},
	// It says with the rules what a file lacks, and changes the file.
	"remediate/repair": {"scan", "internal/manifest"},
	"report":           {"scan", "remediate"},
	"scan":             {},
	// It says things in the words of report, and cleans texts as report does.
	"tui": {"scan", "remediate", "report"},
}

// testOnly are packages that only tests import.
var testOnly = []string{"internal/armortest", "internal/deploytest", "internal/charttest", "internal/kubetest", "internal/house", "internal/oracle", "internal/s3test"}

// owners are packages of others, by the beginnings of their paths, that only
// some rooms may import.
var owners = []struct {
	prefix string
	rooms  []string
	why    string
}{
	{"github.com/kubearmor/KubeArmor/pkg/KubeArmorController/api", []string{"internal/armor", "remediate"}, "remediate/set writes KubeArmor's policies, and nobody else"},
	{"github.com/kubearmor/", []string{"internal/armor", "internal/armortest"}, "KubeArmor's types must not spread: internal/armor translates them"},
	{"k8s.io/client-go", []string{"cmd/scanner", "internal/kube", "internal/kubetest", "internal/armor"}, "who reads a cluster stands behind an interface"},
	{"k8s.io/apiserver", []string{"scan"}, "it evaluates policies in CEL, and scan/admission does that"},
	{"github.com/cilium/ebpf", []string{"internal/node"}, "only the check of this machine loads programs"},
	{"google.golang.org/grpc", []string{"internal/armor", "internal/armortest"}, "only KubeArmor is spoken to by gRPC, and internal/armor does that"},
	{"github.com/prometheus/", []string{"internal/sink"}, "only the sink of metrics counts for Prometheus"},
	{"github.com/openreports/", []string{"internal/sink"}, "only the sink of reports writes them"},
	{"openreports.io/", []string{"internal/sink"}, "only the sink of reports writes them"},
	{"k8s.io/cli-runtime", []string{"cmd/scanner", "internal/kube"}, "flags belong to the command"},
	{"sigs.k8s.io/controller-runtime", []string{"internal/kubetest"}, "it starts the tests' control plane and nothing else"},
	{"github.com/minio/", []string{"internal/s3"}, "only internal/s3 speaks with buckets"},
	{"github.com/spf13/cobra", []string{"cmd/scanner"}, "flags belong to the command"},
	{"github.com/spf13/viper", []string{"config"}, "config is the one place that settles what is in force"},
	{"github.com/charmbracelet/", []string{"tui"}, "only tui draws screens"},
	{"charm.land/", []string{"tui"}, "only tui draws screens"},
	{"github.com/owenrumney/go-sarif", []string{"report"}, "one file a format, and SARIF's is in report"},
}

// pure rooms judge or write what they are given: they do not look around.
var pure = map[string][]string{
	"scan":      {"os", "os/exec", "os/signal", "net/http", "log", "log/slog", "flag", "path/filepath", "io/ioutil"},
	"remediate": {"os", "os/exec", "os/signal", "net/http", "log", "log/slog", "flag", "path/filepath", "io/ioutil"},
	"report":    {"os", "os/exec", "os/signal", "net/http", "log", "log/slog", "flag", "io/ioutil"},
}

// unreachable are packages that a room must not even reach through others.
var unreachable = map[string][]string{
	"scan":              {"k8s.io/client-go"},
	"report":            {"k8s.io/client-go"},
	"config":            {"k8s.io/client-go"},
	"remediate":         {"k8s.io/client-go"},
	"internal/manifest": {"k8s.io/client-go"},
	"internal/snapshot": {"k8s.io/client-go"},
	"tui":               {"k8s.io/client-go"},
}

func TestImportsPointTheRightWay(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, complaint := range wrongImports(p) {
			t.Errorf("%s %s", p.room(), complaint)
		}
	}
}

// wrongImports are the rules above that a package breaks.
func wrongImports(p goPackage) []string {
	room, allowed, ok := roomOf(p.room())
	if !ok {
		return []string{"stands in no room: say in internal/house what it may import"}
	}
	var complaints []string
	for _, imported := range p.Imports {
		if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
			target, _, _ := roomOf(ours)
			switch {
			case slices.Contains(testOnly, target):
				complaints = append(complaints, "imports "+ours+", which is for tests only")
			case target != room && !slices.Contains(allowed, target) && !slices.Contains(allowed, everything):
				complaints = append(complaints, "must not import "+ours)
			}
			continue
		}
		// The first that fits decides: the narrower prefix stands before the wider.
		for _, o := range owners {
			if !below(imported, o.prefix) {
				continue
			}
			if !slices.Contains(o.rooms, room) {
				complaints = append(complaints, "must not import "+imported+": "+o.why)
			}
			break
		}
		if slices.Contains(pure[room], imported) {
			complaints = append(complaints, "must not import "+imported+": what it needs is handed to it")
		}
	}
	for _, dep := range p.Deps {
		for _, banned := range unreachable[room] {
			if below(dep, banned) {
				complaints = append(complaints, "must not depend on "+dep+", not through others either")
			}
		}
	}
	return complaints
}

// roomOf finds the room that a package below the module belongs to.
func roomOf(path string) (room string, allowed []string, ok bool) {
	for candidate, imports := range rooms {
		if below(path, candidate) && len(candidate) > len(room) {
			room, allowed, ok = candidate, imports, true
		}
	}
	return room, allowed, ok
}

// below tells whether a path is the prefix itself or stands below it.
func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

// The rules bite.
func TestWrongImports(t *testing.T) {
	for _, test := range []struct {
		room    string
		imports []string
		want    string
	}{
		{"scan", []string{"fmt", "slices", "k8s.io/api/core/v1"}, ""},
		{"scan", []string{module + "/report"}, "must not import report"},
		{"scan", []string{"os"}, "must not import os"},
		{"scan", []string{"k8s.io/client-go/kubernetes"}, "must not import k8s.io/client-go/kubernetes"},
		{"report", []string{module + "/scan", module + "/remediate"}, ""},
		{"report", []string{module + "/config"}, "must not import config"},
		{"config", []string{module + "/scan"}, "must not import scan"},
		{"config", []string{"github.com/spf13/viper"}, ""},
		{"internal/manifest", []string{"github.com/kubearmor/KubeArmor/protobuf"}, "must not import github.com/kubearmor/KubeArmor/protobuf"},
		{"internal/armor", []string{"github.com/kubearmor/KubeArmor/protobuf"}, ""},
		{"remediate/set", []string{"github.com/kubearmor/KubeArmor/pkg/KubeArmorController/api/security.kubearmor.com/v1"}, ""},
		{"remediate/set", []string{"github.com/kubearmor/KubeArmor/protobuf"}, "must not import github.com/kubearmor/KubeArmor/protobuf"},
		{"remediate/set", []string{module + "/internal/manifest"}, "must not import internal/manifest"},
		{"remediate/repair", []string{module + "/internal/manifest", module + "/scan"}, ""},
		{"remediate/repair", []string{module + "/remediate"}, "must not import remediate"},
		{"remediate", []string{"net/http"}, "must not import net/http"},
		{"tui/list", []string{module + "/tui", module + "/remediate"}, ""},
		{"cmd/scanner", []string{module + "/internal/manifest", "os"}, ""},
		{"cmd/scanner", []string{module + "/internal/kubetest"}, "for tests only"},
		{"helpers", nil, "stands in no room"},
	} {
		got := strings.Join(wrongImports(goPackage{ImportPath: module + "/" + test.room, Imports: test.imports}), "\n")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s importing %v: got %q, want %q", test.room, test.imports, got, test.want)
		}
	}
	far := goPackage{ImportPath: module + "/scan", Deps: []string{"k8s.io/client-go/rest"}}
	if len(wrongImports(far)) != 1 {
		t.Error("a dependency through others was not seen")
	}
}
