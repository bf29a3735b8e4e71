// Package shell finds the programs that a command line calls, as far as they can be
// read from it. It is no shell: it runs nothing, and what it cannot follow it says.
package shell

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Reading is what was read of a command line.
type Reading struct {
	// Calls are the programs in command position as they are written, in order and
	// without repeats: "curl", "/usr/bin/curl", "./get". The first is the process itself.
	Calls []string
	// Mentions are other words that could name a program, but need not be one.
	Mentions []string
	// Unseen says why more may be called than is read: a script in a file, a variable
	// of which the value is not known.
	Unseen []string
}

// Hole stands in a word for what is not known of it.
const Hole = "\x00"

// Limits on what one command line can cost.
const (
	maxDepth = 12
	maxWord  = 1 << 14
	maxValue = 1 << 10
	maxKept  = 4096
)

// Argv reads the arguments of a process, the program first. A Hole in them stands for
// text that is not known.
func Argv(argv []string) Reading {
	r := &reader{vars: map[string]string{}, functions: map[string]bool{}}
	words := make([]word, len(argv))
	for i, arg := range argv {
		words[i] = word{text: arg, quoted: true}
	}
	r.call(words, nil, 0)
	return r.Reading
}

// Script reads a script of a POSIX shell, with what bash adds to it as far as it is
// common.
func Script(text string) Reading {
	r := &reader{vars: map[string]string{}, functions: map[string]bool{}}
	r.script(text, 0)
	return r.Reading
}

// word is one word of a command.
type word struct {
	text string
	// quoted: a part of it was in quotes, so that it is no reserved word.
	quoted bool
	// program: it is no function, whatever it is called.
	program bool
	// fields are what it falls apart into: it is one variable without quotes.
	fields []string
}

func (w *word) known() bool { return !strings.Contains(w.text, Hole) }

// reader collects what is called.
type reader struct {
	Reading
	// vars are values that the script itself gives.
	vars      map[string]string
	functions map[string]bool
}

func keep(list *[]string, text string) {
	if text != "" && len(*list) < maxKept && !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}

func (r *reader) unseen(why string) { keep(&r.Unseen, why) }

func (r *reader) mention(words []word) {
	for i := range words {
		w := &words[i]
		switch {
		case w.text == "" || strings.HasPrefix(w.text, "-") || strings.ContainsAny(w.text, " \t\n"):
		case w.known():
			keep(&r.Mentions, w.text)
		default:
			keep(&r.Mentions, knownBase(w.text))
		}
	}
}

// knownBase is the last part of a path of which the first is not known.
func knownBase(text string) string {
	if base := path.Base(text); strings.Contains(text, "/") && !strings.Contains(base, Hole) {
		return base
	}
	return ""
}

func (r *reader) script(text string, depth int) {
	if depth > maxDepth {
		r.unseen("commands nested too deep to be followed")
		return
	}
	p := &parser{src: text, r: r, depth: depth}
	p.commands(0)
}

// call takes a command with what it reads from its standard input, nil where that is
// not known.
func (r *reader) call(words []word, stdin *string, depth int) {
	if len(words) == 0 {
		return
	}
	if depth > maxDepth {
		r.unseen("commands nested too deep to be followed")
		return
	}
	first, args := words[0], words[1:]
	if len(first.fields) > 0 {
		split := make([]word, len(first.fields), len(first.fields)+len(args))
		for i, f := range first.fields {
			split[i] = word{text: f}
		}
		words = append(split, args...)
		first, args = words[0], words[1:]
	}
	if first.text == "" && !first.quoted {
		// A variable that is empty is no word at all.
		r.call(args, stdin, depth+1)
		return
	}
	if !first.known() {
		r.unseen("a command that stands in a variable or is made up as it runs")
		r.mention(words)
		return
	}
	name := path.Base(first.text)
	if r.functions[first.text] && !first.program {
		r.mention(args)
		return
	}
	if !builtin(first.text) {
		keep(&r.Calls, first.text)
	}
	switch {
	case isShell(name):
		r.shell(args, stdin, depth)
	case r.special(name, args, depth):
	default:
		if wrap, ok := wrapperOf(name); ok {
			r.wrapped(wrap, args, depth)
			return
		}
		if isScript(name) {
			r.unseen("the script " + printable(first.text))
		}
		r.mention(args)
	}
}

// builtin tells whether a shell runs the command itself.
func builtin(name string) bool {
	switch name {
	case ".", ":", "[", "alias", "break", "builtin", "cd", "command", "continue", "declare", "echo", "eval", "exec", "exit",
		"export", "false", "hash", "kill", "let", "local", "printf", "pwd", "read", "readonly", "return", "set", "shift",
		"shopt", "source", "test", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait":
		return true
	}
	return false
}

