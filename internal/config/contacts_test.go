package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"tocsin"
)

func TestContacts(t *testing.T) {
	got, err := Parse("t.toml", []byte(`
[watch]
deadman = "https://hc-ping.com/0000"
[mail]
from = "tocsin@example.org"
server = "smtp://tocsin@mail.example.org:587"
password_file = "/etc/tocsin/mail"
[[contact]]
name = "admins"
language = "fr"
timezone = "UTC"
urgency = "urgent"
groups = ["OVH", "Gandi;Paris"]
quiet = "22:00-07:30"
per_hour = 5
digest = "07:00"
mail = ["a@example.org", "b@example.org"]
ntfy = "https://ntfy.sh/tocsin-x"
ntfy_token_file = "/etc/tocsin/ntfy"
webhook = "http://127.0.0.1:9000/hook?a=b"
webhook_secret_file = "/etc/tocsin/hook"
command = "/usr/local/bin/sms"
[[contact]]
name = "sms"
command = "sms"
`))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Mail{"tocsin@example.org", "smtp://tocsin@mail.example.org:587", "/etc/tocsin/mail"}); got.Mail != want {
		t.Errorf("mail %+v", got.Mail)
	}
	if got.Watch.Deadman != "https://hc-ping.com/0000" {
		t.Errorf("deadman %q", got.Watch.Deadman)
	}
	want := []Contact{{
		Name: "admins", Language: "fr", Timezone: "UTC", Urgency: tocsin.Urgent, Groups: []string{"OVH", "Gandi;Paris"},
		Quiet: Hours{22 * time.Hour, 7*time.Hour + 30*time.Minute}, PerHour: 5, Digest: "07:00", Mail: []string{"a@example.org", "b@example.org"},
		Ntfy: "https://ntfy.sh/tocsin-x", NtfyToken: "/etc/tocsin/ntfy", Webhook: "http://127.0.0.1:9000/hook?a=b", Secret: "/etc/tocsin/hook",
		Command: "/usr/local/bin/sms",
	}, {Name: "sms", Language: "en", Urgency: tocsin.Soon, PerHour: 20, Command: "sms"}}
	if line := got.Contacts[0].Pos("quiet").Line; line != 14 {
		t.Errorf("quiet stands in line %d", line)
	}
	for i := range got.Contacts {
		got.Contacts[i].where = nil
	}
	if !reflect.DeepEqual(got.Contacts, want) {
		t.Errorf("got  %+v\nwant %+v", got.Contacts, want)
	}
}

func TestMailServers(t *testing.T) {
	for server, ok := range map[string]bool{"sendmail": true, "smtp://localhost": true, "smtps://me@mail.example:465": true, "smtp://[::1]:25": true,
		"mail.example": false, "smtp://": false, "smtp://x:0": false, "smtp://x:99999": false, "smtp://x/y": false, "http://x": false, "": false} {
		if err := checkMailServer(server); (err == nil) != ok {
			t.Errorf("%q: %v", server, err)
		}
	}
	_, err := Parse("t.toml", []byte("[mail]\nserver = \"smtp://mail.example\"\npassword_file = \"/x\"\n"))
	if err == nil || !strings.Contains(err.Error(), "t.toml:3:17: password_file of nobody") {
		t.Errorf("a password of nobody: %v", err)
	}
}
