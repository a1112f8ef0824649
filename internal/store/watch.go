package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin"
)

// Bounds of the watch file, in rows. What comes first goes first.
const (
	mostRefused = 1_000
	mostChecked = 10_000
	maxChecked  = 4 << 10 // bytes of one answer
)

// Watch is the watch process's file: the reports on their way, what was sent, answers to checks, the catalogue of what is
// supervised, and tokens. It is one SQLite file, described in docs/format/watch.md. Its methods may be called by several
// goroutines at once; each waits for the disk.
type Watch struct {
	path string
	log  *slog.Logger

	mu         sync.Mutex
	f          *file
	s          watchStatements
	movedAside string
	closed     bool
}

type watchStatements struct {
	putReport, dropReport, putNext, dropNext  *sql.Stmt
	putSent, forget, putRefused, pruneRefused *sql.Stmt
	putNumber, putChecked, pruneChecked       *sql.Stmt
	reports, next, sent, numbers              *sql.Stmt
	refused, checked                          *sql.Stmt
	putNode, putService, dropNode             *sql.Stmt
	dropServices, countKnown, nodes, services *sql.Stmt
	putToken, dropToken, tokens               *sql.Stmt
}

// OpenWatch opens the watch's file at path and makes it with mode 0600 if it does not exist. A file that is damaged, is
// something else or is from a newer version of the program is moved aside as Open does it. It fails if the file cannot be
// read or made at all, or if another process holds it.
func OpenWatch(path string, log *slog.Logger) (*Watch, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w := &Watch{path: abs, log: log}
	err = w.open(context.Background())
	if unusable(err) {
		err = w.anew(context.Background(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", abs, err)
	}
	return w, nil
}

// open opens or makes the file. The error is unusable where the file is at fault.
func (w *Watch) open(ctx context.Context) error {
	if err := private(w.path); err != nil {
		return err
	}
	f := &file{path: w.path, small: smallFile}
	err := f.connect(ctx)
	if err == nil {
		err = f.prepareWatch(ctx, &w.s)
	}
	if err != nil {
		f.close()
		return err
	}
	w.f = f
	return nil
}

// connect makes the one connection that writes and reads; there is little to do at once.
func (f *file) connect(ctx context.Context) (err error) {
	f.writer, err = sql.Open("sqlite", dsn(f.path, "journal_mode(wal)", "synchronous(full)", "journal_size_limit(4194304)"))
	if err != nil {
		return err
	}
	f.writer.SetMaxOpenConns(1)
	f.conn, err = f.writer.Conn(ctx)
	return err
}

func (f *file) prepareWatch(ctx context.Context, s *watchStatements) (err error) {
	if err := migrate(ctx, f.conn, watchApplicationID, watchMigrations); err != nil {
		return err
	}
	if err := f.checkSize(); err != nil {
		return err
	}
	if f.self, err = os.Stat(f.path); err != nil {
		return err
	}
	var verdict string
	if err := f.conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return damage(verdict)
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.putReport, `INSERT OR REPLACE INTO report (addr, categories, service, failures, first, last, queued, hold, due, attempt,
			tried, tries, bulk, withdrawn) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)`},
		{&s.dropReport, `DELETE FROM report WHERE addr = ?`},
		{&s.putNext, `INSERT OR REPLACE INTO next (addr, categories, service, failures, first, last, queued) VALUES (?,?,?,?,?,?,?)`},
		{&s.dropNext, `DELETE FROM next WHERE addr = ?`},
		{&s.putSent, `INSERT OR REPLACE INTO sent (addr, at, same) VALUES (?,?,?)`},
		{&s.forget, `DELETE FROM sent WHERE at < ?`},
		{&s.putRefused, `INSERT INTO refused (addr, at, detail, comment) VALUES (?,?,?,?)`},
		{&s.pruneRefused, `DELETE FROM refused WHERE n <= (SELECT max(n) FROM refused) - ?`},
		{&s.putNumber, `INSERT OR REPLACE INTO number (name, value) VALUES (?,?)`},
		{&s.putChecked, `INSERT OR REPLACE INTO checked (addr, at, answer) VALUES (?,?,?)`},
		{&s.pruneChecked, `DELETE FROM checked WHERE addr IN (SELECT addr FROM checked ORDER BY at DESC, addr LIMIT -1 OFFSET ?)`},
		{&s.reports, `SELECT addr, categories, service, failures, first, last, queued, hold, due, attempt, tried, tries, bulk, withdrawn
			FROM report`},
		{&s.next, `SELECT addr, categories, service, failures, first, last, queued FROM next`},
		{&s.sent, `SELECT addr, at, same FROM sent`},
		{&s.numbers, `SELECT name, value FROM number`},
		{&s.refused, `SELECT addr, at, detail, comment FROM refused ORDER BY n DESC LIMIT ?`},
		{&s.checked, `SELECT at, answer FROM checked WHERE addr = ? AND at >= ?`},
		{&s.putNode, `INSERT OR REPLACE INTO node (grp, node, address, seen, since, why) VALUES (?,?,?,?,?,?)`},
		{&s.putService, `INSERT INTO service (grp, node, service, described, seen) VALUES (?,?,?,?,?)
			ON CONFLICT DO UPDATE SET described = excluded.described, seen = excluded.seen`},
		{&s.dropNode, `DELETE FROM node WHERE grp = ? AND node = ?`},
		{&s.dropServices, `DELETE FROM service WHERE grp = ? AND node = ?`},
		{&s.countKnown, `SELECT (SELECT count(*) FROM node), (SELECT count(*) FROM service)`},
		{&s.nodes, `SELECT grp, node, address, seen, since, why FROM node ORDER BY grp, node`},
		{&s.services, `SELECT grp, node, service, described, seen FROM service ORDER BY grp, node, service`},
		{&s.putToken, `INSERT OR IGNORE INTO token (name, scope, hash, made) SELECT ?,?,?,? WHERE (SELECT count(*) FROM token) < ?`},
		{&s.dropToken, `DELETE FROM token WHERE name = ?`},
		{&s.tokens, `SELECT name, scope, hash, made FROM token ORDER BY name`},
	} {
		if *p.stmt, err = f.conn.PrepareContext(ctx, p.text); err != nil {
			return err
		}
		f.stmt.prepared = append(f.stmt.prepared, *p.stmt)
	}
	return nil
}

