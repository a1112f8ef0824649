package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"tocsin"
	"tocsin/docs/manual"
	"tocsin/internal/abuseipdb"
	"tocsin/internal/config"
	"tocsin/internal/probe"
	reports "tocsin/internal/report"
)

// The page on the command line has a section for every command, with all its flags.
func TestManualTellsOfEveryFlag(t *testing.T) {
	parser, err := kong.New(&cli{}, kong.Vars{"config": defaultConfig})
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range manual.Sections() {
		if s.Page == "cli.md" {
			sections[s.Title] = s.Text
		}
	}
	everywhere := sections["The command line"]
	for _, c := range parser.Model.Children {
		text, ok := sections["tocsin "+c.Name]
		switch {
		case c.Hidden:
			continue
		case !ok:
			t.Errorf("cli.md has no section tocsin %s", c.Name)
			continue
		}
		for _, f := range c.Flags {
			if f.Hidden || f.Name == "help" || strings.Contains(text, "--"+f.Name) {
				continue
			}
			t.Errorf("cli.md does not tell of tocsin %s --%s", c.Name, f.Name)
		}
	}
	for _, f := range parser.Model.Flags {
		if f.Name != "help" && !strings.Contains(everywhere, "| `--"+f.Name) {
			t.Errorf("cli.md does not tell of --%s", f.Name)
		}
	}
}

// section is the text of one section of a page.
func section(t *testing.T, page, title string) string {
	t.Helper()
	for _, s := range manual.Sections() {
		if s.Page == page && s.Title == title {
			return s.Text
		}
	}
	t.Fatalf("%s has no section %q", page, title)
	return ""
}

// The page share has a section for every setting of [[list]] and [report], with the default that the program takes.
func TestManualTellsOfEverySharingSetting(t *testing.T) {
	texts := map[string]string{
		"list":   section(t, "share.md", "Settings of [[list]]"),
		"report": section(t, "share.md", "Settings of [report]"),
	}
	for _, k := range config.Keys() {
		text, ours := texts[k.Table]
		if !ours {
			continue
		}
		own := regexp.MustCompile("(?ms)^## `" + k.Name + "`.*?(^## |\\z)").FindString(text)
		end := "Default: `" + k.Default + "`."
		if k.Default == "" {
			end = "Needed."
		}
		if !strings.Contains(own, end) {
			t.Errorf("share.md says of %s of [%s] %q, which does not hold %q", k.Name, k.Table, own, end)
		}
	}
}

// The page watch has a section for every setting of supervision, with what happens without it.
func TestManualTellsOfEveryWatchSetting(t *testing.T) {
	texts := map[string]string{
		"watch":        section(t, "watch.md", "Settings of [watch]"),
		"watch.node":   section(t, "watch.md", "Settings of [[watch.node]]"),
		"watch.remote": section(t, "watch.md", "Settings of [[watch.remote]]"),
		"retention":    section(t, "watch.md", "How long samples are kept"),
	}
	for _, k := range config.Keys() {
		text, ours := texts[k.Table]
		if !ours || k.Table == "retention" && !strings.HasPrefix(k.Name, "samples") {
			continue
		}
		own := regexp.MustCompile("(?ms)^## `" + k.Name + "`.*?(^## |\\z)").FindString(text)
		end := "Default: `" + k.Default + "`."
		switch {
		case k.Missing == "a mistake":
			end = "Needed."
		case k.Default == "":
			end = "Without it: " + k.Missing + "."
		}
		if !strings.Contains(own, end) {
			t.Errorf("watch.md says of %s of [%s] %q, which does not hold %q", k.Name, k.Table, own, end)
		}
	}
}

