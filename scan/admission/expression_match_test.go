package admission

import (
	"testing"
)

func TestVAPMatches(t *testing.T) {
	const deny = "validations: [{expression: 'false'}]"
	rule := func(fields string) string {
		return "matchConstraints: {resourceRules: [{" + fields + "}]}\n" + deny
	}
	with := func(more string) string {
		return "matchConstraints: {resourceRules: [" + podRule + "], " + more + "}\n" + deny
	}
	for name, tt := range map[string]struct {
		spec, binding string
		subject       func() Subject
		want          *wanted
	}{
		"creation of pods":                 {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]`), want: refuses},
		"all operations":                   {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: ["*"], resources: [pods]`), want: refuses},
		"all of everything":                {spec: rule(`apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources: ["*"]`), want: refuses},
		"with subresources":                {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: ["pods/*"]`), want: refuses},
		"with all subresources":            {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: ["*/*"]`), want: refuses},
		"only a subresource":               {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods/exec]`)},
		"only subresources of a kind":      {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: ["*/scale"]`)},
		"only updates":                     {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [pods]`)},
		"another group":                    {spec: rule(`apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [pods]`)},
		"another version":                  {spec: rule(`apiGroups: [""], apiVersions: [v2], operations: [CREATE], resources: [pods]`)},
		"another resource":                 {spec: rule(`apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]`)},
		"namespaced":                       {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced`), want: refuses},
		"any scope":                        {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: "*"`), want: refuses},
		"cluster scope":                    {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Cluster`)},
		"a name":                           {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [other, pod]`), want: refuses},
		"another name":                     {spec: rule(`apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [other]`)},
		"no rules are all resources":       {spec: "matchConstraints: {}\n" + deny, want: refuses},
		"an exclusion":                     {spec: with(`excludeResourceRules: [` + podRule + `]`)},
		"an exclusion of another name":     {spec: with(`excludeResourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [other]}]`), want: refuses},
		"an exclusion of updates":          {spec: with(`excludeResourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [pods]}]`), want: refuses},
		"exact":                            {spec: with("matchPolicy: Exact"), want: refuses},
		"the namespace's labels":           {spec: with("namespaceSelector: {matchLabels: {env: prod}}"), want: refuses},
		"labels of another namespace":      {spec: with("namespaceSelector: {matchLabels: {env: test}}")},
		"the namespace's name":             {spec: with("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: space}}"), want: refuses},
		"not in these namespaces":          {spec: with("namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [space]}]}")},
		"the pod's labels":                 {spec: with("objectSelector: {matchLabels: {app: web}}"), want: refuses},
		"labels of another pod":            {spec: with("objectSelector: {matchLabels: {app: db}}")},
		"a label that is not there":        {spec: with("objectSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}")},
		"the binding's namespaces":         {spec: deny, binding: "matchResources: {namespaceSelector: {matchLabels: {env: prod}}}", want: refuses},
		"not the binding's namespaces":     {spec: deny, binding: "matchResources: {namespaceSelector: {matchLabels: {env: test}}}"},
		"not the binding's labels":         {spec: deny, binding: "matchResources: {objectSelector: {matchLabels: {app: db}}}"},
		"the binding excludes":             {spec: deny, binding: "matchResources: {excludeResourceRules: [" + podRule + "]}"},
		"a binding that cannot be read":    {spec: deny, binding: "matchResources: {objectSelector: {matchExpressions: [{key: a, operator: Nonsense}]}}", want: &wanted{Refuses, "", "failed to configure binding"}},
		"it does not match anyway":         {spec: deny, binding: "matchResources: {namespaceSelector: {matchLabels: {env: test}}, objectSelector: {matchExpressions: [{key: a, operator: Nonsense}]}}"},
		"unread namespace, no selector":    {spec: deny, subject: namespaceless, want: refuses},
		"unread namespace, by its name":    {spec: with("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: space}}"), subject: namespaceless, want: refuses},
		"unread namespace, another name":   {spec: with("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other, env: prod}}"), subject: namespaceless},
		"unread namespace, by a label":     {spec: with("namespaceSelector: {matchLabels: {env: prod}}"), subject: namespaceless, want: &wanted{Unknown, "", "label env, and the namespace was not read: forbidden"}},
		"unread namespace, all the same":   {spec: "matchConstraints: {resourceRules: [" + podRule + "], namespaceSelector: {matchLabels: {env: prod}}}\nvalidations: [{expression: 'true'}]", subject: namespaceless, want: admits},
		"unread namespace, and it warns":   {spec: with("namespaceSelector: {matchLabels: {env: prod}}"), binding: "validationActions: [Warn]", subject: namespaceless, want: admits},
		"unread namespace in a validation": {spec: "validations: [{expression: namespaceObject.metadata.name == 'space'}]", subject: namespaceless, want: &wanted{Unknown, "", "the namespace was not read: forbidden"}},
		"unread namespace in a condition":  {spec: deny + "\nmatchConditions: [{name: c, expression: namespaceObject != null}]", subject: namespaceless, want: admits},
	} {
		t.Run(name, func(t *testing.T) {
			s := podSubject()
			if tt.subject != nil {
				s = tt.subject()
			}
			check(t, newVAP(t, tt.spec, tt.binding).Rule(s), tt.want)
		})
	}
}
