package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"tocsin"
)

// ways makes the receivers of a contact: each address of mail is one, so that one that is refused keeps no other waiting.
func (n *Notifier) ways(p *person) error {
	add := func(via, to string, send func(context.Context, *letter, func(string)) (string, error)) {
		p.ways = append(p.ways, &way{via: via, to: to, send: send, wake: make(chan struct{}, 1)})
	}
	for _, address := range p.Mail {
		m, err := n.newMailer(p, address)
		if err != nil {
			return err
		}
		add("mail:"+address, address, m.send)
	}
	if p.Ntfy != "" {
		s, err := n.newNtfy(p)
		if err != nil {
			return err
		}
		add("ntfy", s.host, s.send)
	}
	if p.Webhook != "" {
		s, err := n.newWebhook(p)
		if err != nil {
			return err
		}
		add("webhook", s.host, s.send)
	}
	if p.Command {
		add("command", "command", (&commander{n, p}).send)
	}
	return nil
}

// mailer sends mail to one address.
type mailer struct {
	n    *Notifier
	p    *person
	to   string
	from string
	zone string // the part of from behind the @, for Message-IDs

	sendmail   bool
	host       string
	port       int
	tls, local bool // TLS from the start; the server is this machine
	user       string
}

func (n *Notifier) newMailer(p *person, to string) (*mailer, error) {
	m := &mailer{n: n, p: p, to: to, from: n.o.Mail.From}
	if m.from == "" {
		m.from = "tocsin@" + firstOf(n.o.Host, "localhost")
	}
	_, m.zone, _ = strings.Cut(m.from, "@")
	if n.o.Mail.Server == "sendmail" {
		m.sendmail = true
		return m, nil
	}
	u, err := url.Parse(n.o.Mail.Server)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, errors.New("the server of mail is none")
	}
	m.host, m.tls, m.user = u.Hostname(), u.Scheme == "smtps", u.User.Username()
	addr, err := netip.ParseAddr(m.host)
	m.local = m.host == "localhost" || err == nil && addr.IsLoopback()
	switch port := u.Port(); {
	case port != "":
		if m.port, err = strconv.Atoi(port); err != nil {
			return nil, err
		}
	case m.tls:
		m.port = mail.DefaultPortSSL
	case m.user != "":
		m.port = mail.DefaultPortTLS
	default:
		m.port = mail.DefaultPort
	}
	return m, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// message makes the mail of a letter. Message-ID, In-Reply-To and References make one thread of one incident; a message
// that is sent again has the same Message-ID, by which receivers know it.
func (m *mailer) message(l *letter) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithCharset(mail.CharsetUTF8), mail.WithEncoding(mail.EncodingQP), mail.WithNoDefaultUserAgent())
	if err := msg.FromFormat("Tocsin", m.from); err != nil {
		return nil, permanent{fmt.Errorf("the sender's address: %w", err)}
	}
	if err := msg.To(m.to); err != nil {
		return nil, permanent{fmt.Errorf("the address: %w", err)}
	}
	msg.Subject(oneLine(l.subject))
	msg.SetDateWithValue(l.at)
	root := l.thread + ".root@" + m.zone
	switch {
	case l.first:
		msg.SetMessageIDWithValue(root)
	case l.thread != "":
		msg.SetMessageIDWithValue(fmt.Sprintf("%s.%d.%s@%s", l.thread, l.at.Unix(), l.kind, m.zone))
		msg.SetGenHeader(mail.HeaderInReplyTo, "<"+root+">")
		msg.SetGenHeader(mail.HeaderReferences, "<"+root+">")
	default:
		msg.SetMessageIDWithValue(fmt.Sprintf("%s.%d.%d@%s", l.kind, l.at.UnixNano(), max(l.id, 0), m.zone))
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBulk()
	msg.SetGenHeader("List-Id", fmt.Sprintf("Tocsin <%s.tocsin.%s>", m.p.Name, m.zone))
	msg.SetGenHeader("List-Unsubscribe", "<"+m.unsubscribe()+">")
	if l.change != nil {
		msg.SetGenHeader("X-Tocsin-Incident", strconv.FormatInt(l.change.ID, 10))
		msg.SetGenHeader("X-Tocsin-Level", l.change.Level)
	}
	if l.urgency == tocsin.Urgent && !l.over {
		msg.SetImportance(mail.ImportanceHigh)
	}
	text := l.text + "\n-- \n" + m.p.Locale.T("notify.footer", "host", m.n.o.Host, "contact", m.p.Name) + "\n"
	msg.SetBodyString(mail.TypeTextPlain, text)
	alt := ""
	if l.picture != nil {
		alt = m.p.Locale.T("notify.digest.picture")
		if err := msg.EmbedReader("bans.png", bytes.NewReader(l.picture), mail.WithFileContentID("<"+pictureID+">"), mail.WithFileContentType("image/png")); err != nil {
			return nil, permanent{fmt.Errorf("the picture: %w", err)}
		}
	}
	msg.AddAlternativeString(mail.TypeTextHTML, htmlOf(m.p.Locale.Tag(), text, m.n.o.URL, alt))
	return msg, nil
}

