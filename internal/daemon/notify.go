package daemon

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/locale"
	"tocsin/internal/munin"
	telling "tocsin/internal/notify"
)

// This file lays the pipes to those who tell people: contacts of the configuration, commands by the runner, the digest's
// night.

// newNotifier makes the room that tells people. Without contacts it tells nobody, and keeps the dead man's switch.
func (s *supervisor) newNotifier(ctx context.Context, host string) (*telling.Notifier, error) {
	o := telling.Options{
		Contacts: s.contacts(), Mail: telling.Mail{From: s.conf.Mail.From, Server: s.conf.Mail.Server, PasswordFile: s.conf.Mail.PasswordFile},
		URL: s.conf.Web.URL, Host: host, Version: s.w.o.Version, Outbox: s.w.store, Log: s.log, Command: s.runCommand, Sendmail: s.sendmail, Title: s.titleOf,
		Night: s.nightOf, Picture: s.bansPicture, Deadman: s.conf.Watch.Deadman, Alive: s.alive, Dial: s.w.o.dial,
	}
	n, err := telling.New(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("those who are told: %w", err)
	}
	return n, nil
}

// contacts are those of the configuration.
func (s *supervisor) contacts() (all []telling.Contact) {
	for i := range s.conf.Contacts {
		c := &s.conf.Contacts[i]
		zone := time.Local
		if c.Timezone != "" {
			if loc, err := time.LoadLocation(c.Timezone); err == nil { // the configuration's check knows it
				zone = loc
			}
		}
		all = append(all, telling.Contact{
			Name: c.Name, Locale: locale.Get(c.Language).In(zone), Urgency: c.Urgency, Groups: c.Groups, Quiet: telling.Hours(c.Quiet),
			PerHour: c.PerHour, Digest: timeOfDay(c.Digest), Mail: c.Mail, Ntfy: c.Ntfy, NtfyToken: c.NtfyToken, Webhook: c.Webhook, Secret: c.Secret,
			Command: c.Command != "", Template: templateOf(s.master, c.Command),
		})
	}
	return all
}

// timeOfDay reads "HH:MM", which the configuration's check has seen; negative for "".
func timeOfDay(s string) time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return -1
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// templateOf is the text that munin.conf gives a contact, "" for the usual one.
func templateOf(m *munin.MasterConf, contact string) string {
	if m == nil {
		return ""
	}
	for _, c := range m.Contacts {
		if c.Name == contact {
			return c.Text
		}
	}
	return ""
}

// runCommand has the runner run a contact's command.
func (s *supervisor) runCommand(ctx context.Context, contact, text string, values map[string]string) (said string, err error) {
	job := exec.Job{Entry: tellEntry + contact, Do: tellDo, Values: map[string]string{tellText: text}}
	for name, v := range values {
		job.Values["var."+name] = v
	}
	return s.tellBy(ctx, job)
}

// sendmail has the runner hand a message to this machine's mail.
func (s *supervisor) sendmail(ctx context.Context, message []byte) (said string, err error) {
	return s.tellBy(ctx, exec.Job{Entry: sendmailEntry, Do: tellDo, Values: map[string]string{tellText: string(message)}})
}

func (s *supervisor) tellBy(ctx context.Context, job exec.Job) (said string, err error) {
	r, err := s.runner.Do(ctx, job)
	switch {
	case err != nil:
		return "", err
	case r.Problem != "":
		return "", errors.New(strings.TrimSpace(r.Problem + " " + r.Err))
	case r.Code != 0:
		return "", fmt.Errorf("it ended with exit code %d: %s", r.Code, strings.TrimSpace(r.Err+" "+r.Out))
	}
	return strings.TrimSpace("exit code 0 " + r.Out), nil
}

// titleOf is what a service is called on its graph, and in which category it stands.
func (s *supervisor) titleOf(series tocsin.Series) (title, category string) {
	d, err := s.server(series.Group, series.Node)
	if err != nil {
		return "", ""
	}
	for _, one := range d.Details {
		if one.Name == series.Service {
			return one.Title, one.Category
		}
	}
	return "", ""
}

// alive is why somebody who waits for our sign must not be given one: nothing was read of this machine for minutes.
func (s *supervisor) alive() error {
	newest, err := s.newestSeen()
	if err != nil {
		return err
	}
	if age := time.Since(newest); age > aliveFor && time.Since(s.w.started) > aliveFor {
		return fmt.Errorf("nothing was read of this machine for %s", age.Round(time.Second))
	}
	return nil
}

// aliveFor is how long nothing may be read of this machine.
const aliveFor = 10 * time.Minute

