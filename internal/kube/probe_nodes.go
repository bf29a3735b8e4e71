package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

const (
	// cleanupTime is how long the removal of a DaemonSet may take, after whatever
	// ended the check.
	cleanupTime = 30 * time.Second
	// lateCreation is how long after a lost answer the API server may still carry out
	// the request.
	lateCreation = 2 * time.Second
	// maxReport bounds what is read of a pod's log. A report has some 4 KiB.
	maxReport = 256 << 10
)

// ProbeNodes checks nodes by the DaemonSet that the probe describes, and removes it
// whatever comes: an error, the deadline, a cancelled context, or a creation that
// seemed to fail. A node without a report has a reason in why. The error is one that
// touched all nodes, or that something was left behind.
//
// DaemonSets that earlier runs left behind, for they were killed, are removed too.
func (c *Cluster) ProbeNodes(ctx context.Context, p *NodeProbe, nodes []string) (reports map[string]*kernel.Machine, why map[string]string, err error) {
	collected := &collection{reports: map[string]*kernel.Machine{}, why: map[string]string{}, waiting: map[string]bool{}}
	for _, node := range nodes {
		collected.waiting[node] = true
	}
	if err := c.leaveOut(ctx, collected); err != nil {
		return nil, nil, err
	}
	if len(collected.waiting) == 0 {
		return collected.reports, collected.why, nil
	}
	if err := c.mayProbe(ctx, p); err != nil {
		return nil, nil, err
	}
	made, late := true, time.Duration(0)
	defer func() {
		if made {
			err = errors.Join(err, c.removeProbe(ctx, p.set.Namespace, p.set.Name, late))
		}
	}()
	created, err := c.client.AppsV1().DaemonSets(p.set.Namespace).Create(ctx, p.set.DeepCopy(), metav1.CreateOptions{})
	if err != nil {
		made, late = !refused(err), lateCreation
		return nil, nil, subject("create DaemonSet "+p.set.Name, p.set.Namespace, err)
	}
	leftBehind := c.removeLeftovers(ctx, p, created)
	err = c.await(ctx, p, collected)
	return collected.reports, collected.why, errors.Join(subject("check of nodes", p.set.Namespace, err), leftBehind)
}

// refused reports whether the API server has said that it made nothing. After any
// other error it may have made it all the same.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsNotFound(err)
}

// await looks at the pods until every node has reported or cannot, or the time is up.
func (c *Cluster) await(ctx context.Context, p *NodeProbe, collected *collection) error {
	limited, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	err := wait.PollUntilContextCancel(limited, p.opts.Poll, true, func(ctx context.Context) (bool, error) {
		pods, err := c.probePods(ctx, p)
		if err != nil {
			// The next look may go through, until the time is up.
			collected.trouble = err
			return false, permanent(err)
		}
		collected.trouble = nil
		for i := range pods {
			c.collect(ctx, collected, &pods[i])
		}
		return len(collected.waiting) == 0, nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		collected.giveUp(p.opts.Timeout)
		return nil
	}
	return err
}

// permanent is the error when there is no use in asking again.
func permanent(err error) error {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return err
	}
	return nil
}

// collection is what is known of the nodes so far.
type collection struct {
	reports map[string]*kernel.Machine
	why     map[string]string
	waiting map[string]bool
	// trouble is why the pods could not be looked at, the last time.
	trouble error
	// last is what was last seen of a node that is waited for.
	last map[string]string
}

func (c *collection) failed(node, why string) {
	c.why[node] = why
	delete(c.waiting, node)
}

// seen notes how far a node is.
func (c *collection) seen(node, state string) {
	if c.last == nil {
		c.last = map[string]string{}
	}
	c.last[node] = state
}

func (c *collection) giveUp(after time.Duration) {
	for node := range c.waiting {
		why := "no pod of the check was started there"
		if state := c.last[node]; state != "" {
			why = state
		}
		if c.trouble != nil {
			why += "; its pods could not be looked at: " + c.trouble.Error()
		}
		c.why[node] = fmt.Sprintf("no report within %s: %s", after, why)
	}
	clear(c.waiting)
}

// leaveOut takes out the nodes that need not be waited for.
func (c *Cluster) leaveOut(ctx context.Context, collected *collection) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for i := range nodes {
		n := &nodes[i]
		there[n.Name] = true
		if !collected.waiting[n.Name] {
			continue
		}
		if os := n.Status.NodeInfo.OperatingSystem; os != "" && os != "linux" {
			collected.failed(n.Name, "it runs "+os+", and BPF-LSM is Linux's")
		} else if why := notReady(n); why != "" {
			collected.failed(n.Name, why)
		}
	}
	for node := range collected.waiting {
		if !there[node] {
			collected.failed(node, "there is no such node any more")
		}
	}
	return nil
}

func notReady(n *corev1.Node) string {
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
			return strings.Join(nonEmpty("the node is not ready", condition.Reason, condition.Message), ": ")
		}
	}
	return ""
}

