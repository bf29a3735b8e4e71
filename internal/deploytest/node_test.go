package deploytest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// root is the module's folder.
const root = "../.."

// programInImage is the image's entrypoint, which pods run that name no command.
const programInImage = "/usr/local/bin/escape-scanner"

// node runs the containers of pods, as a node would.
type node struct {
	*testing.T
	server *kubetest.Server
	// claims are the folders behind PersistentVolumeClaims, which outlive pods.
	claims string
	// outside has the program run beside the machine's files, with a kubeconfig that has
	// only the token.
	outside bool
	// change is made to the arguments.
	change func(args []string) []string
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{T: t, server: cluster.Server(t), claims: t.TempDir()}
}

// admitted is what the server makes of a pod of the template, without keeping it.
func (n *node) admitted(namespace, name string, template *corev1.PodTemplateSpec) *corev1.Pod {
	n.Helper()
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Name = name
	pod, err := n.server.Client().CoreV1().Pods(namespace).Create(n.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		n.Fatalf("pod %s/%s: %v", namespace, name, err)
	}
	pod.Spec.NodeName = cmp.Or(pod.Spec.NodeName, "node-of-the-test")
	return pod
}

// token is one that the ServiceAccount's pods would get.
func (n *node) token(namespace, account string) string {
	n.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3607))}}
	answer, err := n.server.Client().CoreV1().ServiceAccounts(namespace).CreateToken(n.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		n.Fatalf("token of %s/%s: %v", namespace, account, err)
	}
	return answer.Status.Token
}

// as is the configuration of a client that has the ServiceAccount's token and no more.
func (n *node) as(namespace, account string) *rest.Config {
	n.Helper()
	config := rest.AnonymousClientConfig(n.server.Config())
	config.BearerToken = n.token(namespace, account)
	return config
}

// running is a container that runs, or ran.
type running struct {
	testing.TB
	cmd            *exec.Cmd
	stdout, stderr kubetest.Buffer
	volumes        map[string]string
	mounts         []corev1.VolumeMount
	over           chan struct{}
	err            error
}

// start starts the pod's one container.
func (n *node) start(pod *corev1.Pod) *running {
	n.Helper()
	if len(pod.Spec.Containers) != 1 || len(pod.Spec.InitContainers) > 0 {
		n.Fatalf("%s has containers beside the one that is run", pod.Name)
	}
	c := pod.Spec.Containers[0]
	r := &running{TB: n, volumes: n.volumes(pod), mounts: c.VolumeMounts, over: make(chan struct{})}
	env := n.environment(pod, &c)
	command := expand(append(slices.Clone(c.Command), c.Args...), env)
	if len(c.Command) > 0 {
		if command[0] != programInImage && command[0] != "escape-scanner" {
			n.Fatalf("%s runs %s, which is not in the image", pod.Name, command[0])
		}
		command = command[1:]
	}
	command = listenAnywhere(command)
	if n.change != nil {
		command = n.change(command)
	}
	path := program.path(n)
	if n.outside || !program.sandboxed(n) {
		r.cmd = n.beside(pod, r, path, command, env)
	} else {
		r.cmd = n.inside(pod, r, path, command, env)
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		n.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.over)
	}()
	n.Cleanup(func() {
		select {
		case <-r.over:
		default:
			_ = r.cmd.Process.Kill()
			<-r.over
		}
		if n.Failed() {
			n.Logf("%s %q said:\n%s", pod.Name, command, r.stderr.String())
		}
	})
	return r
}

// inside is the command in a container of its own.
func (n *node) inside(pod *corev1.Pod, r *running, path string, args []string, env map[string]string) *exec.Cmd {
	n.Helper()
	api, err := url.Parse(n.server.Config().Host)
	if err != nil {
		n.Fatal(err)
	}
	all := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": pod.Name, "HOME": "/",
		"KUBERNETES_SERVICE_HOST": api.Hostname(), "KUBERNETES_SERVICE_PORT": api.Port(),
	}
	maps.Copy(all, env)
	context := pod.Spec.Containers[0].SecurityContext
	s := sandbox{
		Root: n.TempDir(), Mounts: programMounts(path), Path: programInImage, Args: args, Env: list(all), UID: userOf(pod), Hostname: pod.Name,
		NoNewPrivileges: context != nil && context.AllowPrivilegeEscalation != nil && !*context.AllowPrivilegeEscalation,
	}
	for _, m := range r.mounts {
		s.Mounts = append(s.Mounts, sandboxMount{Source: n.mounted(r, m), Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	cmd, err := s.command()
	if err != nil {
		n.Fatal(err)
	}
	return cmd
}

// beside is the command among the machine's files.
func (n *node) beside(pod *corev1.Pod, r *running, path string, args []string, env map[string]string) *exec.Cmd {
	n.Helper()
	mounts := slices.Clone(r.mounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return len(b.MountPath) - len(a.MountPath) })
	here := func(s string) string {
		for _, m := range mounts {
			s = strings.ReplaceAll(s, m.MountPath, n.mounted(r, m))
		}
		return s
	}
	all := map[string]string{"HOME": n.TempDir(), "KUBECONFIG": kubetest.Kubeconfig(n, n.as(pod.Namespace, pod.Spec.ServiceAccountName))}
	for name, value := range env {
		all[name] = here(value)
	}
	for i := range args {
		args[i] = here(args[i])
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir = list(all), n.TempDir()
	return cmd
}

// mounted is what a container is shown of a volume.
func (n *node) mounted(r *running, m corev1.VolumeMount) string {
	n.Helper()
	path := filepath.Join(r.volumes[m.Name], m.SubPath)
	if m.SubPath != "" {
		if err := os.MkdirAll(path, 0o777); err != nil {
			n.Fatal(err)
		}
	}
	return path
}

func list(env map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		all = append(all, name+"="+env[name])
	}
	return all
}

// userOf is the user that a pod asks for, else that of the image.
func userOf(pod *corev1.Pod) int {
	if c := pod.Spec.Containers[0].SecurityContext; c != nil && c.RunAsUser != nil {
		return int(*c.RunAsUser)
	}
	if c := pod.Spec.SecurityContext; c != nil && c.RunAsUser != nil {
		return int(*c.RunAsUser)
	}
	return 65532
}

// programMounts are the program and the libraries that it was linked with, if any.
func programMounts(path string) []sandboxMount {
	mounts := []sandboxMount{{Source: path, Target: programInImage}}
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, sandboxMount{Source: dir, Target: dir})
		}
	}
	return mounts
}

