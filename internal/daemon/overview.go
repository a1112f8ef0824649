package daemon

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/tsdb"
	"tocsin/internal/web"
)

// The rhythm of the first page. Nothing is read while nobody looks.
const (
	overviewFresh = 10 * time.Second // as long an overview is shown as it is
	trendFresh    = 15 * time.Minute
	trendStep     = 30 * time.Minute
	trendPoints   = 48               // a day
	staleValue    = 10 * time.Minute // an older value is not known
	mostTrends    = 1_000            // servers
)

// overview puts the first page together, and keeps it for whoever asks next.
type overview struct {
	s *supervisor

	mu     sync.Mutex // held while one is put together: the others wait for it
	last   *web.Overview
	trends map[serverKey]*trend
}

// trend is what small curves are drawn of.
type trend struct {
	cpu, network, bans []float64
	read               time.Time
}

// get is the overview, at most overviewFresh old.
func (o *overview) get(ctx context.Context) (*web.Overview, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.last != nil && now.Sub(o.last.At) < overviewFresh {
		return o.last, nil
	}
	made, err := o.make(ctx, now)
	if err != nil {
		return nil, err
	}
	o.last = made
	return made, nil
}

// vitals are the newest values of a server by service and field.
type vitals map[string]map[string]float64

// vitalServices are what the first page shows.
const vitalServices = "cpu|memory|df|bans_day|if_.+"

