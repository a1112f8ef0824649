package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"tocsin"
	"tocsin/internal/locale"
)

// box is an outbox in memory.
type box struct {
	mu    sync.Mutex
	last  int64
	all   map[int64]tocsin.Notice
	fails error
}

func newBox() *box { return &box{all: map[int64]tocsin.Notice{}} }

func (b *box) AddNotices(_ context.Context, all []tocsin.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return b.fails
	}
	for i := range all {
		b.last++
		all[i].ID = b.last
		b.all[b.last] = all[i]
	}
	return nil
}

func (b *box) PutNotices(_ context.Context, all []tocsin.Notice, drop []int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range all {
		if _, ok := b.all[n.ID]; ok {
			b.all[n.ID] = n
		}
	}
	for _, id := range drop {
		delete(b.all, id)
	}
	return b.fails
}

func (b *box) some(keep func(tocsin.Notice) bool) (all []tocsin.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := int64(1); id <= b.last; id++ {
		if n, ok := b.all[id]; ok && keep(n) {
			all = append(all, n)
		}
	}
	return all
}

func (b *box) WaitingNotices(context.Context) ([]tocsin.Notice, error) {
	return b.some(func(n tocsin.Notice) bool { return n.State == tocsin.Waiting }), b.fails
}

func (b *box) EndedNotices(_ context.Context, since time.Time) ([]tocsin.Notice, error) {
	return b.some(func(n tocsin.Notice) bool { return n.State != tocsin.Waiting && !n.Ended.Before(since) }), b.fails
}

var (
	french = locale.Get("fr").In(time.UTC)
	began  = time.Date(2026, 11, 21, 14, 5, 0, 0, time.UTC)
)

func contact(name string) Contact {
	return Contact{Name: name, Locale: french, Urgency: tocsin.Soon, PerHour: 20, Digest: -1}
}

// turn is something that happened to incident 1042.
func turn(t tocsin.Turn, at time.Time) tocsin.Change {
	in := tocsin.Incident{ID: 1042, Rule: "silent", Group: "Scaleway", Node: "mail2.exemple.org", Level: tocsin.Critical, Worst: tocsin.Critical,
		Urgency: tocsin.Urgent, Value: math.NaN(), Began: began, Changed: at}
	if t == tocsin.Over {
		in.Level, in.Ended = tocsin.Fine, at
	}
	if t == tocsin.Acked {
		in.Ack = tocsin.Ack{By: "Paul", Note: "je regarde\r\nBcc: all@example.org", At: at, Until: at.Add(2 * time.Hour)}
	}
	return tocsin.Change{Incident: in, Turn: t, At: at, Tell: true}
}

// running makes a notifier that runs until the test ends.
func running(t *testing.T, o Options) *Notifier {
	t.Helper()
	if o.Outbox == nil {
		o.Outbox = newBox()
	}
	n, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return n
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// parsed is a mail as a program reads it.
type parsed struct {
	mail.Header
	subject, text, html string
}

func parse(t *testing.T, raw string) parsed {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	p := parsed{Header: m.Header}
	if p.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Error(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Errorf("a part with encoding %q", part.Header.Get("Content-Transfer-Encoding"))
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		switch kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type")); kind {
		case "text/plain":
			p.text = string(text)
		case "text/html":
			p.html = string(text)
		default:
			t.Errorf("a part %s", kind)
		}
	}
	return p
}

