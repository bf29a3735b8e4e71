package report

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func replay(t testing.TB, f format, saved []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Replay(bytes.NewReader(saved), f.make(&out)); err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	return out.Bytes()
}

func TestReplayWritesWhatTheRunWrote(t *testing.T) {
	for prefix, events := range samples(t) {
		replaysAlike(t, prefix, events, formats())
	}
	for name, workload := range explanations() {
		replaysAlike(t, name, layeredEvents(), []format{explains(workload, 0), explains(workload, 80)})
	}
}

func replaysAlike(t *testing.T, prefix string, events []scan.Event, formats []format) {
	lines := write(t, format{"jsonl", NewJSONL}, events)
	object := write(t, format{"json", NewJSON}, events)
	for _, f := range formats {
		t.Run(prefix+f.name, func(t *testing.T) {
			live := write(t, f, events)
			if got := replay(t, f, lines); !bytes.Equal(got, live) {
				t.Errorf("from jsonl: %s", firstDifference(got, live))
			}
			if f.name == "events.jsonl" {
				return // The object has no order between kinds and no progress.
			}
			if got := replay(t, f, object); !bytes.Equal(got, live) {
				t.Errorf("from json: %s", firstDifference(got, live))
			}
		})
	}
}

func TestReplayReadsInSmallPieces(t *testing.T) {
	for _, f := range []format{{"jsonl", NewJSONL}, {"json", NewJSON}} {
		saved := write(t, f, sampleEvents())
		var out bytes.Buffer
		if err := Replay(iotest.OneByteReader(bytes.NewReader(saved)), f.make(&out)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), saved) {
			t.Errorf("%s differs", f.name)
		}
	}
}

const (
	startLine   = `{"start":{"schema":1,"tool":"t","version":"v","ruleSet":"1","time":"2026-11-22T00:00:00Z","source":"demo","level":"baseline","pssVersion":"latest"}}` + "\n"
	watchLine   = `{"time":"2026-11-22T00:00:00Z","start":{"schema":1,"tool":"escape-scanner","version":"v0","ruleSet":"1","time":"2026-11-22T00:00:00Z","source":"demo","watch":true,"level":"baseline","pssVersion":"latest"}}` + "\n"
	findingLine = `{"finding":{"rule":"privileged","category":"pss","title":"t","severity":"high","workload":{"kind":"Pod","name":"p"},"field":"spec","now":null,"message":"m"}}` + "\n"
	endLine     = `{"end":{"workloads":0,"findings":{},"verdicts":{},"incomplete":false}}` + "\n"
)

