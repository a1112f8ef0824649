package daemon

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/munin"
)

// WarningsPlan is who is told of warnings, and why that may fail, for `tocsin check`.
type WarningsPlan struct {
	Rules    int // of the configuration
	Contacts []ContactPlan
	Problems []munin.Problem
}

// ContactPlan is one contact with the ways in which it is told.
type ContactPlan struct {
	Name string
	By   []string
}

// CheckWarnings looks whether those whom c names can be told, and tells nobody anything. It returns nil where c has neither
// contacts nor rules.
func CheckWarnings(c *config.Config) *WarningsPlan {
	if len(c.Contacts) == 0 && len(c.Rules) == 0 {
		return nil
	}
	p := &WarningsPlan{Rules: len(c.Rules)}
	if !c.Watch.Enabled {
		p.problem(config.Pos{File: c.File}, "[watch] is switched off: nothing is judged, and nobody is told")
	}
	for i := range c.Contacts {
		contact := &c.Contacts[i]
		one := ContactPlan{Name: contact.Name}
		if len(contact.Mail) > 0 {
			one.By = append(one.By, "mail to "+strings.Join(contact.Mail, ", "))
			p.checkMail(c, contact)
		}
		if contact.Ntfy != "" {
			one.By = append(one.By, "ntfy at "+hostOf(contact.Ntfy))
			p.checkSecret(contact.Pos("ntfy_token_file"), contact.NtfyToken)
		}
		if contact.Webhook != "" {
			one.By = append(one.By, "webhook at "+hostOf(contact.Webhook))
			p.checkSecret(contact.Pos("webhook_secret_file"), contact.Secret)
		}
		if contact.Command != "" {
			one.By = append(one.By, "command "+contact.Command)
			p.checkCommand(c, contact)
		}
		p.Contacts = append(p.Contacts, one)
	}
	return p
}

// problem notes one thing, once: several contacts may stumble over the same.
func (p *WarningsPlan) problem(at config.Pos, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.ContainsFunc(p.Problems, func(o munin.Problem) bool { return o.Msg == text }) {
		p.Problems = append(p.Problems, munin.Problem{File: at.File, Line: at.Line, Msg: text})
	}
}

// hostOf is the host of an address, whose path may be a secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func (p *WarningsPlan) checkMail(c *config.Config, contact *config.Contact) {
	at := contact.Pos("mail")
	if host, err := os.Hostname(); c.Mail.From == "" && (err != nil || !strings.Contains(host, ".")) {
		p.problem(at, "mail comes from tocsin@%s, which is an address nowhere else: write from = \"tocsin@example.org\" under [mail]", host)
	}
	if c.Mail.Server == "sendmail" {
		if _, err := exec.Find("sendmail"); err != nil {
			p.problem(at, "mail leaves by sendmail, which this machine does not have: install a mail server, or name one as server under [mail]")
		}
		return
	}
	if u, err := url.Parse(c.Mail.Server); err == nil && u.User != nil && c.Mail.PasswordFile == "" {
		p.problem(at, "the mail server is given a user without a password: write password_file under [mail]")
	}
	p.checkSecret(at, c.Mail.PasswordFile)
}

// checkSecret looks whether the watch process may read a file, and nobody who should not.
func (p *WarningsPlan) checkSecret(at config.Pos, path string) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		p.problem(at, "%v", err)
		return
	case !info.Mode().IsRegular():
		p.problem(at, "%s is no file", path)
		return
	case info.Size() == 0:
		p.problem(at, "%s is empty", path)
	case info.Mode().Perm()&0o007 != 0:
		p.problem(at, "everybody may get at %s: chown root:tocsin %s; chmod 640 %s", path, path, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		u, mode := watchUser(), info.Mode().Perm()
		if !(st.Uid == u.UID && mode&0o400 != 0 || st.Gid == u.GID && mode&0o040 != 0 || mode&0o004 != 0) {
			p.problem(at, "the watch process may not read %s: chown root:tocsin %s; chmod 640 %s", path, path, path)
		}
	}
}

// checkCommand asks the runner's own question, whether a contact's command is one that it runs.
func (p *WarningsPlan) checkCommand(c *config.Config, contact *config.Contact) {
	at := contact.Pos("command")
	if _, err := newTeller(nil).contact(c, contact); err != nil {
		p.problem(at, "%v", err)
		return
	}
	if !filepath.IsAbs(contact.Command) {
		return
	}
	info, err := os.Stat(contact.Command)
	switch {
	case err != nil:
		p.problem(at, "%v", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		p.problem(at, "%s is no program: chmod 755 %s", contact.Command, contact.Command)
	}
}
