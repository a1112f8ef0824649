package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/config"
	"tocsin/internal/fail2ban"
	"tocsin/internal/jail"
)

// t0 is when the logs of these tests begin.
var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// diffCell is a jail of fail2ban as a configuration would give it: 5 failures in 600 s ban for an hour.
func diffCell(t *testing.T, change func(*cell)) *set {
	t.Helper()
	c := &cell{
		conf: &config.Jail{Name: "test"}, loc: time.UTC,
		f2b: &fail2ban.Jail{Name: "test", Maxretry: 5, Findtime: 600 * time.Second, Bantime: time.Hour, Ignoreself: true},
		def: fail2ban.Filter{Name: "test", Usedns: "warn", Maxlines: 1, Failregex: []fail2ban.Regex{
			{Text: `^ <F-MLFGAINED>login</F-MLFGAINED> of <F-USER>\S+</F-USER> from <HOST>$`}, {Text: `^ failure(?: of <F-USER>\S+</F-USER>)? from <HOST>$`},
			{Text: `^ failure by <F-ID>\S+</F-ID>$`}}},
	}
	c.options = jail.Options{Name: "test", MaxRetry: 5, FindTime: 600 * time.Second, BanTime: time.Hour, IPv6Prefix: 128, KnownFactor: 1, KeepOnLogin: true}
	if change != nil {
		change(c)
	}
	c.program = compiled(t, c.def)
	return &set{conf: &config.Config{}, cells: []*cell{c}}
}

