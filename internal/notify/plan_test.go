package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tocsin"
	"tocsin/internal/locale"
)

// sent is what a way in memory was given.
type sent struct {
	mu    sync.Mutex
	lines []string
	fail  func() error
}

func (s *sent) send(_ context.Context, l *letter, _ func(string)) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(); err != nil {
			return "", err
		}
	}
	s.lines = append(s.lines, time.Now().UTC().Format("02 15:04")+" "+strings.ReplaceAll(l.subject, "\u202f", " "))
	return "ok", nil
}

func (s *sent) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// memory makes a notifier whose ways lead into memory, and runs it until the test ends.
func memory(t *testing.T, b *box, night func(context.Context, time.Time, time.Time) (Night, error), contacts ...Contact) (*Notifier, *sent, func()) {
	t.Helper()
	s := &sent{}
	for i := range contacts {
		contacts[i].Ntfy = "http://localhost/x"
	}
	n, err := New(t.Context(), Options{Contacts: contacts, Outbox: b, Night: night, Host: "hub"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range n.people {
		for _, w := range p.ways {
			w.send = s.send
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	return n, s, func() { cancel(); <-done }
}

// happens tells of incident id at once.
func happens(t *testing.T, n *Notifier, id int64, what tocsin.Turn, u tocsin.Urgency, group string) {
	t.Helper()
	c := tocsin.Change{Turn: what, At: time.Now(), Tell: true, Incident: tocsin.Incident{
		ID: id, Rule: "silent", Group: group, Node: fmt.Sprintf("web%d", id), Level: tocsin.Warning, Worst: tocsin.Warning, Urgency: u, Began: time.Now().Truncate(24 * time.Hour), Changed: time.Now()}}
	if what == tocsin.Over {
		c.Level, c.Ended = tocsin.Fine, time.Now()
	}
	if err := n.Tell(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func check(t *testing.T, s *sent, want ...string) {
	t.Helper()
	synctest.Wait()
	got := s.all()
	slices.Sort(got) // several contacts are told at the same moment, in no order
	slices.Sort(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// The bubble's clock begins at midnight UTC of 1 January 2000.
func TestWhoIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urgent, ovh := contact("urgent"), contact("ovh")
		urgent.Urgency, ovh.Groups = tocsin.Urgent, []string{"OVH"}
		n, s, stop := memory(t, newBox(), nil, urgent, ovh)
		defer stop()
		happens(t, n, 1, tocsin.Began, tocsin.Soon, "OVH;Paris")      // ovh
		happens(t, n, 2, tocsin.Began, tocsin.Soon, "OVHx")           // nobody
		happens(t, n, 3, tocsin.Began, tocsin.Urgent, "Gandi")        // urgent
		happens(t, n, 4, tocsin.Began, tocsin.Digest, "OVH")          // nobody
		happens(t, n, 4, tocsin.Over, tocsin.Digest, "OVH")           // nobody: they know nothing of it
		happens(t, n, 1, tocsin.Worsened, tocsin.Urgent, "OVH;Paris") // ovh, urgent
		happens(t, n, 1, tocsin.Over, tocsin.Digest, "OVH;Paris")     // ovh, urgent: they know of it
		quiet := tocsin.Change{Incident: tocsin.Incident{ID: 9, Urgency: tocsin.Urgent}, Turn: tocsin.Began}
		if err := n.Tell(t.Context(), quiet); err != nil {
			t.Error(err)
		}
		named := tocsin.Change{Incident: tocsin.Incident{ID: 10, Rule: "silent", Node: "named", Urgency: tocsin.Urgent, Began: time.Now()}, Turn: tocsin.Began, Tell: true, Contacts: []string{"urgent"}}
		if err := n.Tell(t.Context(), named); err != nil {
			t.Error(err)
		}
		check(t, s, "01 00:00 [#1] web1 sans nouvelles", "01 00:00 [#3] web3 sans nouvelles",
			"01 00:00 Re: [#1] web1 sans nouvelles — désormais attention", "01 00:00 [#1] web1 sans nouvelles",
			"01 00:00 Re: [#1] web1 sans nouvelles — résolu après 0 s", "01 00:00 Re: [#1] web1 sans nouvelles — résolu après 0 s",
			"01 00:00 [#10] named sans nouvelles")
	})
}

func TestQuietHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := contact("a")
		c.Quiet = Hours{22 * time.Hour, 7*time.Hour + 30*time.Minute}
		b := newBox()
		n, s, stop := memory(t, b, nil, c)
		happens(t, n, 1, tocsin.Began, tocsin.Soon, "")   // held
		happens(t, n, 2, tocsin.Began, tocsin.Urgent, "") // at once
		happens(t, n, 3, tocsin.Began, tocsin.Soon, "")   // held, and over before the morning: never told
		happens(t, n, 4, tocsin.Began, tocsin.Soon, "")   // held, then worse
		time.Sleep(time.Hour)
		happens(t, n, 3, tocsin.Over, tocsin.Soon, "")
		happens(t, n, 4, tocsin.Worsened, tocsin.Urgent, "") // at once, as the first message
		happens(t, n, 1, tocsin.Altered, tocsin.Soon, "")    // takes the place of what is held
		stop()                                               // a restart forgets nothing
		n, s2, stop := memory(t, b, nil, c)
		defer stop()
		happens(t, n, 2, tocsin.Over, tocsin.Soon, "") // held
		time.Sleep(6 * time.Hour)
		check(t, s, "01 00:00 [#2] web2 sans nouvelles", "01 01:00 [#4] web4 sans nouvelles")
		check(t, s2)
		time.Sleep(time.Hour)
		check(t, s2, "01 07:30 [#1] web1 sans nouvelles", "01 07:30 Re: [#2] web2 sans nouvelles — résolu après 1 h")
		time.Sleep(13 * time.Hour)
		happens(t, n, 5, tocsin.Began, tocsin.Soon, "") // 21:00
		time.Sleep(2 * time.Hour)
		happens(t, n, 6, tocsin.Began, tocsin.Soon, "") // 23:00
		time.Sleep(12 * time.Hour)
		check(t, s2, "01 07:30 [#1] web1 sans nouvelles", "01 07:30 Re: [#2] web2 sans nouvelles — résolu après 1 h", "01 21:00 [#5] web5 sans nouvelles", "02 07:30 [#6] web6 sans nouvelles")
	})
}

func TestQuietHoursAndTheClock(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	night := Hours{22 * time.Hour, 7 * time.Hour}
	for _, tt := range []struct {
		hours    Hours
		at, want string
	}{
		{night, "2026-03-28 23:00", "2026-03-29 07:00"}, // 8 hours, one of them left out
		{night, "2026-10-24 23:00", "2026-10-25 07:00"}, // 9
		{night, "2026-10-25 07:00", "2026-10-25 07:00"},
		{night, "2026-10-25 06:59", "2026-10-25 07:00"},
		{night, "2026-12-31 22:00", "2027-01-01 07:00"},
		{night, "2026-12-31 21:59", "2026-12-31 21:59"},
		{Hours{time.Hour, 2*time.Hour + 30*time.Minute}, "2026-03-29 01:30", "2026-03-29 03:30"}, // there is no half past two
		{Hours{12 * time.Hour, 14 * time.Hour}, "2026-05-01 13:00", "2026-05-01 14:00"},
		{Hours{}, "2026-05-01 13:00", "2026-05-01 13:00"},
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", tt.at, paris)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.hours.after(at).Format("2006-01-02 15:04"); got != tt.want {
			t.Errorf("%v at %s: %s, want %s", tt.hours, tt.at, got, tt.want)
		}
	}
}

// What is more than an hour takes becomes one message.
func TestTooMuchBecomesOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := contact("a")
		c.PerHour = 3
		b := newBox()
		n, s, stop := memory(t, b, nil, c)
		for id := range int64(15) {
			happens(t, n, id+1, tocsin.Began, tocsin.Urgent, "")
			time.Sleep(time.Minute)
		}
		happens(t, n, 15, tocsin.Over, tocsin.Urgent, "") // nobody was told of it
		stop()
		n, s2, stop := memory(t, b, nil, c)
		time.Sleep(2 * time.Hour)
		check(t, s, "01 00:00 [#1] web1 sans nouvelles", "01 00:01 [#2] web2 sans nouvelles", "01 00:02 [#3] web3 sans nouvelles")
		check(t, s2, "01 01:00 Tocsin : et 11 autres alertes")
		happens(t, n, 4, tocsin.Over, tocsin.Urgent, "") // it was told in the many
		check(t, s2, "01 01:00 Tocsin : et 11 autres alertes", "01 02:15 Re: [#4] web4 sans nouvelles — résolu après 2 h 15 min")
		stop()
		if waiting, _ := b.WaitingNotices(t.Context()); len(waiting) != 0 {
			t.Errorf("%d wait", len(waiting))
		}
	})
}

