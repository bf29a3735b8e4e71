package shell_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate/preview/shell"
)

func TestScript(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		calls        string
		mentions     string
		unseen       string
	}{
		{name: "nothing", script: " \n\t# curl x\n"},
		{name: "one call", script: "curl -f http://x", calls: "curl", mentions: "http://x"},
		{name: "pipe, and, or, semicolon, background", script: "a | b && c || d; e & f", calls: "a b c d e f"},
		{name: "words stuck to operators", script: "a|b&&c||d;e&f", calls: "a b c d e f"},
		{name: "lines", script: "a\nb\\\nb x\nc", calls: "a bb c", mentions: "x"},
		{name: "a string is no call", script: `echo "use curl or wget"; echo curl`},
		{name: "a comment is no call", script: "a # curl\n#wget\nb a#curl", calls: "a b", mentions: "a#curl"},
		{name: "quoted command", script: `"curl" x; 'wget' y; c\url z`, calls: "curl wget", mentions: "x y z"},
		{name: "parts of a word", script: `/usr/"bin"/cu'rl' x`, calls: "/usr/bin/curl", mentions: "x"},
		{name: "substitution", script: `a "$(curl "http://$(wget -q x)")"`, calls: "wget curl a", mentions: "x"},
		{name: "backticks", script: "a `curl x \\`wget\\``", calls: "wget curl a", mentions: "x"},
		{name: "substitution as the command", script: "$(curl x)", calls: "curl", mentions: "x", unseen: "made up as it runs"},
		{name: "arithmetic", script: "a $((1 + (2 * 3))) $(( x )) ; ((i++)); b", calls: "a b"},
		{name: "assignments", script: "A=curl B='w get' cmd; C=$(wget x) D=1; e", calls: "cmd wget e", mentions: "x"},
		{name: "a variable that the script sets", script: "C=/usr/bin/curl\n$C -f x; \"${C}\" y", calls: "/usr/bin/curl", mentions: "x y"},
		{name: "a variable with arguments", script: "C='curl -f'\n$C x", calls: "curl", mentions: "x"},
		{name: "a variable of the environment", script: "$CMD curl", mentions: "curl", unseen: "in a variable"},
		{name: "a variable set twice", script: "C=curl; C=wget; $C", mentions: "curl wget", unseen: "in a variable"},
		{name: "a folder in a variable", script: `"$BIN"/curl x`, mentions: "curl x", unseen: "in a variable"},
		{name: "a default", script: `${GET:-curl} x`, mentions: "curl x", unseen: "in a variable"},
		{name: "an empty variable", script: "E=; $E curl", calls: "curl"},
		{name: "subshell and group", script: "(a; b) && { c; d; }", calls: "a b c d"},
		{name: "if", script: "if ! a; then b; elif c; then d; else e; fi", calls: "a b c d e"},
		{name: "while", script: "while a; do b; done; until c; do d; done < f", calls: "a b c d"},
		{name: "for", script: "for x in curl wget; do run $x; done", calls: "run", mentions: "curl wget"},
		{name: "for on lines", script: "for x in a b\ndo\n c\ndone", calls: "c", mentions: "a b"},
		{name: "case", script: "case $1 in\n curl|wget) a;;\n (b) c ;;\n *) d\nesac\ne", calls: "a c d e"},
		{name: "case in a substitution", script: "x=$(case a in a) curl;; esac); b", calls: "curl b"},
		{name: "function", script: "get() { curl x; }\nget y\nfunction two { wget; }; two", calls: "curl wget", mentions: "x y"},
		{name: "a function of a program's name", script: "curl() { a; }; curl x", calls: "a", mentions: "x"},
		{name: "a wrapper passes by the function", script: "curl() { command curl -s x; }; curl y", calls: "curl", mentions: "x y"},
		{name: "a script by its name", script: "/app/start.sh a; docker-entrypoint b", calls: "/app/start.sh docker-entrypoint", mentions: "a b", unseen: "the script /app/start.sh"},
		{name: "test", script: "[[ -x /usr/bin/curl && ( a < b ) ]] && c; [ -x /bin/wget ]", calls: "c", mentions: "/usr/bin/curl a b /bin/wget"},
		{name: "redirections", script: "a >curl 2>&1 </x &>y >>z 3<w; b", calls: "a b"},
		{name: "process substitution", script: "a <(curl x) >(wget)", calls: "curl wget a", mentions: "x"},
		{name: "a here-document is no script", script: "cat <<EOF\ncurl x\nEOF\nwget", calls: "cat wget"},
		{name: "a here-document substitutes", script: "cat <<EOF\n$(curl x)\nEOF", calls: "curl cat", mentions: "x"},
		{name: "a quoted one does not", script: "cat <<'EOF'\n$(curl x)\nEOF\na", calls: "cat a"},
		{name: "a here-document for a shell", script: "sh <<-EOF\n\tcurl x\n\tEOF\nwget", calls: "sh curl wget", mentions: "x"},
		{name: "two here-documents", script: "a <<A b <<B\n1\nA\n2\nB\nc", calls: "a c", mentions: "b"},
		{name: "a here-string", script: "sh <<< 'curl x'", calls: "sh curl", mentions: "x"},
		{name: "nested shells", script: `sh -c "bash -ec 'curl x'"`, calls: "sh bash curl", mentions: "x"},
		{name: "a shell with options", script: "bash --norc -o pipefail -euxo pipefail -c 'curl' wget", calls: "bash curl", mentions: "wget"},
		{name: "a script file", script: "sh /x.sh curl; . ./env; source e", calls: "sh", mentions: "curl", unseen: "the script /x.sh"},
		{name: "a shell at the end of a pipe", script: "curl x | sh", calls: "curl sh", mentions: "x", unseen: "reads from its input"},
		{name: "eval", script: `eval "curl $X"; eval wget y`, calls: "curl wget", mentions: "y", unseen: "not known before it runs"},
		{name: "exec", script: "exec curl x; exec -a n wget; exec >log", calls: "curl wget", mentions: "x"},
		{name: "env", script: "env -i -u X A=1 B=2 curl x; env", calls: "env curl", mentions: "x"},
		{name: "xargs", script: "a | xargs -n 1 -I{} -P4 curl {}; xargs", calls: "a xargs curl", mentions: "{}"},
		{name: "sudo", script: "sudo -E -u root -- curl x; sudo A=1 wget", calls: "sudo curl wget", mentions: "x"},
		{name: "timeout, nice, nohup, time", script: "timeout -k 5 10 curl; nice -n 5 nohup wget; time -p a", calls: "timeout curl nice nohup wget time a"},
		{name: "command", script: "command curl x; command -v wget; type a; which make", calls: "curl which", mentions: "x wget a make"},
		{name: "find", script: `find / -name 'curl' -exec wget {} \; -execdir a {} +`, calls: "find wget a", mentions: "{}"},
		{name: "su", script: "su -s /bin/sh nobody -c 'curl x'", calls: "su curl", mentions: "x"},
		{name: "trap", script: "trap 'curl x' EXIT; trap - INT", calls: "curl", mentions: "x"},
		{name: "a package of the name", script: "apk add --no-cache curl && pip install wget", calls: "apk pip"},
		{name: "code of others", script: `python3 -c "import os; os.system('curl x')"`, calls: "python3", mentions: "-c import os os.system curl x", unseen: "the code that python3 runs"},
		{name: "an unknown runner", script: "retry 5 curl -f http://x", calls: "retry", mentions: "5 curl http://x"},
		{name: "busybox", script: "busybox wget x; setpriv --reuid 33 --clear-groups curl", calls: "busybox wget setpriv curl", mentions: "x"},
		{name: "chroot", script: "chroot --userspec=a /host sh -c 'apt update'", calls: "chroot sh apt"},
		{name: "a list", script: "A=(curl wget); a", calls: "a", mentions: "curl wget"},
		{name: "an open quote", script: `a "b`, calls: "a", mentions: "b", unseen: "does not end"},
		{name: "windows lines", script: "curl x\r\nwget y\r\n", calls: "curl wget", mentions: "x y"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			read := shell.Script(test.script)
			if got := strings.Join(read.Calls, " "); got != test.calls {
				t.Errorf("calls %q, want %q", got, test.calls)
			}
			if got := strings.Join(read.Mentions, " "); got != test.mentions {
				t.Errorf("mentions %q, want %q", got, test.mentions)
			}
			if got := strings.Join(read.Unseen, "; "); test.unseen == "" && got != "" || !strings.Contains(got, test.unseen) {
				t.Errorf("unseen %q, want %q", got, test.unseen)
			}
		})
	}
}

