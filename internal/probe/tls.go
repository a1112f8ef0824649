package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// tlsProbe tells for how many days the certificates of the sites are good, and whether a browser would take them. They are
// fetched once an hour.
var tlsProbe = Probe{
	Name: "tls", Doubles: []string{"ssl_", "ssl-certificate-expiry"}, Interval: 5 * time.Minute, Timeout: 2 * time.Minute,
	New: func(h *Host) (Reader, error) {
		sites, err := siteList(h.Sites)
		if err != nil {
			return nil, err
		}
		r := &tlsReader{h: h, known: map[string]certificate{}}
		for _, s := range sites {
			u, err := url.Parse(s)
			if err != nil || u.Scheme != "https" {
				continue
			}
			port := u.Port()
			if port == "" {
				port = "443"
			}
			if address := net.JoinHostPort(u.Hostname(), port); !slices.Contains(r.servers, address) {
				r.servers = append(r.servers, address)
			}
		}
		if len(r.servers) == 0 {
			return nil, &Off{"no site with https is named in the configuration"}
		}
		return r, nil
	},
}

// certificate is what a server showed last.
type certificate struct {
	asked time.Time
	until time.Time // when the first of the chain runs out; zero: none was shown yet
	good  bool
	err   error
}

type tlsReader struct {
	h       *Host
	servers []string // with their ports
	roots   *x509.CertPool
	known   map[string]certificate
}

func (r *tlsReader) Read(ctx context.Context) ([]Reading, error) {
	now := r.h.Now()
	var due []string
	for _, s := range r.servers {
		k := r.known[s]
		again := time.Hour
		if k.err != nil {
			again = 5 * time.Minute
		}
		if now.Sub(k.asked) >= again || now.Before(k.asked) {
			due = append(due, s)
		}
	}
	fresh := make([]certificate, len(due))
	eachOf(len(due), func(i int) { fresh[i] = r.fetch(ctx, due[i], now) })
	for i, s := range due {
		if fresh[i].until.IsZero() { // what was known stays known
			fresh[i].until, fresh[i].good = r.known[s].until, r.known[s].good
		}
		r.known[s] = fresh[i]
	}
	days := newTally("tls_expiry", "graph_title Certificates: days left\ngraph_args --base 1000 -l 0\ngraph_vlabel days\ngraph_category network\n", "warning 14:\ncritical 3:\n")
	good := newTally("tls_valid", "graph_title Certificates that browsers take\ngraph_args --base 1000 -l 0 -u 1\ngraph_vlabel 1: good, 0: not\ngraph_category network\n", "critical 1:\n")
	var failed []string
	for _, s := range r.servers {
		k := r.known[s]
		field, label := fieldName(strings.TrimSuffix(s, ":443")), plain(strings.TrimSuffix(s, ":443"))
		left, valid := math.NaN(), math.NaN()
		if !k.until.IsZero() {
			left, valid = math.Round(k.until.Sub(now).Hours()/24*100)/100, 0
			if k.good && k.until.After(now) {
				valid = 1
			}
		}
		days.add(field, label, left)
		good.add(field, label, valid)
		if k.err != nil {
			failed = append(failed, s+": "+told(k.err))
		}
	}
	out := []Reading{readingOf(describe(days.service, days.describe()), from(days.values)), readingOf(describe(good.service, good.describe()), from(good.values))}
	if len(failed) > 0 {
		return out, fmt.Errorf("%s", strings.Join(failed[:min(len(failed), 5)], "; "))
	}
	return out, ctx.Err()
}

// fetch looks at the certificates of a server, good or not.
func (r *tlsReader) fetch(ctx context.Context, server string, now time.Time) certificate {
	c := certificate{asked: now}
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		c.err = err
		return c
	}
	// One that is not good is looked at as well; it is judged below, and nothing is sent.
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		c.err = err
		return c
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	between := x509.NewCertPool()
	for i, cert := range chain {
		if c.until.IsZero() || cert.NotAfter.Before(c.until) {
			c.until = cert.NotAfter
		}
		if i > 0 {
			between.AddCert(cert)
		}
	}
	if len(chain) == 0 {
		c.err = fmt.Errorf("no certificate")
		return c
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between, Roots: r.roots, CurrentTime: now})
	c.good = err == nil
	return c
}
