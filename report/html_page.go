package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"text/template/parse"
)

// htmlFiles are the templates of documents, and what stands in the head of each.
//
//go:embed html
var htmlFiles embed.FS

// page is an HTML document: one file that asks for nothing, and lets nothing in.
type page struct {
	// Kicker says what kind of document it is, in a word or two above the title.
	Kicker string
	// Title heads the document.
	Title string
	// Facts stand below the title, Notes below these.
	Facts []pageFact
	Notes []string
	// Nav leads to the sections of the body.
	Nav []pageLink
	// Body is what htmlBody made.
	Body template.HTML
	// Foot is the last line: by what it was made.
	Foot string
}

// pageFact is one thing that is said of the whole document.
type pageFact struct{ Name, Value string }

// pageLink leads to a section of the document. Count is how much there is of it, empty
// where nothing is to be counted.
type pageLink struct{ ID, Text, Count string }

// writePage writes a document.
func writePage(w io.Writer, p *page) error {
	style, script, err := pageAssets()
	if err != nil {
		return err
	}
	shell, err := htmlTemplate("page")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	out.Grow(len(p.Body) + len(style) + len(script) + 1<<13)
	err = shell.Execute(&out, map[string]any{
		"Page":   p,
		"Policy": pagePolicy(style, script),
		// Both are files of this package: nothing in them comes from a run.
		"Style":  template.HTML("<style>" + style + "</style>"),
		"Script": template.HTML("<script>" + script + "</script>"),
	})
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

func pageAssets() (style, script string, err error) {
	css, err := htmlFiles.ReadFile("html/page.css")
	if err != nil {
		return "", "", err
	}
	js, err := htmlFiles.ReadFile("html/page.js")
	return string(css), string(js), err
}

// pagePolicy is the Content-Security-Policy of a document: this very style and this
// very script, and nothing from anywhere. An attribute that is style or script is
// refused as well.
func pagePolicy(style, script string) string {
	return "default-src 'none'; style-src " + sourceHash(style) + "; script-src " + sourceHash(script) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// htmlBody fills in the templates of a body: those of the files that begin with its
// name, NAME.tmpl first.
func htmlBody(name string, data any) (template.HTML, error) {
	t, err := htmlTemplate(name)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return "", fmt.Errorf("page: %w", err)
	}
	// It was escaped just now.
	return template.HTML(out.String()), nil
}

// htmlTemplate is a template with the parts that all of them share. Whatever it
// writes is cleaned and then escaped: no template can forget to.
func htmlTemplate(name string) (*template.Template, error) {
	t, err := template.New(name+".tmpl").Funcs(htmlFuncs()).ParseFS(htmlFiles, "html/parts.tmpl", "html/"+name+"*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	for _, part := range t.Templates() {
		if part.Tree != nil {
			cleanAll(part.Tree.Root)
		}
	}
	return t, nil
}

// cleanAll has every value of a template pass through cleanValue before it is escaped.
func cleanAll(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				clean := parse.NewIdentifier("clean").SetPos(n.Pos)
				n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{clean}})
			}
		case *parse.IfNode:
			cleanAll(n.List)
			cleanAll(n.ElseList)
		case *parse.RangeNode:
			cleanAll(n.List)
			cleanAll(n.ElseList)
		case *parse.WithNode:
			cleanAll(n.List)
			cleanAll(n.ElseList)
		}
	}
}

// cleanValue is a value of which nothing acts on its reader. What is HTML already was
// made by a template.
func cleanValue(v any) any {
	switch v := v.(type) {
	case template.HTML, int, int64, float64, bool:
		return v
	case string:
		return Clean(v)
	default:
		return Clean(fmt.Sprint(v))
	}
}