func isShell(name string) bool {
	switch name {
	case "sh", "ash", "bash", "dash", "hush", "ksh", "mksh", "zsh", "rbash":
		return true
	}
	return false
}

// isScript tells by its name that a program is a script, in a file that nobody read.
func isScript(name string) bool {
	switch path.Ext(name) {
	case ".sh", ".bash", ".ash", ".ksh", ".zsh", ".py", ".rb", ".pl", ".php", ".js":
		return true
	}
	return strings.Contains(name, "entrypoint")
}

// shell follows a shell: its script is an argument, a file, or what it reads.
func (r *reader) shell(args []word, stdin *string, depth int) {
	inline := false
	for i := 0; i < len(args); i++ {
		arg := args[i].text
		switch {
		case arg == "--" || arg == "-":
		case arg == "-o" || arg == "+o" || arg == "-O" || arg == "--rcfile" || arg == "--init-file":
			i++
		case strings.HasPrefix(arg, "--"), strings.HasPrefix(arg, "+"):
		case strings.HasPrefix(arg, "-"):
			inline = inline || strings.Contains(arg, "c")
			if strings.HasSuffix(arg, "o") {
				i++
			}
		case inline:
			r.inline(&args[i], depth)
			// What follows are the script's own arguments.
			r.mention(args[i+1:])
			return
		default:
			r.unseen("the script " + printable(arg))
			r.mention(args[i+1:])
			return
		}
	}
	if stdin != nil {
		r.script(*stdin, depth+1)
		return
	}
	r.unseen("what a shell reads from its input")
}

// inline follows a script that is given as a word.
func (r *reader) inline(w *word, depth int) {
	if !w.known() {
		r.unseen("parts of a script that are not known before it runs")
	}
	r.script(w.text, depth+1)
}

func printable(text string) string {
	return strings.ReplaceAll(text, Hole, "…")
}

// special follows commands whose arguments hold commands in a way of their own.
func (r *reader) special(name string, args []word, depth int) bool {
	switch name {
	case "eval":
		texts := make([]string, len(args))
		for i := range args {
			texts[i] = args[i].text
		}
		r.inline(&word{text: clip(strings.Join(texts, " "))}, depth)
	case ".", "source":
		if len(args) > 0 {
			r.unseen("the script " + printable(args[0].text))
		}
	case "trap":
		if len(args) > 1 && args[0].text != "-" {
			r.inline(&args[0], depth)
		}
	case "[":
		r.mention(args[:max(0, len(args)-1)])
	case "apk", "apt", "apt-get", "dnf", "dpkg", "gem", "npm", "pacman", "pip", "pip3", "rpm", "yum", "zypper":
		// What they are given are packages, not programs that they call.
	case "echo", "printf", "export", "local", "readonly", "declare", "typeset", ":", "true", "false":
	case "find":
		r.find(args, depth)
	case "su", "runuser":
		r.su(args, depth)
	case "command":
		if len(args) > 0 && (strings.HasPrefix(args[0].text, "-v") || strings.HasPrefix(args[0].text, "-V")) {
			r.mention(args[1:])
			return true
		}
		return false
	case "perl", "python", "python2", "python3", "ruby", "node", "php", "lua", "awk", "gawk", "mawk", "sed":
		r.code(name, args)
	default:
		return false
	}
	return true
}

// code takes from a program in another language the words that could name programs.
func (r *reader) code(name string, args []word) {
	r.unseen("the code that " + name + " runs")
	for i := range args {
		for text := range strings.FieldsFuncSeq(args[i].text, func(c rune) bool {
			return c >= utf8.RuneSelf || !nameByte(byte(c)) && !strings.ContainsRune("-./", c)
		}) {
			keep(&r.Mentions, text)
		}
	}
}

// find follows the commands of -exec and the like.
func (r *reader) find(args []word, depth int) {
	for i := 0; i < len(args); i++ {
		switch args[i].text {
		case "-exec", "-execdir", "-ok", "-okdir":
			end := i + 1
			for end < len(args) && args[end].text != ";" && args[end].text != "+" {
				end++
			}
			r.call(args[i+1:end], nil, depth+1)
			i = end
		}
	}
}

// su follows the script of -c.
func (r *reader) su(args []word, depth int) {
	for i := range args {
		if text := args[i].text; (text == "-c" || text == "--command") && i+1 < len(args) {
			r.inline(&args[i+1], depth)
			return
		}
		if args[i].text == "--" {
			r.call(args[i+1:], nil, depth+1)
			return
		}
	}
	r.unseen("what a login shell reads from its input")
}

// clip keeps a text from growing without end.
func clip(text string) string {
	if len(text) > maxWord {
		return text[:maxWord] + Hole
	}
	return text
}
