package source

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tocsin"
)

const (
	rotations     = 50
	linesPerSec   = 50_000
	rotateEvery   = 40 * time.Millisecond
	keepRotations = 20
)

// pacedWriter writes numbered lines at linesPerSec through whatever reopen gives it, in bursts as they come.
type pacedWriter struct {
	f       *os.File
	written int
	begun   time.Time
}

func (w *pacedWriter) catchUp(t *testing.T) {
	t.Helper()
	var b []byte
	for due := int(time.Since(w.begun).Seconds() * linesPerSec); w.written < due; w.written++ {
		b = fmt.Appendf(b, "%08d Nov 22 17:00:00 victim sshd[4711]: Failed password for root from 192.0.2.7 port 4711 ssh2\n", w.written)
	}
	if _, err := w.f.Write(b); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	return f
}

// shift makes room for a new log.1, as logrotate does.
func shift(log string) {
	os.Remove(fmt.Sprintf("%s.%d", log, keepRotations))
	for i := keepRotations - 1; i > 0; i-- {
		os.Rename(fmt.Sprintf("%s.%d", log, i), fmt.Sprintf("%s.%d", log, i+1))
	}
}

// numbers collects the numbers at the front of lines, and what is wrong with them.
type numbers struct {
	seen          []uint8
	last          int
	disorder      int
	total, newest atomic.Int64
}

func (n *numbers) record(r *tocsin.Record) {
	i, err := strconv.Atoi(string(r.Text[:8]))
	if err != nil || len(r.Text) < 80 {
		n.disorder++
		return
	}
	if more := i + 1 - len(n.seen); more > 0 { // how many there will be depends on how long the rotations take
		n.seen = append(n.seen, make([]uint8, more)...)
	}
	if i < n.last {
		n.disorder++
	}
	n.last = i
	n.newest.Store(int64(i))
	if n.seen[i]++; n.seen[i] == 1 {
		n.total.Add(1)
	}
}

// TestRotationsUnderLoad: 50 rotations while 50,000 lines a second are written, by renaming and by copytruncate.
func TestRotationsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes four seconds of writing")
	}
	t.Run("rename", func(t *testing.T) {
		rotate := func(t *testing.T, w *pacedWriter, log string) (windowFrom, windowTo int) {
			shift(log)
			must(t, os.Rename(log, log+".1"))
			w.catchUp(t) // the writer still has the old file
			old := w.f
			w.f = appendTo(t, log)
			old.Close()
			return 0, 0
		}
		underLoad(t, rotate, 0)
	})
	t.Run("copytruncate", func(t *testing.T) {
		rotate := func(t *testing.T, w *pacedWriter, log string) (windowFrom, windowTo int) {
			shift(log)
			w.catchUp(t)
			in, err := os.Open(log)
			must(t, err)
			defer in.Close()
			out, err := os.Create(log + ".1")
			must(t, err)
			defer out.Close()
			_, err = io.Copy(out, in)
			must(t, err)
			windowFrom = w.written
			w.catchUp(t) // what is written between copy and truncation is in nobody's file afterwards
			must(t, os.Truncate(log, 0))
			return windowFrom, w.written
		}
		// A file that has grown past the reader's place again before the reader looked shows newer lines first. That takes a
		// reader that gets no turn for a whole rotation, of 80 ms here: on a machine with more to do than time.
		underLoad(t, rotate, 3)
	})
}

// underLoad writes and rotates, and checks that each line came once and in its order, but for so many steps back. Lines in a
// window that rotate names may be missing, since they were written to no file that remains; they may not come twice either.
func underLoad(t *testing.T, rotate func(*testing.T, *pacedWriter, string) (from, to int), stepsBack int) {
	log := filepath.Join(t.TempDir(), "auth.log")
	w := &pacedWriter{f: appendTo(t, log), begun: time.Now()}
	f := newFile(t, FileOptions{Pattern: log, FromStart: true})
	n := &numbers{}
	stop := startSink(t, f, Sink{Record: n.record})

	var mayMiss []int
	var written []int // at each rotation
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for done, next := 0, rotateEvery; done < rotations; <-tick.C {
		w.catchUp(t)
		if time.Since(w.begun) >= next {
			// What is removed before anybody could look is nobody's fault: on a busy machine the rotations wait for the reader.
			if back := len(written) - keepRotations/2; back >= 0 {
				eventually(t, "the reader to keep up", func() bool { return int(n.newest.Load()) >= written[back]-1 }, func() any { return f.Stats() })
			}
			written = append(written, w.written)
			from, to := rotate(t, w, log)
			for i := from; i < to; i++ {
				mayMiss = append(mayMiss, i)
			}
			done, next = done+1, time.Since(w.begun)+rotateEvery
		}
	}
	for before := w.written; w.written == before; { // the last line is one that is in a file
		w.catchUp(t)
	}
	w.f.Close()

	eventually(t, "the last line", func() bool {
		return int(n.total.Load()) >= w.written-len(mayMiss) && n.newest.Load() == int64(w.written-1)
	}, func() any {
		return fmt.Sprint(n.total.Load(), " of ", w.written, ", may miss ", len(mayMiss), " ", f.Stats())
	})
	stop()

	inWindow := make(map[int]bool, len(mayMiss))
	for _, i := range mayMiss {
		inWindow[i] = true
	}
	var missing, doubled []string
	excused := 0
	for i := range w.written {
		switch {
		case n.seen[i] > 1:
			doubled = append(doubled, strconv.Itoa(i))
		case n.seen[i] == 0 && inWindow[i]:
			excused++
		case n.seen[i] == 0:
			missing = append(missing, strconv.Itoa(i))
		}
	}
	if len(missing) > 0 || len(doubled) > 0 || n.disorder > stepsBack {
		t.Errorf("of %d lines %d missing (%.80s), %d doubled (%.80s), %d out of order", w.written,
			len(missing), strings.Join(missing, " "), len(doubled), strings.Join(doubled, " "), n.disorder)
	}
	t.Logf("%d lines in %s, %d of %d at risk lost; %+v", w.written, time.Since(w.begun).Round(time.Millisecond), excused, len(mayMiss), f.Stats())
}
