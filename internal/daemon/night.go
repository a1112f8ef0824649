package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/graph"
	"tocsin/internal/locale"
	telling "tocsin/internal/notify"
	"tocsin/internal/tsdb"
)

// This file is what happened in a night: gathered once, for the digest in the morning and for whoever asks.

// Bounds of a night.
const (
	nightBans   = 10_000 // that the guard is asked for
	nightStep   = 5 * time.Minute
	usualNights = 14 // that are looked at for what is usual
	leastNights = 5  // of them for which there must be numbers
	longNight   = 24 * time.Hour
)

// evening is yesterday's, when the night began.
func evening(now time.Time) time.Time {
	return time.Date(now.Year(), now.Month(), now.Day()-1, 20, 0, 0, 0, now.Location())
}

// gathered is a night with what only programs are told.
type gathered struct {
	telling.Night
	unknown  []api.Server
	jails    []api.NightJail
	reboots  []api.NightMark
	upgrades []api.NightMark
	problems []string // why something is missing
}

// nightOf is a night for a digest.
func (s *supervisor) nightOf(ctx context.Context, from, to time.Time) (telling.Night, error) {
	g, err := s.gather(ctx, from, to)
	for _, p := range g.problems {
		s.log.Warn("something is missing in what is told of the night", "err", p)
	}
	return g.Night, err
}

// night is what happened since then, by default since yesterday evening, for programs and in words.
func (s *supervisor) night(ctx context.Context, since time.Time, l *locale.Locale) (api.Night, error) {
	now := time.Now()
	if since.IsZero() {
		since = evening(now)
	}
	g, err := s.gather(ctx, since, now)
	if err != nil {
		return api.Night{}, err
	}
	n := api.Night{
		Schema: api.SchemaNight, Since: since, Until: now, Servers: g.Servers, Unknown: g.unknown, Open: []api.Alert{}, Over: []api.Alert{},
		Bans: g.Bans, Reported: g.Reported, Jails: g.jails, Reboots: g.reboots, Upgrades: g.upgrades, Problems: g.problems,
	}
	if g.Usual != [2]int{} {
		n.Usual = &api.NightUsual{Low: g.Usual[0], High: g.Usual[1]}
	}
	n.Title, n.Text = g.Text(l, s.conf.Web.URL)
	for i := range g.Incidents {
		v := wireAlert(&g.Incidents[i], l)
		if v.Ended == nil {
			n.Open = append(n.Open, v)
		} else {
			n.Over = append(n.Over, v)
		}
	}
	return n, nil
}

// gather asks everybody who knows something of a time. What is missing is told; the rest is there.
func (s *supervisor) gather(ctx context.Context, from, to time.Time) (g gathered, err error) {
	g = gathered{
		Night: telling.Night{From: from, To: to, Bans: -1}, unknown: []api.Server{}, jails: []api.NightJail{},
		reboots: []api.NightMark{}, upgrades: []api.NightMark{}, problems: []string{},
	}
	if g.Incidents, err = s.alerts.since(ctx, from); err != nil {
		return g, err
	}
	servers, err := s.servers()
	if err != nil {
		return g, err
	}
	for _, v := range servers.Servers {
		switch v.State {
		case "unknown":
			g.unknown = append(g.unknown, v)
			g.Silent = append(g.Silent, v.Name)
			g.Servers++
		case "ok":
			g.Servers++
		}
	}
	s.nightBans(ctx, &g)
	for _, part := range []func(context.Context, *gathered) error{s.nightUsual, s.nightReports, s.nightReboots, s.nightUpgrades} {
		if err := part(ctx, &g); err != nil {
			g.problems = append(g.problems, tocsin.Printable(err.Error()))
		}
	}
	return g, nil
}

// nightBans asks the guard whom it banned.
func (s *supervisor) nightBans(ctx context.Context, g *gathered) {
	bans, err := s.w.guard.Bans(ctx, api.BansQuery{All: true, Since: time.Since(g.From), Limit: nightBans})
	if err != nil {
		g.problems = append(g.problems, "the guard cannot be asked: "+tocsin.Printable(err.Error()))
		return
	}
	g.Bans = 0
	jails := map[string]int{}
	for _, b := range bans.Bans {
		if !b.At.Before(g.From) && b.At.Before(g.To) {
			jails[b.Jail]++
			g.Bans++
		}
	}
	for name, count := range jails {
		g.jails = append(g.jails, api.NightJail{Jail: name, Bans: count})
	}
	slices.SortFunc(g.jails, func(a, b api.NightJail) int { return cmp.Or(cmp.Compare(b.Bans, a.Bans), cmp.Compare(a.Jail, b.Jail)) })
	if !bans.More {
		return
	}
	if n, _, err := s.counted(ctx, g.From, g.To, s.bansSeries()); err == nil { // there were more than the guard lists
		g.Bans = max(g.Bans, n)
	}
}

// bansSeries are the curves of this machine's bans, of each jail one.
func (s *supervisor) bansSeries() (all []tocsin.Series) {
	if bans, ok := s.known.shown(s.own)["bans"]; ok {
		for i := range bans.Fields {
			all = append(all, tocsin.Series{Group: s.own.group, Node: s.own.name, Service: "bans", Field: bans.Fields[i].Name})
		}
	}
	return all
}

