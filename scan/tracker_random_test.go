package scan

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// storm changes a cluster at random.
type storm struct {
	*rand.Rand
	*watching
	// texts are the objects by kind and name, so that lists are in their order.
	texts   map[schema.GroupKind]map[string]string
	version int
}

func (s *storm) oneOf(list ...string) string { return list[s.IntN(len(list))] }

func (s *storm) namespace() string { return s.oneOf("shop", "lab", "ops") }

func (s *storm) spec() corev1.PodSpec {
	specs := []func() corev1.PodSpec{
		plain, privileged, plain, plain,
		func() corev1.PodSpec { return adding("SYS_ADMIN") },
		func() corev1.PodSpec { return adding("SYS_ADMIN", "NET_ADMIN") },
		func() corev1.PodSpec { spec := plain(); spec.HostPID = true; return spec },
		func() corev1.PodSpec { spec := privileged(); spec.RuntimeClassName = new("boxed"); return spec },
		func() corev1.PodSpec {
			spec := plain()
			spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}}}
			spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
			return spec
		},
		func() corev1.PodSpec {
			spec := plain()
			spec.InitContainers = []corev1.Container{{Name: "init", Image: "busybox:1", SecurityContext: privileged().Containers[0].SecurityContext}}
			spec.Containers[0].Image = "busybox:1"
			return spec
		},
	}
	return specs[s.IntN(len(specs))]()
}

// dress gives a pod what is not of its spec.
func (s *storm) dress(pod *corev1.Pod) {
	s.version++
	pod.ResourceVersion = fmt.Sprint(s.version)
	pod.Labels = maps.Clone(pod.Labels)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	for _, key := range []string{"app", "tier", "role"} {
		delete(pod.Labels, key)
		if s.IntN(2) == 0 {
			pod.Labels[key] = s.oneOf("a", "b")
		}
	}
	pod.Annotations = nil
	if s.IntN(6) == 0 {
		pod.Annotations = map[string]string{"kubearmor-policy": s.oneOf("audited", "disabled", "enabled")}
	}
	pod.Spec.NodeName = s.oneOf("", "n1", "n1", "n2", "n3", "n4")
	pod.Status.Phase = corev1.PodPhase(s.oneOf("Running", "Running", "Running", "Pending", "Succeeded", "Failed"))
	pod.Status.ContainerStatuses = nil
	for i := range []int{1, 1, 1, 1, 130}[s.IntN(5)] {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: fmt.Sprint(i), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	pod.Spec.EphemeralContainers = nil
	if s.IntN(10) == 0 {
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{debugger()}
	}
}

// podChange adds, changes or deletes a pod.
func (s *storm) podChange() Changes {
	m := s.m
	if n := len(m.pods); n > 0 && (s.IntN(2) == 0 || n > 30) {
		i := s.IntN(n)
		pod := &m.pods[i]
		name := PodName{pod.Namespace, pod.Name}
		switch {
		case s.IntN(2) == 0 || n > 30:
			m.pods = slices.Delete(m.pods, i, i+1)
		case pod.Namespace == "kubearmor":
			// An agent, which is ready or not.
			s.version++
			pod.ResourceVersion = fmt.Sprint(s.version)
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(s.oneOf("True", "False"))}}
			return Changes{Pods: []PodName{name}, Around: true}
		default:
			s.dress(pod)
		}
		return Changes{Pods: []PodName{name}, Around: name.Namespace == "kubearmor"}
	}
	if s.IntN(8) == 0 {
		node := s.oneOf("n1", "n2", "n3")
		nodes := m.nodes
		m.equip(node, nil, true)
		m.nodes = nodes
		pod := &m.pods[len(m.pods)-1]
		m.pods = slices.DeleteFunc(m.pods[:len(m.pods)-1], func(p corev1.Pod) bool { return p.Name == pod.Name })
		s.version++
		added := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kubearmor", Name: "kubearmor-" + node, ResourceVersion: fmt.Sprint(s.version), Labels: map[string]string{"kubearmor-app": "kubearmor"}}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kubearmor", Image: "kubearmor/kubearmor:stable"}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		m.pods = append(m.pods, added)
		return Changes{Pods: []PodName{{"kubearmor", added.Name}}, Around: true}
	}
	ns := s.namespace()
	owner, hash := "", ""
	if s.IntN(5) > 0 {
		hash = s.oneOf("1a", "2b")
		owner = "ReplicaSet/" + s.oneOf("web", "api") + "-" + hash
		if s.IntN(4) == 0 {
			owner, hash = s.oneOf("DaemonSet/agents", "Job/once", "Rollout/x"), ""
		}
		if s.IntN(12) == 0 {
			hash = "forged"
		}
	}
	name := fmt.Sprintf("p-%d", s.IntN(200))
	m.pods = slices.DeleteFunc(m.pods, func(p corev1.Pod) bool { return p.Namespace == ns && p.Name == name+"-0" })
	m.runs(1, ns, name, owner, hash, s.spec())
	pod := &m.pods[len(m.pods)-1]
	pod.CreationTimestamp = metav1.NewTime(s.now.Add(-time.Duration(s.IntN(1000)) * time.Second))
	s.dress(pod)
	return Changes{Pods: []PodName{{ns, pod.Name}}}
}

