package alert

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// month is a scripted month of three providers' servers. What is wrong, and when, stands in its tables; everything else is
// well.
type month struct {
	*world
	servers map[string][]string // by group
	skew    time.Duration       // of the machine's clock
	real    time.Time
}

// during says whether the time is within a span, written "10-15 03:00 - 10-15 08:20" of 2026 in UTC.
func (m *month) during(span string) bool {
	from, to, _ := strings.Cut(span, " - ")
	return !m.real.Before(m.at(from)) && m.real.Before(m.at(to))
}

func (m *month) at(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", "2026-"+s)
	if err != nil {
		m.t.Fatal(err)
	}
	return t
}

// dead are the times at which servers do not answer.
var dead = map[string][]string{
	"ttn2":    {"10-15 03:00 - 10-15 08:20"},
	"ovh1":    {"10-18 14:00 - 10-18 15:10"},
	"ovh2":    {"10-18 14:01 - 10-18 15:12"},
	"ovh3":    {"10-18 14:00 - 10-18 15:15"},
	"ovh4":    {"10-18 14:02 - 10-18 15:11"},
	"gandi10": {"10-28 10:10 - 10-28 10:40", "10-28 11:30 - 10-28 12:30"},
}

// slow is when the storage of a provider is in trouble, and on how many of its servers.
const slow, slowServers = "10-22 01:00 - 10-22 04:30", 8

// traffic is what a server sends at a time: more by day, by the clock on the wall.
func traffic(t time.Time, zone *time.Location) float64 {
	if h := t.In(zone).Hour(); h >= 9 && h < 18 {
		return 1000
	}
	return 50
}

// round reads all servers once.
func (m *month) round() {
	load, disk := m.service("load", "load warning=:8"), m.service("df", "_dev_vda1 warning=92 critical=98")
	latency, psi := m.service("diskstats_latency.vda", "avgrdwait warning=0:3", "avgwrwait warning=0:3"), m.service("linux_psi", "psi_io_avg300_some")
	for group, names := range m.servers {
		for i, name := range names {
			m.e.Asked(group, name, time.Minute)
			if m.any(dead[name]) {
				m.e.Silent(group, name, m.now)
				continue
			}
			l, space, wait, stall := 1.0, 40.0, 0.005, 0.5
			if group == "Gandi" && i < slowServers && m.during(slow) {
				// It takes each of them another time to notice.
				minutes := m.real.Sub(m.at(slow[:11])).Minutes() - float64(i%3)
				if minutes >= 0 {
					wait, stall, l = 0.8, min(40, 6*minutes), 20
				}
				if m.during("10-22 02:10 - 10-22 02:30") {
					wait = 6 // beyond the plugin's own limit, too
				}
			}
			switch {
			case name == "ovh1" && m.during("10-12 10:00 - 10-12 11:30") && m.real.Minute()%5 >= 3:
				l = 12
			case name == "ttn3" && (m.during("10-13 09:00 - 10-13 09:03") || m.during("10-14 09:00 - 10-14 09:08")):
				l = math.NaN()
			case name == "gandi9" && m.during("10-12 00:00 - 10-20 09:00"):
				space = 60 + 4*m.real.Sub(m.at("10-12 00:00")).Hours()/24
			}
			m.give(group, name, load, l)
			m.give(group, name, disk, space)
			m.give(group, name, latency, wait, wait)
			m.give(group, name, psi, stall)
		}
	}
	days := 24 - m.real.Sub(m.at("10-10 00:00")).Hours()/24
	if !m.during("10-10 00:00 - 10-24 06:00") {
		days = 90 - m.real.Sub(m.at("10-24 06:00")).Hours()/24
	}
	m.give("Asso", "hub", m.service("tls_expiry", "asso_example warning=14: critical=3:"), days)
	m.give("Asso", "hub", m.service("if_eth0", "up"), traffic(m.now, m.e.o.Zone))
}

func (m *month) any(spans []string) bool {
	for _, s := range spans {
		if m.during(s) {
			return true
		}
	}
	return false
}

// history answers what rules want to know of past weeks.
func (m *month) history() {
	for _, w := range m.e.Wants(100) {
		var points []Point
		for _, span := range w.Spans {
			for t := span[0]; w.Service == "if_eth0" && t.Before(span[1]); t = t.Add(w.Step) {
				points = append(points, Point{t.UnixMilli(), traffic(t, m.e.o.Zone)})
			}
		}
		m.e.Recall(w, points)
	}
}