// A receiver that is down is tried for a day, in growing waits; then the message is given up, and told of.
func TestTriedForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		n, s, stop := memory(t, b, nil, contact("a"))
		defer stop()
		tries := 0
		s.fail = func() error { tries++; return errors.New("connection refused") }
		happens(t, n, 1, tocsin.Began, tocsin.Urgent, "")
		time.Sleep(time.Hour)
		synctest.Wait()
		st := n.Status()[0]
		s.mu.Lock()
		hour := tries
		s.mu.Unlock()
		if hour < 6 || hour > 10 || st.Since.IsZero() || st.Problem != "connection refused" || st.Waiting != 1 {
			t.Errorf("%d tries in an hour, %+v", hour, st)
		}
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		s.mu.Lock()
		all := tries
		s.mu.Unlock()
		if m := b.some(func(tocsin.Notice) bool { return true })[0]; m.State != tocsin.Failed || all > 40 || m.Ended.Sub(m.Made) < 23*time.Hour || m.Ended.Sub(m.Made) > 26*time.Hour {
			t.Errorf("%s after %s and %d tries", m.State, m.Ended.Sub(m.Made), all)
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		happens(t, n, 2, tocsin.Began, tocsin.Urgent, "")
		time.Sleep(10 * time.Minute)
		check(t, s, "02 07:00 [#2] web2 sans nouvelles")
	})
}