func (o *overview) make(ctx context.Context, now time.Time) (*web.Overview, error) {
	all, err := o.s.servers()
	if err != nil {
		return nil, err
	}
	found, err := o.s.db.Last(ctx, matcher("__name__", tsdb.Metric), labels.MustNewMatcher(labels.MatchRegexp, "service", vitalServices))
	if err != nil {
		return nil, err
	}
	last := map[serverKey]vitals{}
	for _, v := range found {
		if now.Sub(time.UnixMilli(v.T)) > staleValue {
			continue
		}
		key := serverKey{v.Labels.Get("group"), v.Labels.Get("node")}
		if last[key] == nil {
			last[key] = vitals{}
		}
		service := v.Labels.Get("service")
		if last[key][service] == nil {
			last[key][service] = map[string]float64{}
		}
		last[key][service][v.Labels.Get("field")] = v.V
	}
	if err := o.readTrends(ctx, all.Servers, last, now); err != nil {
		return nil, err
	}
	out := &web.Overview{At: now, Banned: -1}
	for i := range all.Servers {
		row := o.row(&all.Servers[i], last)
		if (serverKey{row.Group, row.Name}) == o.s.own && !math.IsNaN(row.Bans.Now) {
			out.Banned = int(row.Bans.Now)
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

// row is what is shown of one server.
func (o *overview) row(server *api.Server, last map[serverKey]vitals) web.Row {
	key := serverKey{server.Group, server.Name}
	v := last[key]
	row := web.Row{Group: server.Group, Name: server.Name, State: server.State, Seen: timeOf(server.Seen), Since: timeOf(server.Since)}
	row.CPU.Now, row.Memory = busy(v["cpu"]), used(v["memory"])
	row.Network.Now, row.Bans.Now = math.NaN(), math.NaN()
	if card := v.card(); card != "" {
		row.Network.Now = sum(v[card])
	}
	if bans, ok := v["bans_day"]; ok {
		row.Bans.Now = sum(bans)
	}
	row.Disk = math.NaN()
	for field, value := range v["df"] {
		if math.IsNaN(row.Disk) || value > row.Disk || value == row.Disk && field < row.DiskOf {
			row.Disk, row.DiskOf = value, field
		}
	}
	row.DiskOf = o.s.known.label(key, "df", row.DiskOf)
	if t := o.trends[key]; t != nil {
		row.CPU.Trend, row.Network.Trend, row.Bans.Trend = t.cpu, t.network, t.bans
	}
	return row
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// label is what a field is called, its name where it has no label.
func (c *catalogue) label(key serverKey, service, field string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[key]
	if s == nil || s.services[service] == nil {
		return field
	}
	desc := c.show(s.services[service]).Service
	for i := range desc.Fields {
		if desc.Fields[i].Name == field {
			label, _ := desc.Fields[i].Get("label")
			return cmp.Or(label, field)
		}
	}
	return field
}

// isCard says whether a service is the traffic of a network card.
func isCard(service string) bool {
	return strings.HasPrefix(service, "if_") && service != "if_lo" && service != "if_capacity" && !strings.HasPrefix(service, "if_err_") && !strings.HasPrefix(service, "if_packets_")
}

// card is the network card that carries most: bridges and what is behind them carry the same once more. "" if there is none.
func (v vitals) card() string {
	best := ""
	for service := range v {
		if isCard(service) && (best == "" || sum(v[service]) > sum(v[best]) || sum(v[service]) == sum(v[best]) && service < best) {
			best = service
		}
	}
	return best
}

func sum(fields map[string]float64) float64 {
	total := 0.0
	for _, v := range fields {
		total += v
	}
	return total
}

// busy is the share of the processors that does something, of a hundred; NaN if that is not known. Guests are left out: some
// count them as programs too.
func busy(cpu map[string]float64) float64 {
	total := sum(cpu) - cpu["guest"] - cpu["guest_nice"]
	if _, ok := cpu["idle"]; !ok || total <= 0 {
		return math.NaN()
	}
	return 100 * (total - cpu["idle"] - cpu["iowait"]) / total
}

// used is the share of the memory that programs and the kernel hold, of a hundred; NaN if that is not known.
func used(memory map[string]float64) float64 {
	total := 0.0
	for _, name := range []string{"apps", "page_tables", "per_cpu", "swap_cache", "slab", "shmem", "cached", "buffers", "free"} {
		total += memory[name]
	}
	if _, ok := memory["free"]; !ok || total <= 0 {
		return math.NaN()
	}
	if available, ok := memory["available"]; ok {
		return 100 * max(0, 1-available/total)
	}
	return 100 * (1 - (memory["free"]+memory["cached"]+memory["buffers"])/total)
}

// readTrends reads what small curves are drawn of, where that is old. A server that has just come has its own at once.
func (o *overview) readTrends(ctx context.Context, servers []api.Server, last map[serverKey]vitals, now time.Time) error {
	before := o.trends
	o.trends = map[serverKey]*trend{} // without those that are gone
	for i := range servers[:min(len(servers), mostTrends)] {
		key := serverKey{servers[i].Group, servers[i].Name}
		v := last[key]
		if v == nil {
			continue
		}
		if t := before[key]; t != nil && now.Sub(t.read) <= trendFresh {
			o.trends[key] = t
			continue
		}
		t := &trend{read: now}
		cpu, err := o.curves(ctx, key, "cpu", v["cpu"], now)
		if err != nil {
			return err
		}
		t.cpu = combine(cpu, busy)
		if card := v.card(); card != "" {
			traffic, err := o.curves(ctx, key, card, v[card], now)
			if err != nil {
				return err
			}
			t.network = combine(traffic, sum)
		}
		if bans, ok := v["bans_day"]; ok {
			all, err := o.curves(ctx, key, "bans_day", bans, now)
			if err != nil {
				return err
			}
			t.bans = combine(all, sum)
		}
		o.trends[key] = t
	}
	return nil
}

// curves are a day of the fields of a service: for each step the values that are known.
func (o *overview) curves(ctx context.Context, key serverKey, service string, fields map[string]float64, now time.Time) ([]map[string]float64, error) {
	end := now.Truncate(trendStep)
	from := end.Add(-trendPoints * trendStep)
	steps := make([]map[string]float64, trendPoints)
	for field := range fields {
		points, err := o.s.db.Read(ctx, tsdbSeries(key, service, field), from, end, trendStep)
		if err != nil {
			return nil, asked(err)
		}
		for _, p := range points {
			i := int(time.UnixMilli(p.T).Sub(from)/trendStep) - 1
			if i < 0 || i >= trendPoints {
				continue
			}
			if steps[i] == nil {
				steps[i] = map[string]float64{}
			}
			steps[i][field] = p.Avg
		}
	}
	return steps, nil
}

// combine makes one value of each step; NaN where nothing is known.
func combine(steps []map[string]float64, f func(map[string]float64) float64) []float64 {
	out := make([]float64, len(steps))
	for i, fields := range steps {
		out[i] = math.NaN()
		if len(fields) > 0 {
			out[i] = f(fields)
		}
	}
	if !slices.ContainsFunc(out, func(v float64) bool { return !math.IsNaN(v) }) {
		return nil
	}
	return out
}

func tsdbSeries(key serverKey, service, field string) tocsin.Series {
	return tocsin.Series{Group: key.group, Node: key.name, Service: service, Field: field}
}
