package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	spdxjson "github.com/spdx/tools-golang/json"
)

func openZip(file string) ([]string, error) {
	r, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name)
	}
	return names, nil
}

// theArchive is the image of the release as an archive.
func theArchive(t *testing.T) string {
	t.Helper()
	return theRelease(t).archives[0]
}

// theImage unpacks the archive and gives the image in it.
func theImage(t *testing.T) v1.Image {
	t.Helper()
	index, err := openImage(theArchive(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the index is not valid: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Platform.String() != here().String() {
		t.Fatalf("the index has %+v", manifest.Manifests)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Errorf("the image is not valid: %v", err)
	}
	return image
}

// imageFiles are the files of the image, and its directories with a / at the end.
func imageFiles(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*tar.Header{}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(content); ; {
			header, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files[header.Name] = header
		}
		if err := content.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestImageConfig(t *testing.T) {
	config, err := theImage(t).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/bin/escape-scanner"}) || len(c.Cmd) > 0 || len(c.Volumes) > 0 {
		t.Errorf("user %q, entrypoint %q, command %q, volumes %v", c.User, c.Entrypoint, c.Cmd, c.Volumes)
	}
	st := theRelease(t).stamp
	for key, want := range map[string]string{
		"org.opencontainers.image.version": "v1.2.3", "org.opencontainers.image.revision": st.commit,
		"org.opencontainers.image.source": "https://github.com/escape-scanner/escape-scanner",
	} {
		if c.Labels[key] != want {
			t.Errorf("label %s is %q, want %q", key, c.Labels[key], want)
		}
	}
	if config.Architecture != runtime.GOARCH || config.OS != "linux" || !config.Created.Equal(st.date) {
		t.Errorf("%s/%s of %s", config.OS, config.Architecture, config.Created)
	}
}

// Nothing is in the image but what is meant, and nothing of it can be written to by who
// runs it.
func TestImageFiles(t *testing.T) {
	files := imageFiles(t, theImage(t))
	var names []string
	for name, header := range files {
		names = append(names, name)
		mode := header.FileInfo().Mode()
		if mode&(os.ModeSetuid|os.ModeSetgid|0o022) != 0 || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: mode %s of %d:%d", name, mode, header.Uid, header.Gid)
		}
		if header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeDir {
			t.Errorf("%s is of type %c", name, header.Typeflag)
		}
	}
	slices.Sort(names)
	want := []string{
		"etc/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt",
		"usr/", "usr/bin/", "usr/bin/escape-scanner", "usr/share/", "usr/share/sbom/", "usr/share/sbom/escape-scanner.spdx.json",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the image has\n%q, want\n%q", names, want)
	}
}

// Both ways to the image lead to the same files: the Dockerfile calls rootfs.
func TestRootfsIsTheImage(t *testing.T) {
	m := theRelease(t)
	layers, err := rootfs(m.stamp, m.binaries[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeFiles(dir, slices.Concat(layers...)); err != nil {
		t.Fatal(err)
	}
	for name, header := range imageFiles(t, theImage(t)) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != header.FileInfo().Mode() || info.Mode().IsRegular() && info.Size() != header.Size {
			t.Errorf("%s: %s of %d bytes, in the image %s of %d", name, info.Mode(), info.Size(), header.FileInfo().Mode(), header.Size)
		}
	}
}

// The archive has the image under each name, for those who load it by one.
func TestImageNames(t *testing.T) {
	dir := t.TempDir()
	if _, err := openImage(theArchive(t), dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range index.Manifests {
		names = append(names, m.Annotations["org.opencontainers.image.ref.name"], m.Annotations["io.containerd.image.name"])
	}
	want := []string{"v1.2.3", repository + ":v1.2.3", "latest", repository + ":latest"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// The program of the image runs with nothing around it: in a root that has only what the
// image has, as the image's user, without a variable but PATH.
func TestImageRuns(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the image is one for linux")
	}
	m := theRelease(t)
	layers, err := rootfs(m.stamp, m.binaries[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeFiles(dir, slices.Concat(layers...)); err != nil {
		t.Fatal(err)
	}
	// The user of the image is not the one that the directory was made by.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command, why := confined(t, dir)
	if why != "" {
		t.Logf("run without a root of its own: %s", why)
	}
	call := func(args ...string) string {
		cmd := command(args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("%q: %v\n%s", args, err, stderr.Bytes())
		}
		return stdout.String()
	}
	var version struct {
		Version, Commit, Date string
		Modified              bool
	}
	if out := call("version", "-o", "json"); json.Unmarshal([]byte(out), &version) != nil ||
		version.Version != "v1.2.3" || version.Commit != m.stamp.commit || version.Date == "" || version.Modified {
		t.Errorf("version: %s", out)
	}
	if out := call("scan", "--demo", "--fail-on", "none", "-o", "json"); !strings.Contains(out, "escape-runtime-socket") {
		t.Errorf("scan --demo says\n%.500s", out)
	}
}

// confined makes commands that run the program with dir as their root, by the rights of
// root or by those of a user namespace; why tells that the machine allows neither.
func confined(t *testing.T, dir string) (command func(args ...string) *exec.Cmd, why string) {
	t.Helper()
	in := func(attr *syscall.SysProcAttr) func(args ...string) *exec.Cmd {
		return func(args ...string) *exec.Cmd {
			program := "/" + binPath
			if attr == nil {
				program = filepath.Join(dir, binPath)
			}
			cmd := exec.CommandContext(t.Context(), program, args...)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{"PATH=/usr/bin"}, attr
			return cmd
		}
	}
	attr := &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if os.Geteuid() != 0 {
		attr = &syscall.SysProcAttr{
			Chroot: dir, Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}},
		}
	}
	err := in(attr)("version", "--short").Run()
	if _, ran := errors.AsType[*exec.ExitError](err); err == nil || ran {
		return in(attr), ""
	}
	return in(nil), err.Error()
}

func TestRootCertificates(t *testing.T) {
	t.Parallel()
	n := 0
	for rest := rootCertificates(); len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("%d bytes after certificate %d are none", len(rest), n)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !cert.IsCA {
			t.Errorf("%s is no authority", cert.Subject)
		}
	}
	if n < 100 {
		t.Errorf("only %d roots", n)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(rootCertificates()) {
		t.Error("Go takes none of them")
	}
}

func TestBillOfMaterials(t *testing.T) {
	m := theRelease(t)
	text, err := makeBill(m.stamp, m.binaries[:1])
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Packages      []struct{ SPDXID, Name, VersionInfo, LicenseDeclared string }
		Relationships []struct {
			SPDXElementID, RelatedSPDXElement, RelationshipType string
		}
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile("../../LICENSE"); err != nil || !slices.Equal(licencesIn(text), []string{ownLicence}) {
		t.Errorf("LICENSE is %v, want %s (%v)", licencesIn(text), ownLicence, err)
	}
	if doc == nil || len(bill.Packages) != len(m.binaries[0].info.Deps)+2 {
		t.Errorf("%d packages for %d modules, the program and the standard library", len(bill.Packages), len(m.binaries[0].info.Deps))
	}
	ids, licences, unknown := map[string]bool{"SPDXRef-DOCUMENT": true}, map[string]string{}, 0
	for _, p := range bill.Packages {
		if ids[p.SPDXID] {
			t.Errorf("%s is there twice", p.SPDXID)
		}
		ids[p.SPDXID], licences[p.Name] = true, p.LicenseDeclared
		if p.LicenseDeclared == noAssertion {
			unknown++
		}
	}
	for _, r := range bill.Relationships {
		if !ids[r.SPDXElementID] || !ids[r.RelatedSPDXElement] {
			t.Errorf("%s %s %s speaks of what is not there", r.SPDXElementID, r.RelationshipType, r.RelatedSPDXElement)
		}
	}
	for name, want := range map[string]string{module: ownLicence, "k8s.io/client-go": "Apache-2.0", "github.com/spf13/pflag": "BSD-3-Clause", "github.com/charmbracelet/bubbletea": "MIT", "stdlib": "BSD-3-Clause"} {
		if licences[name] != want {
			t.Errorf("%s is under %q, want %q", name, licences[name], want)
		}
	}
	if unknown > len(bill.Packages)/20 {
		t.Errorf("of %d packages %d have no licence that is known", len(bill.Packages), unknown)
	}
}

// What is pushed is what is in the archive.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	archive := theArchive(t)
	pushed, err := push(t.Context(), archive, []string{host + "/a/b:v1.2.3", host + "/a/b:latest"})
	if err != nil {
		t.Fatal(err)
	}
	index, err := openImage(archive, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := host + "/a/b@" + digest.String(); pushed != want {
		t.Errorf("got %s, want %s", pushed, want)
	}
	for _, tag := range []string{"v1.2.3", "latest"} {
		ref, err := name.ParseReference(host + "/a/b:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Index(ref, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(got); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
		if d, err := got.Digest(); err != nil || d != digest {
			t.Errorf("%s: digest %s, %v, want %s", tag, d, err, digest)
		}
	}
}

// An archive of somebody else's writes nowhere but where it is told to.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	for _, header := range []*tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg, Mode: 0o644}, {Name: "/etc/out", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		var data bytes.Buffer
		tw := tar.NewWriter(&data)
		if err := errors.Join(tw.WriteHeader(header), tw.Close()); err != nil {
			t.Fatal(err)
		}
		if err := unpack(&data, t.TempDir()); err == nil {
			t.Errorf("%s was unpacked", header.Name)
		}
	}
}