func (s *storm) ownerChange() Changes {
	ns, object := s.namespace(), s.oneOf("ReplicaSet/web-1a", "ReplicaSet/web-2b", "ReplicaSet/api-1a", "ReplicaSet/api-2b", "Deployment/web", "Deployment/api", "DaemonSet/agents", "Job/once", "CronJob/nightly", "Rollout/x")
	kind := kindOf(object[:slices.Index([]byte(object), '/')])
	name := object[slices.Index([]byte(object), '/')+1:]
	m := s.m
	before := len(m.owners[kind])
	m.owners[kind] = slices.DeleteFunc(slices.Clone(m.owners[kind]), func(o Owner) bool { return o.Namespace == ns && o.Name == name })
	if len(m.owners[kind]) == before || s.IntN(2) == 0 {
		owner, hash := "", ""
		switch kind.Kind {
		case "ReplicaSet":
			owner, hash = "Deployment/"+name[:3], name[4:]
		case "Job":
			owner = "CronJob/nightly"
		}
		m.has(ns, object, owner, hash)
		if s.IntN(5) == 0 {
			list := m.owners[kind]
			list[len(list)-1].UID = types.UID("another")
		}
	}
	return Changes{Owners: []OwnerName{{kind, ns, name}}}
}

func (s *storm) namespaceChange() Changes {
	m := s.m
	name := s.namespace()
	m.namespaces = slices.DeleteFunc(slices.Clone(m.namespaces), func(n corev1.Namespace) bool { return n.Name == name })
	if s.IntN(5) > 0 {
		ns := namespace(name)
		ns.Labels = map[string]string{"kubernetes.io/metadata.name": name, "team": s.oneOf("a", "b")}
		if level := s.oneOf("", "baseline", "restricted", "privileged", "wrong"); level != "" {
			ns.Labels["pod-security.kubernetes.io/"+s.oneOf("enforce", "warn")] = level
		}
		if s.IntN(3) == 0 {
			ns.Annotations = map[string]string{"kubearmor-capabilities-posture": s.oneOf("block", "audit")}
		}
		m.namespaces = append(m.namespaces, ns)
	}
	return Changes{Around: true}
}

func (s *storm) nodeChange() Changes {
	m := s.m
	name := s.oneOf("n1", "n2", "n3")
	pods := m.pods
	m.nodes = slices.DeleteFunc(slices.Clone(m.nodes), func(n corev1.Node) bool { return n.Name == name })
	if s.IntN(4) > 0 {
		labels := map[string]string{"kubearmor.io/enforcer": s.oneOf("bpf", "bpf", "apparmor", "none")}
		if s.IntN(4) == 0 {
			labels = nil
		}
		m.equip(name, labels, true)
		m.nodes[len(m.nodes)-1].Status.NodeInfo.KernelVersion = s.oneOf("6.1.0", "5.4.0")
	}
	m.pods = pods
	return Changes{Around: true}
}

