package main

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

// configEvery is how often the configuration is loaded anew. It is read and not watched:
// a ConfigMap is another directory each time, a file may come where there was none, and
// some file systems tell nobody of a change.
const configEvery = 2 * time.Second

// loader loads the configuration as at the start: the file that there is by now, the
// environment and the flags.
type loader func() (*config.Config, config.Origins, error)

// loaded is what came of loading the configuration.
type loaded struct {
	// trouble is why it could not be loaded; then nothing else is known.
	trouble string
	file    string
	list    []scan.Exception
	rest    config.Config
}

func loadedFrom(cfg *config.Config, file string) loaded {
	l := loaded{file: file, list: exceptions(cfg), rest: *cfg}
	l.rest.Exceptions = nil
	return l
}

func (l loader) load() loaded {
	cfg, origins, err := l()
	if err != nil {
		return loaded{trouble: err.Error()}
	}
	return loadedFrom(cfg, origins.File)
}

func (l loaded) equal(o loaded) bool {
	return l.trouble == o.trouble && l.file == o.file && slices.Equal(l.list, o.list) && reflect.DeepEqual(l.rest, o.rest)
}

// followExceptions puts the exceptions of the configuration in force whenever they change,
// until the context ends. A configuration that is broken changes nothing and is said to be,
// once. What is half written is not taken: two looks have to agree.
func (a *app) followExceptions(ctx context.Context, began loaded, load loader, put func([]scan.Exception)) {
	inForce, told, before := began, began, began
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := load.load()
		settled := now.equal(before)
		before = now
		if !settled || now.equal(told) {
			continue
		}
		was := told
		if told = now; now.trouble != "" {
			a.complain("warning", "the exceptions stay as they were: "+now.trouble)
			continue
		}
		a.tellLoaded(was, inForce, now)
		if !slices.Equal(now.list, inForce.list) {
			put(now.list)
		}
		inForce = now
	}
}

// tellLoaded says what is other than it was in a configuration that can be loaded.
func (a *app) tellLoaded(was, inForce, now loaded) {
	switch {
	case was.trouble != "":
		a.complain("note", "the configuration can be loaded again")
	case now.file == "" && was.file != "":
		a.complain("warning", "the configuration file "+was.file+" is gone, and its exceptions with it")
	case now.file != was.file:
		a.complain("note", "the configuration file is "+now.file)
	}
	if !slices.Equal(now.list, inForce.list) {
		a.complain("note", counted(len(now.list), "exception")+" in force")
	}
	if !reflect.DeepEqual(now.rest, inForce.rest) {
		a.complain("warning", "of the configuration only the exceptions are taken in while a watch runs: start it anew for the rest")
	}
}
