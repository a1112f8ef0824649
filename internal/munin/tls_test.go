package munin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	made, err := makeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: made.PrivateKey.(*ecdsa.PrivateKey)}
	a.cert = a.sign(t, name, a.key, true)
	return a
}

func (a *authority) sign(t *testing.T, name string, key *ecdsa.PrivateKey, ca bool) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Asso"}, Country: []string{"FR"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) certificate(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{a.sign(t, name, key, false).Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Each side's settings, with our server and our client.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	signed, stranger := ca.certificate(t, "web1"), other.certificate(t, "web1")
	tests := []struct {
		name         string
		node, master TLS
		tls          bool   // spoken in the end
		err          string // of the client
	}{
		{"both off", TLS{}, TLS{Mode: TLSDisabled}, false, ""},
		{"auto, and the node cannot", TLS{}, TLS{Mode: TLSAuto}, false, ""},
		{"enabled, and the node cannot", TLS{}, TLS{Mode: TLSEnabled}, false, "the node does not speak TLS"},
		{"auto on both sides", TLS{Mode: TLSAuto}, TLS{Mode: TLSAuto}, true, ""},
		{"required by the node", TLS{Mode: TLSEnabled}, TLS{}, false, "the node requires TLS"},
		{"required by both", TLS{Mode: TLSEnabled}, TLS{Mode: TLSEnabled}, true, ""},
		{"paranoid", TLS{Mode: TLSParanoid, Certificate: signed, Verify: true, Roots: ca.pool()}, TLS{Mode: TLSParanoid, Certificate: signed, Verify: true, Roots: ca.pool()}, true, ""},
		{"the node's is signed", TLS{Mode: TLSAuto, Certificate: signed}, TLS{Mode: TLSEnabled, Verify: true, Roots: ca.pool()}, true, ""},
		{"the node's is not signed", TLS{Mode: TLSAuto, Certificate: stranger}, TLS{Mode: TLSEnabled, Verify: true, Roots: ca.pool()}, false, "unknown authority"},
		{"the master's is not signed", TLS{Mode: TLSAuto, Verify: true, Roots: ca.pool()}, TLS{Mode: TLSEnabled, Certificate: stranger}, false, "bad certificate"},
		{"matching", TLS{Mode: TLSAuto, Certificate: signed}, TLS{Mode: TLSEnabled, Match: regexp.MustCompile(`Subject Name: /C=FR/O=Asso/CN=web1\nIssuer  Name: /C=FR/O=Asso/CN=ca\n`)}, true, ""},
		{"not matching", TLS{Mode: TLSAuto, Certificate: signed}, TLS{Mode: TLSEnabled, Match: regexp.MustCompile(`CN=web2`)}, false, "tls_match does not match"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, a := serve(t, madeNode(), ServeOptions{TLS: tt.node})
			c, err := Dial(t.Context(), a, DialOptions{TLS: tt.master})
			if err == nil {
				defer func() { _ = c.Close() }()
				// TLS 1.3: a server's no to our certificate comes with its first answer.
				_, err = c.Fetch(t.Context(), "load")
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := c.conn.(*tls.Conn); ok != tt.tls {
				t.Errorf("TLS is spoken: %v, want %v", ok, tt.tls)
			}
			got, err := c.Fetch(t.Context(), "disk")
			if err != nil || len(got.Values) != 2 {
				t.Errorf("fetch: %v, %s", err, show(got))
			}
		})
	}
}

