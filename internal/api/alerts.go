package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// This file holds what the watch process answers about warnings, on its own socket.

// Schemas of warnings.
const (
	SchemaAlerts = "tocsin.alerts/1"
	SchemaAlert  = "tocsin.alert/1"
	SchemaNight  = "tocsin.night/1"
	SchemaRules  = "tocsin.rules/1"
)

// AlertsQuery says which incidents are asked for.
type AlertsQuery struct {
	All    bool          // those that are over, too
	Since  time.Duration // with All: those that ended within this time; 0: as far back as they are kept
	Group  string        // "": all
	Server string        // "": all
	Limit  int           // of those that are over; 0: 200, at most 1000
}

// Alerts are what is wrong, the worst first, and behind it what is over, the newest first.
type Alerts struct {
	Schema   string    `json:"schema"`
	Alerts   []Alert   `json:"alerts"`
	Held     []Alert   `json:"held"` // wrong, but not told because of something else; without numbers
	Silences []Silence `json:"silences"`
}

// Alert is one incident.
type Alert struct {
	ID      int64      `json:"id"`
	Rule    string     `json:"rule"`
	Group   string     `json:"group"`
	Server  string     `json:"server"` // "": it is about the group
	Service string     `json:"service"`
	Field   string     `json:"field"`
	Label   string     `json:"label"`   // a plugin's words, as extra
	Extra   string     `json:"extra"`   //
	State   string     `json:"state"`   // open, acknowledged, unstable, over, held
	Level   string     `json:"level"`   // fine, unknown, warning, critical
	Worst   string     `json:"worst"`   //
	Urgency string     `json:"urgency"` // digest, soon, urgent
	Value   *float64   `json:"value"`   // null: unknown, or none
	Limit   string     `json:"limit"`   // what would be fine, in Munin's range words
	Members []string   `json:"members"` // the servers that it stands for
	Full    *time.Time `json:"full"`    // when a forecast says that it is full
	Began   time.Time  `json:"began"`
	Changed time.Time  `json:"changed"`
	Ended   *time.Time `json:"ended"`
	Flaps   bool       `json:"flaps"`
	Ack     *AlertAck  `json:"ack"`
	HeldBy  string     `json:"held_by,omitempty"` // silence, server, group
	Title   string     `json:"title"`             // in the language that was asked for
	Text    string     `json:"text"`
}

// AlertAck says who looks after it.
type AlertAck struct {
	By    string     `json:"by"`
	Note  string     `json:"note"`
	At    time.Time  `json:"at"`
	Until *time.Time `json:"until"` // null: until it is over
}

// AlertDetail is one incident with all that is known of it.
type AlertDetail struct {
	Schema string `json:"schema"`
	Alert
	Turns []AlertTurn `json:"turns"` // the oldest first
	Told  []AlertTold `json:"told"`  // the oldest first
	Why   *Rule       `json:"why"`   // the rule as it holds now; null: there is none of that name any more
}

// AlertTurn is one thing that it did.
type AlertTurn struct {
	At    time.Time `json:"at"`
	Turn  string    `json:"turn"` // began, worsened, eased, over, unstable, steady, again, acked, altered
	Level string    `json:"level"`
	Value *float64  `json:"value"`
	Limit string    `json:"limit"`
	Tell  bool      `json:"tell"` // it was to be told
	By    string    `json:"by"`
	Note  string    `json:"note"`
}

// AlertTold is one message to somebody.
type AlertTold struct {
	At      time.Time `json:"at"`
	Contact string    `json:"contact"`
	Way     string    `json:"way"`   // mail, ntfy, webhook, command
	State   string    `json:"state"` // waiting, sent, failed
	Detail  string    `json:"detail"`
}

// Rule is one rule as it holds.
type Rule struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Enabled bool          `json:"enabled"`
	Own     bool          `json:"own"`   // written or changed in the configuration
	Where   string        `json:"where"` // in which file and line
	Set     []RuleSetting `json:"set"`   // what is not as it is by default, in the order of the manual
}

// RuleSetting is one key of a rule with its value, as they would be written.
type RuleSetting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Rules are all rules.
type Rules struct {
	Schema string `json:"schema"`
	Rules  []Rule `json:"rules"`
}

// Silence is a time in which nothing is told of what it selects.
type Silence struct {
	ID     int64     `json:"id"`
	Group  string    `json:"group"`  // a pattern; "": all
	Server string    `json:"server"` // a pattern; "": all
	Rule   string    `json:"rule"`   // a pattern; "": all
	By     string    `json:"by"`
	Note   string    `json:"note"`
	Made   time.Time `json:"made"`
	Until  time.Time `json:"until"`
}

// AckRequest says that somebody looks after an incident.
type AckRequest struct {
	ID   int64   `json:"id"`
	For  float64 `json:"for"` // seconds; 0: until it is over
	Note string  `json:"note"`
	By   string  `json:"by"`
	Drop bool    `json:"drop"` // nobody looks after it any more
}

// SilenceRequest asks for a silence, or for its end.
type SilenceRequest struct {
	Group  string  `json:"group"`  // pattern, as the others
	Server string  `json:"server"` //
	Rule   string  `json:"rule"`   //
	For    float64 `json:"for"`    // seconds
	Note   string  `json:"note"`
	By     string  `json:"by"`
	End    int64   `json:"end"` // the silence that ends; 0: one begins
}