// logOf writes a log: each entry is "SECONDS TEXT", with spaces between several times of one text: "0,10,20 failure from 192.0.2.7".
func logOf(t *testing.T, entries ...string) string {
	t.Helper()
	type line struct {
		at   float64
		text string
	}
	var lines []line
	asWritten := false
	for _, e := range entries {
		times, text, _ := strings.Cut(e, " ")
		if asWritten = asWritten || strings.HasPrefix(times, "!"); asWritten {
			times = strings.TrimPrefix(times, "!")
		}
		for _, at := range strings.Split(times, ",") {
			var s float64
			if _, err := fmt.Sscan(at, &s); err != nil {
				t.Fatalf("%q: %v", e, err)
			}
			lines = append(lines, line{s, text})
		}
	}
	if !asWritten {
		slices.SortStableFunc(lines, func(a, b line) int { return int(1000 * (a.at - b.at)) })
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s\n", t0.Add(time.Duration(l.at*float64(time.Second))).Format("2006-01-02T15:04:05.000Z07:00"), l.text)
	}
	path := filepath.Join(t.TempDir(), "test.log")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// diffOf compares what both do with a log.
func diffOf(t *testing.T, s *set, log string, done ...fail2ban.DatabaseBan) *Diff {
	t.Helper()
	d := &Diff{Since: t0, Until: t0.Add(24 * time.Hour), Really: len(done) > 0}
	o := &DiffOptions{Config: s.conf, Logs: []string{log}, Since: d.Since, Until: d.Until}
	if err := d.compare(context.Background(), s, o, map[string][]fail2ban.DatabaseBan{"test": done}); err != nil {
		t.Fatal(err)
	}
	return d
}

// words says who bans, and why not both do: "fail2ban tocsin: reason; reason".
func (r *DiffRow) words() string {
	var who []string
	for name, b := range map[string]*DiffBan{"fail2ban": r.Fail2ban, "tocsin": r.Tocsin, "really": r.Really} {
		if b != nil {
			who = append(who, name)
		}
	}
	slices.Sort(who)
	s := r.ID + " " + strings.Join(who, " ")
	if len(r.Why) > 0 {
		s += ": " + strings.Join(r.Why, "; ")
	}
	return s
}

// TestDiffReasons: each reason why the two differ, in a log that shows it.
func TestDiffReasons(t *testing.T) {
	tests := []struct {
		name   string
		change func(*cell)
		log    []string
		done   []fail2ban.DatabaseBan
		want   string // one row a line
	}{
		{"both", nil, []string{"0,10,20,30,40 failure from 198.18.2.7"}, nil, "198.18.2.7 fail2ban tocsin"},
		{"too few", nil, []string{"0,10,20,30 failure from 198.18.2.7"}, nil, ""},
		{"rate estimate", nil, []string{"0,590,591,650,700 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban: rate estimate: 5 failures in 700 s counted as 5 in 600 s"},
		{"rate estimate, too low", func(c *cell) { c.f2b.Maxretry, c.options.MaxRetry = 7, 7 },
			[]string{"0,595,596,597,598,599,599.5,1190 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban tocsin"},
		{"rate estimate, below", func(c *cell) { c.f2b.Maxretry, c.options.MaxRetry = 7, 7 },
			[]string{"0,599,599,599,599,599,1190 failure from 198.18.2.7", "1195 failure from 198.18.2.7"}, nil,
			"198.18.2.7 tocsin: rate estimate: fail2ban's stood at 5 when there were 7 failures within 600 s"},
		{"no address", nil, []string{"0,1,2,3,4 failure from 999.1.1.1"}, nil, "999.1.1.1 fail2ban: id 999.1.1.1 is no address"},
		{"an id without actions", nil, []string{"0,1,2,3,4 failure by marie"}, nil,
			"marie fail2ban: id marie is no address, and the jail has no action that takes it"},
		{"an id with actions", func(c *cell) { c.acts = true }, []string{"0,1,2,3,4 failure by marie"}, nil, "marie fail2ban tocsin"},
		{"IPv6 by /64, several", func(c *cell) { c.options.IPv6Prefix = 64 },
			[]string{"0,1 failure from 2001:db8::1", "2,3,4 failure from 2001:db8::2"}, nil,
			"2001:db8::/64 tocsin: IPv6 /64: 2 addresses of it counted together"},
		{"IPv6 by /64, one", func(c *cell) { c.options.IPv6Prefix = 64 }, []string{"0,1,2,3,4 failure from 2001:db8::1"}, nil,
			"2001:db8::1 fail2ban tocsin: IPv6 /64: Tocsin counts and bans 2001:db8::/64"},
		{"IPv6 as it is", nil, []string{"0,1,2,3,4 failure from 2001:db8::1"}, nil, "2001:db8::1 fail2ban tocsin"},
		{"ignoreip", func(c *cell) { c.ignored = []string{"198.18.2.0/24"}; c.indexIgnored() }, []string{"0,1,2,3,4 failure from 198.18.2.7"}, nil, ""},
		{"allow list", func(c *cell) { c.f2b.Ignoreself = false }, []string{"0,1,2,3,4 failure from 127.0.0.1"}, nil,
			"127.0.0.1 fail2ban: on the allow list: loopback"},
		{"patience", func(c *cell) { c.options.KnownFactor, c.options.KnownFor = 3, time.Hour },
			[]string{"0 login of marie from 198.18.2.7", "1,2,3,4,5 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban: patience: somebody logged in from there, known_factor 3"},
		{"cleared by login", func(c *cell) { c.options.KeepOnLogin = false },
			[]string{"0,1,2,3 failure of marie from 198.18.2.7", "4 login of marie from 198.18.2.7", "5 failure of marie from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban: failures cleared by a login"},
		{"fractions", nil, []string{"0.1,1,2,3,600.9 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban: whole seconds: fail2ban leaves out the fractions"},
		{"dates", nil, []string{"!890,895,900 failure from 198.18.2.7", "-9000,-9000 failure from 198.18.2.7", "901 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban tocsin"},
		{"dates, and the estimate", nil,
			[]string{"!0,590 failure from 198.18.2.7", "-9000 failure from 198.18.2.7", "650,700 failure from 198.18.2.7"}, nil,
			"198.18.2.7 fail2ban: date off by more than 60 s in 1 of its lines: counted at the time of the line before, live at that of arrival; rate estimate: 5 failures in 700 s counted as 5 in 600 s"},
		{"really", nil, []string{"0,10,20,30,40 failure from 198.18.2.7"},
			[]fail2ban.DatabaseBan{{ID: "198.18.2.7", At: t0.Add(40 * time.Second), Failures: 5}}, "198.18.2.7 fail2ban really tocsin"},
		{"by hand", nil, nil, []fail2ban.DatabaseBan{{ID: "198.18.2.7", At: t0}}, "198.18.2.7 really: banned by hand"},
		{"by what is not here", nil, nil, []fail2ban.DatabaseBan{{ID: "198.18.2.7", At: t0, Failures: 5}},
			"198.18.2.7 really: fail2ban did it by what these logs do not show: other logs, earlier lines, settings of then"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := diffOf(t, diffCell(t, tt.change), logOf(t, tt.log...), tt.done...)
			var got []string
			for i := range d.Rows {
				got = append(got, d.Rows[i].words())
			}
			if s := strings.Join(got, "\n"); s != tt.want {
				t.Errorf("rows:\n%s\nwant:\n%s\nnotes: %q", s, tt.want, d.Notes)
			}
		})
	}
}

// Where bans grow, a failure of somebody who was banned before counts for more.
func TestDiffOfGrowingBans(t *testing.T) {
	s := diffCell(t, func(c *cell) {
		c.f2b.Growth = &fail2ban.Growth{}
		c.f2b.Bantime = 10 * time.Second
		c.options.BanTimes = []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second}
		c.options.BanMemory = 24 * time.Hour
	})
	log := logOf(t, "0,1,2,3,4 failure from 198.18.2.7", "100,101,102 failure from 198.18.2.7")
	d := diffOf(t, s, log)
	if len(d.Rows) != 1 || d.Rows[0].Fail2ban.Times != 2 || d.Rows[0].Tocsin.Times != 1 {
		t.Errorf("rows %+v, want fail2ban to ban twice, each failure weighing 2 the second time", d.Rows)
	}
	s.cells[0].options.Weigh = true
	d = diffOf(t, s, log)
	if len(d.Rows) != 1 || d.Rows[0].Tocsin.Times != 2 {
		t.Errorf("rows %+v, want both to ban twice", d.Rows)
	}
}

// python takes failures through fail2ban's own classes, as a running server does, and tells the bans.
const python = `
import json, sys
sys.path.insert(0, '/usr/lib/python3/dist-packages')
from fail2ban.server.failmanager import FailManager, FailManagerEmpty
from fail2ban.server.banmanager import BanManager
from fail2ban.server.ticket import FailTicket, BanTicket
from fail2ban.server.mytime import MyTime
case = json.load(sys.stdin)
fails, bans = FailManager(), BanManager()
fails.setMaxRetry(case['maxretry']); fails.setMaxTime(case['findtime']); bans.setBanTime(case['bantime'])
out = []
for t, id in case['failures']:
    MyTime.setTime(t)
    bans.unBanList(t)
    fails.cleanup(t)
    if fails.addFailure(FailTicket(id, t)) >= case['maxretry']:
        ticket = BanTicket.wrap(fails.toBan(id))
        if bans.addBanTicket(ticket): out.append([t, id])
json.dump(out, sys.stdout)
`

// TestDiffPredictsFail2ban compares what we say of fail2ban with what its own classes do, over random failures.
func TestDiffPredictsFail2ban(t *testing.T) {
	if err := exec.Command("python3", "-c", "import sys; sys.path.insert(0, '/usr/lib/python3/dist-packages'); import fail2ban.server.failmanager").Run(); err != nil {
		t.Skip("python3 with Debian's fail2ban is not there: ", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 8 {
		maxretry, findtime, bantime := 2+r.IntN(6), 60+r.IntN(600), 30+r.IntN(900)
		var entries []string
		var failures [][2]any
		at := 0
		for range 2000 {
			if at += r.IntN(25); r.IntN(40) == 0 {
				at += r.IntN(2 * findtime)
			}
			id := fmt.Sprintf("198.18.2.%d", r.IntN(12))
			entries = append(entries, fmt.Sprintf("%d failure from %s", at, id))
			failures = append(failures, [2]any{t0.Unix() + int64(at), id})
		}
		in, err := json.Marshal(map[string]any{"maxretry": maxretry, "findtime": findtime, "bantime": bantime, "failures": failures})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("python3", "-c", python)
		cmd.Stdin = strings.NewReader(string(in))
		text, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var bans [][2]any
		if err := json.Unmarshal(text, &bans); err != nil {
			t.Fatal(err)
		}
		type times struct {
			first time.Time
			n     int
		}
		want := map[string]times{}
		for _, b := range bans {
			w := want[b[1].(string)]
			if w.n++; w.n == 1 {
				w.first = time.Unix(int64(b[0].(float64)), 0)
			}
			want[b[1].(string)] = w
		}
		s := diffCell(t, func(c *cell) {
			c.f2b.Maxretry, c.f2b.Findtime, c.f2b.Bantime = maxretry, time.Duration(findtime)*time.Second, time.Duration(bantime)*time.Second
			c.options.MaxRetry, c.options.FindTime, c.options.BanTime = maxretry, c.f2b.Findtime, c.f2b.Bantime
		})
		got := map[string]times{}
		d := diffOf(t, s, logOf(t, entries...))
		for _, row := range d.Rows {
			if row.Fail2ban != nil {
				got[row.ID] = times{row.Fail2ban.First, row.Fail2ban.Times}
			}
		}
		same := len(got) == len(want)
		for id, w := range want {
			same = same && got[id].n == w.n && got[id].first.Equal(w.first)
		}
		if !same {
			t.Errorf("case %d (maxretry %d, findtime %d, bantime %d):\ngot  %v\nwant %v", n, maxretry, findtime, bantime, got, want)
		}
	}
}

func TestMendDates(t *testing.T) {
	tests := []struct {
		name     string
		at, want []int // seconds; a negative want of -1000-n means n, and off
	}{
		{"in order", []int{1, 2, 3}, []int{1, 2, 3}},
		{"a little out of order", []int{100, 50, 101}, []int{100, 50, 101}},
		{"one from the past", []int{100, 101, 5, 102}, []int{100, 101, -1101, 102}},
		{"one ahead", []int{100, 900, 101, 102}, []int{100, -1100, 101, 102}},
		{"the first one is off", []int{900, 100, 101}, []int{-1100, 100, 101}},
		{"beyond the end", []int{100, 99999, 101}, []int{100, -1100, 101}},
		{"all beyond the end", []int{99999, 99999}, []int{-11060, -11060}},
		{"a silence", []int{100, 5000, 5001}, []int{100, 5000, 5001}},
		{"none", nil, nil},
	}
	for _, tt := range tests {
		events := make([]foundEvent, len(tt.at))
		for i, s := range tt.at {
			events[i].at = t0.Add(time.Duration(s) * time.Second).UnixMicro()
		}
		mendDates(events, t0.Add(10000*time.Second))
		for i, e := range events {
			got := int(e.time().Sub(t0).Seconds())
			if e.off {
				got = -1000 - got
			}
			if got != tt.want[i] {
				t.Errorf("%s: event %d is at %d, want %d", tt.name, i, got, tt.want[i])
			}
		}
	}
}

// TestDiffOfAttack compares both over an hour-long attack, with Debian's own sshd filter: whatever differs is explained by
// the rate estimate, and nobody is banned whom an attacker only named.
func TestDiffOfAttack(t *testing.T) {
	gen := os.Getenv("TOCSIN_GENAUTH")
	if gen == "" {
		t.Skip("TOCSIN_GENAUTH does not name the generator of auth.log")
	}
	if _, err := os.Stat("/etc/fail2ban/filter.d/sshd.conf"); err != nil {
		t.Skip("Debian's fail2ban is not installed: ", err)
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "auth.log")
	if out, err := exec.Command("python3", gen, "--lines", "60000", "--seed", "7", "--attackers", "200", "--attack-share", "0.3",
		"--format", "iso", "--start", "2026-11-01T00:00:00", "--out", log).CombinedOutput(); err != nil {
		t.Fatalf("genauth: %v\n%s", err, out)
	}
	for _, name := range []string{"filter.d", "action.d"} {
		if err := os.Symlink("/etc/fail2ban/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"jail.conf":     "[sshd]\nenabled = true\nfilter = sshd[mode=aggressive]\nbackend = polling\nmaxretry = 5\nfindtime = 10m\nbantime = 10m\nlogpath = " + log + "\n",
		"fail2ban.conf": "[Definition]\ndbfile = None\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := config.Default()
	c.RunFail2ban(dir)
	c.Fail2ban.IPv6Prefix, c.Fail2ban.KnownFactor = 128, 1
	until := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	d, err := CompareFail2ban(context.Background(), DiffOptions{Config: c, Since: until.AddDate(0, -1, 0), Until: until})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Jails) != 1 || d.Jails[0].Both < 100 || d.Lines != 60000 {
		t.Fatalf("%d lines, jails %+v, notes %q", d.Lines, d.Jails, d.Notes)
	}
	for i := range d.Rows {
		r := &d.Rows[i]
		if strings.HasPrefix(r.ID, "203.0.113.2") && len(r.ID) == len("203.0.113.200") && r.ID < "203.0.113.220" {
			t.Errorf("%s was only named in a user name, and is banned: %s", r.ID, r.words())
		}
		why := strings.Join(r.Why, "; ") // the generator's addresses may be those of the network that the test runs in
		if r.Differs() && !strings.HasPrefix(why, "rate estimate: ") && !strings.HasPrefix(why, "on the allow list: ") {
			t.Errorf("%s", r.words())
		}
	}
	t.Logf("%d failures: %+v", d.Failures, d.Jails[0])
}
