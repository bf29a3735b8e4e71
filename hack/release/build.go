package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	module     = "github.com/escape-scanner/escape-scanner"
	repository = "ghcr.io/escape-scanner/escape-scanner"
	program    = "escape-scanner"
	// ownLicence is what LICENSE is, as an expression of SPDX.
	ownLicence = "Apache-2.0"
)

// stamp is what of a commit stands in what is made of it.
type stamp struct {
	version, commit string
	// date is when it was committed: the time of every file that is made.
	date time.Time
	// git tells that the go command can read the commit itself.
	git bool
}

// readStamp asks git for what was not told.
func readStamp(ctx context.Context, root string, told stamp) (stamp, error) {
	st := told
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		st.git = true
		commit, err := output(ctx, root, "git", "rev-parse", "HEAD")
		if err != nil {
			return stamp{}, err
		}
		when, err := output(ctx, root, "git", "show", "--no-patch", "--format=%ct", "HEAD")
		if err != nil {
			return stamp{}, err
		}
		if st.date, err = unix(when); err != nil {
			return stamp{}, err
		}
		st.commit = commit
		if st.version == "" {
			if st.version, err = output(ctx, root, "sh", "hack/version.sh"); err != nil {
				return stamp{}, err
			}
		}
	}
	if st.version == "" || st.commit == "" || st.date.IsZero() {
		return stamp{}, errors.New("there is no git checkout: tell -version, -commit and -date")
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		at, err := unix(epoch)
		if err != nil {
			return stamp{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		st.date = at
	}
	return st, nil
}

func unix(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// platform is what a binary is built for.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

func parsePlatform(name string) (platform, error) {
	goos, arch, ok := strings.Cut(name, "/")
	if !ok || goos == "" || arch == "" || strings.ContainsAny(arch, "/ ") {
		return platform{}, fmt.Errorf("platform %q: want OS/ARCHITECTURE", name)
	}
	return platform{goos, arch}, nil
}

// binary is the program, built for a platform.
type binary struct {
	platform platform
	data     []byte
	info     *debug.BuildInfo
}

// compile builds the program. The environment is what this process has but for what
// would change the bytes.
func compile(ctx context.Context, root string, st stamp, p platform) (binary, error) {
	dir, err := os.MkdirTemp("", "escape-scanner-build")
	if err != nil {
		return binary{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // What is left is in the directory for temporary files.
	file := filepath.Join(dir, program)
	link := "-s -w -X main.version=" + st.version
	vcs := "-buildvcs=true"
	if !st.git {
		vcs = "-buildvcs=false"
		link += " -X main.commit=" + st.commit + " -X main.date=" + st.date.Format(time.RFC3339)
	}
	cmd := exec.CommandContext(ctx, "go", "build", vcs, "-trimpath", "-ldflags", link, "-o", file, "./cmd/scanner")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary{}, fmt.Errorf("go build for %s: %w\n%s", p, err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return binary{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return binary{}, fmt.Errorf("build info of the binary for %s: %w", p, err)
	}
	return binary{p, data, info}, nil
}

// output runs a command in a directory and gives the line that it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
