package api

import (
	"context"
	"reflect"
	"testing"
	"time"
)

func TestAlertsOverTheSocket(t *testing.T) {
	at := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	var asked AlertsQuery
	var since time.Time
	var words []string
	c := NewWatchClient(serveHandler(t, WatchHandler(WatchOperations{}, &SuperviseOperations{Warnings: &AlertOperations{
		Alerts: func(_ context.Context, q AlertsQuery, language string) (Alerts, error) {
			asked, words = q, append(words, language)
			return Alerts{Schema: SchemaAlerts, Alerts: []Alert{{ID: 7, Title: "<b>", Began: at}}}, nil
		},
		Alert: func(_ context.Context, id int64, language string) (AlertDetail, error) {
			words = append(words, language)
			return AlertDetail{Schema: SchemaAlert, Alert: Alert{ID: id}}, nil
		},
		Ack: func(_ context.Context, r AckRequest) (Change, error) {
			return Change{Schema: SchemaChange, Text: r.By + " " + r.Note}, nil
		},
		Silence: func(_ context.Context, r SilenceRequest) (Change, error) {
			return Change{Schema: SchemaChange, Text: r.Server}, nil
		},
		Night: func(_ context.Context, t time.Time, language string) (Night, error) {
			since, words = t, append(words, language)
			return Night{Schema: SchemaNight, Bans: 3}, nil
		},
		Rules: func(context.Context) (Rules, error) {
			return Rules{Schema: SchemaRules, Rules: []Rule{{Name: "x"}}}, nil
		},
	}})))
	ctx := t.Context()
	want := AlertsQuery{All: true, Since: 2 * time.Hour, Group: "Gandi", Server: "web1", Limit: 5}
	if got, err := c.Alerts(ctx, want, "fr"); err != nil || len(got.Alerts) != 1 || got.Alerts[0].Title != "<b>" || !got.Alerts[0].Began.Equal(at) || asked != want {
		t.Errorf("alerts: %+v, asked %+v, %v", got, asked, err)
	}
	if _, err := c.Alerts(ctx, AlertsQuery{}, "en"); err != nil || asked.Limit != 200 || asked.All {
		t.Errorf("asked %+v, %v", asked, err)
	}
	if got, err := c.Alert(ctx, 7, "fr"); err != nil || got.ID != 7 {
		t.Errorf("alert: %+v, %v", got, err)
	}
	if got, err := c.AckAlert(ctx, AckRequest{ID: 7, By: "marie", Note: "mine"}); err != nil || got.Text != "marie mine" {
		t.Errorf("ack: %+v, %v", got, err)
	}
	if got, err := c.Silence(ctx, SilenceRequest{Server: "web1", For: 60}); err != nil || got.Text != "web1" {
		t.Errorf("silence: %+v, %v", got, err)
	}
	if got, err := c.Night(ctx, at, "en"); err != nil || got.Bans != 3 || !since.Equal(at) {
		t.Errorf("night: %+v since %s, %v", got, since, err)
	}
	if _, err := c.Night(ctx, time.Time{}, "en"); err != nil || !since.IsZero() {
		t.Errorf("night since %s, %v", since, err)
	}
	if got, err := c.Rules(ctx); err != nil || len(got.Rules) != 1 {
		t.Errorf("rules: %+v, %v", got, err)
	}
	if want := []string{"fr", "en", "fr", "en", "en"}; !reflect.DeepEqual(words, want) {
		t.Errorf("languages %v, want %v", words, want)
	}
	for _, path := range []string{"/v1/alert?id=x", "/v1/alerts?since=soon", "/v1/alerts?limit=5000", "/v1/night?since=evening"} {
		if _, err := get[Alerts](ctx, c.c, path, nil); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
}
