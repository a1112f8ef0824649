package daemon

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"os"
	"slices"
	"sort"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/filter"
	"tocsin/internal/host"
	"tocsin/internal/jail"
	"tocsin/internal/source"
)

// maxCollected bounds what is kept of all logs: 24 bytes each, and the ids.
const maxCollected = 2_000_000

// collected is what the filters of all jails found in old logs, to be counted in several ways.
type collected struct {
	set   *set
	diff  *Diff
	until time.Time
	logs  []*jailLog // one for each jail

	ids    []foundID
	idOf   map[foundID]uint32
	users  []string
	userOf map[string]uint32
	n      int
}

// foundID is what a filter blames.
type foundID struct {
	text   string
	prefix netip.Prefix // zero if it is no address
	host   bool         // a host name
	bad    bool         // it stands where an address does, and is none
}

// jailLog is what the filter of one jail found.
type jailLog struct {
	cell   *cell
	events []foundEvent
}

// foundEvent is a failure or a login.
type foundEvent struct {
	at     int64 // Unix microseconds
	who    uint32
	user   uint32
	port   uint16
	kind   eventKind
	opened bool
	off    bool // its date was off by more than a minute, and was replaced
}

type eventKind uint8

const (
	failureEvent eventKind = iota
	loginEvent
)

func (e *foundEvent) time() time.Time { return time.UnixMicro(e.at) }

func newCollected(s *set, d *Diff) *collected {
	f := &collected{set: s, diff: d, until: d.Until, idOf: map[foundID]uint32{}, users: []string{""}, userOf: map[string]uint32{"": 0}}
	for _, c := range s.cells {
		f.logs = append(f.logs, &jailLog{cell: c})
	}
	return f
}

// newJail makes a jail that counts as the cell's does and keeps no lines.
func (l *jailLog) newJail() (*jail.Jail, error) {
	o := l.cell.options
	o.Bare = true
	return jail.New(o)
}

// read takes every log through the filters of the jails that read it.
func (f *collected) read(ctx context.Context, o *DiffOptions) error {
	if len(o.Logs) > 0 {
		if err := f.readFiles(ctx, o.Logs, f.logs); err != nil {
			return err
		}
	} else if err := f.readSources(ctx, o); err != nil {
		return err
	}
	for _, l := range f.logs {
		sort.SliceStable(l.events, func(i, j int) bool { return l.events[i].at < l.events[j].at })
		if l.cell.options.Overall {
			f.diff.note("jail %s: bantime.overalljails is left out, each jail counts its own bans", l.cell.conf.Name)
		}
	}
	if f.n >= maxCollected {
		f.diff.note("more than %d failures: only the first ones are compared; choose a shorter span", maxCollected)
	}
	return ctx.Err()
}

// readSources reads what the jails name, each source once for all jails that read it.
func (f *collected) readSources(ctx context.Context, o *DiffOptions) error {
	for _, name := range f.set.sources {
		var logs []*jailLog
		from := o.Since
		for _, l := range f.logs {
			if l.cell.reads(name) {
				logs = append(logs, l)
				if at := o.Since.Add(-2 * l.cell.options.FindTime); at.Before(from) {
					from = at
				}
			}
		}
		if len(logs) == 0 {
			continue
		}
		spec, err := source.Parse(name)
		if err != nil {
			return err
		}
		switch spec.Kind {
		case source.KindFile:
			files := source.Written(spec.Path, from)
			if len(files) == 0 {
				f.diff.note("%s: nothing was written since %s", name, from.Format(time.DateTime))
			}
			err = f.readFiles(ctx, files, logs)
		case source.KindJournal:
			err = f.readJournal(ctx, name, spec.Match, from, logs)
		default:
			f.diff.note("%s: what came over it was not kept", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// group makes one filter for each log, through which a source is taken at once.
func group(logs []*jailLog, dated bool, present func() time.Time) *filter.Group {
	var cells []*cell
	for _, l := range logs {
		cells = append(cells, l.cell)
	}
	return filter.NewGroup(newFilters(cells, filter.Options{Now: present, NoDate: !dated, NoLines: true}))
}

// readFiles reads files one after the other. One that cannot be read is told of, unless none can.
func (f *collected) readFiles(ctx context.Context, files []string, logs []*jailLog) error {
	if len(logs) == 0 {
		return nil
	}
	files = slices.Clone(files)
	if err := byDate(ctx, files, logs[0].cell.loc, f.until); err != nil {
		return err
	}
	present := f.until
	group := group(logs, true, func() time.Time { return present })
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			present = info.ModTime()
		}
		begin := begins(logs)
		st, err := source.Old(ctx, []string{path}, nil, func(r *tocsin.Record) { f.record(group, logs, r) })
		f.endFile(logs, begin)
		f.diff.Lines += st.Lines
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrPermission):
			return err
		case err != nil:
			f.diff.note("%v", err)
		}
		f.diff.Logs = append(f.diff.Logs, path)
	}
	return nil
}

