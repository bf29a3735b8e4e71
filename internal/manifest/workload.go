package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Document is one pod or pod template of a manifest.
type Document struct {
	File string
	// Line is where the object begins.
	Line       int
	APIVersion string
	// Workload has kind, namespace and name as they are written. A generated name
	// ends with an asterisk.
	Workload scan.Workload
	// Meta and Spec are those of the pod or the template, with the defaults of the
	// API server.
	Meta *metav1.ObjectMeta
	Spec *corev1.PodSpec
	// TemplatePath is where the pod stands in the object: empty for a Pod,
	// "spec.template" and the like for others.
	TemplatePath string

	chunk *chunk
	sel   selector
	// live are the nodes of the object while it is being judged. Keeping them
	// longer would cost thirty times the text, from which they can be had again.
	live *liveNodes
}

// WithoutText is the document with no more than where it begins: its fields are not
// found in the file, and its pod is gone.
func (d *Document) WithoutText() *Document {
	return &Document{File: d.File, Line: d.Line, APIVersion: d.APIVersion, Workload: d.Workload, TemplatePath: d.TemplatePath}
}

// liveNodes are the nodes of an object in a chunk that is parsed.
type liveNodes struct {
	root   *yaml.Node
	parsed *parsed
}

// templatePath tells where an object of a kind of Kubernetes itself has its pod.
func templatePath(apiVersion, kind string) (path string, ok bool) {
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	switch group {
	case "":
		switch kind {
		case "Pod":
			return "", true
		case "PodTemplate":
			return "template", true
		case "ReplicationController":
			return "spec.template", true
		}
	case "apps", "extensions":
		switch kind {
		case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet":
			return "spec.template", true
		}
	}
	if group == "batch" || group == "extensions" {
		switch kind {
		case "Job":
			return "spec.template", true
		case "CronJob", "ScheduledJob":
			return "spec.jobTemplate.spec.template", true
		}
	}
	return "", false
}

// isWorkloadKind tells whether a kind is one of Kubernetes itself that has a pod.
func isWorkloadKind(kind string) bool {
	for _, apiVersion := range []string{"v1", "apps/v1", "batch/v1"} {
		if _, ok := templatePath(apiVersion, kind); ok {
			return true
		}
	}
	return false
}

// pod finds the pod of an object. It is nil when there is none.
func (o *object) pod() (pod *yaml.Node, path string, err error) {
	if path, ok := templatePath(o.apiVersion, o.kind); ok {
		pod, err := o.descend(path)
		if pod == nil || err != nil {
			return nil, path, err
		}
		spec, _ := lookup(pod, "spec", 0)
		if spec = deref(spec); spec == nil || isEmpty(spec) {
			return nil, path, nil
		}
		return pod, path, nil
	}
	// Other kinds with a pod template: rollouts, services of Knative, and so on.
	for _, path := range []string{"spec.template", "spec.jobTemplate.spec.template"} {
		pod, err := o.descend(path)
		if err != nil || pod == nil {
			continue
		}
		spec, _ := lookup(pod, "spec", 0)
		containers, _ := lookup(spec, "containers", 0)
		if containers = deref(containers); containers != nil && containers.Kind == yaml.SequenceNode {
			return pod, path, nil
		}
	}
	return nil, "", nil
}

// descend follows a path of keys. The node is nil when one of them is not set.
func (o *object) descend(path string) (*yaml.Node, error) {
	n := o.val
	for key := range strings.SplitSeq(path, ".") {
		if key == "" {
			break
		}
		v, k := lookup(n, key, 0)
		n = deref(v)
		if n == nil || isEmpty(n) {
			return nil, nil
		}
		if n.Kind != yaml.MappingNode {
			return nil, errorAt(k, "%s: want a mapping", path)
		}
	}
	return n, nil
}

// objectNames is what is read of an object's own metadata.
type objectNames struct {
	Name         string `json:"name"`
	GenerateName string `json:"generateName"`
	Namespace    string `json:"namespace"`
}

