package armor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// recordings are what a real KubeArmor told.
func recordings(tb testing.TB) []string {
	tb.Helper()
	var files []string
	for _, dir := range []string{"testdata", "../../scan/armor/testdata/recordings"} {
		found, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 5 {
		tb.Fatalf("recordings: %v", files)
	}
	return files
}

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// collect reads all alerts of a recording.
func collect(tb testing.TB, r io.Reader) ([]armor.Alert, error) {
	tb.Helper()
	var alerts []armor.Alert
	err := reader.ReadRecording(tb.Context(), r, func(a armor.Alert) error {
		alerts = append(alerts, a)
		return nil
	})
	return alerts, err
}

func TestReadRecording(t *testing.T) {
	t.Parallel()
	for _, file := range recordings(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text := readFile(t, file)
			alerts, err := collect(t, bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if want := bytes.Count(text, []byte("\n")); len(alerts) != want {
				t.Errorf("%d alerts, want %d", len(alerts), want)
			}
			// What karmor writes is the same without an envelope, with numbers as numbers.
			var bare bytes.Buffer
			for _, m := range armortest.Recording(t, file) {
				line, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				bare.Write(line)
				bare.WriteString("\r\n\n")
			}
			again, err := collect(t, iotest.OneByteReader(&bare))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(alerts, again, sameAlert) {
				t.Error("the bare alerts read otherwise")
			}
		})
	}
}

func sameAlert(a, b armor.Alert) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

func TestReadRecordingFields(t *testing.T) {
	t.Parallel()
	alerts, err := collect(t, bytes.NewReader(readFile(t, "testdata/smoke.jsonl")))
	if err != nil || len(alerts) != 1 {
		t.Fatalf("%d alerts: %v", len(alerts), err)
	}
	got := alerts[0]
	if want := map[string]string{"app": "web", "env": "dev", "tier": "plain"}; !maps.Equal(got.Labels, want) {
		t.Errorf("labels %v, want %v", got.Labels, want)
	}
	got.Labels = nil
	want := armor.Alert{
		Time: time.Date(2026, time.November, 22, 12, 10, 58, 370244000, time.UTC),
		Node: "node1", Namespace: "shop", Pod: "plain-66ff6989d4-h5mq9", Container: "web", OwnerKind: "Deployment", OwnerName: "plain",
		Type: "MatchedPolicy", Operation: "Process", Policy: "escape-chroot", Action: "Block", Result: "Permission denied", Enforcer: "BPFLSM",
		Resource: "/usr/sbin/chroot / true", Process: "/usr/sbin/chroot", Parent: "/usr/bin/dash",
		Command: "sh",
	}
	if !sameAlert(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}

	burst, err := collect(t, bytes.NewReader(readFile(t, "testdata/burst.jsonl")))
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i := range burst {
		if burst[i].Lost() {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d alerts of the burst tell of a loss, want 1", lost)
	}
}

func TestReadRecordingGarbage(t *testing.T) {
	t.Parallel()
	good := strings.TrimSpace(string(readFile(t, "testdata/smoke.jsonl")))
	long := strings.Repeat("x", 3<<20)
	for _, test := range []struct {
		name, text  string
		alerts, bad int
		first       int
		says        string
	}{
		{"nothing", "", 0, 0, 0, ""},
		{"empty lines", "\n\n\r\n", 0, 0, 0, ""},
		{"no end of the last line", good + "\n" + good, 2, 0, 0, ""},
		{"a line that was cut", good + "\n" + good[:200], 1, 1, 2, "line 2 is no alert: "},
		{"words of karmor", "Created a gRPC client\n" + good + "\nStopped WatchAlerts\n", 1, 2, 1, "2 lines are no alerts, the first is line 1: "},
		{"an endless line", good + "\n" + long + "\n" + good + "\n", 2, 1, 2, "longer than 1024 KiB"},
		{"an endless line at the end", good + "\n" + long, 1, 1, 2, "longer than"},
		{"another object", "{}\n" + good + "\n[]\n", 1, 2, 1, "neither a type nor an operation"},
		{"a field of another type", `{"Type": 7}` + "\n" + good, 1, 1, 1, "line 1 is no alert"},
		{"a field to come", strings.Replace(good, `"Timestamp"`, `"Novelty":{"a":[1]},"Timestamp"`, 1), 1, 0, 0, ""},
		{"a log of KubeArmor", `{"Type":"ContainerLog","Operation":"Process","Resource":"/bin/ls"}` + "\n" + good, 1, 0, 0, ""},
		{"no owner", strings.Replace(good, `"Owner":{"Ref":"Deployment","Name":"plain","Namespace":"shop"}`, `"Owner":null`, 1), 1, 0, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			alerts, err := collect(t, strings.NewReader(test.text))
			if len(alerts) != test.alerts {
				t.Errorf("%d alerts, want %d", len(alerts), test.alerts)
			}
			var bad *reader.BadLinesError
			if !errors.As(err, &bad) {
				if err != nil || test.bad > 0 {
					t.Errorf("got %v", err)
				}
				return
			}
			if bad.Lines != test.bad || bad.First != test.first || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%d bad lines from line %d: %v", bad.Lines, bad.First, err)
			}
		})
	}
}

func TestReadRecordingEnds(t *testing.T) {
	t.Parallel()
	text := readFile(t, "testdata/burst.jsonl")
	enough := errors.New("enough")
	err := reader.ReadRecording(t.Context(), bytes.NewReader(text), func(armor.Alert) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken disk")
	_, err = collect(t, io.MultiReader(bytes.NewReader(text), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "line 13: ") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	err = reader.ReadRecording(ctx, bytes.NewReader(text), func(armor.Alert) error {
		seen++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("%d alerts after the end: %v", seen, err)
	}
}

func FuzzReadRecording(f *testing.F) {
	f.Add(readFile(f, "testdata/smoke.jsonl"))
	f.Add([]byte(`{"msg":{"Labels":"=,a=,b","Timestamp":"-1","UpdatedTime":"x","Type":"t"}}`))
	f.Add([]byte("{\"msg\":null,\"Operation\":\"\\u0000\"}\n\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		alerts, err := collect(t, bytes.NewReader(text))
		var bad *reader.BadLinesError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("an error that is none of the lines: %v", err)
		}
		lines := len(alerts)
		if bad != nil {
			lines += bad.Lines
		}
		if most := bytes.Count(text, []byte("\n")) + 1; lines > most {
			t.Errorf("%d lines of %d", lines, most)
		}
		for i := range alerts {
			if alerts[i].Type == "" && alerts[i].Operation == "" {
				t.Error("an alert of nothing")
			}
		}
	})
}
