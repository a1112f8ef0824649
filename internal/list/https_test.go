package list

import (
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tocsin/internal/abuseipdb"
)

const canary = "s3cr3tk3y"

// web is a server of lists, and a fetcher of the list at path there.
func web(t *testing.T, path string, handler http.HandlerFunc) (*httptest.Server, *HTTPS) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that a test wants to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	h, err := NewHTTPS(HTTPSOptions{URL: server.URL + path, Version: "1.0", RootCAs: roots(server)})
	must(t, err)
	return server, h
}

func roots(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

func TestHTTPS(t *testing.T) {
	const list = "1.1.1.1\n8.8.8.8\n"
	length := func(w http.ResponseWriter, n int) { w.Header().Set("Content-Length", fmt.Sprint(n)) }
	tests := []struct {
		name string
		do   http.HandlerFunc
		want string // entries and what is odd, or an error
	}{
		{"plain", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, list) }, "1.1.1.1 8.8.8.8|"},
		{"no end, but a length", func(w http.ResponseWriter, r *http.Request) {
			length(w, len(list)-1)
			io.WriteString(w, list[:len(list)-1])
		}, "1.1.1.1 8.8.8.8|open"},
		{"shorter than its length", func(w http.ResponseWriter, r *http.Request) {
			length(w, len(list)+10)
			io.WriteString(w, list+"9.9.9")
		}, "1.1.1.1 8.8.8.8|truncated"},
		{"chunks that break off", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, list+"9.9.9")
			w.(http.Flusher).Flush()
			hangUp(w)
		}, "1.1.1.1 8.8.8.8|truncated"},
		{"neither length nor end", func(w http.ResponseWriter, r *http.Request) {
			raw(w, "HTTP/1.0 200 OK\r\n\r\n1.1.1.1\n8.8.8")
		}, "1.1.1.1|line 2 bad truncated open"},
		{"neither length nor missing end", func(w http.ResponseWriter, r *http.Request) {
			raw(w, "HTTP/1.0 200 OK\r\n\r\n"+list)
		}, "1.1.1.1 8.8.8.8|"},
		{"compressed on the way", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zipped(list))
		}, "1.1.1.1 8.8.8.8|"},
		{"compressed file", func(w http.ResponseWriter, r *http.Request) { w.Write(zipped(list)) }, "1.1.1.1 8.8.8.8|"},
		{"compressed, broken off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zipped(list)[:12])
		}, "|truncated"},
		{"bomb", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 32 {
				io.WriteString(z, strings.Repeat("# nothing\n", 1<<17))
			}
			z.Close()
		}, "|too long"},
		{"page", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, "|page open"},
		{"error", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) }, "error: the server answered with status 500 Internal Server Error"},
		{"gone", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "error: the server answered with status 404 Not Found"},
		{"to http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/?"+canary, http.StatusFound)
		}, "error: the server sends us on to http://example.org, which is not https"},
		{"in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "error: the server sends us on more than 5 times"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				if r.Header.Get("Referer") != "" {
					t.Errorf("the next server is told %q", r.Header.Get("Referer"))
				}
				io.WriteString(w, list)
				return
			}
			http.Redirect(w, r, "/moved", http.StatusMovedPermanently)
		}, "1.1.1.1 8.8.8.8|"},
		{"hangs up", func(w http.ResponseWriter, r *http.Request) { hangUp(w) }, "error: EOF"},
	}
	for _, tt := range tests {
		_, h := web(t, "/list?key="+canary, tt.do)
		got, err := h.Fetch(t.Context(), Terms{Limit: 10}, Previous{})
		text := ""
		if err != nil {
			text = "error: " + err.Error()
		} else {
			text = join(got.Parsed.Set) + "|" + odd(got.Parsed)
		}
		if text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
		if strings.Contains(text, canary) {
			t.Errorf("%s: the key shows: %s", tt.name, text)
		}
	}
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

func raw(w http.ResponseWriter, answer string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		io.WriteString(conn, answer)
		conn.(*tls.Conn).CloseWrite()
		conn.Close()
	}
}

