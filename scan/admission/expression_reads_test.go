package admission

import (
	"reflect"
	"testing"
)

func TestVAPReads(t *testing.T) {
	for name, tt := range map[string]struct {
		spec string
		want Keys
	}{
		"the spec only":                    {"validations: [{expression: size(object.spec.containers) == 1}]", Keys{}},
		"a label":                          {"validations: [{expression: object.metadata.labels.app == 'web'}]", Keys{Labels: []string{"app"}}},
		"a label by index":                 {"validations: [{expression: \"object.metadata.labels['a/b'] == 'web'\"}]", Keys{Labels: []string{"a/b"}}},
		"a label that need not be there":   {"validations: [{expression: \"object.metadata.?labels[?'a/b'].orValue('') == 'web'\"}]", Keys{Labels: []string{"a/b"}}},
		"a label of labels that must be":   {"validations: [{expression: \"object.metadata.labels[?'a/b'].orValue('') == 'web'\"}]", Keys{Labels: []string{"a/b"}, AnyLabels: true}},
		"a label in labels":                {"validations: [{expression: \"'app' in object.metadata.labels\"}]", Keys{Labels: []string{"app"}, AnyLabels: true}},
		"has labels":                       {"validations: [{expression: has(object.metadata.labels)}]", Keys{AnyLabels: true}},
		"labels that are null":             {"validations: [{expression: object.metadata.labels == null}]", Keys{AnyLabels: true}},
		"all labels":                       {"validations: [{expression: \"object.metadata.labels.all(k, k != 'a')\"}]", Keys{AnyLabels: true}},
		"a label that is computed":         {"validations: [{expression: \"object.metadata.labels[object.spec.nodeName] == ''\"}]", Keys{AnyLabels: true}},
		"an annotation":                    {"validations: [{expression: object.metadata.annotations.app == 'web'}]", Keys{Annotations: []string{"app"}}},
		"all annotations":                  {"validations: [{expression: size(object.metadata.annotations) == 1}]", Keys{AnyAnnotations: true}},
		"the name":                         {"validations: [{expression: object.metadata.name == 'a'}]", Keys{Names: true}},
		"the name to be":                   {"validations: [{expression: object.metadata.generateName == 'a'}]", Keys{Names: true}},
		"the name in the request":          {"validations: [{expression: request.name == 'a'}]", Keys{Names: true}},
		"the request":                      {"validations: [{expression: dyn(request) == 1}]", Keys{Names: true}},
		"the owner":                        {"validations: [{expression: size(object.metadata.ownerReferences) == 1}]", Keys{All: true}},
		"the metadata":                     {"variables: [{name: m, expression: object.metadata}]\nvalidations: [{expression: variables.m.name == 'a'}]", Keys{All: true, Containers: true}},
		"the whole pod":                    {"validations: [{expression: \"[object].all(o, o.metadata.name == 'a')\"}]", Keys{All: true}},
		"the namespace is not identity":    {"validations: [{expression: object.metadata.namespace == 'a' && namespaceObject.metadata.name == 'a'}]", Keys{}},
		"the images":                       {"validations: [{expression: \"object.spec.containers.all(c, c.image.startsWith('a/'))\"}]", Keys{Images: true}},
		"whether an image changed":         {"validations: [{expression: \"oldObject == null || object.spec.containers[0].image == oldObject.spec.containers[0].image\"}]", Keys{}},
		"the service account":              {"validations: [{expression: \"object.spec.?serviceAccountName.orValue('') == 'a'\"}]", Keys{Account: true}},
		"the names of containers":          {"validations: [{expression: \"object.spec.containers.all(c, c.name in ['a'])\"}]", Keys{Containers: true}},
		"names that are only told":         {"validations: [{expression: 'false', messageExpression: \"object.spec.containers.map(c, 'in ' + c.name).join(',')\"}]", Keys{}},
		"in a condition":                   {"matchConditions: [{name: c, expression: object.metadata.labels.b == ''}]\nvalidations: [{expression: object.metadata.labels.a == 'web'}]", Keys{Labels: []string{"a", "b"}}},
		"in a message":                     {"validations: [{expression: 'false', messageExpression: object.metadata.name}]", Keys{Names: true}},
		"in a map, a list and a condition": {"validations: [{expression: \"{'a': [object.metadata.name == 'x' ? 1 : 2]}.size() == 1\"}]", Keys{Names: true}},
		"in the selector":                  {"matchConstraints: {resourceRules: [" + podRule + "], objectSelector: {matchLabels: {app: a}}}\nvalidations: [{expression: 'false'}]", Keys{Labels: []string{"app"}}},
		"in the names of the rule":         {"matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [a]}]}\nvalidations: [{expression: 'false'}]", Keys{Names: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newVAP(t, tt.spec, "").Reads(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("reads %+v, want %+v", got, tt.want)
			}
		})
	}
	t.Run("in the binding's selector", func(t *testing.T) {
		v := newVAP(t, "validations: [{expression: 'false'}]", "matchResources: {objectSelector: {matchLabels: {tier: a}}}")
		if got, want := v.Reads(), (Keys{Labels: []string{"tier"}}); !reflect.DeepEqual(got, want) {
			t.Errorf("reads %+v, want %+v", got, want)
		}
	})
}
