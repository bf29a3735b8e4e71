package report

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

const schemaFile = "../docs/events.schema.json"

func compileSchema(t *testing.T, part string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(schemaFile + part)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestEventsFollowTheSchema(t *testing.T) {
	for name, events := range samples(t) {
		t.Run("sample "+name, func(t *testing.T) { followsSchema(t, events) })
	}
	t.Run("sample watch", func(t *testing.T) { followsSchema(t, watchEvents()) })
}

func followsSchema(t *testing.T, events []scan.Event) {
	t.Helper()
	schema := compileSchema(t, "")
	stream := write(t, format{"jsonl", NewJSONL}, events)
	for line := range bytes.Lines(stream) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
	}
	document := format{"json", func(w io.Writer) scan.Handler { return Picture(NewJSON(w)) }}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(write(t, document, events)))
	if err != nil {
		t.Fatal(err)
	}
	if err := compileSchema(t, "#/$defs/document").Validate(value); err != nil {
		t.Error(err)
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t, "")
	for _, line := range []string{
		`{}`, `[]`, `{"alert":{}}`, `{"alarm":{}}`, `{"time":"2026-11-22T12:00:00Z"}`, `{"time":"noon","node":{"name":"n"}}`,
		`{"time":"2026-11-22T12:00:00Z","node":{"name":"n"},"progress":{}}`,
		`{"resolved":{"what":"finding","reason":"r"}}`, `{"resolved":{"what":"mood","reason":"r"}}`, `{"resolved":{"what":"node","reason":"r"}}`,
		`{"alert":{"id":"a","class":"rumour","incident":true,"severity":"low","reason":"r","blocked":true,"workload":{"kind":"Pod","name":"p"},"count":1}}`,
		`{"alert":{"id":"","class":"chroot","incident":true,"severity":"low","reason":"r","blocked":true,"workload":{"kind":"Pod","name":"p"},"count":1}}`,
		`{"lost":{"id":"l","reason":"asleep","from":"2026-11-22T12:00:00Z","message":"m"}}`,
		`{"start":{}}`, `{"finding":{"rule":"r"}}`,
		`{"end":{"workloads":0,"findings":{},"verdicts":{},"incomplete":false},"node":{"name":"n"}}`,
		`{"end":{"workloads":0,"findings":{"catastrophic":1},"verdicts":{},"incomplete":false}}`,
		`{"end":{"workloads":-1,"findings":{},"verdicts":{},"incomplete":false}}`,
		`{"policy":{"layer":"runtime","kind":"KubeArmorPolicy","name":"p","workloads":1,"pods":1,"bites":"surely"}}`,
		`{"policy":{"layer":"runtime","kind":"KubeArmorPolicy","name":"p","bites":"yes"}}`,
		`{"node":{"name":"n","enforcement":{"capabilities":"yes","processes":"yes","grade":"certain","agent":"yes","reason":"r"}}}`,
		`{"verdict":{"workload":{"kind":"Pod","name":"p"},"verdict":"safe","reason":"r","pssAllowed":true}}`,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(value) == nil {
			t.Errorf("%s passes", line)
		}
	}
}

// Every field of the types stands in the schema, and nothing else does.
func TestSchemaHasEveryField(t *testing.T) {
	describesTypes(t, schemaFile, eventTypes())
}

