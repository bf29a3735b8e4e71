package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/report"
)

// liveLine is the one line on a terminal that says what is going on. Elsewhere it
// says nothing.
type liveLine struct {
	w     io.Writer
	width int
	drawn bool
}

func (a *app) liveLine() *liveLine {
	width, terminal := a.terminalWidth(a.stderr)
	if !terminal {
		return &liveLine{}
	}
	return &liveLine{w: a.stderr, width: width}
}

// say redraws the line; nothing wipes it.
func (l *liveLine) say(text string) {
	if l.w == nil || text == "" && !l.drawn {
		return
	}
	text = report.Shorten(text, l.width-1)
	// To erase to the end of the line is shorter than to know what was there.
	fmt.Fprint(l.w, "\r"+text+"\x1b[K")
	if l.drawn = text != ""; !l.drawn {
		fmt.Fprint(l.w, "\r")
	}
}

// errNobodyAsked says that a question could not be put to anybody.
var errNobodyAsked = errors.New("standard input is no terminal, so nobody can be asked: look at the plan, and give --yes")

// confirm asks on the terminal, and takes nothing but a clear yes for one.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if !a.asks() {
		return false, errNobodyAsked
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", report.Clean(question))
	type answer struct {
		line string
		err  error
	}
	// A read of a terminal ends for no context. Who waits in it is left behind when the
	// program ends.
	answers := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		answers <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return false, ctx.Err()
	case got := <-answers:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return false, fmt.Errorf("answer: %w", got.err)
		}
		word := strings.ToLower(strings.TrimSpace(got.line))
		return word == "y" || word == "yes", nil
	}
}

// command is how a verb of remediate is called with the same flags, but for some.
func (a *app) command(verb string, flags *pflag.FlagSet, without ...string) string {
	name := "escape-scanner"
	if strings.HasPrefix(a.program, "kubectl-") {
		name = "kubectl escape-scanner"
	}
	words := []string{name, "remediate", verb}
	skip := map[string]bool{}
	for _, flag := range without {
		skip[flag] = true
	}
	flags.Visit(func(f *pflag.Flag) {
		if skip[f.Name] {
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		dash := "--" + f.Name
		if f.Shorthand != "" {
			dash = "-" + f.Shorthand
		}
		switch {
		case f.Value.Type() == "bool" && value == "true":
			words = append(words, dash)
		case f.Value.Type() == "bool" || f.NoOptDefVal != "":
			words = append(words, "--"+f.Name+"="+shellWord(value))
		default:
			words = append(words, dash, shellWord(value))
		}
	})
	return strings.Join(words, " ")
}

// notOf are the flags that were given and are not among those of another verb.
func notOf(flags *pflag.FlagSet, names []string) []string {
	var out []string
	flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains(names, f.Name) {
			out = append(out, f.Name)
		}
	})
	return out
}

// statusFlagNames are the flags by which a set is found again.
func statusFlagNames() []string {
	f := newClusterFlags()
	cluster, _ := kubectlFlags(f.kube)
	f.addSet(cluster)
	return flagNames(cluster)
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("-_./:,=@%+", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
