package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Verify tells whether a delivery comes from who has the secret, and just now.
func Verify(secret []byte, header http.Header, body []byte, now time.Time) error {
	sent, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		return errors.New("webhook: no timestamp")
	}
	if age := now.Sub(time.Unix(sent, 0)); age.Abs() > 5*time.Minute {
		return errors.New("webhook: an old delivery, or clocks that differ")
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.", header.Get("webhook-id"), sent)
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for signature := range strings.FieldsSeq(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return nil
		}
	}
	return errors.New("webhook: wrong signature")
}

// fence is the code of a language in the documentation.
func fence(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(text), "```"+language+"\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed {
		t.Fatalf("no %s in the documentation", language)
	}
	return code
}

// signed is a delivery and what is wrong with it, empty where nothing is.
type signed struct {
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Now     int64             `json:"now"`
	wrong   string
}

// deliveries are one that was really made, and what somebody may make of it.
func deliveries(t *testing.T) []signed {
	t.Helper()
	r := newReceiver(t)
	s, run := start(t, options(r.URL))
	feed(t, s, exposed("a"))
	d := r.next(t)
	run.end(t)
	good := func() signed {
		return signed{
			Secret: string(secret()), Body: string(d.body), Now: now().Unix(), Headers: map[string]string{
				"webhook-id": d.header.Get("webhook-id"), "webhook-timestamp": d.header.Get("webhook-timestamp"), "webhook-signature": d.header.Get("webhook-signature"),
			},
		}
	}
	all := []signed{good()}
	for wrong, spoil := range map[string]func(*signed){
		"another secret":     func(d *signed) { d.Secret += "x" },
		"another body":       func(d *signed) { d.Body = strings.Replace(d.Body, "exposed", "closed!", 1) },
		"another id":         func(d *signed) { d.Headers["webhook-id"] += "x" },
		"another time":       func(d *signed) { d.Headers["webhook-timestamp"] = strconv.FormatInt(d.Now+1, 10) },
		"an old one":         func(d *signed) { d.Now += 301 },
		"one of the future":  func(d *signed) { d.Now -= 301 },
		"no signature":       func(d *signed) { d.Headers["webhook-signature"] = "" },
		"half the signature": func(d *signed) { s := d.Headers["webhook-signature"]; d.Headers["webhook-signature"] = s[:len(s)/2] },
	} {
		d := good()
		spoil(&d)
		d.wrong = wrong
		all = append(all, d)
	}
	// Two signatures, while a secret is exchanged.
	both := good()
	both.Headers["webhook-signature"] = "v1,AAAA " + both.Headers["webhook-signature"]
	return append(all, both)
}

func TestTheDocumentedCheckInGo(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("verify_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(source, []byte(fence(t, "go"))) {
		t.Error("the code in the documentation is not the code that is tested here")
	}
	for _, d := range deliveries(t) {
		header := http.Header{}
		for name, value := range d.Headers {
			header.Set(name, value)
		}
		if err := Verify([]byte(d.Secret), header, []byte(d.Body), time.Unix(d.Now, 0)); (err != nil) != (d.wrong != "") {
			t.Errorf("%s: %v", d.wrong, err)
		}
	}
}

func TestTheDocumentedCheckInPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	all := deliveries(t)
	input, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), python, "-c", fence(t, "python")+`
import json, sys
print(json.dumps([verify(d["secret"].encode(), d["headers"], d["body"].encode(), d["now"]) for d in json.load(sys.stdin)]))
`)
	run.Stdin = bytes.NewReader(input)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var right []bool
	if err := json.Unmarshal(out, &right); err != nil || len(right) != len(all) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, d := range all {
		if right[i] != (d.wrong == "") {
			t.Errorf("%q: %t", d.wrong, right[i])
		}
	}
}
