package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"tocsin/internal/munin"
)

// Guard is what the guard knows, as Host.Guard brings it.
type Guard struct {
	Jails   []GuardJail // in the order of the configuration
	Bans    []GuardBans
	Addrs   iter.Seq[GuardAddr] // whom these are about, not of all perhaps
	Lists   []GuardList
	Reports GuardReports
}

// GuardJail is what one jail counted since the guard began.
type GuardJail struct {
	Name                   string
	Failures, Logins, Bans uint64
}

// GuardBans counts the bans of one jail on the same ports.
type GuardBans struct {
	Jail   string
	Ports  []uint16 // empty: all
	Active int      // in force
	Day    int      // taken within the last 24 hours
}

// GuardAddr is whom one ban is about.
type GuardAddr struct {
	Addr        netip.Addr
	Active, Day bool
}

// GuardList is one list of other people's.
type GuardList struct {
	Name    string
	Entries int    // in force
	Packets uint64 // kept out so far
}

// GuardReports is what was told to others.
type GuardReports struct {
	On      bool
	Sent    uint64 // so far
	Waiting int
}

// Bounds of the graphs: ports and countries come from the operator's jails and from strangers' addresses.
const (
	maxPorts     = 60
	maxCountries = 300
	maxMaxMind   = 64 << 20
)

// guardProbe reads what the guard does: who is banned now and who was within a day, by jail, port and country; failures and
// logins of each jail, reports and lists. The bans of each jail have the name that Munin's plugin fail2ban gives them.
var guardProbe = Probe{
	Name: "guard", Doubles: []string{"fail2ban", "fail2ban_jails"}, Interval: time.Minute, Timeout: 20 * time.Second,
	New: func(h *Host) (Reader, error) {
		if h.Guard == nil {
			return nil, &Off{"no guard is asked here"}
		}
		return &guardReader{h: h, countries: countries{path: h.Country}}, nil
	},
}

type guardReader struct {
	h         *Host
	countries countries
	described map[string]*munin.Service
}

func (r *guardReader) Read(ctx context.Context) ([]Reading, error) {
	g, err := r.h.Guard(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the guard: %w", err)
	}
	openErr := r.countries.refresh()
	return r.readings(g), openErr
}

// tally is a graph with a field for each jail, port or country that has a number now.
type tally struct {
	service string
	text    string // of the graph
	attrs   string // of each field
	labels  map[string]string
	order   []string
	values  map[string]float64
}

func newTally(service, text, attrs string) *tally {
	return &tally{service: service, text: text, attrs: attrs, labels: map[string]string{}, values: map[string]float64{}}
}

// add adds n to a field, which it makes if there is none yet.
func (t *tally) add(field, label string, n float64) {
	if _, ok := t.values[field]; !ok {
		t.labels[field] = label
		t.order = append(t.order, field)
	}
	t.values[field] += n
}

func (t *tally) describe() string {
	var b strings.Builder
	b.WriteString(t.text)
	for _, f := range t.order {
		fmt.Fprintf(&b, "%s.label %s\n", f, t.labels[f])
		for line := range strings.Lines(t.attrs) {
			fmt.Fprintf(&b, "%s.%s", f, line)
		}
	}
	return b.String()
}

const guardCategory = "graph_category security\n"

func (r *guardReader) readings(g *Guard) []Reading {
	const now, day, total = "graph_vlabel bans in force\n", "graph_vlabel bans within 24 hours\n", "graph_args --base 1000 -l 0\ngraph_total total\n"
	stack := "draw AREASTACK\n"
	jails := newTally("fail2ban", "graph_title Hosts blacklisted by fail2ban\ngraph_info This graph shows the number of host blacklisted by fail2ban\ngraph_category network\ngraph_vlabel Number of hosts\n"+total, "")
	jailsDay := newTally("bans_day", "graph_title Bans per day\n"+day+total+guardCategory, stack)
	ports := newTally("bans_port", "graph_title Bans by port\ngraph_info One ban of several ports counts for each of them.\ngraph_args --base 1000 -l 0\n"+now+guardCategory, stack)
	portsDay := newTally("bans_port_day", "graph_title Bans per day by port\ngraph_info One ban of several ports counts for each of them.\ngraph_args --base 1000 -l 0\n"+day+guardCategory, stack)
	lands := newTally("bans_country", "graph_title Bans by country\n"+now+total+guardCategory, stack)
	landsDay := newTally("bans_country_day", "graph_title Bans per day by country\n"+day+total+guardCategory, stack)
	bans := newTally("bans", "graph_title Bans\ngraph_vlabel bans per ${graph_period}\ngraph_period hour\n"+total+guardCategory, derive+stack)
	failures := newTally("failures", "graph_title Failures\ngraph_vlabel failures per ${graph_period}\ngraph_period minute\n"+total+guardCategory, derive+stack)
	logins := newTally("logins", "graph_title Logins\ngraph_vlabel logins per ${graph_period}\ngraph_period hour\n"+total+guardCategory, derive+stack)
	lists := newTally("lists", "graph_title Blocklists: entries in force\ngraph_args --base 1000 -l 0\ngraph_vlabel addresses and networks\n"+guardCategory, "")
	kept := newTally("lists_dropped", "graph_title Blocklists: packets kept out\ngraph_args --base 1000 -l 0\ngraph_vlabel packets per ${graph_period}\n"+guardCategory, derive)
	reports := newTally("reports", "graph_title Reports\ngraph_args --base 1000 -l 0\ngraph_vlabel reports per ${graph_period} and waiting\ngraph_period hour\n"+guardCategory, "")
	all := []*tally{jails, jailsDay, ports, portsDay, bans, failures, logins, lists, kept}

	for _, j := range g.Jails {
		field, label := fieldName(j.Name), plain(j.Name)
		jails.add(field, label, 0)
		jailsDay.add(field, label, 0)
		bans.add(field, label, float64(j.Bans))
		failures.add(field, label, float64(j.Failures))
		logins.add(field, label, float64(j.Logins))
	}
	var active, ofDay int
	for _, b := range g.Bans {
		field, label := fieldName(b.Jail), plain(b.Jail)
		for _, of := range []struct {
			n             int
			byJail, ports *tally
		}{{b.Active, jails, ports}, {b.Day, jailsDay, portsDay}} {
			if of.n > 0 {
				of.byJail.add(field, label, float64(of.n))
				addPorts(of.ports, b.Ports, float64(of.n))
			}
		}
		active, ofDay = active+b.Active, ofDay+b.Day
	}
	if r.countries.path != "" {
		r.countLands(g, lands, landsDay, active, ofDay)
	}
	if r.countries.path != "" {
		all = append(all, lands, landsDay)
	}
	for _, l := range g.Lists {
		lists.add(fieldName(l.Name), plain(l.Name), float64(l.Entries))
		kept.add(fieldName(l.Name), plain(l.Name), float64(l.Packets))
	}
	if g.Reports.On {
		reports.add("sent", "sent", float64(g.Reports.Sent))
		reports.add("waiting", "waiting", float64(g.Reports.Waiting))
		all = append(all, reports)
	}
	slices.Sort(ports.order)
	slices.Sort(portsDay.order)
	slices.Sort(lands.order)
	slices.Sort(landsDay.order)
	return r.finish(all)
}

