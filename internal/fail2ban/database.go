package fail2ban

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Database is what fail2ban's SQLite file remembers.
type Database struct {
	Version int // of its tables: 4 for fail2ban 0.11 and later, 3 and less before
	Jails   []string
	Running []DatabaseBan // the last ban of each id in each jail, in force or over: what fail2ban puts in force at its start
	History []DatabaseBan // every ban that is not purged yet, the oldest first
	Logs    []DatabaseLog
	Skipped int // rows left out because they cannot be read, or because there are too many
}

// DatabaseBan is one ban.
type DatabaseBan struct {
	Jail, ID string
	At       time.Time     // of the last failure
	Bantime  time.Duration // -1 s: without end; UnknownBantime: not recorded
	Count    int           // which ban of this id in this jail it was, from 1
	Matches  []string      // the log lines that led to it, at most 10 unless the user set dbmaxmatches
	Failures int
	Fields   map[string]string // the named groups of the filter, by fail2ban's names: "user", "ip4", "mlfid"
}

// UnknownBantime is the length of a ban from before fail2ban 0.11, which did not record it: it is that of its jail.
const UnknownBantime = -2 * time.Second

// DatabaseLog is how far a jail has read a log.
type DatabaseLog struct {
	Jail, Path string // "systemd-journal" for the journal
	FirstLine  string // SHA-1 of the first line with its line end in hex (fail2ban calls it MD5); "" if the log was empty
	Offset     int64  // bytes; for the journal the Unix time of the last entry
}

// The bounds of what is read. The file is fail2ban's own, but the lines in it are strangers'.
const (
	databaseTime    = 2 * time.Minute
	maxDatabaseRows = 1_000_000
	maxRowData      = 256 << 10 // bytes of a ban's lines and groups; a ban with more is read without them
	maxAllData      = 64 << 20  // of all bans, the latest first
)

