package daemon

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/action"
	"tocsin/internal/fail2ban"
	"tocsin/internal/store"
)

// dearTags are those whose value costs a question to the store, the resolver or a walk over all bans.
var dearTags = []string{
	"matches", "failures", "ip-host", "ipmatches", "ipfailures", "ipjailmatches", "ipjailfailures",
	"jail.banned", "jail.banned_total", "jail.found", "jail.found_total",
}

// mergedMatches is how many lines of all bans of an address are told, as with fail2ban's dbmaxmatches.
const mergedMatches = 10

// maxValue bounds what one tag becomes, in bytes: the kernel takes an argument of 128 KiB.
const maxValue = 64 << 10

// notice makes a ban, or its end, into what an action is told. Values are asked for when the turn has come, in the goroutine
// of the queue; what the decider alone knows is looked at now. restored says that the ban is older than this guard, or than
// its actions.
func (g *Guard) notice(a *actor, d *tocsin.Decision, restored bool) action.Notice {
	b := banOf{Decision: *d, restored: restored}
	if !a.wants["matches"] {
		b.Evidence = nil // many may wait
	}
	if c := g.cellNamed(d.Jail); c != nil && (a.wants["jail.banned"] || a.wants["jail.banned_total"] || a.wants["jail.found"] || a.wants["jail.found_total"]) {
		b.counts = g.jailCounts(c)
	}
	return action.Notice{
		ID: d.ID, Family: b.family(), Restored: restored,
		Values: func(ctx context.Context) map[string]string { return g.valuesOf(ctx, a, &b) },
	}
}

// banOf is a ban as an action is told of it.
type banOf struct {
	tocsin.Decision
	restored bool
	counts   map[string]string
}

