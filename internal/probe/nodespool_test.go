package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/munin"
)

// keeper is a node like munin-asyncd: it reads two services every minute, one half a minute after the other, keeps them with
// their description, and gives them away in blocks.
type keeper struct {
	began, now int64 // Unix seconds
	asked      []int64
	extra      string // behind everything
}

func (k *keeper) spool(since int64) string {
	k.asked = append(k.asked, since)
	var b strings.Builder
	for at := k.began; at <= k.now; at += 60 {
		if at > since {
			fmt.Fprintf(&b, "multigraph load\ngraph_title Load\nload.label load\nload.value %d:%d\n", at, at%7)
		}
	}
	for at := k.began + 30; at <= k.now; at += 60 {
		if at > since {
			fmt.Fprintf(&b, "multigraph disk\n\nmultigraph disk.vda\ngraph_title vda\nio.label io\nio.type DERIVE\nmultigraph disk.vda\nio.value %d:%d\n", at, 5*(at-k.began))
		}
	}
	return b.String() + k.extra
}

// keeping makes the poll of a keeper, which began some time ago.
func keeping(t *testing.T, age time.Duration) (k *keeper, p *poll, pass func(time.Duration)) {
	t.Helper()
	p, passed := polled(t, nil, Node{Group: "TTN", Name: "mail1"})
	now := p.h.Now().Unix()
	k = &keeper{began: now - int64(age/time.Second), now: now}
	n := &said{banner: "mail1", spool: k.spool}
	p.dial = n.dial
	return k, p, func(d time.Duration) { passed(d); k.now += int64(d / time.Second) }
}