func TestHTTPSConditional(t *testing.T) {
	const tag, modified = `W/"a"`, "Sun, 22 Nov 2026 03:00:00 GMT"
	_, h := web(t, "/", func(w http.ResponseWriter, r *http.Request) {
		if got := r.UserAgent(); got != "tocsin/1.0" {
			t.Errorf("the user agent is %q", got)
		}
		if r.Header.Get("If-None-Match") == tag && r.Header.Get("If-Modified-Since") == modified {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", tag)
		w.Header().Set("Last-Modified", modified)
		io.WriteString(w, "1.1.1.1\n")
	})
	got, err := h.Fetch(t.Context(), Terms{}, Previous{})
	if err != nil || got.ETag != tag || got.Modified != modified || !got.Generated.Equal(t0) {
		t.Fatalf("Fetch = %+v, %v", got, err)
	}
	got, err = h.Fetch(t.Context(), Terms{}, Previous{ETag: got.ETag, Modified: got.Modified})
	if err != nil || !got.Unchanged {
		t.Errorf("Fetch of the same = %+v, %v", got, err)
	}
}

func TestHTTPSRests(t *testing.T) {
	for _, after := range []string{"7200", time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)} {
		_, h := web(t, "/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := h.Fetch(t.Context(), Terms{}, Previous{})
		rest, ok := errors.AsType[*RestError](err)
		if !ok || rest.Wait.Round(time.Minute) != 2*time.Hour {
			t.Errorf("Retry-After %s: %v, %+v", after, err, rest)
		}
	}
}

func TestHTTPSUnsent(t *testing.T) {
	h, err := NewHTTPS(HTTPSOptions{URL: "https://127.0.0.1:1/?" + canary})
	must(t, err)
	_, err = h.Fetch(t.Context(), Terms{}, Previous{})
	if _, ok := errors.AsType[*UnsentError](err); !ok || strings.Contains(err.Error(), canary) {
		t.Errorf("nobody listens: %v", err)
	}
	_, h = web(t, "/", func(http.ResponseWriter, *http.Request) {})
	h.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool()
	_, err = h.Fetch(t.Context(), Terms{}, Previous{})
	if _, ok := errors.AsType[*UnsentError](err); err == nil || ok {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
}

func TestNewHTTPSRefuses(t *testing.T) {
	for _, url := range []string{"http://example.org/x?" + canary, "ftp://example.org", "https:", "drop.txt", "https://%zz" + canary, ""} {
		_, err := NewHTTPS(HTTPSOptions{URL: url})
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("NewHTTPS(%q): %v", url, err)
		}
	}
}

func TestSourceName(t *testing.T) {
	tests := []struct{ url, want string }{
		{"abuseipdb:", "abuseipdb:"},
		{"https://example.org/drop.txt", "https://example.org/drop.txt"},
		{"file:/var/lib/x", "file:/var/lib/x"},
		{"https://u:" + canary + "@example.org/drop.txt", "https://example.org/drop.txt#"},
		{"https://example.org/drop.txt?key=" + canary, "https://example.org/drop.txt#"},
	}
	for _, tt := range tests {
		got := SourceName(tt.url)
		if cut, _, hidden := strings.Cut(got, "#"); hidden {
			got = cut + "#"
		}
		if got != tt.want {
			t.Errorf("SourceName(%q) = %q, want %q", tt.url, got, tt.want)
		}
	}
	if a, b := SourceName("https://x/?a"), SourceName("https://x/?b"); a == b {
		t.Errorf("two URLs are both %q", a)
	}
}

func TestAbuseIPDB(t *testing.T) {
	tests := []struct {
		name  string
		do    http.HandlerFunc
		limit int
		want  string
	}{
		{"list", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Generated-At", "2026-11-22T03:00:00+00:00")
			w.Header().Set("X-RateLimit-Limit", "5")
			w.Header().Set("X-RateLimit-Remaining", "4")
			io.WriteString(w, "8.8.8.8\n1.1.1.1\n2606:4700::1\n192.168.1.1\n")
		}, 10, "accepted: 1.1.1.1 8.8.8.8 2606:4700::1, 5 lists a day, 03:00"},
		{"more than asked", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "8.8.8.8\n1.1.1.1\n8.8.4.4\n") }, 2,
			"refused: larger"},
		{"page", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>\n") }, 10, "refused: not-a-list"},
		{"empty", func(w http.ResponseWriter, r *http.Request) {}, 10, "refused: empty"},
		{"quota", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(429)
			io.WriteString(w, `{"errors":[{"detail":"Daily rate limit of 5 requests exceeded for this endpoint. See headers for additional details.","status":429}]}`)
		}, 10, "rests 2h0m0s"},
		{"broken", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, 10, "error"},
	}
	for _, tt := range tests {
		server := httptest.NewServer(tt.do)
		secret, err := abuseipdb.NewSecret(canary)
		must(t, err)
		client, err := abuseipdb.New(abuseipdb.Options{URL: server.URL, Key: func() (abuseipdb.Secret, error) { return secret, nil }})
		must(t, err)
		source := &AbuseIPDB{client}
		terms := Terms{Source: "abuseipdb:", Limit: tt.limit, Confidence: 100}
		got, err := source.Fetch(t.Context(), terms, Previous{})
		text := ""
		if rest, ok := errors.AsType[*RestError](err); ok {
			text = "rests " + rest.Wait.Round(time.Minute).String()
		} else if err != nil {
			text = "error"
		} else if reasons := Judge(got.Parsed, terms, nil); len(reasons) > 0 {
			text = "refused: " + string(reasons[0].Kind)
		} else {
			text = fmt.Sprintf("accepted: %s, %s, %s", join(got.Parsed.Set), got.Plan, got.Generated.UTC().Format("15:04"))
		}
		if text != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.name, text, err, tt.want)
		}
		server.Close()
		if _, err := source.Fetch(t.Context(), terms, Previous{}); err == nil {
			t.Errorf("%s: a server that is gone gives a list", tt.name)
		} else if _, ok := errors.AsType[*UnsentError](err); !ok {
			t.Errorf("%s: a server that is gone: %v", tt.name, err)
		}
	}
}
