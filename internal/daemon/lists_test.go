package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/list"
)

// delivery is a list as the watch process hands it over.
func delivery(t *testing.T, name string, prefixes ...string) string {
	t.Helper()
	return oldDelivery(t, name, 0, prefixes...)
}

// oldDelivery is a list that was fetched a while ago.
func oldDelivery(t *testing.T, name string, age time.Duration, prefixes ...string) string {
	t.Helper()
	var all []netip.Prefix
	for _, s := range prefixes {
		if !strings.Contains(s, "/") {
			a := netip.MustParseAddr(s)
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		all = append(all, netip.MustParsePrefix(s))
	}
	now := time.Now().UTC().Add(-age).Truncate(time.Second)
	k := list.Kept{
		Name: name, Terms: list.Terms{Source: "https://lists.example/" + name, Limit: 10}, Generated: now.Add(-time.Hour), Fetched: now,
		Set: list.NewSet(slices.Values(all)),
	}
	var text bytes.Buffer
	if err := k.Encode(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

const twoLists = `
[[list]]
name = "drop"
url = "https://lists.example/drop"
limit = 5
[[list]]
name = "web"
url = "https://lists.example/web"
ports = [80, 443]
`

func (w *world) list(name string) api.ListState {
	w.t.Helper()
	all, err := w.Lists(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range all.Lists {
		if l.Name == name {
			return l
		}
	}
	return api.ListState{}
}

func TestListsAreTakenKeptAndDropped(t *testing.T) {
	w := newWorld(t, twoLists)
	w.start()
	ctx := context.Background()
	if l := w.list("drop"); l.InForce || l.Taken != nil {
		t.Errorf("before any delivery: %+v", l)
	}
	got, err := w.GiveList(ctx, "drop", strings.NewReader(delivery(t, "drop", "1.2.3.4", "1.2.4.0/24", "2a00:1450::1")))
	if err != nil || !got.InForce || got.Entries != 3 || got.Delivered != 3 || got.Fetched == nil || got.Generated == nil {
		t.Fatalf("GiveList() = %+v, %v; want 3 entries in force", got, err)
	}
	if _, err := w.GiveList(ctx, "web", strings.NewReader(delivery(t, "web", "1.2.3.5"))); err != nil {
		t.Fatal(err)
	}
	if l := w.list("web"); !slices.Equal(l.Ports, []uint16{80, 443}) {
		t.Errorf("ports %v, want those of the configuration", l.Ports)
	}

	w.again()
	if l := w.list("drop"); !l.InForce || l.Entries != 3 {
		t.Errorf("after a restart: %+v, want the list in force", l)
	}
	if _, err := w.DropList(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if l := w.list("web"); l.InForce || !l.Dropped {
		t.Errorf("after a drop: %+v", l)
	}
	w.again()
	if l := w.list("web"); l.InForce {
		t.Errorf("a dropped list is back after a restart: %+v", l)
	}

	w.configure("")
	w.reloaded()
	w.until("the list that nobody names any more is gone", func() bool {
		_, err := os.Stat(filepath.Join(w.dir, "lists", "drop.list"))
		return errors.Is(err, os.ErrNotExist)
	})
}

// Who logged in shortly before the first start is known as well: no list locks him out, and nobody reports him.
func TestMembersFromBeforeTheFirstStart(t *testing.T) {
	w := newWorld(t, twoLists)
	w.logsIn("1.2.3.4", "marie")
	w.start()
	ctx := context.Background()
	w.until("the login is known", func() bool {
		s, err := w.Spared(ctx, netip.MustParsePrefix("1.2.3.4/32"))
		return err == nil && s.Known
	})
	l, err := w.GiveList(ctx, "drop", strings.NewReader(delivery(t, "drop", "1.2.3.4", "1.2.3.5")))
	if err != nil || l.Members != 1 || l.Entries != 1 {
		t.Errorf("%+v, %v; want the member let through", l, err)
	}
	for range 2 {
		w.again()
	}
	if s, err := w.Status(ctx); err != nil || s.Jails[0].Logins != 0 {
		t.Errorf("logins since the start: %+v, %v; want none", s.Jails, err)
	}
}

// An old list stays in force, and doctor says how old it is, also where it was only just handed over.
func TestOldListsAreTold(t *testing.T) {
	w := newWorld(t, twoLists)
	w.start()
	ctx := context.Background()
	for name, age := range map[string]time.Duration{"drop": 100 * time.Hour, "web": 70 * time.Hour} {
		if _, err := w.GiveList(ctx, name, strings.NewReader(oldDelivery(t, name, age, "1.2.3.4"))); err != nil {
			t.Fatal(err)
		}
	}
	w.again()
	d, err := w.Doctor(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, f := range d.Findings {
		if f.Code == "TOC-LST-002" {
			told = append(told, f.Text)
		}
	}
	if want := []string{"list drop was fetched 4 days ago, more than 3d; it stays in force until a newer one comes"}; !slices.Equal(told, want) {
		t.Errorf("doctor tells %q, want %q", told, want)
	}
	if l := w.list("drop"); !l.InForce || l.Entries != 1 {
		t.Errorf("an old list: %+v, want it in force", l)
	}
}

// A list that nobody named any more when the guard started is gone as well, also one that was damaged.
func TestListsOfFormerConfigurationsAreGone(t *testing.T) {
	w := newWorld(t, twoLists)
	w.start()
	if _, err := w.GiveList(context.Background(), "drop", strings.NewReader(delivery(t, "drop", "1.2.3.4"))); err != nil {
		t.Fatal(err)
	}
	w.end()
	for _, name := range []string{"old.list", "old.list.damaged", "older.refused.new"} {
		if err := os.WriteFile(filepath.Join(w.dir, "lists", name), []byte("no list"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.configure("[[list]]\nname = \"web\"\nurl = \"https://lists.example/web\"\n")
	w.start()
	left, err := os.ReadDir(filepath.Join(w.dir, "lists"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func (w *world) reloaded() {
	w.t.Helper()
	if _, err := w.Reload(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// Whoever has taken over the watch process can hand over only what could have come from a list that root asked for.
func TestListsAreCheckedAgain(t *testing.T) {
	w := newWorld(t, twoLists)
	w.start()
	ctx := context.Background()
	good := delivery(t, "drop", "1.2.3.4", "1.2.3.5")
	if _, err := w.GiveList(ctx, "drop", strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, list, text string
		want             string
	}{
		{"a list that nobody asked for", "mine", delivery(t, "mine", "1.2.3.4"), "the configuration names no list"},
		{"a name that leads elsewhere", "..%2Fx", good, "the configuration names no list"},
		{"another list's", "web", good, "calls itself"},
		{"more than the limit", "drop", delivery(t, "drop", "1.0.0.1", "1.0.0.3", "1.0.0.5", "1.0.0.7", "1.0.0.9", "1.0.0.11"), "the limit is 5"},
		{"nothing", "drop", "", "is not taken"},
		{"an empty one", "drop", delivery(t, "drop"), "is not taken"},
		{"a web page", "drop", "<html><body>503</body></html>", "is not taken"},
		{"a changed entry", "drop", strings.Replace(good, "1.2.3.4", "1.2.3.3", 1), "is not taken"},
		{"half of it", "drop", good[:len(good)-5], "is not taken"},
	}
	for _, tt := range tests {
		_, err := w.GiveList(ctx, tt.list, strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.want)
		}
		if l := w.list("drop"); l.Entries != 2 {
			t.Fatalf("%s: %d entries in force, want the 2 from before", tt.name, l.Entries)
		}
	}
}

func TestNoListBlocksMembersOrAllowed(t *testing.T) {
	w := newWorld(t, twoLists)
	w.start()
	ctx := context.Background()
	w.logsIn("1.2.3.4", "marie")
	w.settled()
	if _, err := w.Allow(ctx, api.AllowRequest{Prefix: "1.2.4.128/25", By: "root"}); err != nil {
		t.Fatal(err)
	}
	give := func() api.ListState {
		l, err := w.GiveList(ctx, "drop", strings.NewReader(delivery(t, "drop", "1.2.3.4", "1.2.3.5", "1.2.4.0/24", "2a00:1450:1:2::7")))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w.until("the login is known", func() bool { return give().Members == 1 })
	l := w.list("drop")
	if l.Delivered != 4 || l.Entries != 3 || l.Allowed != 1 {
		t.Errorf("%+v; want 4 delivered, 3 in force (one of them half), 1 of the allow list", l)
	}
	d, err := w.Doctor(ctx)
	if err != nil || !slices.ContainsFunc(d.Findings, func(f api.Finding) bool {
		return f.Code == "TOC-LST-003" && strings.Contains(f.Text, "1 address of your members is in it")
	}) {
		t.Errorf("doctor says nothing of the member: %+v, %v", d.Findings, err)
	}

	// Who logs in later is let through as well: the whole /64 of an IPv6 address, which is one customer's.
	w.logsIn("2a00:1450:1:2::99", "paul")
	w.until("the new member is let through", func() bool { l := w.list("drop"); return l.Members == 2 && l.Entries == 2 })
	if _, err := w.Allow(ctx, api.AllowRequest{Prefix: "1.2.3.5", By: "root"}); err != nil {
		t.Fatal(err)
	}
	w.until("the newly allowed is let through", func() bool { return w.list("drop").Entries == 1 })
	w.again()
	if l := w.list("drop"); l.Members != 2 || l.Allowed != 2 || l.Entries != 1 {
		t.Errorf("after a restart: %+v; want the same exempt", l)
	}
}

// Decisions leave the guard without anything that a stranger wrote.
func TestDecisionsTellNumbersOnly(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	first, err := w.Decisions(ctx, api.DecisionsQuery{After: -1})
	if err != nil || first.Newest != 0 || len(first.Decisions) != 0 {
		t.Fatalf("an empty store: %+v, %v", first, err)
	}
	w.logsIn("1.2.3.9", "canary-user")
	w.settled()
	w.fails(5, "1.2.3.4", "canary-user")
	w.banned("1.2.3.4")
	got, err := w.Decisions(ctx, api.DecisionsQuery{Wait: time.Minute})
	if err != nil || len(got.Decisions) != 1 {
		t.Fatalf("Decisions() = %+v, %v", got, err)
	}
	d := got.Decisions[0]
	if d.Jail != "sshd" || d.Prefix != "1.2.3.4/32" || d.Addr != "1.2.3.4" || d.Action != "ban" || d.Origin != "jail" || d.Failures != 5 ||
		d.MaxRetry != 5 || d.First == nil || d.Last == nil || d.Known || d.Allowed {
		t.Errorf("decision %+v", d)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"canary", "web1", "Failed", "auth.log"} {
		if strings.Contains(string(text), canary) {
			t.Errorf("the answer holds %q: %s", canary, text)
		}
	}
	if _, err := w.Unban(ctx, api.UnbanRequest{Prefix: "1.2.3.4", By: "canary-operator", Reason: "canary reason"}); err != nil {
		t.Fatal(err)
	}
	next, err := w.Decisions(ctx, api.DecisionsQuery{After: got.Next, Wait: time.Minute})
	if err != nil || len(next.Decisions) != 1 || next.Decisions[0].Action != "unban" || next.Next != next.Newest {
		t.Errorf("after the unban: %+v, %v", next, err)
	}
	for addr, want := range map[string]api.Spared{"1.2.3.9/32": {Known: true}, "1.2.3.4/32": {}, "127.0.0.1/32": {Own: true, Allowed: true}} {
		s, err := w.Spared(ctx, netip.MustParsePrefix(addr))
		if err != nil || s.Known != want.Known || s.Own != want.Own || s.Allowed != want.Allowed {
			t.Errorf("Spared(%s) = %+v, %v; want %+v", addr, s, err, want)
		}
	}
}

func TestMemberPrefix(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3::4": "2001:db8:1:2::/64"} {
		if got := tocsin.PrefixString(memberPrefix(netip.MustParseAddr(addr))); got != want {
			t.Errorf("memberPrefix(%s) = %s, want %s", addr, got, want)
		}
	}
}
