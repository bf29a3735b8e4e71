package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	apiServerName = "kube-apiserver"
	etcdName      = "etcd"
)

// runScript stands between envtest and a binary: it notes the process ID and the
// arguments, which envtest keeps to itself, and becomes the binary of its own name.
// envtest also asks for --help, with nothing to note.
const runScript = `#!/bin/sh
here=${0%/*}
name=${0##*/}
if [ "$1" != --help ]; then
	echo $$ >"$here/$name.pid"
	printf '%s\n' "$@" >"$here/$name.args"
fi
exec "$here/bin/$name" "$@"
`

// guardScript outlives the test binary by a moment. A panic, a timeout or a
// kill ends a test binary without running its cleanup, and envtest puts the
// processes where an interrupt from the terminal does not reach them. Its
// standard input ends with the test binary, however that came about.
const guardScript = `
trap '' HUP INT QUIT TERM
read -r word
[ "$word" = stopped ] && exit 0
for file in "$0"/*.pid; do
	[ -f "$file" ] && kill -KILL "$(cat "$file")"
done
sleep 1
rm -rf "$0"
`

// findBinaries returns the folder that holds both binaries.
func findBinaries() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "controlplane")
	for _, name := range []string{apiServerName, etcdName} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf(`%s: run "make controlplane" to get the binaries that tests need: %w`, path, err)
		}
	}
	return dir, nil
}

// moduleRoot returns the folder of the module that the tests belong to: go test
// runs a package's tests in the package's own folder.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("module root: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("module root: %w", err)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("module root: no go.mod in %s or above", start)
		}
	}
}

// processes is everything on disk and at run time that envtest's two processes
// need around them.
type processes struct {
	dir       string
	apiServer process
	etcd      process
	guard     *exec.Cmd
	lifeline  io.WriteCloser
}

// process is what envtest is told of one of them.
type process struct {
	path string
	data string
	log  *os.File
}

// prepare makes a folder with a place for all that the two processes write, and
// starts the guard over it.
func prepare(binaries string) (_ *processes, err error) {
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	p := &processes{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("control plane: %w", err), p.close())
		}
	}()

	if err := os.Symlink(binaries, filepath.Join(dir, "bin")); err != nil {
		return nil, err
	}
	if p.apiServer, err = newProcess(dir, apiServerName); err != nil {
		return nil, err
	}
	if p.etcd, err = newProcess(dir, etcdName); err != nil {
		return nil, err
	}

	guard := exec.Command("/bin/sh", "-c", guardScript, dir)
	lifeline, err := guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := guard.Start(); err != nil {
		return nil, err
	}
	p.guard, p.lifeline = guard, lifeline
	return p, nil
}

func newProcess(dir, name string) (process, error) {
	p := process{path: filepath.Join(dir, name), data: filepath.Join(dir, name+".data")}
	if err := writeExecutable(p.path, runScript); err != nil {
		return process{}, err
	}
	if err := os.Mkdir(p.data, 0o700); err != nil {
		return process{}, err
	}
	var err error
	p.log, err = os.Create(filepath.Join(dir, name+".log"))
	return p, err
}

// writeExecutable lets no process be forked while the file is open for writing:
// the child would hold it open, and a file open for writing cannot be run.
func writeExecutable(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o700)
}

// close tells the guard that all is well and removes the folder.
func (p *processes) close() error {
	var failed []error
	if p.guard != nil {
		_, err := io.WriteString(p.lifeline, "stopped\n")
		failed = append(failed, err, p.lifeline.Close(), p.guard.Wait())
	}
	for _, process := range []process{p.apiServer, p.etcd} {
		if process.log != nil {
			failed = append(failed, process.log.Close())
		}
	}
	failed = append(failed, os.RemoveAll(p.dir))
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("control plane: cleaning up: %w", err)
	}
	return nil
}

// lastWords returns the end of what each process wrote, to be added to an error:
// why a server does not start is only in its log.
func (p *processes) lastWords() string {
	var words strings.Builder
	for _, name := range []string{etcdName, apiServerName} {
		text, err := os.ReadFile(filepath.Join(p.dir, name+".log"))
		if err != nil || len(text) == 0 {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		lines = lines[max(0, len(lines)-15):]
		fmt.Fprintf(&words, "\n--- the end of what %s wrote:\n%s", name, bytes.Join(lines, []byte("\n")))
	}
	return words.String()
}
