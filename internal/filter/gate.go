package filter

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	"tocsin/internal/regex"
)

// gate tells from the raw text of a line which filters may want it: those of which every clause has a text in it. It is a
// necessary condition, never a sufficient one.
//
// It looks at four bytes at a time, in strides: a text of n bytes covers a whole sample if the strides are at most n-3
// long. A sample whose bit is not set in a small map, which is what nearly all of them are, costs a nanosecond, and no
// sample waits for the one before.
type gate struct {
	stride   int
	bits     [1 << sampleBits / 64]uint64
	slots    []gateSlot // open addressing by sample
	mask     uint32     // their number, a power of two, less one
	texts    []gateText
	words    int      // of a set of filters
	given    []uint64 // by clause, a set each: the filters that do not ask for it
	met      []uint64 // the same of the line at hand: the filters for which it is met
	everyone []uint64 // the set of all filters
	marks    []mark
}

const (
	sampleBits = 16
	sampleLen  = 4
	minText    = 6 // bytes of a text that is worth looking for
	maxStride  = 8
	maxTexts   = 64 // of a clause

	gateClauses = 2 // of a filter: one of prefregex, one of failregex
)

// mark is a byte that all filters of a set ask for, of which nothing better is known.
type mark struct {
	folded  byte
	filters []uint64
}

// gateText is a text to look for.
type gateText struct {
	text string
	met  []uint64 // the clauses it meets, as in gate.met
}

// gateSlot is one sample of a text: where the four bytes stand in it.
type gateSlot struct {
	sample uint32
	text   int32 // index into texts, plus one; 0: empty
	offset int32
}

// demand is what one filter asks for: a text of each clause, and a byte. nil clauses are met by any line, and so is 0.
type demand struct {
	clauses [gateClauses]regex.Clause
	mark    byte
}

func newGate(demands []demand) *gate {
	g := &gate{words: (len(demands) + 63) / 64, stride: maxStride}
	g.everyone = make([]uint64, g.words)
	g.given, g.met = make([]uint64, gateClauses*g.words), make([]uint64, gateClauses*g.words)
	index := map[string]int{}
	for f, d := range demands {
		g.everyone[f/64] |= 1 << (f % 64)
		if d.mark != 0 {
			g.mark(d.mark, f)
		}
		for c, clause := range d.clauses {
			at := c*g.words + f/64
			if clause == nil {
				g.given[at] |= 1 << (f % 64)
				continue
			}
			for _, text := range clause {
				i, ok := index[text]
				if !ok {
					i = len(g.texts)
					index[text] = i
					g.texts = append(g.texts, gateText{text: text, met: make([]uint64, len(g.given))})
					g.stride = min(g.stride, len(text)-sampleLen+1)
				}
				g.texts[i].met[at] |= 1 << (f % 64)
			}
		}
	}
	size := uint32(64)
	for int(size) < 4*len(g.texts)*g.stride {
		size *= 2
	}
	g.slots, g.mask = make([]gateSlot, size), size-1
	for i := range g.texts {
		g.enter(i)
	}
	return g
}

// mark notes that filter f asks for a byte.
func (g *gate) mark(folded byte, f int) {
	at := slices.IndexFunc(g.marks, func(m mark) bool { return m.folded == folded })
	if at < 0 {
		at = len(g.marks)
		g.marks = append(g.marks, mark{folded, make([]uint64, g.words)})
	}
	g.marks[at].filters[f/64] |= 1 << (f % 64)
}

// enter puts the samples of a text into the map: those of the part of it that is least like other texts.
func (g *gate) enter(text int) {
	t := g.texts[text].text
	from := rarest(t, g.stride+sampleLen-1)
	for at := from; at < from+g.stride; at++ {
		sample := sampleOf(t[at:])
		h := hashOf(sample)
		g.bits[h/64] |= 1 << (h % 64)
		i := h & g.mask
		for g.slots[i].text != 0 {
			i = (i + 1) & g.mask
		}
		g.slots[i] = gateSlot{sample, int32(text + 1), int32(at)}
	}
}