func (f *collected) readJournal(ctx context.Context, name string, match []string, from time.Time, logs []*jailLog) error {
	group := group(logs, false, func() time.Time { return f.until })
	j, err := source.NewJournal(source.JournalOptions{Name: name, Match: match, Since: from})
	if err != nil {
		return err
	}
	if err := j.Replay(ctx, func(r *tocsin.Record) { f.record(group, logs, r) }); err != nil {
		f.diff.note("%v", err)
	}
	f.diff.Lines += j.Stats().Lines
	f.diff.Logs = append(f.diff.Logs, name)
	return ctx.Err()
}

// begins says how much of each log there is now.
func begins(logs []*jailLog) (n []int) {
	for _, l := range logs {
		n = append(n, len(l.events))
	}
	return n
}

// endFile mends the dates of what one file brought.
func (f *collected) endFile(logs []*jailLog, begin []int) {
	for i, l := range logs {
		mendDates(l.events[begin[i]:], f.until)
	}
}

// record takes a line through the filters of logs.
func (f *collected) record(group *filter.Group, logs []*jailLog, r *tocsin.Record) {
	group.Line(r, func(i int, _ *tocsin.Record, res filter.Result) {
		switch res.Kind {
		case filter.Failed, filter.BadID:
			f.failure(logs[i], res.Failure, res.Kind == filter.BadID)
		case filter.LoggedIn, filter.LoggedOut:
			l := res.Login
			who := foundID{text: l.Addr.String(), prefix: netip.PrefixFrom(l.Addr, l.Addr.BitLen())}
			f.add(logs[i], who, l.User, foundEvent{at: l.At.UnixMicro(), port: l.Port, kind: loginEvent, opened: l.Opened})
		}
	})
}

func (f *collected) failure(l *jailLog, x *tocsin.Failure, bad bool) {
	if x.Host {
		switch l.cell.def.Usedns {
		case "no":
			return
		case "yes", "warn":
			f.diff.note("jail %s: host names are compared as such; live, both would ban their addresses", l.cell.conf.Name)
		}
	}
	f.diff.Failures++
	f.add(l, foundID{x.ID, x.Prefix, x.Host, bad}, x.User, foundEvent{at: x.At.UnixMicro()})
}

func (f *collected) add(l *jailLog, id foundID, user string, e foundEvent) {
	if f.n >= maxCollected {
		return
	}
	f.n++
	var ok bool
	if e.who, ok = f.idOf[id]; !ok {
		e.who = uint32(len(f.ids))
		f.ids, f.idOf[id] = append(f.ids, id), e.who
	}
	if e.user, ok = f.userOf[user]; !ok {
		e.user = uint32(len(f.users))
		f.users, f.userOf[user] = append(f.users, user), e.user
	}
	l.events = append(l.events, e)
}

// mendDates gives each event of a file, in the order of its lines, the time at which its line was written, as near as it can
// be told. Live, both programs take now for a date that is off by more than a minute. Here the longest run of dates that do
// not fall back is taken for the clock, and what lies a minute outside it gets the time of the line before.
func mendDates(events []foundEvent, until time.Time) {
	const slack = int64(forgedAfter / time.Microsecond)
	last := until.UnixMicro() + slack
	clock, steady := int64(math.MinInt64), true
	for i := range events {
		steady = steady && events[i].at >= clock-slack && events[i].at <= last
		clock = max(clock, events[i].at)
	}
	if steady {
		return
	}
	run := longestRun(events, last)
	for i, next := 0, 0; i < len(events); i++ {
		if next < len(run) && run[next] == i {
			next++
			continue
		}
		from, to := int64(math.MinInt64)+slack, last
		if next > 0 {
			from = events[run[next-1]].at
		}
		if next < len(run) {
			to = events[run[next]].at
		}
		if e := &events[i]; e.at < from-slack || e.at > min(to, last-slack)+slack {
			e.off, e.at = true, from
			if next == 0 {
				e.at = to
			}
		}
	}
}

// longestRun finds the longest run of events, none later than last, whose dates do not fall back. It answers their indexes.
func longestRun(events []foundEvent, last int64) []int {
	ends := []int{}                    // ends[k]: of the runs of k+1 events the one that ends earliest, by its last event
	before := make([]int, len(events)) // the event before it in its run
	for i := range events {
		if events[i].at > last {
			continue
		}
		k := sort.Search(len(ends), func(k int) bool { return events[ends[k]].at > events[i].at })
		before[i] = -1
		if k > 0 {
			before[i] = ends[k-1]
		}
		if k == len(ends) {
			ends = append(ends, i)
		} else {
			ends[k] = i
		}
	}
	run := make([]int, len(ends))
	if len(ends) == 0 {
		return run
	}
	for k, i := len(ends)-1, ends[len(ends)-1]; k >= 0; k, i = k-1, before[i] {
		run[k] = i
	}
	return run
}

// spared are this machine's addresses, which fail2ban spares with ignoreself, and all that Tocsin spares by itself. Where
// they cannot be told, nobody is.
func spared(c *config.Config) (own, all *prefixes) {
	own, all = &prefixes{}, &prefixes{}
	addrs, _ := host.Addrs()
	for _, a := range addrs {
		own.add(netip.PrefixFrom(a, a.BitLen()), "own address")
	}
	fixed, _ := host.Protect() // as much as could be found out
	for _, p := range fixed {
		all.add(p.Prefix, p.Reason)
	}
	for _, p := range c.Guard.Allow {
		all.add(p, "allowed by the configuration")
	}
	return own, all
}