// object puts or deletes an object of a kind.
func (s *storm) object(kind schema.GroupKind, name, text string) Changes {
	if s.texts[kind] == nil {
		s.texts[kind] = map[string]string{}
	}
	if s.texts[kind][name] != "" && s.IntN(3) > 0 {
		text = ""
	}
	if s.texts[kind][name] = text; text == "" {
		delete(s.texts[kind], name)
	}
	s.m.objects[kind] = nil
	for _, key := range slices.Sorted(maps.Keys(s.texts[kind])) {
		s.m.objects[kind] = append(s.m.objects[kind], s.texts[kind][key])
	}
	return Changes{Around: true}
}

func (s *storm) armorChange() Changes {
	name := s.oneOf("one", "two", "three")
	rules := fmt.Sprintf(`"capabilities":{"matchCapabilities":[{"capability":%q}]},"process":{"matchPaths":[{"path":%q}]},"action":%q`,
		s.oneOf("sys_admin", "net_admin", "chown"), s.oneOf("/usr/bin/apt", "/bin/sh"), s.oneOf("Block", "Block", "Audit", "Allow"))
	if s.IntN(3) == 0 {
		return s.object(kindCSP, name, fmt.Sprintf(`{"kind":"KubeArmorClusterPolicy","metadata":{"name":%q},"spec":{"selector":{"matchExpressions":[{"key":"namespace","operator":%q,"values":[%q]}]},%s}}`,
			name, s.oneOf("In", "NotIn"), s.namespace(), rules))
	}
	ns := s.namespace()
	selector := s.oneOf(`{}`, `{"app":"a"}`, `{"tier":"b"}`, `{"role":"a","app":"b"}`, `{"io.cilium/app":"x"}`)
	return s.object(kindKSP, ns+"/"+name, fmt.Sprintf(`{"kind":"KubeArmorPolicy","metadata":{"namespace":%q,"name":%q},"spec":{"selector":{"matchLabels":%s},%s}}`, ns, name, selector, rules))
}

func (s *storm) kyvernoChange() Changes {
	ns, name := s.namespace(), s.oneOf("one", "two")
	match := s.oneOf(`{"any":[{"resources":{"kinds":["Pod"]}}]}`, `{"any":[{"resources":{"kinds":["Pod"],"selector":{"matchLabels":{"app":"a"}}}},{"resources":{"kinds":["Pod"],"selector":{"matchLabels":{"tier":"b"}}}}]}`,
		`{"any":[{"resources":{"kinds":["Pod"],"namespaceSelector":{"matchLabels":{"team":"a"}}}}]}`, `{"any":[{"resources":{"kinds":["Pod"],"names":["p-1*"]}}]}`)
	text := func(kind, meta string) string {
		return fmt.Sprintf(`{"apiVersion":"kyverno.io/v1","kind":%q,"metadata":{%s"name":%q},"spec":{"background":true,"rules":[{"name":"r","match":%s,"validate":{"failureAction":%q,"podSecurity":{"level":"baseline","version":"latest"}}}]},"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Succeeded"}]}}`,
			kind, meta, name, match, s.oneOf("Enforce", "Enforce", "Audit"), s.oneOf("True", "True", "False"))
	}
	switch s.IntN(4) {
	case 0:
		return s.object(kindKyvernoNS, ns+"/"+name, text("Policy", fmt.Sprintf(`"namespace":%q,`, ns)))
	case 1:
		return s.object(kindException, ns+"/"+name, fmt.Sprintf(`{"apiVersion":"kyverno.io/v2","kind":"PolicyException","metadata":{"namespace":%q,"name":%q},"spec":{"exceptions":[{"policyName":%q,"ruleNames":["r"]}],"match":{"any":[{"resources":{"kinds":["Pod"],"namespaces":[%q]}}]}}}`, ns, name, name, s.namespace()))
	}
	return s.object(kindKyverno, name, text("ClusterPolicy", ""))
}

