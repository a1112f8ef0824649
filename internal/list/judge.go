package list

import (
	"compress/flate"
	"errors"
	"fmt"

	"tocsin"
)

// Kind is one way in which a list can fail.
type Kind string

// The kinds. Their texts are part of the kept file (docs/format/list.md).
const (
	Empty     Kind = "empty"      // nothing in it
	NotList   Kind = "not-a-list" // lines that are neither entry nor comment, such as a web page
	Truncated Kind = "truncated"  // it broke off
	TooLong   Kind = "too-long"   // more text than a list of that size can have
	Larger    Kind = "larger"     // more entries than were asked for
	Half      Kind = "half"       // less than half of the last one with the same terms
	TooWide   Kind = "too-wide"   // networks wider than /8 of IPv4 or /19 of IPv6
	Special   Kind = "not-public" // private, documentation, multicast and other addresses that nobody attacks from
)

var kinds = []Kind{Empty, NotList, Truncated, TooLong, Larger, Half, TooWide, Special}

// fewSpecial is how many entries of Special are left out without a word, however small the list is.
const fewSpecial = 3

// Reason is why a list was refused.
type Reason struct {
	Kind Kind
	Text string // for people, in printable characters
}

// Judge says why a list is not to be applied. No reason: it may be. last is the list that was accepted last, or nil; its
// size counts only if it was given on the same terms.
//
// Single addresses that are not public unicast are left out and counted, for many lists name one by mistake. More than one
// in a hundred, and more than three, mean that somebody listed his own network.
func Judge(got *Parsed, t Terms, last *Kept) []Reason {
	var all []Reason
	because := func(k Kind, format string, args ...any) {
		all = append(all, Reason{k, fmt.Sprintf(format, args...)})
	}
	n := got.Set.Len()
	switch {
	case got.Page:
		because(NotList, "it is a web page, not a list")
	case got.NoList != "":
		because(NotList, "%s", tocsin.Printable(got.NoList))
	case got.Bad.N > 0:
		because(NotList, "line %d is neither an address nor a comment: \"%s\"%s", got.Bad.Line, tocsin.Printable(got.Bad.Text), more(got.Bad.N))
	}
	if got.Truncated != "" {
		because(Truncated, "it is not whole: %s", tocsin.Printable(got.Truncated))
	}
	if got.TooLong {
		because(TooLong, "it is longer than %d MiB, the bound for %d entries", textBound(t.Limit)>>20, limitOf(t.Limit))
	}
	switch {
	case got.More:
		because(Larger, "it has more than the %d entries that were asked for", limitOf(t.Limit))
	case n > limitOf(t.Limit):
		because(Larger, "it has %d entries, and %d were asked for", n, limitOf(t.Limit))
	}
	if got.Wide.N > 0 {
		because(TooWide, "line %d is too wide to be blocked as a whole: \"%s\"%s", got.Wide.Line, tocsin.Printable(got.Wide.Text), more(got.Wide.N))
	}
	if s := got.Special; s.N > max(fewSpecial, (n+s.N)/100) {
		because(Special, "%d of %d entries are no public addresses, the first in line %d: \"%s\"", s.N, n+s.N, s.Line, tocsin.Printable(s.Text))
	}
	switch {
	case n > 0 || len(all) > 0:
	case got.Special.N > 0:
		because(Empty, "it names no public address")
	default:
		because(Empty, "it is empty")
	}
	if last != nil && last.Terms == t && n > 0 && n*2 < last.Set.Len() {
		because(Half, "it has %d entries, less than half of the %d of the last one", n, last.Set.Len())
	}
	return all
}

// more says that there are others like the one shown.
func more(n int) string {
	switch {
	case n <= 1:
		return ""
	case n > maxBad:
		return fmt.Sprintf(", and at least %d more", n-1)
	default:
		return fmt.Sprintf(", and %d more", n-1)
	}
}

// isCorrupt says whether compressed text was damaged.
func isCorrupt(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt
}
