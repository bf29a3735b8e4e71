package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

// configEvery is how often the configuration file is looked at. Its content is what
// counts: a ConfigMap is another directory each time, and some file systems tell nobody
// of a change.
const configEvery = 2 * time.Second

// followExceptions puts the exceptions of the configuration file in force whenever they
// change, until the context ends. A file that is broken changes nothing and is said to
// be, once.
func (a *app) followExceptions(ctx context.Context, path string, inForce []scan.Exception, load func() (*config.Config, error), put func([]scan.Exception)) {
	var last content
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := contentOf(path)
		if now == last {
			continue
		}
		last = now
		cfg, err := load()
		if err != nil {
			a.complain("warning", "the exceptions stay as they were: "+err.Error())
			continue
		}
		list := exceptions(cfg)
		if slices.Equal(list, inForce) {
			continue
		}
		inForce = list
		put(list)
		a.complain("note", counted(len(list), "exception")+" in force")
	}
}

// content is what a file holds, as far as telling a change goes.
type content struct {
	sum  [sha256.Size]byte
	gone bool
}

func contentOf(path string) content {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return content{gone: true}
	case err != nil:
		// What is wrong with it is said when it is loaded.
		return content{sum: sha256.Sum256([]byte(err.Error()))}
	}
	return content{sum: sha256.Sum256(text)}
}
