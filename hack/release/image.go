package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labels are what the image says of itself; the Dockerfile says the same.
func labels(st stamp) map[string]string {
	l := map[string]string{
		"org.opencontainers.image.title":         program,
		"org.opencontainers.image.description":   "Finds out what in a Kubernetes cluster can get out to its host, and what really stops it",
		"org.opencontainers.image.url":           "https://" + module,
		"org.opencontainers.image.source":        "https://" + module,
		"org.opencontainers.image.documentation": "https://" + module + "#readme",
		"org.opencontainers.image.licenses":      ownLicence,
		"org.opencontainers.image.version":       st.version,
		"org.opencontainers.image.revision":      st.commit,
		"org.opencontainers.image.created":       st.date.Format(time.RFC3339),
	}
	return l
}

// notTag is what cannot stand in the tag of an image.
var notTag = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// imageTag is the tag for a version.
func imageTag(version string) string { return notTag.ReplaceAllString(version, "-") }

// makeImage makes an index with an image for each binary.
func makeImage(st stamp, binaries []binary) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range binaries {
		if b.platform.os != "linux" {
			return nil, fmt.Errorf("image for %s: the image is one for linux", b.platform)
		}
		image, err := platformImage(st, b)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", b.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: b.platform.os, Architecture: b.platform.arch},
		}})
	}
	annotated, ok := mutate.Annotations(index, labels(st)).(v1.ImageIndex)
	if !ok {
		return nil, errors.New("an index with annotations is none")
	}
	return annotated, nil
}

// platformImage is the image for one platform.
func platformImage(st stamp, b binary) (v1.Image, error) {
	layers, err := rootfs(st, b)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for i, entries := range layers {
		at, by := st.date, "the program and its bill of materials"
		if i == 0 {
			// The same from release to release as long as what is in it is, so that it is
			// pulled once.
			at, by = time.Unix(0, 0).UTC(), "certificates and users"
		}
		layer, err := imageLayer(entries, at)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer: layer, History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "hack/release", Comment: by},
		})
		if err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = b.platform.os, b.platform.arch, v1.Time{Time: st.date}
	config.Config = v1.Config{
		User: nonroot, Entrypoint: []string{"/" + binPath}, Env: []string{"PATH=/usr/bin"}, WorkingDir: "/", Labels: labels(st),
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, labels(st)).(v1.Image)
	if !ok {
		return nil, errors.New("an image with annotations is none")
	}
	return annotated, nil
}

func imageLayer(entries []entry, at time.Time) (v1.Layer, error) {
	var data bytes.Buffer
	if err := writeTar(&data, entries, at); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil },
		tarball.WithCompressedCaching, tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithMediaType(types.OCILayer))
}

// writeImage writes an OCI layout with the index under each of its names, as a tar.
func writeImage(file string, index v1.ImageIndex, tags []string, at time.Time) error {
	dir, err := os.MkdirTemp("", "escape-scanner-image")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // What is left is in the directory for temporary files.
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		ref, err := name.NewTag(tag)
		if err != nil {
			return fmt.Errorf("tag %q: %w", tag, err)
		}
		// The first is the specification's, the second is where containerd and docker look.
		annotations := map[string]string{"org.opencontainers.image.ref.name": ref.TagStr(), "io.containerd.image.name": ref.Name()}
		if err := path.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
			return err
		}
	}
	entries, err := readFiles(dir)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := writeTar(&out, entries, at); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// readFiles are the files below a directory, with modes that no umask changes.
func readFiles(dir string) ([]entry, error) {
	var files []entry
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		files = append(files, entry{filepath.ToSlash(rel), 0o644, data})
		return err
	})
	return withDirs(files), err
}

// openImage unpacks an OCI archive to a directory and gives the index in it.
func openImage(archive, dir string) (v1.ImageIndex, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unpack(file, dir); err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	outer, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return nil, err
	}
	// Every name leads to the same image.
	digests := map[v1.Hash]bool{}
	for _, m := range manifest.Manifests {
		digests[m.Digest] = true
	}
	if len(digests) != 1 {
		return nil, fmt.Errorf("%s: want one image, have %d", archive, len(digests))
	}
	return outer.ImageIndex(manifest.Manifests[0].Digest)
}

// push pushes an archive under each of the tags and gives what it is called by its digest.
func push(ctx context.Context, archive string, tags []string) (string, error) {
	dir, err := os.MkdirTemp("", "escape-scanner-push")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }() // What is left is in the directory for temporary files.
	index, err := openImage(archive, dir)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	var repositories []string
	for _, tag := range tags {
		ref, err := name.NewTag(tag)
		if err != nil {
			return "", fmt.Errorf("tag %q: %w", tag, err)
		}
		if err := remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return "", fmt.Errorf("push %s: %w", ref, err)
		}
		repositories = append(repositories, ref.Context().Name())
	}
	slices.Sort(repositories)
	return slices.Compact(repositories)[0] + "@" + digest.String(), nil
}
