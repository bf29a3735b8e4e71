package kubetest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// childVariable makes of the test binary one that starts a server and waits to
// be killed.
const childVariable = "KUBETEST_CHILD"

var cluster = kubetest.NewShared()

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	os.Exit(cluster.Run(m))
}

var restricted = map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}

func TestServerVersionIsThePinnedOne(t *testing.T) {
	module, err := os.ReadFile("../controlplane/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`\tk8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`).FindStringSubmatch(string(module))
	if pinned == nil {
		t.Fatal("internal/controlplane/go.mod requires no k8s.io/kubernetes")
	}

	version, err := cluster.Server(t).Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.Major != pinned[2] || version.Minor != pinned[3] {
		t.Errorf("server says major %q and minor %q, pinned is %s", version.Major, version.Minor, pinned[1])
	}
	// Linked assets, which hack/controlplane.sh takes by their minor version, may
	// be another patch release.
	file, err := os.Lstat("../../bin/controlplane/kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	if file.Mode().IsRegular() && version.GitVersion != pinned[1] {
		t.Errorf("server says %q, pinned is %s", version.GitVersion, pinned[1])
	}
}

func TestPodSecurityIsEnforced(t *testing.T) {
	server := cluster.Server(t)

	err := createPod(t, server.Config(), server.Namespace(t, restricted), privilegedPod())
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("privileged pod in a restricted namespace: got %v, want a refusal by PodSecurity", err)
	}

	if err := createPod(t, server.Config(), server.Namespace(t, nil), privilegedPod()); err != nil {
		t.Errorf("privileged pod in a namespace without labels: %v", err)
	}
}

func TestUsersAreSubjectToRBAC(t *testing.T) {
	server := cluster.Server(t)
	own, other := server.Namespace(t, nil), server.Namespace(t, nil)
	user := server.User(t, "nobody-yet", "some-group")

	if err := listPods(t, user, own); !apierrors.IsForbidden(err) {
		t.Errorf("without rights: got %v, want forbidden", err)
	}

	read := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}
	server.Allow(t, "nobody-yet", own, read)
	if err := listPods(t, user, own); err != nil {
		t.Errorf("allowed in the namespace: %v", err)
	}
	if err := listPods(t, user, other); !apierrors.IsForbidden(err) {
		t.Errorf("in another namespace: got %v, want forbidden", err)
	}
	if err := listPods(t, user, metav1.NamespaceAll); !apierrors.IsForbidden(err) {
		t.Errorf("everywhere: got %v, want forbidden", err)
	}

	server.Allow(t, "nobody-yet", "", read)
	if err := listPods(t, user, metav1.NamespaceAll); err != nil {
		t.Errorf("allowed everywhere: %v", err)
	}
}

func TestNamespacesLeaveNothingBehind(t *testing.T) {
	server := cluster.Server(t)
	t.Run("a test makes things", func(t *testing.T) {
		server.NamedNamespace(t, "once-more", map[string]string{"team": "payments"})
		namespace, err := server.Client().CoreV1().Namespaces().Get(t.Context(), "once-more", metav1.GetOptions{})
		if err != nil || namespace.Labels["team"] != "payments" {
			t.Fatalf("namespace has labels %v (%v)", namespace.Labels, err)
		}
		// A pod on a node waits for a kubelet to end it, unless told not to.
		pod := privilegedPod()
		pod.Spec.NodeName = "worker"
		if err := createPod(t, server.Config(), "once-more", pod); err != nil {
			t.Fatal(err)
		}
	})

	_, err := server.Client().CoreV1().Namespaces().Get(t.Context(), "once-more", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Fatalf("namespace after its test: got %v, want not found", err)
	}
	server.NamedNamespace(t, "once-more", nil)
	pods, err := server.Client().CoreV1().Pods("once-more").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("the next namespace of that name has %d pods (%v), want none", len(pods.Items), err)
	}
}

func TestNamespacesAreUnique(t *testing.T) {
	server := cluster.Server(t)
	first, second := server.Namespace(t, nil), server.Namespace(t, nil)
	if first == second || !strings.HasPrefix(first, "testnamespacesareunique-") {
		t.Errorf("got %q and %q, want two that begin with the name of the test", first, second)
	}
}

