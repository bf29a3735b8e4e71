package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ProbeLogSelector selects the pods of the node probe, in whose logs it reports.
const ProbeLogSelector = "app.kubernetes.io/part-of=escape-scanner,app.kubernetes.io/component=node-probe"

// MaxProbeInterval is the longest time from one report of the node probe to the next.
const MaxProbeInterval = 24 * time.Hour

const (
	// logLines and maxLog are how much of the end of a log is read. A report has some KiB, and
	// what is over the limit is cut off at the end, where the last report is.
	logLines = 5
	maxLog   = 256 << 10
	// logsAtOnce is how many logs are read at a time.
	logsAtOnce = 8
	// clockSkew is how far the clocks of nodes may be apart, and how much later than due a
	// report may come.
	clockSkew = 5 * time.Minute
)

// ProbeLogs reads what the node probe has last said of each node, in the logs of its pods.
// Nothing is made for it. A node without a report that can be believed has a reason in why;
// a node without a pod is in neither.
//
// A log is what its pod writes, and whoever may create pods in the namespace may write
// there what he likes. What is checked is what costs nothing to check: that the pod says to
// be of a DaemonSet and is the only one on its node, that the report is of that node, new,
// and says nothing that its pod cannot know.
func (c *Cluster) ProbeLogs(ctx context.Context, namespace string, now time.Time) (reports map[string]*kernel.Machine, why map[string]string, err error) {
	options := c.page()
	options.LabelSelector = ProbeLogSelector
	var pods []corev1.Pod
	err = pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]corev1.Pod, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Pods(namespace).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(p *corev1.Pod) string { return objectKey(&p.ObjectMeta) }, collect(&pods))
	if err != nil {
		return nil, nil, subject("pods of the node probe", namespace, err)
	}
	chosen, why := probeOfNodes(pods)
	reports = map[string]*kernel.Machine{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	free := make(chan struct{}, logsAtOnce)
	for node, pod := range chosen {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			report, err := c.lastReport(ctx, pod, now)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				why[node] = err.Error()
				return
			}
			reports[node] = report
		})
	}
	wg.Wait()
	return reports, why, ctx.Err()
}

// probeOfNodes is the pod of the node probe on each node, or why there is none to believe.
func probeOfNodes(pods []corev1.Pod) (chosen map[string]*corev1.Pod, why map[string]string) {
	chosen, why = map[string]*corev1.Pod{}, map[string]string{}
	several := map[string][]string{}
	for i := range pods {
		pod := &pods[i]
		node := nodeOfPod(pod)
		switch {
		case node == "" || pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
			// What is over, or on its way out, has a successor.
		case !ofDaemonSet(pod):
			if why[node] == "" {
				why[node] = "pod " + pod.Namespace + "/" + pod.Name + " is labelled as the node probe, but no DaemonSet owns it"
			}
		default:
			chosen[node] = pod
			several[node] = append(several[node], pod.Name)
		}
	}
	for node, names := range several {
		if delete(why, node); len(names) > 1 {
			delete(chosen, node)
			slices.Sort(names)
			why[node] = fmt.Sprintf("%d pods are labelled as its node probe, and which one is cannot be told: %s", len(names), some(names))
		}
	}
	return chosen, why
}

func ofDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet" && strings.HasPrefix(owner.APIVersion, "apps/")
}

// lastReport reads the last report in the log of a pod of the node probe.
func (c *Cluster) lastReport(ctx context.Context, pod *corev1.Pod, now time.Time) (*kernel.Machine, error) {
	name := pod.Namespace + "/" + pod.Name
	started, why := runningSince(pod)
	if why != "" {
		return nil, fmt.Errorf("node probe %s: %s", name, why)
	}
	var text []byte
	err := c.retry.do(ctx, func() (err error) {
		text, err = c.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
			Container: probeContainer, TailLines: new(int64(logLines)), LimitBytes: new(int64(maxLog)),
		}).DoRaw(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("log of node probe %s: %w", name, err)
	}
	m, err := lastLine(text)
	if err == nil {
		err = believe(m, pod, started, now)
	}
	if err != nil {
		return nil, fmt.Errorf("log of node probe %s: %w", name, err)
	}
	m.Node, m.Pod = pod.Spec.NodeName, name
	return m, nil
}

