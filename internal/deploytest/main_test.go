package deploytest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// cluster is the control plane that all tests share. It admits pods as a cluster does:
// envtest would leave out what gives them their ServiceAccount's token.
var cluster = kubetest.NewShared(kubetest.WithAPIServerFlag("disable-admission-plugins", "DefaultIngressClass"))

// program is the program under test, built once.
var program = &built{}

func TestMain(m *testing.M) {
	if err := enterSandbox(); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(70)
	}
	code := cluster.Run(m)
	if err := program.remove(); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// built is the program, built when the first test asks for it.
type built struct {
	once sync.Once
	dir  string
	err  error

	tried    sync.Once
	isolates error
}

func (b *built) remove() error {
	return os.RemoveAll(b.dir)
}

// path is where the program is.
func (b *built) path(tb testing.TB) string {
	tb.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "deploytest-"); b.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", b.file(), "./cmd/scanner")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		tb.Fatal(b.err)
	}
	return b.file()
}

func (b *built) file() string { return filepath.Join(b.dir, "escape-scanner") }

// sandboxed tells whether this machine lets tests run the program in a mount namespace.
func (b *built) sandboxed(tb testing.TB) bool {
	tb.Helper()
	path := b.path(tb)
	b.tried.Do(func() {
		s := sandbox{Root: tb.TempDir(), Mounts: programMounts(path), Path: programInImage, Args: []string{"rules"}, UID: 65532, Hostname: "try", NoNewPrivileges: true}
		cmd, err := s.command()
		if err != nil {
			b.isolates = err
			return
		}
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("hostNamespaces")) {
			b.isolates = fmt.Errorf("%w: %s", err, out)
		}
	})
	if b.isolates != nil {
		tb.Logf("no mount namespace, so the program runs beside the machine's files: %v", b.isolates)
	}
	return b.isolates == nil
}