// counted is how many of something there were, of curves that are rates per second, and in which part of the time somebody
// counted.
func (s *supervisor) counted(ctx context.Context, from, to time.Time, all []tocsin.Series) (n int, part float64, err error) {
	if len(all) == 0 || !from.Before(to) {
		return 0, 0, nil
	}
	points, err := s.sumOf(ctx, all, from, to, nightStep)
	if err != nil {
		return 0, 0, err
	}
	sum := 0.0
	for _, p := range points {
		sum += p.Avg * nightStep.Seconds()
	}
	return int(math.Round(min(max(sum, 0), math.MaxInt32))), float64(len(points)) * nightStep.Seconds() / to.Sub(from).Seconds(), nil
}

// nightUsual looks at the same hours of the days before. Of a week and more the best and the worst do not count.
func (s *supervisor) nightUsual(ctx context.Context, g *gathered) error {
	all := s.bansSeries()
	if g.To.Sub(g.From) > longNight || len(all) == 0 {
		return nil
	}
	var nights []int
	for i := 1; i <= usualNights; i++ {
		n, part, err := s.counted(ctx, g.From.AddDate(0, 0, -i), g.To.AddDate(0, 0, -i), all)
		if err != nil {
			return err
		}
		if part >= 0.8 {
			nights = append(nights, n)
		}
	}
	g.Usual = usual(nights)
	return nil
}

// usual is from how many to how many are usual; zero where there are too few nights to say so.
func usual(nights []int) (u [2]int) {
	if len(nights) < leastNights {
		return u
	}
	slices.Sort(nights)
	if len(nights) >= 7 {
		nights = nights[1 : len(nights)-1]
	}
	return [2]int{nights[0], nights[len(nights)-1]}
}

// nightReports counts what was reported to others.
func (s *supervisor) nightReports(ctx context.Context, g *gathered) (err error) {
	if s.known.shown(s.own)["reports"].Service == nil {
		return nil
	}
	sent := tocsin.Series{Group: s.own.group, Node: s.own.name, Service: "reports", Field: "sent"}
	g.Reported, _, err = s.counted(ctx, g.From, g.To, []tocsin.Series{sent})
	return err
}

func byTime(a, b api.NightMark) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Server, b.Server))
}

func eventsOf(marks []api.NightMark) (all []telling.Event) {
	for _, m := range marks {
		all = append(all, telling.Event{Server: m.Server, At: m.At, N: m.Count})
	}
	return all
}

// nightReboots finds restarts by how long servers are up.
func (s *supervisor) nightReboots(ctx context.Context, g *gathered) error {
	up, err := s.db.Last(ctx, matcher("__name__", tsdb.Metric), matcher("service", "uptime"), matcher("field", "uptime"))
	if err != nil {
		return err
	}
	for _, v := range up {
		at := time.UnixMilli(v.T).Add(-time.Duration(min(max(v.V, 0), uptimeMost) * 24 * float64(time.Hour)))
		if at.After(g.From) && at.Before(g.To) {
			g.reboots = append(g.reboots, api.NightMark{Group: v.Labels.Get("group"), Server: v.Labels.Get("node"), At: at.Truncate(time.Second)})
		}
	}
	slices.SortFunc(g.reboots, byTime)
	g.Reboots = eventsOf(g.reboots)
	return nil
}

// nightUpgrades finds upgrades by packages that wait no more.
func (s *supervisor) nightUpgrades(ctx context.Context, g *gathered) error {
	waiting, err := s.db.Last(ctx, matcher("__name__", tsdb.Metric), matcher("service", "apt"), matcher("field", "pending"))
	if err != nil {
		return err
	}
	for _, v := range waiting {
		series := tocsin.Series{Group: v.Labels.Get("group"), Node: v.Labels.Get("node"), Service: "apt", Field: "pending"}
		points, err := s.db.Read(ctx, series, g.From, g.To, 10*time.Minute)
		if err != nil {
			return err
		}
		if m, ok := upgraded(points); ok {
			m.Group, m.Server = series.Group, series.Node
			g.upgrades = append(g.upgrades, m)
		}
	}
	slices.SortFunc(g.upgrades, byTime)
	g.Upgrades = eventsOf(g.upgrades)
	return nil
}

// upgraded finds how many packages less wait, and when the last of them were installed.
func upgraded(points []tsdb.Point) (m api.NightMark, ok bool) {
	for i := 1; i < len(points); i++ {
		if less := points[i-1].Avg - points[i].Avg; less >= 0.5 {
			m.Count += int(math.Round(min(less, 1e6)))
			m.At = time.UnixMilli(points[i].T)
		}
	}
	return m, m.Count > 0
}

// Size of the digest's picture, and how far back it goes.
const (
	pictureWidth  = 480
	pictureHeight = 110
	pictureDays   = 30
)

// bansPicture draws the bans of the last days, as the guard's probe counts them; nil where it counts none.
func (s *supervisor) bansPicture(ctx context.Context, l *locale.Locale, to time.Time) ([]byte, error) {
	if _, ok := s.known.shown(s.own)["bans_day"]; !ok {
		return nil, nil
	}
	d, err := s.graph(ctx, api.GraphQuery{Group: s.own.group, Server: s.own.name, Service: "bans_day", From: to.AddDate(0, 0, -pictureDays), To: to})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(d.Fields, func(f api.GraphField) bool { return len(f.Points) > 0 }) {
		return nil, nil
	}
	g, err := graph.New(d.Data(), graph.Options{Width: pictureWidth, Height: pictureHeight, Theme: graph.Light, Locale: l, Title: l.T("notify.digest.picture")})
	if errors.Is(err, graph.ErrData) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = g.PNG(&b)
	return b.Bytes(), err
}