// Where the outbox cannot be written people are told all the same.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		n, s, stop := memory(t, b, nil, contact("a"))
		defer stop()
		b.mu.Lock()
		b.fails = errors.New("no space left on device")
		b.mu.Unlock()
		c := turn(tocsin.Began, time.Now())
		if err := n.Tell(t.Context(), c); err == nil {
			t.Error("no error")
		}
		check(t, s, "01 00:00 [#1042] mail2.exemple.org sans nouvelles")
	})
}

func TestQueueIsBounded(t *testing.T) {
	w := &way{wake: make(chan struct{}, 1)}
	for i := range maxQueue + 10 {
		u := tocsin.Soon
		if i == 5 {
			u = tocsin.Digest
		}
		w.add(tocsin.Notice{ID: int64(i + 1), Urgency: u})
	}
	if len(w.queue) != maxQueue || w.lost != 10 || w.queue[0].ID != 11 {
		t.Errorf("%d wait, %d lost, the first is %d", len(w.queue), w.lost, w.queue[0].ID)
	}
	p := &person{Contact: contact("a"), told: map[int64]told{}}
	for i := range maxTold + 5 {
		p.know(int64(i), told{at: began.Add(time.Duration(i))})
	}
	if _, ok := p.told[0]; ok || len(p.told) != maxTold {
		t.Errorf("%d incidents are remembered", len(p.told))
	}
}

func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := contact("ca")
		c.Digest = 7 * time.Hour
		b := newBox()
		var asked []string
		night := func(_ context.Context, from, to time.Time) (Night, error) {
			asked = append(asked, from.Format("02 15:04")+" to "+to.Format("02 15:04"))
			return Night{From: from, To: to, Servers: 32, Bans: 96}, nil
		}
		_, s, stop := memory(t, b, night, c)
		time.Sleep(31*time.Hour + time.Minute)
		check(t, s, "01 07:00 Tocsin : tout va bien — 96 adresses bannies cette nuit", "02 07:00 Tocsin : tout va bien — 96 adresses bannies cette nuit")
		stop()
		_, s, stop = memory(t, b, night, c) // it was made already
		time.Sleep(time.Hour)
		check(t, s)
		stop()
		time.Sleep(23*time.Hour + 30*time.Minute)
		_, s, stop = memory(t, b, night, c) // late, but not too late
		check(t, s, "03 07:31 Tocsin : tout va bien — 96 adresses bannies cette nuit")
		stop()
		time.Sleep(27 * time.Hour)
		_, s, stop = memory(t, b, night, c) // too late for that of the fourth
		time.Sleep(time.Hour)
		check(t, s)
		stop()
		if got := strings.Join(asked, ", "); got != "31 20:00 to 01 07:00, 01 20:00 to 02 07:00, 02 20:00 to 03 07:00" {
			t.Errorf("nights %s", got)
		}
	})
}

