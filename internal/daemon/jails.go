package daemon

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/filter"
	"tocsin/internal/source"
)

// maxIgnored bounds the addresses and names that one jail never bans.
const maxIgnored = 10_000

// indexIgnored makes the list of whom a jail never bans fit for use.
func (c *cell) indexIgnored() {
	c.allow, c.names = prefixes{}, nil
	for _, text := range c.ignored {
		if p, ok := parseIgnored(text); ok {
			c.allow.add(p, "allowed by the configuration")
		} else {
			c.names = append(c.names, text)
		}
	}
}

// ignore changes whom one jail never bans, until its next reload. Bans that run stay, as with fail2ban.
func (g *Guard) ignore(ctx context.Context, r api.AllowRequest) (api.Change, error) {
	name, err := ignoredName(r.Prefix)
	switch {
	case err != nil:
		return api.Change{}, err
	case r.Seconds != 0:
		return api.Change{}, api.Errorf(api.ExitUsage, "leave out the time, or the jail", "an entry for one jail has no end but the next reload")
	}
	return decided(ctx, g, func() (api.Change, error) {
		c := g.cellNamed(r.Jail)
		if c == nil {
			return api.Change{}, api.NoJail(r.Jail, "the jails are: "+g.jailNames())
		}
		at := slices.Index(c.ignored, name)
		switch {
		case r.Remove && at < 0:
			return change(fmt.Sprintf("%s was not on the list of jail %s", name, r.Jail), ""), nil
		case r.Remove:
			c.ignored = slices.Delete(slices.Clone(c.ignored), at, at+1)
		case at >= 0:
			return change(fmt.Sprintf("%s is on the list of jail %s already", name, r.Jail), ""), nil
		case len(c.ignored) >= maxIgnored:
			return api.Change{}, refused("", "jail %s ignores %d addresses already", r.Jail, maxIgnored)
		default:
			c.ignored = append(slices.Clone(c.ignored), name)
		}
		c.indexIgnored()
		if r.Remove {
			g.log.Info("no longer ignored", "addr", name, "jail", r.Jail, "by", r.By)
			return change(fmt.Sprintf("jail %s bans %s again", r.Jail, name), "", name), nil
		}
		g.askForFriends()
		g.log.Info("ignored", "addr", name, "jail", r.Jail, "by", r.By)
		return change(fmt.Sprintf("jail %s does not ban %s until the next reload", r.Jail, name), "", name), nil
	})
}

// parseIgnored reads an address or a network as fail2ban's ignoreip takes it: bits beyond the prefix are cleared, and the
// length of an IPv4 prefix may be a mask.
func parseIgnored(text string) (netip.Prefix, bool) {
	addr, length, isNet := strings.Cut(text, "/")
	a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	n := a.BitLen()
	if mask, err := netip.ParseAddr(length); isNet && err == nil && mask.Is4() && a.Is4() {
		m := binary.BigEndian.Uint32(mask.AsSlice())
		if n = bits.LeadingZeros32(^m); m<<n != 0 {
			return netip.Prefix{}, false
		}
	} else if isNet {
		most := n
		if n, err = strconv.Atoi(length); err != nil || n < 0 || n > most {
			return netip.Prefix{}, false
		}
	}
	if a.Is4In6() && n >= 96 {
		a, n = a.Unmap(), n-96
	}
	return netip.PrefixFrom(a, n).Masked(), true
}

