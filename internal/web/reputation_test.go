package web

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"tocsin/internal/api"
)

func TestReputation(t *testing.T) {
	s, _ := guarded(t)
	for _, who := range []string{"bea", "paul", "marie"} {
		a := s.as(who).get("/reputation")
		checkPage(t, "reputation", a)
		for _, want := range []string{
			"1,500", "4,212", "3 addresses of your members are in it, and let through.", "1 entry of the allow list has addresses in it", "Fetched 4 d ago; it stays in force", "in force", "not in force as it should be",
			"taken out by hand", "the new one is refused", "tocsin reputation accept other", "2 failures in a row: &lt;img", "842 of 1,000 are left today.", `value="0.842"`, "Known to the service", "Without an answer", "Resting until",
			"somebody logged in from there", "a jail that is not reported", "There is a key for api.abuseipdb.com.",
		} {
			if !strings.Contains(a.spaced(), want) {
				t.Errorf("%s is not told %q", who, want)
			}
		}
		if strings.Contains(a.text, "Given up") {
			t.Error("what did not happen is told")
		}
	}
}

func TestReputationWithoutTheGuard(t *testing.T) {
	gone := api.NewClientOn("/nowhere", func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist })
	s := newSite(t, func(o *Options) {
		o.Guard, o.Language = gone, "fr"
		o.Reputation = func(context.Context) (api.Reputation, error) { return api.Reputation{KeyProblem: evil}, nil }
	})
	a := s.as("marie").get("/reputation")
	checkPage(t, "reputation without the guard", a)
	for _, want := range []string{"Le gardien ne répond pas", "Rien n’est signalé à personne.", "Aucune clé", "&lt;img"} {
		if !strings.Contains(a.spaced(), want) {
			t.Errorf("it is not told %q", want)
		}
	}
}
