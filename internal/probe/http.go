package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Bounds of asking sites.
const (
	maxSites    = 200
	sitesAtOnce = 8
	siteTimeout = 20 * time.Second
	maxSitePage = 8 << 20
)

// httpProbe asks each site that the operator names, and tells how long what took. A redirection is an answer; it is not
// followed.
var httpProbe = Probe{
	Name: "http", Doubles: []string{"http_loadtime"}, Interval: time.Minute, Timeout: 55 * time.Second,
	New: func(h *Host) (Reader, error) {
		sites, err := siteList(h.Sites)
		if err != nil {
			return nil, err
		}
		return newHTTPReader(sites, nil), nil
	},
}

// siteList keeps the URLs that can be asked. Each is asked once.
func siteList(urls []string) ([]string, error) {
	var sites []string
	seen := map[string]bool{}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, &Off{fmt.Sprintf("%q is no URL of a site: write it like https://example.org/", s)}
		}
		if field := fieldName(s); !seen[field] {
			seen[field] = true
			sites = append(sites, s)
		}
	}
	switch {
	case len(sites) == 0:
		return nil, &Off{"no site is named in the configuration"}
	case len(sites) > maxSites:
		return nil, &Off{fmt.Sprintf("%d sites are named, %d can be asked", len(sites), maxSites)}
	}
	return sites, nil
}

// visit is what asking one site brought; times are seconds, NaN where it did not come to that.
type visit struct {
	status                         float64 // 0: no answer
	dns, connect, tls, wait, total float64
	err                            error
}

type httpReader struct {
	sites  []string
	client *http.Client
}

func newHTTPReader(sites []string, conf *tls.Config) *httpReader {
	return &httpReader{sites: sites, client: &http.Client{
		Timeout:       siteTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 256 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (r *httpReader) Read(ctx context.Context) ([]Reading, error) {
	visits := make([]visit, len(r.sites))
	eachOf(len(r.sites), func(i int) { visits[i] = r.visit(ctx, r.sites[i]) })

	times := newTally("http_loadtime", "graph_title HTTP loadtime of a page\ngraph_args --base 1000 -l 0\ngraph_vlabel Load time in seconds\ngraph_category network\ngraph_info This graph shows the load time in seconds\n", "info page load time\nwarning 5\ncritical 30\n")
	codes := newTally("http_status", "graph_title HTTP status of a page\ngraph_args --base 1000 -l 0\ngraph_vlabel status, 0 without an answer\ngraph_category network\n", "warning 200:399\ncritical 1:499\n")
	var out []Reading
	var failed []string
	for i, site := range r.sites {
		v, field, label := visits[i], fieldName(site), plain(site)
		times.add(field, label, v.total)
		codes.add(field, label, v.status)
		out = append(out, readingOf(describe("http_loadtime."+field, fmt.Sprintf(`
			graph_title %s
			graph_args --base 1000 -l 0
			graph_vlabel seconds
			graph_category network
			graph_order dns connect tls wait total
			dns.label name
			dns.draw AREA
			connect.label connection
			connect.draw STACK
			tls.label TLS
			tls.draw STACK
			wait.label first byte
			wait.draw STACK
			total.label whole page
			total.draw LINE2`, label)), from(map[string]float64{"dns": v.dns, "connect": v.connect, "tls": v.tls, "wait": v.wait, "total": v.total})))
		if v.err != nil {
			failed = append(failed, told(v.err))
		}
	}
	out = append(out, readingOf(describe(times.service, times.describe()), from(times.values)), readingOf(describe(codes.service, codes.describe()), from(codes.values)))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(failed) > 0 {
		return out, fmt.Errorf("%s", strings.Join(failed[:min(len(failed), 5)], "; "))
	}
	return out, nil
}

// eachOf calls f with each number below n, some at a time, and returns when all are done.
func eachOf(n int, f func(i int)) {
	var wg sync.WaitGroup
	turn := make(chan struct{}, sitesAtOnce)
	for i := range n {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			f(i)
		})
	}
	wg.Wait()
}

func (r *httpReader) visit(ctx context.Context, site string) visit {
	n := math.NaN()
	v := visit{dns: n, connect: n, tls: n, wait: n, total: n}
	// Addresses may be tried side by side: times are taken under a lock, and those of what came first count.
	var mu sync.Mutex
	var dns, connect, hello, sent time.Time
	since := func(from *time.Time, into *float64) {
		mu.Lock()
		defer mu.Unlock()
		if !from.IsZero() && math.IsNaN(*into) {
			*into = time.Since(*from).Seconds()
		}
	}
	start := func(at *time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() {
			*at = time.Now()
		}
	}
	trace := &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { start(&dns) },
		DNSDone:      func(httptrace.DNSDoneInfo) { since(&dns, &v.dns) },
		ConnectStart: func(string, string) { start(&connect) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				since(&connect, &v.connect)
			}
		},
		TLSHandshakeStart: func() { start(&hello) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				since(&hello, &v.tls)
			}
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { start(&sent) },
		GotFirstResponseByte: func() { since(&sent, &v.wait) },
	}
	began := time.Now()
	status, err := r.get(httptrace.WithClientTrace(ctx, trace), site)
	mu.Lock()
	defer mu.Unlock()
	out := v // what still goes on in other tries writes into v
	if out.status, out.err = float64(status), err; err == nil {
		out.total = time.Since(began).Seconds()
	}
	return out
}

func (r *httpReader) get(ctx context.Context, site string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "tocsin")
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxSitePage)); err != nil {
		return resp.StatusCode, fmt.Errorf("%s: %w", site, err)
	}
	return resp.StatusCode, nil
}
