// Package list takes other people's lists of dangerous addresses: it knows when one is due, fetches it, judges it and keeps
// what passed.
//
// It decides nothing about packets: what it keeps goes to the guard, which checks it once more. A list is never believed
// because it arrived: what is empty, half the size of the last one, larger than asked or no list at all stays beside, with
// the reasons, and the last good one stays in force. Everything on the disk is replaced whole (docs/format/list.md).
package list

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// MaxEntries bounds every list, whatever was asked for.
const MaxEntries = 2_000_000

// MaxName is the longest name of a list in bytes.
const MaxName = 32

// ValidName says whether name may be a list's: 1 to 32 of a-z, 0-9 and "-". Files are named after it.
func ValidName(name string) bool {
	return name != "" && len(name) <= MaxName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Terms are what a list was asked for, and on what footing it was given. Sizes of two lists are compared only where their
// terms are the same.
type Terms struct {
	Source     string // SourceName of the URL
	Plan       string // what the source calls our plan, or how many calls a day it grants; "" where there is none
	Limit      int    // how many entries were asked for; 0: as many as there are
	Confidence int    // the lowest confidence asked for, 0..100; 0 where the source knows none
}

// SourceName is how a source's URL is told: without the account and the query, in which people put keys. Two URLs that
// differ only there still have different names, by a few digits of their SHA-256.
func SourceName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "unreadable" + shortSum(rawURL)
	}
	secret := u.User != nil || u.RawQuery != "" || u.Fragment != ""
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	if !secret {
		return u.String()
	}
	return u.String() + shortSum(rawURL)
}

func shortSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("#%x", sum[:4])
}

// Fetcher gets a list from where it comes from.
//
// An error means that nothing was learnt and the fetch is to be tried again; a [RestError] says when at the earliest. What
// arrived and is no good is no error: it is for [Judge].
type Fetcher interface {
	Fetch(ctx context.Context, t Terms, p Previous) (*Fetched, error)
}

// Previous is what was kept of the last fetch, for servers that answer "not modified". Zero: there is nothing to compare.
type Previous struct {
	ETag      string
	Modified  string // Last-Modified, as the server wrote it
	Generated time.Time
}

// Fetched is what a fetch brought.
type Fetched struct {
	Unchanged bool      // the list is still the one that Previous tells of; the rest is empty
	Parsed    *Parsed   // what was read
	Plan      string    // for Terms.Plan
	Generated time.Time // when the source made the list; zero if it does not say
	ETag      string
	Modified  string
}

// UnsentError is a fetch that did not leave this machine: no name was found, or nobody answered there. It uses up nothing of
// what the source grants.
type UnsentError struct{ Err error }

func (e *UnsentError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *UnsentError) Unwrap() error { return e.Err }

// RestError is a fetch that the source refused for now. How long is a span, so that it does not matter whose clock is wrong.
type RestError struct {
	Err  error
	Wait time.Duration // until it may be asked again
}

func (e *RestError) Error() string { return e.Err.Error() }

// Unwrap returns what the source said.
func (e *RestError) Unwrap() error { return e.Err }