func TestArgv(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		argv  []string
		calls string
	}{
		{nil, ""},
		{[]string{"curl", "-f", "http://x"}, "curl"},
		{[]string{"/usr/bin/curl"}, "/usr/bin/curl"},
		{[]string{"sh", "-c", "exec curl x"}, "sh curl"},
		{[]string{"/bin/sh", "-c"}, "/bin/sh"},
		{[]string{"sh", "-c", "exec \"$@\"", "--", "curl"}, "sh"},
		{[]string{"tini", "--", "timeout", "5", "curl"}, "tini timeout curl"},
		{[]string{"env", "A=1", "sh", "-ec", "a; wget"}, "env sh a wget"},
		{[]string{"env", "-S", "curl -f x"}, "env curl"},
		{[]string{"env", "-iScurl x"}, "env curl"},
		{[]string{"env", "--split-string=sh -c 'wget x'"}, "env sh wget"},
		{[]string{"env", "-uS", "curl"}, "env curl"},
		// Without a shell these are arguments and nothing else.
		{[]string{"app", "&&", "curl"}, "app"},
		{[]string{"app", "$(curl x)"}, "app"},
		{[]string{"if", "curl"}, "if"},
		{[]string{shell.Hole, "curl"}, ""},
	} {
		if got := strings.Join(shell.Argv(test.argv).Calls, " "); got != test.calls {
			t.Errorf("%q: calls %q, want %q", test.argv, got, test.calls)
		}
	}
}