func TestNightText(t *testing.T) {
	to := time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	mail2 := tocsin.Incident{ID: 1042, Rule: "silent", Node: "mail2", Worst: tocsin.Critical, Began: to.Add(-260 * time.Minute), Ended: to.Add(-248 * time.Minute)}
	disk := tocsin.Incident{ID: 1038, Rule: "x", Node: "web3", Worst: tocsin.Warning, Level: tocsin.Warning, Series: tocsin.Series{Service: "df", Field: "_var"}, Label: "/var\n", Limit: ":90", Value: 91, Began: to.Add(-48 * time.Hour)}
	n := Night{From: to.Add(-11 * time.Hour), To: to, Servers: 32, Silent: []string{"mail2"}, Incidents: []tocsin.Incident{disk, mail2, {Ended: to, Worst: tocsin.Unknown}}, Bans: 96, Usual: [2]int{80, 120}, Reported: 88,
		Reboots: []Event{{Server: "web4\x1b", At: to.Add(-4 * time.Hour)}}, Upgrades: []Event{{Server: "web4", N: 12}, {Server: "web5", N: 1}}}
	for _, tt := range []struct {
		lang, subject, text string
	}{{"fr", "2 choses à voir — 96 adresses bannies cette nuit", `La nuit du 20 nov. 20:00 à 07:00.

À voir
* #1038 web3_: df (/var\n) à 91 (depuis 19 nov. 07:00, pas fini)
* #1042 mail2 sans nouvelles (02:40, fini après 12_min)

Tout le reste va bien, sur 32 serveurs.
1 serveur est sans nouvelles_: mail2.
96 adresses bannies (d’habitude 80 à 120), 88 signalées.
Redémarrages_: web4\x1b (03:00).
Mises à jour_: web4 (12 paquets) et web5 (1 paquet).

https://t.example/alerts
`}, {"en", "2 things to look at — 96 addresses banned last night", `The night from 20 Nov 20:00 to 07:00.

To look at
* #1038 web3: df (/var\n) at 91 (since 19 Nov 07:00, not over)
* #1042 mail2 without news (02:40, over after 12~min)

All the rest is well, on 32 servers.
1 server is without news: mail2.
96 addresses banned (usually 80 to 120), 88 reported.
Restarted: web4\x1b (03:00).
Upgraded: web4 (12 packages) and web5 (1 package).

https://t.example/alerts
`}} {
		subject, text := n.Text(locale.Get(tt.lang).In(time.UTC), "https://t.example")
		text = strings.NewReplacer("\u202f", "_", "\u00a0", "~").Replace(text)
		if subject != tt.subject || text != tt.text {
			t.Errorf("got %q\n%s\nwant %q\n%s", subject, text, tt.subject, tt.text)
		}
	}
	days := Night{From: to.Add(-72 * time.Hour), To: to, Bans: -1}
	if subject, text := days.Text(french, ""); subject != "tout va bien" || !strings.HasPrefix(text, "Du 18 nov. 07:00 au 21 nov. 07:00.\n\n") {
		t.Errorf("three days: %q\n%s", subject, text)
	}
	for range 40 {
		n.Incidents = append(n.Incidents, disk)
	}
	if _, text := n.Text(french, ""); strings.Count(text, "\n") > 40 || !strings.Contains(text, "et 27 autres") {
		t.Errorf("many incidents:\n%s", text)
	}
}

func TestNewRefuses(t *testing.T) {
	twice := []Contact{contact("a"), contact("a")}
	bad := contact("a")
	bad.Mail = []string{"x@example.org"}
	for name, o := range map[string]Options{"twice": {Contacts: twice}, "no language": {Contacts: []Contact{{Name: "a", PerHour: 1}}},
		"no server": {Contacts: []Contact{bad}, Mail: Mail{Server: "x"}}, "no outbox": {Outbox: &box{fails: errors.New("x")}}} {
		if o.Outbox == nil {
			o.Outbox = newBox()
		}
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What waits for somebody whom the configuration does not name any more is given up.
func TestReceiverThatIsGone(t *testing.T) {
	b := newBox()
	if err := b.AddNotices(t.Context(), []tocsin.Notice{{Contact: "gone", Via: "ntfy", Kind: "began", Body: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Options{Outbox: b}); err != nil {
		t.Fatal(err)
	}
	if m := b.some(func(tocsin.Notice) bool { return true })[0]; m.State != tocsin.Failed || !strings.Contains(m.Said, "no such receiver") {
		t.Errorf("%+v", m)
	}
}