// anew moves a file that is at fault aside, unless somebody has removed it, and begins a new one.
func (w *Watch) anew(ctx context.Context, cause error) error {
	if w.f != nil {
		w.f.close()
		w.f = nil
	}
	if errors.Is(cause, errGone) {
		w.log.Error("watch file removed, beginning anew", "file", w.path)
		return w.open(ctx)
	}
	to, err := moveAside(w.path, time.Now())
	if err != nil {
		return fmt.Errorf("move the damaged file aside: %w", err)
	}
	w.log.Error("watch file damaged, moved aside", "file", to, "err", cause)
	w.movedAside = to
	return w.open(ctx)
}

// Close closes the file. Everything is on the disk already.
func (w *Watch) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.f == nil {
		return nil
	}
	err := w.f.close()
	w.f = nil
	return err
}

// MovedAside returns the name that a damaged file was given, the last if there were several, and "" if there was none.
func (w *Watch) MovedAside() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.movedAside
}

// do runs one transaction. If the file turns out to be damaged or gone it begins a new one, and says renewed: what was kept
// before is no longer there, and neither is what do did.
func (w *Watch) do(ctx context.Context, what string, do func() error) (renewed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return false, fmt.Errorf("%s: %w", what, ErrClosed)
	case w.f == nil: // a new file could not be begun the last time
		err = w.open(ctx)
		renewed = true
	case w.f.isGone():
		err = errGone
	default:
		err = w.f.transaction(ctx, do)
	}
	if unusable(err) || errors.Is(err, errGone) {
		renewed = true
		err = w.anew(ctx, err)
	}
	if err != nil {
		return renewed, fmt.Errorf("%s: %s: %w", w.path, what, err)
	}
	return renewed, nil
}

// Apply keeps a change of the reports' queue; it is on the disk, all of it, when Apply returns false and nil. If the file was
// lost and a new one begun it says renewed: nothing of the queue is kept any more, and everything has to be given again.
func (w *Watch) Apply(ctx context.Context, c tocsin.ReportChange) (renewed bool, err error) {
	return w.do(ctx, "keep reports", func() error { return w.apply(ctx, &c) })
}