// runningSince is when the container of the node probe was started, or why it does not run.
func runningSince(pod *corev1.Pod) (time.Time, string) {
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if s.Name == probeContainer && s.State.Running != nil {
			return s.State.Running.StartedAt.Time, ""
		}
	}
	if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == probeContainer }) {
		return time.Time{}, "it has no container " + probeContainer
	}
	if why := cannotRun(pod); why != "" {
		return time.Time{}, why
	}
	return time.Time{}, podState(pod)
}

// lastLine is the last report in a log, of which a line may be cut at both ends.
func lastLine(text []byte) (*kernel.Machine, error) {
	lines := bytes.Split(text, []byte("\n"))
	var broken error
	for _, line := range slices.Backward(lines) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var m kernel.Machine
		err := json.Unmarshal(line, &m)
		if err == nil {
			if err = checkReport(&m); err == nil {
				boundReport(&m)
				return &m, nil
			}
		}
		if broken == nil {
			broken = err
		}
	}
	if broken != nil {
		return nil, fmt.Errorf("no report at its end: %w", broken)
	}
	return nil, fmt.Errorf("no report at its end: %q", shorten(string(bytes.TrimSpace(text)), maxAnswer))
}

// believe finds out whether a report can be what the node probe says of the node.
func believe(m *kernel.Machine, pod *corev1.Pod, started, now time.Time) error {
	switch {
	case m.Node != "" && m.Node != pod.Spec.NodeName && m.Node != pod.Name:
		return fmt.Errorf("the report is of another machine, %q", shorten(m.Node, maxAnswer))
	case m.EverySeconds <= 0:
		return errors.New("the report does not say when the next one is due: is the probe run with --every?")
	case m.Time.After(now.Add(clockSkew)):
		return fmt.Errorf("the report is of %s, which is yet to come: do the clocks agree?", m.Time.UTC().Format(time.RFC3339))
	case m.Time.Before(started.Add(-clockSkew)):
		return fmt.Errorf("the report is of %s, before its container was started", m.Time.UTC().Format(time.RFC3339))
	case TooOld(m, now):
		return fmt.Errorf("the last report is of %s, and one is due every %s: the probe does not report any more", m.Time.UTC().Format(time.RFC3339), dueEvery(m))
	case m.Loads != kernel.Unknown && !mayLoad(pod):
		return errors.New("the report tells of a BPF program that its pod may not load")
	}
	return nil
}

// dueEvery is the interval of a report's probe, as far as it is believed.
func dueEvery(m *kernel.Machine) time.Duration {
	return time.Duration(min(m.EverySeconds, int64(MaxProbeInterval/time.Second))) * time.Second
}

// TooOld tells whether a report of the node probe says nothing of now any more: a second
// one should have followed.
func TooOld(m *kernel.Machine, now time.Time) bool { return now.Sub(m.Time) > 2*dueEvery(m)+clockSkew }

// mayLoad tells whether the node probe could load BPF programs.
func mayLoad(pod *corev1.Pod) bool {
	for i := range pod.Spec.Containers {
		s := pod.Spec.Containers[i].SecurityContext
		if pod.Spec.Containers[i].Name != probeContainer || s == nil {
			continue
		}
		if s.Privileged != nil && *s.Privileged {
			return true
		}
		return s.Capabilities != nil && slices.ContainsFunc(s.Capabilities.Add, func(added corev1.Capability) bool {
			return slices.Contains([]string{"BPF", "SYS_ADMIN", "ALL"}, strings.TrimPrefix(strings.ToUpper(string(added)), "CAP_"))
		})
	}
	return false
}

// boundReport cuts the texts of a report to what one of ours has.
func boundReport(m *kernel.Machine) {
	texts := []*string{&m.Architecture, &m.Kernel, &m.OSImage, &m.Reason}
	for _, r := range []*kernel.Reading{&m.LSMs, &m.Lockdown, &m.BTF, &m.BPFFS, &m.Config, &m.ConfigLSM, &m.CommandLine, &m.Load} {
		texts = append(texts, &r.Value, &r.Source, &r.Error)
	}
	for _, text := range texts {
		*text = shorten(*text, maxAnswer)
	}
}
