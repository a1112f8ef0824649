package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/fail2ban"
	"tocsin/internal/host"
	"tocsin/internal/source"
	"tocsin/internal/store"
)

// ImportOptions say what to take over from fail2ban.
type ImportOptions struct {
	Config   *config.Config // its [fail2ban] dir is the configuration that belongs to the database, its state is where it goes
	Database string         // fail2ban's database; "" for the one that its fail2ban.conf names
	DryRun   bool           // look, and write nothing
	Log      *slog.Logger
}

// Imported is what was found in fail2ban's database and what became of it.
type Imported struct {
	Dir, Database string
	Written       time.Time     // when fail2ban wrote into its database last
	Beside        *host.Running // the fail2ban that still runs; nil if there is none
	Jails         []ImportedJail
	Logs          []ImportedLog
	Broken        int // rows that could not be read
}

// ImportedJail counts the bans of one jail.
type ImportedJail struct {
	Name        string
	Running     int
	Former      int
	Added       int      // of both, those that the store did not know yet; 0 in a dry run
	NotBanned   []string // ids that are no address, and that nothing of this jail could ban; the first few of them
	NNotBanned  int
	WhyNotTaken string // why nothing of it is taken; "" if it is
}

// ImportedLog says where the reading of a log will go on.
type ImportedLog struct {
	Source, Path string
	Offset       int64     // of the first line that was not read
	From         time.Time // if not zero, what is younger counts as not read, in place of Offset
	Why          string    // why it is so
	Kept         bool      // the store knew as much or more
}

const (
	journalPath = "systemd-journal" // in fail2ban's database, the path of what is no file
	maxNamedIDs = 5                 // ids that are told one by one
	maxMatches  = 20                // lines kept with a ban, the newest
)

// Import takes over the running bans, the former ones with their lines, and the read positions from fail2ban's database, so
// that the next guard goes on where fail2ban stopped. It only reads what belongs to fail2ban. Doing it again changes nothing
// that was taken before.
func Import(ctx context.Context, o ImportOptions) (*Imported, error) {
	s, err := build(ctx, o.Config, true)
	if err != nil {
		return nil, err
	}
	f2b := s.f2b
	path, err := databasePath(&f2b.Main, o.Database)
	if err != nil {
		return nil, err
	}
	db, written, err := readDatabase(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, api.Errorf(api.ExitOpen, "name its database with --database; if fail2ban never ran here, there is nothing to take over", err.Error())
	case err != nil:
		return nil, err
	}
	m := newMove(s, db, time.Now(), written)
	m.out.Dir, m.out.Database = f2b.Dir, path
	if r, ok := host.Fail2ban(f2b.Main.Socket, f2b.Main.Pidfile); ok {
		m.out.Beside = &r
	}
	if o.DryRun {
		return &m.out, nil
	}
	return &m.out, m.write(ctx, o)
}

// databasePath is where fail2ban's database lies.
func databasePath(main *fail2ban.Main, given string) (string, error) {
	path := cmp.Or(given, main.Dbfile)
	switch {
	case given == "" && (path == "" || strings.EqualFold(path, "none") || path == ":memory:"):
		return "", api.Errorf(api.ExitData, "name one with --database, or start without: running bans are lost, as with a restart of fail2ban",
			fmt.Sprintf("fail2ban keeps no database: dbfile is %q in its fail2ban.conf", path))
	case !filepath.IsAbs(path):
		return filepath.Abs(path)
	}
	return path, nil
}

// readDatabase reads fail2ban's database, and when it was written last. Whether the file is there and may be read is told
// by the system, which SQLite does not pass on.
func readDatabase(path string) (db *fail2ban.Database, written time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, written, err
	}
	info, err := f.Stat()
	f.Close()
	if err != nil {
		return nil, written, err
	}
	db, err = fail2ban.ReadDatabase(path)
	return db, info.ModTime(), err
}

// move is the contents of fail2ban's database on their way into ours.
type move struct {
	set     *set
	now     time.Time
	written time.Time
	out     Imported
	bans    [][]tocsin.Decision // by jail, as out.Jails
	marks   []source.Mark       // as out.Logs
	sources []string            // those of which fail2ban has read something
}

