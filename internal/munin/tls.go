package munin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"strings"
	"time"
)

// TLSMode is what munin.conf and munin-node.conf call "tls".
type TLSMode string

// The modes, of both sides.
const (
	TLSDisabled TLSMode = "disabled" // also ""
	TLSAuto     TLSMode = "auto"     // if the other side can
	TLSEnabled  TLSMode = "enabled"  // or not at all
	TLSParanoid TLSMode = "paranoid" // or not at all, and the other side must show a certificate
)

func (m TLSMode) off() bool  { return m == "" || m == TLSDisabled }
func (m TLSMode) must() bool { return m == TLSEnabled || m == TLSParanoid }

// TLS is how Munin encrypts: STARTTLS, no name of a host is checked, and certificates only if Verify says so.
type TLS struct {
	Mode        TLSMode
	Certificate *tls.Certificate // tls_private_key and tls_certificate; nil: one made for the occasion, which nobody can verify
	Verify      bool             // tls_verify_certificate: the other side's must be signed by Roots
	Roots       *x509.CertPool   // tls_ca_certificate
	Depth       int              // tls_verify_depth: certificates at most between its and the root; 0: 5
	Match       *regexp.Regexp   // tls_match, on the names as OpenSSL shows them: "Subject Name: /C=FR/CN=web1\nIssuer  Name: ...\n"
}

func (o *TLS) check() error {
	switch o.Mode {
	case "", TLSDisabled, TLSAuto, TLSEnabled, TLSParanoid:
	default:
		return fmt.Errorf("tls %s is none of disabled, auto, enabled and paranoid", quoted(string(o.Mode)))
	}
	if o.Verify && o.Roots == nil {
		return errors.New("tls_verify_certificate without tls_ca_certificate: nothing to verify with")
	}
	return nil
}

// config is for either role: Munin's master is the TLS server of a node without a key.
func (o *TLS) config() (*tls.Config, error) {
	c := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does what Munin does
		VerifyConnection:   o.verify,
		MinVersion:         tls.VersionTLS12,

		DynamicRecordSizingDisabled: true, // a line shall be one record
	}
	if o.Verify || o.Match != nil || o.Mode == TLSParanoid {
		c.ClientAuth = tls.RequestClientCert
	}
	own := o.Certificate
	if own == nil {
		made, err := makeCertificate()
		if err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		own = made
	}
	c.Certificates = []tls.Certificate{*own}
	return c, nil
}

// verify is Munin::Common::TLS's judgement of the other side.
func (o *TLS) verify(state tls.ConnectionState) error {
	shown := state.PeerCertificates
	if len(shown) == 0 {
		if o.Match != nil || o.Mode == TLSParanoid {
			return errors.New("the other side shows no certificate")
		}
		return nil
	}
	if o.Verify {
		between := x509.NewCertPool()
		for _, c := range shown[1:] {
			between.AddCert(c)
		}
		chains, err := shown[0].Verify(x509.VerifyOptions{Roots: o.Roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			return err
		}
		most := o.Depth
		if most == 0 {
			most = 5
		}
		if len(chains[0])-2 > most {
			return fmt.Errorf("the certificate stands %d below the root, more than %d", len(chains[0])-1, most+1)
		}
	}
	if names := namesOf(shown[0]); o.Match != nil && !o.Match.MatchString(names) {
		return fmt.Errorf("tls_match does not match the certificate of %s", quoted(names))
	}
	return nil
}

// makeCertificate makes one that encrypts and proves nothing.
func makeCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "munin"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no expiry
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// namesOf are the names as Net::SSLeay::dump_peer_certificate gives them, which tls_match is written for.
func namesOf(c *x509.Certificate) string {
	return "Subject Name: " + oneLine(c.RawSubject) + "\nIssuer  Name: " + oneLine(c.RawIssuer) + "\n"
}

var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU",
	"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// oneLine is a distinguished name as X509_NAME_oneline writes it.
func oneLine(raw []byte) string {
	var names pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &names); err != nil || len(rest) > 0 {
		return ""
	}
	var b strings.Builder
	for _, set := range names {
		for _, name := range set {
			short := shortNames[name.Type.String()]
			if short == "" {
				short = name.Type.String()
			}
			fmt.Fprintf(&b, "/%s=", short)
			for _, c := range []byte(fmt.Sprint(name.Value)) {
				if c < ' ' || c > '~' {
					fmt.Fprintf(&b, `\x%02X`, c)
				} else {
					b.WriteByte(c)
				}
			}
		}
	}
	return b.String()
}

// afterBuffer is a connection of which something has been read already: a peer may begin its handshake in the packet that
// holds its last line.
type afterBuffer struct {
	net.Conn
	r io.Reader
}

func (c *afterBuffer) Read(p []byte) (int, error) { return c.r.Read(p) }