// ReadDatabase reads the SQLite file of fail2ban without changing anything, while fail2ban runs or not. Rows that make no
// sense are left out and counted. It returns an error if the file cannot be opened, or is not a database of fail2ban.
func ReadDatabase(path string) (*Database, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a file", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), databaseTime)
	defer cancel()
	d, err := readDatabase(ctx, path, "ro")
	if err != nil && ctx.Err() == nil {
		// A database with a write-ahead log needs files beside it, which we may not be allowed to make.
		var again error
		if d, again = readDatabase(ctx, path, "immutable"); again == nil {
			return d, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s as a database of fail2ban: %w", path, err)
	}
	return d, nil
}

// databaseName is how SQLite is asked to open the file: read-only, and trusting nothing that its schema says.
func databaseName(path, mode string) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)", "trusted_schema(0)", "cell_size_check(1)", "temp_store(memory)"}}
	q.Set("mode", "ro")
	if mode == "immutable" {
		q.Set("immutable", "1")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func readDatabase(ctx context.Context, path, mode string) (*Database, error) {
	db, err := sql.Open("sqlite", databaseName(path, mode))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // all tables as of one moment
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	r := &databaseReader{ctx: ctx, tx: tx, d: &Database{}}
	if err := r.read(); err != nil {
		return nil, err
	}
	return r.d, nil
}

// databaseReader reads the tables of one file.
type databaseReader struct {
	ctx  context.Context
	tx   *sql.Tx
	d    *Database
	data int // bytes of lines and groups so far
}

func (r *databaseReader) read() error {
	version, err := r.columns("fail2banDb")
	if err != nil {
		return err
	}
	if !version["version"] {
		return errors.New("it has no table fail2banDb with a version")
	}
	if err := r.rows("SELECT version FROM fail2banDb LIMIT 1", func(v []any) bool {
		r.d.Version = int(integer(v[0]))
		return r.d.Version > 0
	}); err != nil {
		return err
	}
	if r.d.Version > 4 {
		return fmt.Errorf("its tables are of version %d, which is newer than fail2ban %s", r.d.Version, Version)
	}
	if err := r.jails(); err != nil {
		return err
	}
	if r.d.Running, err = r.bans("bips"); err != nil {
		return err
	}
	if r.d.History, err = r.bans("bans"); err != nil {
		return err
	}
	slices.Reverse(r.d.History) // the latest came first, so that they are the ones that a bound leaves
	if r.d.Version < 4 && len(r.d.Running) == 0 {
		r.d.Running = lastBans(r.d.History)
	}
	return nil
}

// columns are the columns of a table; none if there is no table of that name. A view may cost any time and is none.
func (r *databaseReader) columns(table string) (map[string]bool, error) {
	columns := map[string]bool{}
	err := r.rows("SELECT c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name = '"+table+"'",
		func(v []any) bool {
			columns[text(v[0])] = true
			return true
		})
	return columns, err
}

// rows calls each for every row of a query. Rows for which it returns false are counted as skipped.
func (r *databaseReader) rows(query string, each func(v []any) bool) error {
	rows, err := r.tx.QueryContext(r.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	v, to := make([]any, len(names)), make([]any, len(names))
	for i := range v {
		to[i] = &v[i]
	}
	for n := 0; rows.Next(); n++ {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if n >= maxDatabaseRows || !each(v) {
			r.d.Skipped++
		}
	}
	return rows.Err()
}

func (r *databaseReader) jails() error {
	jails, err := r.columns("jails")
	if err == nil && jails["name"] {
		err = r.rows("SELECT name FROM jails ORDER BY rowid", func(v []any) bool {
			name := text(v[0])
			if name != "" {
				r.d.Jails = append(r.d.Jails, name)
			}
			return name != ""
		})
	}
	if err != nil {
		return err
	}
	logs, err := r.columns("logs")
	if err != nil || !logs["jail"] || !logs["path"] {
		return err
	}
	return r.rows("SELECT jail, path, firstlinemd5, lastfilepos FROM logs ORDER BY rowid", func(v []any) bool {
		l := DatabaseLog{text(v[0]), text(v[1]), text(v[2]), integer(v[3])}
		if l.Jail == "" || l.Path == "" || l.Offset < 0 {
			return false
		}
		r.d.Logs = append(r.d.Logs, l)
		return true
	})
}

// bans reads table bips or bans, the latest first.
func (r *databaseReader) bans(table string) (bans []DatabaseBan, err error) {
	has, err := r.columns(table)
	if err != nil || !has["jail"] || !has["ip"] || !has["timeofban"] {
		return nil, err
	}
	bantime, count := fmt.Sprint(int64(UnknownBantime/time.Second)), "1"
	if has["bantime"] && has["bancount"] {
		bantime, count = "bantime", "bancount"
	}
	data := "NULL"
	if has["data"] {
		data = fmt.Sprintf("CASE WHEN length(data) <= %d THEN data END", maxRowData)
	}
	err = r.rows(fmt.Sprintf("SELECT jail, ip, timeofban, %s, %s, %s FROM %s ORDER BY timeofban DESC, rowid DESC", bantime, count, data, table),
		func(v []any) bool {
			b, ok := r.ban(v)
			if ok {
				bans = append(bans, b)
			}
			return ok
		})
	return bans, err
}

func (r *databaseReader) ban(v []any) (b DatabaseBan, ok bool) {
	at, bantime := integer(v[2]), integer(v[3])
	b = DatabaseBan{Jail: text(v[0]), ID: text(v[1]), At: time.Unix(at, 0), Count: int(max(1, min(integer(v[4]), 1<<30)))}
	if b.Jail == "" || b.ID == "" || at <= 0 || at > 1<<38 || bantime < -2 {
		return b, false
	}
	b.Bantime = number{f: float64(bantime)}.duration()
	data := text(v[5])
	if r.data += len(data); r.data <= maxAllData {
		b.read(data)
	}
	return b, true
}

// read takes the lines and groups of a ban from its JSON. What is not as it should be is left out.
func (b *DatabaseBan) read(data string) {
	var all map[string]any
	if json.Unmarshal([]byte(data), &all) != nil {
		return
	}
	for name, v := range all {
		switch name {
		case "failures":
			if n, ok := v.(float64); ok && n >= 0 && n < 1<<30 {
				b.Failures = int(n)
			}
		case "matches":
			lines, _ := v.([]any)
			for _, l := range lines {
				b.Matches = append(b.Matches, match(l))
			}
		default:
			if s, ok := field(v); ok {
				if b.Fields == nil {
					b.Fields = map[string]string{}
				}
				b.Fields[name] = s
			}
		}
	}
}

// match is one log line: a text, or what stood before the date, the date, and what stood behind it.
func match(v any) string {
	parts, ok := v.([]any)
	if !ok {
		parts = []any{v}
	}
	var b strings.Builder
	for _, p := range parts {
		s, _ := p.(string)
		b.WriteString(s)
	}
	return b.String()
}

// field is the text of a named group; ok is false if the group took no part.
func field(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}

// lastBans are the last ban of each id in each jail. The bans come the oldest first, the result the latest.
func lastBans(bans []DatabaseBan) (last []DatabaseBan) {
	seen := map[[2]string]bool{}
	for _, b := range slices.Backward(bans) {
		if key := [2]string{b.Jail, b.ID}; !seen[key] {
			seen[key] = true
			last = append(last, b)
		}
	}
	slices.SortStableFunc(last, func(a, b DatabaseBan) int { return cmp.Compare(b.At.Unix(), a.At.Unix()) })
	return last
}

// text and integer take a value of whatever type SQLite has it: a column's type is a hint there.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		return int64(max(-1<<53, min(v, 1<<53)))
	}
	return 0
}
