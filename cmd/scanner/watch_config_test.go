package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

// followed is a folder whose configuration is followed.
type followed struct {
	*testing.T
	dir string

	mu   sync.Mutex
	said bytes.Buffer
	put  [][]scan.Exception
}

// Write takes in what is said.
func (f *followed) Write(text []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.Write(text)
}

// force takes in what is put in force.
func (f *followed) force(list []scan.Exception) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put = append(f.put, list)
}

// follow runs a test on the configuration of a folder, with a clock of its own. file is
// that of --config, empty for the one that is looked for.
func follow(t *testing.T, file string, test func(f *followed)) {
	t.Helper()
	t.Parallel()
	f := &followed{T: t, dir: t.TempDir()}
	f.write(".escape-scanner.yaml", onlyOne)
	if file != "" {
		file = filepath.Join(f.dir, file)
	}
	load := loader(func() (*config.Config, config.Origins, error) {
		return config.Load(config.Options{File: file, WorkDir: f.dir})
	})
	synctest.Test(t, func(t *testing.T) {
		f.T = t
		began := load.load()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a := &app{deps: deps{}, stderr: f}
			a.followExceptions(ctx, began, load, f.force)
		}()
		test(f)
		cancel()
		<-done
	})
}

const (
	onlyOne = "exceptions:\n- {rule: escape-host-pid, namespace: a, reason: r}\n"
	two     = onlyOne + "- {rule: escape-host-pid, namespace: b, reason: r}\n"
)

func (f *followed) write(name, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func (f *followed) remove(name string) {
	f.Helper()
	if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
		f.Fatal(err)
	}
}

// later lets it look, and wants so many lists put in force by then, the last of so many
// exceptions, and something said since the last time.
func (f *followed) later(puts, exceptions int, say string) {
	f.Helper()
	<-time.After(3 * configEvery)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.put) != puts || puts > 0 && len(f.put[puts-1]) != exceptions {
		f.Errorf("put in force: %v, want %d lists, the last of %d", f.put, puts, exceptions)
	}
	if said := f.said.String(); !strings.Contains(said, say) || (say == "") != (said == "") {
		f.Errorf("it says %q, want %q", said, say)
	}
	f.said.Reset()
}

func TestFollowExceptions(t *testing.T) {
	const name = ".escape-scanner.yaml"
	follow(t, "", func(f *followed) {
		f.later(0, 0, "")
		f.write(name, two)
		f.later(1, 2, "2 exceptions in force")
		f.write(name, "exceptions: [")
		f.later(1, 2, "warning: the exceptions stay as they were")
		f.later(1, 2, "")
		f.write(name, two)
		f.later(1, 2, "can be loaded again")
		f.remove(name)
		f.later(2, 0, "is gone, and its exceptions with it")
		f.write(name, onlyOne)
		f.later(3, 1, "the configuration file is ")
		f.write(name, "level: restricted\n"+onlyOne)
		// The exception stands in another line.
		f.later(4, 1, "only the exceptions are taken in")
	})
}

// A file of --config that is gone is broken, as it would be at the start.
func TestFollowExceptionsOfGivenFile(t *testing.T) {
	follow(t, ".escape-scanner.yaml", func(f *followed) {
		f.remove(".escape-scanner.yaml")
		f.later(0, 0, "warning: the exceptions stay as they were")
		f.write(".escape-scanner.yaml", onlyOne)
		f.later(0, 0, "can be loaded again")
	})
}

// A ConfigMap is a link to a folder that is swapped.
func TestFollowExceptionsOfConfigMap(t *testing.T) {
	follow(t, ".escape-scanner.yaml", func(f *followed) {
		f.remove(".escape-scanner.yaml")
		for i, text := range []string{onlyOne, two} {
			folder := filepath.Join(f.dir, []string{"..1", "..2"}[i])
			if err := os.Mkdir(folder, 0o700); err != nil {
				f.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "config"), []byte(text), 0o600); err != nil {
				f.Fatal(err)
			}
			if err := os.Symlink(folder, filepath.Join(f.dir, "..new")); err != nil {
				f.Fatal(err)
			}
			if err := os.Rename(filepath.Join(f.dir, "..new"), filepath.Join(f.dir, "..data")); err != nil {
				f.Fatal(err)
			}
			if i == 0 {
				if err := os.Symlink(filepath.Join("..data", "config"), filepath.Join(f.dir, ".escape-scanner.yaml")); err != nil {
					f.Fatal(err)
				}
				f.later(0, 0, "")
				continue
			}
			f.later(1, 2, "2 exceptions in force")
		}
	})
}

// A file that is being written is empty for a moment: no exception ends by that.
func TestFollowExceptionsOfHalfAFile(t *testing.T) {
	follow(t, "", func(f *followed) {
		<-time.After(configEvery - time.Millisecond)
		f.write(".escape-scanner.yaml", "")
		<-time.After(2 * time.Millisecond)
		f.write(".escape-scanner.yaml", onlyOne)
		f.later(0, 0, "")
	})
}
