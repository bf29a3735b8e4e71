package kubetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Crowd is what a busy cluster runs, of any size: Deployments, each with the
// ReplicaSets of its past, and the pods of the newest. A pod is
// about 4 kB, and 7 kB with what a server adds. One Deployment in ten has something
// to find, and all differ in what rules read.
type Crowd struct {
	Namespaces, Deployments int
	// ReplicaSets and Pods count those of one Deployment.
	ReplicaSets, Pods int
}

// Namespace is the name of a Deployment's namespace.
func (c Crowd) Namespace(deployment int) string {
	return fmt.Sprintf("team-%03d", deployment%c.Namespaces)
}

func (c Crowd) meta(name string, deployment int, owners ...metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: c.Namespace(deployment), Name: name, UID: types.UID("uid-of-" + name), OwnerReferences: owners,
		CreationTimestamp: metav1.Unix(1_760_000_000+int64(deployment), 0),
		Labels: map[string]string{
			"app": crowdName(deployment), "app.kubernetes.io/part-of": "crowd", "app.kubernetes.io/managed-by": "Helm",
			"helm.sh/chart": crowdName(deployment) + "-1.2.3",
		},
	}
}

func crowdName(deployment int) string { return fmt.Sprintf("service-%05d", deployment) }

// crowdHash looks like the hash of a pod template: the newest is the last.
func crowdHash(deployment, set int) string { return fmt.Sprintf("%x", 0x5d8f000000+deployment*64+set) }

func controlledBy(kind string, m metav1.ObjectMeta) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "apps/v1", Kind: kind, Name: m.Name, UID: m.UID, Controller: new(true), BlockOwnerDeletion: new(true)}
}

// Deployment is one of the Deployments.
func (c Crowd) Deployment(deployment int) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: c.meta(crowdName(deployment), deployment),
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": crowdName(deployment)}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": crowdName(deployment)}}, Spec: crowdSpec(deployment)},
		},
	}
}

// ReplicaSet is one of the ReplicaSets of a Deployment.
func (c Crowd) ReplicaSet(owner *appsv1.Deployment, deployment, set int) *appsv1.ReplicaSet {
	hash := crowdHash(deployment, set)
	r := &appsv1.ReplicaSet{
		ObjectMeta: c.meta(owner.Name+"-"+hash, deployment, controlledBy("Deployment", owner.ObjectMeta)),
		Spec:       appsv1.ReplicaSetSpec{Selector: owner.Spec.Selector, Template: owner.Spec.Template},
	}
	r.Labels["pod-template-hash"] = hash
	return r
}

// Pod is one of the pods of a ReplicaSet.
func (c Crowd) Pod(owner *appsv1.ReplicaSet, deployment, pod int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: c.meta(fmt.Sprintf("%s-%05d", owner.Name, pod), deployment, controlledBy("ReplicaSet", owner.ObjectMeta)),
		Spec:       crowdSpec(deployment),
	}
	p.Labels["pod-template-hash"] = owner.Labels["pod-template-hash"]
	p.Annotations = map[string]string{
		"checksum/config":                 strings.Repeat("c0ffee", 11),
		"prometheus.io/scrape":            "true",
		"cni.example/network-status":      fmt.Sprintf(`[{"name":"overlay","interface":"eth0","ips":["10.%d.%d.%d"],"mac":"0a:58:0a:00:00:01","default":true,"dns":{}}]`, deployment%200, pod/250, pod%250),
		"kubectl.example/restartedAt":     "2026-05-04T03:02:01Z",
		"sidecar.example/injected-config": strings.Repeat("y", 300),
	}
	p.Spec.NodeName = fmt.Sprintf("node-%03d", (deployment+pod)%200)
	// The API server gives every pod such a volume, with a name of its own.
	token := fmt.Sprintf("kube-api-access-%05x", deployment*1000+pod)
	p.Spec.Volumes[len(p.Spec.Volumes)-1].Name = token
	for i := range p.Spec.Containers {
		mounts := p.Spec.Containers[i].VolumeMounts
		mounts[len(mounts)-1].Name = token
	}
	return p
}

// crowdSpec is the spec of the pods of a Deployment.
func crowdSpec(deployment int) corev1.PodSpec {
	spec := corev1.PodSpec{
		ServiceAccountName: "default",
		Containers:         []corev1.Container{crowdContainer("app", deployment, 8080), crowdContainer("proxy", deployment, 8081)},
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
		},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3607))}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
			}}}},
		},
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "topology.kubernetes.io/zone", WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": crowdName(deployment)}},
		}},
	}
	app := spec.Containers[0].SecurityContext
	switch deployment % 40 {
	case 0:
		app.Privileged, app.AllowPrivilegeEscalation = new(true), nil
	case 10:
		spec.HostNetwork, spec.HostPID = true, true
	case 20:
		spec.Volumes[1].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}
	case 30:
		app.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"}
	}
	return spec
}

func crowdContainer(name string, deployment int, port int32) corev1.Container {
	c := corev1.Container{
		Name:  name,
		Image: fmt.Sprintf("registry.example/team/%s-%s:v1.2.3@sha256:%064x", crowdName(deployment), name, deployment),
		Args:  []string{"--config=/etc/app/config.yaml", "--listen=:8080", "--log-format=json", "--log-level=info"},
		Ports: []corev1.ContainerPort{{Name: name, ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: "/etc/app", ReadOnly: true}, {Name: "tmp", MountPath: "/tmp"},
			{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	for i := range 4 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%02d", i), Value: "https://service.example.internal:8443/path"})
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}})
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(port)}},
		PeriodSeconds: 10, TimeoutSeconds: 1,
	}
	return c
}

// Create makes all of it in a server. Nothing takes it back.
func (c Crowd) Create(tb testing.TB, server *Server) {
	tb.Helper()
	config := server.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	for n := range c.Namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace(n)}}
		if _, err := client.CoreV1().Namespaces().Create(tb.Context(), namespace, metav1.CreateOptions{}); err != nil {
			tb.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancelCause(tb.Context())
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for deployment := range next {
				if err := c.create(ctx, client, deployment); err != nil {
					cancel(err)
				}
			}
		})
	}
	began := time.Now()
	for deployment := range c.Deployments {
		next <- deployment
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		tb.Fatalf("crowd: %v", err)
	}
	tb.Logf("made %d pods in %v", c.Deployments*c.Pods, time.Since(began).Round(time.Second))
}

func (c Crowd) create(ctx context.Context, client kubernetes.Interface, deployment int) error {
	apps := client.AppsV1()
	owner, err := apps.Deployments(c.Namespace(deployment)).Create(ctx, c.Deployment(deployment), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	var newest *appsv1.ReplicaSet
	for set := range c.ReplicaSets {
		newest, err = apps.ReplicaSets(owner.Namespace).Create(ctx, c.ReplicaSet(owner, deployment, set), metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	for pod := range c.Pods {
		_, err := client.CoreV1().Pods(owner.Namespace).Create(ctx, c.Pod(newest, deployment, pod), metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	return nil
}
