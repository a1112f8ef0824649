package config

import (
	"fmt"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
)

// Bounds of contacts.
const (
	maxContacts   = 100
	maxRecipients = 50 // addresses of mail of one contact
)

// Mail says how mail leaves this machine.
type Mail struct {
	From         string // the sender's address; "": tocsin@ and the machine's name
	Server       string // "sendmail", "smtp://[USER@]HOST[:PORT]" or "smtps://..."
	PasswordFile string // "": none
}

// Contact is one [[contact]]: somebody who is told, and how.
type Contact struct {
	Name      string
	Language  string         // "en" or "fr"
	Timezone  string         // IANA name; "": the machine's
	Urgency   tocsin.Urgency // nothing less urgent is told
	Groups    []string       // of servers; empty: all
	Quiet     Hours          // only what is urgent is told meanwhile
	PerHour   int            // messages; the rest becomes one
	Digest    string         // "HH:MM" of Timezone; "": none
	Mail      []string       // addresses
	Ntfy      string         // URL of a topic; "": none
	NtfyToken string         // path of a file; "": none
	Webhook   string         // URL; "": none
	Secret    string         // path of a file with the key that signs what goes to Webhook; "": none
	Command   string         // path of a program, or a contact of munin.conf; "": none

	where map[string]Pos
}

// Hours are hours of the day, from one time to another, which may be of the next day. The zero Hours are none.
type Hours struct{ From, To time.Duration } // since midnight

// Pos is where the value of a key of this contact stands; for a key that is left at its default it is where the contact
// begins.
func (c *Contact) Pos(key string) Pos { return placeOf(c.where, key) }

// contactWays are the keys that say how somebody can be told.
var contactWays = []string{"mail", "ntfy", "webhook", "command"}

// ways counts in how many ways the contact can be told.
func (c *Contact) ways() int {
	n := len(c.Mail)
	for _, way := range []string{c.Ntfy, c.Webhook, c.Command} {
		if way != "" {
			n++
		}
	}
	return n
}

// newContact begins another contact; nil if there are too many.
func (r *reader) newContact(at int) *section {
	return r.begin("contact", at, &r.contacts, maxContacts, target{contact: &Contact{where: r.beginning(at)}})
}

// finishContacts does what needs a whole [[contact]], or a whole [mail].
func (r *reader) finishContacts() {
	first := map[string]*section{}
	for _, s := range r.contacts {
		r.checkName(s, first, "a contact is known by its name: give it another one")
		c := s.target.contact
		if c.ways() == 0 && !slices.ContainsFunc(contactWays, func(key string) bool { _, ok := s.seen[key]; return ok }) {
			r.fail(s.at, `write mail = ["admin@example.org"], or ntfy, webhook or command`, "contact %q who can be told in no way", clip(c.Name))
		}
		r.config.Contacts = append(r.config.Contacts, *c)
	}
	m := &r.config.Mail
	if u, err := url.Parse(m.Server); err == nil && m.PasswordFile != "" && u.User == nil {
		r.fail(r.singles["mail"].seen["password_file"], `write it like server = "smtp://USER@mail.example.org:587"`, "password_file of nobody: the server is given no user")
	}
}

// setRecipients takes a list of addresses of mail.
func setRecipients(a *assignment, v value) {
	if v.kind == list && !a.fits(v, maxRecipients) {
		return
	}
	listOf(func(t target) *[]string { return &t.contact.Mail }, checkMail)(a, v)
}

var timeRange = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

// setQuiet takes "HH:MM-HH:MM".
func setQuiet(a *assignment, v value) {
	if !a.is(v, text) {
		return
	}
	if v.text == "" {
		a.target.contact.Quiet = Hours{}
		return
	}
	m := timeRange.FindStringSubmatch(v.text)
	if m == nil || m[1]+m[2] == m[3]+m[4] {
		a.fail(v, `write it like quiet = "22:00-07:00"`, "%q are no hours of the day", clip(v.text))
		return
	}
	a.target.contact.Quiet = Hours{clockTime(m[1], m[2]), clockTime(m[3], m[4])}
}

