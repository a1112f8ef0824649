package source

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A rotated file is kept open while its writer may still hold it. logrotate runs the script that makes rsyslog
	// reopen its files behind the last file of a run, which may take a while; a file that nothing replaced may be the
	// only one its writer knows.
	quietReplaced = time.Minute
	quietGone     = 10 * time.Minute

	// maxGone bounds how many rotated files are kept open.
	maxGone = 64

	// maxDone bounds what is remembered of files that must not be read again.
	maxDone = 256

	// mtimeSlack is by how much a file's time may lie before the wall clock that wrote it: the kernel stamps files with
	// the clock of its last tick.
	mtimeSlack = 100 * time.Millisecond
)

// content is a file together with what it begins with: an inode alone may be given to another file.
type content struct {
	inode
	first uint64
}

// named is a name of the pattern and the file it leads to.
type named struct {
	path string
	inode
}

// sweep makes the open files those that the pattern leads to: it opens what is new, and lets go of what is gone.
func (r *follower) sweep(now time.Time) {
	r.lookAgain, r.blind = false, r.in == nil
	found := r.look()
	present := make(map[inode]string, len(found))
	for _, n := range found {
		present[n.inode] = n.path
	}
	for _, t := range r.tails {
		if path, ok := present[t.inode]; ok {
			t.path, t.was, t.named, t.gone, t.replaced = path, path, now, time.Time{}, false
		} else if t.gone.IsZero() {
			r.retire(t, now)
		}
	}
	for _, n := range found {
		if !r.holds(n.inode) {
			r.open(n.path, now)
		}
	}
	if !r.begun {
		r.openRotated(now)
		r.begun = true
	}
	r.closeQuiet(now)
	r.watchTails()
	r.polling.Store(r.blind)
	r.files.Store(uint64(len(r.tails)))
	r.nextSweep = now.Add(sweepEvery)
	if r.blind {
		r.nextSweep = now.Add(pollEvery)
	}
}

// look asks where the pattern leads. The directories are watched first and listed afterwards, so that no name slips
// through in between.
func (r *follower) look() (found []named) {
	w := r.pattern.expand(r.o.MaxFiles)
	for range 3 { // a watch on a new directory may show a newer one; what changes all the time has the next sweep
		if !r.watchPlaces(w.places) {
			break
		}
		w = r.pattern.expand(r.o.MaxFiles)
	}
	r.refused.Add(uint64(w.over))
	for _, path := range w.files {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || slices.ContainsFunc(found, func(n named) bool { return n.inode == inodeOf(&st) }) {
			continue // gone again, or a second name of the same file
		}
		found = append(found, named{path, inodeOf(&st)})
	}
	return found
}

// watchPlaces watches these directories and no others. It answers whether any of them is new.
func (r *follower) watchPlaces(places []place) (news bool) {
	if r.in == nil {
		return false
	}
	wanted := make(map[int][]watched, len(places))
	for _, p := range places {
		wd, err := r.in.watch(p.dir, dirEvents)
		switch {
		case err == nil:
			wanted[wd] = append(wanted[wd], watched{place: p})
			news = news || r.watches[wd] == nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			r.lookAgain = true
		default:
			r.blind = true
			r.complain(p.dir, os.NewSyscallError("inotify_add_watch", err))
		}
	}
	for wd, ws := range r.watches {
		if ws[0].tail == nil && wanted[wd] == nil {
			delete(r.watches, wd)
			r.in.unwatch(wd)
		}
	}
	for wd, ws := range wanted {
		r.watches[wd] = ws
	}
	return news
}

// watchTails watches the open files that are not watched yet. Where the kernel has no watch left they are polled.
func (r *follower) watchTails() {
	if r.in == nil {
		return
	}
	for _, t := range r.tails {
		if t.wd >= 0 {
			continue
		}
		wd, err := r.in.watchFD(t.fd, fileEvents)
		if err != nil {
			r.blind = true
			r.complain(t.path, os.NewSyscallError("inotify_add_watch", err))
			continue
		}
		t.wd, t.ready = wd, true // what was written before the watch stood made no event
		r.watches[wd] = []watched{{tail: t}}
	}
}

// retire notes that no name leads to t any more. It is read on until it has been quiet for a while.
func (r *follower) retire(t *tail, now time.Time) {
	t.gone, t.ready, t.unsaid = now, true, true
	t.rename()
	r.rotations.Add(1)
	r.nextMark = now
}

// open begins to read the file at path, unless it is a copy of one that is being read.
func (r *follower) open(path string, now time.Time) {
	t, g, ok := r.openTail(path, now)
	if !ok {
		return
	}
	if r.begun && r.isCopy(path, g) {
		unix.Close(t.fd)
		return
	}
	if err := r.place(t, g); err != nil {
		unix.Close(t.fd)
		r.complain(path, err)
		return
	}
	delete(r.complaint, path)
	r.openings.Add(1)
	r.tails = append(r.tails, t)
	for _, old := range r.tails {
		if !old.gone.IsZero() && !old.replaced && old.was == path {
			old.replaced = true
			r.openMissed(t, old.named, g.first)
		}
	}
}

