package scan

import (
	"path"
	"slices"
	"strings"
)

// unlisted says that manifests were read of which some are left out that the other run
// read. Where both share no path nothing is known of that: the same files may lie in
// another place, as those of two branches do.
func (s *DiffSide) unlisted(file string, other *DiffSide) string {
	if !s.narrower(other) || file != "" && within(file, inputs(s)) {
		return ""
	}
	if file == "" {
		return "read fewer manifests"
	}
	return "did not read " + file
}

// narrower reports whether the run read a part of what the other read.
func (s *DiffSide) narrower(other *DiffSide) bool {
	was, now := other.Start(), s.Start()
	if was.Source != SourceManifests || now.Source != SourceManifests || was.Cluster == now.Cluster {
		return false
	}
	before, after := inputs(other), inputs(s)
	return slices.ContainsFunc(after, func(p string) bool { return within(p, before) }) &&
		slices.ContainsFunc(before, func(p string) bool { return !within(p, after) })
}

// inputs are the files and directories that a run of manifests was given.
func inputs(s *DiffSide) []string {
	paths := strings.Split(s.Start().Cluster, ",")
	for i := range paths {
		paths[i] = path.Clean(paths[i])
	}
	return paths
}

// within reports whether a path is one of the list, or lies below one of it.
func within(p string, list []string) bool {
	p = path.Clean(p)
	return slices.ContainsFunc(list, func(dir string) bool {
		switch {
		case p == dir:
			return true
		case dir == ".":
			return !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../")
		}
		return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
	})
}

// fileOf is where a run has a finding of a row, or the row, from; empty where it does not
// say.
func (s *DiffSide) fileOf(ref RowRef, f *Finding) string {
	switch {
	case f != nil && f.Location != nil:
		return f.Location.File
	case f == nil && s.judged(ref) && s.rows[ref].verdict.Location != nil:
		return s.rows[ref].verdict.Location.File
	}
	return ""
}

// file is that which could not be read, where it is one.
func (f *Failure) file() string {
	if f.Location != nil {
		return f.Location.File
	}
	return f.Subject
}

// mayBeIn reports whether a file of one run may be one that another could not read, or lie
// in that directory: the same files may lie in another place.
func mayBeIn(file, unread string) bool {
	return slices.Contains(strings.Split(path.Clean(file), "/"), path.Base(unread))
}
