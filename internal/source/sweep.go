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

	// mtimeSlack is by how much a file's time may lie before the wall clock that wrote it: the kernel stamps files with
	// the clock of its last tick.
	mtimeSlack = 100 * time.Millisecond
)

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
	// The log before its copies, whose names are longer: it is the one that is written to.
	slices.SortStableFunc(found, func(a, b named) int { return len(a.path) - len(b.path) })
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
	for _, t := range r.tails {
		t.ready = t.ready || !t.admitted
	}
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

// open begins to read the file at path.
func (r *follower) open(path string, now time.Time) {
	t, g, ok := r.openTail(path, now)
	if !ok {
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
			r.openBeside(t, old.named, old.first)
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
		if g.known {
			t.identify(g)
		}
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

func isRotation(of, path string) bool {
	return filepath.Dir(of) == filepath.Dir(path) && isRotated(filepath.Base(of), filepath.Base(path))
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
	if t.end > t.off && (t.admitted || t.rec.Pos.File == 0) {
		r.unfinished.Add(1)
	}
	r.remember(t)
	if t.wd >= 0 {
		delete(r.watches, t.wd)
		r.in.unwatch(t.wd)
	}
	unix.Close(t.fd)
	r.tails = slices.DeleteFunc(slices.Clone(r.tails), func(o *tail) bool { return o == t })
}