// openTail opens a file that is not open yet and looks at it.
func (r *follower) openTail(path string, now time.Time) (t *tail, g glance, ok bool) {
	fd, err := openLog(path)
	if err == nil {
		g, err = glanceAt(fd)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		r.lookAgain = true
	case err != nil:
		r.complain(path, err)
	case !r.holds(g.inode):
		t = &tail{inode: g.inode, fd: fd, path: path, was: path, wd: -1, named: now, intact: now, ready: true}
		t.rec.Source = r.o.Name
		t.identify(g)
		return t, g, true
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	return nil, g, false
}

func (r *follower) holds(i inode) bool {
	return slices.ContainsFunc(r.tails, func(t *tail) bool { return t.inode == i })
}

// isCopy says whether the file under a rotated name is not to be read: it holds what another one holds (copytruncate
// makes such copies, and a pattern such as auth.log* matches them), or was read to its end. While its first line is not
// there it cannot be told, and it is not read yet.
func (r *follower) isCopy(path string, g glance) bool {
	return slices.ContainsFunc(r.tails, func(t *tail) bool {
		return t.gone.IsZero() && isRotation(t.path, path) &&
			(!g.known || g.first == t.first || slices.Contains(r.done, content{g.inode, g.first}))
	})
}

func isRotation(of, path string) bool {
	return filepath.Dir(of) == filepath.Dir(path) && isRotated(filepath.Base(of), filepath.Base(path))
}

// truncated deals with a file whose content is not what was read of it.
func (r *follower) truncated(t *tail, now time.Time) {
	r.truncations.Add(1)
	g, err := glanceAt(t.fd)
	if err != nil {
		r.complain(t.path, err)
	}
	r.sayMark(t, now)
	if t.rec.Pos.File != 0 {
		r.openCopy(t, now)
	}
	since, first := t.intact, t.first
	t.restart()
	t.ready, t.intact, r.nextMark = true, now, now
	r.openMissed(t, since, first, g.first)
}

// openCopy looks for the copy that logrotate made before it truncated t, and reads on there what was not read in time.
// What was written between the end of the copy and the truncation, and not read by then, is lost: nobody has it.
func (r *follower) openCopy(t *tail, now time.Time) {
	for _, path := range rotatedNames(t.path) {
		c, g, ok := r.openTail(path, now)
		if !ok {
			continue
		}
		if !g.known || g.first != t.first {
			unix.Close(c.fd)
			continue
		}
		if g.size > t.off && c.continues(t) {
			c.rec.Pos.File, c.seenBelow, c.skipping = t.rec.Pos.File, t.seenBelow, t.skipping
			r.insertGone(c, t, now)
			return
		}
		r.remember(content{g.inode, g.first}) // all of it was read from the file itself
		unix.Close(c.fd)
		return
	}
}

// openMissed looks for files that stood in t's place, after since, between two looks at it: when logs are rotated twice
// while the reader could not run. They are read from their first byte, before t. Files that begin with one of the given
// first lines are copies of what is being read.
func (r *follower) openMissed(t *tail, since time.Time, firsts ...uint64) {
	type missed struct {
		*tail
		at time.Time
	}
	var all []missed
	for _, path := range rotatedNames(t.was) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since.Add(-mtimeSlack)) {
			continue
		}
		m, g, ok := r.openTail(path, t.named)
		if !ok {
			continue
		}
		if !g.known || slices.Contains(firsts, g.first) || r.isCopy(path, g) {
			unix.Close(m.fd)
			continue
		}
		all = append(all, missed{m, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b missed) int { return a.at.Compare(b.at) })
	for _, m := range all {
		r.insertGone(m.tail, t, t.named)
	}
}

// insertGone lets a rotated file be read before t.
func (r *follower) insertGone(c, t *tail, now time.Time) {
	c.gone, c.replaced = now, true
	r.openings.Add(1)
	r.tails = slices.Insert(r.tails, slices.Index(r.tails, t), c)
	r.lookAgain = true // it wants a watch
}

// rotatedNames lists the names beside path that a rotation of it makes.
func rotatedNames(path string) (paths []string) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if isRotated(filepath.Base(path), e.Name()) {
			paths = append(paths, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return paths
}

// closeQuiet lets go of rotated files that nobody writes to any more, and of the oldest of too many.
func (r *follower) closeQuiet(now time.Time) {
	gone := 0
	for _, t := range slices.Backward(r.tails) {
		if t.gone.IsZero() || t.ready {
			continue
		}
		gone++
		limit := quietGone
		if t.replaced {
			limit = quietReplaced
		}
		if gone > maxGone || now.Sub(t.gone) > limit && now.Sub(t.grew) > limit {
			r.drop(t, now)
		}
	}
}

// drop closes a file. A last line without a newline is not handed over: a writer that died in the middle of an address
// must not get another one banned.
func (r *follower) drop(t *tail, now time.Time) {
	if t.unsaid {
		r.sayMark(t, now)
	}
	if t.end > t.off {
		r.unfinished.Add(1)
	}
	r.remember(content{t.inode, t.first})
	if t.wd >= 0 {
		delete(r.watches, t.wd)
		r.in.unwatch(t.wd)
	}
	unix.Close(t.fd)
	r.tails = slices.DeleteFunc(slices.Clone(r.tails), func(o *tail) bool { return o == t })
}

func (r *follower) remember(c content) {
	if len(r.done) >= maxDone {
		r.done = slices.Delete(r.done, 0, 1)
	}
	r.done = append(r.done, c)
}
