package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

const (
	// maxSmall bounds the files that hold a line or a page, maxConfig a kernel's
	// configuration. Real ones have 300 KiB.
	maxSmall  = 64 << 10
	maxConfig = 4 << 20
	// maxLinks is how many symbolic links a path may lead through, as in the kernel.
	maxLinks = 40
)

// host is the root directory of the machine. Nothing outside of it is ever read: a
// symbolic link in it leads where it would lead on the machine, and so stays inside.
type host struct {
	root *os.Root
	// own is the root of this process, for what is the same in every container.
	own *os.Root
}

func openHost(dir, own string) (*host, error) {
	root, err := os.OpenRoot(cmp.Or(dir, "/"))
	if err != nil {
		return nil, fmt.Errorf("root directory of the machine: %w", err)
	}
	h := &host{root: root}
	if own != "" && path.Clean(cmp.Or(dir, "/")) != own {
		// Not to have it costs what /proc would have told.
		h.own, _ = os.OpenRoot(own)
	}
	return h, nil
}

func (h *host) close() {
	_ = h.root.Close()
	if h.own != nil {
		_ = h.own.Close()
	}
}

// read reads a file that is given by its path on the machine. What /proc says of the
// kernel is the same in every container, so it is read there if the machine's own is
// not mounted.
func (h *host) read(file string, most int64) ([]byte, error) {
	data, err := readIn(h.root, file, most)
	if errors.Is(err, fs.ErrNotExist) && h.own != nil && strings.HasPrefix(file, "/proc/") {
		return readIn(h.own, file, most)
	}
	return data, err
}

func (h *host) stat(file string) (fs.FileInfo, error) {
	inside, err := resolve(h.root, file)
	if err != nil {
		return nil, err
	}
	info, err := h.root.Stat(inside)
	return info, named(file, err)
}

// fstype is the magic number of the file system that is mounted on a directory.
func (h *host) fstype(dir string, p platform) (int64, error) {
	inside, err := resolve(h.root, dir)
	if err != nil {
		return 0, err
	}
	f, err := h.root.Open(inside)
	if err != nil {
		return 0, named(dir, err)
	}
	defer f.Close()
	magic, err := p.fstype(f)
	return magic, named(dir, err)
}

func readIn(root *os.Root, file string, most int64) ([]byte, error) {
	inside, err := resolve(root, file)
	if err != nil {
		return nil, err
	}
	// To open a pipe would wait for whoever writes into it.
	if info, err := root.Stat(inside); err != nil {
		return nil, named(file, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", file)
	}
	f, err := root.Open(inside)
	if err != nil {
		return nil, named(file, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, named(file, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s: larger than %d KiB", file, most>>10)
	}
	return data, nil
}

// resolve follows symbolic links as the machine itself would: an absolute one starts
// again at its root. os.Root takes those for a way out and refuses them.
func resolve(root *os.Root, file string) (string, error) {
	done, todo := "/", strings.Split(path.Clean("/" + file)[1:], "/")
	for links := 0; len(todo) > 0; {
		next := path.Join(done, todo[0])
		todo = todo[1:]
		if next == "/" {
			done = next
			continue
		}
		info, err := root.Lstat(next[1:])
		if err != nil {
			return "", named(file, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", file)
		}
		target, err := root.Readlink(next[1:])
		if err != nil {
			return "", named(file, err)
		}
		if path.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if done == "/" {
		return ".", nil
	}
	return done[1:], nil
}

// named puts the machine's path in front of an error in place of the one that os.Root
// puts there.
func named(file string, err error) error {
	if err == nil {
		return nil
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("%s: %w", file, err)
}