// clockTime is the time since midnight of digits that were looked at.
func clockTime(hours, minutes string) time.Duration {
	h, _ := strconv.Atoi(hours)
	m, _ := strconv.Atoi(minutes)
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

func setLeastUrgency(a *assignment, v value) {
	if !a.is(v, text) {
		return
	}
	for u := tocsin.Digest; u <= tocsin.Urgent; u++ {
		if u.String() == v.text {
			a.target.contact.Urgency = u
			return
		}
	}
	a.fail(v, "write one of digest, soon, urgent", "%q is no urgency", clip(v.text))
}

func checkContactName(s string) error {
	if isName(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a contact", clip(s)), Hint: "up to 48 letters, digits, and _ . - behind the first"}
}

func checkLanguage(s string) error { return oneOf(s, "language that we speak", []string{"en", "fr"}) }

func checkDigest(s string) error {
	if s == "" || timeOfDay.MatchString(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a time of day", clip(s)), Hint: `write it like "07:00"; "" sends none`}
}

// checkMail wants a bare address: no name, no comment, nothing that could end a header's line.
func checkMail(s string) error {
	a, err := mail.ParseAddress(s)
	if err == nil && a.Name == "" && a.Address == s && len(s) <= 254 && !strings.ContainsAny(s, "\"<>, ") {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not an address of mail", clip(s)), Hint: `write it like "admin@example.org"`}
}

func orNoMail(s string) error {
	if s == "" {
		return nil
	}
	return checkMail(s)
}

// checkMailServer takes sendmail, or a server by its URL.
func checkMailServer(s string) error {
	if s == "sendmail" {
		return nil
	}
	u, err := url.Parse(s)
	if err == nil && hasPassword(u) {
		return errPassword("put it into a file, and name it as password_file")
	}
	if err == nil && (u.Scheme == "smtp" || u.Scheme == "smtps") && u.Hostname() != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" && len(s) <= 500 {
		if port := u.Port(); port == "" || validPort(port) {
			return nil
		}
	}
	return &Error{Msg: fmt.Sprintf("%q is not how mail can leave", clip(s)), Hint: `write "sendmail", "smtp://USER@HOST:587" (with STARTTLS) or "smtps://USER@HOST:465"`}
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// checkHook wants where a message can be posted without being read or changed on the way.
func checkHook(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Fragment != "" || len(s) > 2000:
		return &Error{Msg: fmt.Sprintf("%q is not where a message can be sent", clip(s)), Hint: `write it like "https://example.org/hook"`}
	case hasPassword(u):
		return errPassword("put a token into a file")
	case u.Scheme == "http" && !ownHost(u.Hostname()):
		return &Error{Msg: fmt.Sprintf("%q is not protected on its way", clip(s)), Hint: "write https://"}
	}
	return nil
}

// checkNtfy wants the URL of a topic.
func checkNtfy(s string) error {
	if s == "" {
		return nil
	}
	if err := checkHook(s); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err == nil && u.RawQuery == "" && topicForm.MatchString(u.Path[strings.LastIndexByte(u.Path, '/')+1:]) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q does not end in a topic", clip(s)), Hint: `write it like "https://ntfy.sh/TOPIC"`}
}

var topicForm = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`) // as ntfy takes them

// checkCommand takes the path of a program, or the name of a contact of munin.conf.
func checkCommand(s string) error {
	switch {
	case s == "", isName(s):
		return nil
	case filepath.IsAbs(s):
		return checkPath(s)
	}
	return &Error{Msg: fmt.Sprintf("%q is neither a path nor a contact of munin.conf", clip(s)), Hint: `write the path of a program without arguments, like "/usr/local/bin/sms"`}
}