func TestMailIsAThread(t *testing.T) {
	s := newSMTPD(t)
	s.start()
	c := contact("admins")
	c.Mail = []string{"paul@example.org"}
	n := running(t, Options{Contacts: []Contact{c}, Mail: Mail{From: "tocsin@exemple.org", Server: "smtp://" + s.l.Addr().String()}, Host: "hub.exemple.org",
		URL: "https://tocsin.exemple.org"})
	for i, turned := range []tocsin.Change{turn(tocsin.Began, began), turn(tocsin.Acked, began.Add(5*time.Minute)), turn(tocsin.Over, began.Add(12*time.Minute))} {
		if err := n.Tell(t.Context(), turned); err != nil {
			t.Fatal(err)
		}
		until(t, "the mail", func() bool { return len(s.got()) == i+1 })
	}
	mails := s.got()
	first, ack, over := parse(t, mails[0]), parse(t, mails[1]), parse(t, mails[2])
	const space = "\u202f"
	for _, tt := range []struct{ got, want string }{
		{first.subject, "[#1042] mail2.exemple.org sans nouvelles"},
		{ack.subject, "Re: [#1042] mail2.exemple.org sans nouvelles — Paul s’en occupe"},
		{over.subject, "Re: [#1042] mail2.exemple.org sans nouvelles — résolu après 12" + space + "min"},
		{first.Get("From"), `"Tocsin" <tocsin@exemple.org>`},
		{first.Get("To"), "<paul@example.org>"},
		{first.Get("Auto-Submitted"), "auto-generated"},
		{first.Get("Precedence"), "bulk"},
		{first.Get("List-Id"), "Tocsin <admins.tocsin.exemple.org>"},
		{first.Get("List-Unsubscribe"), "<https://tocsin.exemple.org/account>"},
		{first.Get("X-Tocsin-Incident"), "1042"},
		{first.Get("Importance"), "high"},
		{over.Get("Importance"), ""},
		{first.Get("In-Reply-To"), ""},
		{first.Get("Message-ID"), "<incident-1042.1795269900.root@exemple.org>"},
		{first.text, "Aucune nouvelle de mail2.exemple.org depuis le 21 nov. 2026 14:05.\n\nNiveau" + space + ": critique\nServeur" + space + ": mail2.exemple.org\n" +
			"Groupe" + space + ": Scaleway\nDepuis" + space + ": 14:05\n\nhttps://tocsin.exemple.org/alert/1042\n\n-- \nTocsin sur hub.exemple.org, pour le contact «" + space + "admins" + space + "».\n"},
	} {
		if got := strings.ReplaceAll(tt.got, "\r\n", "\n"); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
	for _, reply := range []parsed{ack, over} {
		if reply.Get("In-Reply-To") != first.Get("Message-ID") || reply.Get("References") != first.Get("Message-ID") {
			t.Errorf("in reply to %q, references %q; want %q", reply.Get("In-Reply-To"), reply.Get("References"), first.Get("Message-ID"))
		}
	}
	if ack.Get("Message-ID") == over.Get("Message-ID") || ack.Get("Message-ID") == first.Get("Message-ID") {
		t.Error("two mails of one Message-ID")
	}
	if !strings.Contains(ack.text, `je regarde\r\nBcc: all@example.org`) || ack.Get("Bcc") != "" || !strings.Contains(ack.text, "16:10") {
		t.Errorf("the note: %q", ack.text)
	}
	if !strings.Contains(over.text, "C’est fini à 14:17, après 12"+space+"min.") || strings.Contains(over.text, "Aucune nouvelle") {
		t.Errorf("the end: %q", over.text)
	}
	for _, m := range []parsed{first, ack, over} {
		if words(m.html) != words(m.text) {
			t.Errorf("the parts differ:\n%q\n%q", words(m.html), words(m.text))
		}
		for line := range strings.Lines(m.text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\r\n")); n > columns {
				t.Errorf("a line of %d columns: %q", n, line)
			}
		}
		if _, err := mail.ParseDate(m.Get("Date")); err != nil {
			t.Error(err)
		}
	}
	if s.hello != "hub.exemple.org" {
		t.Errorf("hello from %q", s.hello)
	}
}

// words are those of a text, or of a page without its marks.
func words(s string) string {
	for {
		i, j := strings.IndexByte(s, '<'), strings.IndexByte(s, '>')
		if i < 0 || j < i {
			break
		}
		if s[i:j+1] == "<title>" {
			j = strings.Index(s, "</title>") + len("</title>") - 1
		}
		s = s[:i] + " " + s[j+1:]
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '\r' || r == '-' }), " ")
}

