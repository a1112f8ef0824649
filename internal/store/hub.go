package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the hub's file and of what waits for it.
const (
	mostOrgs      = 10_000
	mostKeys      = 100_000
	mostWaiting   = 4096 // calls of Put that wait for the disk
	mostTogether  = 500  // reports in one transaction; a call with more has one of its own
	mostRemembers = 1_000_000
)

// ReportWindow is how long a second report of an address by the same reporter is a duplicate, in seconds.
const ReportWindow = 15 * 60

// Hub is a hub's file: members, their keys, what they reported, and the list. It is one SQLite file, described in
// docs/format/hub.md. Its methods may be called by several goroutines at once.
//
// A file that is damaged, is something else or is from a newer version is not touched: without its keys a hub would send
// all its members away.
type Hub struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex // held while something is written
	f      *file
	s      hubStatements
	window window
	closed bool

	waiting chan *hubPut
	stop    chan struct{}
	stopped chan struct{}
	failed  atomic.Pointer[error] // of the last write; nil: it was kept
}

type hubStatements struct {
	putReport, putComment, putEvidence, similar *sql.Stmt
	comments, dropReports, dropEvidence         *sql.Stmt
	reports, countReports, lastAddr, span       *sql.Stmt
}

// OpenHub opens the hub's file at path and makes it with mode 0600 if it does not exist.
func OpenHub(path string, log *slog.Logger) (*Hub, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	h := &Hub{path: abs, log: log, waiting: make(chan *hubPut, mostWaiting), stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := h.open(context.Background()); err != nil {
		if unusable(err) {
			err = fmt.Errorf("%w: put a copy of it there that is whole, or move it away to begin anew without members", err)
		}
		return nil, fmt.Errorf("open %s: %w", abs, err)
	}
	go h.write()
	return h, nil
}

func (h *Hub) open(ctx context.Context) error {
	if err := private(h.path); err != nil {
		return err
	}
	f := &file{path: h.path, small: smallFile}
	err := f.connect(ctx)
	if err == nil {
		err = f.prepareHub(ctx, &h.s)
	}
	if err == nil {
		err = h.remember(ctx, f)
	}
	if err != nil {
		f.close()
		return err
	}
	h.f = f
	return nil
}

func (f *file) prepareHub(ctx context.Context, s *hubStatements) (err error) {
	if err := migrate(ctx, f.conn, hubApplicationID, hubMigrations); err != nil {
		return err
	}
	if err := f.checkSize(); err != nil {
		return err
	}
	if f.self, err = os.Stat(f.path); err != nil {
		return err
	}
	if f.reader, err = sql.Open("sqlite", dsn(f.path, "query_only(1)", "cache_size(-4000)")); err != nil {
		return err
	}
	f.reader.SetMaxOpenConns(readers)
	f.reader.SetMaxIdleConns(readers)
	if f.isSmall() {
		if err := f.check(ctx); err != nil {
			return err
		}
	}
	type preparer interface {
		PrepareContext(context.Context, string) (*sql.Stmt, error)
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		on   preparer
		text string
	}{
		{&s.putReport, f.conn, `INSERT INTO report (id, reporter, key, addr, at, received, categories) VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`},
		{&s.putComment, f.conn, `INSERT INTO comment (report, text) VALUES (?,?)`},
		{&s.putEvidence, f.conn, `INSERT INTO evidence (key, reporter, day, second, count, categories, quality, public) VALUES (?,?,?,?,1,?,?,?)
			ON CONFLICT DO UPDATE SET second = max(second, excluded.second), count = count + 1, categories = categories | excluded.categories,
			quality = max(quality, excluded.quality)`},
		{&s.similar, f.conn, `SELECT 1 FROM report WHERE key = ? AND at > ? AND at < ? AND reporter = ? AND addr = ? LIMIT 1`},
		{&s.reports, f.reader, `SELECT r.at, r.categories, coalesce(c.text, ''), r.reporter FROM report r LEFT JOIN comment c ON c.report = r.n
			WHERE r.key = ? AND r.at >= ? ORDER BY r.at DESC, r.n DESC LIMIT ? OFFSET ?`},
		{&s.countReports, f.reader, `SELECT count(*) FROM report WHERE key = ? AND at >= ?`},
		{&s.lastAddr, f.reader, `SELECT addr FROM report WHERE key = ? ORDER BY at DESC LIMIT 1`},
		{&s.comments, f.conn, `DELETE FROM comment WHERE report IN (SELECT n FROM report WHERE key = ? AND reporter = ?)`},
		{&s.dropReports, f.conn, `DELETE FROM report WHERE key = ? AND reporter = ?`},
		{&s.dropEvidence, f.conn, `DELETE FROM evidence WHERE key = ? AND reporter = ?`},
		{&s.span, f.reader, `SELECT key, sum(count), max(day * 86400 + second) FROM evidence WHERE key BETWEEN ? AND ? AND day * 86400 + second >= ?
			GROUP BY key ORDER BY key LIMIT ?`},
	} {
		if *p.stmt, err = p.on.PrepareContext(ctx, p.text); err != nil {
			return err
		}
		f.stmt.prepared = append(f.stmt.prepared, *p.stmt)
	}
	return nil
}

// Close writes what waits and closes the file.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	close(h.stop)
	<-h.stopped
	return h.f.close()
}