// countLands counts bans by country. What nobody says an address of is unknown.
func (r *guardReader) countLands(g *Guard, lands, landsDay *tally, active, ofDay int) {
	for a := range g.Addrs {
		code, land := r.countries.of(a.Addr)
		if a.Active {
			addBounded(lands, code, land, maxCountries, 1)
			active--
		}
		if a.Day {
			addBounded(landsDay, code, land, maxCountries, 1)
			ofDay--
		}
	}
	if active > 0 {
		addBounded(lands, unknownLand, unknownLand, maxCountries, float64(active))
	}
	if ofDay > 0 {
		addBounded(landsDay, unknownLand, unknownLand, maxCountries, float64(ofDay))
	}
}

// unknownLand is the country of an address of which nobody knows it.
const unknownLand = "unknown"

// finish makes readings of what was counted. A field that was there once stays, for none is a number too.
func (r *guardReader) finish(all []*tally) []Reading {
	var out []Reading
	if r.described == nil {
		r.described = map[string]*munin.Service{}
	}
	for _, t := range all {
		old := r.described[t.service]
		if old != nil && len(old.Fields) <= maxCountries {
			for _, f := range old.Fields {
				label, _ := f.Get("label")
				if !strings.HasPrefix(t.service, "lists") {
					t.add(f.Name, label, 0)
				}
			}
		}
		if len(t.order) == 0 {
			continue
		}
		text := t.describe()
		if t.service == "reports" {
			text += "sent.type DERIVE\nsent.min 0\n"
		}
		s := describe(t.service, text)
		if old != nil && old.Same(s) {
			s = old
		}
		r.described[t.service] = s
		out = append(out, readingOf(s, from(t.values)))
	}
	return out
}

func addPorts(t *tally, ports []uint16, n float64) {
	if len(ports) == 0 {
		t.add("all", "all ports", n)
	}
	for _, p := range ports {
		word := strconv.Itoa(int(p))
		addBounded(t, "p"+word, word, maxPorts, n)
	}
}

// addBounded adds n to a field, or to "other" where there are many.
func addBounded(t *tally, field, label string, most int, n float64) {
	if _, ok := t.values[field]; !ok && len(t.order) >= most {
		field, label = "other", "other"
	}
	t.add(field, label, n)
}

// countries tells the country of an address by a file of MaxMind's format, which others replace now and then
// (https://maxmind.github.io/MaxMind-DB/).
type countries struct {
	path string // "": none
	db   *maxminddb.Reader
	at   time.Time // of the file
	size int64
}

// refresh reads the file if it is another one than before. While it cannot be read the former one stays in use.
func (c *countries) refresh() error {
	if c.path == "" {
		return nil
	}
	st, err := os.Stat(c.path)
	if err != nil {
		if c.db != nil && errors.Is(err, fs.ErrNotExist) {
			return nil // it is being replaced
		}
		return fmt.Errorf("country file: %w", err)
	}
	if c.db != nil && st.ModTime().Equal(c.at) && st.Size() == c.size {
		return nil
	}
	// Memory, not a mapped file: a file that is cut short while it is mapped ends the program.
	if !st.Mode().IsRegular() || st.Size() > maxMaxMind {
		return fmt.Errorf("country file %s is no file of at most %d MiB", c.path, maxMaxMind>>20)
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		return fmt.Errorf("country file: %w", err)
	}
	db, err := maxminddb.OpenBytes(text)
	if err != nil {
		return fmt.Errorf("country file %s: %w", c.path, err)
	}
	c.db, c.at, c.size = db, st.ModTime(), st.Size()
	return nil
}

// of is the two letters of the country, in lower case as a field and in capitals as a label.
func (c *countries) of(a netip.Addr) (field, label string) {
	if c.db == nil || !a.IsValid() {
		return unknownLand, unknownLand
	}
	found := c.db.Lookup(a.Unmap())
	for _, key := range []string{"country", "registered_country"} {
		var code string
		if err := found.DecodePath(&code, key, "iso_code"); err == nil && isCountry(code) {
			return strings.ToLower(code), code
		}
	}
	return unknownLand, unknownLand
}

func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}