// newMove works out what becomes of each row.
func newMove(s *set, db *fail2ban.Database, now, written time.Time) *move {
	written = written.Truncate(time.Microsecond) // as the store keeps it
	m := &move{set: s, now: now, written: written, out: Imported{Written: written, Broken: db.Skipped}}
	m.takeBans(db)
	m.takeLogs(db)
	return m
}

// takeBans makes decisions of the bans, jail by jail.
func (m *move) takeBans(db *fail2ban.Database) {
	type bans struct{ last, former []fail2ban.DatabaseBan }
	byJail := map[string]*bans{}
	var names []string
	of := func(name string) *bans {
		if byJail[name] == nil {
			byJail[name] = &bans{}
			names = append(names, name)
		}
		return byJail[name]
	}
	for _, b := range db.Running {
		of(b.Jail).last = append(of(b.Jail).last, b)
	}
	for _, b := range db.History {
		of(b.Jail).former = append(of(b.Jail).former, b)
	}
	slices.Sort(names)
	for _, name := range names {
		j := ImportedJail{Name: name}
		var ds []tocsin.Decision
		if c := m.cell(name); c == nil {
			j.WhyNotTaken = "the jail is not enabled"
			j.Running, j.Former = len(byJail[name].last), len(byJail[name].former)
		} else {
			ds = m.takeJail(c, &j, byJail[name].last, byJail[name].former)
		}
		m.out.Jails, m.bans = append(m.out.Jails, j), append(m.bans, ds)
	}
}

func (m *move) cell(name string) *cell {
	for _, c := range m.set.cells {
		if c.conf.Name == name {
			return c
		}
	}
	return nil
}