// A node without a key turns the roles about, and its first handshake message may come in the packet of its "TLS MAYBE".
func TestTLSMaybe(t *testing.T) {
	ours, theirs := tcpPair(t)
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			_, _ = io.WriteString(theirs, "# munin node at web1\n")
			if line, err := readThrough(theirs, "\n"); err != nil || line != "STARTTLS\n" {
				return fmt.Errorf("the master says %q, %w", line, err)
			}
			conn := tls.Client(&together{Conn: theirs, first: []byte("TLS MAYBE\n")}, &tls.Config{InsecureSkipVerify: true})
			if line, err := readThrough(conn, "\n"); err != nil || line != "fetch load\n" {
				return fmt.Errorf("the master says %q, %w", line, err)
			}
			_, err := io.WriteString(conn, "load.value 1\n.\n")
			return err
		}()
	}()
	c, err := NewClient(t.Context(), ours, DialOptions{TLS: TLS{Mode: TLSEnabled}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Fetch(t.Context(), "load"); err != nil || show(got) != "load.load 0:1\n" {
		t.Errorf("fetch: %v, %s", err, show(got))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = c.Close()
}

// together sends first with whatever is written first.
type together struct {
	net.Conn
	first []byte
}

func (c *together) Write(p []byte) (int, error) {
	if c.first == nil {
		return c.Conn.Write(p)
	}
	_, err := c.Conn.Write(append(c.first, p...))
	c.first = nil
	return len(p), err
}

func readThrough(r io.Reader, end string) (string, error) {
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte(end)); {
		if _, err := io.ReadFull(r, b); err != nil {
			return string(got), err
		}
		got = append(got, b...)
	}
	return string(got), nil
}

// Debian's munin-node, in plain text and over TLS in both roles.
func TestRealNode(t *testing.T) {
	const program = "/usr/sbin/munin-node"
	if _, err := os.Stat(program); err != nil {
		t.Skip("Debian's package munin-node is not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("munin-node runs as root only")
	}
	ca := newAuthority(t, "ca")
	own := ca.certificate(t, "web1")
	tests := []struct {
		name, settings string
		key            bool
		o              TLS
		tls            bool
	}{
		{"plain", "tls disabled\n", false, TLS{}, false},
		{"key", "tls enabled\n", true, TLS{Mode: TLSEnabled, Verify: true, Roots: ca.pool()}, true},
		{"maybe", "tls auto\n", false, TLS{Mode: TLSEnabled}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, ended := startNode(t, program, tt.settings, tt.key, own, ca)
			c, err := dialUntil(t, a, DialOptions{TLS: tt.o}, ended)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if c.Name() != "Web1.Example" {
				t.Errorf("the node is %q", c.Name())
			}
			if _, ok := c.conn.(*tls.Conn); ok != tt.tls {
				t.Errorf("TLS is spoken: %v, want %v", ok, tt.tls)
			}
			ctx := t.Context()
			if can, err := c.Cap(ctx); err != nil || !slices.Equal(can, []string{"multigraph", "dirtyconfig"}) {
				t.Errorf("Cap: %q, %v", can, err)
			}
			names, err := c.List(ctx, "")
			slices.Sort(names)
			if want := []string{"bad", "crlf", "dirty", "multi"}; err != nil || !slices.Equal(names, want) {
				t.Errorf("List: %q, %v; want %q", names, err, want)
			}
			if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 2 || !slices.Contains(nodes, "router.example") {
				t.Errorf("Nodes: %q, %v", nodes, err)
			}
			for _, ask := range []struct{ do, plugin, want string }{
				{"config", "crlf", "service crlf\n  graph_title=two lines\n  a: label=a\n"},
				{"fetch", "crlf", "crlf.a 0:5\n"},
				{"config", "dirty", "service dirty\n  graph_title=dirty\n  a: label=a\ndirty.a 0:42.5\n"},
				{"config", "multi", "service m\n  graph_title=m\n  a: label=a\nservice m.x\n  graph_title=x\n  b: label=b\n"},
				{"fetch", "multi", "m.a 0:1\nm.x.b 0:2\n"},
			} {
				f := c.Config
				if ask.do == "fetch" {
					f = c.Fetch
				}
				if got, err := f(ctx, ask.plugin); err != nil || show(got) != ask.want {
					t.Errorf("%s %s: %v\n%swant\n%s", ask.do, ask.plugin, err, show(got), ask.want)
				}
			}
			for plugin, want := range map[string]string{"bad": "Bad exit", "nothing": "Unknown service"} {
				if _, err := c.Fetch(ctx, plugin); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("fetch %s: %v, want %q", plugin, err, want)
				}
			}
		})
	}
}

// startNode runs munin-node with plugins of our own, and ends it with the test.
func startNode(t *testing.T, program, settings string, key bool, own *tls.Certificate, ca *authority) (Address, <-chan struct{}) {
	t.Helper()
	dir := t.TempDir()
	plugins := filepath.Join(dir, "plugins")
	conf := filepath.Join(dir, "plugin-conf.d")
	for _, d := range []string{plugins, conf} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The folders up to the plugins must be open to the user that they run as.
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range map[string]string{
		"crlf":    `if [ "$1" = config ]; then printf 'graph_title two lines\r\n\r\na.label a\r\n'; else printf 'a.value 5\r\n'; fi`,
		"dirty":   `if [ "$1" = config ]; then echo "graph_title dirty"; echo "a.label a"; fi; echo "a.value 42.5"`,
		"multi":   `if [ "$1" = config ]; then printf 'multigraph m\ngraph_title m\na.label a\nmultigraph m.x\ngraph_title x\nb.label b\n'; else printf 'multigraph m\na.value 1\nmultigraph m.x\nb.value 2\n'; fi`,
		"bad":     `if [ "$1" = config ]; then echo "graph_title bad"; echo "a.label a"; else echo "a.value 1"; exit 3; fi`,
		"virtual": `if [ "$1" = config ]; then echo "host_name Router.example"; echo "graph_title v"; else echo "a.value 1"; fi`,
	} {
		write(filepath.Join(plugins, name), "#!/bin/sh\n"+script+"\n", 0o755)
	}
	// An address of its own: a port that is free now may be another's when the program gets there.
	a := Address{Scheme: "munin", Host: fmt.Sprintf("127.%d.%d.%d", 1+mathrand.IntN(254), mathrand.IntN(256), 1+mathrand.IntN(254)), Port: Port}
	settings += fmt.Sprintf("log_level 4\nlog_file %s/log\npid_file %s/pid\nbackground 0\nsetsid 0\nuser root\ngroup root\nhost %s\nport %d\nallow ^127\\.0\\.0\\.1$\nhost_name Web1.Example\n", dir, dir, a.Host, a.Port)
	settings += fmt.Sprintf("tls_private_key %s/key.pem\ntls_certificate %s/cert.pem\ntls_ca_certificate %s/ca.pem\n", dir, dir, dir)
	write(filepath.Join(dir, "munin-node.conf"), settings, 0o644)
	if key {
		der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
		write(filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})), 0o644)
		write(filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})), 0o644)
	}
	// The folder of its plugins is no setting: it is changed where the program keeps it.
	cmd := exec.Command("perl", "-e", `use Munin::Common::Defaults; $Munin::Common::Defaults::MUNIN_CONFDIR = shift; $0 = shift; do $0; die $@ if $@; exit main()`, dir, program)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("munin-node says %s\n%s", said.Bytes(), log)
		}
	})
	return a, ended
}

// dialUntil waits for a node that is starting up.
func dialUntil(t *testing.T, a Address, o DialOptions, ended <-chan struct{}) (*Client, error) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		c, err := Dial(t.Context(), a, o)
		if err == nil || time.Now().After(end) || !strings.Contains(err.Error(), "connection refused") {
			return c, err
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("munin-node ended before it could be asked: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
