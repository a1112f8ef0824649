package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// postfix starts Debian's server of mail on a port of loopback. Its boxes lie in the folder that is returned.
func postfix(t *testing.T, cert tls.Certificate) (address, boxes string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start postfix")
	}
	if _, err := os.Stat("/usr/sbin/postfix"); err != nil {
		t.Skip("postfix is not installed: scripts/setup.sh")
	}
	// Its users have to get there, and paths of its sockets are short.
	dir, err := os.MkdirTemp("/tmp", "postfix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	boxes = filepath.Join(dir, "mail")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var pair bytes.Buffer
	for _, b := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: key}, {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}} {
		if err := pem.Encode(&pair, b); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"pair.pem": pair.String(),
		"main.cf": strings.ReplaceAll(`compatibility_level = 3.6
queue_directory = DIR/spool
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = DIR/log/mail
maillog_file_prefixes = DIR/log
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.org
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = inline:{paul@example.org=paul/, grey@example.org=grey/}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_chain_files = DIR/pair.pem
smtpd_tls_security_level = may
smtpd_recipient_restrictions = reject_unlisted_recipient, permit_mynetworks, reject
strict_rfc821_envelopes = yes
smtpd_sasl_auth_enable = no
`, "DIR", dir),
		"master.cf": port + ` inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`,
	}
	for _, d := range []string{"spool", "data", "mail", "log"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		return string(out), err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for d, owner := range map[string]string{"data": "postfix", "mail": "nobody"} {
		if out, err := run("chown", owner, filepath.Join(dir, d)); err != nil {
			t.Fatal(out)
		}
	}
	if out, err := run("/usr/sbin/postfix", "-c", dir, "start"); err != nil {
		t.Fatalf("postfix does not start: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		run("/usr/sbin/postfix", "-c", dir, "stop")
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log", "mail"))
			t.Logf("postfix:\n%s", log)
		}
	})
	until(t, "postfix", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return address, boxes
}

// TestPostfix sends through Debian's postfix, with STARTTLS, and reads what lies in the box.
func TestPostfix(t *testing.T) {
	cert, pool := certificate(t, "mail.example")
	address, boxes := postfix(t, cert)
	c := contact("admins")
	c.Mail = []string{"paul@example.org", "nobody@example.org"}
	b := newBox()
	n := running(t, Options{Contacts: []Contact{c}, Mail: Mail{From: "tocsin@exemple.org", Server: "smtp://mail.example:25"}, Host: "hub.exemple.org", Outbox: b, RootCAs: pool,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}})
	trials := n.Test(t.Context(), "admins")
	if steps := strings.Join(trials[0].Steps, "\n"); trials[0].Err != nil || !strings.Contains(steps, "protected by TLS 1.3, certificate of mail.example") || !strings.Contains(steps, "Ok: queued as") {
		t.Errorf("test: %v\n%s", trials[0].Err, steps)
	}
	if err := trials[1].Err; err == nil || !strings.Contains(err.Error(), "550") {
		t.Errorf("an address that is not there: %v", err)
	}
	evil := "x\r\n.\r\nBcc: victim@example.org\r\n\x1b[2J\u202e" + strings.Repeat("é", 2000)
	for i, turned := range []tocsin.Change{turn(tocsin.Began, began), turn(tocsin.Acked, began.Add(5*time.Minute)), turn(tocsin.Over, began.Add(12*time.Minute))} {
		turned.Extra, turned.Label, turned.Rule = evil, evil, "own"
		turned.Series = tocsin.Series{Node: turned.Node, Service: "df", Field: "x"}
		if err := n.Tell(t.Context(), turned); err != nil {
			t.Fatal(err)
		}
		until(t, "postfix to take it", func() bool {
			return len(b.some(func(m tocsin.Notice) bool { return m.Via == "mail:paul@example.org" && m.State == tocsin.Sent })) == i+1
		})
	}
	until(t, "the refusals", func() bool {
		return len(b.some(func(m tocsin.Notice) bool { return m.Via == "mail:nobody@example.org" && m.State == tocsin.Failed })) == 3
	})
	var found []string
	until(t, "four mails in the box", func() bool {
		found, _ = filepath.Glob(filepath.Join(boxes, "paul", "new", "*"))
		return len(found) == 4
	})
	thread := map[string]int{}
	for _, path := range found {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := parse(t, string(raw))
		thread[m.Get("References")]++
		if m.Get("Return-Path") != "<tocsin@exemple.org>" || m.Get("X-Original-To") != "paul@example.org" || m.Get("Bcc") != "" || strings.ContainsAny(m.text+m.subject, "\x1b\u202e") {
			t.Errorf("headers %v", m.Header)
		}
	}
	if want := map[string]int{"": 2, "<incident-1042.1795269900.root@exemple.org>": 2}; fmt.Sprint(thread) != fmt.Sprint(want) {
		t.Errorf("threads %v, want %v", thread, want)
	}
}
