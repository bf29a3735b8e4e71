package admission

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestKyvernoPreconditionsOnLabels(t *testing.T) {
	t.Parallel()
	label := func(key, value string) string {
		return `{key: '{{ request.object.metadata.labels."` + key + `" == ''` + value + `'' }}', operator: Equals, value: true}`
	}
	opaque := `{key: '{{ request.operation }}', operator: Equals, value: CREATE}`
	for name, test := range map[string]struct {
		preconditions string
		labels        map[string]string
		want          Answer
	}{
		"the label is there":             {"{all: [" + label("app", "web") + "]}", map[string]string{"app": "web"}, Refuses},
		"another value":                  {"{all: [" + label("app", "web") + "]}", map[string]string{"app": "api"}, Admits},
		"no labels":                      {"{all: [" + label("app", "web") + "]}", nil, Admits},
		"an empty value that is there":   {"{all: [" + label("app", "") + "]}", map[string]string{"app": ""}, Refuses},
		"an empty value that is missing": {"{all: [" + label("app", "") + "]}", nil, Admits},
		"a key without quotes": {`{all: [{key: '{{request.object.metadata.labels.app == ''web''}}', operator: Equals, value: true}]}`,
			map[string]string{"app": "web"}, Refuses},
		"all, and one is missing":        {"{all: [" + label("app", "web") + "," + label("a.b/c", "d") + "]}", map[string]string{"app": "web"}, Admits},
		"any, and one is there":          {"{any: [" + label("app", "web") + "," + label("a.b/c", "d") + "]}", map[string]string{"app": "web"}, Refuses},
		"any, and none is there":         {"{any: [" + label("app", "web") + "]}", nil, Admits},
		"the older list":                 {"[" + label("app", "web") + "]", map[string]string{"app": "web"}, Refuses},
		"something else, and it decides": {"{all: [" + label("app", "web") + "," + opaque + "]}", map[string]string{"app": "web"}, Unknown},
		"something else does not decide": {"{all: [" + label("app", "web") + "," + opaque + "]}", nil, Admits},
		"false is asked for": {`{all: [{key: '{{ request.object.metadata.labels.app == ''web'' }}', operator: Equals, value: false}]}`,
			map[string]string{"app": "web"}, Unknown},
		"another operator": {`{all: [{key: '{{ request.object.metadata.labels.app == ''web'' }}', operator: NotEquals, value: true}]}`,
			map[string]string{"app": "web"}, Unknown},
		"not a condition": {`{all: web}`, nil, Unknown},
		"unknown parts":   {`{none: []}`, nil, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := kyverno(t, rule(pods, enforce, "preconditions: "+test.preconditions))
			d, causes := judged(t, []*KyvernoRules{p}, nil, func(s *Subject) {
				s.Pod = podOf(func(pod *corev1.Pod) { hostPID(pod); pod.Labels = test.labels })
			})
			if d.Answer != test.want || len(causes) > 0 {
				t.Errorf("%s (%s) %v, want %s", d.Answer, d.Reason, causes, test.want)
			}
		})
	}
}

func TestKyvernoPreconditionsKeepAutogenAndSayWhatTheyRead(t *testing.T) {
	t.Parallel()
	p := kyverno(t, rule(pods, enforce, `preconditions: {all: [{key: '{{ request.object.metadata.labels."a.b/c" == ''d'' }}', operator: Equals, value: true}]}`))
	if faults := p.Faults(); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
	if keys := p.reads(); !slices.Equal(keys.Labels, []string{"a.b/c"}) {
		t.Errorf("reads %v", keys)
	}
	if labels := p.SelectorLabels(); labels["a.b/c"] != "d" {
		t.Errorf("selects by %v", labels)
	}
}
