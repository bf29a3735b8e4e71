package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tool makes a command of a program that go.mod names as a tool.
func tool(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool"}, args...)...)
	// With the flags of the other builds, whose results it shares.
	cmd.Env = append(os.Environ(), append([]string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly -trimpath", "GOWORK=off"}, environ...)...)
	return cmd
}

// krew's own check takes the manifest of a release.
func TestKrewManifest(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{}
	for _, name := range releasePlatforms() {
		p, err := parsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		files[archiveName("v1.2.3", p)] = []byte(name)
	}
	manifest, err := krew("../..", "v1.2.3", checksums(files))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(manifest), "\n    sha256: "); n != len(files) {
		t.Errorf("%d checksums for %d archives", n, len(files))
	}
	file := filepath.Join(t.TempDir(), "escape-scanner.yaml")
	if err := os.WriteFile(file, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, nil, "validate-krew-manifest", "-manifest", file, "-skip-install").CombinedOutput(); err != nil {
		t.Errorf("krew refuses it: %v\n%s\n%s", err, out, manifest)
	}
	if _, err := krew("../..", "v1.2.4", checksums(files)); err == nil {
		t.Error("a release without the archives that the manifest names has a manifest")
	}
}

// krew installs the plugin from the archive, and kubectl would find it.
func TestKrewInstalls(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the binary of the tests is one for linux")
	}
	m := theRelease(t)
	dir := t.TempDir()
	archive, err := releaseArchive(m.stamp, m.binaries[0], []entry{{"README.md", 0o644, []byte("read\n")}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range releasePlatforms() {
		p, err := parsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		files[archiveName("v1.2.3", p)] = archive
	}
	manifest, err := krew("../..", "v1.2.3", checksums(files))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "escape-scanner.yaml")
	packed := filepath.Join(dir, archiveName("v1.2.3", here()))
	if err := writeFiles(dir, []entry{{filepath.Base(file), 0o644, manifest}, {filepath.Base(packed), 0o644, archive}}); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "krew")
	install := tool(t, []string{"KREW_ROOT=" + root, "KREW_NO_UPGRADE_CHECK=1"}, "krew", "install", "--manifest", file, "--archive", packed)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("krew: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "kubectl-escape_scanner"), "scan", "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "kubectl escape-scanner scan") {
		t.Errorf("%v\n%s", err, out)
	}
}
