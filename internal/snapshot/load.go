package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// Load reads a snapshot from the files at the top of a file system. A file that
// cannot be read as a whole is an error: a snapshot with holes would be taken for
// a cluster without them.
func Load(ctx context.Context, files fs.FS, version string) (*Snapshot, error) {
	s := &Snapshot{Version: version}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	for _, e := range entries {
		f, err := files.Open(e.Name())
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		err = errors.Join(s.read(ctx, f), f.Close())
		if err != nil {
			return nil, fmt.Errorf("snapshot: %s: %w", e.Name(), err)
		}
	}
	return s, nil
}

func (s *Snapshot) read(ctx context.Context, r io.Reader) error {
	in := manifest.Inputs{Paths: []string{manifest.Stdin}, Stdin: r}
	return manifest.Objects(ctx, in, func(raw manifest.Raw) error {
		if raw.Failure != nil {
			return errors.New(raw.Failure.Message)
		}
		if err := s.Add(raw.APIVersion, raw.Kind, raw.JSON); err != nil {
			return fmt.Errorf("line %d: %w", raw.Line, err)
		}
		return nil
	})
}
