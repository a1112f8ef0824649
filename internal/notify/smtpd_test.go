package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// smtpd is a server of mail that forgives nothing: every line ends in CRLF, none is longer than RFC 5321 lets it be, every
// byte is ASCII, a header line is folded before 78 columns or cannot be, and commands come in their order.
type smtpd struct {
	t        testing.TB
	l        net.Listener
	startTLS *tls.Config
	user     string // "name:password" that has to be shown
	answer   func(verb, arg string) string
	conns    sync.WaitGroup

	mu    sync.Mutex
	mails []string // as they came, dots unstuffed
	rcpts []string
	wrong []string
	hello string
}

func newSMTPD(t testing.TB) *smtpd {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &smtpd{t: t, l: l}
}

func (s *smtpd) start() {
	s.conns.Go(func() {
		for {
			conn, err := s.l.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() { s.serve(conn) })
		}
	})
	s.t.Cleanup(func() {
		s.l.Close()
		s.conns.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range s.wrong {
			s.t.Error("the server of mail:", w)
		}
	})
}

func (s *smtpd) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *smtpd) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

// line reads one line, with everything that may be wrong with it.
func (s *smtpd) line(r *bufio.Reader, most int) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") {
		s.fail("a line ends without CR: %q", line)
	}
	if len(line) > most {
		s.fail("a line has %d bytes, more than %d: %.60q", len(line), most, line)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	for i := range len(line) {
		if line[i] >= 0x80 || line[i] < ' ' && line[i] != '\t' {
			s.fail("byte %#x in %.80q", line[i], line)
			break
		}
	}
	return line, nil
}

func (s *smtpd) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	r := bufio.NewReader(conn)
	reply := func(text string) { io.WriteString(conn, text+"\r\n") }
	reply("220 mail.example ESMTP strict")
	state, secure, known := "", false, s.user == ""
	if _, ok := conn.(*tls.Conn); ok {
		secure = true
	}
	for {
		line, err := s.line(r, 512)
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		if s.answer != nil {
			if a := s.answer(verb, arg); a != "" {
				reply(a)
				if strings.HasPrefix(a, "421") {
					return
				}
				continue
			}
		}
		switch verb {
		case "EHLO":
			s.mu.Lock()
			s.hello = arg
			s.mu.Unlock()
			state = "hello"
			more := ""
			if s.startTLS != nil && !secure {
				more += "250-STARTTLS\r\n"
			}
			if s.user != "" && (secure || s.startTLS == nil) {
				more += "250-AUTH PLAIN\r\n"
			}
			reply("250-mail.example\r\n" + more + "250 ENHANCEDSTATUSCODES")
		case "STARTTLS":
			reply("220 2.0.0 go ahead")
			if r.Buffered() > 0 {
				s.fail("bytes between STARTTLS and the handshake")
			}
			c := tls.Server(conn, s.startTLS)
			if err := c.Handshake(); err != nil {
				return
			}
			conn, r, secure, state = c, bufio.NewReader(c), true, ""
		case "AUTH":
			kind, text, _ := strings.Cut(arg, " ")
			plain, err := base64.StdEncoding.DecodeString(text)
			if kind != "PLAIN" || err != nil || string(plain) != "\x00"+strings.ReplaceAll(s.user, ":", "\x00") {
				reply("535 5.7.8 no")
				continue
			}
			known = true
			reply("235 2.7.0 welcome")
		case "MAIL":
			if state != "hello" || !known {
				s.fail("MAIL in state %q, known %v", state, known)
				reply("503 5.5.1 not now")
				continue
			}
			state = "mail"
			reply("250 2.1.0 ok")
		case "RCPT":
			if state != "mail" && state != "rcpt" {
				s.fail("RCPT in state %q", state)
			}
			state = "rcpt"
			s.mu.Lock()
			s.rcpts = append(s.rcpts, arg)
			s.mu.Unlock()
			reply("250 2.1.5 ok")
		case "DATA":
			if state != "rcpt" {
				s.fail("DATA in state %q", state)
			}
			reply("354 go on")
			text, err := s.data(r)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.mails = append(s.mails, text)
			s.mu.Unlock()
			state = "hello"
			reply("250 2.0.0 Ok: queued as 4A2B")
		case "RSET":
			state = "hello"
			reply("250 2.0.0 ok")
		case "*": // it gives up logging in (RFC 4954, 4)
			reply("501 5.0.0 as you like")
		case "NOOP":
			reply("250 2.0.0 ok")
		case "QUIT":
			reply("221 2.0.0 bye")
			return
		default:
			s.fail("unknown command %q", line)
			reply("500 5.5.2 what")
		}
	}
}

// data reads a message up to its dot.
func (s *smtpd) data(r *bufio.Reader) (string, error) {
	var b strings.Builder
	head := true
	for {
		line, err := s.line(r, 1000)
		switch {
		case err != nil:
			return "", err
		case line == ".":
			return b.String(), nil
		case strings.HasPrefix(line, "."):
			if !strings.HasPrefix(line, "..") {
				s.fail("a dot that is not stuffed: %q", line)
			}
			line = line[1:]
		case line == "":
			head = false
		}
		if len(line) > 78 && strings.Contains(strings.TrimSpace(line), " ") && head {
			s.fail("a header line of %d columns that could be folded: %q", len(line), line)
		}
		if len(line) > 78 && !head {
			s.fail("a line of %d columns: %q", len(line), line)
		}
		b.WriteString(line + "\n")
	}
}

// certificate makes one that signs itself, for the name.
func certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
