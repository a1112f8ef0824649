// Package abuseipdb speaks APIv2, the language of AbuseIPDB and of hubs that answer like it.
//
// It owns the requests, the answers, the errors, the categories, the rows of a bulk report and the form of the daily list.
// It does not decide what is reported or blocked, keeps nothing, waits for nothing and repeats nothing: one call of a
// Client is at most one request (https://docs.abuseipdb.com).
//
// The one thing to know: whatever a server sends is a stranger's text. Every answer is bounded, and nothing of it reaches an
// error unless it was cut, made printable and cleared of the key.
package abuseipdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultURL is where AbuseIPDB answers.
const DefaultURL = "https://api.abuseipdb.com/api/v2/"

// DuplicateWindow is how long the server refuses a second report of an address by the same account: a report whose answer
// was lost may be repeated inside it, and then counts once.
const DuplicateWindow = 15 * time.Minute

// MaxAge is how old what is reported may be (https://www.abuseipdb.com/reporting-policy).
const MaxAge = 60 * 24 * time.Hour

// MaxComment is how many bytes of a comment the server keeps.
const MaxComment = 1024

// maxKey bounds a key, in bytes. AbuseIPDB's have 80; a hub may choose.
const maxKey = 512

// Secret is an API key. However it is printed, logged or marshalled, it shows "[key]"; only a Client sends what it holds.
// The zero Secret holds no key.
type Secret struct {
	reveal func() string // a function, since fmt shows the fields of a struct inside a struct without asking it
}

// NewSecret takes a key as a file or a terminal gave it, with white space around it. Its errors do not hold the key.
func NewSecret(text string) (Secret, error) {
	key := strings.TrimSpace(text)
	if key == "" {
		return Secret{}, errors.New("the API key is empty")
	}
	if len(key) > maxKey {
		return Secret{}, fmt.Errorf("the API key has %d bytes: at most %d are sent", len(key), maxKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return Secret{}, fmt.Errorf("byte %d of the API key is no letter, digit or sign: is it one line of plain text?", i+1)
		}
	}
	return Secret{reveal: func() string { return key }}, nil
}

const hiddenKey = "[key]"

// String is "[key]".
func (s Secret) String() string { return hiddenKey }

// GoString is "[key]".
func (s Secret) GoString() string { return hiddenKey }

// Format writes "[key]", whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { f.Write([]byte(hiddenKey)) }

// MarshalJSON gives "[key]".
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hiddenKey) }

// MarshalText gives "[key]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// LogValue is "[key]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(hiddenKey) }

func (s Secret) text() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// printable makes a stranger's text fit for an error: one line without control characters, at most 200 bytes.
func printable(text string) string {
	const most = 200
	text, more := cut(strings.ToValidUTF8(text, "\uFFFD"), most)
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, text)
	if more {
		text += "…"
	}
	return strings.TrimSpace(text)
}

// cut shortens valid UTF-8 to at most n bytes, between two characters.
func cut(text string, n int) (string, bool) {
	if len(text) <= n {
		return text, false
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n], true
}

// comment is what the server would keep of a comment.
func comment(text string) string {
	text, _ = cut(strings.ToValidUTF8(text, "\uFFFD"), MaxComment)
	return text
}

// address checks an address that the server is asked about or told of, and gives it the form the server knows it by.
func address(a netip.Addr) (netip.Addr, error) {
	if !a.IsValid() {
		return a, errors.New("no address is given")
	}
	if a.Zone() != "" {
		return a, fmt.Errorf("%s names a network card: such an address means nothing elsewhere", a)
	}
	return a.Unmap(), nil
}

// stamp is how a time is sent: UTC, to the second, the offset written.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

// parseTime reads a time of an answer: with "+00:00", "Z" or "+0000", with or without a fraction.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("no time of ISO 8601")
}
