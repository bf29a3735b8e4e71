package main

import (
	"encoding/pem"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	// nonroot is the user of the image: a number, so that Kubernetes can see that it is
	// not root.
	nonroot  = "65532:65532"
	binPath  = "usr/bin/escape-scanner"
	billPath = "usr/share/sbom/escape-scanner.spdx.json"
	// certificates is the first of the places where Go looks for roots.
	certificates = "etc/ssl/certs/ca-certificates.crt"
)

// entry is a file or, without data, a directory of the image.
type entry struct {
	name string
	mode os.FileMode
	data []byte
}

// rootfs is what is in the image, as its two layers: what seldom changes, and the program.
func rootfs(st stamp, b binary) ([][]entry, error) {
	bill, err := makeBill(st, []binary{b})
	if err != nil {
		return nil, err
	}
	return [][]entry{
		withDirs([]entry{
			{certificates, 0o644, rootCertificates()},
			{"etc/group", 0o644, []byte("root:x:0:\nnonroot:x:65532:\n")},
			{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		}),
		withDirs([]entry{
			{binPath, 0o755, b.data},
			{billPath, 0o644, bill},
		}),
	}, nil
}

// rootCertificates are Mozilla's roots as the module pins them: not those of the machine
// that builds. A root that is trusted only for certificates of before a date is left
// out, for a file of certificates cannot say so.
func rootCertificates() []byte {
	var b strings.Builder
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return []byte(b.String())
}

// withDirs adds the directories that the files are in, and sorts.
func withDirs(files []entry) []entry {
	all := slices.Clone(files)
	seen := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.name); dir != "." && !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			all = append(all, entry{name: dir, mode: os.ModeDir | 0o755})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all
}

// writeFiles writes entries below a directory. A directory that two layers have is
// written once.
func writeFiles(dir string, entries []entry) error {
	for _, e := range entries {
		target := filepath.Join(dir, filepath.FromSlash(e.name))
		if e.mode.IsDir() {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
		} else if err := os.WriteFile(target, e.data, e.mode.Perm()); err != nil {
			return err
		}
		// The umask is the machine's own affair.
		if err := os.Chmod(target, e.mode.Perm()); err != nil {
			return err
		}
	}
	return nil
}