func (n objectNames) workload(kind string) scan.Workload {
	w := scan.Workload{Namespace: n.Namespace, Kind: kind, Name: n.Name}
	if w.Name == "" && n.GenerateName != "" {
		w.Name = n.GenerateName + "*"
	}
	return w
}

// decode makes the document of an object, nil if it has no pod. The whole object
// is checked on the way.
func (r *objectReader) decode(o *object) (*Document, error) {
	r.conv.next()
	pod, path, perr := o.pod()
	own, _ := lookup(o.val, "metadata", 0)
	own = deref(own)
	r.conv.mark(own)
	var meta, spec *yaml.Node
	if pod != nil {
		m, _ := lookup(pod, "metadata", 0)
		s, _ := lookup(pod, "spec", 0)
		meta, spec = deref(m), deref(s)
		r.conv.mark(meta)
		r.conv.mark(spec)
	}
	if err := r.conv.node(o.val); err != nil {
		return nil, err
	}
	if pod == nil || perr != nil {
		return nil, perr
	}
	d := &Document{
		File: r.chunk.file, Line: o.line, APIVersion: o.apiVersion,
		Meta: &metav1.ObjectMeta{}, Spec: &corev1.PodSpec{}, TemplatePath: path,
		chunk: r.chunk, sel: o.sel,
	}
	var names objectNames
	for _, f := range []struct {
		node *yaml.Node
		into any
		path string
	}{
		{own, &names, "metadata"},
		{meta, d.Meta, join(path, "metadata")},
		{spec, d.Spec, join(path, "spec")},
	} {
		if f.node == nil {
			continue
		}
		if err := decodeJSON(r.conv.marked(f.node), f.into, o.pos, f.path); err != nil {
			return nil, err
		}
	}
	d.Workload = names.workload(o.kind)
	Default(d.Meta, d.Spec)
	return d, nil
}

// join puts a field behind a path.
func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// decodeJSON decodes the JSON of the field at path as the API server does:
// with the case of keys minded and unknown ones ignored.
func decodeJSON(raw []byte, into any, pos *yaml.Node, path string) error {
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, into)
	if err == nil {
		return nil
	}
	// The error tells neither element nor place. That of the standard library has
	// the offset.
	again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](json.Unmarshal(raw, again)); ok {
		field := path + pathAt(raw, typed.Offset)
		l := locator{root: pos}
		l.walk(parsePath(field))
		return errorAt(l.at, "%s: want %s, not %s", field, typeName(typed.Type), typed.Value)
	}
	l := locator{root: pos}
	l.walk(parsePath(path))
	return errorAt(l.at, "%s: %s", path, err)
}

// typeName says what a Go type is in words of JSON.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	default:
		return fmt.Sprintf("a %s", t)
	}
}

// pathAt is the path of the value in a text of JSON that was read last at offset.
func pathAt(raw []byte, offset int64) string {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	type level struct {
		list  bool
		index int
		key   string
		value bool // the next token is a value
	}
	var levels []level
	var path string
	render := func() string {
		var b strings.Builder
		for _, l := range levels {
			if l.list {
				fmt.Fprintf(&b, "[%d]", l.index)
			} else {
				b.WriteString("." + l.key)
			}
		}
		return b.String()
	}
	for {
		tok, err := dec.Token()
		if err != nil {
			return path
		}
		top := len(levels) - 1
		d, delim := tok.(json.Delim)
		if delim && (d == '}' || d == ']') {
			levels = levels[:top]
			continue
		}
		if top >= 0 && !levels[top].list && !levels[top].value {
			levels[top].key, levels[top].value = tok.(string), true
			continue
		}
		if top >= 0 {
			levels[top].value = false
			if levels[top].list {
				levels[top].index++
			}
		}
		path = render()
		if dec.InputOffset() >= offset {
			return path
		}
		if delim {
			levels = append(levels, level{list: d == '[', index: -1})
		}
	}
}