func (m *month) restart() {
	text, err := m.e.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	silences := m.e.silences
	m.e = m.engine("", nil)
	if err := m.e.Restore(text); err != nil {
		m.t.Fatal(err)
	}
	m.e.SetSilences(silences)
}

func TestMonth(t *testing.T) {
	m := &month{world: newWorld(t, ""), servers: map[string][]string{}}
	for group, n := range map[string]int{"Gandi": 10, "OVH": 4, "TTN": 4} {
		for i := range n {
			m.servers[group] = append(m.servers[group], fmt.Sprintf("%s%d", strings.ToLower(group), i+1))
		}
	}
	m.real = m.at("10-10 00:00")
	acts := map[string]func(){
		"10-12 10:12": m.restart, // while something is unstable
		"10-15 05:00": m.restart, // while a server is dead
		"10-18 14:01": m.restart, // while a provider is about to be
		"10-22 02:00": m.restart, // in the night of slow storage
		"10-22 01:30": func() { m.ack("storage", "10-22 03:00") },
		"10-27 12:00": func() { m.skew = 2 * time.Hour }, // the machine's clock leaps, and is set right again
		"10-27 12:10": func() { m.skew = 0 },
		"10-28 10:00": func() {
			m.e.SetSilences([]Silence{{Group: "Gandi", Node: "gandi10", Until: m.at("10-28 12:00")}})
		},
	}
	for m.real.Before(m.at("11-09 00:00")) {
		if act := acts[m.real.Format("01-02 15:04")]; act != nil {
			act()
		}
		m.now = m.real.Add(m.skew)
		m.round()
		m.tick(0)
		m.history()
		m.real = m.real.Add(time.Minute)
	}
	m.want(monthly)
}

// ack has somebody look after the open incident of a rule.
func (m *month) ack(rule, until string) {
	for _, in := range m.e.Open() {
		if in.Rule == rule {
			if _, err := m.e.Ack(in.ID, tocsin.Ack{By: "marie", At: m.now, Until: m.at(until)}); err != nil {
				m.t.Error(err)
			}
			return
		}
	}
	m.t.Errorf("%s: %s is not open", m.real, rule)
}

// monthly is every message of the month, and not one more.
const monthly = `
10-12 10:03 #1 began limit warning soon OVH/ovh1 load.load 12 [:8]
10-12 10:05 #1 over limit fine soon OVH/ovh1 load.load 1
10-12 10:08 #1 began limit warning soon OVH/ovh1 load.load 12 [:8]
10-12 10:10 #1 unstable limit fine soon OVH/ovh1 load.load 1 [:8]
10-12 12:30 #1 over limit fine soon OVH/ovh1 load.load 1
10-14 09:03 #2 began limit unknown digest TTN/ttn3 load.load [:8]
10-14 09:08 #2 over limit fine digest TTN/ttn3 load.load 1
10-15 03:05 #3 began server-silent critical urgent TTN/ttn2
10-15 08:20 #3 over server-silent fine urgent TTN/ttn2
10-18 14:04 #4 began outage critical urgent OVH [:1] ovh1,ovh2,ovh3,ovh4
10-18 15:15 #4 over outage fine urgent OVH ovh1,ovh2,ovh3,ovh4
10-19 12:02 #5 began disk-space warning soon Gandi/gandi9 df._dev_vda1 90.01 [:90]
10-20 00:01 #6 began certificate warning soon Asso/hub tls_expiry.asso_example 14 [14:]
10-20 00:30 #7 began disk-full warning soon Gandi/gandi9 df._dev_vda1 92.08 [:100]
10-20 09:00 #5 over disk-space fine soon Gandi/gandi9 df._dev_vda1 40
10-20 09:30 #7 over disk-full fine soon Gandi/gandi9 df._dev_vda1 40
10-22 01:05 #8 began storage warning urgent Gandi [:2] gandi1,gandi2,gandi3,gandi4,gandi5,gandi6,gandi7,gandi8
10-22 03:00 #8 again storage warning urgent Gandi [:2] gandi1,gandi2,gandi3,gandi4,gandi5,gandi6,gandi7,gandi8
10-22 04:45 #8 over storage fine urgent Gandi gandi1,gandi2,gandi3,gandi4,gandi5,gandi6,gandi7,gandi8
10-24 06:00 #6 over certificate fine soon Asso/hub tls_expiry.asso_example 90
10-28 12:00 #9 began server-silent critical urgent Gandi/gandi10
10-28 12:30 #9 over server-silent fine urgent Gandi/gandi10
`