func sampleOf(t string) uint32 {
	return uint32(t[0]) | uint32(t[1])<<8 | uint32(t[2])<<16 | uint32(t[3])<<24
}

func hashOf(sample uint32) uint32 {
	const golden = 0x9e3779b1 // 2^32 / φ: the product's upper bits depend on all bits of sample
	return sample * golden >> (32 - sampleBits)
}

// rarest is where the n bytes of t begin that are the least common in logs, as far as letters and some words tell: each
// sample that is in other words too costs a comparison.
func rarest(t string, n int) int {
	const letters = "etaoinsrhld u" // the most common first, about; folded
	words := [...]string{" from ", " for ", " by ", " user ", " port ", "session", "pam\x7funix", "password", "login", "auth",
		"connect", "invalid", "accepted", "closed", "opened", "failed", "error", "http"}
	common := make([]int, len(t))
	for i := range t {
		if at := strings.IndexByte(letters, t[i]); at >= 0 {
			common[i] = 2*len(letters) - at
		}
	}
	for _, w := range words {
		for at := 0; ; at += len(w) {
			i := strings.Index(t[at:], w)
			if i < 0 {
				break
			}
			at += i
			for k := range w {
				common[at+k] += 4 * len(letters)
			}
		}
	}
	best, least := 0, 1<<30
	for from := 0; from+n <= len(t); from++ {
		cost := 0
		for _, c := range common[from : from+n] {
			cost += c
		}
		if cost < least {
			best, least = from, cost
		}
	}
	return best
}

// wanted sets the first words of met to the filters that may want the text; false: nobody does.
func (g *gate) wanted(text []byte) bool {
	copy(g.met, g.given)
	const fold = 0x20202020
	for at := 0; at <= len(text)-sampleLen; at += g.stride {
		sample := binary.LittleEndian.Uint32(text[at:]) | fold
		h := hashOf(sample)
		if g.bits[h/64]>>(h%64)&1 == 0 {
			continue
		}
		g.check(text, at, sample, h)
		if g.words == 1 && g.met[0]&g.met[1] == g.everyone[0] {
			return true
		}
	}
	for i := range g.marks {
		m := &g.marks[i]
		if bytes.IndexByte(text, m.folded) < 0 && bytes.IndexByte(text, regex.Unfold(m.folded)) < 0 {
			for w, filters := range m.filters {
				g.met[w] &^= filters
			}
		}
	}
	any := uint64(0)
	for i := range g.words {
		g.met[i] &= g.met[g.words+i]
		any |= g.met[i]
	}
	return any != 0
}

// check looks for the texts of which the sample at text[at:] may be a part.
func (g *gate) check(text []byte, at int, sample, hash uint32) {
	for i := hash & g.mask; ; i = (i + 1) & g.mask {
		s := &g.slots[i]
		if s.text == 0 {
			return
		}
		if s.sample != sample {
			continue
		}
		t := &g.texts[s.text-1]
		if from := at - int(s.offset); from >= 0 && g.news(t) && begins(text[from:], t.text) {
			for w, bits := range t.met {
				g.met[w] |= bits
			}
		}
	}
}

// news says whether a text would meet something that is not met.
func (g *gate) news(t *gateText) bool {
	for w, bits := range t.met {
		if bits&^g.met[w] != 0 {
			return true
		}
	}
	return false
}

// begins says whether text, folded, begins with a folded one.
func begins(text []byte, folded string) bool {
	if len(text) < len(folded) {
		return false
	}
	for i := range len(folded) {
		if regex.Fold(text[i]) != folded[i] {
			return false
		}
	}
	return true
}

