package snapshot_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

const situationsDir = "../../testdata/situations"

// situation is the cluster of a folder of situations, without what is expected of it.
func situation(t *testing.T, dir string) *snapshot.Snapshot {
	t.Helper()
	s := &snapshot.Snapshot{Version: "v1.36.0", Complete: true}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" || filepath.Base(path) == "expect.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		docs := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			var object map[string]any
			if err := docs.Decode(&object); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if object == nil {
				continue
			}
			raw, err := json.Marshal(object)
			if err != nil {
				return err
			}
			if err := s.Add(fmt.Sprint(object["apiVersion"]), fmt.Sprint(object["kind"]), raw); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// saved is what a handler was told, one event a line.
type saved struct{ lines []string }

func (s *saved) Handle(e scan.Event) error {
	if e.Progress != nil {
		return nil
	}
	line, err := json.Marshal(e)
	s.lines = append(s.lines, string(line))
	return err
}

// shardRun is the run of a shard as it is read from what was saved of it.
func shardRun(t *testing.T, s *saved, name string) scan.ShardRun {
	t.Helper()
	run := scan.ShardRun{Name: name}
	var rows []*scan.ShardRow
	for _, line := range s.lines {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch p := e.Part; {
		case e.Start != nil:
			run.Start = *e.Start
		case e.End != nil:
			run.End = *e.End
		case p == nil:
		case p.Row != nil:
			rows = append(rows, p.Row)
		case p.Counts != nil:
			run.Counts = p.Counts
		case run.Around == nil:
			run.Around = p.Around
		default:
			run.Around.Add(p.Around)
		}
	}
	run.Rows = func(yield func(*scan.ShardRow, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
	return run
}

// TestShardsOfSituations: every situation says the same when it is divided.
func TestShardsOfSituations(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir(situationsDir)
	if err != nil {
		t.Fatal(err)
	}
	for i, folder := range folders {
		if !folder.IsDir() || folder.Name() == "shared" {
			continue
		}
		t.Run(folder.Name(), func(t *testing.T) {
			t.Parallel()
			cluster := situation(t, filepath.Join(situationsDir, folder.Name()))
			opts := scan.ClusterOptions{Level: psa.LevelRestricted, PSSVersion: "server", Start: scan.Start{Time: recordedAt, Cluster: "here"}}
			want := &saved{}
			if err := scan.ScanCluster(t.Context(), cluster, opts, scan.NewTally(want)); err != nil {
				t.Fatal(err)
			}
			// Scans take their time: most are divided into few.
			n := []int{3, 2, 7, 3, 2, 1, 3, 2}[i%8]
			var runs []scan.ShardRun
			for k := range n {
				part := &saved{}
				opts.Shard = &scan.Shard{Index: k, Of: n}
				if err := scan.ScanCluster(t.Context(), cluster, opts, scan.NewTally(part)); err != nil {
					t.Fatal(err)
				}
				runs = append(runs, shardRun(t, part, fmt.Sprint(k)))
			}
			got := &saved{}
			if err := scan.Join(runs, scan.JoinOptions{}, scan.NewTally(got)); err != nil {
				t.Fatal(err)
			}
			if g, w := strings.Join(got.lines, "\n"), strings.Join(want.lines, "\n"); g != w {
				t.Errorf("%d shards say\n%s\nwant\n%s", n, g, w)
			}
		})
	}
}
