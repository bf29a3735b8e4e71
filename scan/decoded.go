package scan

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// decoded keeps what was decoded from one reading of a cluster to the next: the same
// text gives the same policy, and expressions are compiled once. What a reading did not
// ask for is forgotten after the next one. A nil one keeps nothing.
type decoded struct {
	armor      memo[*armor.Policy]
	kyverno    memo[*admission.KyvernoRules]
	exceptions memo[*admission.KyvernoException]
	vaps       memo[*admission.VAP]
	validating memo[*admission.ValidatingPolicy]
	// errs are those of what the policies in CEL stand beside: bindings and exceptions.
	errs memo[[]error]

	params *paramReader
	last   *armor.Index
	// until is when the next exception expires, zero for never.
	until time.Time
	// at is the time of the reading: a clock that is put back makes exceptions valid again.
	at time.Time
}

// memo remembers what was made of texts, those of this reading and of the one before.
type memo[V any] struct{ now, before map[string]V }

func (m *memo[V]) find(key string) (V, bool) {
	v, ok := m.now[key]
	if !ok {
		if v, ok = m.before[key]; ok {
			m.put(key, v)
		}
	}
	return v, ok
}

func (m *memo[V]) put(key string, v V) {
	if m.now == nil {
		m.now = map[string]V{}
	}
	m.now[key] = v
}

func (m *memo[V]) turn() { m.before, m.now = m.now, nil }

// get is what decode makes of the text, or made of it before.
func (m *memo[V]) get(text string, decode func() (V, error)) (V, error) {
	if v, ok := m.find(text); ok {
		return v, nil
	}
	v, err := decode()
	if err == nil {
		m.put(text, v)
	}
	return v, err
}

// begin starts a new reading.
func (d *decoded) begin(at time.Time) {
	d.at = at
	d.armor.turn()
	d.kyverno.turn()
	d.exceptions.turn()
	d.vaps.turn()
	d.validating.turn()
	d.errs.turn()
	d.until = time.Time{}
}

func (d *decoded) armorPolicy(kind schema.GroupKind, item []byte) (*armor.Policy, error) {
	decode := func() (*armor.Policy, error) { return armor.Decode(armor.Kind(kind.Kind), item) }
	if d == nil {
		return decode()
	}
	return d.armor.get(kind.Kind+"\x00"+string(item), decode)
}

// index is the index of the policies: the last one where it was of the same.
func (d *decoded) index(policies []*armor.Policy) *armor.Index {
	if d == nil {
		return armor.NewIndex(policies)
	}
	if d.last == nil || !slices.Equal(d.last.Given(), policies) {
		d.last = armor.NewIndex(policies)
	}
	return d.last
}

func (d *decoded) kyvernoPolicy(kind schema.GroupKind, item []byte) (*admission.KyvernoRules, error) {
	decode := func() (*admission.KyvernoRules, error) { return admission.DecodeKyverno(kind.Kind, item) }
	if d == nil {
		return decode()
	}
	return d.kyverno.get(kind.Kind+"\x00"+string(item), decode)
}

func (d *decoded) kyvernoException(item []byte) (*admission.KyvernoException, error) {
	decode := func() (*admission.KyvernoException, error) { return admission.DecodeKyvernoException(item) }
	if d == nil {
		return decode()
	}
	return d.exceptions.get(string(item), decode)
}

// newVAPs is admission.NewVAPs, where unread says why not all bindings are known.
func (d *decoded) newVAPs(policies, bindings [][]byte, unread string, params admission.Params, server string) ([]*admission.VAP, []error) {
	compile := func(policies [][]byte) ([]*admission.VAP, []error) {
		vaps, errs := admission.NewVAPs(policies, bindings, params, server)
		if unread != "" {
			for _, v := range vaps {
				v.BindingsUnread(unread)
			}
		}
		return vaps, errs
	}
	if d == nil {
		return compile(policies)
	}
	vaps, errs := compiled(&d.vaps, &d.errs, "vap", unread+digestOf(bindings), policies, compile)
	slices.SortFunc(vaps, func(a, b *admission.VAP) int { return cmp.Compare(a.Ref().Name, b.Ref().Name) })
	return vaps, errs
}

// newValidating is admission.NewValidatingPolicies, where unread says why not all
// exceptions are known.
func (d *decoded) newValidating(policies, exceptions [][]byte, unread, doubt string, now time.Time) ([]*admission.ValidatingPolicy, []error) {
	compile := func(policies [][]byte) ([]*admission.ValidatingPolicy, []error) {
		made, errs := admission.NewValidatingPolicies(policies, exceptions, doubt, now)
		if unread != "" {
			for _, p := range made {
				p.ExceptionsUnread(unread)
			}
		}
		return made, errs
	}
	if d == nil {
		return compile(policies)
	}
	var beside strings.Builder
	beside.WriteString(unread + "\x00" + doubt + "\x00" + digestOf(exceptions))
	for _, x := range exceptions {
		var object struct {
			Spec struct{ ExpiresAt *metav1.Time }
		}
		// One that cannot be read is told as broken by those who use it.
		if json.Unmarshal(x, &object) != nil || object.Spec.ExpiresAt == nil {
			continue
		}
		at := object.Spec.ExpiresAt.Time
		valid := at.After(now)
		if valid && (d.until.IsZero() || at.Before(d.until)) {
			d.until = at
		}
		fmt.Fprint(&beside, valid)
	}
	made, errs := compiled(&d.validating, &d.errs, "validating", beside.String(), policies, compile)
	slices.SortFunc(made, func(a, b *admission.ValidatingPolicy) int {
		return cmp.Or(cmp.Compare(a.Ref().Namespace, b.Ref().Namespace), cmp.Compare(a.Ref().Name, b.Ref().Name))
	})
	return made, errs
}

// compiled compiles the policies that were not compiled before beside the same
// bindings or exceptions, all at once.
func compiled[P interface{ Ref() admission.Ref }](known *memo[P], errs *memo[[]error], what, beside string, policies [][]byte, compile func([][]byte) ([]P, []error)) ([]P, []error) {
	besideErrs, ok := errs.find(what + beside)
	if !ok {
		_, besideErrs = compile(nil)
		errs.put(what+beside, besideErrs)
	}
	failed := slices.Clone(besideErrs)
	var all []P
	var missing [][]byte
	named := map[[2]string]string{}
	for _, item := range policies {
		key := beside + "\x00" + string(item)
		if p, ok := known.find(key); ok {
			all = append(all, p)
			continue
		}
		missing = append(missing, item)
		var object struct{ Metadata metav1.ObjectMeta }
		if json.Unmarshal(item, &object) == nil {
			named[[2]string{object.Metadata.Namespace, object.Metadata.Name}] = key
		}
	}
	if len(missing) == 0 {
		return all, failed
	}
	made, more := compile(missing)
	for _, p := range made {
		if key, ok := named[[2]string{p.Ref().Namespace, p.Ref().Name}]; ok {
			known.put(key, p)
		}
	}
	return append(all, made...), append(failed, more[min(len(besideErrs), len(more)):]...)
}

func digestOf(items [][]byte) string {
	h := sha256.New()
	for _, item := range items {
		sum := sha256.Sum256(item)
		h.Write(sum[:])
	}
	return string(h.Sum(nil))
}