// ignoredName brings what somebody wants ignored into its one form: a masked prefix, or a host name as it is.
func ignoredName(text string) (string, error) {
	if p, ok := parseIgnored(text); ok {
		return tocsin.PrefixString(p), nil
	}
	host := func(r rune) bool {
		return r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if text == "" || len(text) > 253 || strings.ContainsFunc(text, func(r rune) bool { return !host(r) }) || !strings.ContainsFunc(text, func(r rune) bool { return r > '9' }) {
		return "", api.Errorf(api.ExitUsage, "write it like 192.0.2.7, 192.0.2.0/24 or host.example.org", fmt.Sprintf("%q is neither an address nor a host name", text))
	}
	return text, nil
}

// jailDetail tells everything about one jail.
func (g *Guard) jailDetail(ctx context.Context, name string) (api.JailDetail, error) {
	var c *cell
	d, err := decided(ctx, g, func() (api.JailDetail, error) {
		if c = g.cellNamed(name); c == nil {
			return api.JailDetail{}, api.NoJail(name, "the jails are: "+g.jailNames())
		}
		now := 0
		for k := range g.active {
			if k.jail == name {
				now++
			}
		}
		return api.JailDetail{
			Schema: api.SchemaJail, Jail: c.status(now), TotalBanned: g.banned[name],
			IgnoreIP: append([]string{}, c.ignored...), Actions: g.actionDetails(c),
		}, nil
	})
	if err != nil {
		return d, err
	}
	c.tell(&d)
	return d, nil
}

// tell adds to d what the configuration says. It may look at the disk, so it is nothing for the decider.
func (c *cell) tell(d *api.JailDetail) {
	d.FindSeconds = c.options.FindTime.Seconds()
	d.BanSeconds = c.options.BanTime.Seconds()
	d.Growing = c.options.BanFactor > 1
	d.MaxMatches, d.MaxLines = c.options.EvidenceLines, c.def.Maxlines
	d.UseDNS = cmp.Or(c.def.Usedns, "no")
	d.LogEncoding = "auto"
	d.IgnoreSelf = true
	d.Failregex, d.Ignoreregex = []string{}, []string{}
	d.Prefregex, _ = filter.Expand(c.def.Prefregex.Text, d.UseDNS)
	for _, re := range c.def.Failregex {
		text, _ := filter.Expand(re.Text, d.UseDNS)
		d.Failregex = append(d.Failregex, text)
	}
	for _, re := range c.def.Ignoreregex {
		text, _ := filter.Expand(re.Text, d.UseDNS)
		d.Ignoreregex = append(d.Ignoreregex, text)
	}
	var dates []string
	for _, re := range c.def.Datepattern {
		dates = append(dates, re.Text)
	}
	d.Datepattern = strings.Join(dates, "\n")
	d.Journalmatch, d.Files = []string{}, []string{}
	for _, name := range c.sources {
		spec, err := source.Parse(name)
		switch {
		case err != nil:
		case spec.Kind == source.KindJournal:
			d.Journalmatch = append(d.Journalmatch, strings.Split(strings.Join(spec.Match, " "), " + ")...)
		case spec.Kind == source.KindFile:
			files, _ := filepath.Glob(spec.Path)
			d.Files = append(d.Files, files...)
		}
	}
	if j := c.f2b; j != nil {
		d.MaxMatches, d.Growing = j.Maxmatches, j.Growth != nil
		d.UseDNS = cmp.Or(c.def.Usedns, "warn")
		d.LogEncoding, d.LogTimezone = j.Logencoding, j.Logtimezone
		d.IgnoreSelf, d.IgnoreCommand, d.IgnoreCache = j.Ignoreself, j.Ignorecommand, j.Ignorecache
		if j.Backend == "systemd" {
			d.Journalmatch = append([]string{}, c.def.Journalmatch...)
		}
	}
}

// bannedNow lists who is banned now.
func (g *Guard) bannedNow(ctx context.Context, jail string) (api.Banned, error) {
	type row struct {
		banKey
		at, until time.Time
	}
	var names []string
	var rows []row
	if _, err := decided(ctx, g, func() (struct{}, error) {
		if jail != "" && g.cellNamed(jail) == nil {
			return struct{}{}, api.NoJail(jail, "the jails are: "+g.jailNames())
		}
		for _, c := range g.set.cells {
			if jail == "" || jail == c.conf.Name {
				names = append(names, c.conf.Name)
			}
		}
		for k, b := range g.active {
			if jail == "" || jail == k.jail {
				rows = append(rows, row{k, b.at, b.until})
			}
		}
		return struct{}{}, nil
	}); err != nil {
		return api.Banned{}, err
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.jail, b.jail), byEnd(a.until, b.until), a.at.Compare(b.at), cmp.Compare(a.id, b.id))
	})
	out := api.Banned{Schema: api.SchemaBanned, Jails: []api.BannedJail{}}
	place := map[string]int{}
	add := func(name string) int {
		if i, ok := place[name]; ok {
			return i
		}
		place[name] = len(out.Jails)
		out.Jails = append(out.Jails, api.BannedJail{Name: name, Banned: []api.BannedID{}})
		return place[name]
	}
	for _, name := range names {
		add(name)
	}
	for _, r := range rows {
		j := &out.Jails[add(r.jail)] // bans by hand, and those of jails that are gone, come last
		j.Banned = append(j.Banned, api.BannedID{ID: r.id, At: r.at.UTC(), Until: api.Time(r.until)})
	}
	return out, nil
}

// byEnd orders bans by their end; those without one come last.
func byEnd(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// reopen opens the log anew that is written in fail2ban's format.
func (g *Guard) reopen(context.Context) (api.Change, error) {
	path := g.f2b.Reopen()
	if path == "" {
		return change("no log in fail2ban's format is written", ""), nil
	}
	return change(path+" is opened anew", ""), nil
}
