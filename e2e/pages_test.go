package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

const pagesPassword = "un mot de passe assez long"

// strangers is text that somebody wrote who wishes us ill: markup, an escape of terminals, and one that turns the line around.
const strangers = "<script>hacked=1</script><img src=x onerror=hacked=1>\x1b[31m\u202eevil\u202c\"'&lt;"

// pagesSettings are a small association: its own server with the guard, and rules that need no patience.
const pagesSettings = `listen = "` + ours + `"
[web]
title = "Association Exemple"
[watch]
name = "asso1"
group = "Salle de l’association"
munin_plugins = ""
[[rule]]
name = "disk-space"
for = "0s"
[[rule]]
name = "server-silent"
for = "20s"
[[rule]]
name = "outage"
for = "20s"
` + sshd

// TestPages shows the pages of the whole program to a real browser: servers with a past, bans of a real attack, open alerts.
func TestPages(t *testing.T) {
	browser := browse(t)
	w := watchScene(t, 3*time.Minute)
	p := &park{}
	port := uint16(5000)
	for _, s := range []struct {
		group string
		names []string
	}{
		{"OVH", []string{"web1.asso.example", "web2.asso.example", "web3.asso.example", "listes.asso.example"}},
		{"Scaleway", []string{"mail1.asso.example", "mail2.asso.example", "nuage.asso.example"}},
		{"Hébergeur associatif", []string{"visio.asso.example", "sauvegardes-hors-site.asso.example"}},
	} {
		for _, name := range s.names {
			port++
			p.add(s.group, name, port, 40+float64(port%7)*4)
		}
	}
	web3 := p.servers[2]
	web3.services[2].fields[1].at = func(t float64) float64 { return 93 + daily(9, -1, 0)(t) }
	web3.services = append(web3.services, parkedService{"hostile", "graph_title " + strangers + "\ngraph_category system\ngraph_info " + strangers + "\na.label " + strangers + "\na.info " + strangers + "\na.warning :1\na.extinfo " + strangers + "\n",
		[]parkedField{{"a", daily(1, 2, 9)}}})
	p.servers[5].silent = true

	stop, err := p.answer(w.Victim.Host, p.servers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.configure(pagesSettings + p.settings())
	w.run("--config", configFile)
	w.answers()
	history := api.NewWatchClient(w.Victim.Path(daemon.WatchSocket(stateDir)))
	now := time.Now()
	for _, past := range []struct {
		of     []*parked
		tables []table
	}{{p.servers[2:3], allTables}, {append(p.servers[:2:2], p.servers[3:]...), dayTables}} {
		if _, err := p.remember(w.ctx, history, past.of, past.tables, now); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("history after %v", time.Since(now).Round(time.Millisecond))
	w.guess(w.Attacker, 5, wrong(lab.VictimAttacker, 22))
	w.must("ban", "203.0.113.7", "--for", "1h", "--reason", "scans <b>everything</b>")

	base := forward(t, w.Victim.Host, netip.MustParseAddrPort(ours))
	link := func(name, role string) string {
		t.Helper()
		var made api.UserLink
		if err := json.Unmarshal([]byte(w.must("user", "add", name, "--role", role, "--json")), &made); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(made.URL)
		if err != nil {
			t.Fatal(err)
		}
		return u.Path
	}

	// The first administrator comes by a link that is good once.
	marie := newWindow(t, browser, base)
	marie.goTo("/")
	marie.audit("login")
	marie.shoot("login")
	path := link("marie", "admin")
	marie.goTo(path)
	marie.audit("start")
	marie.shoot("start")
	marie.do("choose a password", chromedp.SendKeys(css("#password"), pagesPassword), chromedp.SendKeys(css("#again"), pagesPassword+kb.Enter), chromedp.WaitReady(css(".me")))
	again := newWindow(t, browser, base)
	again.refuses(path, 404)

	var open api.Alerts
	w.within(4*answer, "three alerts", func() (bool, error) {
		open = ask[api.Alerts](w.scene, "alerts")
		time.Sleep(200 * time.Millisecond)
		return len(open.Alerts) >= 3, nil
	})
	t.Logf("alerts after %v", time.Since(now).Round(time.Millisecond))
	t.Run("looks", func(t *testing.T) { looks(t, marie, open) })
	_, _, _ = fmt.Sprint, strings.Contains, again
}

// pagesLooked are the pages that are looked at; %d is the number of an alert.
var pagesLooked = []struct{ name, path string }{
	{"overview", "/"}, {"server", "/server/OVH/web3.asso.example"}, {"graph", "/graph/OVH/web3.asso.example/if_ens3"},
	{"large", "/graph/OVH/web3.asso.example/cpu?range=week&behind=7"}, {"hostile", "/graph/OVH/web3.asso.example/hostile?range=day"}, {"compare", "/compare/OVH/cpu"},
	{"alerts", "/alerts"}, {"alert", "/alert/%d"}, {"bans", "/bans"}, {"address", "/address/192.0.2.66"}, {"reputation", "/reputation"},
	{"users", "/users"}, {"account", "/account"}, {"actions", "/actions"}, {"search", "/search?q=web"}, {"down", "/server/Scaleway/mail2.asso.example"},
}

// looks opens every page in both themes, wide and narrow.
func looks(t *testing.T, w *window, open api.Alerts) {
	for _, theme := range []string{"light", "dark"} {
		w.theme(theme)
		for _, size := range []struct {
			name  string
			width int64
		}{{"", 1280}, {"-narrow", 390}} {
			w.size(size.width, 900)
			for _, p := range pagesLooked {
				path := p.path
				if strings.Contains(path, "%d") {
					path = fmt.Sprintf(path, open.Alerts[0].ID)
				}
				w.goTo(path)
				w.drawn()
				w.audit(p.name + size.name + " " + theme)
				w.shoot(p.name + size.name + "-" + theme)
			}
		}
	}
	w.size(1280, 900)
	w.theme("light")
}
