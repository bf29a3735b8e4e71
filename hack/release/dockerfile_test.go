package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// instruction is one of the Dockerfile: its name and all of its words.
type instruction struct {
	name  string
	words []string
}

// stages are the instructions of the Dockerfile, stage by stage.
func stages(t *testing.T) [][]instruction {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	var all [][]instruction
	for _, node := range result.AST.Children {
		in := instruction{name: strings.ToUpper(node.Value), words: slices.Clone(node.Flags)}
		for n := node.Next; n != nil; n = n.Next {
			in.words = append(in.words, strings.Trim(n.Value, `"`))
		}
		if in.name == "FROM" {
			all = append(all, nil)
		}
		if len(all) == 0 {
			t.Fatalf("%s before any FROM", in.name)
		}
		all[len(all)-1] = append(all[len(all)-1], in)
	}
	return all
}

// The last stage makes of what rootfs writes the image that makeImage makes.
func TestDockerfileMakesTheSameImage(t *testing.T) {
	t.Parallel()
	all := stages(t)
	if len(all) != 2 {
		t.Fatalf("%d stages", len(all))
	}
	st := stamp{version: "$VERSION", commit: "$COMMIT"}
	declared := map[string]string{}
	for _, in := range all[1] {
		switch in.name {
		case "LABEL":
			// Each is a name, a value and the = between them.
			for words := range slices.Chunk(in.words, 3) {
				declared[words[0]] = words[1]
			}
		case "RUN", "ADD", "CMD", "VOLUME", "EXPOSE", "SHELL":
			t.Errorf("%s in the stage that is published", in.name)
		}
	}
	want := labels(st)
	want["org.opencontainers.image.created"] = "$DATE"
	for key, value := range want {
		if declared[key] != value {
			t.Errorf("label %s is %q, want %q", key, declared[key], value)
		}
	}
	if len(declared) != len(want) {
		t.Errorf("labels %v, want %v", declared, want)
	}
	for _, in := range []instruction{
		{"FROM", []string{"scratch"}},
		{"COPY", []string{"--from=build", "--chown=0:0", "/rootfs/", "/"}},
		{"ENV", []string{"PATH", "/usr/bin", "="}},
		{"WORKDIR", []string{"/"}},
		{"USER", []string{nonroot}},
		{"ENTRYPOINT", []string{"/" + binPath}},
	} {
		i := slices.IndexFunc(all[1], func(have instruction) bool { return have.name == in.name })
		if i < 0 || !slices.Equal(all[1][i].words, in.words) {
			t.Errorf("%s %q is not in the last stage: %q", in.name, in.words, all[1])
		}
	}
}

// The same Go makes a release, the image, and the image by docker.
func TestDockerfileHasTheToolchain(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^toolchain go(\S+)$`).FindSubmatch(mod)
	if line == nil {
		t.Fatal("go.mod names no toolchain")
	}
	from := stages(t)[0][0]
	if want := "golang:" + string(line[1]); !slices.Contains(from.words, want) {
		t.Errorf("the Dockerfile builds by %q, go.mod names %s", from.words, want)
	}
}
