package tsdb

import (
	"math"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// points are what one series has, rising in time. A point at t with a span stands for (t-span, t]; a span of 0 is a sample as
// it came.
type points interface {
	next() bool
	// seek moves to the first point at or after t; it never goes back.
	seek(t int64) bool
	at() (t int64, v float64, span int64)
	err() error
}

// leaf reads one database.
type leaf struct {
	it   chunkenc.Iterator
	span int64
}

func (l *leaf) next() bool        { return l.it.Next() == chunkenc.ValFloat }
func (l *leaf) seek(t int64) bool { return l.it.Seek(t) == chunkenc.ValFloat }
func (l *leaf) err() error        { return l.it.Err() }
func (l *leaf) at() (t int64, v float64, span int64) {
	t, v = l.it.At()
	return t, v, l.span
}

// filled gives all points of main, and those of rest that stand for a time of which main has nothing: so no instant is told
// twice, whatever the two have. Only where main has a hole is rest looked at.
type filled struct {
	main, rest points
	restSpan   int64 // the shortest span in rest

	begun  bool
	mainOK bool  // main stands at a point that was not given yet
	restOK bool  // rest was looked at and is not at its end
	looked bool  // rest was looked at
	inHole bool  // the current point is of rest
	done   int64 // up to here main has given its points
}

// never is before every point, far enough from the smallest number to reckon with.
const never = math.MinInt64 / 2

func (f *filled) begin() {
	if !f.begun {
		f.begun, f.done, f.mainOK = true, never, f.main.next()
	}
}

func (f *filled) next() bool {
	if !f.begun {
		f.begin()
	} else if !f.inHole {
		if !f.mainOK {
			return false
		}
		f.done, _, _ = f.main.at()
		f.mainOK = f.main.next()
	}
	f.inHole = f.fill(f.inHole)
	return f.inHole || f.mainOK
}

// fill moves rest to its next point in the hole between the last point of main and its next one.
func (f *filled) fill(within bool) bool {
	end := int64(math.MaxInt64)
	if f.mainOK {
		t, _, span := f.main.at()
		end = min(t-1, t-span)
	}
	if end <= f.done || end-f.restSpan < f.done || f.looked && !f.restOK {
		return false
	}
	if within {
		f.restOK = f.rest.next()
	} else {
		f.restOK = f.rest.seek(f.done + 1)
	}
	f.looked = true
	for f.restOK {
		t, _, span := f.rest.at()
		if t > end {
			return false
		}
		if t-span >= f.done {
			return true
		}
		f.restOK = f.rest.next() // it stands in part for a time that main has
	}
	return false
}

func (f *filled) seek(t int64) bool {
	if f.begun && (f.inHole || f.mainOK) {
		if at, _, _ := f.at(); at >= t {
			return true
		}
	}
	// A point of rest at or after t reaches back for an hour at most: which point main had before that does not matter.
	from := t - step1h
	switch {
	case !f.begun:
		f.begun, f.done, f.mainOK = true, from-1, f.main.seek(from)
		f.inHole = f.fill(false)
	case f.mainOK:
		if at, _, _ := f.main.at(); at < from {
			f.done, f.mainOK = from-1, f.main.seek(from)
			f.inHole = f.fill(false)
		}
	}
	for f.inHole || f.mainOK {
		if at, _, _ := f.at(); at >= t {
			return true
		}
		f.next()
	}
	return false
}

func (f *filled) at() (t int64, v float64, span int64) {
	if f.inHole {
		return f.rest.at()
	}
	return f.main.at()
}

func (f *filled) err() error {
	if err := f.main.err(); err != nil {
		return err
	}
	return f.rest.err()
}

// coarsened makes points of a coarser step of finer ones, as they will be when they are rolled up. The slot that is not over at
// now gives what it has, at the time of its last point.
type coarsened struct {
	fine points
	step int64
	kind kind
	now  int64

	begun, ok bool // ok: fine stands at a point that was not read yet
	t, span   int64
	v         float64
}

func (c *coarsened) next() bool {
	if !c.begun {
		c.begun, c.ok = true, c.fine.next()
	}
	return c.read()
}

func (c *coarsened) seek(t int64) bool {
	if c.begun && c.span != 0 && c.t >= t {
		return true
	}
	c.begun, c.ok = true, c.fine.seek(floorTo(t-1, c.step)+1)
	for c.read() {
		if c.t >= t {
			return true
		}
	}
	return false
}

// read makes the point of the next slot that has a value.
func (c *coarsened) read() bool {
	n, end := 0.0, int64(0)
	for ; c.ok; c.ok = c.fine.next() {
		t, v, _ := c.fine.at()
		if math.IsNaN(v) {
			continue
		}
		if n > 0 && t > end {
			break
		}
		if n == 0 {
			end, c.v = ceilTo(t, c.step), v
		} else {
			switch c.kind {
			case average:
				c.v += v
			case minimum:
				c.v = min(c.v, v)
			case maximum:
				c.v = max(c.v, v)
			case last:
				c.v = v
			}
		}
		c.t = t
		n++
	}
	if n == 0 {
		c.span = 0
		return false
	}
	if c.kind == average {
		c.v /= n
	}
	if end <= c.now {
		c.t = end
	}
	c.span = c.t - (end - c.step)
	return true
}

func (c *coarsened) at() (t int64, v float64, span int64) { return c.t, c.v, c.span }
func (c *coarsened) err() error                           { return c.fine.err() }

// hold is how long a value of that span counts as the present one.
func hold(span int64) int64 { return max(rawHold, 2*span) }

// held gives points to PromQL, in [from, to], and ends each run of them with a stale marker when its last value no longer
// holds. So the engine may look back as far as the coarsest database needs, and a finer series still ends in time.
type held struct {
	points   points
	from, to int64

	begun  bool
	ok     bool // points stand at a point that comes next
	nextT  int64
	nextV  float64
	nextS  int64
	t      int64 // the current point
	v      float64
	span   int64
	marker bool // the current point is a marker
}

func (h *held) fetch(ok bool) {
	h.ok = ok
	if !ok {
		return
	}
	h.nextT, h.nextV, h.nextS = h.points.at()
	h.ok = h.nextT <= h.to
}

func (h *held) Next() chunkenc.ValueType {
	switch {
	case !h.begun:
		h.begun = true
		h.fetch(h.points.seek(h.from))
		if !h.ok {
			h.t = math.MaxInt64
			return chunkenc.ValNone
		}
	case h.t == math.MaxInt64:
		return chunkenc.ValNone
	case !h.marker && !value.IsStaleNaN(h.v):
		ends := h.t + hold(h.span)
		if ends <= h.to && (!h.ok || h.nextT > ends) {
			h.t, h.v, h.marker = ends, math.Float64frombits(value.StaleNaN), true
			return chunkenc.ValFloat
		}
	}
	if !h.ok {
		h.t = math.MaxInt64
		return chunkenc.ValNone
	}
	h.t, h.v, h.span, h.marker = h.nextT, h.nextV, h.nextS, false
	h.fetch(h.points.next())
	return chunkenc.ValFloat
}

// millis is a time as Prometheus has it. Seek takes it by this name because vet takes every Seek(int64) for io.Seeker's.
type millis = int64

func (h *held) Seek(t millis) chunkenc.ValueType {
	if h.begun {
		if h.t == math.MaxInt64 {
			return chunkenc.ValNone
		}
		if h.t >= t {
			return chunkenc.ValFloat
		}
	}
	// Only a point that far back can still end in a marker at or after t.
	if from := t - hold(step1h); !h.begun && from > h.from {
		h.from = from
	} else if h.begun && h.ok && h.nextT < from {
		h.fetch(h.points.seek(from))
		h.marker = true // the marker that followed the current point, if any, lies before t
	}
	for {
		if h.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
		if h.t >= t {
			return chunkenc.ValFloat
		}
	}
}

func (h *held) At() (int64, float64) { return h.t, h.v }
func (h *held) AtT() int64           { return h.t }
func (h *held) AtST() int64          { return 0 }
func (h *held) Err() error           { return h.points.err() }
