package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// file is one open database: one connection that writes, and a pool that reads.
//
// The VFS unix-excl keeps the index of the write-ahead log in our own memory instead of a mapped file
// (https://www.sqlite.org/vfs.html). A thread that touches a mapped page of a stalled disk stops where the scheduler
// cannot see it, and the next garbage collection stops the whole program behind it. It also keeps a second guard from
// using the same file.
type file struct {
	path   string
	small  int64 // bytes
	writer *sql.DB
	conn   *sql.Conn // the only connection of writer
	reader *sql.DB
	stmt   statements
	self   os.FileInfo // which file it was when it was opened
}

// readers is how many reads run at once.
const readers = 4

// openFile opens or makes the database at path and checks it. The error is from SQLite, errNewer or errForeign where the
// file is at fault.
func openFile(ctx context.Context, path string, small int64) (*file, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	f := &file{path: path, small: small}
	var err error
	pragmas := []string{"journal_mode(wal)", "synchronous(full)", "journal_size_limit(4194304)"}
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		// Only for a new file, and first: later it would change nothing but write, which a full disk refuses.
		pragmas = append([]string{"auto_vacuum(incremental)"}, pragmas...)
	}
	if f.writer, err = sql.Open("sqlite", dsn(path, pragmas...)); err != nil {
		return nil, err
	}
	f.writer.SetMaxOpenConns(1)
	if f.reader, err = sql.Open("sqlite", dsn(path, "query_only(1)", "cache_size(-1000)")); err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.reader.SetMaxOpenConns(readers)
	f.reader.SetMaxIdleConns(readers)
	f.reader.SetConnMaxIdleTime(time.Minute)
	if err := f.prepare(ctx); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *file) prepare(ctx context.Context) error {
	var err error
	if f.conn, err = f.writer.Conn(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, f.conn, applicationID, migrations); err != nil {
		return err
	}
	if err := f.checkSize(); err != nil {
		return err
	}
	if f.self, err = os.Stat(f.path); err != nil {
		return err
	}
	if f.isSmall() {
		if err := f.check(ctx); err != nil {
			return err
		}
	}
	return f.stmt.prepare(ctx, f.conn, f.reader)
}

// check reads every page of the file and says whether they hang together.
func (f *file) check(ctx context.Context) error {
	var verdict string
	if err := f.reader.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return damage(verdict)
	}
	return nil
}

// checkSize finds a file that ends inside a page, which SQLite would fill up with zeros. A checkpoint that was cut short
// leaves one too, but then the write-ahead log still holds the page.
func (f *file) checkSize() error {
	const pageSize = 4096
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if wal, err := os.Stat(f.path + "-wal"); err == nil && wal.Size() > 0 {
		return nil
	}
	if info.Size()%pageSize != 0 {
		return damage("it ends inside a page")
	}
	return nil
}

// isSmall says whether the file is checked before it is used, which takes 0.2 to 0.5 s for 100 MiB (100,000 bans of five
// lines). A larger one is checked while it is used already.
func (f *file) isSmall() bool {
	info, err := os.Stat(f.path)
	return err == nil && info.Size() <= f.small
}

// damage is what a check found.
type damage string

func (d damage) Error() string { return "damaged: " + string(d) }

var errGone = errors.New("removed or replaced by somebody else")

// private makes path a file that only its owner may read. SQLite gives its other files the mode of the first.
func private(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func dsn(path string, pragmas ...string) string {
	q := url.Values{"vfs": {"unix-excl"}}
	for _, p := range append([]string{"busy_timeout(1000)", "trusted_schema(0)", "cell_size_check(1)", "temp_store(memory)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (f *file) close() error {
	errs := []error{f.stmt.close()}
	if f.reader != nil {
		errs = append(errs, f.reader.Close())
	}
	if f.conn != nil {
		errs = append(errs, f.conn.Close())
	}
	if f.writer != nil {
		errs = append(errs, f.writer.Close())
	}
	return errors.Join(errs...)
}

// isGone says whether somebody removed or replaced the file. SQLite would go on writing to what has no name any more.
func (f *file) isGone() bool {
	now, err := os.Stat(f.path)
	return errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(now, f.self)
}

// transaction runs do between BEGIN and COMMIT; the work is durable if it returns nil and undone otherwise.
func (f *file) transaction(ctx context.Context, do func() error) error {
	if _, err := f.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		_, err = f.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		f.conn.ExecContext(ctx, "ROLLBACK") // fails where SQLite rolled back by itself
	}
	return err
}

// unusable says whether an error means that the file itself is at fault, so that it has to be moved aside.
func unusable(err error) bool {
	var d damage
	if errors.As(err, &d) || errors.Is(err, errNewer) || errors.Is(err, errForeign) {
		return true
	}
	switch primary(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	}
	return false
}

// passing says whether an error is the disk's or the system's, so that trying again may help.
func passing(err error) bool {
	switch primary(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM:
		return true
	}
	return false
}

// primary is the error code of SQLite without its details, 0 if the error is none of its.
func primary(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// moveAside renames a database and its write-ahead log, so that both can still be looked at together.
func moveAside(path string, now time.Time) (to string, err error) {
	to = path + ".corrupt-" + now.UTC().Format("20060102T150405")
	for n := 2; exists(to); n++ {
		to = fmt.Sprintf("%s.corrupt-%s-%d", path, now.UTC().Format("20060102T150405"), n)
	}
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	if err := os.Rename(path+"-wal", to+"-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return to, syncDir(filepath.Dir(path))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