// takeJail makes the decisions of one jail: for each id the former ones in their order, then the one that runs. last are the
// rows of fail2ban's table bips, the latest ban of each id; former those of its table bans.
func (m *move) takeJail(c *cell, j *ImportedJail, last, former []fail2ban.DatabaseBan) []tocsin.Decision {
	byID := map[string][]fail2ban.DatabaseBan{}
	latest := map[string]int{}
	for i, b := range last {
		latest[b.ID] = i
		byID[b.ID] = append(byID[b.ID], b)
	}
	for _, b := range former {
		if i, ok := latest[b.ID]; !ok || !last[i].At.Equal(b.At) {
			byID[b.ID] = append(byID[b.ID], b)
		}
	}
	var ds []tocsin.Decision
	for id, rows := range byID {
		prefix, ok := idPrefix(c, id)
		if !ok {
			j.NNotBanned++
			j.NotBanned = append(j.NotBanned, id)
			continue
		}
		slices.SortStableFunc(rows, func(a, b fail2ban.DatabaseBan) int { return a.At.Compare(b.At) })
		var count int
		runs := false
		if i, ok := latest[id]; ok {
			count = last[i].Count
			d := m.decision(c, prefix, last[i])
			runs = d.InForce(m.now)
		}
		if growing := len(c.options.BanTimes) > 0; growing {
			ds = append(ds, m.uncounted(c, id, prefix, rows[0].At, count-len(rows))...)
		}
		for i, b := range rows {
			d := m.decision(c, prefix, b)
			switch {
			case i+1 < len(rows):
				d.Until = earlier(d.Until, rows[i+1].At)
			case !runs:
				d.Until = earlier(d.Until, m.now)
			}
			if d.InForce(m.now) {
				j.Running++
			} else {
				j.Former++
			}
			ds = append(ds, d)
		}
	}
	slices.Sort(j.NotBanned)
	j.NotBanned = j.NotBanned[:min(len(j.NotBanned), maxNamedIDs)]
	slices.SortFunc(ds, func(a, b tocsin.Decision) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return ds
}

// earlier is the earlier of two ends, of which until may be never.
func earlier(until, at time.Time) time.Time {
	if until.IsZero() || at.Before(until) {
		return at
	}
	return until
}

// idPrefix is what an id means to us. It is not ok if nobody here could ban it: it looks like an address and is none, or it
// is something else and the jail has no action that takes it.
func idPrefix(c *cell, id string) (p netip.Prefix, ok bool) {
	if a, err := netip.ParseAddr(id); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	if p, err := netip.ParsePrefix(id); err == nil {
		return p.Masked(), true
	}
	likeAddress := strings.Trim(id, "0123456789./") == "" || strings.Contains(id, ":") && strings.Trim(id, "0123456789abcdefABCDEF:./") == ""
	return p, !likeAddress && c.acts
}

// decision is a ban as fail2ban took it.
func (m *move) decision(c *cell, prefix netip.Prefix, b fail2ban.DatabaseBan) tocsin.Decision {
	d := tocsin.Decision{
		Jail: c.conf.Name, ID: b.ID, Prefix: prefix, Verdict: c.options.Verdict, Ports: c.options.Ports, Proto: c.options.Proto,
		Action: tocsin.Ban, Origin: tocsin.ByJail, By: "fail2ban", Reason: "banned by hand, with fail2ban", At: b.At.UTC(), Failures: b.Failures, Former: max(0, b.Count-1),
	}
	if prefix.IsValid() {
		d.ID = tocsin.PrefixString(prefix)
	}
	if b.Failures > 0 {
		d.Reason = fmt.Sprintf("%s, counted by fail2ban", api.Count(b.Failures, "failure", "failures"))
	}
	if b.Bantime >= 0 {
		d.Until = d.At.Add(b.Bantime)
	} else if b.Bantime == fail2ban.UnknownBantime && c.options.BanTime > 0 {
		d.Until = d.At.Add(c.options.BanTime)
	}
	for _, text := range b.Matches[max(0, len(b.Matches)-maxMatches):] {
		d.Evidence = append(d.Evidence, tocsin.Evidence{
			Line: tocsin.Line{Source: "fail2ban", At: d.At, Text: clip(tocsin.Printable(text))},
			User: clip(tocsin.Printable(b.Fields["user"])),
		})
	}
	return d
}

// uncounted are bans that fail2ban counted and has no row for any more. How long the next ban is depends on their number.
func (m *move) uncounted(c *cell, id string, prefix netip.Prefix, before time.Time, n int) (ds []tocsin.Decision) {
	for i := range min(n, len(c.options.BanTimes)) {
		d := m.decision(c, prefix, fail2ban.DatabaseBan{ID: id, At: before.Add(-time.Duration(i+1) * time.Second)})
		d.Reason = "an earlier ban that fail2ban counted; when it was is not known"
		ds = append(ds, d)
	}
	return ds
}

// takeLogs makes marks of the read positions.
func (m *move) takeLogs(db *fail2ban.Database) {
	for _, row := range db.Logs {
		c := m.cell(row.Jail)
		if c == nil {
			continue
		}
		for _, name := range c.sources {
			spec, err := source.Parse(name)
			if err != nil {
				continue
			}
			switch {
			case spec.Kind == source.KindJournal && row.Path == journalPath:
				m.takeJournal(name, row)
			case spec.Kind == source.KindFile && isNamedBy(spec.Path, row.Path):
				m.takeFile(name, row)
			}
		}
	}
}

// isNamedBy says whether a log is one of those that a pattern names.
func isNamedBy(pattern, path string) bool {
	ok, err := filepath.Match(pattern, path)
	return pattern == path || err == nil && ok
}

// takeJournal goes on behind the time up to which fail2ban has read the journal.
func (m *move) takeJournal(name string, row fail2ban.DatabaseLog) {
	at := time.Unix(row.Offset, 0)
	// The column for the hash holds the same time, to the microsecond.
	if t, err := time.ParseInLocation("2006-01-02T15:04:05.999999", row.FirstLine, time.Local); err == nil && t.Unix() == row.Offset {
		at = t
	}
	m.note(ImportedLog{Source: name, Path: row.Path, From: at, Why: "fail2ban has read to there"}, source.Mark{Source: name, At: at})
}

// takeFile goes on where fail2ban stopped, if the file is still the one that it read.
func (m *move) takeFile(name string, row fail2ban.DatabaseLog) {
	if !slices.Contains(m.sources, name) {
		// What is made from now on, and what takes the place of a log, is news from this time on.
		m.sources = append(m.sources, name)
		m.marks = append(m.marks, source.Mark{Source: name, At: m.written})
	}
	mark, err := source.MarkAt(name, source.Place{Path: row.Path, FirstLine: row.FirstLine, Offset: row.Offset, At: m.written})
	log := ImportedLog{Source: name, Path: row.Path, Offset: row.Offset}
	switch {
	case err == nil:
	case !exists(row.Path):
		log.Offset, log.From, log.Why = 0, m.written, "it is not there, and is waited for"
	case errors.Is(err, source.ErrOtherFile) && row.Offset == 0:
		log.From, log.Why = m.written, "fail2ban had read nothing of it"
	case errors.Is(err, source.ErrOtherFile):
		log.Offset, log.From, log.Why = 0, m.written, "it is not the file that fail2ban has read"
	default:
		log.Offset, log.From, log.Why = 0, m.written, err.Error()
	}
	m.note(log, mark)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// note keeps a mark. Of a log that several jails read the one counts that has read least: a line that is read again finds its
// ban in place, one that is not read is lost. A mark without a source is none.
func (m *move) note(log ImportedLog, mark source.Mark) {
	i := slices.IndexFunc(m.out.Logs, func(l ImportedLog) bool { return l.Source == log.Source && l.Path == log.Path })
	if i < 0 {
		m.out.Logs = append(m.out.Logs, log)
		if mark.Source != "" {
			m.marks = append(m.marks, mark)
		}
		return
	}
	k := slices.IndexFunc(m.marks, func(o source.Mark) bool { return o.Source == mark.Source && o.Path == mark.Path })
	if mark.Source != "" && (k < 0 || m.marks[k].Beyond(mark)) {
		m.out.Logs[i] = log
		if k < 0 {
			m.marks = append(m.marks, mark)
		} else {
			m.marks[k] = mark
		}
	}
}

// write puts everything into the store.
func (m *move) write(ctx context.Context, o ImportOptions) error {
	s, leave, err := openState(o.Config.State, o.Log)
	if errors.Is(err, errInUse) {
		return api.Errorf(api.ExitFailed, "stop it with ^C or `systemctl stop tocsin-guard`, import, and start it again", err.Error())
	}
	if err != nil {
		return err
	}
	defer leave()
	if err := m.writeBans(ctx, s); err != nil {
		return err
	}
	if err := m.writeMarks(s); err != nil {
		return err
	}
	return s.Flush(ctx)
}

// writeBans keeps the bans. One that runs here already and ends no earlier stays as it is.
func (m *move) writeBans(ctx context.Context, s *store.Store) error {
	active, err := s.Active(m.now)
	if err != nil {
		return err
	}
	ends := map[banKey]time.Time{}
	for i := range active {
		ends[banKey{active[i].Jail, active[i].ID}] = active[i].Until
	}
	for i, ds := range m.bans {
		ds = slices.DeleteFunc(slices.Clone(ds), func(d tocsin.Decision) bool {
			end, ok := ends[banKey{d.Jail, d.ID}]
			return ok && d.InForce(m.now) && (end.IsZero() || !d.Until.IsZero() && !d.Until.After(end))
		})
		if m.out.Jails[i].Added, err = s.Import(ctx, m.now, ds); err != nil {
			return err
		}
	}
	return nil
}

// writeMarks keeps the read positions that tell more than those that are here.
func (m *move) writeMarks(s *store.Store) error {
	for _, mark := range m.marks {
		old, err := marksOf(s, mark.Source)
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(old, func(o source.Mark) bool { return o.Path == mark.Path && !mark.Beyond(o) })
		if !known {
			s.PutMark(storeMark(mark))
			continue
		}
		for i := range m.out.Logs {
			l := &m.out.Logs[i]
			l.Kept = l.Kept || l.Source == mark.Source && (l.Path == mark.Path || mark.Path == "" && !l.From.IsZero())
		}
	}
	return nil
}