// What was kept while nobody could ask comes in later, each value once and with its own time.
func TestPollSpool(t *testing.T) {
	k, p, pass := keeping(t, 5*time.Hour)
	rates := NewRates(RatesOptions{})
	got := map[string][]int64{}
	poll := func() {
		t.Helper()
		for _, rd := range take(t, p) {
			if rd.Group != "TTN" || rd.Node != "mail1" {
				t.Errorf("a reading of %s;%s", rd.Group, rd.Node)
			}
			for _, s := range rates.Samples(nil, &rd) {
				got[s.Series.Service+"."+s.Series.Field] = append(got[s.Series.Service+"."+s.Series.Field], s.T/1000)
				if s.Series.Service == "disk.vda" && s.Value != 5 {
					t.Errorf("%s at %d is %v, want 5 a second", s.Series.Service, s.T, s.Value)
				}
			}
		}
	}
	start := k.now
	poll()
	if since := k.asked[0]; since != start-int64(spoolBack/time.Second) {
		t.Errorf("asked first for what is %ds old", start-since)
	}
	for range 3 {
		pass(time.Minute)
		poll()
	}
	pass(30 * time.Minute) // the network was down
	poll()
	pass(20 * time.Second) // only one of the services has something new
	poll()
	pass(40 * time.Minute)
	poll()
	for name, times := range got {
		for i := range times[1:] {
			if times[i+1]-times[i] != 60 {
				t.Errorf("%s: a value %ds after the one before, want 60", name, times[i+1]-times[i])
			}
		}
		if last := times[len(times)-1]; k.now-last >= 60 {
			t.Errorf("%s: the last value is %ds old", name, k.now-last)
		}
		if first := times[0]; first > start-50*60 {
			t.Errorf("%s: the first value is of %ds before the first poll", name, start-first)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d series: %v", len(got), got)
	}
	for i, since := range k.asked[2:] {
		if age := k.now - since; age > 80*60 {
			t.Errorf("poll %d asked for what is %ds old", i+3, age)
		}
	}
	if st := p.said(); st.Plugins != 3 || st.Troubles != 0 {
		t.Errorf("state %+v", st)
	}
}

// After a restart what is in the store is not asked for again, but for as much as a rate needs.
func TestPollSpoolAfterRestart(t *testing.T) {
	k, p, _ := keeping(t, 5*time.Hour)
	p.spool.newest = func(group, node string) time.Time {
		if group != "TTN" || node != "mail1" {
			t.Errorf("the newest of %s;%s is asked for", group, node)
		}
		return time.Unix(k.now-120, 0)
	}
	rates := NewRates(RatesOptions{})
	var samples []int64
	for _, rd := range take(t, p) {
		for _, s := range rates.Samples(nil, &rd) {
			if s.Series.Service == "disk.vda" {
				samples = append(samples, k.now-s.T/1000)
			}
		}
	}
	if since := k.asked[0]; since != k.now-120-600 {
		t.Errorf("asked for what is %ds old, want 720", k.now-since)
	}
	if len(samples) < 10 || !slices.Contains(samples, 30) || !slices.Contains(samples, 90) {
		t.Errorf("rates of the age of %v s", samples)
	}
}

func TestPollSpoolTrouble(t *testing.T) {
	k, p, pass := keeping(t, 0)
	k.began += 3600
	if _, err := p.take(t.Context()); err == nil || !strings.Contains(err.Error(), "kept nothing of the last 55m0s: does munin-asyncd run there?") {
		t.Errorf("a node that keeps nothing: %v", err)
	}
	k.began = k.now - 60
	take(t, p)
	stopped := k.now
	pass(25 * time.Minute)
	k.now = stopped
	if rs, err := p.take(t.Context()); len(rs) > 0 || err == nil || !strings.Contains(err.Error(), "kept nothing since 20") {
		t.Errorf("a node that keeps no more: %d readings, %v", len(rs), err)
	}
	// What is of tomorrow is not taken, and does not keep us from asking for what is of today.
	k.now = p.h.Now().Unix()
	k.extra = fmt.Sprintf("multigraph odd\ngraph_title x\na.label a\na.value %d:1\nnonsense\n", k.now+86400)
	got := toldBy(take(t, p))
	if strings.Contains(got, "odd.a") || !strings.Contains(got, "load.load=") {
		t.Errorf("got %s", got)
	}
	if st := p.said(); st.Troubles != 1 || !strings.Contains(st.Trouble["spoolfetch"], "nonsense") {
		t.Errorf("state %+v", st)
	}
	if p.spool.last > k.now {
		t.Errorf("the newest value is %ds ahead", p.spool.last-k.now)
	}
}

// A node that is asked live as long as it has kept nothing is asked for what it kept from then on; nothing comes twice.
func TestPollSpoolOfAYoungNode(t *testing.T) {
	k, p, pass := keeping(t, 0)
	began := k.now + 150
	k.began = began
	n := &said{banner: "mail1", spool: k.spool, also: " multigraph", answer: map[string]string{
		"list": "load", "config load": "graph_title Load\nload.label load\n", "fetch load": "load.value 9\n",
	}}
	p.dial = n.dial
	rates := NewRates(RatesOptions{})
	var got []string
	for range 6 {
		for _, rd := range take(t, p) {
			for _, s := range rates.Samples(nil, &rd) {
				if s.Series.Service == "load" {
					got = append(got, fmt.Sprintf("%d=%v", s.T/1000-began, s.Value))
				}
			}
		}
		pass(time.Minute)
	}
	if got, want := strings.Join(got[:4], " "), fmt.Sprintf("-150=9 -90=9 -30=9 0=%d", began%7); got != want || n.count() == "" {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Texts that come with values are the field's, and what stays the same stays the same in memory.
func TestPollExtinfo(t *testing.T) {
	n := &said{banner: "web1", answer: map[string]string{
		"list": "df", "config df": "graph_title Disks\nvda.label /\nvda.extinfo old\n", "fetch df": "vda.value 93\nvda.extinfo 2 GB left\n",
	}}
	p, pass := polled(t, n, Node{Name: "web1"})
	var all []*munin.Service
	for range 3 {
		all = append(all, take(t, p)[0].Service)
		pass(time.Minute)
	}
	n.say("fetch df", "vda.value 94\nvda.extinfo 1 GB left\n")
	all = append(all, take(t, p)[0].Service)
	if all[0] != all[1] || all[1] != all[2] || all[2] == all[3] {
		t.Errorf("descriptions %p, want the first three the same and the last another", all)
	}
	for i, want := range map[int]string{0: "2 GB left", 3: "1 GB left"} {
		if text, _ := all[i].Field("vda").Get("extinfo"); text != want {
			t.Errorf("extinfo of reading %d is %q, want %q", i, text, want)
		}
	}
}
