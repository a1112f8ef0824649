package daemon

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/web"
)

// The pages of a running watch process: an account is made over the socket, its link chooses a password, and what is measured
// here is shown. Programs go on to be answered at the same address.
func TestPages(t *testing.T) {
	listen := freePort(t)
	c, state, stop := supervising(t, fmt.Sprintf("listen = %q\n[watch]\ngroup = \"Gandi\"\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\n", listen))
	ctx := t.Context()
	var link api.UserLink
	within(t, "the watch process", func() (ok bool) {
		var err error
		link, err = c.AddUser(ctx, api.UserRequest{Name: "marie", Role: "admin", By: "root"})
		return err == nil
	})
	if !strings.HasPrefix(link.URL, "http://"+listen+"/start/") || link.Role != "admin" {
		t.Fatalf("link %+v", link)
	}
	within(t, "what is measured of processors", func() bool {
		d, err := c.Server(ctx, "*", "web1")
		if err != nil {
			return false
		}
		for _, s := range d.Details {
			if s.Name == "cpu" && len(s.Fields) > 0 && s.Fields[0].Value != nil {
				return true
			}
		}
		return false
	})
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar}
	read := func(resp *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if code, text := read(client.PostForm(link.URL, url.Values{"password": {"a long password"}, "again": {"a long password"}})); code != http.StatusOK || !strings.Contains(text, "web1") {
		t.Errorf("the link leads to %d %s", code, text)
	}
	for path, want := range map[string]string{
		"/": `<span class="state `, "/server/Gandi/web1": "/graph/Gandi/web1/cpu/day.svg", "/graph/Gandi/web1/cpu?range=day": "<svg", "/graph/Gandi/web1/cpu/week.svg": "<svg",
		"/munin/Gandi/web1/cpu-day.png": "PNG", "/compare/Gandi/cpu": "web1", "/alerts": "<h1", "/reputation": "<h1", "/users": "marie", "/account": "marie", "/actions": "marie", "/healthz": "ok",
	} {
		if code, text := read(client.Get("http://" + listen + path)); code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %d %.300s", path, code, text)
		}
	}
	if code, _ := read(client.Get("http://" + listen + "/api/v1/query?query=1")); code != http.StatusUnauthorized {
		t.Errorf("a session asks what is for programs: %d", code)
	}
	all, err := c.Users(ctx)
	if err != nil || len(all.Users) != 1 || all.Users[0].Name != "marie" || all.Users[0].Sessions != 1 || all.Users[0].Waits {
		t.Errorf("accounts: %+v, %v", all, err)
	}
	if l, err := c.ResetUser(ctx, api.UserRequest{Name: "marie", By: "root"}); err != nil || l.Name != "marie" {
		t.Errorf("reset: %+v, %v", l, err)
	}
	if l, err := c.Terminal(ctx); err != nil || l.Name != "" || l.Role != "admin" {
		t.Errorf("terminal: %+v, %v", l, err)
	}
	if _, err := c.AddUser(ctx, api.UserRequest{Name: "marie", Role: "board"}); err == nil {
		t.Error("an account was made twice")
	}
	if _, err := c.DropUser(ctx, api.UserRequest{Name: "nobody"}); err == nil {
		t.Error("an account was dropped that there is not")
	}
	if change, err := c.DropUser(ctx, api.UserRequest{Name: "marie", By: "root"}); err != nil || len(change.Changed) != 1 {
		t.Errorf("drop: %+v, %v", change, err)
	}
	if code, text := read(client.Get("http://" + listen + "/")); code != http.StatusOK || !strings.Contains(text, `name="password"`) {
		t.Errorf("after the account is gone: %d", code)
	}
	stop()
	if text, err := os.ReadFile(filepath.Join(WatchFolder(state), watchStore)); err != nil || strings.Contains(string(text), "a long password") {
		t.Errorf("a password is kept as it is: %v", err)
	}
}

// The link that the guard prints is good in the watch process, once, over a restart too.
func TestPagesLink(t *testing.T) {
	g := &Guard{}
	conf, err := config.Parse("t.toml", []byte(`listen = "127.0.0.1:8044"`))
	if err != nil {
		t.Fatal(err)
	}
	told := g.newPagesLink(conf)
	secret, ok := strings.CutPrefix(g.pages, "http://127.0.0.1:8044/start/")
	hash, until, err := takePagesLink(told)
	if !ok || err != nil || hash != account.HashOf(secret) || time.Until(until) > web.StartFor || time.Until(until) < web.StartFor-time.Minute {
		t.Errorf("link %s, told %s: %v, %v", g.pages, told, until, err)
	}
	if strings.Contains(told, secret) {
		t.Error("the link itself is told")
	}
	conf.Listen = ""
	if told := g.newPagesLink(conf); told != "" {
		t.Errorf("a link to no pages: %s", told)
	}
	for _, bad := range []string{"", "x", "@", "00@1", told[1:], told + "0x", strings.Repeat("g", 64) + "@1", strings.Repeat("0", 66) + "@1"} {
		if _, _, err := takePagesLink(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVitals(t *testing.T) {
	cpu := map[string]float64{"system": 10, "user": 40, "idle": 140, "iowait": 10, "guest": 5}
	if got := busy(cpu); got != 25 {
		t.Errorf("busy %v, want 25", got)
	}
	memory := map[string]float64{"apps": 40, "free": 10, "cached": 50}
	if got := used(memory); got != 40 {
		t.Errorf("used %v, want 40", got)
	}
	memory["available"] = 70
	if got := math.Round(used(memory)); got != 30 {
		t.Errorf("used %v, want 30", got)
	}
	for _, none := range []map[string]float64{nil, {}, {"user": 1}, {"apps": 1}} {
		if !math.IsNaN(busy(none)) || !math.IsNaN(used(none)) {
			t.Errorf("something was made of %v", none)
		}
	}
	v := vitals{"if_eth0": {"down": 5, "up": 1}, "if_br0": {"down": 5, "up": 2}, "if_lo": {"down": 99}, "if_err_eth0": {"rx": 99}, "if_packets_eth0": {"down": 99}, "if_capacity": {"eth0": 99}, "cpu": cpu}
	if got := v.card(); got != "if_br0" {
		t.Errorf("card %q", got)
	}
	if got := (vitals{"cpu": cpu}).card(); got != "" {
		t.Errorf("card %q where there is none", got)
	}
}

func TestProviderSettings(t *testing.T) {
	roles := rolesOf(&config.OIDC{Admin: []string{"a"}, Support: []string{"a", "b"}, Board: []string{"b", "c"}})
	for name, want := range map[string]account.Role{"a": account.Admin, "b": account.Support, "c": account.Board, "d": account.Nobody} {
		if roles[name] != want {
			t.Errorf("%s gives %v, want %v", name, roles[name], want)
		}
	}
	path := filepath.Join(t.TempDir(), "secret")
	if secretFrom("") != nil {
		t.Error("a secret of no file")
	}
	if _, err := secretFrom(path)(); err == nil {
		t.Error("a file that is not there")
	}
	for text, ok := range map[string]bool{"hush\n": true, strings.Repeat("x", maxSecretFile+1): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if secret, err := secretFrom(path)(); (err == nil) != ok || ok && secret != "hush" {
			t.Errorf("%.10q: %.10q, %v", text, secret, err)
		}
	}
}
