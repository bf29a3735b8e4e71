package house_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/escape-scanner/escape-scanner"

// root is the folder of go.mod, from this package's own.
var root = filepath.Join("..", "..")

// goCommand runs the go command in the root and returns what it printed.
//
// What the go command reads, the cache of test results does not see. It sees what
// the test itself reads: go.mod here, and the folders that goFiles walks.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	goFiles(t)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// goPackage is what go list tells about a package of ours.
type goPackage struct {
	ImportPath string
	// Imports are the imports of its code, without tests.
	Imports []string
	// Deps are all that it reaches by them.
	Deps []string
}

// room is the path of the package below the module.
func (p goPackage) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(goCommand(t, "list", "-json=ImportPath,Imports,Deps", "./...")))
	var packages []goPackage
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// goFiles are the Go files of the module, by their paths from the root with
// forward slashes. Nested modules and what git does not keep are left out.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if strings.HasSuffix(rel, ".go") {
				files = append(files, filepath.ToSlash(rel))
			}
			return nil
		}
		if rel == "." {
			return nil
		}
		if name := d.Name(); name == "bin" || name == "testdata" || strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return files
}
