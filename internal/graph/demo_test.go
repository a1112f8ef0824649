package graph

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/locale"
	"tocsin/internal/munin"
)

var update = flag.Bool("update", false, "write the golden pictures anew")

// demo is a service with made-up values, the same each time.
type demo struct {
	name   string
	config string
	opts   func(o *Options)
	length time.Duration
	step   time.Duration
	change func(d *Data)
}

var paris = func() *time.Location {
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		panic(err)
	}
	return zone
}()

// noon is when the demonstrations end.
var noon = time.Date(2026, 11, 21, 14, 5, 0, 0, time.UTC)

const (
	day   = 2000 * time.Minute
	week  = 12000 * time.Minute
	month = 48000 * time.Minute
	year  = 400 * 24 * time.Hour
)

var demos = []demo{
	{name: "load", length: day, step: 5 * time.Minute, config: `graph_title Load average
graph_args --base 1000 -l 0
graph_vlabel load
graph_scale no
load.label load
load.warning 4
load.critical 8`, opts: func(o *Options) {
		o.Marks = []Mark{
			{At: noon.Add(-6 * time.Hour), Kind: MarkBans, Text: "14 bans in 10 minutes"}, {At: noon.Add(-20 * time.Hour), Kind: MarkReboot, Text: "restarted"},
			{At: noon.Add(-9 * time.Hour), Kind: MarkUpgrade, Text: "nginx 1.22.1"}, {At: noon.Add(-3 * time.Hour), Kind: MarkAlert, Text: "#1042 <b>load</b>"},
		}
	}},
	{name: "cpu", length: week, step: 30 * time.Minute, config: `graph_title CPU usage
graph_order system user nice idle iowait irq softirq steal guest
graph_args --base 1000 -r --lower-limit 0 --upper-limit 200
graph_vlabel %
graph_scale no
graph_period second
system.label system
system.draw AREA
system.type DERIVE
user.label user
user.draw STACK
user.type DERIVE
nice.label nice
nice.draw STACK
iowait.label iowait
iowait.draw STACK
irq.label irq
irq.draw STACK
idle.label idle
idle.draw STACK`, change: func(d *Data) {
		idle := d.Points["idle"]
		for i := range idle {
			used := 0.0
			for _, f := range []string{"system", "user", "nice", "iowait", "irq"} {
				if f == "irq" || f == "nice" {
					d.Points[f][i] = scaledPoint(d.Points[f][i], 0.05)
				}
				d.Points[f][i] = scaledPoint(d.Points[f][i], 8)
				used += d.Points[f][i].Avg
			}
			idle[i].Avg = 200 - used
			idle[i].Min, idle[i].Max = idle[i].Avg-20, 200
		}
	}},
	{name: "net", length: day, step: 5 * time.Minute, config: `graph_order down up
graph_title eth0 traffic
graph_args --base 1000
graph_vlabel bits in (-) / out (+) per ${graph_period}
down.label received
down.type DERIVE
down.graph no
down.cdef down,8,*
up.label bps
up.type DERIVE
up.negative down
up.cdef up,8,*
up.max 125000000`, change: func(d *Data) {
		for _, f := range []string{"down", "up"} {
			for i := range d.Points[f] {
				d.Points[f][i] = scaledPoint(d.Points[f][i], 250e3)
			}
		}
	}},
	{name: "memory", length: month, step: 2 * time.Hour, config: `graph_args --base 1024 -l 0 --upper-limit 8589934592
graph_vlabel Bytes
graph_title Memory usage
apps.label apps
apps.draw AREA
page_tables.label page_tables
page_tables.draw STACK
cached.label cache
cached.draw STACK
free.label unused
free.draw STACK
swap.label swap
swap.draw STACK
committed.label committed
committed.draw LINE2`, change: func(d *Data) {
		for f := range d.Points {
			for i := range d.Points[f] {
				k := 400e6
				if f == "page_tables" || f == "swap" {
					k = 8e6
				}
				d.Points[f][i] = scaledPoint(d.Points[f][i], k)
			}
		}
	}, opts: func(o *Options) { o.Locale = locale.Get("fr").In(paris) }},
	{name: "year", length: year, step: 24 * time.Hour, config: `graph_title Hits
graph_total total
graph_vlabel requests per ${graph_period}
graph_period minute
a.label www.example.org
a.type DERIVE
a.draw AREASTACK
b.label wiki.example.org
b.type DERIVE
b.draw AREASTACK
c.label listes.example.org & <i>co</i>
c.type DERIVE
c.draw AREASTACK`, opts: func(o *Options) { o.Locale = locale.Get("fr").In(paris); o.Subtitle = "web1 · an" }},
	{name: "lines", length: year, step: 24 * time.Hour, config: `graph_title Sensors
graph_vlabel °C
t1.label CPU
t2.label disk
t3.label board`, opts: func(o *Options) { o.GhostName = "last year" }, change: func(d *Data) {
		d.Ghost = map[string][]Point{"t1": nil}
		for _, p := range d.Points["t1"] {
			d.Ghost["t1"] = append(d.Ghost["t1"], scaledPoint(p, 0.8))
		}
	}},
	{name: "gaps", length: day, step: 5 * time.Minute, config: `graph_title Gaps
graph_vlabel things
holes.label holes
holes.draw AREA
line.label line`, change: func(d *Data) {
		d.Points["holes"] = append(append(append([]Point{}, d.Points["holes"][:90]...), d.Points["holes"][200]), d.Points["holes"][260:330]...)
		d.Points["line"] = append(d.Points["line"][30:120:120], d.Points["line"][180:]...)
	}},
	{name: "log", length: week, step: 30 * time.Minute, config: `graph_title Disk latency
graph_args --base 1000 --logarithmic
graph_vlabel seconds
r.label read
w.label write
w.line 0.02:ff0000:target`, change: func(d *Data) {
		for f := range d.Points {
			for i, p := range d.Points[f] {
				d.Points[f][i] = Point{p.T, math.Pow(10, p.Avg*1.3-5), math.Pow(10, p.Min*1.3-5), math.Pow(10, p.Max*1.3-5)}
			}
		}
	}},
	{name: "unknown", length: day, step: 5 * time.Minute, config: `graph_title Nothing is known
a.label a`, change: func(d *Data) { d.Points = nil }},
	{name: "narrow", length: day, step: 5 * time.Minute, config: `graph_order down up
graph_title A long title that does not fit on a telephone at all
graph_vlabel bits in (-) / out (+) per ${graph_period}
down.label received
down.graph no
up.label eth0
up.negative down
tun.label a tunnel to another network of ours`, opts: func(o *Options) { o.Width = 360; o.Subtitle = "web1 · jour"; o.Locale = locale.Get("fr").In(paris) }},
	{name: "clock", length: 33 * time.Hour, step: 5 * time.Minute, config: `graph_title The clock is put back
a.label a`, opts: func(o *Options) { o.Locale = locale.Get("en").In(paris) }, change: func(d *Data) {
		move := time.Date(2026, 10, 25, 12, 0, 0, 0, time.UTC).Sub(d.To)
		d.From, d.To = d.From.Add(move), d.To.Add(move)
		for i := range d.Points["a"] {
			d.Points["a"][i].T += int64(move / time.Second)
		}
	}},
	{name: "small", length: 30 * time.Minute, step: 10 * time.Second, config: `graph_title Half an hour
graph_vlabel ms
graph_scale no
a.label a
a.draw LINE0.5
b.label b
b.colour 330099
b.draw LINE3`, opts: func(o *Options) { o.Theme = Dark }},
	{name: "many", length: day, step: 5 * time.Minute, config: "graph_title Disk usage in percent\ngraph_args --upper-limit 100 -l 0\ngraph_vlabel %\ngraph_scale no\n" + func() string {
		var b strings.Builder
		for i := range 14 {
			fmt.Fprintf(&b, "d%d.label /srv/containers/volume-%d\nd%d.warning 92\nd%d.critical 98\n", i, i, i, i)
		}
		return b.String()
	}(), change: func(d *Data) {
		for f := range d.Points {
			for i := range d.Points[f] {
				d.Points[f][i] = scaledPoint(d.Points[f][i], 25)
			}
		}
	}},
}