func TestReplayAccepts(t *testing.T) {
	for name, in := range map[string]string{
		"no line feed at the end": startLine + strings.TrimSuffix(endLine, "\n"),
		"blank lines":             "\n" + startLine + "\n\n" + findingLine + endLine + "\n \n",
		"carriage returns":        strings.ReplaceAll(startLine+findingLine+endLine, "\n", "\r\n"),
		"a byte order mark":       "\ufeff" + startLine + endLine,
		"fields of later writers": startLine + `{"node":{"name":"n","kernelModules":["a"]}}` + "\n" + endLine,
		"a policy":                startLine + `{"policy":{"layer":"runtime","kind":"KubeArmorPolicy","name":"p","workloads":0,"pods":0,"bites":"no"}}` + "\n" + endLine,
		"an object with policies": `{"start":{"schema":1},"nodes":[],"policies":[{"layer":"admission","bites":"yes"}],"findings":[],"verdicts":[],"failures":[],"end":{"workloads":0}}`,
		"an object on one line":   `{"start":{"schema":1},"nodes":[],"findings":[],"verdicts":[],"failures":[],"end":{"workloads":0}}`,
		"an object with alerts":   `{"start":{"schema":1},"nodes":[],"findings":[],"verdicts":[],"failures":[],"alerts":[{"id":"a","class":"other","severity":"low"}],"lost":[{"id":"l","reason":"dropped"}],"end":{"workloads":0}}`,
		"a watch":                 watchLine + findingLine + `{"picture":{}}` + "\n" + `{"time":"2026-11-22T00:00:01Z","resolved":{"what":"node","node":"nobody told of it"}}` + "\n" + endLine,
		"a watch started again":   watchLine + findingLine + watchLine + `{"picture":{}}` + "\n" + endLine + watchLine + `{"picture":{}}` + "\n" + endLine,
		"a watch without an end":  watchLine + findingLine,
		"a watch cut in a line":   watchLine + findingLine[:40],
		"an alert of a scan":      startLine + `{"alert":{"id":"a","class":"other","severity":"low"}}` + "\n" + `{"lost":{"id":"l","reason":"throttled"}}` + "\n" + endLine,
		"arrays in another order": `{"start":{"schema":1},"failures":[],"verdicts":[],"nodes":[{"name":"n"}],"findings":[],"end":{"workloads":0}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := Replay(strings.NewReader(in), discard()); err != nil {
				t.Error(err)
			}
		})
	}
}

func discard() scan.Handler { return scan.HandlerFunc(func(scan.Event) error { return nil }) }

func TestReplayRefuses(t *testing.T) {
	object := func(middle string) string { return "{\n\"start\":{\"schema\":1},\n" + middle + "}" }
	for name, tc := range map[string]struct{ in, want string }{
		"an empty file":           {"", "empty"},
		"blank lines only":        {"\n\n", "empty"},
		"no end":                  {startLine + findingLine, "line 2: no end event after this: the file is truncated"},
		"a line cut off":          {startLine + findingLine[:40], "line 2: finding: broken off: the file is truncated"},
		"a first line cut off":    {startLine[:40], "line 1: start: broken off"},
		"garbage in a line":       {startLine + "{\"finding\":{]}\n" + endLine, "line 2: finding: broken: invalid character ']'"},
		"a wrong type":            {startLine + "\n" + `{"node":{"name":7}}` + "\n" + endLine, "line 3: node: broken: json: cannot unmarshal number"},
		"text":                    {"EXPOSED  shop/Deployment/checkout\n", "line 1: not a saved run: broken: invalid character 'E'"},
		"binary":                  {"\x00\x01\x02", "line 1"},
		"UTF-16":                  {"\xff\xfe{\x00\"\x00", "line 1"},
		"an array":                {"[1]\n", "line 1: not a saved run: want an object"},
		"a YAML file":             {"apiVersion: v1\nkind: Pod\n", "line 1"},
		"another JSON file":       {`{"apiVersion":"v1","kind":"Pod"}`, "line 1: not a saved run: want the output of -o json or jsonl, which begins with start and not with \"apiVersion\""},
		"no start":                {findingLine + endLine, "line 1: no start event"},
		"two starts":              {startLine + startLine + endLine, "line 2: a second start event"},
		"two runs":                {startLine + endLine + startLine + endLine, "line 3: something after the end"},
		"a finding after the end": {startLine + endLine + findingLine, "line 3: something after the end"},
		"a newer schema":          {strings.Replace(startLine, `"schema":1`, `"schema":2`, 1) + endLine, "line 1: start: schema 2 is newer than this version reads (1)"},
		"no schema":               {`{"start":{}}` + "\n" + endLine, "line 1: start: schema 0"},
		"an edit of no place": {startLine + `{"finding":{"rule":"r","severity":"high","fix":{"op":"remove","edits":[{"line":2,"column":1,"endLine":1,"endColumn":1,"text":""}]}}}` + "\n" + endLine,
			"line 2: finding: edit 0: line 2, column 1 to line 1, column 1: want a place in a file"},
		"edits that overlap": {startLine + `{"finding":{"rule":"r","severity":"high","fix":{"op":"remove","edits":[{"line":2,"column":1,"endLine":3,"endColumn":1,"text":""},{"line":2,"column":5,"endLine":3,"endColumn":1,"text":""}]}}}` + "\n" + endLine,
			"line 2: finding: edit 1: line 2: stands before the end of the one before it"},
		"a kind it does not know": {startLine + `{"alert\u001b":{}}` + "\n" + endLine, `line 2: unknown kind of event "alert\\x1b"`},
		"two kinds in a line":     {startLine + `{"node":{"name":"n"},"end":{}}` + "\n" + endLine, "line 2: more than one event in a line"},
		"one kind twice":          {startLine + `{"node":{"name":"n"},"node":{"name":"m"}}` + "\n" + endLine, "line 2: more than one event in a line"},
		"two events in a line":    {startLine + `{"node":{"name":"n"}} {"node":{"name":"m"}}` + "\n" + endLine, "line 2: something after the event"},
		"nothing in a line":       {startLine + "{}\n" + endLine, "line 2: an event with nothing in it"},
		"null":                    {startLine + `{"end":null}` + "\n", "line 2: end: null"},
		"a finding of nothing":    {startLine + `{"finding":{}}` + "\n" + endLine, "line 2: finding: no rule"},
		"a severity of its own":   {startLine + strings.Replace(findingLine, `"high"`, `"catastrophic"`, 1) + endLine, `line 2: finding: severity "catastrophic" is not known`},
		"a verdict of its own":    {startLine + `{"verdict":{"verdict":"safe"}}` + "\n" + endLine, `line 2: verdict: "safe" is not known`},
		"a layer of its own":      {startLine + `{"policy":{"layer":"network","bites":"yes"}}` + "\n" + endLine, `line 2: policy: layer "network" is not known`},
		"a bite of its own":       {startLine + `{"policy":{"layer":"runtime","bites":"surely"}}` + "\n" + endLine, `line 2: policy: bites "surely" is not known`},
		"a node's own answer":     {startLine + `{"node":{"name":"n","enforcement":{"capabilities":"maybe","processes":"yes","agent":"yes"}}}` + "\n" + endLine, `line 2: node: capabilities "maybe" is not known`},
		"a grade of its own":      {startLine + `{"node":{"name":"n","enforcement":{"capabilities":"yes","processes":"yes","agent":"yes","grade":"certain"}}}` + "\n" + endLine, `line 2: node: grade "certain" is not known`},
		"an evidence of its own":  {startLine + `{"node":{"name":"n","enforcement":{"capabilities":"yes","processes":"yes","agent":"yes","evidence":[{"says":"perhaps"}]}}}` + "\n" + endLine, `line 2: node: evidence "perhaps" is not known`},
		"a policy cut off":        {startLine + `{"policy":{"layer":`, "line 2: policy: broken off"},
		"a policy of nothing":     {startLine + `{"policy":null}` + "\n" + endLine, "line 2: policy: null"},
		"an object cut off":       {object("\"nodes\":[\n{\"name\":\"n\"},\n{\"na"), "line 5: node: broken off: the file is truncated"},
		"an object without end":   {object("\"nodes\":[],\"findings\":[],\"verdicts\":[],\"failures\":[]\n"), "no end event"},
		"an object without array": {object("\"nodes\":[],\"verdicts\":[],\"failures\":[],\n\"end\":{}\n"), "no findings: want the whole object"},
		"an array twice":          {object("\"nodes\":[],\n\"nodes\":[]"), "line 4: nodes: a second time"},
		"an unknown array":        {object("\"rumours\":[]"), `line 3: unknown key "rumours"`},
		"an alert of nothing":     {startLine + `{"alert":{}}` + "\n" + endLine, "line 2: alert: no id"},
		"a class of its own":      {startLine + `{"alert":{"id":"a","class":"rumour","severity":"low"}}` + "\n" + endLine, `line 2: alert: class "rumour" is not known`},
		"an alert's own severity": {startLine + `{"alert":{"id":"a","class":"chroot","severity":"loud"}}` + "\n" + endLine, `line 2: alert: severity "loud" is not known`},
		"an alert's own verdict":  {startLine + `{"alert":{"id":"a","class":"chroot","severity":"low","verdict":"safe"}}` + "\n" + endLine, `line 2: alert: verdict "safe" is not known`},
		"a gap of nothing":        {startLine + `{"lost":{}}` + "\n" + endLine, "line 2: lost: no id"},
		"a gap's own reason":      {startLine + `{"lost":{"id":"l","reason":"asleep"}}` + "\n" + endLine, `line 2: lost: reason "asleep" is not known`},
		"a picture in a scan":     {startLine + `{"picture":{}}` + "\n" + endLine, "line 2: picture: only a watch has such events"},
		"taking back in a scan":   {startLine + `{"resolved":{"what":"node","node":"n"}}` + "\n" + endLine, "line 2: resolved: only a watch has such events"},
		"taking back of nothing":  {watchLine + `{"resolved":{}}` + "\n" + endLine, `line 2: resolved: what "" is not known`},
		"taking back a mood":      {watchLine + `{"resolved":{"what":"mood\u001b"}}` + "\n" + endLine, `line 2: resolved: what "mood\\x1b" is not known`},
		"a node without a name":   {watchLine + `{"resolved":{"what":"node"}}` + "\n" + endLine, "line 2: resolved: node: it does not say which"},
		"no workload":             {watchLine + `{"resolved":{"what":"workload"}}` + "\n" + endLine, "line 2: resolved: workload: it does not say which"},
		"no finding":              {watchLine + `{"resolved":{"what":"finding","workload":{"kind":"Pod","name":"p"},"finding":{}}}` + "\n" + endLine, "line 2: resolved: finding: it does not say which"},
		"no policy":               {watchLine + `{"resolved":{"what":"policy"}}` + "\n" + endLine, "line 2: resolved: policy: it does not say which"},
		"no failure":              {watchLine + `{"resolved":{"what":"failure"}}` + "\n" + endLine, "line 2: resolved: failure: it does not say which"},
		"a verdict before":        {watchLine + `{"verdict":{"verdict":"closed","was":"safe"}}` + "\n" + endLine, `line 2: verdict: was "safe" is not known`},
		"a verdict taken back":    {watchLine + `{"resolved":{"what":"workload","was":"safe","workload":{"kind":"Pod","name":"p"}}}` + "\n" + endLine, `line 2: resolved: was "safe" is not known`},
		"two pictures":            {watchLine + `{"picture":{}}` + "\n" + `{"picture":{}}` + "\n" + endLine, "line 3: a second picture event"},
		"a scan in a watch":       {watchLine + startLine + endLine, "line 2: a second start event"},
		"a scan behind a watch":   {watchLine + endLine + startLine + endLine, "line 3: something after the end"},
		"news behind a watch":     {watchLine + endLine + findingLine, "line 3: something after the end"},
		"a watch in a scan":       {startLine + watchLine + endLine, "line 2: a second start event"},
		"a watch broken inside":   {watchLine + findingLine[:40] + "\n" + endLine, "line 2: finding: broken: invalid character"},
		"a time of no kind":       {startLine + `{"time":"2026-11-22T00:00:00Z"}` + "\n" + endLine, "line 2: an event with nothing in it"},
		"a time that is none":     {startLine + `{"time":"noon","node":{"name":"n"}}` + "\n" + endLine, "line 2: time: broken"},
		"a time of null":          {startLine + `{"time":null,"node":{"name":"n"}}` + "\n" + endLine, "line 2: time: want one"},
		"a time twice":            {startLine + `{"time":"2026-11-22T00:00:00Z","time":"2026-11-22T00:00:00Z","node":{"name":"n"}}` + "\n" + endLine, "line 2: time: a second time"},
		"a time behind":           {startLine + `{"node":{"name":"n"},"time":"2026-11-22T00:00:00Z"}` + "\n" + endLine, "line 2: more than one event in a line"},
		"an object for an array":  {object("\"nodes\":{}"), "line 3: nodes: want an array"},
		"end before the findings": {object("\"end\":{},\n\"findings\":[{\"rule\":\"r\",\"severity\":\"low\"}]"), "something after the end"},
		"something after it":      {object("\"nodes\":[],\"findings\":[],\"verdicts\":[],\"failures\":[],\"end\":{}") + "\n{}", "something after the run"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Replay(strings.NewReader(tc.in), discard())
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if r, bad := harmful(err.Error()); bad {
				t.Errorf("%q lets %U through", err, r)
			}
		})
	}
}

// Every word of the layers that this version does not know is refused, wherever it
// stands: it could mean anything.
func TestReplayRefusesStrangeWordsOfTheLayers(t *testing.T) {
	closed := map[reflect.Type]bool{
		reflect.TypeFor[admission.Answer](): true, reflect.TypeFor[kernel.Answer](): true, reflect.TypeFor[kernel.Grade](): true,
		reflect.TypeFor[armor.Status](): true, reflect.TypeFor[scan.PathState](): true, reflect.TypeFor[scan.Stops](): true,
		reflect.TypeFor[scan.Layer](): true, reflect.TypeFor[scan.Bite](): true, reflect.TypeFor[scan.Verdict](): true,
	}
	tried := map[reflect.Type]int{}
	for _, e := range layeredEvents() {
		if e.End != nil {
			continue
		}
		if err := checkEvent(e); err != nil {
			t.Fatal(err)
		}
		eachString(reflect.ValueOf(e), func(v reflect.Value) {
			if !closed[v.Type()] {
				return
			}
			was := v.String()
			v.SetString("strange\x1b")
			if err := checkEvent(e); err == nil || !strings.Contains(err.Error(), `"strange\\x1b" is not known`) {
				t.Errorf("a strange %s passes: %v", v.Type(), err)
			}
			v.SetString(was)
			tried[v.Type()]++
		})
	}
	for typ := range closed {
		if tried[typ] == 0 {
			t.Errorf("%s was not tried", typ)
		}
	}
}

// eachString visits every string below v.
func eachString(v reflect.Value, visit func(reflect.Value)) {
	switch v.Kind() {
	case reflect.String:
		visit(v)
	case reflect.Pointer:
		if !v.IsNil() {
			eachString(v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachString(v.Field(i), visit)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachString(v.Index(i), visit)
		}
	default:
	}
}

// Wherever a saved run is cut, the rest is refused.
func TestReplayRefusesEveryTruncation(t *testing.T) {
	for _, f := range []format{{"jsonl", NewJSONL}, {"json", NewJSON}} {
		saved := bytes.TrimSpace(replay(t, f, []byte(startLine+findingLine+endLine)))
		for n := range saved {
			if err := Replay(bytes.NewReader(saved[:n]), discard()); err == nil {
				t.Fatalf("%s: the first %d of %d bytes pass for a whole run", f.name, n, len(saved))
			}
		}
	}
}

func TestReplayBoundsALine(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(startLine+`{"finding":{"rule":"`), letters{})
	p := &replayer{h: discard(), maxLine: 1 << 20}
	err := p.run(bufio.NewReader(endless))
	if err == nil || err.Error() != "line 2: longer than 1 MiB: no event is" {
		t.Errorf("got %v", err)
	}
}

// letters is a line that never ends.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestReplayPassesErrorsOn(t *testing.T) {
	broken := errors.New("disk full")
	h := scan.HandlerFunc(func(e scan.Event) error {
		if e.Finding != nil {
			return broken
		}
		return nil
	})
	for _, in := range []string{
		startLine + findingLine + endLine,
		"{\n\"start\":{\"schema\":1},\"findings\":[{\"rule\":\"r\",\"severity\":\"low\"}]",
	} {
		if err := Replay(strings.NewReader(in), h); !errors.Is(err, broken) || err.Error() != broken.Error() {
			t.Errorf("got %v, want the handler's own error", err)
		}
	}
	if err := Replay(io.MultiReader(strings.NewReader(startLine), iotest.ErrReader(os.ErrClosed)), discard()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestReadFindings(t *testing.T) {
	var want []string
	for _, e := range sampleEvents() {
		if e.Finding != nil {
			want = append(want, e.Finding.Fingerprint())
		}
	}
	for _, f := range []format{{"jsonl", NewJSONL}, {"json", NewJSON}} {
		saved := write(t, f, sampleEvents())
		_, findings, err := ReadFindings(bytes.NewReader(saved))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range findings {
			got = append(got, findings[i].Fingerprint())
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: fingerprints differ", f.name)
		}
		if _, findings, err := ReadFindings(bytes.NewReader(saved[:len(saved)/2])); err == nil || findings != nil {
			t.Errorf("%s: half a baseline gives %d findings and %v", f.name, len(findings), err)
		}
	}
}

// FuzzReplay: whatever comes in, there is no panic, and what is accepted comes
// out the same when it is written and read again.
func FuzzReplay(f *testing.F) {
	f.Add(write(f, format{"jsonl", NewJSONL}, sampleEvents()))
	f.Add(write(f, format{"json", NewJSON}, sampleEvents()))
	f.Add(write(f, format{"jsonl", NewJSONL}, watchEvents()))
	f.Add(write(f, format{"jsonl", NewJSONL}, fleetEvents(f)))
	f.Add(write(f, format{"json", NewJSON}, fleetEvents(f)))
	f.Add([]byte(watchLine + `{"picture":{}}` + "\n" + findingLine[:40]))
	f.Add([]byte(startLine + findingLine + endLine))
	f.Add([]byte("{\"start\":{\"schema\":1},\n\"nodes\":[{},"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var first bytes.Buffer
		if err := Replay(bytes.NewReader(in), NewJSONL(&first)); err != nil {
			return
		}
		second := replay(t, format{"jsonl", NewJSONL}, first.Bytes())
		if !bytes.Equal(first.Bytes(), second) {
			t.Errorf("%s", firstDifference(second, first.Bytes()))
		}
		if r, bad := harmful(first.String()); bad {
			t.Errorf("lets %U through", r)
		}
	})
}

// FuzzReplayFormats: with any text in any field, a replay into any format writes
// what the run wrote.
func FuzzReplayFormats(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("names come from JSON, YAML and protobuf, which are UTF-8")
		}
		events := hostileEvents(s)
		saved := write(t, format{"jsonl", NewJSONL}, events)
		for _, format := range formats() {
			live := write(t, format, events)
			if got := replay(t, format, saved); !bytes.Equal(got, live) {
				t.Errorf("%s: %s", format.name, firstDifference(got, live))
			}
			if r, bad := harmful(sgr.ReplaceAllString(string(live), "")); bad {
				t.Errorf("%s lets %U through", format.name, r)
			}
		}
	})
}