func (w *Watch) apply(ctx context.Context, c *tocsin.ReportChange) error {
	s := &w.s
	for _, a := range c.Drop {
		if _, err := s.dropReport.ExecContext(ctx, a.AsSlice()); err != nil {
			return err
		}
		if _, err := s.dropNext.ExecContext(ctx, a.AsSlice()); err != nil {
			return err
		}
	}
	for i := range c.Put {
		if err := w.putReport(ctx, &c.Put[i]); err != nil {
			return err
		}
	}
	for _, r := range c.Sent {
		if _, err := s.putSent.ExecContext(ctx, r.Addr.AsSlice(), micros(r.At), int64(r.Same)); err != nil {
			return err
		}
	}
	for _, r := range c.Refused {
		if _, err := s.putRefused.ExecContext(ctx, r.Addr.AsSlice(), micros(r.At), r.Detail, r.Comment); err != nil {
			return err
		}
	}
	if len(c.Refused) > 0 {
		if _, err := s.pruneRefused.ExecContext(ctx, mostRefused); err != nil {
			return err
		}
	}
	for name, n := range c.Numbers {
		if _, err := s.putNumber.ExecContext(ctx, name, n); err != nil {
			return err
		}
	}
	if c.Forget.IsZero() {
		return nil
	}
	_, err := s.forget.ExecContext(ctx, micros(c.Forget))
	return err
}

func (w *Watch) putReport(ctx context.Context, r *tocsin.QueuedReport) error {
	addr := r.Addr.AsSlice()
	_, err := w.s.putReport.ExecContext(ctx, addr, categoriesText(r.Categories), r.Service, r.Failures, micros(r.First),
		micros(r.Last), micros(r.Queued), maybeMicros(r.Hold), maybeMicros(r.Due), maybeMicros(r.Attempt), maybeMicros(r.Tried),
		r.Tries, r.Bulk, r.Withdrawn)
	if err != nil {
		return err
	}
	if n := &r.Next; !n.Queued.IsZero() {
		_, err = w.s.putNext.ExecContext(ctx, addr, categoriesText(n.Categories), n.Service, n.Failures, micros(n.First),
			micros(n.Last), micros(n.Queued))
	} else {
		_, err = w.s.dropNext.ExecContext(ctx, addr)
	}
	return err
}

// Reports returns all that is kept of the reports' queue, in no order.
func (w *Watch) Reports(ctx context.Context) (s tocsin.ReportState, err error) {
	renewed, err := w.do(ctx, "read reports", func() error {
		s = tocsin.ReportState{Numbers: make(map[string]int64)}
		return errors.Join(w.readQueued(ctx, &s), w.readSent(&s), w.readNumbers(&s))
	})
	if renewed {
		s = tocsin.ReportState{Numbers: make(map[string]int64)}
	}
	return s, err
}

// readQueued reads the reports on their way. There may be 200,000 of them, and every column counts.
func (w *Watch) readQueued(ctx context.Context, s *tocsin.ReportState) error {
	next := make(map[netip.Addr]tocsin.Report)
	known := make(map[string][]int)
	var row reportRow
	err := each(func(scan func(...any) error) error {
		if err := scan(row.columns()...); err != nil {
			return err
		}
		addr, r, err := row.report(known)
		next[addr] = r
		return err
	}, w.s.next)
	if err != nil {
		return err
	}
	var n int
	if err := w.f.conn.QueryRowContext(ctx, "SELECT count(*) FROM report").Scan(&n); err != nil {
		return err
	}
	s.Queued = make([]tocsin.QueuedReport, 0, n)
	var r tocsin.QueuedReport
	var hold, due, attempt, tried int64
	columns := append(row.columns(), &hold, &due, &attempt, &tried, &r.Tries, &r.Bulk, &r.Withdrawn)
	return each(func(scan func(...any) error) error {
		err := scan(columns...)
		if err != nil {
			return err
		}
		if r.Addr, r.Report, err = row.report(known); err != nil {
			return err
		}
		r.Hold, r.Due, r.Attempt, r.Tried = fromMaybe(hold), fromMaybe(due), fromMaybe(attempt), fromMaybe(tried)
		r.Next = next[r.Addr]
		s.Queued = append(s.Queued, r)
		return nil
	}, w.s.reports)
}

// reportRow is what report and next have in common.
type reportRow struct {
	addr, categories    sql.RawBytes
	service             uint8
	failures            int
	first, last, queued int64
}

func (r *reportRow) columns() []any {
	return []any{&r.addr, &r.categories, &r.service, &r.failures, &r.first, &r.last, &r.queued}
}

