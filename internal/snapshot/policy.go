package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Policies in CEL may read anything of a pod, also what an inventory leaves out. A
// policy that does is not handed out from there: what it would say is unknown.

// rulesOnAdmission tells whether objects of the kind decide which pods are admitted.
func rulesOnAdmission(gk schema.GroupKind) bool {
	return scan.ReadsObjects(gk) && gk.Group != "security.kubearmor.com"
}

// leftOutFields are, by what they are called, words that are all in a policy that
// may read what is left out of pods.
var leftOutFields = []struct {
	name  string
	words []string
}{
	{"values of the environment", []string{"env", "value"}},
	{"arguments", []string{"args"}},
	{"commands", []string{"command"}},
	{"headers of probes", []string{"httpHeaders"}},
	{"paths of probes", []string{pathOfProbe}},
	{"attributes of volumes", []string{"volumeAttributes"}},
	{"options of volumes", []string{"flexVolume", "options"}},
	{"repositories of volumes", []string{"gitRepo", "repository"}},
	{"managed fields", []string{"managedFields"}},
	{"finalizers", []string{"finalizers"}},
}

// pathOfProbe stands for the path of an HTTP probe: the word path alone is too common.
const pathOfProbe = "httpGet.path"

// leftOut says what a policy reads that the inventory leaves out, nil for nothing.
func (v *inventory) leftOut(gk schema.GroupKind, object []byte) error {
	if v.begin == nil || !rulesOnAdmission(gk) {
		return nil
	}
	p := policyText{words: map[string]bool{}, annotations: map[string]bool{}}
	name := p.read(object)
	why := p.unkept(func(key string) bool { return keptAnnotation(key) || v.annotations[key] })
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s %s reads %s: %w", gk.Kind, name, why, scan.ErrNotRecorded)
}

// policyText is what the text of a policy mentions.
type policyText struct {
	words map[string]bool
	// annotations are the keys that it names, unclear is true when it may read
	// others.
	annotations map[string]bool
	unclear     bool
	// pods is true when it may speak of pods.
	pods bool
}

// read takes in a policy and returns its name.
func (p *policyText) read(object []byte) string {
	var policy struct {
		Metadata struct{ Namespace, Name string }
		Spec     any
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	if err := dec.Decode(&policy); err != nil {
		p.unclear, p.pods = true, true
	}
	p.walk("", policy.Spec)
	return strings.TrimPrefix(policy.Metadata.Namespace+"/"+policy.Metadata.Name, "/")
}

func (p *policyText) walk(key string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for k, child := range v {
			p.addWords(k)
			if inner, ok := child.(map[string]any); ok {
				if k == "annotations" {
					p.addKeys(inner)
				}
				if _, ok := inner["path"]; ok && k == "httpGet" {
					p.words[pathOfProbe] = true
				}
			}
			p.walk(k, child)
		}
	case []any:
		for _, child := range v {
			p.walk(key, child)
		}
	case string:
		if key == "message" || key == "description" {
			return
		}
		p.addWords(v)
		if strings.Contains(strings.ReplaceAll(v, "?", ""), pathOfProbe) {
			p.words[pathOfProbe] = true
		}
		p.expression(v)
	}
}

func (p *policyText) addWords(text string) {
	if strings.Contains(text, "*") {
		p.pods = true
	}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		p.words[word] = true
		p.pods = p.pods || word == "pods" || word == "Pod"
	}
}

// addKeys takes the keys of a selector by annotations, which may be patterns.
func (p *policyText) addKeys(keys map[string]any) {
	for k := range keys {
		if strings.ContainsAny(k, "*?({") {
			p.unclear = true
		}
		p.annotations[k] = true
	}
}

const (
	celString     = `(?:'([^'\\]+)'|"([^"\\]+)")`
	celSelections = `[\w.?]*`
)

// namedAnnotation are the ways in which an expression reads one annotation, or asks
// whether there are any. Those of macros and of other languages are not known.
var namedAnnotation = regexp.MustCompile(
	celString + `\s+in\s+` + celSelections + `annotations\b` +
		`|annotations\s*\[\s*\??\s*` + celString + `\s*\]` +
		`|has\(\s*` + celSelections + `\.annotations\s*\)`)

func (p *policyText) expression(text string) {
	if !strings.Contains(text, "annotations") {
		return
	}
	for _, m := range namedAnnotation.FindAllStringSubmatch(text, -1) {
		for _, key := range m[1:] {
			if key != "" {
				p.annotations[key] = true
			}
		}
	}
	if strings.Contains(namedAnnotation.ReplaceAllString(text, ""), "annotations") {
		p.unclear = true
	}
}

// unkept says what of that which the policy reads is not kept.
func (p *policyText) unkept(kept func(annotation string) bool) string {
	if !p.pods {
		return ""
	}
	if p.unclear {
		return "annotations, which are left out"
	}
	for key := range p.annotations {
		if !kept(key) {
			return "annotations, of which some are left out"
		}
	}
	for _, field := range leftOutFields {
		all := true
		for _, word := range field.words {
			all = all && p.words[word]
		}
		if all {
			return field.name + ", which are left out"
		}
	}
	return ""
}