// newestSeen is when something of this machine was read last.
func (s *supervisor) newestSeen() (time.Time, error) {
	d, err := s.server(s.own.group, s.own.name)
	if err != nil || d.Seen == nil {
		return time.Time{}, err
	}
	return *d.Seen, nil
}

// notifying are the answers about who is told.
func (w *watcher) notifying() *api.NotifyOperations {
	return &api.NotifyOperations{
		Contacts: func(context.Context) (api.Contacts, error) {
			return with(w, func(s *supervisor) (api.Contacts, error) { return s.receivers(), nil })
		},
		Test: func(ctx context.Context, r api.NotifyTestRequest) (api.NotifyTest, error) {
			return with(w, func(s *supervisor) (api.NotifyTest, error) { return s.testNotify(ctx, r.Contact) })
		},
	}
}

func (s *supervisor) receivers() api.Contacts {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	out := api.Contacts{Schema: api.SchemaContacts, Receivers: []api.Receiver{}}
	for _, r := range s.people.Status() {
		out.Receivers = append(out.Receivers, api.Receiver{Contact: r.Contact, Via: r.Via, To: r.To, Waiting: r.Waiting, Lost: r.Lost, Sent: at(r.Sent),
			Since: at(r.Since), Problem: tocsin.Printable(r.Problem), GaveUp: at(r.GaveUp)})
	}
	return out
}

func (s *supervisor) testNotify(ctx context.Context, contact string) (api.NotifyTest, error) {
	out := api.NotifyTest{Schema: api.SchemaNotifyTest, Trials: []api.NotifyTrial{}}
	for _, t := range s.people.Test(ctx, contact) {
		trial := api.NotifyTrial{Contact: t.Contact, Via: t.Via, To: t.To, Steps: append([]string{}, t.Steps...)}
		if t.Err != nil {
			trial.Problem = tocsin.Printable(t.Err.Error())
		}
		out.Trials = append(out.Trials, trial)
	}
	if len(out.Trials) > 0 {
		return out, nil
	}
	if contact == "" {
		return out, api.Errorf(api.ExitFindings, "tocsin explain \"who is told\"", "the configuration names no contact: nobody is told of anything")
	}
	return out, api.Errorf(api.ExitFindings, "the names stand in the configuration, as name under [[contact]]", fmt.Sprintf("there is no contact %.80q", contact))
}

// NotifyFindings are what doctor says of those who are told.
func NotifyFindings(c *api.Contacts) (all []api.Finding) {
	f := findings{}
	for _, r := range c.Receivers {
		fix := "tocsin notify test " + r.Contact
		switch {
		case r.Since != nil:
			f.add("TOC-TEL-001", api.SeverityError, fix, "%s cannot be told by %s since %s, %s: %s", r.Contact, wayName(r.Via), r.Since.Local().Format(time.DateTime),
				api.Count(r.Waiting, "message waits", "messages wait"), r.Problem)
		case r.GaveUp != nil && (r.Sent == nil || r.Sent.Before(*r.GaveUp)):
			f.add("TOC-TEL-002", api.SeverityError, fix, "a message to %s by %s was refused for good at %s: %s", r.Contact, wayName(r.Via), r.GaveUp.Local().Format(time.DateTime), r.Problem)
		case r.Lost > 0:
			f.add("TOC-TEL-001", api.SeverityError, fix, "%s to %s by %s found no room", api.Count(r.Lost, "message", "messages"), r.Contact, wayName(r.Via))
		}
	}
	return f
}

// wayName is a way for people: "mail to admin@example.org".
func wayName(via string) string {
	if to, ok := strings.CutPrefix(via, "mail:"); ok {
		return "mail to " + to
	}
	return via
}

// variable is a variable of Munin's language in a contact's command.
var variable = regexp.MustCompile(`\$\{var:([a-z_]+)\}`)

// muninCommand makes a contact's command fit for a shell without any text of strangers: its variables become those of the
// environment, which a shell expands but never reads as words of its own.
func muninCommand(command string) (string, error) {
	out := variable.ReplaceAllString(command, "$${MUNIN_$1}")
	if i := strings.Index(out, "${if:"); i >= 0 || strings.Contains(out, "${loop") {
		return "", errors.New("its command holds ${if or ${loop, which only a text may")
	}
	return out, nil
}

// contactOf finds a contact of the configuration.
func contactOf(c *config.Config, name string) *config.Contact {
	for i := range c.Contacts {
		if c.Contacts[i].Name == name {
			return &c.Contacts[i]
		}
	}
	return nil
}