func scaledPoint(p Point, k float64) Point { return Point{p.T, p.Avg * k, p.Min * k, p.Max * k} }

// make builds the picture's input.
func (m *demo) make(t testing.TB) (Data, Options) {
	t.Helper()
	s := describe(t, m.config)
	to := noon.Truncate(m.step)
	d := Data{Service: s, From: to.Add(-m.length), To: to, Step: m.step, Points: map[string][]Point{}}
	for i := range s.Fields {
		d.Points[s.Fields[i].Name] = made(i, d.From, d.To, m.step)
	}
	if m.change != nil {
		m.change(&d)
	}
	var o Options
	if m.opts != nil {
		m.opts(&o)
	}
	return d, o
}

func describe(t testing.TB, config string) *munin.Service {
	t.Helper()
	services := munin.ParseConfig("demo", []byte(config)).Services
	if len(services) == 0 {
		t.Fatal("no service")
	}
	return &services[0]
}

// made are points that rise and fall with the day, with noise and a spike.
func made(seed int, from, to time.Time, step time.Duration) (all []Point) {
	x := uint64(seed*7919 + 17)
	noise := func() float64 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return float64(x%1000) / 1000
	}
	s := int64(step / time.Second)
	for t := from.Unix() - from.Unix()%s + s; t <= to.Unix(); t += s {
		day := math.Sin(2 * math.Pi * (float64(t)/86400 + float64(seed)/7))
		slow := math.Sin(2 * math.Pi * float64(t) / 86400 / 90)
		v := 1.5 + day*0.8*math.Min(1, 7200/float64(s)) + slow*0.4 + noise()*0.3 + float64(seed%4)*0.2
		p := Point{T: t, Avg: v, Min: v * (0.75 + 0.2*noise()), Max: v * (1.05 + 0.4*noise())}
		if noise() > 0.993 {
			p.Max *= 3
		}
		all = append(all, p)
	}
	return all
}

func (m *demo) graph(t testing.TB) *Graph {
	t.Helper()
	g, err := New(m.make(t))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestPictures writes every demonstration where TOCSIN_PICTURES says, to be looked at.
func TestPictures(t *testing.T) {
	dir := os.Getenv("TOCSIN_PICTURES")
	if dir == "" {
		t.Skip("TOCSIN_PICTURES names no folder for pictures")
	}
	for _, m := range demos {
		g := m.graph(t)
		for _, f := range []struct {
			end  string
			draw func(io.Writer) error
		}{{"svg", g.SVG}, {"png", g.PNG}} {
			var b bytes.Buffer
			if err := f.draw(&b); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, m.name+"."+f.end), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
