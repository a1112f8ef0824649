package source

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Copytruncate copies a log to a rotated name and truncates the log; an editor writes a log anew under its old name. A
// pattern such as auth.log* leads to the copy as well as to the log, and the reader may look before, between and after
// these steps, which later renames move further. So no order of events is relied upon. Instead a file that appears is
// admitted, that is, its lines are handed over, only when it has been compared with what was read before: with files that
// are open, and with what is remembered of those that were truncated or closed.
//
//	it begins otherwise                     it is read from its first line
//	it holds what was read, and no more     it stays silent; it is compared again when it changes
//	it holds what was read, and more        if nobody else has the rest, it is read from where the other one was left

// verdict is what a comparison with another file tells of a file that was not admitted yet.
type verdict int

const (
	stranger  verdict = iota // they have nothing in common
	follows                  // it holds what was read of the other one, and its rest is nowhere else
	undecided                // the other one must be read further first
	copied                   // it holds nothing but what was read of the other one
)

// admit says whether lines of t may be handed over. It says so of every file whose first line is finished and that is no
// copy; again means that it will know more at once.
func (r *follower) admit(t *tail, now time.Time) (ok, again bool) {
	if t.admitted {
		return true, false
	}
	g, err := glanceAt(t.fd)
	if err != nil {
		r.complain(t.path, err)
		return false, false
	}
	if g.size != t.end {
		t.end, t.grew = g.size, now
	}
	if !g.known {
		return false, false
	}
	if t.rec.Pos.File == 0 || g.first != t.first {
		if t.rec.Pos.File != 0 {
			t.restart()
		}
		t.identify(g)
	}
	for _, log := range r.tails { // what is written to comes before its copies
		if !log.admitted && mayCopy(log.path, t.path) && !mayCopy(t.path, log.path) {
			r.admit(log, now)
		}
	}
	v, other := r.compare(t, g)
	switch v {
	case undecided:
		// A file that cannot be read at the moment is asked again at the next sweep.
		other.ready, t.ready = true, !other.failed
		return false, t.ready
	case follows:
		if err := t.follow(other); err != nil {
			r.complain(t.path, err)
			return false, false
		}
		r.done = slices.DeleteFunc(r.done, func(d *tail) bool { return d == other })
	case copied:
		return false, false
	}
	t.admitted, t.end = true, t.off
	return true, false
}

// compare compares c with everything that was read. One file of which it is a copy outweighs all others; of several that
// it follows, the one that was read furthest counts.
func (r *follower) compare(c *tail, g glance) (v verdict, with *tail) {
	for _, t := range slices.Concat(r.tails, r.done) {
		if !t.admitted || t == c || t.first != g.first || c.anew && t.inode == c.inode || !mayCopy(t.path, c.path) {
			continue
		}
		if w := compare(c, g, t); w > v || w == v && w == follows && t.off > with.off {
			v, with = w, t
		}
	}
	return v, with
}

// compare compares c, of which g is an earlier look, with t, which begins with the same line.
func compare(c *tail, g glance, t *tail) verdict {
	open := t.fd >= 0
	switch {
	case g.size >= t.off:
		var buf [maxAnchor]byte
		if b, err := anchorAt(c.fd, t.off, &buf); err != nil || !bytes.Equal(b, t.anchor) {
			return mismatch(t)
		}
	case open:
		var a, b [maxAnchor]byte
		mine, err1 := anchorAt(c.fd, g.size, &a)
		its, err2 := anchorAt(t.fd, g.size, &b)
		if err1 != nil || err2 != nil || !bytes.Equal(mine, its) {
			return mismatch(t)
		}
	case g.modified().After(t.intact):
		return stranger // what is written to after a truncation is no copy of what was there before
	}
	switch {
	case !open && g.size >= t.off:
		return follows
	case g.size <= t.end:
		return copied
	}
	// The rest of c was in t when it was copied. It still is, or t has been truncated, or c has grown by itself.
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil || st.Size >= g.size || !t.isIntact() {
		return undecided
	}
	return follows
}

