package main

import (
	"bytes"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// docsRoot is the repository's root.
const docsRoot = "../.."

// unparsed, on a line of its own before a block of code, says that its commands are not
// to be held against the program.
const unparsed = "<!-- docs-test: not parsed -->"

// pagesOfDocs are the pages in Markdown that people read, by their paths from the root.
func pagesOfDocs(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir(docsRoot, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(docsRoot, path)
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case d.IsDir() && rel != "." && (name == "bin" || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") && name != ".github"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, ".md"):
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			pages[filepath.ToSlash(rel)] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// markdownPage is a page taken apart.
type markdownPage struct {
	// prose is the text without blocks of code, headings are what anchors are made of.
	prose    string
	headings []string
	// blocks are the blocks of code, with the language they name.
	blocks []codeBlock
}

type codeBlock struct {
	language, text string
	// before is the last line above the block that is not empty.
	before string
}

func parsePage(text string) markdownPage {
	var p markdownPage
	var prose strings.Builder
	fence, before := "", ""
	var block codeBlock
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			p.blocks, fence = append(p.blocks, block), ""
		case fence != "":
			block.text += line
		case strings.HasPrefix(trimmed, "```"):
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
			block = codeBlock{language: strings.TrimPrefix(trimmed, fence), before: before}
		default:
			if heading := strings.TrimLeft(line, "#"); len(heading) < len(line) && strings.HasPrefix(heading, " ") {
				p.headings = append(p.headings, strings.TrimSpace(heading))
			}
			prose.WriteString(line)
		}
		if trimmed != "" {
			before = trimmed
		}
	}
	p.prose = prose.String()
	return p
}

var (
	codeSpan     = regexp.MustCompile("`[^`]*`")
	linkTarget   = regexp.MustCompile(`\]\(<?([^()\s>]+)>?(?: "[^"]*")?\)`)
	linkText     = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	imageSource  = regexp.MustCompile(`(?:src|srcset|href)="([^"]+)"`)
	givenAnchor  = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	kubectlNamed = regexp.MustCompile(`^(?:kubectl escape-scanner|(?:\./)?bin/escape-scanner)\b`)
)

// anchors are what a link to the page may name after its #, as GitHub makes them.
func (p markdownPage) anchors() map[string]bool {
	set := map[string]bool{}
	for _, h := range p.headings {
		h = linkText.ReplaceAllString(h, "$1")
		var b strings.Builder
		for _, r := range strings.ToLower(h) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		set[b.String()] = true
	}
	for _, a := range givenAnchor.FindAllStringSubmatch(p.prose, -1) {
		set[a[1]] = true
	}
	return set
}

// Links inside of the repository lead somewhere, their anchors too.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	pages := pagesOfDocs(t)
	parsed := map[string]markdownPage{}
	for name, text := range pages {
		parsed[name] = parsePage(text)
	}
	links := 0
	for name, page := range parsed {
		text := codeSpan.ReplaceAllString(page.prose, "")
		for _, m := range slices.Concat(linkTarget.FindAllStringSubmatch(text, -1), imageSource.FindAllStringSubmatch(text, -1)) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			links++
			target := name
			if u.Path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), filepath.FromSlash(u.Path)))
				if _, err := os.Stat(filepath.Join(docsRoot, filepath.FromSlash(target))); err != nil {
					t.Errorf("%s: %s leads nowhere", name, m[1])
					continue
				}
			}
			if u.Fragment == "" {
				continue
			}
			if page, ok := parsed[target]; !ok || !page.anchors()[u.Fragment] {
				t.Errorf("%s: %s has no such heading", name, m[1])
			}
		}
	}
	if links == 0 {
		t.Error("no links found")
	}
}

// Each page below docs can be reached from the README.
func TestDocsAreLinked(t *testing.T) {
	t.Parallel()
	pages := pagesOfDocs(t)
	seen, next := map[string]bool{"README.md": true}, []string{"README.md"}
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		for _, m := range linkTarget.FindAllStringSubmatch(parsePage(pages[name]).prose, -1) {
			path, _, _ := strings.Cut(m[1], "#")
			target := filepath.ToSlash(filepath.Join(filepath.Dir(name), filepath.FromSlash(path)))
			if index := target + "/README.md"; pages[index] != "" {
				target = index
			}
			if pages[target] != "" && !seen[target] {
				seen[target], next = true, append(next, target)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if strings.HasPrefix(name, "docs/") && !strings.HasPrefix(name, "docs/design/") && !seen[name] {
			t.Errorf("%s cannot be reached from README.md", name)
		}
	}
}

// Commands in blocks of code are ones that the program takes: the command is there, and
// so is each flag, with a value that it can read.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	commands := 0
	for name, text := range pagesOfDocs(t) {
		if name == "CHANGELOG.md" {
			continue
		}
		for _, b := range parsePage(text).blocks {
			if b.before == unparsed {
				continue
			}
			for _, words := range shellCommands(b) {
				commands++
				if err := parsesAsCommand(words); err != "" {
					t.Errorf("%s: %s: %s", name, strings.Join(words, " "), err)
				}
			}
		}
	}
	if commands < 50 {
		t.Errorf("only %d commands found", commands)
	}
}

