package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Where the registries' servers are listed (RFC 9224), and how often they are asked.
const (
	rdapBootstrap  = "https://data.iana.org/rdap/dns.json"
	rdapListAgain  = 7 * 24 * time.Hour
	rdapAgain      = 24 * time.Hour
	rdapAgainError = 2 * time.Hour
	rdapPause      = time.Second // between two questions: registries count them
	maxRDAP        = 4 << 20
)

// domainProbe tells for how many days the domains that the operator names are registered, as their registries say by RDAP
// (RFC 9083). Each is asked for once a day.
var domainProbe = Probe{
	Name: "domain", Doubles: []string{"domain_expiry"}, Interval: 5 * time.Minute, Timeout: 4 * time.Minute,
	New: func(h *Host) (Reader, error) {
		r := &domainReader{h: h, bootstrap: rdapBootstrap, scheme: "https", pause: rdapPause, known: map[string]registration{}}
		for _, d := range h.Domains {
			name := strings.ToLower(strings.TrimSuffix(d, "."))
			if !isDomain(name) {
				return nil, &Off{fmt.Sprintf("%q is no domain: write it like example.org, and what is not ASCII as xn--...", d)}
			}
			if !slices.Contains(r.domains, name) {
				r.domains = append(r.domains, name)
			}
		}
		switch {
		case len(r.domains) == 0:
			return nil, &Off{"no domain is named in the configuration"}
		case len(r.domains) > maxSites:
			return nil, &Off{fmt.Sprintf("%d domains are named, %d can be asked for", len(r.domains), maxSites)}
		}
		r.client = &http.Client{
			Timeout: siteTimeout,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			},
			// Registries send on to registrars.
			CheckRedirect: func(req *http.Request, via []*http.Request) error {
				if len(via) > 4 || req.URL.Scheme != r.scheme {
					return errors.New("it sends us elsewhere too often, or without TLS")
				}
				return nil
			},
		}
		return r, nil
	},
}

func isDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' {
			return false
		}
	}
	return true
}

// registration is what a registry said last.
type registration struct {
	next  time.Time // when it is asked again
	until time.Time // zero: not known
	err   error
}

type domainReader struct {
	h         *Host
	client    *http.Client
	bootstrap string
	scheme    string // that servers must have
	pause     time.Duration
	domains   []string
	servers   map[string]string // by the end of the name
	listNext  time.Time
	known     map[string]registration
}

func (r *domainReader) Read(ctx context.Context) ([]Reading, error) {
	now := r.h.Now()
	asked := false
	for _, d := range r.domains {
		k := r.known[d]
		if now.Before(k.next) {
			continue
		}
		if asked && !waitFor(ctx, r.pause) {
			break
		}
		asked = true
		until, err := r.ask(ctx, d)
		if ctx.Err() != nil {
			break // the next reading goes on
		}
		k.err, k.next = err, now.Add(rdapAgain)
		if err != nil {
			k.next = now.Add(rdapAgainError)
		} else {
			k.until = until
		}
		r.known[d] = k
	}
	days := newTally("domain_expiry", "graph_title Domains: days left\ngraph_args --base 1000 -l 0\ngraph_vlabel days\ngraph_category network\n", "warning 30:\ncritical 7:\n")
	var failed []string
	for _, d := range r.domains {
		k, left := r.known[d], math.NaN()
		if !k.until.IsZero() {
			left = math.Round(k.until.Sub(now).Hours()/24*100) / 100
		}
		days.add(fieldName(d), d, left)
		if k.err != nil {
			failed = append(failed, d+": "+told(k.err))
		}
	}
	out := []Reading{readingOf(describe(days.service, days.describe()), from(days.values))}
	if len(failed) > 0 {
		return out, fmt.Errorf("%s", strings.Join(failed[:min(len(failed), 5)], "; "))
	}
	return out, nil
}

func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask asks the registry of a domain.
func (r *domainReader) ask(ctx context.Context, domain string) (time.Time, error) {
	if now := r.h.Now(); r.servers == nil || now.After(r.listNext) {
		body, err := r.get(ctx, r.bootstrap)
		if err == nil {
			var servers map[string]string
			if servers, err = parseBootstrap(body, r.scheme); err == nil {
				r.servers, r.listNext = servers, now.Add(rdapListAgain)
			}
		}
		if r.servers == nil {
			return time.Time{}, fmt.Errorf("list of registries: %w", err)
		}
	}
	for rest := domain; ; {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return time.Time{}, errors.New("its registry does not tell by RDAP")
		}
		if server, ok := r.servers[after]; ok {
			body, err := r.get(ctx, server+"domain/"+domain)
			if err != nil {
				return time.Time{}, err
			}
			return parseRDAP(body)
		}
		rest = after
	}
}

func (r *domainReader) get(ctx context.Context, page string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "tocsin")
	req.Header.Set("Accept", "application/rdap+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, errors.New("its registry does not know it: is it a registered domain, and not a name below one?")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRDAP+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxRDAP {
		return nil, fmt.Errorf("%s answers more than %d MiB", req.URL.Host, maxRDAP>>20)
	}
	return body, nil
}

// parseBootstrap reads RFC 9224's list: pairs of ends of names and servers. The first server of the scheme is taken.
func parseBootstrap(body []byte, scheme string) (map[string]string, error) {
	var list struct {
		Services [][][]string `json:"services"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	servers := map[string]string{}
	for _, s := range list.Services {
		if len(s) != 2 {
			continue
		}
		i := slices.IndexFunc(s[1], func(server string) bool {
			u, err := url.Parse(server)
			return err == nil && u.Scheme == scheme && u.Host != "" && u.RawQuery == "" && u.Fragment == ""
		})
		if i < 0 {
			continue
		}
		for _, end := range s[0] {
			servers[strings.ToLower(end)] = strings.TrimSuffix(s[1][i], "/") + "/"
		}
	}
	if len(servers) == 0 {
		return nil, errors.New("a list without servers")
	}
	return servers, nil
}

// parseRDAP finds when a domain expires (RFC 9083, section 4.5).
func parseRDAP(body []byte) (time.Time, error) {
	var domain struct {
		Events []struct {
			Action string `json:"eventAction"`
			Date   string `json:"eventDate"`
		} `json:"events"`
	}
	if err := json.Unmarshal(body, &domain); err != nil {
		return time.Time{}, fmt.Errorf("the registry's answer: %w", err)
	}
	for _, e := range domain.Events {
		if e.Action != "expiration" {
			continue
		}
		at, err := time.Parse(time.RFC3339, e.Date)
		if err != nil {
			return time.Time{}, fmt.Errorf("the registry's answer has no date, but %q", plain(e.Date))
		}
		return at, nil
	}
	return time.Time{}, errors.New("its registry does not say when it expires")
}