// Whatever plugins and people write, a mail has the headers that we gave it, and its text turns no terminal.
func TestHostileMail(t *testing.T) {
	s := newSMTPD(t)
	s.start()
	c := contact("admins")
	c.Mail = []string{"paul@example.org"}
	n := running(t, Options{Contacts: []Contact{c}, Mail: Mail{From: "tocsin@exemple.org", Server: "smtp://" + s.l.Addr().String()}, Host: "hub"})
	evil := "x\r\nBcc: victim@example.org\r\n\r\n.\r\nQUIT\r\n\x1b[2J\u202e<script>alert(1)</script>é" + strings.Repeat("long ", 500) + strings.Repeat("x", 3000)
	in := turn(tocsin.Began, began)
	in.Rule, in.Series, in.Label, in.Extra, in.Value, in.Limit = "mine", tocsin.Series{Node: "web", Service: "df", Field: "x"}, evil, ".\n..\n"+evil, 3, evil
	in.Members = slices.Repeat([]string{evil}, 100)
	in.Ack = tocsin.Ack{By: evil, Note: evil}
	for i, what := range []tocsin.Turn{tocsin.Began, tocsin.Acked} {
		in.Turn = what
		if err := n.Tell(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		until(t, "the mail", func() bool { return len(s.got()) == i+1 })
	}
	allowed := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Importance", "In-Reply-To", "List-Id", "List-Unsubscribe", "Message-Id", "Mime-Version",
		"Precedence", "Priority", "References", "Subject", "To", "X-Auto-Response-Suppress", "X-Msmail-Priority", "X-Priority", "X-Tocsin-Incident", "X-Tocsin-Level"}
	for _, raw := range s.got() {
		m := parse(t, raw)
		for name := range m.Header {
			if !slices.Contains(allowed, name) {
				t.Errorf("a header %s", name)
			}
		}
		if strings.ContainsAny(m.text+m.html+m.subject, "\x1b\u202e\x00") || strings.Contains(m.html, "<script") || strings.Contains(m.subject, "\n") {
			t.Error("hostile text came through")
		}
		if len(raw) > 100_000 {
			t.Errorf("a mail of %d bytes", len(raw))
		}
	}
	if len(s.rcpts) != 2 || strings.Contains(strings.Join(s.rcpts, ""), "victim") {
		t.Errorf("receivers %q", s.rcpts)
	}
}

func TestMailOverTLSWithAPassword(t *testing.T) {
	cert, pool := certificate(t, "mail.example")
	for _, scheme := range []string{"smtp", "smtps"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSMTPD(t)
			s.user = "me:secret word"
			conf := &tls.Config{Certificates: []tls.Certificate{cert}}
			if scheme == "smtps" {
				s.l = tls.NewListener(s.l, conf)
			} else {
				s.startTLS = conf
			}
			s.start()
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte("secret word\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c := contact("admins")
			c.Mail = []string{"paul@example.org"}
			o := Options{Contacts: []Contact{c}, Mail: Mail{From: "t@exemple.org", Server: scheme + "://me@mail.example", PasswordFile: file}, Host: "hub", Outbox: newBox(), RootCAs: pool,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, s.l.Addr().String())
				}}
			n, err := New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			tried := n.Test(t.Context(), "admins")
			tested, err := len(tried), tried[0].Err
			all := strings.Join(tried[0].Steps, "\n")
			if tested != 1 || err != nil || !strings.Contains(all, "protected by TLS 1.3, certificate of mail.example") || !strings.Contains(all, "accepted: 2.0.0 Ok: queued as 4A2B") && !strings.Contains(all, "accepted: 250 2.0.0 Ok: queued as 4A2B") {
				t.Errorf("tested %d, %v:\n%s", tested, err, all)
			}
			if strings.Contains(all, "secret") {
				t.Error("the password was told")
			}
			if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err = n.Test(t.Context(), "")[0].Err; err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "other") {
				t.Errorf("a wrong password: %v", err)
			}
			o.RootCAs = nil
			if n, err = New(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if err = n.Test(t.Context(), "")[0].Err; err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("a certificate of nobody: %v", err)
			}
			s.mu.Lock()
			s.wrong = slices.DeleteFunc(s.wrong, func(w string) bool { return strings.Contains(w, "MAIL in state") })
			s.mu.Unlock()
		})
	}
}

