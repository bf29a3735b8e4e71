package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

const (
	// mirrorAnnotation marks the API server's image of a pod that a kubelet runs by
	// itself.
	mirrorAnnotation = "kubernetes.io/config.mirror"
	// tokenMount is where the API server mounts the token that it gives each pod, in
	// a volume whose name begins with tokenVolume.
	tokenMount  = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume = "kube-api-access-"
	// maxAnswer is how much of the server's answer is kept: webhooks write what they
	// like.
	maxAnswer = 1024
)

// AskServer asks the API server, by a dry run that creates nothing, whether it would
// create a pod like this one. The answer is the one for the user of this client:
// who is exempt from a policy is told something else than who is not.
//
// Only a refusal that says that a policy refuses is one. That a quota is used up, or a
// webhook does not answer, is unknown. That the user may not ask is unknown, too, and an
// error: a forbidden one.
func (c *Cluster) AskServer(ctx context.Context, pod *corev1.Pod) (admission.Ruling, error) {
	ruling := admission.Ruling{
		By:     admission.Ref{Mechanism: admission.AskedServer, Name: pod.Namespace},
		Answer: admission.Unknown,
	}
	if _, mirror := pod.Annotations[mirrorAnnotation]; mirror {
		ruling.Message = "a static pod: its kubelet runs it without asking the API server"
		return ruling, nil
	}
	fresh := likeNew(pod)
	retry := retryPolicy{c.retry.backoff, func(err error) bool { return apierrors.IsTooManyRequests(err) || broken(err) }}
	err := retry.do(ctx, func() error {
		_, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, fresh, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	var status apierrors.APIStatus
	switch {
	case err == nil:
		ruling.Answer = admission.Admits
	case ctx.Err() != nil || !errors.As(err, &status):
		return ruling, subject("dry run of pod "+cmp.Or(fresh.Name, fresh.GenerateName), pod.Namespace, err)
	case apierrors.IsAlreadyExists(err) && fresh.Name != "":
		// The name is looked for last, when all of admission has agreed.
		ruling.Answer = admission.Admits
	default:
		ruling.Answer, ruling.By.Rule, ruling.Message = readRefusal(status.Status())
		if mayNotAsk(status.Status()) {
			return ruling, subject("dry run of pods", pod.Namespace, err)
		}
	}
	return ruling, nil
}

// The ways in which policies refuse. What stands before is written by the server,
// with names that hold neither quotes nor spaces, so no name can pretend to be a
// refusal.
var (
	forbiddenPrefix = regexp.MustCompile(`^pods( "[^" ]*")? is forbidden: `)
	refusals        = []struct {
		text *regexp.Regexp
		rule string
	}{
		{regexp.MustCompile(`^violates PodSecurity "([^"]*)": `), "PodSecurity %s"},
		{regexp.MustCompile(`^ValidatingAdmissionPolicy '([^']*)' (?:with binding '[^']*' )?denied request: `), "ValidatingAdmissionPolicy %s"},
		{regexp.MustCompile(`^admission webhook "([^"]*)" denied the request`), "webhook %s"},
	}
)

// readRefusal tells a refusal by a policy, and which policy that is, from all else
// that keeps a pod from being created.
func readRefusal(status metav1.Status) (answer admission.Answer, rule, message string) {
	text := refusalText(status)
	for _, r := range refusals {
		if found := r.text.FindStringSubmatch(text); found != nil {
			return admission.Refuses, fmt.Sprintf(r.rule, found[1]), shorten(text, maxAnswer)
		}
	}
	message = shorten(text, maxAnswer)
	switch {
	case mayNotAsk(status):
		message = "not allowed to ask: " + message
	case strings.Contains(text, "does not support dry run"):
		message = "cannot be asked: " + message
	}
	return admission.Unknown, "", message
}

// refusalText is what the server says behind the name of what it is about.
func refusalText(status metav1.Status) string {
	return forbiddenPrefix.ReplaceAllLiteralString(status.Message, "")
}

// mayNotAsk reports whether it is a right that the user lacks, and no policy that refuses.
func mayNotAsk(status metav1.Status) bool {
	return status.Reason == metav1.StatusReasonForbidden && strings.HasPrefix(refusalText(status), "User ")
}

// shorten cuts a text after so many bytes, between two characters.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// likeNew is the pod as its controller would create it: without what the API server,
// the scheduler and the kubelet have added.
func likeNew(pod *corev1.Pod) *corev1.Pod {
	fresh := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Labels: pod.Labels, Annotations: pod.Annotations,
			Name: pod.Name, GenerateName: pod.GenerateName,
		},
		Spec: *pod.Spec.DeepCopy(),
	}
	if fresh.GenerateName != "" {
		fresh.Name = ""
	} else if fresh.Name == "" {
		fresh.GenerateName = "escape-scanner-"
	}
	spec := &fresh.Spec
	spec.NodeName = ""
	spec.EphemeralContainers = nil
	// These follow from the classes that the pod names, and a class may have changed.
	if spec.PriorityClassName != "" {
		spec.Priority, spec.PreemptionPolicy = nil, nil
	}
	if spec.RuntimeClassName != nil {
		spec.Overhead = nil
	}
	dropToken(spec)
	return fresh
}

// dropToken takes the token's volume out: the server puts in a new one.
func dropToken(spec *corev1.PodSpec) {
	tokens := map[string]bool{}
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool {
		if v.Projected == nil || !strings.HasPrefix(v.Name, tokenVolume) {
			return false
		}
		tokens[v.Name] = true
		return true
	})
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			c := &containers[i]
			c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
				return tokens[m.Name] && m.MountPath == tokenMount
			})
		}
	}
}