// Every kind of event is one of which there is exactly one in a line.
func TestSchemaHasOneKindAnEvent(t *testing.T) {
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Event struct {
				OneOf []struct{ Required []string }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, one := range schema.Defs.Event.OneOf {
		kinds = append(kinds, one.Required...)
	}
	slices.Sort(kinds)
	all, _ := jsonFields(reflect.TypeFor[eventJSON]())
	if want := slices.DeleteFunc(all, func(key string) bool { return key == timeKey }); !slices.Equal(kinds, want) {
		t.Errorf("the schema knows %v, the type %v", kinds, want)
	}
}

// describesTypes holds the definitions of a schema against the types that are written.
func describesTypes(t *testing.T, file string, types map[string]reflect.Type) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
				Ref         string `json:"$ref"`
			} `json:"properties"`
			Required []string `json:"required"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	for name, def := range schema.Defs {
		typ, ok := types[name]
		if !ok {
			if len(def.Properties) > 0 {
				t.Errorf("%s: no type is known for it", name)
			}
			continue
		}
		delete(types, name)
		all, required := jsonFields(typ)
		if got := slices.Sorted(maps.Keys(def.Properties)); !slices.Equal(got, all) {
			t.Errorf("%s: the schema has %v, the type %v", name, got, all)
		}
		if got := slices.Sorted(slices.Values(def.Required)); name != "event" && !slices.Equal(got, required) {
			t.Errorf("%s: the schema requires %v, the type always writes %v", name, got, required)
		}
		for field, p := range def.Properties {
			if p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s: no description", name, field)
			}
		}
	}
	for name := range types {
		t.Errorf("%s is not in the schema", name)
	}
}

func eventTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"event": reflect.TypeFor[eventJSON](), "document": reflect.TypeFor[documentJSON](), "finding": reflect.TypeFor[findingJSON](),
		"start": reflect.TypeFor[scan.Start](), "progress": reflect.TypeFor[scan.Progress](), "node": reflect.TypeFor[scan.Node](),
		"workloadVerdict": reflect.TypeFor[scan.WorkloadVerdict](), "failure": reflect.TypeFor[scan.Failure](), "clusterRun": reflect.TypeFor[scan.ClusterRun](), "end": reflect.TypeFor[scan.End](),
		"workload": reflect.TypeFor[scan.Workload](), "location": reflect.TypeFor[scan.Location](), "fix": reflect.TypeFor[scan.Fix](), "edit": reflect.TypeFor[scan.Edit](),
		"lowering": reflect.TypeFor[scan.Lowering](), "excepted": reflect.TypeFor[scan.Excepted](),
		"policy": reflect.TypeFor[scan.Policy](), "enforcement": reflect.TypeFor[kernel.Enforcement](), "evidence": reflect.TypeFor[kernel.Evidence](),
		"turnOn": reflect.TypeFor[kernel.TurnOn](), "layers": reflect.TypeFor[scan.Layers](), "decision": reflect.TypeFor[admission.Decision](),
		"ruling": reflect.TypeFor[admission.Ruling](), "admissionRef": reflect.TypeFor[admission.Ref](), "admissionToothless": reflect.TypeFor[admission.Toothless](),
		"runtimeLayer": reflect.TypeFor[scan.RuntimeLayer](), "containerCover": reflect.TypeFor[scan.ContainerCover](), "cover": reflect.TypeFor[armor.Cover](),
		"element": reflect.TypeFor[armor.Element](), "policyRef": reflect.TypeFor[armor.Ref](), "toothless": reflect.TypeFor[armor.Toothless](),
		"resolved": reflect.TypeFor[scan.Resolved](), "findingRef": reflect.TypeFor[scan.FindingRef](), "policyName": reflect.TypeFor[scan.PolicyRef](),
		"failureRef": reflect.TypeFor[scan.FailureRef](), "alert": reflect.TypeFor[scan.Alert](), "lost": reflect.TypeFor[scan.Lost](),
		"kernelLayer": reflect.TypeFor[scan.KernelLayer](), "pathLayers": reflect.TypeFor[scan.PathLayers](), "cell": reflect.TypeFor[scan.Cell](),
		"shard": reflect.TypeFor[scan.Shard](), "part": reflect.TypeFor[scan.Part](), "outline": reflect.TypeFor[scan.Outline](),
		"runtimeOutline": reflect.TypeFor[scan.RuntimeOutline](), "admissionOutline": reflect.TypeFor[scan.AdmissionOutline](),
		"shardCounts": reflect.TypeFor[scan.ShardCounts](), "halves": reflect.TypeFor[scan.Halves](), "shardRow": reflect.TypeFor[scan.ShardRow](),
		"shardSource": reflect.TypeFor[scan.ShardSource](), "admitted": reflect.TypeFor[scan.Admitted](), "admittedPath": reflect.TypeFor[scan.AdmittedPath](),
	}
}

// jsonFields lists the keys that a type writes, and those that it always writes.
func jsonFields(typ reflect.Type) (all, always []string) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	for _, f := range reflect.VisibleFields(typ) {
		key, options, ok := strings.Cut(f.Tag.Get("json"), ",")
		if key == "-" {
			continue
		}
		if f.Anonymous || !f.IsExported() || slices.Contains(all, key) {
			continue
		}
		all = append(all, key)
		if !ok || options != "omitempty" && options != "omitzero" {
			always = append(always, key)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}