// Text that grows or nests without end costs little.
func TestHostile(t *testing.T) {
	t.Parallel()
	double := "A=aaaaaaaa\n"
	for i := range 60 {
		from, to := string(rune('A'+i%26))+strings.Repeat("x", i/26), string(rune('A'+(i+1)%26))+strings.Repeat("x", (i+1)/26)
		double += to + "=$" + from + "$" + from + "\n"
	}
	for name, script := range map[string]string{
		"doubling":     double + "echo $A; $B",
		"parentheses":  strings.Repeat("(", 100000) + "curl",
		"dollars":      strings.Repeat("$(", 100000) + "curl",
		"backticks":    strings.Repeat("`a\\", 10000),
		"braces":       strings.Repeat("${a:-", 100000),
		"quotes":       strings.Repeat(`"$(`, 50000),
		"many calls":   strings.Repeat("a b;", 200000),
		"eval of eval": strings.Repeat("eval ", 50000) + "curl",
		"env of env":   strings.Repeat("env ", 50000) + "curl",
		"here":         strings.Repeat("a <<E\n", 20000),
	} {
		read := shell.Script(script)
		if len(read.Calls) > 1<<13 {
			t.Errorf("%s: %d calls", name, len(read.Calls))
		}
	}
}

// Every call that is read stands in the text: nothing is made up. And reading is the
// same each time.
func FuzzScript(f *testing.F) {
	for _, seed := range []string{
		"curl x | sh", "a $(b `c`) <<E\n$(d)\nE\n", "case a in b) c;; esac", "A=b; $A", "for x in y; do z; done",
		"f() { g; }; f", "[[ a ]] && ((b))", "sh -c 'a \"b\" $c'", "find . -exec a {} \\;", "${a:-`b`}", "a <(b) >(c)", "\\", "'", "\"", "$", "`", "<<", "(", ")",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		read := shell.Script(script)
		again := shell.Script(script)
		if !slices.Equal(read.Calls, again.Calls) || !slices.Equal(read.Mentions, again.Mentions) || !slices.Equal(read.Unseen, again.Unseen) {
			t.Fatalf("read twice, it is %+v and %+v", read, again)
		}
		for _, call := range read.Calls {
			if strings.Contains(call, shell.Hole) {
				t.Fatalf("the call %q is not known", call)
			}
			for _, c := range []byte(call) {
				if strings.IndexByte(script, c) < 0 {
					t.Fatalf("the call %q has what the script has not", call)
				}
			}
		}
		shell.Argv([]string{"sh", "-c", script})
		shell.Argv(strings.Fields(script))
	})
}