// demand says what f asks of the raw text of a line, in which the date still stands. The expressions see the line without
// it, so that a text which they ask for may stand on both sides of the date: see cutting.
func (f *Filter) demand() demand {
	how := f.cutting()
	fail, prefix := f.rules.fail.demand(how), f.rules.prefix.demand(how)
	either := fail
	if either == nil {
		either = prefix
	}
	ignore := f.rules.ignore.demand(how)
	switch {
	case f.ignoreFirst && (either == nil || ignore == nil): // lines that it fits are told apart from others
		return demand{}
	case f.ignoreFirst:
		return demand{clauses: [gateClauses]regex.Clause{slices.Concat(either, ignore)}}
	case f.ring != nil: // the clauses may be met by different lines
		return demand{clauses: [gateClauses]regex.Clause{either}}
	case either == nil:
		return demand{mark: f.mark()}
	}
	return demand{clauses: [gateClauses]regex.Clause{fail, prefix}}
}

// mark is a byte that every rule asks for and that few lines of syslog hold, 0 if there is none.
func (f *Filter) mark() byte {
	const rare = `"'<>#%&*!?;=+/` // folded, none of them a letter
	for i := range len(rare) {
		if f.rules.fail.mark(rare[i]) || f.rules.prefix.mark(rare[i]) {
			return rare[i]
		}
	}
	return 0
}

// mark says whether every rule asks for a byte.
func (r *rules) mark(b byte) bool {
	if r == nil {
		return false
	}
	inAll := func(c regex.Clause) bool {
		return !slices.ContainsFunc(c, func(text string) bool { return strings.IndexByte(text, b) < 0 })
	}
	return !slices.ContainsFunc(r.required, func(cs []regex.Clause) bool { return !slices.ContainsFunc(cs, inAll) })
}

// demand joins what the rules ask for, whichever of them fits; nil if one of them asks for nothing that could be told.
func (r *rules) demand(how cutting) (all regex.Clause) {
	if r == nil {
		return nil
	}
	for _, required := range r.required {
		best := how.best(required)
		if best == nil {
			return nil
		}
		all = append(all, best...)
	}
	return all
}

// cutting is where the date may stand that is cut out of a line before its text is matched.
type cutting uint8

const (
	cutStart    cutting = iota // behind at most two characters that are no letters
	cutChecked                 // the same, as long as somebody looks
	cutAnywhere                // in the midst of what is looked for
)

// cutting says where the dates of f may stand.
func (f *Filter) cutting() cutting {
	how := cutStart
	if f.noDate {
		return how
	}
	for _, p := range f.dates.patterns {
		switch {
		case p.none || p.leads:
		case p.expr != nil:
			return cutAnywhere
		case !p.anchored:
			how = cutChecked
		}
	}
	return how
}

// best is what has to be looked for in the raw text of a line if the text without its date must hold a text of each clause;
// nil if that is too little, or too much.
//
// What one match holds of two clauses does not overlap, so that a date divides one of them at most: where it may stand
// anywhere, a text of either of two is enough, or, if there are no two, half a text of one.
func (how cutting) best(clauses []regex.Clause) regex.Clause {
	var whole []regex.Clause
	for _, c := range clauses {
		var texts regex.Clause
		for _, t := range c {
			if how != cutAnywhere {
				t = behindLead(t)
			}
			texts = append(texts, t)
		}
		if texts = usable(texts); texts != nil {
			whole = append(whole, texts)
		}
	}
	switch {
	case how != cutAnywhere && len(whole) > 0:
		return whole[0]
	case len(whole) > 1:
		return slices.Concat(whole[0], whole[1])
	case len(whole) == 0:
		return nil
	}
	var halves regex.Clause
	for _, t := range whole[0] {
		halves = append(halves, t[:len(t)/2], t[len(t)/2:])
	}
	return usable(halves)
}

// usable gives texts back if they are few and long enough to be looked for.
func usable(texts regex.Clause) regex.Clause {
	if len(texts) > maxTexts || slices.ContainsFunc(texts, func(t string) bool { return len(t) < minText }) {
		return nil
	}
	return texts
}

// behindLead is the part of t that stands behind the date, if the date stands behind the first characters of t.
func behindLead(t string) string {
	for range maxLead {
		if t == "" || wordAt([]byte(t), 0) {
			break
		}
		_, n := utf8.DecodeRuneInString(t)
		t = t[n:]
	}
	return t
}