// addr is the address that commands are about: what is banned or, where that is no address, the one that the line named.
func (b *banOf) addr() netip.Addr {
	if b.Prefix.IsValid() {
		return b.Prefix.Addr()
	}
	for _, name := range []string{"ip4", "ip6"} {
		if a, err := netip.ParseAddr(b.field(name)); err == nil {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

func (b *banOf) field(name string) string {
	for _, f := range b.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (b *banOf) family() string {
	a := b.addr()
	if !a.IsValid() {
		return ""
	}
	return familyOf(netip.PrefixFrom(a, a.BitLen()))
}

// familyOf is fail2ban's word for the kind of an address, "" for none.
func familyOf(p netip.Prefix) string {
	switch a := p.Addr(); {
	case a.Is4():
		return "inet4"
	case a.Is6():
		return "inet6"
	}
	return ""
}

// jailCounts are the numbers that the tags jail.* stand for.
func (g *Guard) jailCounts(c *cell) map[string]string {
	banned := 0
	for k := range g.active {
		if k.jail == c.conf.Name {
			banned++
		}
	}
	return map[string]string{
		"jail.banned":       strconv.Itoa(banned),
		"jail.banned_total": strconv.FormatUint(g.banned[c.conf.Name], 10),
		"jail.found":        strconv.Itoa(c.jail.Stats().Addresses),
		"jail.found_total":  strconv.FormatUint(c.tally.failures, 10),
	}
}

// idleValues are those of a command that concerns no ban, as fail2ban gives them for an empty ticket.
func idleValues(family string) map[string]string {
	v := map[string]string{"time": strconv.FormatInt(time.Now().Unix(), 10), "family": family, "failures": "0", "bantime": "0", "bancount": "0", "restored": "0"}
	for _, tag := range []string{"ip", "fid", "ip-rev", "ip-host", "matches", "ipmatches", "ipjailmatches"} {
		v[tag] = ""
	}
	for _, tag := range []string{"ipfailures", "ipjailfailures", "jail.banned", "jail.banned_total", "jail.found", "jail.found_total"} {
		v[tag] = "0"
	}
	return v
}

// valuesOf is everything that a command may be told of a ban. (fail2ban's raw-ticket is the inside of its own program.)
func (g *Guard) valuesOf(ctx context.Context, a *actor, b *banOf) map[string]string {
	addr := b.addr()
	v := map[string]string{
		"ip": b.ID, "fid": b.ID, "family": b.family(), "ip-rev": reversed(addr), "ip-host": "",
		"time": strconv.FormatInt(b.At.Unix(), 10), "bantime": banSeconds(&b.Decision), "bancount": strconv.Itoa(b.Former + 1),
		"restored": "0",
	}
	if !b.Prefix.IsValid() && addr.IsValid() {
		v["ip"] = addr.String()
	}
	if b.restored {
		v["restored"] = "1"
	}
	if a.wants["ip-host"] && addr.IsValid() {
		v["ip-host"] = g.acts.hosts.get(addr.String(), func() (string, error) { return g.hostOf(ctx, addr) })
	}
	g.valuesFromStore(a, b, v)
	for tag, n := range b.counts {
		v[tag] = n
	}
	for _, f := range b.Fields {
		v["F-"+strings.ToUpper(f.Name)] = f.Value
		if f.Name == "fid" || f.Name == "fport" { // what the tags F-ID and F-PORT are called inside
			v["F-"+strings.ToUpper(f.Name[1:])] = f.Value
		}
	}
	if _, ok := v["F-USER"]; !ok && len(b.Evidence) > 0 {
		v["F-USER"] = b.Evidence[len(b.Evidence)-1].User
	}
	for tag, text := range v {
		v[tag] = shown(text)
	}
	return g.acts.names(v)
}

// names adds what this machine is called.
func (a *acting) names(v map[string]string) map[string]string {
	v["sh-hostname"], v["fq-hostname"] = a.self()
	return v
}

// ownNames are the name of this machine and the one with its domain, as far as /etc/hosts knows it.
func ownNames() (short, full string) {
	short, err := os.Hostname()
	if err != nil {
		return "", ""
	}
	text, _ := os.ReadFile("/etc/hosts") // without it the short name has to do
	return short, fullName(short, string(text))
}

// fullName is the name with a domain on the line of /etc/hosts that names the machine.
func fullName(short, hosts string) string {
	if strings.Contains(short, ".") {
		return short
	}
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		names := strings.Fields(line)
		if len(names) < 2 || !slices.Contains(names[1:], short) {
			continue
		}
		for _, name := range names[1:] {
			if strings.HasPrefix(name, short+".") {
				return name
			}
		}
	}
	return short
}

// valuesFromStore fills in what earlier bans told. Where the store has nothing the ban alone counts, as with fail2ban.
func (g *Guard) valuesFromStore(a *actor, b *banOf, v map[string]string) {
	own := store.Ban{Decision: b.Decision}
	if b.Failures == 0 && b.Evidence == nil && (a.wants["matches"] || a.wants["failures"]) {
		if rows := g.bansOf(b, b.Jail, 1); len(rows) > 0 {
			own = rows[0]
		}
	}
	v["matches"], v["failures"] = merged([]store.Ban{own}, math.MaxInt)
	for _, m := range []struct{ matches, failures, jail string }{
		{"ipmatches", "ipfailures", ""},
		{"ipjailmatches", "ipjailfailures", b.Jail},
	} {
		v[m.matches], v[m.failures] = v["matches"], v["failures"]
		if !a.wants[m.matches] && !a.wants[m.failures] {
			continue
		}
		if rows := g.bansOf(b, m.jail, maxHistory); len(rows) > 0 {
			v[m.matches], v[m.failures] = merged(rows, mergedMatches)
		}
	}
}

// bansOf are the newest bans of the same id, by one jail or, if that is "", by all.
func (g *Guard) bansOf(b *banOf, jail string, most int) []store.Ban {
	q := store.Query{Jail: jail, Limit: maxHistory, WithEvidence: true}
	if b.Prefix.IsValid() {
		q.Addr = b.Prefix.Addr()
	} else {
		q.ID = b.ID
	}
	rows, err := g.store.Bans(q)
	if err != nil {
		g.log.Warn("an action is not told of earlier bans", "addr", b.ID, "err", err)
		return nil
	}
	rows = slices.DeleteFunc(rows, func(r store.Ban) bool { return r.ID != b.ID })
	return rows[:min(most, len(rows))]
}

// merged joins the last lines of some bans, newest first, in the order of time, and adds up their failures.
func merged(bans []store.Ban, most int) (matches, failures string) {
	var lines []string
	n := 0
	for _, b := range bans {
		n += cmp.Or(b.Failures, len(b.Evidence))
		var more []string
		for i := range b.Evidence {
			more = append(more, b.Evidence[i].Text)
		}
		more = more[max(0, len(more)-(most-len(lines))):]
		lines = append(more, lines...)
	}
	return strings.Join(lines, "\n"), strconv.Itoa(n)
}

// banSeconds is the length of a ban, -1 for one without end.
func banSeconds(d *tocsin.Decision) string {
	dur, ends := d.Duration()
	if !ends {
		return "-1"
	}
	return strconv.FormatInt(int64(dur.Seconds()), 10)
}

// shown is a value as commands get it: its lines stay, every other control character is written as an escape. (A NUL would
// keep the command from running at all, and others speak to terminals and mail programs.)
func shown(text string) string {
	if len(text) > maxValue {
		text = text[:maxValue]
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = tocsin.Printable(line)
	}
	if text = strings.Join(lines, "\n"); len(text) > maxValue {
		text = text[:maxValue] // escapes are ASCII, and what is cut in the middle is still harmless
	}
	return text
}

// reversed is an address as name servers look it up, with a dot behind: 1.2.0.192., or the nibbles of an IPv6 address.
func reversed(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	var parts []string
	for _, b := range a.AsSlice() {
		if a.Is4() {
			parts = append(parts, strconv.Itoa(int(b)))
		} else {
			parts = append(parts, strconv.FormatUint(uint64(b>>4), 16), strconv.FormatUint(uint64(b&15), 16))
		}
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "."
}

// askCommand asks a jail's ignorecommand. Its values are those of a ban that is not decided yet.
func (g *Guard) askCommand(ctx context.Context, jail string, d *tocsin.Decision) (ignore bool, err error) {
	var f2b *fail2ban.Jail
	b := banOf{Decision: *d}
	if err := g.do(ctx, func() {
		if c := g.cellNamed(jail); c != nil {
			f2b, b.counts = c.f2b, g.jailCounts(c)
		}
	}); err != nil {
		return false, err
	}
	if f2b == nil || ignoreAction(f2b) == nil {
		return false, nil // a reload took it away
	}
	a := &actor{wants: map[string]bool{}}
	for _, tag := range dearTags {
		a.wants[tag] = ignoreAction(f2b).Wants(tag)
	}
	return g.ignoredByCommand(ctx, f2b, b.family(), g.valuesOf(ctx, a, &b))
}