// A server that offers no STARTTLS gets neither message nor password, unless it is this machine.
func TestMailIsNotSentInTheOpen(t *testing.T) {
	s := newSMTPD(t)
	s.start()
	c := contact("admins")
	c.Mail = []string{"paul@example.org"}
	n, err := New(t.Context(), Options{Contacts: []Contact{c}, Mail: Mail{From: "t@exemple.org", Server: "smtp://mail.example:25"}, Outbox: newBox(),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.l.Addr().String())
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err = n.Test(t.Context(), "")[0].Err; err == nil || !strings.Contains(err.Error(), "STARTTLS") || len(s.got()) > 0 {
		t.Errorf("in the open: %v, %d mails", err, len(s.got()))
	}
}

func TestRefusedMail(t *testing.T) {
	s := newSMTPD(t)
	s.answer = func(verb, arg string) string {
		switch {
		case verb == "RCPT" && strings.Contains(arg, "gone@"):
			return "550 5.1.1 no such user\x1b[31m"
		case verb == "RCPT" && strings.Contains(arg, "grey@"):
			return "451 4.7.1 come again"
		}
		return ""
	}
	s.start()
	c := contact("admins")
	c.Mail = []string{"gone@example.org", "grey@example.org", "paul@example.org"}
	b := newBox()
	n := running(t, Options{Contacts: []Contact{c}, Mail: Mail{From: "t@exemple.org", Server: "smtp://" + s.l.Addr().String()}, Outbox: b})
	if err := n.Tell(t.Context(), turn(tocsin.Began, began)); err != nil {
		t.Fatal(err)
	}
	until(t, "three answers", func() bool {
		tried := b.some(func(m tocsin.Notice) bool { return m.Tries > 0 })
		return len(tried) == 3
	})
	for i, want := range []struct {
		state tocsin.NoticeState
		said  string
	}{{tocsin.Failed, `550 "5.1.1 no such user`}, {tocsin.Waiting, `451 "4.7.1 come again`}, {tocsin.Sent, "2.0.0 Ok: queued as 4A2B"}} {
		m := b.some(func(tocsin.Notice) bool { return true })[i]
		if m.State != want.state || !strings.Contains(m.Said, want.said) || strings.Contains(m.Said, "\x1b") {
			t.Errorf("%s: %s %q", m.Via, m.State, m.Said)
		}
	}
	st := n.Status()
	if len(st) != 3 || st[0].GaveUp.IsZero() || st[1].Since.IsZero() || st[1].Waiting != 1 || st[2].Sent.IsZero() || st[2].Problem != "" {
		t.Errorf("status %+v", st)
	}
}

func TestSendmail(t *testing.T) {
	c := contact("admins")
	c.Mail = []string{"paul@example.org"}
	var got []byte
	n, err := New(t.Context(), Options{Contacts: []Contact{c}, Mail: Mail{Server: "sendmail"}, Host: "hub", Outbox: newBox(),
		Sendmail: func(_ context.Context, m []byte) (string, error) { got = m; return "queued", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Test(t.Context(), "")[0].Err; err != nil {
		t.Fatal(err)
	}
	if m := parse(t, string(got)); m.Get("From") != `"Tocsin" <tocsin@hub>` || !strings.Contains(m.text, "essai") || strings.Contains(string(got), "\r") {
		t.Errorf("mail\n%s", got)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "lines": "a\nb", "long": strings.Repeat("x", maxSecret+1)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readSecret(path); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := readSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there")
	}
}

// A digest brings its picture along: nothing is fetched, and who sees no picture reads what it shows.
func TestDigestWithPicture(t *testing.T) {
	c := contact("ca")
	c.Mail = []string{"ca@exemple.org"}
	n, err := New(t.Context(), Options{Contacts: []Contact{c}, Outbox: newBox(), Mail: Mail{From: "tocsin@exemple.org", Server: "sendmail"}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.newMailer(n.people[0], "ca@exemple.org")
	if err != nil {
		t.Fatal(err)
	}
	picture := []byte("\x89PNG\r\n\x1a\n picture")
	msg, err := m.message(&letter{kind: kindDigest, subject: "Tocsin", text: "Tout va bien.\n", at: began, picture: picture})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	whole, err := mail.ReadMessage(&b)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(header map[string][]string, body io.Reader)
	walk = func(header map[string][]string, body io.Reader) {
		kind, params, err := mime.ParseMediaType(textproto.MIMEHeader(header).Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(kind, "multipart/") {
			if textproto.MIMEHeader(header).Get("Content-Transfer-Encoding") == "base64" {
				body = base64.NewDecoder(base64.StdEncoding, body)
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			parts[kind+textproto.MIMEHeader(header).Get("Content-ID")] = string(text)
			return
		}
		for r := multipart.NewReader(body, params["boundary"]); ; {
			p, err := r.NextPart()
			if err != nil {
				return
			}
			walk(p.Header, p)
		}
	}
	walk(whole.Header, whole.Body)
	if len(parts) != 3 || parts["image/png<bans@tocsin>"] != string(picture) ||
		!strings.Contains(parts["text/html"], `<img src="cid:bans@tocsin" alt="Bannissements en 24 h, sur 30 jours">`) ||
		!strings.HasPrefix(parts["text/plain"], "Tout va bien.") {
		t.Errorf("parts %q", parts)
	}
}

// A picture that is too big, or that cannot be drawn, keeps no digest back.
func TestPictureOfDigest(t *testing.T) {
	c := contact("ca")
	c.Mail = []string{"ca@exemple.org"}
	for name, tt := range map[string]struct {
		data []byte
		err  error
		want int
	}{"good": {make([]byte, 100), nil, 100}, "big": {make([]byte, maxPicture+1), nil, 0}, "none": {}, "failed": {nil, errors.New("no store"), 0}} {
		n, err := New(t.Context(), Options{
			Contacts: []Contact{c}, Outbox: newBox(), Mail: Mail{From: "tocsin@exemple.org", Server: "sendmail"},
			Night:   func(_ context.Context, from, to time.Time) (Night, error) { return Night{From: from, To: to}, nil },
			Picture: func(context.Context, *locale.Locale, time.Time) ([]byte, error) { return tt.data, tt.err },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.makeDigest(t.Context(), n.people[0], began); err != nil {
			t.Fatal(err)
		}
		w := n.people[0].ways[0]
		if len(w.queue) != 1 {
			t.Fatalf("%s: %d messages wait", name, len(w.queue))
		}
		l, err := n.compose(n.people[0], w, w.queue)
		if err != nil || len(l.picture) != tt.want || l.text == "" {
			t.Errorf("%s: picture of %d bytes, %v; want %d", name, len(l.picture), err, tt.want)
		}
	}
}

// A link in a message leads to our own pages; an address that a plugin names stays text.
func TestOnlyOurLinks(t *testing.T) {
	text := "https://t.example/alert/7\n\nhttps://evil.example/x\nhttps://t.example.evil.example/\n"
	got := htmlOf("en", text, "https://t.example", "")
	if strings.Count(got, "<a ") != 1 || !strings.Contains(got, `<a href="https://t.example/alert/7">`) || !strings.Contains(got, "https://evil.example/x") {
		t.Errorf("HTML:\n%s", got)
	}
	if got := htmlOf("en", text, "", ""); strings.Contains(got, "<a ") {
		t.Errorf("HTML without pages:\n%s", got)
	}
}

// A secret is read from a file; a pipe would be waited for.
func TestSecretsAreFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("this system has no named pipes: ", err)
	}
	if _, err := readSecret(path); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a pipe: %v", err)
	}
}