// mismatch is the verdict on a file that does not hold what t held. While t has been truncated and nobody has noticed,
// that says nothing.
func mismatch(t *tail) verdict {
	if t.fd >= 0 && !t.isIntact() {
		return undecided
	}
	return stranger
}

// mayCopy says whether the file at path may be a copy of another one, by their names. It only keeps strangers apart that
// begin with the same line: the content decides. The log itself is never taken for a copy.
func mayCopy(of, path string) bool {
	if filepath.Dir(of) != filepath.Dir(path) {
		return false
	}
	log, name := rotationBase(filepath.Base(of)), filepath.Base(path)
	return len(name) > len(log) && strings.HasPrefix(rotationBase(name), log)
}

// rotationBase is the name of the log that a rotation gave this name.
func rotationBase(name string) string {
	ext := filepath.Ext(name)
	for _, end := range []string{"", ext} {
		stem := strings.TrimSuffix(name, end)
		for i := 1; i < len(stem); i++ {
			if isCounter(stem[i:]) {
				return stem[:i] + end
			}
		}
	}
	return name
}

// remember keeps what was read of a file that is about to be truncated or closed.
func (r *follower) remember(t *tail) {
	if !t.admitted {
		return
	}
	d := *t
	d.fd, d.wd, d.rec.Text = -1, -1, nil
	d.anchor = bytes.Clone(t.anchor)
	d.intact = time.Now() // a copy was made before
	if len(r.done) >= r.o.MaxFiles {
		r.done = slices.Delete(r.done, 0, 1)
	}
	r.done = append(r.done, &d)
}

// truncated deals with a file whose content is not what was read of it.
func (r *follower) truncated(t *tail, now time.Time) {
	r.truncations.Add(1)
	r.sayMark(t, now)
	r.remember(t)
	since, first := t.intact, t.first
	t.restart()
	t.ready, t.intact, r.nextMark = true, now, now
	r.openBeside(t, since, first)
}

// openBeside looks for files that belong before t: those that stood in its place, after since, between two looks at it,
// when logs are rotated twice while the reader could not run; and copies of what it held before it was truncated, which
// begin with the given first line and may hold what was not read in time. What was written between the end of a copy and
// the truncation, and not read by then, is lost: nobody has it.
func (r *follower) openBeside(t *tail, since time.Time, first uint64) {
	type beside struct {
		*tail
		at time.Time
	}
	var all []beside
	looked := make(map[inode]bool)
	for range 5 { // a rotation that goes on meanwhile moves files behind our back
		before := len(looked)
		for _, path := range rotatedNames(t.was) {
			b, g, ok := r.openTail(path, t.named)
			if !ok {
				continue
			}
			news := g.known && !looked[g.inode] && (g.first == first || !g.modified().Before(since.Add(-mtimeSlack)))
			looked[g.inode] = true
			if !news {
				unix.Close(b.fd)
				continue
			}
			b.gone, b.replaced = t.named, true
			r.openings.Add(1)
			r.lookAgain = true // it wants a watch
			all = append(all, beside{b, g.modified()})
		}
		if len(looked) == before {
			break
		}
	}
	// Copies that are open because the pattern matches their names are silent until now.
	r.tails = slices.DeleteFunc(slices.Clone(r.tails), func(o *tail) bool {
		silent := o != t && !o.admitted && isRotation(t.was, o.path)
		if silent {
			all = append(all, beside{o, modTimeOf(o.path)})
		}
		return silent
	})
	slices.SortStableFunc(all, func(a, b beside) int { return a.at.Compare(b.at) })
	for _, b := range all {
		b.ready = true
		r.tails = slices.Insert(r.tails, slices.Index(r.tails, t), b.tail)
	}
}

func modTimeOf(path string) (at time.Time) {
	if info, err := os.Stat(path); err == nil {
		at = info.ModTime()
	}
	return at
}
