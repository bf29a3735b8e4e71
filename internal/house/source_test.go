package house_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is how long a file may be: more than one thing lives in a longer one.
const maxLines = 500

// longFiles are the files that may be longer, with the reason.
var longFiles = map[string]string{}

// vagueNames are package names that say nothing of what is inside.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}

// banned are things of the standard library that only some code may use.
var banned = []struct {
	pkg   string
	names []string // All of the package when empty.
	why   string
	// allowed tells where it is right.
	allowed func(file string) bool
}{
	{"fmt", []string{"Print", "Printf", "Println"}, "a library that prints corrupts JSON and screens: write to the writer that you are given", inCommandOrTest},
	{"os", []string{"Stdout", "Stderr", "Stdin"}, "take a reader or a writer instead", inCommandOrTest},
	{"os", []string{"Exit"}, "return an error: only main ends the program", func(file string) bool {
		return file == "cmd/scanner/main.go" || isTest(file)
	}},
	{"os/signal", nil, "only main listens to signals: take a context instead", func(file string) bool {
		// A terminal that hangs up is the end of the one command that draws on it.
		return file == "cmd/scanner/main.go" || file == "cmd/scanner/tui.go" || isTest(file)
	}},
	{"log", []string{"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Default", "Output"}, "what a run has to say leaves as an event or an error", inCommandOrTest},
	{"context", []string{"Background", "TODO"}, "take the caller's context, or nobody can cancel", inCommandOrTest},
	{"time", []string{"Sleep"}, "in code nobody can cancel it, in tests it is slow on fast machines and too short on slow ones: wait for what you wait for", func(string) bool { return false }},
	{"math/rand", nil, "use math/rand/v2, or crypto/rand for secrets", func(string) bool { return false }},
	{"io/ioutil", nil, "use io and os", func(string) bool { return false }},
	{"github.com/pkg/errors", nil, "use errors and fmt.Errorf", func(string) bool { return false }},
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.go") }

func inCommandOrTest(file string) bool {
	return isTest(file) || strings.HasPrefix(file, "cmd/") || strings.HasPrefix(file, "hack/")
}

func TestSourceKeepsTheRules(t *testing.T) {
	for _, file := range goFiles(t) {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		complaints, err := brokenRules(file, src)
		if err != nil {
			t.Error(err)
		}
		for _, c := range complaints {
			t.Error(c)
		}
	}
}

func TestLongFilesAreStillLong(t *testing.T) {
	for file := range longFiles {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil || lines(src) <= maxLines {
			t.Errorf("%s needs no exception any more: take it off the list (%v)", file, err)
		}
	}
}

func lines(src []byte) int { return strings.Count(string(src), "\n") }

// brokenRules are the rules that a file breaks, each with its place.
func brokenRules(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var complaints []string
	complain := func(pos token.Pos, format string, args ...any) {
		complaints = append(complaints, fmt.Sprintf("%s:%d: ", name, fset.Position(pos).Line)+fmt.Sprintf(format, args...))
	}
	if n := lines(src); n > maxLines && longFiles[name] == "" {
		complain(file.Name.Pos(), "%d lines, at most %d: split it by what it does", n, maxLines)
	}
	if slices.Contains(vagueNames, strings.TrimSuffix(file.Name.Name, "_test")) {
		complain(file.Name.Pos(), "package %s says nothing of what is inside", file.Name.Name)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			complain(f.Pos(), "init runs before anybody can pass it anything: call a function")
		}
	}
	imports := importNames(file)
	for _, spec := range file.Imports {
		for _, b := range banned {
			if b.names == nil && importPath(spec) == b.pkg && !b.allowed(name) {
				complain(spec.Pos(), "%s: %s", b.pkg, b.why)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := selector.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, b := range banned {
			if imports[x.Name] == b.pkg && slices.Contains(b.names, selector.Sel.Name) && !b.allowed(name) {
				complain(n.Pos(), "%s.%s: %s", b.pkg, selector.Sel.Name, b.why)
			}
		}
		return true
	})
	return complaints, nil
}

// importNames are the packages that a file imports by the names it uses for them.
func importNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range file.Imports {
		p := importPath(spec)
		if spec.Name != nil {
			names[spec.Name.Name] = p
		} else {
			names[path.Base(p)] = p
		}
	}
	return names
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return p
}

// The rules bite.
func TestBrokenRules(t *testing.T) {
	for _, test := range []struct{ file, src, want string }{
		{"scan/a.go", "package scan\n", ""},
		{"scan/a.go", "package scan\nfunc init() {}\n", "scan/a.go:2: init"},
		{"scan/a.go", "package scan\ntype t struct{}\nfunc (t) init() {}\n", ""},
		{"a/a.go", "package util\n", "package util"},
		{"a/a_test.go", "package helpers_test\n", "package helpers_test"},
		{"scan/a.go", "package scan\nimport \"fmt\"\nvar _ = fmt.Sprintf\n", ""},
		{"scan/a.go", "package scan\nimport \"fmt\"\nfunc f() { fmt.Println() }\n", "scan/a.go:3: fmt.Println"},
		{"scan/a.go", "package scan\nimport x \"fmt\"\nfunc f() { x.Println() }\n", "scan/a.go:3: fmt.Println"},
		{"cmd/scanner/a.go", "package main\nimport \"fmt\"\nfunc f() { fmt.Println() }\n", ""},
		{"cmd/scanner/a.go", "package main\nimport \"os\"\nfunc f() { os.Exit(1) }\n", "os.Exit"},
		{"cmd/scanner/main.go", "package main\nimport \"os\"\nfunc f() { os.Exit(1) }\n", ""},
		{"report/a.go", "package report\nimport \"os\"\nvar w = os.Stdout\n", "os.Stdout"},
		{"report/a.go", "package report\nimport \"log\"\nfunc f() { log.Fatal() }\n", "log.Fatal"},
		{"internal/kube/a.go", "package kube\nimport \"context\"\nvar c = context.Background()\n", "context.Background"},
		{"internal/kube/a_test.go", "package kube\nimport \"context\"\nvar c = context.Background()\n", ""},
		{"internal/kube/a_test.go", "package kube\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		{"scan/a.go", "package scan\nimport \"math/rand\"\n", "math/rand"},
		{"scan/a.go", "package scan\nimport \"math/rand/v2\"\n", ""},
		{"scan/a.go", "package scan\n" + strings.Repeat("//\n", maxLines), "501 lines"},
	} {
		complaints, err := brokenRules(test.file, []byte(test.src))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(complaints, "\n")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q\ngot %q, want %q", test.file, test.src, got, test.want)
		}
	}
}
