package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

var alertNow = time.Date(2026, 11, 22, 8, 0, 0, 0, time.Local)

// fewAlerts is one alert of each state, with what strangers wrote.
func fewAlerts() *api.Alerts {
	ended, value := alertNow.Add(-time.Hour), 91.5
	return &api.Alerts{
		Alerts: []api.Alert{
			{ID: 1042, State: "open", Level: "warning", Worst: "warning", Began: alertNow.Add(-2 * time.Hour), Title: "web1: /var is 91.5% full\x1b[31m", Value: &value},
			{ID: 1043, State: "acknowledged", Level: "critical", Worst: "critical", Began: alertNow.Add(-26 * time.Hour), Title: "mail2 without news", Ack: &api.AlertAck{By: "marie\u202e"}},
			{ID: 1040, State: "over", Level: "fine", Worst: "critical", Began: alertNow.Add(-3 * time.Hour), Ended: &ended, Title: "Gandi: slow storage"},
		},
		Held:     []api.Alert{{Title: "web9: load at 12", HeldBy: "silence"}, {Title: "web8: load at 12", HeldBy: "group"}},
		Silences: []api.Silence{{ID: 3, Server: "web9", Rule: "lo*", By: "root", Note: "new disk", Until: alertNow.Add(time.Hour)}},
	}
}

func same(t *testing.T, got, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(got) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	if got = strings.Join(lines, "\n"); got != strings.TrimSpace(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.TrimSpace(want))
	}
}

func TestPrintAlerts(t *testing.T) {
	var b bytes.Buffer
	printAlerts(&b, fewAlerts(), alertNow)
	same(t, b.String(), `
ALERT  LEVEL     SINCE                STATE             WHAT
#1042  warning   06:00:00             open              web1: /var is 91.5% full\x1b[31m
#1043  critical  2026-11-21 06:00:00  with marie\u202e  mail2 without news
#1040  critical  05:00:00             over 07:00:00     Gandi: slow storage
2 more are held back:
  web9: load at 12 (a silence)
  web8: load at 12 (it belongs to what is wrong with the group, or may do so)
silence 3: server web9, rule lo* until 09:00:00, by root: new disk`)
	b.Reset()
	printAlerts(&b, &api.Alerts{}, alertNow)
	same(t, b.String(), "nothing is wrong")
}

func TestPrintAlert(t *testing.T) {
	value, until := 91.5, alertNow.Add(time.Hour)
	full := alertNow.Add(48 * time.Hour)
	d := &api.AlertDetail{
		Alert: api.Alert{
			ID: 1042, State: "acknowledged", Rule: "disk-full", Group: "Gandi", Server: "web1", Service: "df", Field: "_var", Level: "warning", Worst: "critical",
			Urgency: "soon", Value: &value, Limit: ":100", Full: &full, Began: alertNow.Add(-2 * time.Hour), Title: "web1: /var full", Text: "/var is full soon.",
			Ack: &api.AlertAck{By: "marie", At: alertNow, Until: &until, Note: "on it"},
		},
		Turns: []api.AlertTurn{
			{At: alertNow.Add(-2 * time.Hour), Turn: "began", Level: "warning", Value: &value, Tell: true},
			{At: alertNow, Turn: "acked", Level: "warning", By: "marie", Note: "on it"},
		},
		Told: []api.AlertTold{{At: alertNow.Add(-2 * time.Hour), Contact: "ops", Way: "mail", State: "sent", Detail: "250 2.0.0 Ok"}},
		Why:  &api.Rule{Name: "disk-full", Kind: "forecast", Where: "shipped.toml:43:1", Set: []api.RuleSetting{{Key: "warning", Value: `"48:"`}}},
	}
	var b bytes.Buffer
	printAlert(&b, d, alertNow)
	same(t, b.String(), `
#1042 acknowledged: web1: /var full
/var is full soon.
  level            warning, at worst critical, soon
  group            Gandi
  server           web1
  curve            df._var
  value            91.5
  fine would be    :100
  full about       2026-11-24 08:00:00
  since            06:00:00 (2 h ago)
  looked after by  marie, 08:00:00 (0 s ago), until 09:00:00: on it
rule disk-full (forecast, shipped.toml:43:1)
  warning = "48:"
what happened
  2026-11-22 06:00:00  began at 91.5 (warning)
  2026-11-22 08:00:00  acked (warning, not told) by marie: on it
who was told
  2026-11-22 06:00:00  ops by mail: sent 250 2.0.0 Ok`)
}

// The words are those of the digest; nothing in them reaches the terminal that was not looked at.
func TestPrintNight(t *testing.T) {
	var b bytes.Buffer
	printNight(&b, &api.Night{Title: "all is well\x1b[2J", Text: "All is well: 1 server.\n\n* web1\x1b[31m\n", Problems: []string{"something\x07 else"}})
	same(t, b.String(), `
all is well\x1b[2J

All is well: 1 server.

* web1\x1b[31m

something\a else`)
}

func TestPrintSilences(t *testing.T) {
	var b bytes.Buffer
	printSilences(&b, []api.Silence{{ID: 1, Group: "Gandi", By: "marie", Until: alertNow.Add(time.Hour)}}, alertNow)
	printSilences(&b, nil, alertNow)
	same(t, b.String(), "1: group Gandi until 09:00:00, by marie\nthere is no silence")
}

func TestAlertNumbersAndTimes(t *testing.T) {
	for s, want := range map[string]int64{"1042": 1042, "#7": 7, "": 0, "x": 0, "-1": 0, "1.5": 0, "0": 0} {
		if got, err := alertNumber(s); (err == nil) != (want != 0) || err == nil && got != want {
			t.Errorf("alertNumber(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]time.Duration{"": 0, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "forever": -1, "2": -1, "soon": -1} {
		if got, err := duration(s); (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("duration(%q) = %s, %v, want %s", s, got, err, want)
		}
	}
}