// Night is what happened since a time, as a rule since yesterday evening.
type Night struct {
	Schema   string      `json:"schema"`
	Since    time.Time   `json:"since"`
	Until    time.Time   `json:"until"`
	Title    string      `json:"title"` // in words, as the digest in the morning says it
	Text     string      `json:"text"`
	Servers  int         `json:"servers"`
	Unknown  []Server    `json:"unknown"` // that do not answer now
	Open     []Alert     `json:"open"`    // still wrong
	Over     []Alert     `json:"over"`    // was wrong since, and is over
	Bans     int         `json:"bans"`    // since, by the guard of this machine; -1: it cannot be asked
	Usual    *NightUsual `json:"usual"`   // bans in the same hours of past days; null: not known
	Reported int         `json:"reported"`
	Jails    []NightJail `json:"jails"` // the busiest first
	Reboots  []NightMark `json:"reboots"`
	Upgrades []NightMark `json:"upgrades"`
	Problems []string    `json:"problems"` // why something is missing
}

// NightUsual is how many bans are usual.
type NightUsual struct {
	Low  int `json:"low"`
	High int `json:"high"`
}

// NightJail counts the bans of a jail.
type NightJail struct {
	Jail string `json:"jail"`
	Bans int    `json:"bans"`
}

// NightMark is something that happened on a server.
type NightMark struct {
	Group  string    `json:"group"`
	Server string    `json:"server"`
	At     time.Time `json:"at"`
	Count  int       `json:"count"` // of packages
}

// AlertOperations are what the watch process's handler calls about warnings. Titles and texts are in language, "fr" or "en".
// Every field must be set.
type AlertOperations struct {
	Alerts  func(ctx context.Context, q AlertsQuery, language string) (Alerts, error)
	Alert   func(ctx context.Context, id int64, language string) (AlertDetail, error)
	Ack     func(context.Context, AckRequest) (Change, error)
	Silence func(context.Context, SilenceRequest) (Change, error)
	Night   func(ctx context.Context, since time.Time, language string) (Night, error) // the zero time: since yesterday evening
	Rules   func(context.Context) (Rules, error)
}

// alertHandlers serves them to whoever may reach the socket.
func alertHandlers(mux *http.ServeMux, op *AlertOperations) {
	look(mux, "GET /v1/alerts", func(r *http.Request) (any, error) {
		v := r.URL.Query()
		q, err := parseAlertsQuery(v)
		if err != nil {
			return nil, err
		}
		return op.Alerts(r.Context(), q, v.Get("language"))
	})
	look(mux, "GET /v1/alert", func(r *http.Request) (any, error) {
		id, err := strconv.ParseInt(r.URL.Query().Get("id"), 10, 64)
		if err != nil {
			return nil, Errorf(ExitUsage, "tocsin alerts shows them", "that is no number of an alert")
		}
		return op.Alert(r.Context(), id, r.URL.Query().Get("language"))
	})
	look(mux, "GET /v1/night", func(r *http.Request) (any, error) {
		var since time.Time
		if s := r.URL.Query().Get("since"); s != "" {
			var err error
			if since, err = time.Parse(time.RFC3339, s); err != nil {
				return nil, Errorf(ExitUsage, "write it like 2026-11-22T20:00:00Z", "since is not a time")
			}
		}
		return op.Night(r.Context(), since, r.URL.Query().Get("language"))
	})
	look(mux, "GET /v1/rules", func(r *http.Request) (any, error) { return op.Rules(r.Context()) })
	change(mux, "POST /v1/alert/ack", op.Ack)
	change(mux, "POST /v1/silence", op.Silence)
}

func parseAlertsQuery(v url.Values) (q AlertsQuery, err error) {
	q.All, q.Group, q.Server = v.Get("all") == "1", v.Get("group"), v.Get("server")
	if s := v.Get("since"); s != "" {
		if q.Since, err = time.ParseDuration(s); err != nil || q.Since <= 0 {
			return q, Errorf(ExitUsage, "write it like 24h", "since is not a positive duration")
		}
	}
	q.Limit = 200
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > 1000 {
			return q, Errorf(ExitUsage, "", "limit is not a number from 1 to 1000")
		}
	}
	return q, nil
}

func (q AlertsQuery) values(language string) url.Values {
	v := url.Values{"language": {language}}
	set := func(key, value string, ok bool) {
		if ok {
			v.Set(key, value)
		}
	}
	set("all", "1", q.All)
	set("since", q.Since.String(), q.Since > 0)
	set("group", q.Group, q.Group != "")
	set("server", q.Server, q.Server != "")
	set("limit", strconv.Itoa(q.Limit), q.Limit > 0)
	return v
}

// Alerts asks what is wrong.
func (w *WatchClient) Alerts(ctx context.Context, q AlertsQuery, language string) (Alerts, error) {
	return get[Alerts](ctx, w.c, "/v1/alerts", q.values(language))
}

// Alert asks for one incident.
func (w *WatchClient) Alert(ctx context.Context, id int64, language string) (AlertDetail, error) {
	return get[AlertDetail](ctx, w.c, "/v1/alert", url.Values{"id": {strconv.FormatInt(id, 10)}, "language": {language}})
}

// AckAlert says that somebody looks after an incident.
func (w *WatchClient) AckAlert(ctx context.Context, r AckRequest) (Change, error) {
	return post(ctx, w.c, "/v1/alert/ack", r)
}

// Silence begins or ends a silence.
func (w *WatchClient) Silence(ctx context.Context, r SilenceRequest) (Change, error) {
	return post(ctx, w.c, "/v1/silence", r)
}

// Night asks what happened since a time; the zero time is yesterday evening.
func (w *WatchClient) Night(ctx context.Context, since time.Time, language string) (Night, error) {
	v := url.Values{"language": {language}}
	if !since.IsZero() {
		v.Set("since", since.Format(time.RFC3339))
	}
	return get[Night](ctx, w.c, "/v1/night", v)
}

// Rules asks for the rules of warnings.
func (w *WatchClient) Rules(ctx context.Context) (Rules, error) {
	return get[Rules](ctx, w.c, "/v1/rules", nil)
}
