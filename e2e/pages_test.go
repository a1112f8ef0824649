package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
for = "5s"
[[rule]]
name = "outage"
for = "5s"
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
	w.shout(stranger, 5)
	w.must("ban", "203.0.113.7", "--for", "1h", "--reason", "scans "+strangers)
	w.within(answer, "the bans", func() (bool, error) {
		return w.why(lab.Attacker).Banned && w.why(stranger).Banned, nil
	})

	site := &site{storing: w, browser: browser, base: forward(t, w.Victim.Host, netip.MustParseAddrPort(ours))}
	marie := site.first(t)
	site.password(t, "paul", "support")
	site.password(t, "bea", "board")
	w.within(4*answer, "three alerts", func() (bool, error) {
		site.open = ask[api.Alerts](w.scene, "alerts").Alerts
		time.Sleep(200 * time.Millisecond) // each question is a process
		return len(site.open) >= 3, nil
	})
	t.Run("each page", func(t *testing.T) { site.eachPage(t, marie) })
	t.Run("zoom by drag", func(t *testing.T) { zoomByDrag(t, marie) })
	t.Run("board", site.board)
	t.Run("support", site.support)
	t.Run("administrator", func(t *testing.T) { site.administrator(t, marie) })
	t.Run("keyboard", func(t *testing.T) { site.keyboard(t, marie) })
	t.Run("without JavaScript", site.withoutJavaScript)
	t.Run("logout", func(t *testing.T) {
		w := marie.in(t)
		w.goTo("/")
		w.do("log out", chromedp.Click(css(".me button")), chromedp.WaitReady(css("#password")))
		w.goTo("/server/OVH/web3.asso.example")
		if at := eval[string](w, "location.pathname"); at != "/login" || strings.Contains(w.text(), "web1.asso") {
			t.Errorf("after the logout one is at %s", at)
		}
	})

	// What a first visit weighs where there are fifty servers.
	few := len(p.servers)
	for i := range 50 - 1 - few {
		p.add(fmt.Sprintf("Hébergeur %d", i/10), fmt.Sprintf("serveur%d.asso.example", i), uint16(5100+i), 30+float64(i))
	}
	more, err := p.answer(w.Victim.Host, p.servers[few:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(more)
	if _, err := p.remember(w.ctx, history, p.servers[few:], dayTables, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.configure(pagesSettings + p.settings())
	w.must("reload")
	t.Run("weight", site.weight)
}

// stranger is the address of somebody who writes markup into logs.
var stranger = netip.MustParseAddr("203.0.113.44")

// shout writes failures of an address into the log that are full of what strangers write.
func (w *storing) shout(from netip.Addr, n int) {
	w.t.Helper()
	for range n {
		if err := w.Victim.Log(w.ctx, "sshd[99]", "Failed password for invalid user "+strangers+" from "+from.String()+" port 40000 ssh2"); err != nil {
			w.t.Fatal(err)
		}
	}
}

// site is the pages of a scene, and who looks at them.
type site struct {
	*storing

	browser context.Context
	base    string
	open    []api.Alert
}

// link makes an account, and is the path of the link that lets somebody choose its password.
func (s *site) link(t *testing.T, name, role string) string {
	t.Helper()
	var made api.UserLink
	if err := json.Unmarshal([]byte(s.must("user", "add", name, "--role", role, "--json")), &made); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(made.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}

var choosePassword = chromedp.Steps(chromedp.SendKeys(css("#password"), pagesPassword), chromedp.SendKeys(css("#again"), pagesPassword+kb.Enter), chromedp.WaitReady(css(".me")))

// first is the window of the first administrator, who comes by a link that is good once.
func (s *site) first(t *testing.T) *window {
	w := newWindow(t, s.browser, s.base)
	w.goTo("/")
	w.audit("login")
	w.shoot("login")
	path := s.link(t, "marie", "admin")
	w.goTo(path)
	w.audit("start")
	w.shoot("start")
	w.do("choose a password", choosePassword)
	w.audit("the first look")
	newWindow(t, s.browser, s.base).refuses(path, http.StatusNotFound)
	return w
}

// password makes an account with a password, in a window that is closed again.
func (s *site) password(t *testing.T, name, role string) {
	t.Helper()
	w := newWindow(t, s.browser, s.base)
	w.goTo(s.link(t, name, role))
	w.do("choose a password", choosePassword)
	w.do("leave", chromedp.Click(css(".me button")), chromedp.WaitReady(css("#password")))
}

// pagesLooked are the pages that are looked at.
var pagesLooked = []struct{ name, path string }{
	{"overview", "/"}, {"server", "/server/OVH/web3.asso.example"}, {"down", "/server/Scaleway/mail2.asso.example"}, {"graph", "/graph/OVH/web3.asso.example/if_ens3"},
	{"large", "/graph/OVH/web3.asso.example/if_ens3?range=week&behind=7"}, {"hostile", "/graph/OVH/web3.asso.example/hostile?range=day"}, {"compare", "/compare/OVH/cpu"},
	{"alerts", "/alerts"}, {"alert", "/alert/1"}, {"bans", "/bans"}, {"address", "/address/192.0.2.66"}, {"stranger", "/address/" + stranger.String()}, {"byhand", "/address/203.0.113.7"},
	{"reputation", "/reputation"}, {"users", "/users"}, {"account", "/account"}, {"actions", "/actions"}, {"search", "/search?q=web"},
}

// eachPage opens every page in both themes, wide and narrow, and audits it.
func (s *site) eachPage(t *testing.T, w *window) {
	w = w.in(t)
	for _, theme := range []string{"light", "dark"} {
		w.theme(theme)
		for _, size := range []struct {
			name  string
			width int64
		}{{"", 1280}, {"-narrow", 390}} {
			w.size(size.width, 900)
			for _, p := range pagesLooked {
				w.goTo(p.path)
				w.drawn()
				w.audit(p.name + size.name + " " + theme)
				w.shoot(p.name + size.name + "-" + theme)
			}
		}
	}
	w.size(1280, 900)
	w.theme("light")
	if t.Failed() {
		return
	}
	w.goTo("/")
	w.reads("À voir", "mail2.asso.example sans nouvelles", "/var plein", "Hébergeur associatif")
	w.goTo("/address/192.0.2.66")
	w.reads("192.0.2.66", "Failed password for marie")
	w.goTo("/address/" + stranger.String())
	w.reads("<script>hacked=1</script>")
	w.do("in English", chromedp.Click(css("button[name=language][value=en]")), chromedp.WaitReady(css("html[lang=en]")))
	for _, p := range pagesLooked {
		w.goTo(p.path)
		w.drawn()
		w.audit(p.name + " in English")
		w.shoot(p.name + "-en")
	}
	w.do("in French", chromedp.Click(css("button[name=language][value=fr]")), chromedp.WaitReady(css("html[lang=fr]")))

	// A theme that was chosen goes before that of the machine.
	w.do("dark", chromedp.Click(css("button[name=theme][value=dark]")), chromedp.WaitReady(css("html[data-theme=dark]")))
	w.goTo("/")
	w.audit("dark by choice")
	w.do("as the machine", chromedp.Click(css("button[name=theme][value=auto]")), chromedp.WaitReady(css("html:not([data-theme])")))
}

// zoomByDrag: dragging over a graph draws that part of it, and Escape brings the whole back.
func zoomByDrag(t *testing.T, w *window) {
	w = w.in(t)
	w.goTo("/graph/OVH/web3.asso.example/cpu?range=day")
	type box struct{ X, Y, Width float64 }
	at := eval[box](w, `(() => { const b = document.querySelector(".plot svg").getBoundingClientRect(); return {X: b.x, Y: b.y, Width: b.width} })()`)
	whole := eval[string](w, `document.querySelector(".plot svg").outerHTML`)
	y := at.Y + 100
	w.do("drag", chromedp.DragAndDropXY(at.X+at.Width*0.4, y, at.X+at.Width*0.6, y), until(`location.search.includes("from=")`))
	const day = 2000 * 60
	if length := eval[float64](w, `(q => q.get("to") - q.get("from"))(new URLSearchParams(location.search))`); length < 0.15*day || length > 0.3*day {
		t.Errorf("a fifth of the picture is %v seconds of %d", length, day)
	}
	if eval[string](w, `document.querySelector(".plot svg").outerHTML`) == whole {
		t.Error("the picture is the same")
	}
	w.audit("zoomed")
	w.shoot("zoomed")
	w.do("the whole", chromedp.KeyEvent(kb.Escape), until(`!location.search.includes("from=")`))
}

// board sees counts and cut addresses, and changes nothing.
func (s *site) board(t *testing.T) {
	w := newWindow(t, s.browser, s.base)
	w.login("bea")
	for _, path := range []string{"/", "/alerts", "/alert/1", "/bans", "/bans?when=week", "/server/OVH/web3.asso.example"} {
		w.goTo(path)
		if w.has("main form[method=post]") {
			t.Errorf("%s: there is something to change", path)
		}
		if html := eval[string](w, "document.documentElement.outerHTML"); strings.Contains(html, lab.Attacker.String()) || strings.Contains(html, stranger.String()) {
			t.Errorf("%s: there is a whole address", path)
		}
		w.audit("board " + path)
	}
	w.goTo("/bans")
	w.drawn()
	w.shoot("bans-board")
	w.reads("192.0.2.0/24")
	for _, path := range []string{"/users", "/actions", "/address/192.0.2.66"} {
		w.refuses(path, http.StatusForbidden)
	}
	w.audit("refused")
	w.shoot("refused")
}

// support looks one address up, lets it in again, and acknowledges.
func (s *site) support(t *testing.T) {
	w := newWindow(t, s.browser, s.base)
	w.login("paul")
	w.goTo("/bans")
	if html := eval[string](w, "document.documentElement.outerHTML"); strings.Contains(html, lab.Attacker.String()) {
		t.Error("there is a list of addresses")
	}
	w.do("look an address up", chromedp.SendKeys(css("#find"), lab.Attacker.String()+kb.Enter), until(at("/address/192.0.2.66")))
	w.reads("Failed password for ma…ie") // names of accounts are cut for support
	if w.has("form[action$='/ban']") {
		t.Error("support may ban")
	}
	w.do("unban", chromedp.Click(css("form[action$='/unban'] button")), chromedp.WaitReady(css(".flash")))
	w.audit("unbanned")
	w.shoot("unbanned")
	if why := s.why(lab.Attacker); why.Banned || why.Allowed == nil {
		t.Errorf("after it: %+v", why)
	}
	w.goTo("/alert/1")
	w.do("acknowledge", chromedp.SendKeys(css("#note"), "j’agrandis le volume jeudi "+strangers[:20]+kb.Enter), chromedp.WaitReady(css(".flash")))
	w.reads("paul", "j’agrandis le volume jeudi <script>")
	w.audit("acknowledged")
	w.shoot("acknowledged")
	for _, path := range []string{"/users", "/actions"} {
		w.refuses(path, http.StatusForbidden)
	}
}

// administrator sees who did what, bans and lifts in bulk, and makes accounts.
func (s *site) administrator(t *testing.T, w *window) {
	w = w.in(t)
	w.goTo("/actions")
	w.reads("paul", "192.0.2.66")
	w.audit("the journal")
	w.shoot("journal")
	w.goTo("/bans")
	w.do("choose two", chromedp.Click(css("#b0")), chromedp.Click(css("#b1")), chromedp.Click(css("button[name=do][value=unban]")), chromedp.WaitReady(css(".ask")))
	w.audit("asked again")
	w.shoot("sure")
	w.do("yes", chromedp.Click(css(".ask button[value=unban]")), chromedp.WaitReady(css(".flash")))
	w.audit("lifted")
	s.within(answer, "the bans to be lifted", func() (bool, error) { return len(s.banned()) == 0, nil })
	w.goTo("/users")
	w.do("make an account", chromedp.SendKeys(css("#new"), "zoé"+kb.Enter), chromedp.WaitReady(css("code.copy")))
	w.audit("a new account")
	w.shoot("newuser")
}

// emptied takes the slash out of the search: where a person presses the key it is not written there, but the protocol sends
// the letter apart from the key.
var emptied = until(`(document.getElementById("q").value = "", true)`)

// at is true when a page is there, with its script.
func at(path string) string {
	return fmt.Sprintf(`document.readyState === "complete" && location.pathname === %q`, path)
}

// keyboard goes everywhere without a mouse, and sees where it is.
func (s *site) keyboard(t *testing.T, w *window) {
	w = w.in(t)
	w.goTo("/")
	w.do("the first key leads to the content", chromedp.KeyEvent(kb.Tab), until(`document.activeElement.className === "skip"`), chromedp.KeyEvent(kb.Enter), until(`document.activeElement.id === "main"`))
	w.goTo("/")
	n := eval[int](w, `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")].filter(e => e.checkVisibility()).length`)
	eval[bool](w, `(window.reached = [], document.addEventListener("focusin", e => {
		const s = getComputedStyle(e.target), r = e.target.getBoundingClientRect();
		reached.push({at: [...document.querySelectorAll("*")].indexOf(e.target), seen: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && r.width > 0, what: e.target.outerHTML.slice(0, 80)});
	}), true)`)
	w.do("tab through all", chromedp.KeyEvent(strings.Repeat(kb.Tab, n)))
	type step struct {
		At   int
		Seen bool
		What string
	}
	steps := eval[[]step](w, "reached")
	if len(steps) < n {
		t.Errorf("%d of %d are reached with Tab", len(steps), n)
	}
	for i, one := range steps {
		if !one.Seen {
			t.Errorf("one does not see where one is: %s", one.What)
		}
		if i > 0 && i < n && one.At <= steps[i-1].At {
			t.Errorf("the order jumps back to %s", one.What)
		}
	}
	w.goTo("/alerts")
	w.do("search", chromedp.KeyEvent("/"), until(`document.activeElement.id === "q"`), emptied, chromedp.KeyEvent("web3"+kb.Enter), until(at("/server/OVH/web3.asso.example")))
	w.do("an address", chromedp.KeyEvent("/"), until(`document.activeElement.id === "q"`), emptied, chromedp.KeyEvent(stranger.String()+kb.Enter), until(at("/address/"+stranger.String())))
	w.do("the overview", chromedp.KeyEvent("go"), until(at("/")))
	w.do("to the skip link", chromedp.KeyEvent(kb.Tab), until(`document.activeElement.className === "skip"`))
}

// withoutJavaScript: everything is there, and forms work.
func (s *site) withoutJavaScript(t *testing.T) {
	w := newWindow(t, s.browser, s.base)
	w.noScripts()
	w.login("paul")
	w.reads("À voir", "web3.asso.example")
	w.goTo("/graph/OVH/web3.asso.example/if_ens3?range=week")
	w.drawn()
	w.reads("ens3 traffic", "bps", "CSV")
	if w.has(".needs-script") && eval[bool](w, `document.querySelector(".needs-script").checkVisibility()`) {
		t.Error("it promises what needs JavaScript")
	}
	w.audit("without JavaScript")
	w.goTo("/address/203.0.113.7")
	w.do("allow", chromedp.Click(css("form[action$='/allow'] button")), chromedp.WaitReady(css(".flash")))
	w.goTo("/alerts")
	w.do("acknowledge", chromedp.Click(css(".alert form button")), chromedp.WaitReady(css(".flash")))
	w.do("dark", chromedp.Click(css("button[name=theme][value=dark]")), chromedp.WaitReady(css("html[data-theme=dark]")))
	w.audit("dark without JavaScript")
}

// weight counts what a first visit to the overview of fifty servers loads.
func (s *site) weight(t *testing.T) {
	const most = 40 << 10
	s.within(4*answer, "fifty servers", func() (bool, error) {
		var all api.Servers
		out, _, _ := s.command(0, "servers", "--json")
		if json.Unmarshal([]byte(out), &all) != nil {
			return false, nil // it reads its configuration
		}
		well := 0
		for _, one := range all.Servers {
			if one.State == "ok" {
				well++
			}
		}
		time.Sleep(300 * time.Millisecond) // each question is a process
		return well == 49, nil             // one of them does not answer
	})
	bea := newWindow(t, s.browser, s.base)
	bea.login("bea")
	s.within(2*answer, "an overview of them", func() (bool, error) {
		bea.goTo("/") // it is kept for ten seconds
		time.Sleep(300 * time.Millisecond)
		return eval[int](bea, `document.querySelectorAll(".servers tbody tr").length`) == 50, nil
	})
	w := newWindow(t, s.browser, s.base)
	w.borrow(bea)
	w.goTo("/")
	if n := eval[int](w, `document.querySelectorAll(".servers .spark path").length`); n < 140 {
		t.Errorf("%d curves", n)
	}
	w.audit("fifty servers")
	w.shoot("fifty")
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := 0
	for path, n := range w.bytes {
		t.Logf("%6d bytes %s", n, path)
		sum += n
	}
	if len(w.bytes) < 3 || sum > most {
		t.Errorf("%d bytes in %d files for 50 servers, want at most %d", sum, len(w.bytes), most)
	}
}
