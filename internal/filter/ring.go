package filter

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"tocsin"
)

// maxRingBytes bounds the text in which a match over several lines is looked for; it is searched anew at every line.
const maxRingBytes = 64 << 10

// maxRingLines bounds maxlines. fail2ban's own filters ask for 20 at most.
const maxRingLines = 100

// ring holds the last lines of a filter whose matches may span several (maxlines), the newest at the end. Lines that a
// match took leave it, those that <SKIPLINES> skipped stay.
//
// This is the old way to tie lines together. It costs a copy and a search of up to maxRingBytes at every line, where
// <F-MLFID> costs one look into a map.
type ring struct {
	lines  []ringLine
	most   int
	size   int // bytes of all texts, a newline each
	joined []byte
	wanted int    // how many lines are
	upTo   uint64 // the number of the last line that was pushed, where lines have numbers
}

type ringLine struct {
	text   string // without its date
	wanted bool   // every match holds one of these
	tocsin.Line
}

// push adds a line and lets the oldest go where there is no room. It returns how many went for want of bytes.
func (r *ring) push(l ringLine) (dropped int) {
	r.lines = append(r.lines, l)
	r.size += len(l.text) + 1
	if l.wanted {
		r.wanted++
	}
	for len(r.lines) > r.most {
		r.shift()
	}
	for r.size > maxRingBytes {
		r.shift()
		dropped++
	}
	return dropped
}

func (r *ring) shift() {
	r.size -= len(r.lines[0].text) + 1
	if r.lines[0].wanted {
		r.wanted--
	}
	r.lines = slices.Delete(r.lines, 0, 1)
}

// join is the text of all lines, a newline between them; the matcher adds the last.
func (r *ring) join() []byte {
	r.joined = r.joined[:0]
	for i, l := range r.lines {
		if i > 0 {
			r.joined = append(r.joined, '\n')
		}
		r.joined = append(r.joined, l.text...)
	}
	return r.joined
}

// take removes the lines in which the bytes from..to of the joined text lie, but for those whose text was skipped, and
// returns what it removed.
func (r *ring) take(from, to int, skipped []string) []ringLine {
	first := bytes.Count(r.joined[:from], []byte{'\n'})
	if to > from && r.joined[to-1] == '\n' {
		to-- // a match that ends with a line does not touch the next
	}
	last := bytes.Count(r.joined[:max(from, to)], []byte{'\n'})
	var taken, left []ringLine
	for i, l := range r.lines {
		if i < first || i > last {
			left = append(left, l)
			continue
		}
		if n := slices.Index(skipped, l.text); n >= 0 {
			skipped = skipped[n+1:]
			left = append(left, l)
			continue
		}
		taken = append(taken, l)
	}
	r.lines, r.size, r.wanted = left, 0, 0
	for _, l := range left {
		r.size += len(l.text) + 1
		if l.wanted {
			r.wanted++
		}
	}
	return taken
}

// overLines says what the line of r tells together with those before it.
//
// A Group shows a filter no lines while none in the ring could be part of a match. When one comes that could, those that
// were not shown are put into the ring before it, as far as they would still be there.
func (f *Filter) overLines(r *tocsin.Record, n uint64, wanted bool) Result {
	if f.peers != nil {
		f.catchUp(r.Source, n)
	}
	at, from, to := f.date(r, n)
	text := f.cut(r.Text, from, to)
	if f.ignoreFirst && f.ignore.match(text) >= 0 {
		f.stats.Ignored++
		return Result{Kind: Ignored, Rule: -1}
	}
	line := f.push(r, text, at, wanted)
	joined := f.ring.join()
	rule, content, offset := f.search(joined)
	if rule < 0 {
		return Result{Rule: -1}
	}
	f.group(rule, offset)
	f.read(joined)
	begin, end := f.fail.matcher.Group(0)
	if offset > 0 || len(content) < len(joined) {
		begin, end = 0, len(content) // prefregex chose the lines
	}
	taken := f.ring.take(offset+begin, offset+end, f.skipped())
	if f.ignore != nil && f.ignore.match([]byte(textOf(taken))) >= 0 {
		f.stats.Ignored++
		return Result{Kind: Ignored, Rule: rule}
	}
	var earlier []tocsin.Line
	for _, l := range taken {
		if l.Line != line {
			earlier = append(earlier, l.Line)
		}
	}
	if n := len(earlier) - maxContext; n > 0 {
		earlier = earlier[n:]
	}
	return f.judge(rule, joined, seen{r, at}, earlier)
}

// catchUp puts the lines before number n that were not shown into the ring.
func (f *Filter) catchUp(source string, n uint64) {
	first := max(f.ring.upTo+1, n-min(n, uint64(f.ring.most)))
	f.ring.upTo = n
	last := time.Time{}
	f.peers.past.each(first, func(r *tocsin.Record) {
		r.Source = source
		at, from, to := r.At, 0, 0
		if at.IsZero() && !f.noDate {
			var ok bool
			if at, from, to, ok = f.dates.Find(r.Text); ok {
				last = at
			}
			at = last
		}
		if at.IsZero() {
			at = f.now()
		}
		f.push(r, f.cut(r.Text, from, to), at, false)
	})
}

// push puts a line into the ring; text is r's without its date.
func (f *Filter) push(r *tocsin.Record, text []byte, at time.Time, wanted bool) tocsin.Line {
	line := tocsin.Line{Source: r.Source, Pos: r.Pos, At: at, Text: string(r.Text)}
	f.stats.Dropped += uint64(f.ring.push(ringLine{string(text), wanted, line}))
	return line
}

func textOf(lines []ringLine) string {
	var texts []string
	for _, l := range lines {
		texts = append(texts, l.text)
	}
	return strings.Join(texts, "\n")
}

// skipped are the lines that <SKIPLINES> took in the last match.
func (f *Filter) skipped() []string {
	var all []string
	for i, name := range f.names {
		if isSkipLines(name) && f.has(i) {
			all = append(all, strings.Split(strings.TrimSuffix(string(f.values[i]), "\n"), "\n")...)
		}
	}
	return all
}

func isSkipLines(name string) bool { return strings.HasPrefix(name, "skiplines") }
