package regex

import (
	"encoding/binary"
	"slices"
)

// state is a kernel whose captures lie in registers, with its row in cache.trans.
type state struct {
	kernel
	rule int32 // the rule that matched, if done; -1 for none
	done bool  // nothing that follows changes the outcome
	rest bool  // nothing but a newline or the end changes it
}

// move is one write of an edge: register dst gets the value of src, or the place if src is tagHere.
type move struct{ dst, src int16 }

// edge is a transition that does more than an entry can say.
type edge struct {
	row   uint32
	to    *state
	moves []move
}

// entry is what the table holds for a row and a class. The lower half is the row to go on in, and the upper the register
// that gets the place of the step; register 0 is nobody's, so that the inner loop always writes and never asks. If the lower
// half is negative, the entry is unknown, or the number of an edge: for what leads to a state that is done or at rest, or
// moves more than that.
type entry uint64

const (
	unknown   entry = 1<<32 - 1
	firstEdge entry = unknown - 1 // edges are numbered downwards

	noRow     uint32 = 1<<32 - 1
	maxRows          = 1 << 31
	smallRegs        = 1 << 8 // registers an entry can name
)

func goOn(row uint32, reg uint8) entry { return entry(row) | entry(reg)<<32 }
func takeEdge(n int) entry             { return firstEdge - entry(n) }

func (e entry) special() bool { return int32(e) < 0 }
func (e entry) row() uint32   { return uint32(e) }
func (e entry) reg() uint8    { return uint8(e >> 32) }
func (e entry) edge() int     { return int(firstEdge - e) }

// cache is the part of the automaton that was met so far. State i has the row trans[i*classes:]; a row is named by where it
// begins, so that the inner loop need not multiply.
type cache struct {
	trans  []entry
	states []*state
	edges  []edge
	index  map[string]uint32 // key of a kernel -> row
	starts []uint32          // by rule: the row of the first state, or noRow
	leaps  leaps
	bytes  int // a fair estimate of what it takes
}

func (c *cache) reset(rules int) {
	c.trans, c.states, c.edges = c.trans[:0], nil, nil
	c.index = map[string]uint32{}
	if c.starts == nil {
		c.starts = make([]uint32, rules+1)
	}
	for i := range c.starts {
		c.starts[i] = noRow
	}
	c.leaps.forget()
	c.bytes = 0
}

// names gives each tag of a kernel a number in order of first appearance, which makes kernels comparable that differ in
// their registers only.
type names struct {
	number []int16 // of each tag, or tagUnset
	value  []int16 // of each number: a register or tagHere
	first  []int32 // of each number: the tag where it appeared
	known  []int16 // register+2 -> 1+number, all 0 between calls
	top    int16   // the largest register, -1 if none
}

func (n *names) of(tags []int16) {
	n.number, n.value, n.first, n.top = n.number[:0], n.value[:0], n.first[:0], -1
	for i, v := range tags {
		if v == tagUnset {
			n.number = append(n.number, tagUnset)
			continue
		}
		at := int(v) - int(tagHere)
		for at >= len(n.known) {
			n.known = append(n.known, 0)
		}
		if n.known[at] == 0 {
			n.value, n.first = append(n.value, v), append(n.first, int32(i))
			n.known[at] = int16(len(n.value))
			n.top = max(n.top, v)
		}
		n.number = append(n.number, n.known[at]-1)
	}
	for _, v := range n.value {
		n.known[int(v)-int(tagHere)] = 0
	}
}

// placed gives registers to the tags that were named: a value that has a register keeps it, which spares a move on the way
// that was met first, and the place of the step gets the lowest that is free.
func (n *names) placed(tags []int16) []int16 {
	used := make([]bool, max(n.top, 0)+2)
	used[0] = true
	for _, v := range n.value {
		if v != tagHere {
			used[v] = true
		}
	}
	free := int16(slices.Index(used, false))
	out := slices.Clone(tags)
	for i, v := range out {
		if v == tagHere {
			out[i] = free
		}
	}
	return out
}

// moves lists the writes that bring the named values into the registers of a state with these tags. No move reads what an
// earlier one wrote; a ring of registers is broken with spare, which nobody uses.
func (n *names) moves(tags []int16, spare int16) []move {
	var todo []move
	readers := make([]int, spare+1)
	for i, v := range n.value {
		if dst := tags[n.first[i]]; dst != v {
			todo = append(todo, move{dst, v})
			if v >= 0 {
				readers[v]++
			}
		}
	}
	if len(todo) == 0 {
		return nil
	}
	byDst := make([]int, spare+1)
	var ready []int
	for i, m := range todo {
		byDst[m.dst] = i + 1
		if readers[m.dst] == 0 {
			ready = append(ready, i)
		}
	}
	out := make([]move, 0, len(todo)+1)
	finished := make([]bool, len(todo))
	flush := func() {
		for len(ready) > 0 {
			i := ready[len(ready)-1]
			ready = ready[:len(ready)-1]
			m := todo[i]
			out, finished[i] = append(out, m), true
			if m.src < 0 {
				continue
			}
			if readers[m.src]--; readers[m.src] == 0 && byDst[m.src] > 0 {
				ready = append(ready, byDst[m.src]-1)
			}
		}
	}
	flush()
	for i := range todo {
		if finished[i] {
			continue
		}
		// What is left are rings. Each value is read once in a ring, so that one put aside opens it.
		out = append(out, move{spare, todo[i].dst})
		for j := range todo {
			if !finished[j] && todo[j].src == todo[i].dst {
				todo[j].src = spare
				readers[spare]++
				readers[todo[i].dst]--
			}
		}
		ready = append(ready, i)
		flush()
	}
	return out
}

// appendKey writes what makes a kernel the same as another.
func appendKey(key []byte, k *kernel, numbers []int16) []byte {
	key = binary.LittleEndian.AppendUint64(key, k.left)
	key = binary.LittleEndian.AppendUint32(key, uint32(len(k.threads)))
	for _, t := range k.threads {
		key = binary.LittleEndian.AppendUint64(key, uint64(t.pc)|uint64(t.bits)<<32|uint64(t.watch)<<48)
	}
	for _, n := range numbers {
		key = binary.LittleEndian.AppendUint16(key, uint16(n))
	}
	return key
}
