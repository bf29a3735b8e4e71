package shell

import (
	"slices"
	"strings"
)

// wrapper is a program that calls another one, which stands among its arguments.
type wrapper struct {
	// valued are the letters of short options that take a value, long the long ones that
	// take it as a word of its own.
	valued string
	long   []string
	// skip is how many words stand before the command.
	skip int
	// assigns: variables may stand before the command.
	assigns bool
	// splits: -S and --split-string hold a command.
	splits bool
}

// wrapperOf knows the wrappers that are common in containers.
func wrapperOf(name string) (wrapper, bool) {
	switch name {
	case "env":
		return wrapper{valued: "uC", long: []string{"--unset", "--chdir"}, assigns: true, splits: true}, true
	case "exec":
		return wrapper{valued: "a"}, true
	case "command", "builtin", "nohup", "setsid", "busybox", "toybox", "catatonit":
		return wrapper{}, true
	case "tini", "tini-static", "dumb-init", "docker-init":
		return wrapper{valued: "per", long: []string{"--rewrite"}}, true
	case "time":
		return wrapper{valued: "of", long: []string{"--format", "--output"}}, true
	case "nice":
		return wrapper{valued: "n", long: []string{"--adjustment"}}, true
	case "ionice":
		return wrapper{valued: "cn", long: []string{"--class", "--classdata"}}, true
	case "timeout":
		return wrapper{valued: "ks", long: []string{"--kill-after", "--signal"}, skip: 1}, true
	case "stdbuf":
		return wrapper{valued: "ioe", long: []string{"--input", "--output", "--error"}}, true
	case "xargs":
		return wrapper{valued: "adEILnPs", long: []string{"--arg-file", "--delimiter", "--max-args", "--max-lines", "--max-procs", "--max-chars"}}, true
	case "sudo":
		return wrapper{valued: "ughpCTrtDR", long: []string{"--user", "--group", "--host", "--prompt", "--chdir"}, assigns: true}, true
	case "doas":
		return wrapper{valued: "uC"}, true
	case "gosu", "su-exec":
		return wrapper{skip: 1}, true
	case "setpriv":
		return wrapper{long: []string{"--reuid", "--regid", "--ruid", "--euid", "--rgid", "--egid", "--groups", "--inh-caps",
			"--ambient-caps", "--bounding-set", "--securebits", "--pdeathsig", "--selinux-label", "--apparmor-profile"}}, true
	case "chroot":
		return wrapper{long: []string{"--userspec", "--groups"}, skip: 1}, true
	case "nsenter":
		return wrapper{valued: "tSG", long: []string{"--target", "--setuid", "--setgid"}}, true
	case "unshare":
		return wrapper{valued: "SGRw", long: []string{"--setuid", "--setgid", "--root", "--wd"}}, true
	case "strace":
		return wrapper{valued: "eopsuaEIOPSUX"}, true
	case "watch":
		return wrapper{valued: "nq", long: []string{"--interval"}}, true
	case "flock":
		return wrapper{valued: "wE", long: []string{"--timeout", "--conflict-exit-code"}, skip: 1}, true
	case "taskset", "chrt":
		return wrapper{skip: 1}, true
	}
	return wrapper{}, false
}

// wrapped follows the command among a wrapper's arguments.
func (r *reader) wrapped(wrap wrapper, args []word, depth int) {
	i := 0
	for ; i < len(args); i++ {
		arg := args[i].text
		if arg == "--" {
			i++
			break
		}
		if !strings.HasPrefix(arg, "-") {
			break
		}
		if line, ok := wrap.line(arg); ok {
			// env -S takes the whole command as one word.
			r.inline(&word{text: line}, depth)
			return
		}
		if wrap.takesNext(arg) {
			i++
		}
	}
	for n := 0; n < wrap.skip && i < len(args); n++ {
		i++
	}
	for wrap.assigns && i < len(args) && assignment(args[i].text) > 0 {
		i++
	}
	if i >= len(args) {
		return
	}
	if args[i].text == "-c" && i+1 < len(args) {
		// flock FILE -c SCRIPT.
		r.inline(&args[i+1], depth)
		return
	}
	rest := slices.Clone(args[i:])
	// No wrapper calls a function of the shell.
	rest[0].program = true
	if strings.ContainsAny(rest[0].text, " \t\n") && len(rest) == 1 {
		// watch and the like hand a single word to a shell.
		r.inline(&rest[0], depth)
		return
	}
	r.call(rest, nil, depth+1)
}

// line is the command that an option holds in the same word.
func (w *wrapper) line(arg string) (line string, ok bool) {
	if !w.splits {
		return "", false
	}
	if line, ok = strings.CutPrefix(arg, "--split-string="); ok {
		return line, true
	}
	at := strings.IndexByte(arg, 'S')
	if strings.HasPrefix(arg, "--") || at < 0 || at == len(arg)-1 || strings.ContainsAny(arg[:at], w.valued) {
		return "", false
	}
	return arg[at+1:], true
}

// takesNext tells whether the value of an option is the next word.
func (w *wrapper) takesNext(arg string) bool {
	if strings.HasPrefix(arg, "--") {
		return slices.Contains(w.long, arg)
	}
	for i := 1; i < len(arg); i++ {
		if strings.IndexByte(w.valued, arg[i]) >= 0 {
			return i == len(arg)-1
		}
	}
	return false
}