func TestKubeconfigKnowsItsUser(t *testing.T) {
	server := cluster.Server(t)
	path := kubetest.KubeconfigOf(t,
		kubetest.Context{Name: "dev", Config: server.User(t, "jane", "developers"), Namespace: "payments"},
		kubetest.Context{Name: "admin", Config: server.Config()},
	)
	for _, test := range []struct {
		context, user, group, namespace string
	}{
		{"", "jane", "developers", "payments"},
		{"dev", "jane", "developers", "payments"},
		{"admin", "admin", "system:masters", "default"},
	} {
		t.Run("context "+test.context, func(t *testing.T) {
			loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
				&clientcmd.ClientConfigLoadingRules{ExplicitPath: path},
				&clientcmd.ConfigOverrides{CurrentContext: test.context},
			)
			if namespace, _, err := loaded.Namespace(); err != nil || namespace != test.namespace {
				t.Errorf("namespace: got %q (%v), want %q", namespace, err, test.namespace)
			}
			config, err := loaded.ClientConfig()
			if err != nil {
				t.Fatal(err)
			}
			review, err := client(t, config).AuthenticationV1().SelfSubjectReviews().
				Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			info := review.Status.UserInfo
			if info.Username != test.user || !slices.Contains(info.Groups, test.group) {
				t.Errorf("server sees %s of %v, want %s of %s", info.Username, info.Groups, test.user, test.group)
			}
		})
	}
}

func TestAPIServerFlags(t *testing.T) {
	server := kubetest.New(t,
		kubetest.WithAPIServerFlag("disable-admission-plugins", "ServiceAccount", "PodSecurity"))
	if err := createPod(t, server.Config(), server.Namespace(t, restricted), privilegedPod()); err != nil {
		t.Errorf("privileged pod with PodSecurity off: %v", err)
	}
}

func TestStartSaysWhatTheServerSaid(t *testing.T) {
	server, err := kubetest.Start(kubetest.WithAPIServerFlag("no-such-flag", "1"))
	if err == nil {
		t.Error(errors.Join(errors.New("started with a flag that does not exist"), server.Stop()))
	} else if !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v, want what kube-apiserver wrote", err)
	}
}

func TestStartSaysHowToGetTheBinaries(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.invalid\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	server, err := kubetest.Start()
	if err == nil {
		t.Error(errors.Join(errors.New("started without binaries"), server.Stop()))
	} else if !strings.Contains(err.Error(), `kube-apiserver: run "make controlplane"`) {
		t.Errorf("got %v, want to be told what to run", err)
	}
}

func TestKilledTestsLeaveNoServer(t *testing.T) {
	files := t.TempDir()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+files)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("child: %v (%v)", err, command.Wait())
	}
	server, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	dial := func() error {
		connection, err := net.Dial("tcp", server.Host)
		if err == nil {
			err = connection.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatalf("the child's server: %v", err)
	}

	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err == nil {
		t.Fatal("child ended well, want it killed")
	}
	eventually(t, "the server refuses connections", func() bool { return errors.Is(dial(), syscall.ECONNREFUSED) })
	eventually(t, "its files are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(files, "kubetest-*"))
		return err == nil && len(left) == 0
	})
}

// child is the life of the test binary that TestKilledTestsLeaveNoServer kills.
func child() int {
	server, err := kubetest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(server.Config().Host)
	select {}
}

func client(tb testing.TB, config *rest.Config) kubernetes.Interface {
	tb.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

func createPod(tb testing.TB, config *rest.Config, namespace string, pod *corev1.Pod) error {
	tb.Helper()
	_, err := client(tb, config).CoreV1().Pods(namespace).Create(tb.Context(), pod, metav1.CreateOptions{})
	return err
}

func listPods(tb testing.TB, config *rest.Config, namespace string) error {
	tb.Helper()
	_, err := client(tb, config).CoreV1().Pods(namespace).List(tb.Context(), metav1.ListOptions{})
	return err
}

func privilegedPod() *corev1.Pod {
	privileged := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "privileged-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name:            "main",
			Image:           "image.invalid/main:1",
			SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
		}}},
	}
}

func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	err := wait.PollUntilContextTimeout(tb.Context(), 20*time.Millisecond, 30*time.Second, true,
		func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		tb.Errorf("%s: %v", what, err)
	}
}
