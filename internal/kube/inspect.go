package kube

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxPaths bounds the paths of one container, pathsAtOnce those of one exec.
	maxPaths    = 4096
	pathsAtOnce = 256
	// maxPath is the longest path that Linux knows.
	maxPath = 4096
)

// errNoShell: there is nothing in the container that could be asked.
var errNoShell = errors.New("no shell was found in the container, which may be on purpose: its files cannot be looked at")

// shells are where a shell is looked for: by its name, and where distroless and
// BusyBox images that set no PATH keep it.
func shells() [][]string {
	return [][]string{{"sh"}, {"/bin/sh"}, {"/busybox/sh"}, {"/bin/busybox", "sh"}, {"bash"}}
}

// busyBoxes are the places of BusyBox. Where its commands are hard links, all are
// the one file under many names.
func busyBoxes() []string {
	return []string{"/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/busybox/busybox"}
}

// inspectScript reads paths, one a line up to an empty one, and writes for each its
// number and "= PATH" for the real path, "-" for no such file, or "?". It uses what
// every shell has built in, and readlink or else ls for links. A path is never part
// of the script: it comes by standard input and is quoted wherever it is used. The
// arguments are the places of BusyBox.
const inspectScript = `
say() { printf '%s %s\n' "$n" "$1"; }
missing() { if [ -x "$1/" ]; then say -; else say '?'; fi; }
look() {
	hops=0
	while [ "$hops" -lt 40 ]; do
		hops=$((hops + 1))
		d=${p%/*}
		if ! [ -d "$d/" ]; then
			until [ -d "$d/" ]; do d=${d%/*}; done
			missing "$d"
			return
		fi
		r=$(cd -P -- "$d/" && pwd -P) || { say '?'; return; }
		[ "$r" != / ] || r=
		f=$r/${p##*/}
		if [ -L "$f" ]; then
			t=$(readlink "$f") || { t=$(ls -ld "$f") && t=${t##* -> }; }
			case $t in
			'') say '?'; return ;;
			/*) p=$t ;;
			*) p=$r/$t ;;
			esac
			continue
		fi
		[ -e "$f" ] || { missing "$r"; return; }
		for b do
			if [ "$f" -ef "$b" ] && ! [ -L "$b" ]; then
				d=$(cd -P -- "${b%/*}/" && pwd -P) && f=$d/${b##*/}
				break
			fi
		done
		say "= $f"
		return
	done
	say '?'
}
n=0
while IFS= read -r p && [ -n "$p" ]; do
	look "$@"
	n=$((n + 1))
done
echo end
`

// Inspect resolves paths inside of a running container, as the user that the
// container runs as: for each the real path behind symbolic links, and "" when there
// is no such file. The real path of a hard link to BusyBox is BusyBox: whoever may
// run that file may run all that it is. A path of which that cannot be said (in a
// directory that this user may not search) is not in the answer.
//
// The container answers for itself: who is in control of it may answer what he
// likes.
func (c *Cluster) Inspect(ctx context.Context, namespace, pod, container string, paths []string) (map[string]string, error) {
	return c.inspect(ctx, place{namespace, pod, container}, paths, busyBoxes())
}

func (c *Cluster) inspect(ctx context.Context, at place, paths, busyBoxes []string) (map[string]string, error) {
	if len(paths) > maxPaths {
		return nil, fmt.Errorf("%s: %d paths are more than %d", at, len(paths), maxPaths)
	}
	// A path that is no plain one would be resolved to something else than it names.
	paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		return !path.IsAbs(p) || path.Clean(p) != p || len(p) > maxPath || strings.ContainsAny(p, "\n\x00")
	})
	found := make(map[string]string, len(paths))
	shell := shells()
	for batch := range slices.Chunk(paths, pathsAtOnce) {
		answer, used, err := c.ask(ctx, at, shell, batch, busyBoxes)
		if err != nil {
			return nil, err
		}
		// What did once will do again.
		shell = [][]string{used}
		if err := readInspection(string(answer), batch, found); err != nil {
			return nil, fmt.Errorf("%s: its answer: %w", at, err)
		}
	}
	return found, nil
}

// ask runs the script in the first of the shells that there is.
func (c *Cluster) ask(ctx context.Context, at place, shells [][]string, paths, busyBoxes []string) (answer []byte, used []string, err error) {
	for _, shell := range shells {
		command := slices.Concat(shell, []string{"-c", inspectScript, "sh"}, busyBoxes)
		limit := int64(len(paths)+1) * (maxPath + 16)
		answer, err = c.exec(ctx, at, command, strings.Join(paths, "\n")+"\n\n", limit)
		if err == nil || ctx.Err() != nil || !noSuchCommand(err) {
			return answer, shell, err
		}
	}
	return nil, nil, fmt.Errorf("%w (%w)", errNoShell, err)
}

// readInspection takes what the script wrote. The container is not trusted to run
// it faithfully: an answer of another form is none.
func readInspection(answer string, paths []string, found map[string]string) error {
	lines := strings.Split(answer, "\n")
	if len(lines) != len(paths)+2 || lines[len(paths)] != "end" || lines[len(paths)+1] != "" {
		return fmt.Errorf("%d lines for %d paths", max(len(lines)-2, 0), len(paths))
	}
	for i, p := range paths {
		number, word, _ := strings.Cut(lines[i], " ")
		if number != strconv.Itoa(i) {
			return fmt.Errorf("line %d begins with %.20q", i, number)
		}
		real, ok := strings.CutPrefix(word, "= ")
		switch {
		case ok && path.IsAbs(real) && path.Clean(real) == real:
			found[p] = real
		case word == "-":
			found[p] = ""
		case !ok && word != "?":
			return fmt.Errorf("line %d says %.20q", i, word)
		}
	}
	return nil
}
