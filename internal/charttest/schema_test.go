package charttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The schema and the templates refuse what cannot be meant.
func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ set, want string }{
		{"unheardOf=1", "additional properties 'unheardOf' not allowed"},
		{"audit.levl=baseline", "additional properties 'levl' not allowed"},
		{"audit.outputs.s3.pathStyle=true", "additional properties 'pathStyle' not allowed"},
		{"audit.schedule=every night", "/audit/schedule"},
		{"audit.schedule=61 3 * *", "/audit/schedule"},
		{"audit.schedule=@fortnightly", "/audit/schedule"},
		{"audit.level=privileged", "/audit/level"},
		{"audit.pssVersion=1.31", "/audit/pssVersion"},
		{"audit.failOn=always", "/audit/failOn"},
		{"audit.namespaces={Shop}", "/audit/namespaces/0"},
		{"audit.alerts=soon", "/audit/alerts"},
		{"audit.concurrencyPolicy=Maybe", "/audit/concurrencyPolicy"},
		{"audit.outputs.reports=yes", "/audit/outputs/reports"},
		{"audit.outputs.files.formats={pdf}", "/audit/outputs/files/formats/0"},
		{"audit.outputs.s3.enabled=true", "/audit/outputs/s3/bucket"},
		{"audit.outputs.s3.bucket=Not_A_Bucket", "/audit/outputs/s3/bucket"},
		{"audit.outputs.s3.endpoint=minio:9000", "/audit/outputs/s3/endpoint"},
		{"audit.outputs.s3.key={{pod}}", "/audit/outputs/s3/key"},
		{"audit.outputs.s3.key=two\nlines", "/audit/outputs/s3/key"},
		{"audit.outputs.stdout=none", "audit.outputs.stdout: none leaves no output"},
		{"audit.probeNodes.enabled=true,nodeProbe.enabled=true", "use one of them"},
		{"audit.alerts=1m", "audit.alerts: needs kubearmor.enabled"},
		{"audit.resources.limits.memory=lots", "/audit/resources/limits/memory"},
		{"audit.serviceAccount.create=false", "audit.serviceAccount.name: needed"},
		{"watch.replicas=-1", "/watch/replicas"},
		{"watch.leaderElection=false", "watch.replicas: more than one needs watch.leaderElection"},
		{"watch.port=80", "/watch/port"},
		{"watch.output=table", "/watch/output"},
		{"watch.webhook.url=ftp://example.org", "/watch/webhook/url"},
		{"watch.webhook.existingSecret=hook", "watch.webhook: needs url or urlKey"},
		{"exceptions[0].rule=hostPathVolumes", "missing property 'reason'"},
		{"exceptions[0].rule=*,exceptions[0].reason=x", "/exceptions/0/rule"},
		{"config.exceptions[0]=x", "/config/exceptions"},
		{"image.digest=latest", "/image/digest"},
		{"runAsUser=0", "/runAsUser"},
		{"nodeProbe.every=1 hour", "/nodeProbe/every"},
		{"nodeProbe.every=25h", "/nodeProbe/every"},
		{"nodeProbe.every=0s", "/nodeProbe/every"},
		{"nodeProbe.enabled=true,nodeProbe.namespace.name=kube-system", "the probe needs a namespace of its own"},
		{"nodeProbe.enabled=true,nodeProbe.namespace.create=false,nodeProbe.namespace.name=default", "the probe needs a namespace of its own"},
		{"networkPolicy.dnsPorts={70000}", "/networkPolicy/dnsPorts/0"},
		{"kubearmor.tls.mode=maybe", "/kubearmor/tls/mode"},
		{"kubearmor.addresses={relay}", "/kubearmor/addresses/0"},
		{"kubearmor.addresses={relay:70000}", "/kubearmor/addresses/0"},
		{"networkPolicy.apiServer.ports={0}", "/networkPolicy/apiServer/ports/0"},
		{"networkPolicy.apiServer.cidrs={everywhere}", "/networkPolicy/apiServer/cidrs/0"},
		{"remediate.subjects[0].kind=Robot,remediate.subjects[0].name=x", "/remediate/subjects/0/kind"},
	} {
		t.Run(test.set, func(t *testing.T) {
			t.Parallel()
			_, err := Helm(t, "template", Release, Chart, "--set", strings.NewReplacer("{{", `\{`, "}}", `\}`).Replace(test.set))
			switch {
			case err == nil:
				t.Error("it is taken")
			case !strings.Contains(err.Error(), test.want):
				t.Errorf("it does not say %q: %v", test.want, err)
			}
		})
	}
}

// Schedules as people write them are taken.
func TestSchedulesAreTaken(t *testing.T) {
	t.Parallel()
	for _, schedule := range []string{"17 3 * * *", "*/15 * * * *", "0 2 * * MON-FRI", "5,35 0-6/2 1 jan,jul *", "@daily"} {
		quoted := strings.ReplaceAll(schedule, ",", `\,`)
		text, err := Helm(t, "template", Release, Chart, "--set-string", "audit.schedule="+quoted, "--show-only", "templates/audit.yaml")
		if err != nil {
			t.Errorf("%s: %v", schedule, err)
		} else if !strings.Contains(string(text), `schedule: "`+schedule+`"`) {
			t.Errorf("%s is rendered as something else", schedule)
		}
	}
}

// schema is as much of a JSON schema as the test reads.
type schema struct {
	Ref                  string             `json:"$ref"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
	Definitions          map[string]*schema `json:"definitions"`
}

// Every value has a line in the schema, and the schema knows none that is not there.
func TestSchemaKnowsTheValues(t *testing.T) {
	t.Parallel()
	var root schema
	text, err := os.ReadFile(filepath.Join(Chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	// Helm's own, for charts within charts.
	delete(root.Properties, "global")
	values := map[string]any{}
	if text, err = os.ReadFile(filepath.Join(Chart, "values.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range root.differences("", values, root.Definitions) {
		t.Error(wrong)
	}
}

// differences are the keys that only the schema or only the values have. Maps that users
// fill are not looked into.
func (s *schema) differences(path string, values map[string]any, definitions map[string]*schema) []string {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		s = definitions[name]
	}
	if s.Properties == nil || s.AdditionalProperties != false || strings.HasSuffix(path, ".resources") {
		return nil
	}
	var wrong []string
	for key, value := range values {
		below, ok := s.Properties[key]
		if !ok {
			wrong = append(wrong, "the schema does not know "+path+"."+key)
			continue
		}
		if m, ok := value.(map[string]any); ok {
			wrong = append(wrong, below.differences(path+"."+key, m, definitions)...)
		}
	}
	for key := range s.Properties {
		if _, ok := values[key]; !ok {
			wrong = append(wrong, "values.yaml does not have "+path+"."+key)
		}
	}
	slices.Sort(wrong)
	return wrong
}
