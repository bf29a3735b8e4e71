package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
)

const (
	// relaySelector selects the pods of KubeArmor's relay, relayPort is where it listens.
	relaySelector = "kubearmor-app=kubearmor-relay"
	relayPort     = 32767
	// relayNamespace is where it is as KubeArmor installs it.
	relayNamespace = "kubearmor"
)

// ErrNoRelay says that KubeArmor's relay is not there, or not ready.
var ErrNoRelay = errors.New("KubeArmor's relay cannot be reached")

// inside tells whether this program runs in a pod of the cluster.
func (c *Cluster) inside() bool {
	own, err := rest.InClusterConfig()
	return err == nil && own.Host == c.config.Host
}

// RelayDialer connects to KubeArmor's relay, which is looked for each time: it need not
// be there yet. While it is not, the error is ErrNoRelay. In the cluster itself it is
// reached by its Service, from outside through the API server: by a pod that is ready
// then, and by another one than the last time where there are several.
func (c *Cluster) RelayDialer() func(ctx context.Context, address string) (net.Conn, error) {
	if !c.inside() {
		return c.dialRelayPod()
	}
	return func(ctx context.Context, _ string) (net.Conn, error) {
		address, err := c.relayService(ctx)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

// RelayNamespace is where KubeArmor's relay is by now, or ErrNoRelay.
func (c *Cluster) RelayNamespace(ctx context.Context) (string, error) {
	pods, err := c.relayPods(ctx)
	if err != nil {
		return "", err
	}
	return pods[0].Namespace, nil
}

func (c *Cluster) dialRelayPod() func(ctx context.Context, address string) (net.Conn, error) {
	var dialled atomic.Uint32
	return func(ctx context.Context, _ string) (net.Conn, error) {
		pods, err := c.relayPods(ctx)
		if err != nil {
			return nil, err
		}
		// Why the last connection ended is not known here. A pod may be ready and not
		// answer all the same.
		pod := &pods[int(dialled.Add(1)-1)%len(pods)]
		return c.DialPod(ctx, pod.Namespace, pod.Name, relayPort)
	}
}

// relayPods finds the pods of the relay that are ready, at least one. They are all in the
// namespace of the first.
func (c *Cluster) relayPods(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := c.LabelledPods(ctx, relaySelector)
	if err != nil {
		return nil, err
	}
	// Whoever may make a pod anywhere can label it like that. KubeArmor's usual place is
	// looked at before all others.
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		if usual := a.Namespace == relayNamespace; usual != (b.Namespace == relayNamespace) {
			if usual {
				return -1
			}
			return 1
		}
		return strings.Compare(objectKey(&a.ObjectMeta), objectKey(&b.ObjectMeta))
	})
	var ready []corev1.Pod
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && slices.ContainsFunc(pods[i].Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) && (len(ready) == 0 || ready[0].Namespace == pods[i].Namespace) {
			ready = append(ready, pods[i])
		}
	}
	if len(ready) > 0 {
		return ready, nil
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("%w: there are no pods labelled %s", ErrNoRelay, relaySelector)
	}
	return nil, fmt.Errorf("%w: of %d pods labelled %s none is ready, %s for one", ErrNoRelay, len(pods), relaySelector, objectKey(&pods[0].ObjectMeta))
}

// relayService is the HOST:PORT of the Service in front of the relay's pods.
func (c *Cluster) relayService(ctx context.Context) (string, error) {
	pods, err := c.relayPods(ctx)
	if err != nil {
		return "", err
	}
	pod := &pods[0]
	var services []corev1.Service
	err = pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]corev1.Service, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Services(pod.Namespace).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(s *corev1.Service) string { return objectKey(&s.ObjectMeta) }, collect(&services))
	if err != nil {
		return "", subject("list services", pod.Namespace, err)
	}
	for i := range services {
		s := &services[i]
		if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, port := range s.Spec.Ports {
			if port.TargetPort.IntValue() == relayPort || port.TargetPort.IntValue() == 0 && port.Port == relayPort {
				return net.JoinHostPort(s.Name+"."+s.Namespace+".svc", strconv.Itoa(int(port.Port))), nil
			}
		}
	}
	return "", fmt.Errorf("%w: no Service in namespace %s leads to port %d of pod %s", ErrNoRelay, pod.Namespace, relayPort, pod.Name)
}