// unsubscribe is where somebody says that they want no more: a page, or whoever sends.
func (m *mailer) unsubscribe() string {
	if m.n.o.URL != "" {
		return m.n.o.URL + "/account"
	}
	return "mailto:" + m.from + "?subject=" + url.QueryEscape("unsubscribe "+m.p.Name)
}

// oneLine makes a header's text harmless, whatever a stranger put into it.
func oneLine(s string) string { return clip(tocsin.Printable(s), 2*maxTitle) }

func (m *mailer) send(ctx context.Context, l *letter, say func(string)) (said string, err error) {
	msg, err := m.message(l)
	if err != nil {
		return "", err
	}
	if m.sendmail {
		if m.n.o.Sendmail == nil {
			return "", errors.New("this machine's own mail cannot be used here")
		}
		var b bytes.Buffer
		if _, err := msg.WriteTo(&b); err != nil {
			return "", permanent{err}
		}
		say("handing it to sendmail")
		return m.n.o.Sendmail(ctx, bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")))
	}
	return m.smtp(ctx, msg, say)
}

// smtp hands a message to a server.
func (m *mailer) smtp(ctx context.Context, msg *mail.Msg, say func(string)) (said string, err error) {
	var line net.Conn
	defer func() {
		if line != nil {
			_ = line.Close() // the library leaves it open where it does not come to the message
		}
	}()
	client, err := m.client(func(dialing context.Context, network, addr string) (net.Conn, error) {
		conn, err := m.dial(dialing, network, addr, say)
		if err != nil {
			return nil, err
		}
		line = conn
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	})
	if err != nil {
		return "", err
	}
	say(fmt.Sprintf("connecting to %s", net.JoinHostPort(m.host, strconv.Itoa(m.port))))
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", m.host, err)
	}
	defer func() { _ = client.CloseWithSMTPClient(conn) }()
	if state, err := conn.GetTLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		say(fmt.Sprintf("protected by %s, certificate of %s until %s", tls.VersionName(state.Version), strings.Join(cert.DNSNames, ", "), cert.NotAfter.Format(time.DateOnly)))
	} else {
		say("not protected by TLS: it does not leave this machine")
	}
	if m.user != "" {
		say("logged in as " + m.user)
	}
	err = client.SendWithSMTPClient(conn, msg)
	if err != nil && !msg.IsDelivered() {
		return "", judged(err)
	}
	return msg.ServerResponse(), nil
}

// judged says whether another try may help: a server that refuses the sender, the receiver or the message for good says 5xx.
func judged(err error) error {
	var refused *mail.SendError
	if errors.As(err, &refused) && refused.ErrorCode() >= 500 {
		return permanent{err}
	}
	return err
}

// client is made anew for each message: the password may have changed.
func (m *mailer) client(dial mail.DialContextFunc) (*mail.Client, error) {
	o := []mail.Option{
		mail.WithPort(m.port), mail.WithTimeout(sendTime / 2), mail.WithoutNoop(), mail.WithoutSMTPUTF8(),
		mail.WithTLSConfig(&tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12, RootCAs: m.n.o.RootCAs}),
		mail.WithDialContextFunc(dial),
	}
	if m.n.o.Host != "" {
		o = append(o, mail.WithHELO(m.n.o.Host))
	}
	auth := mail.SMTPAuthAutoDiscover
	switch {
	case m.tls:
		o = append(o, mail.WithTLSPolicy(mail.TLSOpportunistic)) // it is there from the start
	case m.local:
		o = append(o, mail.WithTLSPolicy(mail.NoTLS)) // nothing leaves the machine
		auth = mail.SMTPAuthPlainNoEnc
	default:
		o = append(o, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if m.user != "" {
		password, err := readSecret(m.n.o.Mail.PasswordFile)
		if err != nil {
			return nil, err
		}
		o = append(o, mail.WithSMTPAuth(auth), mail.WithUsername(m.user), mail.WithPassword(password))
	}
	client, err := mail.NewClient(m.host, o...)
	if err != nil {
		return nil, permanent{err}
	}
	return client, nil
}

// dial connects, with TLS where that comes first.
func (m *mailer) dial(ctx context.Context, network, addr string, say func(string)) (net.Conn, error) {
	dial := m.n.o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	say("connected to " + conn.RemoteAddr().String())
	if !m.tls {
		return conn, nil
	}
	secure := tls.Client(conn, &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12, RootCAs: m.n.o.RootCAs})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// maxSecret is the most that a file with a password may hold.
const maxSecret = 4 << 10

// readSecret reads a password or token. The error holds nothing of it.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("read the secret: %s is no file", path) // a pipe would be waited for without end
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	defer f.Close()
	text := make([]byte, maxSecret+1)
	size, err := f.Read(text)
	if err != nil && size == 0 {
		return "", fmt.Errorf("read the secret in %s: %w", path, err)
	}
	secret := strings.TrimSpace(string(text[:size]))
	if size > maxSecret || secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("%s holds no secret: write it alone, in one line", path)
	}
	return secret, nil
}
