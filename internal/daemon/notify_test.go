package daemon

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/exec"
)

// tellerOf makes a teller of a configuration and a munin.conf, in a folder of root's.
func tellerOf(t *testing.T, text, muninConf string) (*teller, string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "munin.conf")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(muninConf, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	te := newTeller(func() (*config.Config, error) {
		return config.Parse("", []byte(strings.ReplaceAll("[watch]\nmunin_conf = \"DIR/munin.conf\"\n"+text, "DIR", dir)))
	})
	te.root = false // files of a test lie where others may write
	return te, dir
}

const threeContacts = `
[[contact]]
name = "own"
command = "DIR/sms"
[[contact]]
name = "old"
command = "me"
[[contact]]
name = "loops"
command = "loops"
[[contact]]
name = "none"
command = "nobody"
[[contact]]
name = "mail"
mail = ["a@b.example"]
`

const conf = `
contact.me.command cat > DIR/got; echo "Munin ${var:group} :: ${var:host}" >> DIR/got; printf '%s\n' ${var:host} >> DIR/got
contact.loops.command echo ${if:cfields x}
`

// What strangers wrote reaches a command on standard input and in the environment, where no shell reads it.
func TestTellerRunsWhatRootWrote(t *testing.T) {
	te, dir := tellerOf(t, threeContacts, conf)
	if err := os.WriteFile(filepath.Join(dir, "sms"), []byte("#!/bin/sh\ncat > "+dir+"/sms.got\necho \"$MUNIN_host\" >> "+dir+"/sms.got\necho told\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	evil := "x\"; touch " + dir + "/owned; `touch " + dir + "/owned` $(touch " + dir + "/owned) '\n*"
	job := exec.Job{Entry: "contact/own", Do: "tell", Values: map[string]string{"text": "text " + evil, "var.host": evil, "var.group": "a b", "var.PATH": "/tmp", "var.x.y": "no"}}
	if !te.mine(job) {
		t.Fatal("not a job of telling")
	}
	if r := te.do(t.Context(), job); !r.OK() || r.Out != "told\n" {
		t.Errorf("own: %+v", r)
	}
	job.Entry = "contact/old"
	if r := te.do(t.Context(), job); !r.OK() {
		t.Errorf("old: %+v", r)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if got, want := read("sms.got"), "text "+evil+evil+"\n"; got != want {
		t.Errorf("a program was told %q, want %q", got, want)
	}
	if got := read("got"); !strings.HasPrefix(got, "text "+evil+"Munin a b :: "+evil+"\n") {
		t.Errorf("a contact of munin.conf was told %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "owned")); err == nil {
		t.Error("a shell ran what a stranger wrote")
	}
}

func TestTellerRefuses(t *testing.T) {
	te, dir := tellerOf(t, threeContacts, conf)
	for entry, want := range map[string]string{
		"contact/loops": "which only a text may", "contact/none": "no contact.nobody.command", "contact/mail": "no command", "contact/me": "no command",
		"contact/own": dir + "/sms", "contact/../x": "no command",
	} {
		r := te.do(t.Context(), exec.Job{Entry: entry, Do: "tell"})
		if r.OK() || !strings.Contains(r.Problem, want) {
			t.Errorf("%s: %+v, want %q", entry, r, want)
		}
	}
	if r := newTeller(nil).do(t.Context(), exec.Job{Entry: "contact/own", Do: "tell"}); r.OK() {
		t.Errorf("without a configuration: %+v", r)
	}
	for _, j := range []exec.Job{{Entry: "contact/own", Do: "actionban"}, {Entry: "munin/x", Do: "tell"}} {
		if te.mine(j) {
			t.Errorf("%+v is taken for a job of telling", j)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.WriteFile(filepath.Join(dir, "sms"), []byte("#!/bin/sh\n"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "sms"), 0o777); err != nil {
			t.Fatal(err)
		}
		te.root = true
		if r := te.do(t.Context(), exec.Job{Entry: "contact/own", Do: "tell"}); r.OK() || !strings.Contains(r.Problem, "not run") {
			t.Errorf("a program that anybody may write: %+v", r)
		}
	}
}

func TestMuninCommand(t *testing.T) {
	got, err := muninCommand(`mail -s "Munin ${var:group} :: ${var:host}" root`)
	if want := `mail -s "Munin ${MUNIN_group} :: ${MUNIN_host}" root`; got != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestNotifyFindings(t *testing.T) {
	now := time.Now()
	before := now.Add(-time.Hour)
	all := NotifyFindings(&api.Contacts{Receivers: []api.Receiver{
		{Contact: "well", Via: "ntfy", Sent: &now},
		{Contact: "down", Via: "mail:a@b.example", Since: &before, Waiting: 2, Problem: "connection refused"},
		{Contact: "refused", Via: "webhook", GaveUp: &now, Sent: &before, Problem: "410 Gone"},
		{Contact: "mended", Via: "webhook", GaveUp: &before, Sent: &now},
		{Contact: "full", Via: "command", Lost: 1},
	}})
	want := []string{"TOC-TEL-001 down cannot be told by mail to a@b.example since", "TOC-TEL-002 a message to refused by webhook was refused for good", "TOC-TEL-001 1 message to full by command found no room"}
	if len(all) != len(want) {
		t.Fatalf("findings %+v", all)
	}
	for i, f := range all {
		if !strings.HasPrefix(f.Code+" "+f.Text, want[i]) {
			t.Errorf("finding %s %s, want %s", f.Code, f.Text, want[i])
		}
	}
}

// A sample beyond a limit becomes an incident, a message in the outbox, and what a receiver is posted.
func TestSampleBecomesAMessage(t *testing.T) {
	posted := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		posted <- string(text)
	}))
	defer receiver.Close()
	c, _, _ := supervising(t, fmt.Sprintf(`listen = ""
[watch]
name = "web1"
interval = "1s"
munin_plugins = ""
[[rule]]
name = "mine"
service = "uptime"
warning = ":-1"
urgency = "urgent"
[[contact]]
name = "hook"
webhook = %q
`, receiver.URL))
	within(t, "the watch process", func() bool { _, err := c.Contacts(t.Context()); return err == nil })
	tested, err := c.TestNotify(t.Context(), api.NotifyTestRequest{Contact: "hook"})
	if err != nil || len(tested.Trials) != 1 || tested.Trials[0].Problem != "" || !strings.Contains(strings.Join(tested.Trials[0].Steps, "\n"), "accepted: 200 OK") {
		t.Errorf("test: %+v, %v", tested, err)
	}
	if got := <-posted; !strings.Contains(got, `"kind":"test"`) {
		t.Errorf("posted %s", got)
	}
	for name, want := range map[string]string{"nobody": `there is no contact "nobody"`} {
		if _, err := c.TestNotify(t.Context(), api.NotifyTestRequest{Contact: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("test of %s: %v", name, err)
		}
	}
	for end := time.After(2 * time.Minute); ; {
		var got string
		select {
		case got = <-posted:
		case <-end:
			t.Fatal("nothing was posted")
		}
		if strings.Contains(got, `"rule":"mine"`) {
			if !strings.Contains(got, `"kind":"began"`) || !strings.Contains(got, `"server":"web1"`) {
				t.Errorf("posted %s", got)
			}
			break
		}
	}
	within(t, "the receiver's state", func() bool {
		all, err := c.Contacts(t.Context())
		return err == nil && len(all.Receivers) == 1 && all.Receivers[0].Sent != nil
	})
}
