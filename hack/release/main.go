// Command release makes what is published of escape-scanner: the image as an OCI archive,
// without a docker daemon, and the archives of a release. The same commit gives the same
// bytes, wherever and whenever it is built by the same Go.
//
// The Makefile calls it. Its verbs:
//
//	image    write the image as an OCI archive, with a bill of materials beside it
//	rootfs   write the files of the image to a directory (what the Dockerfile calls)
//	release  write the archives, checksums, bill of materials and krew manifest
//	push     push an OCI archive to a registry, under the digest that it has
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// options are what the verbs can be told.
type options struct {
	root, out, sbom     string
	platforms, tags     string
	told                stamp
	date, archive       string
	stdout, diagnostics io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	verbs := map[string]func(context.Context, options) error{
		"image": runImage, "rootfs": runRootfs, "release": runRelease, "push": runPush,
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("want a verb: image, rootfs, release or push")
	}
	o := options{stdout: stdout, diagnostics: stderr}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.root, "root", "../..", "the checkout that is built")
	flags.StringVar(&o.out, "o", "", "the file or directory that is written")
	flags.StringVar(&o.sbom, "sbom", "", "image: the file for the bill of materials")
	flags.StringVar(&o.platforms, "platforms", "", "what is built for, as linux/amd64,linux/arm64")
	flags.StringVar(&o.tags, "tags", "", "names of the image, separated by commas")
	flags.StringVar(&o.archive, "archive", "", "push: the OCI archive that is pushed")
	flags.StringVar(&o.told.version, "version", "", "the version (default: what git says)")
	flags.StringVar(&o.told.commit, "commit", "", "the commit, where there is no git")
	flags.StringVar(&o.date, "date", "", "when it was committed as RFC 3339, where there is no git")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("argument %q: flags say what is made", flags.Arg(0))
	}
	if o.date != "" {
		at, err := time.Parse(time.RFC3339, o.date)
		if err != nil {
			return fmt.Errorf("-date: %w", err)
		}
		o.told.date = at.UTC()
	}
	return verbs[args[0]](ctx, o)
}

// build compiles for the platforms of the options, or for those given.
func (o options) build(ctx context.Context, otherwise ...string) (stamp, []binary, error) {
	platforms := words(o.platforms)
	if len(platforms) == 0 {
		platforms = otherwise
	}
	st, err := readStamp(ctx, o.root, o.told)
	if err != nil {
		return stamp{}, nil, err
	}
	binaries := make([]binary, len(platforms))
	for i, name := range platforms {
		p, err := parsePlatform(name)
		if err != nil {
			return stamp{}, nil, err
		}
		fmt.Fprintf(o.diagnostics, "release: building %s for %s\n", st.version, p)
		if binaries[i], err = compile(ctx, o.root, st, p); err != nil {
			return stamp{}, nil, err
		}
	}
	return st, binaries, nil
}

func runImage(ctx context.Context, o options) error {
	if o.out == "" {
		return errors.New("image: -o names no file")
	}
	st, binaries, err := o.build(ctx, "linux/amd64", "linux/arm64")
	if err != nil {
		return err
	}
	index, err := makeImage(st, binaries)
	if err != nil {
		return err
	}
	tags := words(o.tags)
	if len(tags) == 0 {
		tags = []string{repository + ":" + imageTag(st.version)}
	}
	if err := writeImage(o.out, index, tags, st.date); err != nil {
		return err
	}
	if o.sbom != "" {
		if err := writeBill(o.sbom, st, binaries); err != nil {
			return err
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.stdout, "%s@%s\n", repository, digest)
	return nil
}

func runRootfs(ctx context.Context, o options) error {
	if o.out == "" {
		return errors.New("rootfs: -o names no directory")
	}
	st, binaries, err := o.build(ctx)
	if err != nil {
		return err
	}
	if len(binaries) != 1 {
		return errors.New("rootfs: -platforms must name one")
	}
	entries, err := rootfs(st, binaries[0])
	if err != nil {
		return err
	}
	return writeFiles(o.out, slices.Concat(entries...))
}

func runRelease(ctx context.Context, o options) error {
	if o.out == "" {
		return errors.New("release: -o names no directory")
	}
	st, err := readStamp(ctx, o.root, o.told)
	if err != nil {
		return err
	}
	if err := checkDeployed(o.root, st.version); err != nil {
		return err
	}
	st, binaries, err := o.build(ctx, releasePlatforms()...)
	if err != nil {
		return err
	}
	return writeRelease(ctx, o.root, o.out, st, binaries)
}

func runPush(ctx context.Context, o options) error {
	tags := words(o.tags)
	if o.archive == "" || len(tags) == 0 {
		return errors.New("push: -archive and -tags are needed")
	}
	digest, err := push(ctx, o.archive, tags)
	if err != nil {
		return err
	}
	fmt.Fprintln(o.stdout, digest)
	return nil
}

// words are what stands between the commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