// report is the row's meaning. Categories that were read before are shared: nobody changes them.
func (r *reportRow) report(known map[string][]int) (netip.Addr, tocsin.Report, error) {
	addr, ok := netip.AddrFromSlice(r.addr)
	if !ok {
		return addr, tocsin.Report{}, damage("a report without an address")
	}
	ids, ok := known[string(r.categories)]
	if !ok {
		var err error
		if ids, err = parseCategories(string(r.categories)); err != nil {
			return addr, tocsin.Report{}, err
		}
		known[string(r.categories)] = ids
	}
	return addr, tocsin.Report{Categories: ids, Service: r.service, Failures: r.failures, First: fromMicros(r.first),
		Last: fromMicros(r.last), Queued: fromMicros(r.queued)}, nil
}

func (w *Watch) readSent(s *tocsin.ReportState) error {
	return each(func(scan func(...any) error) error {
		var addr []byte
		var at, same int64
		if err := scan(&addr, &at, &same); err != nil {
			return err
		}
		a, ok := netip.AddrFromSlice(addr)
		if !ok {
			return damage("a sent report without an address")
		}
		s.Sent = append(s.Sent, tocsin.SentReport{Addr: a, At: fromMicros(at), Same: uint64(same)})
		return nil
	}, w.s.sent)
}

func (w *Watch) readNumbers(s *tocsin.ReportState) error {
	return each(func(scan func(...any) error) error {
		var name string
		var n int64
		err := scan(&name, &n)
		s.Numbers[name] = n
		return err
	}, w.s.numbers)
}

// Refused returns the reports that the server will never take, the newest first, at most n. Details are a stranger's text.
func (w *Watch) Refused(ctx context.Context, n int) (all []tocsin.RefusedReport, err error) {
	_, err = w.do(ctx, "read refused reports", func() error {
		all = nil
		return each(func(scan func(...any) error) error {
			var r tocsin.RefusedReport
			var addr []byte
			var at int64
			err := scan(&addr, &at, &r.Detail, &r.Comment)
			r.Addr, _ = netip.AddrFromSlice(addr)
			r.At = fromMicros(at)
			all = append(all, r)
			return err
		}, w.s.refused, n)
	})
	return all, err
}

// PutChecked keeps the answer to a check of an address, at most 4 KiB of a text that means nothing to the store.
func (w *Watch) PutChecked(ctx context.Context, addr netip.Addr, at time.Time, answer string) error {
	if len(answer) > maxChecked {
		return fmt.Errorf("keep the answer about %s: %d bytes, at most %d are kept", addr, len(answer), maxChecked)
	}
	_, err := w.do(ctx, "keep a check", func() error {
		if _, err := w.s.putChecked.ExecContext(ctx, addr.AsSlice(), micros(at), answer); err != nil {
			return err
		}
		_, err := w.s.pruneChecked.ExecContext(ctx, mostChecked)
		return err
	})
	return err
}

// Checked returns the answer to a check of an address that was made at since or later; ok is false if there is none.
func (w *Watch) Checked(ctx context.Context, addr netip.Addr, since time.Time) (answer string, at time.Time, ok bool, err error) {
	_, err = w.do(ctx, "read a check", func() error {
		ok = false
		return each(func(scan func(...any) error) error {
			var us int64
			err := scan(&us, &answer)
			at, ok = fromMicros(us), err == nil
			return err
		}, w.s.checked, addr.AsSlice(), micros(since))
	})
	return answer, at, ok, err
}

// DropChecked forgets the answer to a check.
func (w *Watch) DropChecked(ctx context.Context, addr netip.Addr) error {
	_, err := w.do(ctx, "forget a check", func() error {
		_, err := w.f.conn.ExecContext(ctx, "DELETE FROM checked WHERE addr = ?", addr.AsSlice())
		return err
	})
	return err
}

// maybeMicros writes a time that may be none as 0.
func maybeMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return micros(t)
}

func fromMaybe(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return fromMicros(us)
}

func categoriesText(ids []int) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(id)
	}
	return strings.Join(words, ",")
}

func parseCategories(text string) (ids []int, err error) {
	if text == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		id, err := strconv.Atoi(word)
		if err != nil || id < 0 || id > math.MaxUint16 {
			return nil, damage("a report with categories that are no numbers")
		}
		ids = append(ids, id)
	}
	return ids, nil
}
