// Package regex matches regular expressions in Python's syntax, many at once, in linear time.
//
// It owns the syntax (Compile), the automaton over a list of expressions (Set, Matcher), and the exact matcher behind it.
// It knows nothing of logs, addresses or fail2ban's tags: those are expanded before a pattern arrives here.
//
// The one thing to know: a Set is a single automaton over all its expressions, determinised while it runs and kept in a
// bounded cache. It reads each byte of the text once and knows the captures when it stops. What no automaton can decide
// (back-references, some look-around, atomic groups) is over-approximated there and confirmed by a backtracking matcher
// that remembers where it failed and counts its steps. docs/design/0003-matching.md tells the whole story.
//
// Meaning is that of Python 3.11's re on str: the text is decoded as UTF-8, an invalid sequence counts as U+FFFD, and
// \d \w \s \b are Unicode's (https://docs.python.org/3.11/library/re.html).
package regex

import (
	"fmt"
	"slices"
	"strings"
)

// Flags are the flags of re.compile that a pattern may be compiled with. A pattern can also set them itself: (?im).
type Flags uint8

// The flags, by Python's names: re.IGNORECASE, re.MULTILINE, re.DOTALL, re.VERBOSE.
const (
	IgnoreCase Flags = 1 << iota
	Multiline
	DotAll
	Verbose

	ascii // (?a), only inside a pattern
)

// Bounds of one pattern. A pattern beyond them is refused with a SyntaxError.
const (
	maxPattern = 64 << 10 // bytes of a pattern
	maxNesting = 200      // parentheses within parentheses
	maxGroups  = 500      // capturing groups
	maxProgram = 1 << 16  // instructions of one pattern; repeats are written out, so x{256}{256} is 65,536
	maxWork    = 1 << 20  // parts of the pattern, with repeats written out
	maxRepeat  = 1 << 16  // the largest count in {m,n}
)

// Regexp is one compiled pattern. It is immutable, and matches nothing by itself: put it into a Set.
type Regexp struct {
	pattern  string
	flags    Flags
	root     *node    // nil within a Set: a tree takes more room than its program
	names    []string // by group number; [0] is ""
	anchored bool     // it can match only at the beginning of the text
	regular  bool
	exact    *program // nil if regular
}

// SyntaxError says why a pattern was refused. The messages are Python's where Python refuses too.
type SyntaxError struct {
	Pattern string
	Offset  int // in bytes, where in Pattern the trouble begins
	Msg     string
	Hint    string // what to write instead; may be empty
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("pattern %q: at byte %d: %s", shorten(e.Pattern), e.Offset, e.Msg)
}

// shorten keeps an error readable when the pattern is long.
func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Compile reads a pattern in Python's syntax. An error is always a *SyntaxError.
//
// Refused although Python takes them: \N{name}, a conditional that asks for the group it stands in, and whatever goes
// beyond the bounds of a pattern (64 KiB, 200 nested groups, 500 groups, 65,536 instructions with repeats written out).
func Compile(pattern string, flags Flags) (*Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, &SyntaxError{Pattern: pattern, Offset: maxPattern,
			Msg: fmt.Sprintf("the pattern has %d bytes, more than %d", len(pattern), maxPattern)}
	}
	root, names, err := parse(pattern, flags)
	if err != nil {
		return nil, err
	}
	re := &Regexp{pattern: pattern, flags: flags, root: root, names: names, anchored: root.anchored()}
	b := newBuilder()
	b.rule(re, 0)
	re.regular = !b.approx
	full := b.full
	if !re.regular && !full {
		re.exact, full = compileExact(re)
	}
	if full {
		return nil, &SyntaxError{Pattern: pattern, Msg: fmt.Sprintf("the pattern is too large: more than %d instructions", maxProgram),
			Hint: "a counted repeat is written out; use smaller counts, or * instead of a large one"}
	}
	return re, nil
}

// String gives the pattern as it was compiled.
func (re *Regexp) String() string { return re.pattern }

// GroupNames gives the name of each group, by its number. Group 0, the whole match, and groups without a name have "".
func (re *Regexp) GroupNames() []string { return slices.Clone(re.names) }

// Regular tells whether the automaton alone decides this pattern. It does for everything but back-references, atomic
// groups and possessive repeats, look-behind and positive look-ahead over more than one character, a look-around within a
// negative look-ahead, and conditionals on a group within a look-around.
func (re *Regexp) Regular() bool { return re.regular }
