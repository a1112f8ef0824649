package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"tocsin/internal/munin"
)

// Bounds of what servers answer about themselves, and of their configuration.
const (
	maxStatusPage = 1 << 20
	maxConfFiles  = 500
	maxConfFile   = 1 << 20
	statusTimeout = 5 * time.Second
)

// statusClient makes a client that asks servers of this machine about themselves. It follows nobody elsewhere and uses no proxy.
//
// Certificates are not looked at: what listens on this machine's own address is as good with one as without.
func statusClient() *http.Client {
	return &http.Client{
		Timeout: statusTimeout,
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// errNotThere says that a server answers, but not with a page of its own numbers.
type errNotThere struct{ status string }

func (e *errNotThere) Error() string { return "it answers " + e.status }

// statusPage fetches a page of at most maxStatusPage bytes. host is the name of the site, "" for the one in the URL.
func statusPage(ctx context.Context, page, host string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return nil, err
	}
	req.Host = host
	req.Header.Set("User-Agent", "tocsin")
	resp, err := statusClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &errNotThere{plain(resp.Status)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusPage+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxStatusPage {
		return nil, &errNotThere{"more than a status page is long"}
	}
	return body, nil
}

// isRefused says whether nobody listens at the other end.
func isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENETUNREACH)
}

// place is where a server may tell about itself.
type place struct {
	url  string
	host string // name of the site, "" for that of the URL
}

// findPage asks the places in turn for a page that good accepts. When none has one it says why: nobody listens, or what the
// last one answered.
func findPage(ctx context.Context, places []place, good func([]byte) error) (place, error) {
	var last error
	for _, p := range places {
		body, err := statusPage(ctx, p.url, p.host)
		if err == nil {
			if err = good(body); err == nil {
				return p, nil
			}
		}
		if ctx.Err() != nil {
			return place{}, ctx.Err()
		}
		if last == nil || isRefused(last) || !isRefused(err) {
			last = fmt.Errorf("%s: %w", p.url, err)
		}
	}
	return place{}, last
}

// pageReader reads one status page over and over.
type pageReader struct {
	server string
	find   func(ctx context.Context) (place, error) // an Off error says why there is none
	at     place
	known  bool
	parse  func(body []byte, p place) ([]Reading, error)
}

// Read fetches the page. A server that stopped to listen is looked for anew: its address may have changed.
func (r *pageReader) Read(ctx context.Context) ([]Reading, error) {
	if !r.known {
		at, err := r.find(ctx)
		if err != nil {
			return nil, err
		}
		r.at, r.known = at, true
	}
	body, err := statusPage(ctx, r.at.url, r.at.host)
	var gone *errNotThere
	switch {
	case err == nil:
		return r.parse(body, r.at)
	case isRefused(err):
		r.known = false
		return nil, &Off{fmt.Sprintf("no %s listens at %s any more", r.server, r.at.url)}
	case errors.As(err, &gone):
		r.known = false
		return nil, &Off{fmt.Sprintf("%s has no status page at %s any more: %v", r.server, r.at.url, err)}
	}
	return nil, fmt.Errorf("%s: %w", r.at.url, err)
}

// confFiles reads configuration files, those in folders too if the pattern is of such. What cannot be read is left out.
func confFiles(root string, patterns ...string) [][]byte {
	var all [][]byte
	seen := map[string]bool{}
	for _, pattern := range patterns {
		names, _ := filepath.Glob(filepath.Join(root, pattern))
		slices.Sort(names)
		for _, name := range names {
			if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() || st.Size() > maxConfFile || seen[name] || len(all) == maxConfFiles {
				continue
			}
			seen[name] = true
			if text, err := os.ReadFile(name); err == nil {
				all = append(all, text)
			}
		}
	}
	return all
}

// anyThere says whether one of the files is there.
func anyThere(root string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	})
}

// words cuts a configuration in the manner of nginx and BIND into words and the signs { } ;, without comments.
func words(text []byte, slashes bool) []string {
	var all []string
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '#' || slashes && c == '/' && i+1 < len(text) && text[i+1] == '/':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case slashes && c == '/' && i+1 < len(text) && text[i+1] == '*':
			end := bytes.Index(text[i+2:], []byte("*/"))
			if end < 0 {
				return all
			}
			i += end + 4
		case c == '{' || c == '}' || c == ';':
			all = append(all, string(c))
			i++
		case c == '"' || c == '\'':
			j := i + 1
			for j < len(text) && text[j] != c {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			all = append(all, string(text[min(i+1, len(text)):min(j, len(text))]))
			i = j + 1
		case unicode.IsSpace(rune(c)):
			i++
		default:
			j := i
			for j < len(text) && !bytes.ContainsRune([]byte("{};"), rune(text[j])) && !unicode.IsSpace(rune(text[j])) {
				j++
			}
			all = append(all, string(text[i:j]))
			i = j
		}
	}
	return all
}

// local makes an address to ask at of one that is listened on: "80", "*:80", "[::]:80", "192.0.2.1:80". ok is false for
// unix sockets and for what cannot be read.
func local(listen string) (host string, port int, ok bool) {
	h, p, err := net.SplitHostPort(listen)
	if err != nil {
		h, p = "", listen
		if strings.Contains(listen, ".") || strings.HasPrefix(listen, "[") { // an address alone
			h, p = strings.Trim(listen, "[]"), "80"
		}
	}
	n, err := strconv.Atoi(p)
	if err != nil || n < 1 || n > 65535 {
		return "", 0, false
	}
	switch h {
	case "", "*", "0.0.0.0", "localhost":
		return "127.0.0.1", n, true
	case "::":
		return "::1", n, true
	}
	if ip := net.ParseIP(h); ip == nil {
		return "", 0, false
	}
	return h, n, true
}

// pageURL is the URL of a page at an address.
func pageURL(scheme, host string, port int, path string) string {
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: path}
	if scheme == "http" && port == 80 {
		u.Host = host
		if strings.Contains(host, ":") {
			u.Host = "[" + host + "]"
		}
	}
	return u.String()
}

// parseDecimal reads a number that a server prints: digits with a point at most, nothing that only Go knows.
func parseDecimal(text []byte) (float64, error) {
	v, ok := munin.ParseValue(string(text))
	if !ok || math.IsNaN(v) {
		return 0, errors.New("no number")
	}
	return v, nil
}

// pemBlocks are the contents of a PEM file.
func pemBlocks(text []byte) [][]byte {
	var all [][]byte
	for {
		b, rest := pem.Decode(text)
		if b == nil {
			return all
		}
		all, text = append(all, b.Bytes), rest
	}
}
