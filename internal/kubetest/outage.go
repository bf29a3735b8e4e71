package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// restarted is a process that was started after a kill.
type restarted struct {
	name string
	cmd  *exec.Cmd
	// ended is closed when the process has ended.
	ended chan struct{}
}

// Kill kills the API server as a crash would: connections break, and new ones are
// refused. etcd goes on. It returns when the process is gone. The Server must be the
// test's own.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.kill(tb, apiServerName)
}

func (s *Server) kill(tb testing.TB, name string) {
	tb.Helper()
	pid, err := s.processes.pid(name)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err == nil {
		err = wait.PollUntilContextTimeout(tb.Context(), pollInterval, startTimeout, true,
			func(context.Context) (bool, error) { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil })
	}
	if err != nil {
		tb.Fatalf("kill %s: %v", name, err)
	}
}

// Restart starts an API server that was killed, on the same etcd and under the same
// address, and returns when it is ready.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.again = s.run(tb, s.processes.apiServer, apiServerName)
	err := wait.PollUntilContextTimeout(tb.Context(), pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-s.again.ended:
			return false, errors.New("it ended")
		default:
		}
		_, err := s.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, nil
	})
	if err != nil {
		tb.Fatalf("restart the API server: %v%s", err, s.processes.lastWords())
	}
}

// Forget kills both processes and starts them again with nothing stored: another cluster
// under the same address, whose resource versions begin anew.
func (s *Server) Forget(tb testing.TB) {
	tb.Helper()
	s.Kill(tb)
	s.kill(tb, etcdName)
	if err := os.RemoveAll(filepath.Join(s.processes.etcd.data, "member")); err != nil {
		tb.Fatalf("forget: %v", err)
	}
	s.etcdAgain = s.run(tb, s.processes.etcd, etcdName)
	s.Restart(tb)
}

// run starts a process with the arguments that it had.
func (s *Server) run(tb testing.TB, process process, name string) *restarted {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.processes.dir, name+".args"))
	if err != nil {
		tb.Fatalf("restart %s: %v", name, err)
	}
	cmd := exec.Command(process.path, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	cmd.Stdout, cmd.Stderr = process.log, process.log
	// An interrupt from the terminal is for the tests, not for what they started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("restart %s: %v", name, err)
	}
	r := &restarted{name: name, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		// How it ended shows in its log.
		_ = cmd.Wait()
	}()
	return r
}

func (r *restarted) stop() error {
	if r == nil {
		return nil
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("restarted %s: %w", r.name, err)
	}
	select {
	case <-r.ended:
		return nil
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("restarted %s did not stop", r.name), r.cmd.Process.Kill())
	}
}

// Compact has etcd forget all versions but the newest of everything: who wants to go on
// from an older one is told that it is gone.
func (s *Server) Compact(tb testing.TB) {
	tb.Helper()
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	err := s.askEtcd(tb.Context(), "range", `{"key":"AA==","count_only":true}`, &now)
	if err == nil {
		err = s.askEtcd(tb.Context(), "compaction", fmt.Sprintf(`{"revision":%q,"physical":true}`, now.Header.Revision), &struct{}{})
	}
	if err != nil {
		tb.Fatalf("compact etcd: %v", err)
	}
}

// askEtcd asks etcd by its gateway from JSON.
func (s *Server) askEtcd(ctx context.Context, what, question string, answer any) error {
	at := s.environment.ControlPlane.Etcd.URL.JoinPath("v3", "kv", what)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewBufferString(question))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return json.Unmarshal(text, answer)
}

// pid is the process ID of one of the two processes.
func (p *processes) pid(name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, name+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