// shellCommands are the words of each command of escape-scanner in a block: lines of a
// shell or of a workflow, and what stands behind a prompt.
func shellCommands(b codeBlock) [][]string {
	switch b.language {
	case "sh", "bash", "console", "shell", "yaml", "":
	default:
		return nil
	}
	var found [][]string
	text := strings.ReplaceAll(b.text, "\\\n", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		prompt, isPrompt := strings.CutPrefix(line, "$ ")
		if isPrompt {
			line = prompt
		}
		line = strings.TrimPrefix(strings.TrimPrefix(line, "- "), "run: ")
		for _, words := range splitCommands(line) {
			for len(words) > 0 && (words[0] == "sudo" || words[0] == "exec" || strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-")) {
				words = words[1:]
			}
			joined := kubectlNamed.ReplaceAllString(strings.Join(words[:min(2, len(words))], " "), "escape-scanner")
			if joined == "" || !strings.HasPrefix(joined+" ", "escape-scanner ") {
				continue
			}
			if words[0] == "kubectl" {
				words = words[1:]
			}
			found = append(found, words[1:])
		}
	}
	return found
}

// splitCommands takes a line of a shell apart: commands at |, && and ;, words at spaces
// outside of quotes, without comments and redirections.
func splitCommands(line string) [][]string {
	var commands [][]string
	var words []string
	word, inWord, quote, skip := strings.Builder{}, false, rune(0), false
	endWord := func() {
		if inWord && !skip {
			words = append(words, word.String())
		}
		skip = skip && !inWord
		word.Reset()
		inWord = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '#' && !inWord:
			endWord()
			return append(commands, words)
		case r == ' ' || r == '\t':
			endWord()
		case r == '|' || r == '&' || r == ';':
			endWord()
			commands, words = append(commands, words), nil
		case r == '>' || r == '<':
			endWord()
			skip = true
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	endWord()
	return append(commands, words)
}

// parsesAsCommand says why the program would not take the words; "" when it would.
func parsesAsCommand(words []string) string {
	a := &app{deps: testDeps(""), stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	root := a.rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	for _, name := range []string{"help", "version"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			return ""
		}
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && len(cmd.Flags().Args()) > 0 {
		return "there is no command " + cmd.Flags().Arg(0)
	}
	return ""
}

// What the tests above do to pages, on pages that are wrong.
func TestDocsTestsSee(t *testing.T) {
	t.Parallel()
	for words, wrong := range map[string]bool{
		"scan --demo": false, "scan --demmo": true, "scann": true, "scan -o": true, "scan --page-size x": true,
		"rules explain escape-privileged": false, "rules explain": true, "--version": false, "scan --help": false,
		"remediate plan -n shop --fit precise": false, "remediate plann": true, "scan extra": true,
	} {
		if got := parsesAsCommand(strings.Fields(words)); (got != "") != wrong {
			t.Errorf("%s: %q, wrong: %v", words, got, wrong)
		}
	}
	block := codeBlock{language: "sh", text: "helm template ./c | escape-scanner scan -f - >out # and so on\n" +
		"X=1 sudo escape-scanner node && kubectl escape-scanner scan \\\n  -n 'a b'\n$ bin/escape-scanner scan\nescape-scanner-thing\ncat escape-scanner\n"}
	want := [][]string{{"scan", "-f", "-"}, {"node"}, {"scan", "-n", "a b"}, {"scan"}}
	if got := shellCommands(block); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("commands %q, want %q", got, want)
	}
	page := parsePage("# One `two` [three](x.md)!\n\n" + unparsed + "\n\n```sh\n# not a heading\n```\n")
	if !page.anchors()["one-two-three"] || len(page.anchors()) != 1 || page.blocks[0].before != unparsed {
		t.Errorf("page %+v, anchors %v", page, page.anchors())
	}
}
