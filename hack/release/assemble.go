package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
)

// releasePlatforms are what a release is made for.
func releasePlatforms() []string {
	return []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}
}

// krewManifest is the manifest of the kubectl plugin, as krew's release bot fills it too.
const krewManifest = "deploy/krew/" + program + ".yaml"

// archiveName is how the archive for a platform is called.
func archiveName(version string, p platform) string {
	name := fmt.Sprintf("%s_%s_%s_%s", program, version, p.os, p.arch)
	if p.os == "windows" {
		return name + ".zip"
	}
	return name + ".tar.gz"
}

// writeRelease writes all that a release has. What was in the directory is taken away.
func writeRelease(ctx context.Context, root, dir string, st stamp, binaries []binary) error {
	beside, err := besides(ctx, root, st, binaries)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, b := range binaries {
		if files[archiveName(st.version, b.platform)], err = releaseArchive(st, b, beside); err != nil {
			return fmt.Errorf("archive for %s: %w", b.platform, err)
		}
	}
	if files[program+"_"+st.version+".spdx.json"], err = makeBill(st, binaries); err != nil {
		return err
	}
	sums := checksums(files)
	if len(binaries) == len(releasePlatforms()) {
		if files[program+".yaml"], err = krew(root, st.version, sums); err != nil {
			return err
		}
		// It is fetched from the release too.
		sums = checksums(files)
	}
	files["checksums.txt"] = []byte(sums.String())
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	var entries []entry
	for name, data := range files {
		entries = append(entries, entry{name, 0o644, data})
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return writeFiles(dir, withDirs(entries))
}

// besides are the files that go into every archive with the binary: completions and manual
// pages, which the binary for this machine writes, and what the checkout says.
func besides(ctx context.Context, root string, st stamp, binaries []binary) ([]entry, error) {
	here := platform{runtime.GOOS, runtime.GOARCH}
	i := slices.IndexFunc(binaries, func(b binary) bool { return b.platform == here })
	var own binary
	if i >= 0 {
		own = binaries[i]
	} else {
		var err error
		if own, err = compile(ctx, root, st, here); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "escape-scanner-release")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // What is left is in the directory for temporary files.
	file := filepath.Join(dir, program)
	if err := os.WriteFile(file, own.data, 0o700); err != nil {
		return nil, err
	}
	call := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, file, args...)
		// Nothing of the machine, such as a configuration of its user, gets in.
		cmd.Dir, cmd.Env = dir, []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", st.date.Unix())}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
		}
		return out, nil
	}
	var files []entry
	for shell, name := range map[string]string{"bash": program + ".bash", "zsh": "_" + program, "fish": program + ".fish", "powershell": program + ".ps1"} {
		script, err := call("completion", shell)
		if err != nil {
			return nil, err
		}
		files = append(files, entry{"completions/" + name, 0o644, script})
	}
	if _, err := call("man", "man"); err != nil {
		return nil, err
	}
	pages, err := readFiles(filepath.Join(dir, "man"))
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		files = append(files, entry{"man/" + p.name, 0o644, p.data})
	}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, entry{name, 0o644, text})
	}
	return files, nil
}

// releaseArchive is what people download for a platform.
func releaseArchive(st stamp, b binary, beside []entry) ([]byte, error) {
	name := program
	if b.platform.os == "windows" {
		name += ".exe"
	}
	files := withDirs(append([]entry{{name, 0o755, b.data}}, beside...))
	if b.platform.os == "windows" {
		return zipped(files, st.date)
	}
	return tarGz(files, st.date)
}

// sums are the checksums of files by their names.
type sums map[string]string

func checksums(files map[string][]byte) sums {
	s := sums{}
	for name, data := range files {
		s[name] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return s
}

// String writes them as sha256sum does.
func (s sums) String() string {
	var lines []string
	for name, sum := range s {
		lines = append(lines, sum+"  "+name+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	return strings.Join(lines, "")
}

// krew fills the manifest of the plugin in: krew's release bot gives templates the same
// function.
func krew(root, version string, s sums) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(krewManifest)))
	if err != nil {
		return nil, err
	}
	data := struct{ TagName string }{version}
	manifest, err := template.New(krewManifest).Option("missingkey=error").Funcs(template.FuncMap{
		"addURIAndSha": func(uri, tag string) (string, error) {
			var link bytes.Buffer
			inner, err := template.New("uri").Parse(uri)
			if err != nil {
				return "", err
			}
			if err := inner.Execute(&link, struct{ TagName string }{tag}); err != nil {
				return "", err
			}
			name := link.String()[strings.LastIndexByte(link.String(), '/')+1:]
			sum, ok := s[name]
			if !ok {
				return "", fmt.Errorf("the release has no file %s", name)
			}
			return "uri: " + link.String() + "\n    sha256: " + sum, nil
		},
	}).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := manifest.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
