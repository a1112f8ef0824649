package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tocsin"
)

// hook posts JSON to one address.
type hook struct {
	n      *Notifier
	p      *person
	url    string
	host   string // for people: paths and queries hold secrets
	secret string // path
	client *http.Client
}

// maxReply is how much of a receiver's answer is read.
const maxReply = 4 << 10

func (n *Notifier) newHook(p *person, address, secret string) (*hook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the address of a webhook is none")
	}
	dial := n.o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	return &hook{n: n, p: p, url: address, host: u.Host, secret: secret, client: &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: n.o.RootCAs}, Proxy: http.ProxyFromEnvironment,
			TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		// Whoever answers with another address would be given the token, and the message.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// post sends a body, and says what was answered.
func (h *hook) post(ctx context.Context, address string, text []byte, header http.Header, say func(string)) (said string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return "", permanent{errors.New("the address cannot be asked")}
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "tocsin/"+firstOf(h.n.o.Version, "0"))
	say("posting to " + h.host)
	a, err := h.client.Do(r)
	if err != nil {
		var whole *url.Error
		if errors.As(err, &whole) {
			err = whole.Err // without the address
		}
		return "", fmt.Errorf("post to %s: %w", h.host, err)
	}
	defer a.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(a.Body, maxReply))
	if a.TLS != nil {
		say("protected by " + tls.VersionName(a.TLS.Version))
	}
	said = strings.TrimSpace(a.Status + " " + clip(tocsin.Printable(strings.TrimSpace(string(words))), maxSaid))
	return said, judgedStatus(a, said, time.Now())
}

// judgedStatus says whether an answer is a success, and if not whether another try may help. Keys and addresses that are
// wrong are mended by people within the day; a message that is refused as such is refused again.
func judgedStatus(a *http.Response, said string, now time.Time) error {
	if a.StatusCode >= 200 && a.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("the receiver answered %s", said)
	switch a.StatusCode {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return permanent{err}
	}
	if a.StatusCode >= 300 && a.StatusCode < 400 {
		return fmt.Errorf("%w: it is somewhere else; write its new address", err)
	}
	if after := retryAfter(a.Header.Get("Retry-After"), now); after > 0 {
		return later{err, after}
	}
	return err
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return t.Sub(now)
	}
	return 0
}

// webhook posts what the receiver's program reads.
type webhook struct{ *hook }

func (n *Notifier) newWebhook(p *person) (*webhook, error) {
	h, err := n.newHook(p, p.Webhook, p.Secret)
	return &webhook{h}, err
}

// hookBody is the schema tocsin.notice/1: fields may be added, none is taken away or changes its meaning.
type hookBody struct {
	Schema   string    `json:"schema"`
	Kind     string    `json:"kind"` // a turn of an incident, "rest", "digest" or "test"
	ID       int64     `json:"id"`   // the same where a message is sent twice; 0 for a test
	At       time.Time `json:"at"`
	Host     string    `json:"host"`
	Contact  string    `json:"contact"`
	Title    string    `json:"title"`
	Text     string    `json:"text"`
	URL      string    `json:"url"`
	Incident *change   `json:"incident"` // null where it is about no single one
}

func (h *webhook) send(ctx context.Context, l *letter, say func(string)) (said string, err error) {
	secret, err := readSecret(h.secret)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(hookBody{"tocsin.notice/1", l.kind, max(l.id, 0), l.at.UTC(), h.n.o.Host, h.p.Name, l.title, l.text, l.url, l.change})
	if err != nil {
		return "", permanent{err}
	}
	header := http.Header{"Idempotency-Key": {fmt.Sprintf("%s-%d-%d", h.p.Name, l.at.UnixNano(), max(l.id, 0))}}
	if secret != "" {
		header.Set("X-Tocsin-Signature", sign(secret, time.Now(), text))
	}
	return h.post(ctx, h.url, text, header, say)
}

// sign proves that the holder of the key sent a body at a time: HMAC-SHA256 over "UNIXTIME.BODY".
func sign(secret string, at time.Time, text []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(text)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// ntfy posts to a topic of ntfy (https://docs.ntfy.sh/publish/#publish-as-json).
type ntfy struct {
	*hook
	base, topic string
}

func (n *Notifier) newNtfy(p *person) (*ntfy, error) {
	h, err := n.newHook(p, p.Ntfy, p.NtfyToken)
	if err != nil {
		return nil, err
	}
	i := strings.LastIndexByte(p.Ntfy, '/')
	return &ntfy{h, p.Ntfy[:i+1], p.Ntfy[i+1:]}, nil
}

// Bounds of ntfy: a longer message becomes an attachment.
const (
	maxNtfyText  = 1200 // runes; 4,096 bytes are the bound
	maxNtfyTitle = 200
)

type ntfyBody struct {
	Topic    string       `json:"topic"`
	Title    string       `json:"title"`
	Message  string       `json:"message"`
	Priority int          `json:"priority"`
	Tags     []string     `json:"tags"`
	Click    string       `json:"click,omitempty"`
	Actions  []ntfyAction `json:"actions,omitempty"`
	Sequence string       `json:"sequence_id,omitempty"` // later messages of one incident take the place of earlier ones
}

type ntfyAction struct {
	Action string `json:"action"`
	Label  string `json:"label"`
	URL    string `json:"url"`
}

func (h *ntfy) send(ctx context.Context, l *letter, say func(string)) (said string, err error) {
	token, err := readSecret(h.secret)
	if err != nil {
		return "", err
	}
	b := ntfyBody{Topic: h.topic, Title: clip(l.title, maxNtfyTitle), Message: clip(l.text, maxNtfyText), Click: l.url, Tags: []string{tagOf(l)},
		Priority: map[tocsin.Urgency]int{tocsin.Digest: 2, tocsin.Soon: 3, tocsin.Urgent: 4}[l.urgency]}
	if l.over {
		b.Priority = min(b.Priority, 3)
	}
	if l.thread != "" {
		b.Sequence = strings.ReplaceAll(l.thread, ".", "-")
	}
	if l.ack != "" && l.url != "" {
		b.Actions = []ntfyAction{{"view", l.ack, l.url}}
	}
	text, err := json.Marshal(b)
	if err != nil {
		return "", permanent{err}
	}
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return h.post(ctx, h.base, text, header, say)
}

// tagOf is the sign that ntfy shows before the title.
func tagOf(l *letter) string {
	switch {
	case l.over:
		return "white_check_mark"
	case l.kind == kindTest || l.kind == kindDigest:
		return "bell"
	case l.level == tocsin.Critical:
		return "rotating_light"
	}
	return "warning"
}