func (s *storm) celChange() Changes {
	ns, name := s.namespace(), s.oneOf("one", "two")
	expression := s.oneOf("!has(object.spec.hostPID)", "object.metadata.?labels.?app.orValue('') != 'a'", "object.spec.containers.all(c, !c.image.startsWith('busybox'))", "namespaceObject.metadata.?labels.?team.orValue('') != 'b'")
	resources := `"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]`
	configMaps := schema.GroupKind{Kind: "ConfigMap"}
	switch s.IntN(6) {
	case 0:
		return s.object(kindVAPBinding, name, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"policyName":%q,"validationActions":[%q],"paramRef":{"name":"limits","namespace":"ops","parameterNotFoundAction":"Deny"}}}`, name, name, s.oneOf("Deny", "Deny", "Warn")))
	case 1:
		return s.object(configMaps, "limits", fmt.Sprintf(`{"metadata":{"namespace":"ops","name":"limits"},"data":{"max":%q}}`, s.oneOf("1", "2")))
	case 2:
		kind, key, meta := kindValidating, name, ""
		if s.IntN(2) == 0 {
			kind, key, meta = kindValidNS, ns+"/"+name, fmt.Sprintf(`"namespace":%q,`, ns)
		}
		return s.object(kind, key, fmt.Sprintf(`{"apiVersion":"policies.kyverno.io/v1","kind":%q,"metadata":{%s"name":%q},"spec":{"validationActions":["Deny"],"matchConstraints":{%s},"validations":[{"expression":%q}]},"status":{"conditionStatus":{"ready":true}}}`, kind.Kind, meta, name, resources, expression))
	case 3:
		until := s.now.Add(time.Duration(s.IntN(60)-10) * time.Second).UTC().Format(time.RFC3339)
		return s.object(kindCELExcept, ns+"/"+name, fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q},"spec":{"policyRefs":[{"name":%q,"kind":"ValidatingPolicy"}],"expiresAt":%q}}`, ns, name, name, until))
	}
	param := ""
	if s.IntN(2) == 0 {
		param, expression = `"paramKind":{"apiVersion":"v1","kind":"ConfigMap"},`, "object.spec.containers.size() < int(params.data.max)"
	}
	return s.object(kindVAP, name, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{%s"failurePolicy":"Fail","matchConstraints":{%s},"validations":[{"expression":%q}]}}`, name, param, resources, expression))
}

// errorChange makes something unreadable, or readable.
func (s *storm) errorChange() Changes {
	m := s.m
	flip := func(err error, to error) error {
		if err != nil {
			return nil
		}
		return to
	}
	flipIn := func(errs map[string]error, key string, to error) {
		if errs[key] = flip(errs[key], to); errs[key] == nil {
			delete(errs, key)
		}
	}
	switch s.IntN(11) {
	case 9:
		m.kyverno = kyvernoPods(s.IntN(2) == 0)[:s.IntN(2)]
	case 10:
		m.kyvernoErr = flip(m.kyvernoErr, forbidden("pods"))
	case 0:
		m.nodesErr = flip(m.nodesErr, forbidden("nodes"))
	case 1:
		m.namespacesErr = flip(m.namespacesErr, errors.New("cut"))
		return Changes{Around: true, AllPods: true}
	case 2:
		flipIn(m.podsErr, "", forbidden("pods"))
		return Changes{AllPods: true}
	case 3:
		flipIn(m.podsErr, s.namespace(), forbidden("pods"))
		return Changes{AllPods: true}
	case 4:
		flipIn(m.objectsErr, s.oneOf("KubeArmorPolicy", "KubeArmorClusterPolicy", "ClusterPolicy", "PolicyException", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingPolicy", "ConfigMap"), forbidden("policies"))
	case 5:
		kind := s.oneOf("ReplicaSet", "Deployment", "Rollout", "Job")
		flipIn(m.ownersErr, kind, forbidden(kind))
		return Changes{OwnerKinds: []schema.GroupVersionKind{kindOf(kind)}}
	case 6:
		m.agentsErr = flip(m.agentsErr, forbidden("pods"))
	case 7:
		m.runtimeErr = flip(m.runtimeErr, forbidden("runtimeclasses"))
		return Changes{Facts: true}
	case 8:
		m.volErr = flip(m.volErr, forbidden("persistentvolumes"))
		return Changes{Facts: true}
	}
	return Changes{Around: true}
}

func (s *storm) factChange() Changes {
	if s.IntN(2) == 0 {
		s.m.runtimeClasses = map[string]string{"boxed": s.oneOf("runsc", "runc", "kata")}
		return Changes{Facts: true}
	}
	s.m.volumes = map[Claim]string{{s.namespace(), "claim"}: s.oneOf("/", "/srv/data", "/etc")}
	return Changes{Facts: true}
}

func (s *storm) exceptionChange() Changes {
	var all []Exception
	for range s.IntN(4) {
		x := Exception{Rule: s.oneOf("escape-privileged", "privileged", "hostNamespaces", "policy-selects-nothing"), Namespace: s.oneOf("", "shop", "lab"), Reason: "known"}
		if s.IntN(2) == 0 {
			x.Expires = s.now.Truncate(24*time.Hour).AddDate(0, 0, s.IntN(3)-1)
		}
		all = append(all, x)
	}
	s.except = all
	s.tracker.SetExceptions(all)
	return Changes{}
}

// change makes one change of any kind.
func (s *storm) change() Changes {
	switch n := s.IntN(44); {
	case n < 20:
		return s.podChange()
	case n < 25:
		return s.ownerChange()
	case n < 27:
		return s.namespaceChange()
	case n < 29:
		return s.nodeChange()
	case n < 32:
		return s.armorChange()
	case n < 34:
		return s.kyvernoChange()
	case n < 36:
		return s.celChange()
	case n < 37:
		return s.factChange()
	case n < 38:
		return s.exceptionChange()
	}
	return s.errorChange()
}

func join(a, b Changes) Changes {
	return Changes{
		Pods: append(a.Pods, b.Pods...), Owners: append(a.Owners, b.Owners...), OwnerKinds: append(a.OwnerKinds, b.OwnerKinds...),
		Around: a.Around || b.Around, Facts: a.Facts || b.Facts, AllPods: a.AllPods || b.AllPods,
	}
}

// weather is a cluster for a storm.
func weather(t *testing.T, seed uint64, opts ClusterOptions) *storm {
	t.Helper()
	m := mirror(&memory{
		version: "v1.36.3", pageSize: 7, namespaces: []corev1.Namespace{namespace("shop"), namespace("lab"), namespace("kubearmor")},
		kyverno: kyvernoPods(true),
		podsErr: map[string]error{}, objectsErr: map[string]error{}, ownersErr: map[string]error{},
		owners: map[schema.GroupVersionKind][]Owner{}, objects: map[schema.GroupKind][]string{},
	})
	m.only = opts.Namespaces
	m.equip("n1", bpf(), true)
	m.equip("n2", bpf(), true)
	m.index()
	s := &storm{Rand: rand.New(rand.NewPCG(seed, 5)), texts: map[schema.GroupKind]map[string]string{}}
	s.watching = watch(t, m, opts)
	var c Changes
	for range 30 {
		c = join(c, join(s.podChange(), s.ownerChange()))
	}
	m.index()
	s.update(c)
	return s
}

// TestPictureOfAnyChanges changes a cluster at random, and compares what was told with a
// new scan again and again.
func TestPictureOfAnyChanges(t *testing.T) {
	t.Parallel()
	picture := func(t *testing.T, seed uint64) {
		t.Parallel()
		opts := []ClusterOptions{{}, {}, {Namespaces: []string{"shop", "nowhere"}}, {Start: Start{Selector: "app"}}}[seed%4]
		s := weather(t, seed, opts)
		s.settle()
		s.check("at first")
		for batch := range 25 {
			var c Changes
			for range 1 + s.IntN(8) {
				c = join(c, s.change())
			}
			s.m.index()
			s.now = s.now.Add(time.Duration(s.IntN(2000)) * time.Millisecond)
			if s.IntN(20) == 0 {
				s.now = s.now.Add(-26 * time.Hour)
			}
			s.update(c)
			if s.IntN(3) > 0 {
				s.settle()
				s.check(fmt.Sprint("batch ", batch))
			}
		}
	}
	for _, seed := range []uint64{0, 1, 2, 3, 36, 187} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { picture(t, seed) })
	}
}