// The page accounts has a section for every setting of the pages.
func TestManualTellsOfEveryWebSetting(t *testing.T) {
	texts := map[string]string{
		"web":      section(t, "accounts.md", "Settings of [web]"),
		"web.oidc": section(t, "accounts.md", "Settings of [web.oidc]"),
	}
	for _, k := range config.Keys() {
		if text, ours := texts[k.Table]; ours && !strings.Contains(text, "`"+k.Name+"`\n\n"+k.Doc+" Default: `"+k.Default+"`.") {
			t.Errorf("accounts.md does not tell of %s of [%s]: %s Default: `%s`.", k.Name, k.Table, k.Doc, k.Default)
		}
	}
}

// The page warnings has a section for every setting of rules, and names every kind of them.
func TestManualTellsOfEveryRuleSetting(t *testing.T) {
	text := section(t, "warnings.md", "Settings of [[rule]]")
	for _, k := range config.Keys() {
		if k.Table != "rule" {
			continue
		}
		own := regexp.MustCompile("(?ms)^## `" + k.Name + "` of .*?(^## |\\z)").FindString(text)
		end := "Default: `" + k.Default + "`."
		if k.Default == "" {
			end = "Needed."
		}
		if !strings.Contains(own, end) || !strings.Contains(own, k.Doc) {
			t.Errorf("warnings.md says of %s of [[rule]] %q, which does not hold %q and %q", k.Name, own, k.Doc, end)
		}
	}
}

// The page warnings has a section for every setting of who is told.
func TestManualTellsOfEveryContactSetting(t *testing.T) {
	texts := map[string]string{"mail": section(t, "warnings.md", "Settings of [mail]"), "contact": section(t, "warnings.md", "Settings of [[contact]]")}
	for _, k := range config.Keys() {
		text, ours := texts[k.Table]
		if !ours {
			continue
		}
		own := regexp.MustCompile("(?ms)^## `" + k.Name + "`.*?(^## |\\z)").FindString(text)
		end := "Default: `" + k.Default + "`."
		if k.Default == "" {
			end = "Needed."
		}
		if !strings.Contains(own, end) {
			t.Errorf("warnings.md says of %s of [%s] %q, which does not hold %q", k.Name, k.Table, own, end)
		}
	}
}

// The page watch has a row for every built-in probe, with the plugins of Munin that show the same.
func TestManualTellsOfEveryProbe(t *testing.T) {
	rows := map[string]string{}
	for line := range strings.Lines(section(t, "watch.md", "Probes")) {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			rows[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[3])
		}
	}
	for _, p := range probe.Probes() {
		var plugins []string
		for _, name := range p.Doubles {
			plugins = append(plugins, "`"+name+"`")
		}
		got, ok := rows["`"+p.Name+"`"]
		if want := strings.Join(plugins, ", "); !ok || got != want {
			t.Errorf("watch.md has the plugins %q beside probe %s (row: %t), want %q", got, p.Name, ok, want)
		}
	}
}

// What the page privacy says of a report is what leaves the machine, byte for byte.
func TestManualShowsAReportAsItIsSent(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	comment := reports.Comment(tocsin.Report{Categories: []int{18, 22}, Service: uint8(reports.SSH), Failures: 5, First: at, Last: at.Add(41 * time.Second)})
	var sent string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = string(body)
		fmt.Fprint(w, `{"data":{"ipAddress":"192.0.2.7","abuseConfidenceScore":1}}`)
	}))
	defer server.Close()
	c, err := abuseipdb.New(abuseipdb.Options{
		URL: server.URL, Version: "1",
		Key: func() (abuseipdb.Secret, error) { return abuseipdb.NewSecret(strings.Repeat("ab", 40)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Report(t.Context(), abuseipdb.Report{Addr: netip.MustParseAddr("192.0.2.7"), Categories: []int{18, 22}, Comment: comment, At: at}); err != nil {
		t.Fatal(err)
	}
	page := section(t, "privacy.md", "Each field of a report")
	if !strings.Contains(page, "\n"+sent+"\n") {
		t.Errorf("a report leaves as %q, which privacy.md does not show", sent)
	}
	if !strings.Contains(page, "`"+comment+"`") {
		t.Errorf("privacy.md does not show the comment %q", comment)
	}
}
