package armor

import (
	"fmt"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// tellEvery is how often it is told again how many alerts are missing, while more
	// are, and how long none has to be missing for the gap to be over.
	tellEvery = time.Second
	// maxMessage bounds what is quoted of the other side's words.
	maxMessage = 300
)

// newLost is a gap that begins.
func newLost(reason scan.LostReason, source string, from time.Time, message string) scan.Lost {
	from = from.UTC()
	return scan.Lost{ID: fmt.Sprintf("%s/%s/%s", reason, source, from.Format(time.RFC3339Nano)),
		Reason: reason, Source: source, From: from, Message: clip(message)}
}

// clip makes text from elsewhere as long as it may be.
func clip(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

// counted is a gap in which alerts are counted. It is told when it begins, every while
// as long as it grows, and when it is over.
type counted struct {
	reason  scan.LostReason
	source  string
	message string
	tell    func(scan.Lost)

	open    bool
	lost    scan.Lost
	told    int
	toldAt  time.Time
	updated time.Time
}

// add counts what is missing.
func (c *counted) add(l loss, now time.Time) {
	if l.alerts == 0 {
		return
	}
	if !c.open {
		message := c.message
		if l.why != "" {
			message += ": " + l.why
		}
		c.open, c.lost, c.told = true, newLost(c.reason, c.source, l.first, message), 0
	}
	c.lost.Alerts += l.alerts
	c.updated, c.lost.To = now, l.last.UTC()
	if c.told == 0 || now.Sub(c.toldAt) >= tellEvery {
		c.say(now, false)
	}
}

// tick ends the gap where nothing was missed for a while, and says what was not yet.
func (c *counted) tick(now time.Time) {
	switch {
	case !c.open:
	case now.Sub(c.updated) >= tellEvery:
		c.end(now)
	case c.told < c.lost.Alerts && now.Sub(c.toldAt) >= tellEvery:
		c.say(now, false)
	}
}

// end closes the gap, if one is open.
func (c *counted) end(now time.Time) {
	if c.open {
		c.say(now, true)
		c.open = false
	}
}

func (c *counted) say(now time.Time, over bool) {
	lost := c.lost
	if !over {
		lost.To = time.Time{}
	}
	c.told, c.toldAt = lost.Alerts, now
	c.tell(lost)
}