// mayProbe asks by a dry run whether the namespace takes the probe's pods, since
// nobody tells a DaemonSet's maker that its pods are refused.
func (c *Cluster) mayProbe(ctx context.Context, p *NodeProbe) error {
	pod := &corev1.Pod{
		ObjectMeta: *p.set.Spec.Template.ObjectMeta.DeepCopy(), Spec: *p.set.Spec.Template.Spec.DeepCopy(),
	}
	pod.Namespace, pod.GenerateName = p.set.Namespace, p.set.Name+"-"
	ruling, err := c.AskServer(ctx, pod)
	switch {
	case err != nil && !apierrors.IsForbidden(err):
		return err
	case ruling.Answer == admission.Refuses:
		return fmt.Errorf("namespace %s does not admit the check's pods: %s", p.set.Namespace, ruling.Message)
	}
	// Not to know is no reason not to try.
	return nil
}

func (c *Cluster) probePods(ctx context.Context, p *NodeProbe) ([]corev1.Pod, error) {
	options := c.page()
	options.LabelSelector = metav1.FormatLabelSelector(p.set.Spec.Selector)
	var pods []corev1.Pod
	err := pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]corev1.Pod, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Pods(p.set.Namespace).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(p *corev1.Pod) string { return objectKey(&p.ObjectMeta) }, collect(&pods))
	return pods, err
}

// collect takes what a pod of the check tells by now.
func (c *Cluster) collect(ctx context.Context, collected *collection, pod *corev1.Pod) {
	node := nodeOfPod(pod)
	if !collected.waiting[node] {
		return
	}
	ended, previous := endedRun(pod)
	if ended == nil {
		if why := cannotRun(pod); why != "" {
			collected.failed(node, why)
			return
		}
		collected.seen(node, podState(pod))
		return
	}
	report, err := c.report(ctx, pod, previous)
	switch {
	case err == nil:
		report.Node = node
		collected.reports[node] = report
		delete(collected.waiting, node)
	case permanent(err) == nil && isStatus(err):
		// The kubelet does not answer, or has just started the container anew.
		collected.seen(node, err.Error())
	default:
		collected.failed(node, fmt.Sprintf("%v (the check ended with exit code %d)", err, ended.ExitCode))
	}
}

// isStatus reports whether the API server answered with an error, which may pass.
func isStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) || broken(err)
}

// report reads a pod's log.
func (c *Cluster) report(ctx context.Context, pod *corev1.Pod, previous bool) (*kernel.Machine, error) {
	what := "log of pod " + pod.Namespace + "/" + pod.Name
	text, err := c.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: probeContainer, Previous: previous, LimitBytes: new(int64(maxReport)),
	}).DoRaw(ctx)
	if err != nil {
		return nil, subject(what, "", err)
	}
	machine, err := decodeReport(text)
	return machine, subject(what, "", err)
}

// removeProbe deletes a DaemonSet, and with it its pods, though the context may have
// ended. One that is not there may come to be as late as that.
func (c *Cluster) removeProbe(ctx context.Context, namespace, name string, late time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	remove := func() error {
		return c.retry.do(ctx, func() error {
			return c.client.AppsV1().DaemonSets(namespace).Delete(ctx, name, metav1.DeleteOptions{
				PropagationPolicy: new(metav1.DeletePropagationBackground),
			})
		})
	}
	err := remove()
	if apierrors.IsNotFound(err) && late > 0 {
		// The last answer counts, not that the time was up.
		_ = wait.PollUntilContextTimeout(ctx, late/4, late, false, func(context.Context) (bool, error) {
			err = remove()
			return !apierrors.IsNotFound(err), nil
		})
	}
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("DaemonSet %s is left behind in namespace %s, where it keeps running (kubectl delete daemonset -n %s %s): %w",
		name, namespace, namespace, name, err)
}

// removeLeftovers deletes the DaemonSets of runs that are over by their own account.
// Times are the API server's alone.
func (c *Cluster) removeLeftovers(ctx context.Context, p *NodeProbe, created *appsv1.DaemonSet) error {
	list, err := c.client.AppsV1().DaemonSets(p.set.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(metav1.SetAsLabelSelector(probeLabels())),
	})
	if apierrors.IsForbidden(err) {
		// Whoever may not look need not find.
		return nil
	}
	if err != nil {
		return subject("DaemonSets left behind by earlier runs", p.set.Namespace, err)
	}
	var failed []error
	for i := range list.Items {
		old := &list.Items[i]
		lifetime, err := time.ParseDuration(old.Annotations[lifetimeAnnotation])
		if old.Name == created.Name || !strings.HasPrefix(old.Name, probePrefix) || err != nil ||
			created.CreationTimestamp.Sub(old.CreationTimestamp.Time) <= lifetime {
			continue
		}
		if err := c.removeProbe(ctx, old.Namespace, old.Name, 0); err != nil {
			failed = append(failed, err)
			continue
		}
		p.opts.note(fmt.Sprintf("removed DaemonSet %s/%s, which a run of %s left behind", old.Namespace, old.Name, old.CreationTimestamp.UTC().Format(time.RFC3339)))
	}
	return errors.Join(failed...)
}

// endedRun is the last run of the check in a pod, nil when there was none yet.
// previous tells that the container has been started anew since.
func endedRun(pod *corev1.Pod) (ended *corev1.ContainerStateTerminated, previous bool) {
	i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == probeContainer })
	if i < 0 {
		return nil, false
	}
	status := &pod.Status.ContainerStatuses[i]
	if status.State.Terminated != nil {
		return status.State.Terminated, false
	}
	// A container that waits to be started anew still has the log of its last run.
	return status.LastTerminationState.Terminated, status.State.Running != nil
}
