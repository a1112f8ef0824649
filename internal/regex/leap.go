package regex

import "encoding/binary"

// leap is eight bytes that were walked from a row, and where they led. Lines begin alike ("web1 sshd[", "Failed password
// for "), and a walk costs a chain of two loads a byte, each waiting for the one before: to compare eight bytes with those
// of a line before costs hardly more than to walk one. Only plain entries are part of a leap, so it is no more than a
// shortcut through the table, whatever the text.
type leap struct {
	text     uint64
	from, to uint32 // rows
	used     bool   // since somebody last wanted its place
	n        uint8
	writes   [maxLeapWrites]leapWrite // the first n of them, in order
}

// leapWrite is a register that gets a place, counted from where the leap begins.
type leapWrite struct{ reg, at uint8 }

const (
	leapLen       = 8
	maxLeapWrites = 6
	leapSample    = 16 // one miss in so many is learnt: what is frequent comes soon, what is not rarely costs anything
)

// leaps are found by text and row, without search: what is in the way of another gives way unless it was used lately.
// They take 32 KiB, whatever CacheBytes is; with 8 KiB a log of sshd leaps over a tenth less.
type leaps [1 << leapBits]leap

const leapBits = 10

func (ls *leaps) of(row uint32, text uint64) *leap {
	const golden = 0x9e3779b97f4a7c15 // 2^64 / φ, of which the product's upper bits depend on all bits of text
	return &ls[(uint32(text*golden>>(64-leapBits))+row)%uint32(len(ls))]
}

// leap goes from the row at the beginning of body as far as it leaps, and returns the row and place where it stops.
func (m *Matcher) leap(body []byte, row uint32) (_ uint32, at int) {
	for ; len(body)-at >= leapLen; at += leapLen {
		text := binary.LittleEndian.Uint64(body[at:])
		l := m.cache.leaps.of(row, text)
		if l.text != text || l.from != row {
			m.learnLeap(l, row, text)
			break
		}
		for _, w := range l.writes[:l.n] {
			m.regs[w.reg] = at + int(w.at)
		}
		l.used = true
		row = l.to
	}
	m.since += at
	return row, at
}

// learnLeap notes in l where text leads from a row, if all of it is known and plain.
func (m *Matcher) learnLeap(l *leap, row uint32, text uint64) {
	if m.missed++; m.missed%leapSample != 0 {
		return
	}
	if l.used {
		l.used = false
		return
	}
	learnt := leap{text: text, from: row, to: row}
	for i := range leapLen {
		next := m.cache.trans[learnt.to+uint32(m.set.byteOf[byte(text>>(8*i))])]
		if next.special() {
			return
		}
		if reg := next.reg(); reg != 0 {
			if learnt.n == maxLeapWrites {
				return
			}
			learnt.writes[learnt.n] = leapWrite{reg, uint8(i)}
			learnt.n++
		}
		learnt.to = next.row()
	}
	*l = learnt
}

// forget empties all places, when the rows they name are no more.
func (ls *leaps) forget() {
	for i := range ls {
		ls[i] = leap{from: noRow}
	}
}
