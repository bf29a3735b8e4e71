package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// execSpace is a pod on a node whose kubelet runs commands as the test says.
type execSpace struct {
	server  *kubetest.Server
	cluster *Cluster
	at      place
}

func newExecSpace(t *testing.T, run func(context.Context, kubetest.Command) (int, error)) execSpace {
	t.Helper()
	server := live.Server(t)
	kubelet := &kubetest.Kubelet{Run: run}
	kubelet.Start(t)
	namespace := server.Namespace(t, nil)
	kubelet.Serve(t, server, namespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       corev1.PodSpec{NodeName: namespace, Containers: []corev1.Container{{Name: "main", Image: "image"}}},
	}
	if _, err := server.Client().CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return execSpace{server, liveCluster(t, server, Options{}), place{namespace, "agent", "main"}}
}

func (s execSpace) run(ctx context.Context, limit int64, command ...string) ([]byte, error) {
	return s.cluster.Exec(ctx, s.at.namespace, s.at.pod, s.at.container, command, limit)
}

func TestLiveExec(t *testing.T) {
	s := newExecSpace(t, func(ctx context.Context, c kubetest.Command) (int, error) {
		switch c.Args[0] {
		case "echo":
			_, _ = io.WriteString(c.Stdout, strings.Join(c.Args[1:], "|"))
		case "fail":
			_, _ = io.WriteString(c.Stderr, "cat: no such thing\n")
			return 4, nil
		case "flood":
			for ctx.Err() == nil {
				if _, err := c.Stdout.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
					break
				}
			}
		case "wait":
			<-ctx.Done()
		default:
			return 0, fmt.Errorf("exec: %q: executable file not found in $PATH", c.Args[0])
		}
		return 0, nil
	})
	t.Run("gives what the command writes", func(t *testing.T) {
		out, err := s.run(t.Context(), 100, "echo", "a b", "$(c)", "'; d")
		if want := "a b|$(c)|'; d"; err != nil || string(out) != want {
			t.Errorf("%q, want %q (%v)", out, want, err)
		}
	})
	t.Run("as much as is allowed", func(t *testing.T) {
		if out, err := s.run(t.Context(), 4, "echo", "four"); err != nil || string(out) != "four" {
			t.Errorf("%q (%v)", out, err)
		}
		if out, err := s.run(t.Context(), 3, "echo", "four"); !errors.Is(err, errTooLong) || out != nil {
			t.Errorf("more than that: %q (%v)", out, err)
		}
	})
	t.Run("without an end", func(t *testing.T) {
		if _, err := s.run(t.Context(), 1<<20, "flood"); !errors.Is(err, errTooLong) {
			t.Errorf("%v, want that it is too much", err)
		}
	})
	t.Run("a command that fails says why", func(t *testing.T) {
		_, err := s.run(t.Context(), 100, "fail")
		if err == nil || !strings.Contains(err.Error(), "exit code 4") || !strings.Contains(err.Error(), "no such thing") || noSuchCommand(err) {
			t.Error(err)
		}
	})
	t.Run("a command that is not there", func(t *testing.T) {
		if _, err := s.run(t.Context(), 100, "missing"); err == nil || !noSuchCommand(err) {
			t.Errorf("%v, want that there is no such command", err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := make(chan struct{})
		go func() {
			<-began
			cancel()
		}()
		proxy := kubetest.NewProxy(t, s.server.Config(), func(*http.Request) kubetest.Action {
			close(began)
			return kubetest.Hold(t.Context().Done(), kubetest.Pass())
		})
		cluster, err := NewCluster(proxy.Config(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.exec(ctx, s.at, []string{"wait"}, "", 100); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that it was cancelled", err)
		}
	})
	t.Run("a pod that is not there", func(t *testing.T) {
		_, err := s.cluster.Exec(t.Context(), s.at.namespace, "gone", "main", []string{"echo"}, 100)
		if !apierrors.IsNotFound(err) {
			t.Errorf("%v, want not found", err)
		}
	})
	t.Run("without the right", func(t *testing.T) {
		user := s.server.User(t, "exec-nobody")
		cluster, err := NewCluster(user, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.exec(t.Context(), s.at, []string{"echo", "x"}, "", 100); !apierrors.IsForbidden(err) {
			t.Errorf("%v, want forbidden", err)
		}
		// kubectl's verb is enough, whichever way the connection is made.
		s.server.Allow(t, "exec-nobody", s.at.namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}})
		if out, err := cluster.exec(t.Context(), s.at, []string{"echo", "x"}, "", 100); err != nil || string(out) != "x" {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("where WebSocket does not get through", func(t *testing.T) {
		refused := 0
		proxy := kubetest.NewProxy(t, s.server.Config(), func(r *http.Request) kubetest.Action {
			if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
				refused++
				return kubetest.Respond(metav1.Status{Code: 400, Message: "no WebSocket here"})
			}
			return kubetest.Pass()
		})
		cluster, err := NewCluster(proxy.Config(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := cluster.exec(t.Context(), s.at, []string{"echo", "x"}, "", 100)
		if err != nil || string(out) != "x" || refused != 1 {
			t.Errorf("%q, %v, after %d refusals", out, err, refused)
		}
	})
}

// image is a tree of files as images have them, and what resolving says of it.
func image(t *testing.T) (root string, want map[string]string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/local/bin", "odd $(touch x);`y` 'z'", "closed"} {
		must(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for _, file := range []string{"usr/bin/busybox", "usr/bin/curl", "odd $(touch x);`y` 'z'/a b\\n", "closed/in", "file"} {
		must(os.WriteFile(filepath.Join(root, file), nil, 0o755))
	}
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "/" + strings.TrimPrefix(filepath.Join(root, "usr/sbin"), "/"),
		"usr/bin/wget": "busybox", "usr/sbin/chroot": "../bin/../../bin/busybox", "usr/local/bin/wget": filepath.Join(root, "bin/wget"),
		"usr/bin/dangling": "nowhere", "usr/bin/loop": "loop", "usr/bin/dir": "../local",
	} {
		must(os.Symlink(target, filepath.Join(root, name)))
	}
	must(os.Link(filepath.Join(root, "usr/bin/busybox"), filepath.Join(root, "usr/bin/dpkg")))
	busybox := "/usr/bin/busybox"
	return root, map[string]string{
		"/usr/bin/curl": "/usr/bin/curl", "/bin/curl": "/usr/bin/curl", "/usr/bin/busybox": busybox, "/bin/busybox": busybox,
		"/bin/wget": busybox, "/usr/local/bin/wget": busybox, "/sbin/chroot": busybox, "/usr/sbin/chroot": busybox,
		"/bin/dpkg": busybox, "/usr/bin/apt": "", "/opt/bin/apt": "", "/file/apt": "", "/bin/dangling": "", "/bin/dangling/apt": "",
		"/bin/dir": "/usr/local", "/odd $(touch x);`y` 'z'/a b\\n": "/odd $(touch x);`y` 'z'/a b\\n",
	}
}

func TestLiveInspectResolvesPathsAsTheKernelDoes(t *testing.T) {
	root, want := image(t)
	for _, shell := range []string{"/bin/sh", "/bin/bash", "/bin/bash --posix"} {
		for _, readlink := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, readlink %v", shell, readlink), func(t *testing.T) {
				s := newExecSpace(t, func(ctx context.Context, c kubetest.Command) (int, error) {
					words := append(strings.Fields(shell), c.Args[1:]...)
					command := exec.CommandContext(ctx, words[0], words[1:]...)
					command.Stdin, command.Stdout, command.Stderr, command.Dir = c.Stdin, c.Stdout, c.Stderr, root
					command.Env = []string{"PATH=" + toolsIn(t, readlink)}
					err := command.Run()
					if exit, ok := errors.AsType[*exec.ExitError](err); ok {
						return exit.ExitCode(), nil
					}
					return 0, err
				})
				var paths []string
				for p := range want {
					paths = append(paths, root+p)
				}
				paths = append(paths, root+"/bin/loop", "relative", root+"/bin/../bin/curl", root+"/two\nlines", "")
				got, err := s.cluster.inspect(t.Context(), s.at, paths, []string{root + "/bin/none", root + "/bin/wget", root + "/bin/busybox"})
				if err != nil {
					t.Fatal(err)
				}
				stripped := map[string]string{}
				for p, real := range got {
					stripped[strings.TrimPrefix(p, root)] = strings.TrimPrefix(real, root)
				}
				if !maps.Equal(stripped, want) {
					for _, p := range slices.Sorted(maps.Keys(want)) {
						if have, ok := stripped[p]; !ok || have != want[p] {
							t.Errorf("%q is %q (known: %v), want %q", p, have, ok, want[p])
						}
						delete(stripped, p)
					}
					t.Errorf("not asked for: %q", stripped)
				}
				if left, err := filepath.Glob(filepath.Join(root, "x")); err != nil || len(left) > 0 {
					t.Errorf("a path was run as a command: %v", left)
				}
			})
		}
	}
}

// toolsIn is a folder with the tools that an image may have beside its shell.
func toolsIn(t *testing.T, readlink bool) string {
	t.Helper()
	dir := t.TempDir()
	tools := []string{"ls"}
	if readlink {
		tools = append(tools, "readlink")
	}
	for _, tool := range tools {
		found, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(found, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A directory that the container's user may not search hides what is in it.
func TestInspectScriptDoesNotTakeAClosedDirectoryForAnEmptyOne(t *testing.T) {
	root, _ := image(t)
	command := exec.CommandContext(t.Context(), "sh", "-c", inspectScript, "sh")
	closed := os.FileMode(0)
	if os.Getuid() == 0 {
		// For root nothing is closed.
		closed = 0o700
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "closed"), closed); err != nil {
		t.Fatal(err)
	}
	command.Stdin = strings.NewReader(root + "/closed/in\n" + root + "/closed/deeper/in\n" + root + "/open/in\n\n")
	out, err := command.Output()
	if want := "0 ?\n1 ?\n2 -\nend\n"; err != nil || string(out) != want {
		t.Errorf("%q, want %q (%v)", out, want, err)
	}
}

func TestLiveInspectFindsAShellOrSaysThatThereIsNone(t *testing.T) {
	for _, test := range []struct {
		has   string
		fails error
		want  error
	}{
		{has: "sh"},
		{has: "/busybox/sh"},
		{has: "/bin/busybox"},
		{has: "none", want: errNoShell},
		{has: "none", fails: errors.New("container is not running")},
	} {
		t.Run(fmt.Sprint(test.has, test.fails), func(t *testing.T) {
			tried := 0
			s := newExecSpace(t, func(_ context.Context, c kubetest.Command) (int, error) {
				tried++
				if test.fails != nil {
					return 0, test.fails
				}
				switch {
				case c.Args[0] == test.has:
					paths, err := io.ReadAll(io.LimitReader(c.Stdin, int64(len("/bin/wget\n\n"))))
					if err != nil || string(paths) != "/bin/wget\n\n" {
						return 1, nil
					}
					_, _ = io.WriteString(c.Stdout, "0 = /bin/busybox\nend\n")
					return 0, nil
				case strings.HasPrefix(c.Args[0], "/"):
					return 0, fmt.Errorf("exec: %q: stat %s: no such file or directory", c.Args[0], c.Args[0])
				case tried%2 == 0:
					return 127, nil
				}
				return 0, fmt.Errorf("executable file `%s` not found in $PATH: No such file or directory", c.Args[0])
			})
			got, err := s.cluster.Inspect(t.Context(), s.at.namespace, s.at.pod, s.at.container, []string{"/bin/wget"})
			switch {
			case test.want != nil:
				if !errors.Is(err, test.want) || len(got) > 0 {
					t.Errorf("%v and %v, want %v", got, err, test.want)
				}
			case test.fails != nil:
				if err == nil || errors.Is(err, errNoShell) || tried != 1 {
					t.Errorf("%v after %d tries, want the runtime's own error at once", err, tried)
				}
			default:
				if err != nil || got["/bin/wget"] != "/bin/busybox" {
					t.Errorf("%v (%v)", got, err)
				}
			}
		})
	}
}

func TestReadInspectionBelievesOnlyWhatItAsked(t *testing.T) {
	paths := []string{"/a", "/b"}
	for _, answer := range []string{
		"", "end\n", "0 -\n1 -\n", "0 -\n1 -\nend", "0 -\n1 -\nend\nmore\n", "1 -\n0 -\nend\n", "0 -\n0 -\nend\n",
		"0 yes\n1 -\nend\n", "0 = /x\n= /y\nend\n", "0 \n1 -\nend\n", "0 = /x\n/y\n1 -\nend\n",
	} {
		if err := readInspection(answer, paths, map[string]string{}); err == nil {
			t.Errorf("%q was believed", answer)
		}
	}
	found := map[string]string{}
	err := readInspection("0 = relative\n1 = /x/../y\nend\n", paths, found)
	if err != nil || len(found) != 0 {
		t.Errorf("%v (%v), want nothing known of paths that are none", found, err)
	}
}

func TestLiveInspectIsBounded(t *testing.T) {
	s := newExecSpace(t, func(_ context.Context, c kubetest.Command) (int, error) {
		_, err := io.Copy(c.Stdout, io.LimitReader(zeros{}, 1<<24))
		return 0, err
	})
	if _, err := s.cluster.inspect(t.Context(), s.at, []string{"/a"}, nil); !errors.Is(err, errTooLong) {
		t.Errorf("%v, want that it wrote too much", err)
	}
	if _, err := s.cluster.inspect(t.Context(), s.at, make([]string, maxPaths+1), nil); err == nil {
		t.Error("too many paths were taken")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
