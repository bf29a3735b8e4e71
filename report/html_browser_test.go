package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browserWait is how long anything may take that a browser is asked for.
const browserWait = time.Minute

// browser is a headless Chromium, spoken to through its DevTools protocol over a pair
// of pipes: it listens on no port.
type browser struct {
	send    *os.File
	mu      sync.Mutex
	cond    *sync.Cond
	last    int
	answers map[int]browserMessage
	events  map[string][]browserMessage
	closed  error
}

type browserMessage struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts Chromium, or skips the test where there is none.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	path := ""
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); name != "" && err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium on the PATH; CHROMIUM=FILE names one")
	}
	read, theirWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirRead, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirRead, theirWrite}
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{send: write, answers: map[int]browserMessage{}, events: map[string][]browserMessage{}}
	b.cond = sync.NewCond(&b.mu)
	for _, f := range []*os.File{theirRead, theirWrite} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.listen(read)
	}()
	t.Cleanup(func() {
		b.call(t, "", "Browser.close", nil, nil)
		if err := cmd.Wait(); err != nil && t.Failed() {
			t.Logf("chromium: %v\n%s", err, stderr.String())
		}
		<-done
		_ = read.Close()
		_ = write.Close()
	})
	return b
}

// listen takes what the browser says: messages that end in a zero byte.
func (b *browser) listen(from *os.File) {
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		raw, err := in.ReadBytes(0)
		var m browserMessage
		if err == nil {
			err = json.Unmarshal(bytes.TrimSuffix(raw, []byte{0}), &m)
		}
		b.mu.Lock()
		switch {
		case err != nil:
			b.closed = err
		case m.ID != 0:
			b.answers[m.ID] = m
		default:
			b.events[m.Session] = append(b.events[m.Session], m)
		}
		b.cond.Broadcast()
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for something that is true under the lock.
func (b *browser) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(browserWait)
	timer := time.AfterFunc(browserWait, b.cond.Broadcast)
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for !is() {
		if b.closed != nil {
			t.Fatalf("%s: the browser is gone: %v", what, b.closed)
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no answer in %s", what, browserWait)
		}
		b.cond.Wait()
	}
}

func (b *browser) call(t *testing.T, session, method string, params, result any) {
	t.Helper()
	b.mu.Lock()
	b.last++
	id := b.last
	b.mu.Unlock()
	message := map[string]any{"id": id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if session != "" {
		message["sessionId"] = session
	}
	raw, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.send.Write(append(raw, 0)); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	var m browserMessage
	b.until(t, method, func() bool {
		answer, ok := b.answers[id]
		m = answer
		delete(b.answers, id)
		return ok
	})
	if m.Error != nil {
		t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
}

// tab is one document that is open.
type tab struct {
	*testing.T
	b       *browser
	session string
	address string
}

// tabOptions are how a document is looked at.
type tabOptions struct {
	width, height int
	dark, print   bool
	noScripts     bool
}

// open writes a document to a file and opens that.
func (b *browser) open(t *testing.T, document []byte, opts tabOptions) *tab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, document, 0o600); err != nil {
		t.Fatal(err)
	}
	var target struct{ TargetID string }
	b.call(t, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &tab{T: t, b: b, session: attached.SessionID, address: "file://" + file}
	t.Cleanup(func() { b.call(t, "", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil) })
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.call(domain+".enable", nil, nil)
	}
	p.call("Performance.enable", map[string]any{"timeDomain": "threadTicks"}, nil)
	p.resize(opts.width, opts.height)
	scheme, media := "light", ""
	if opts.dark {
		scheme = "dark"
	}
	if opts.print {
		media = "print"
	}
	p.call("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	if opts.noScripts {
		p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	}
	p.call("Page.navigate", map[string]any{"url": p.address}, nil)
	b.until(t, "loading the document", func() bool { return len(p.heard("Page.loadEventFired")) > 0 })
	return p
}

func (p *tab) call(method string, params, result any) {
	p.Helper()
	p.b.call(p.T, p.session, method, params, result)
}

func (p *tab) resize(width, height int) {
	p.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// heard are the events of one kind. The lock is held.
func (p *tab) heard(method string) []browserMessage {
	var list []browserMessage
	for _, m := range p.b.events[p.session] {
		if m.Method == method {
			list = append(list, m)
		}
	}
	return list
}

// eval is the value of a script's expression, asked for from outside of the document.
func eval[T any](p *tab, format string, args ...any) T {
	p.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	script := fmt.Sprintf(format, args...)
	p.call("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		p.Fatalf("%s: %s", script, answer.ExceptionDetails.Exception.Description)
	}
	var v T
	if len(answer.Result.Value) == 0 {
		p.Fatalf("%s: has no value", script)
	}
	if err := json.Unmarshal(answer.Result.Value, &v); err != nil {
		p.Fatalf("%s: %s: %v", script, answer.Result.Value, err)
	}
	return v
}

// click presses the mouse on the middle of an element.
func (p *tab) click(selector string) {
	p.Helper()
	at := eval[[2]float64](p, `(() => { const e = document.querySelector(%q); e.scrollIntoView({block: "center", behavior: "instant"}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
}

// write types into an element, in the place of what is there.
func (p *tab) write(selector, text string) {
	p.Helper()
	eval[bool](p, `(() => { const e = document.querySelector(%q); e.focus(); e.select(); return document.activeElement === e; })()`, selector)
	if text == "" {
		for _, kind := range []string{"keyDown", "keyUp"} {
			p.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46}, nil)
		}
		return
	}
	p.call("Input.insertText", map[string]any{"text": text}, nil)
}

// screenshot is a picture of what is seen; it is kept in the folder that SCREENSHOTS
// names.
func (p *tab) screenshot(name string) []byte {
	p.Helper()
	var shot struct{ Data string }
	p.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		p.Fatal(err)
	}
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600); err != nil {
			p.Fatal(err)
		}
	}
	return png
}

// quiet fails the test for whatever the browser complains of, for requests but that for
// the document itself, and for dialogs.
func (p *tab) quiet() {
	p.Helper()
	// An answer to this comes behind all events.
	eval[bool](p, "true")
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	for _, method := range []string{"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"} {
		for _, m := range p.heard(method) {
			p.Errorf("%s: %s", method, m.Params)
		}
	}
	requests := p.heard("Network.requestWillBeSent")
	for _, m := range requests {
		var sent struct{ Request struct{ URL string } }
		if err := json.Unmarshal(m.Params, &sent); err != nil {
			p.Fatal(err)
		}
		if sent.Request.URL != p.address && !strings.HasPrefix(sent.Request.URL, "data:") {
			p.Errorf("it asked for %s", sent.Request.URL)
		}
	}
	if len(requests) == 0 {
		p.Error("no request was seen, not even that for the document: the test sees nothing")
	}
}