// listenAnywhere has the program listen at a port that is free: this machine has other
// things to do.
func listenAnywhere(args []string) []string {
	for i, a := range args {
		if strings.HasPrefix(a, "--listen=") {
			args[i] = "--listen=127.0.0.1:0"
		} else if i > 0 && args[i-1] == "--listen" {
			args[i] = "127.0.0.1:0"
		}
	}
	return args
}

var reference = regexp.MustCompile(`\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)`)

// expand replaces $(NAME) by the variable, as a kubelet does.
func expand(args []string, env map[string]string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = reference.ReplaceAllStringFunc(a, func(ref string) string {
			if ref == "$$" {
				return "$"
			}
			if value, ok := env[ref[2:len(ref)-1]]; ok {
				return value
			}
			return ref
		})
	}
	return out
}

// wait waits until the container has ended, and returns its exit code.
func (r *running) wait() int {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Minute)
	defer cancel()
	select {
	case <-r.over:
	case <-ctx.Done():
		r.Fatalf("it does not end; it said:\n%s", r.stderr.String())
	}
	var exit *exec.ExitError
	if r.err != nil && !errors.As(r.err, &exit) {
		r.Fatal(r.err)
	}
	return r.cmd.ProcessState.ExitCode()
}

// stop ends it as a kubelet does, and returns its exit code.
func (r *running) stop() int {
	r.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.Fatal(err)
	}
	return r.wait()
}

// file is where a file of the container is on this machine.
func (r *running) file(path string) string {
	r.Helper()
	for _, m := range r.mounts {
		if rest, ok := strings.CutPrefix(path, m.MountPath+"/"); ok {
			return filepath.Join(r.volumes[m.Name], m.SubPath, rest)
		}
	}
	r.Fatalf("%s is in no volume", path)
	return ""
}

// address is where it serves metrics and probes.
func (r *running) address() string {
	r.Helper()
	serving := regexp.MustCompile(`serving \S+.* at http://(\S+)`)
	awaited(r, "an address that it serves at", func() bool { return serving.MatchString(r.stderr.String()) || r.ended() })
	found := serving.FindStringSubmatch(r.stderr.String())
	if found == nil {
		r.Fatalf("it has ended, and said:\n%s", r.stderr.String())
	}
	if _, _, err := net.SplitHostPort(found[1]); err != nil {
		r.Fatal(err)
	}
	return found[1]
}

func (r *running) ended() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// awaited asks again until it is so. What it waits for is in the cluster, or in another
// process, and says nothing by itself.
func awaited(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-ctx.Done():
			tb.Fatalf("never so: %s", what)
		}
	}
}

// environment are the variables of a container.
func (n *node) environment(pod *corev1.Pod, c *corev1.Container) map[string]string {
	n.Helper()
	env := map[string]string{}
	for _, v := range c.Env {
		from := v.ValueFrom
		switch {
		case from == nil:
			env[v.Name] = expand([]string{v.Value}, env)[0]
		case from.FieldRef != nil:
			env[v.Name] = n.field(pod, from.FieldRef.FieldPath)
		case from.ResourceFieldRef != nil:
			env[v.Name] = n.limit(c, from.ResourceFieldRef)
		case from.SecretKeyRef != nil:
			if value, ok := n.secret(pod.Namespace, from.SecretKeyRef.Name, from.SecretKeyRef.Optional)[from.SecretKeyRef.Key]; ok {
				env[v.Name] = string(value)
			}
		default:
			n.Fatalf("%s: variable %s comes from where nobody looked yet", pod.Name, v.Name)
		}
	}
	return env
}

func (n *node) field(pod *corev1.Pod, path string) string {
	n.Helper()
	if key, ok := strings.CutPrefix(path, "metadata.annotations['"); ok {
		return pod.Annotations[strings.TrimSuffix(key, "']")]
	}
	if key, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return pod.Labels[strings.TrimSuffix(key, "']")]
	}
	value, ok := map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "spec.nodeName": pod.Spec.NodeName,
		"spec.serviceAccountName": pod.Spec.ServiceAccountName, "status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1",
	}[path]
	if !ok {
		n.Fatalf("field %s: nobody looked yet what a kubelet says of it", path)
	}
	return value
}

func (n *node) limit(c *corev1.Container, ref *corev1.ResourceFieldSelector) string {
	n.Helper()
	name, ok := strings.CutPrefix(ref.Resource, "limits.")
	quantity, set := c.Resources.Limits[corev1.ResourceName(name)]
	if !ok || !set {
		n.Fatalf("%s is not set", ref.Resource)
	}
	return strconv.FormatInt(quantity.Value(), 10)
}
