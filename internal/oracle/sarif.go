package oracle

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// SARIFSchema is the schema of SARIF 2.1.0. It is taken out of the source of a
// module that carries it and does not export it.
func SARIFSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	dir := moduleDir(tb, "github.com/owenrumney/go-sarif/v3")
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "pkg/report/v210/sarif/schema.go"), nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	text := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && text == "" {
			text, err = strconv.Unquote(lit.Value)
		}
		return true
	})
	if err != nil {
		tb.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const name = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	if err := compiler.AddResource(name, value); err != nil {
		tb.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return schema
}