// Down says why the file cannot be used now: it is gone, or the last write failed. nil: it can.
func (h *Hub) Down() error {
	if h.f.isGone() {
		return fmt.Errorf("%s: %w", h.path, errGone)
	}
	if err := h.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// HubReport is one report.
type HubReport struct {
	ID       [16]byte // the same one twice is one report
	Reporter uint32
	Key      uint64 // what has a score: the address, or the upper half of one of IPv6
	Addr     netip.Addr
	At       int64 // Unix seconds
	Received int64
	Cats     uint32 // a bit for each category
	Quality  uint8
	Public   bool // the key was on the list
	Comment  string
	Always   bool // it is no duplicate whenever it comes
}

// Kept is what became of a report.
type Kept uint8

// What becomes of a report.
const (
	KeptNew       Kept = iota
	KeptDuplicate      // the reporter spoke of the address less than ReportWindow before or after
	KeptKnown          // a report with that ID is there
)

// hubPut is one call of Put.
type hubPut struct {
	reports []HubReport
	kept    []Kept
	done    chan error
}

// Put keeps reports, all of them or, with an error, none. They are on the disk when it returns nil, and it says what became of
// each. It waits for the disk, however long that takes, but where thousands wait already it returns ErrFull at once.
func (h *Hub) Put(reports []HubReport) ([]Kept, error) {
	p := &hubPut{reports: reports, kept: make([]Kept, len(reports)), done: make(chan error, 1)}
	h.mu.Lock() // so that Close does not miss it
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	h.mu.Unlock()
	select {
	case h.waiting <- p:
	default:
		return nil, ErrFull
	}
	select {
	case err := <-p.done:
		return p.kept, err
	case <-h.stopped:
	}
	select {
	case err := <-p.done:
		return p.kept, err
	default:
		return nil, ErrClosed
	}
}

// write writes what waits, together as much as has come while the disk was busy, until the file is closed.
func (h *Hub) write() {
	defer close(h.stopped)
	for {
		select {
		case p := <-h.waiting:
			h.together(p)
		case <-h.stop:
			for {
				select {
				case p := <-h.waiting:
					h.together(p)
				default:
					return
				}
			}
		}
	}
}

// together writes a call and those that wait behind it in one transaction.
func (h *Hub) together(p *hubPut) {
	all := []*hubPut{p}
	for n := len(p.reports); n < mostTogether; {
		select {
		case next := <-h.waiting:
			all = append(all, next)
			n += len(next.reports)
			continue
		default:
		}
		break
	}
	h.mu.Lock()
	h.window.turn(time.Now().Unix())
	err := h.transaction("keep reports", func(ctx context.Context) error {
		for _, p := range all {
			for i := range p.reports {
				var err error
				if p.kept[i], err = h.put(ctx, &p.reports[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		h.window.undo()
	}
	h.window.done()
	h.mu.Unlock()
	for _, p := range all {
		p.done <- err
	}
}

// transaction runs do with the lock held.
func (h *Hub) transaction(what string, do func(context.Context) error) error {
	ctx := context.Background()
	err := errGone
	if !h.f.isGone() {
		err = h.f.transaction(ctx, func() error { return do(ctx) })
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", h.path, what, err)
		if h.failed.Swap(&err) == nil {
			h.log.Error("the hub's file cannot be written: nothing is answered until it can", "err", err)
		}
		return err
	}
	if h.failed.Swap(nil) != nil {
		h.log.Info("the hub's file can be written again")
	}
	return nil
}

// do is transaction for everything but reports.
func (h *Hub) do(what string, do func(context.Context) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	return h.transaction(what, do)
}

const secondsOfDay = 86400

func (h *Hub) put(ctx context.Context, r *HubReport) (Kept, error) {
	addr := r.Addr.AsSlice()
	if !r.Always {
		switch h.window.ask(r) {
		case yes:
			return KeptDuplicate, nil
		case unknown:
			err := h.s.similar.QueryRowContext(ctx, int64(r.Key), r.At-ReportWindow, r.At+ReportWindow, r.Reporter, addr).Scan(new(int))
			if err == nil {
				return KeptDuplicate, nil
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return 0, err
			}
		}
	}
	res, err := h.s.putReport.ExecContext(ctx, r.ID[:], r.Reporter, int64(r.Key), addr, r.At, r.Received, r.Cats)
	if err != nil {
		return 0, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return KeptKnown, err
	}
	if r.Comment != "" {
		n, err := res.LastInsertId()
		if err != nil {
			return 0, err
		}
		if _, err := h.s.putComment.ExecContext(ctx, n, r.Comment); err != nil {
			return 0, err
		}
	}
	if _, err := h.s.putEvidence.ExecContext(ctx, int64(r.Key), r.Reporter, r.At/secondsOfDay, r.At%secondsOfDay, r.Cats, r.Quality, r.Public); err != nil {
		return 0, err
	}
	h.window.note(r)
	return KeptNew, nil
}

// window knows the newest report of each reporter about each address that came within the last half hour or longer, so that a
// duplicate is found without the disk.
type window struct {
	now, before map[reported]int64
	since       int64 // when now was begun
	lost        int64 // when something was forgotten too early; 0: never
	undos       []undo
}

type reported struct {
	reporter uint32
	addr     netip.Addr
}

type undo struct {
	r   reported
	at  int64
	was bool
}

type answer int

const (
	no answer = iota
	yes
	unknown
)

// ask says whether a report is a duplicate.
func (w *window) ask(r *HubReport) answer {
	who := reported{r.Reporter, r.Addr}
	last, ok := w.now[who]
	if !ok {
		last, ok = w.before[who]
	}
	switch {
	case ok && r.At > last-ReportWindow && r.At < last+ReportWindow:
		return yes
	case ok && r.At < last, r.At <= r.Received-ReportWindow, !ok && r.Received < w.lost+2*ReportWindow:
		return unknown
	}
	return no
}

// turn forgets what is old, or too much.
func (w *window) turn(now int64) {
	full := len(w.now) >= mostRemembers
	if w.now != nil && now-w.since < 2*ReportWindow && !full {
		return
	}
	if full && now-w.since < 2*ReportWindow {
		w.lost = now
	}
	w.before, w.now, w.since = w.now, map[reported]int64{}, now
}

func (w *window) note(r *HubReport) {
	who := reported{r.Reporter, r.Addr}
	last, was := w.now[who]
	w.undos = append(w.undos, undo{who, last, was})
	if !was {
		last = w.before[who]
	}
	w.now[who] = max(last, r.At)
}

// undo forgets what was noted since done, for it was not kept.
func (w *window) undo() {
	for i := len(w.undos) - 1; i >= 0; i-- {
		if u := w.undos[i]; u.was {
			w.now[u.r] = u.at
		} else {
			delete(w.now, u.r)
		}
	}
}

func (w *window) done() { w.undos = w.undos[:0] }

// remember fills the window from the file.
func (h *Hub) remember(ctx context.Context, f *file) error {
	now := time.Now().Unix()
	h.window.turn(now)
	rows, err := f.conn.QueryContext(ctx, `SELECT reporter, addr, at, received FROM report WHERE received > ? ORDER BY received DESC LIMIT ?`, now-2*ReportWindow, mostRemembers)
	if err != nil {
		return err
	}
	err = eachRow(rows, func(scan func(...any) error) error {
		var r HubReport
		var addr []byte
		if err := scan(&r.Reporter, &addr, &r.At, &r.Received); err != nil {
			return err
		}
		a, ok := netip.AddrFromSlice(addr)
		if !ok {
			return damage("a report without an address")
		}
		r.Addr, r.Received = a, now
		h.window.note(&r)
		return nil
	})
	h.window.done()
	return err
}
