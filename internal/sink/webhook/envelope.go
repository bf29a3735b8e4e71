package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// envelopeVersion is that of the JSON of a POST. Fields are added under the same
// number and never renamed.
const envelopeVersion = 1

// The headers of a POST, as the Standard Webhooks have them.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// envelope is the body of a POST.
type envelope struct {
	Version int `json:"version"`
	// ID is the same for all attempts at one delivery.
	ID      string    `json:"id"`
	Cluster string    `json:"cluster,omitempty"`
	Sent    time.Time `json:"sent"`
	// Dropped counts the events that were given up since the last delivery that arrived.
	Dropped int               `json:"dropped"`
	Events  []json.RawMessage `json:"events"`
}

// encode writes the body, in ASCII alone: what a terminal could obey, or what deceives
// its reader, is written as an escape.
func (e *envelope) encode() ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return ascii(body), nil
}

// ascii writes what is not printable ASCII as \uXXXX. In JSON such characters stand in
// strings only.
func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		switch {
		case r >= ' ' && r < 0x7f:
			out = append(out, byte(r))
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// sign is the signature of a body: HMAC-SHA256 over its ID, the time it is sent, in
// seconds, and the body, joined by dots.
func sign(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
