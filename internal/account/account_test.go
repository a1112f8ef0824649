package account

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 2, 12, 40, 0, time.UTC)

// TestMay holds the whole table: a change of it is a decision.
func TestMay(t *testing.T) {
	for what, want := range map[What]string{ // who may, of nobody, board, support, admin
		See: "-bsa", SeeAddress: "--sa", SeeAddresses: "---a", Unban: "--sa", AllowWeek: "--sa", Ban: "---a",
		Acknowledge: "--sa", Embed: "--sa", SeeActions: "---a", ManageUsers: "---a", endOfWhat: "----",
	} {
		got := ""
		for i, r := range []Role{Nobody, Board, Support, Admin} {
			if May(r, what) {
				got += "-bsa"[i : i+1]
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("May(%d): %s, want %s", what, got, want)
		}
	}
	if May(Admin+1, See) {
		t.Error("a role that there is not may see")
	}
}

func TestRoles(t *testing.T) {
	for _, r := range []Role{Board, Support, Admin} {
		if got, err := ParseRole(r.String()); got != r || err != nil {
			t.Errorf("ParseRole(%q): %v, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "root", "Admin"} {
		if r, err := ParseRole(s); err == nil {
			t.Errorf("ParseRole(%q): %v", s, r)
		}
	}
	if s := Role(9).String(); s != "role(9)" {
		t.Error(s)
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7/32": "192.0.2.0/24", "192.0.2.0/24": "192.0.2.0/24", "192.0.0.0/16": "192.0.0.0/16",
		"2001:db8:7:1::9/128": "2001:db8:7::/48", "2001:db8:7:1::/64": "2001:db8:7::/48", "2001:db8::/32": "2001:db8::/32",
	} {
		if got := Cut(netip.MustParsePrefix(in)).String(); got != want {
			t.Errorf("Cut(%s): %s, want %s", in, got, want)
		}
	}
	if Cut(netip.Prefix{}).IsValid() {
		t.Error("something was made of nothing")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"marie", "Marie Éluard", "m@example.org", "a", "用户", strings.Repeat("é", 64)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", " marie", "marie ", "-x", "a\x1b[2K", "a\nb", "a\u202eb", `a"b`, "<b>", "\xff", strings.Repeat("é", 65), strings.Repeat("x", 65)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	tests := []struct {
		password string
		want     error
	}{
		{"elevensigns", ErrShort},
		{"twelve signs", nil},
		{"éééééééééééé", nil},
		{"ééééééééééé", ErrShort},
		{strings.Repeat("x", MostPassword), nil},
		{strings.Repeat("x", MostPassword+1), ErrLong},
		{"marie-eluard", ErrIsName},
	}
	for _, tt := range tests {
		if err := CheckPassword("marie-eluard", tt.password); err != tt.want {
			t.Errorf("%.20q: %v, want %v", tt.password, err, tt.want)
		}
	}
}

func TestSecret(t *testing.T) {
	a, hash := NewSecret()
	b, _ := NewSecret()
	if a == b || len(a) != 43 || HashOf(a) != hash || HashOf(b) == hash {
		t.Errorf("secrets %q and %q", a, b)
	}
}

func TestPasswords(t *testing.T) {
	ctx := context.Background()
	p := NewPasswords()
	hash, err := p.Hash(ctx, "correct horse battery staple")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("hash %q, %v", hash, err)
	}
	tests := []struct {
		hash, password string
		want           bool
	}{
		{hash, "correct horse battery staple", true},
		{hash, "correct horse battery stapl", false},
		{hash, "", false},
		{hash, strings.Repeat("x", MostPassword+1), false},
		{"", "correct horse battery staple", false},
		{"", "", false},
		// Of the reference implementation: argon2 "password" with the salt "somesalt" (phc-winner-argon2, README).
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password", true},
	}
	for _, tt := range tests {
		if got, err := p.Check(ctx, tt.hash, tt.password); got != tt.want || err != nil {
			t.Errorf("Check(%.40q, %.40q): %v, %v; want %v", tt.hash, tt.password, got, err, tt.want)
		}
	}
	for _, bad := range []string{"x", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "$argon2id$v=19$m=64,t=1,p=1$$"} {
		if ok, err := p.Check(ctx, bad, "password"); ok || err == nil {
			t.Errorf("the hash %q: %v, %v", bad, ok, err)
		}
	}
}

// TestPasswordsAreBounded: whoever finds no room waits, and no longer than they want to.
func TestPasswordsAreBounded(t *testing.T) {
	p := NewPasswords()
	if n := cap(p.slots); n < 1 || n > max(1, runtime.GOMAXPROCS(0)/2) {
		t.Errorf("%d passwords are worked on at once", n)
	}
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if ok, err := p.Check(ctx, "", "x"); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Check: %v, %v", ok, err)
	}
	if _, err := p.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("Hash: %v", err)
	}
}

func TestThrottle(t *testing.T) {
	var th Throttle
	now := t0
	for i, want := range []time.Duration{0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60} {
		if got := th.wait("marie", now); got != want*time.Second {
			t.Errorf("after %d failures: wait %v, want %v", i, got, want*time.Second)
		}
		th.failed("marie", now)
	}
	if got := th.wait("marie", now.Add(59*time.Second)); got != time.Second {
		t.Errorf("a second before the end: %v", got)
	}
	if got := th.wait("paul", now); got != 0 {
		t.Errorf("somebody else: %v", got)
	}
	if got := th.wait("marie", now.Add(forgetTries+time.Second)); got != 0 {
		t.Errorf("after a quarter of an hour: %v", got)
	}
	th.Succeeded("marie")
	if got := th.wait("marie", now); got != 0 {
		t.Errorf("after a success: %v", got)
	}
	for i, want := range []time.Duration{0, 0, 0, 0, 0, time.Second, time.Second} {
		if got := th.Try("marie", now); got != want {
			t.Errorf("try %d: wait %v, want %v", i, got, want)
		}
	}
	th.Undo("marie")
	if got := th.Try("marie", now); got != 0 {
		t.Errorf("after a try that could not be made: %v", got)
	}
	th.Succeeded("marie")
	th.Try("marie", now)
	th.Undo("marie")
	if len(th.tries) != 0 {
		t.Errorf("nobody failed, and remembered is %v", th.tries)
	}
	wide := Throttle{Free: 7, Most: 2 * time.Second}
	for i, want := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2} {
		if got := wide.wait("", now); got != want*time.Second {
			t.Errorf("a wide one after %d failures: wait %v, want %v", i, got, want*time.Second)
		}
		wide.failed("", now)
	}
	// A crowd of names does not make it forget who failed often.
	for range 7 {
		th.failed("marie", now)
	}
	for i := range mostTriers + 100 {
		th.failed("n"+string(rune('a'+i%26))+strings.Repeat("x", i/26), now)
	}
	if len(th.tries) > mostTriers || th.wait("marie", now) == 0 {
		t.Errorf("%d names are remembered, marie waits %v", len(th.tries), th.wait("marie", now))
	}
}

func TestSigner(t *testing.T) {
	s, other := &Signer{Key: [32]byte{1}}, &Signer{Key: [32]byte{2}}
	const path = "/graph/OVH/web1/cpu/week.svg"
	end := t0.Add(time.Hour)
	parsed := func(query string) url.Values {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name string
		path string
		q    url.Values
		now  time.Time
		want bool
	}{
		{"good", path, parsed(s.Sign(path, end)), t0, true},
		{"a second before its end", path, parsed(s.Sign(path, end)), end.Add(-time.Second), true},
		{"at its end", path, parsed(s.Sign(path, end)), end, false},
		{"without end", path, parsed(s.Sign(path, time.Time{})), t0.AddDate(10, 0, 0), true},
		{"another picture", "/graph/OVH/web2/cpu/week.svg", parsed(s.Sign(path, end)), t0, false},
		{"another key", path, parsed(other.Sign(path, end)), t0, false},
		{"no mark", path, url.Values{}, t0, false},
		{"its end moved", path, url.Values{"until": {"99999999999"}, "sign": {parsed(s.Sign(path, end)).Get("sign")}}, t0, false},
		{"its end taken away", path, url.Values{"sign": {parsed(s.Sign(path, end)).Get("sign")}}, t0, false},
		{"an end that is no number", path, parsed("until=x&sign=" + s.mark(path, "x")), t0, false},
	} {
		if got := s.Good(tt.path, tt.q, tt.now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSeal(t *testing.T) {
	s, other := &Signer{Key: [32]byte{1}}, &Signer{Key: [32]byte{2}}
	text := s.Seal("round", []byte("secret"))
	if plain, ok := s.Open("round", text); !ok || string(plain) != "secret" {
		t.Errorf("opened: %q, %v", plain, ok)
	}
	if again := s.Seal("round", []byte("secret")); again == text || strings.Contains(text, "secret") {
		t.Errorf("sealed twice: %s and %s", text, again)
	}
	last := "A"
	if strings.HasSuffix(text, "A") {
		last = "Q"
	}
	for _, tt := range []struct {
		name, purpose, text string
		by                  *Signer
	}{
		{"another key", "round", text, other},
		{"another purpose", "rounds", text, s},
		{"changed", "round", text[:len(text)-1] + last, s},
		{"cut", "round", text[:20], s},
		{"nothing", "round", "", s},
		{"no text of ours", "round", "ä", s},
	} {
		if plain, ok := tt.by.Open(tt.purpose, tt.text); ok {
			t.Errorf("%s: opened: %q", tt.name, plain)
		}
	}
}

func TestPeerOf(t *testing.T) {
	listed := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	tests := []struct {
		name    string
		remote  string
		listed  []netip.Prefix
		headers string // Name: value, separated by |
		want    string
		trusted bool
	}{
		{"direct", "192.0.2.7:5000", listed, "", "192.0.2.7", false},
		{"direct, IPv4 in IPv6", "[::ffff:192.0.2.7]:5000", nil, "", "192.0.2.7", false},
		{"this machine may be a proxy", "127.0.0.1:5000", nil, "", "", false},
		{"it is one", "127.0.0.1:5000", nil, "X-Forwarded-For: 192.0.2.7", "", false},
		{"a listed proxy", "127.0.0.1:5000", listed, "X-Forwarded-For: 192.0.2.7", "192.0.2.7", true},
		{"a listed proxy that says nothing", "127.0.0.1:5000", listed, "", "", true},
		{"a stranger who names somebody", "192.0.2.66:5000", listed, "X-Forwarded-For: 198.51.100.1", "", false},
		{"a stranger who names somebody, newer", "192.0.2.66:5000", listed, "Forwarded: for=198.51.100.1", "", false},
		{"a lie in front", "127.0.0.1:5000", listed, "X-Forwarded-For: 198.51.100.1, 192.0.2.7", "192.0.2.7", true},
		{"two listed proxies", "127.0.0.1:5000", listed, "X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.0.0.9", "192.0.2.7", true},
		{"two headers", "127.0.0.1:5000", listed, "X-Forwarded-For: 192.0.2.7|X-Forwarded-For: 10.0.0.9", "192.0.2.7", true},
		{"no address", "127.0.0.1:5000", listed, "X-Forwarded-For: 192.0.2.7, unknown", "", true},
		{"only proxies", "127.0.0.1:5000", listed, "X-Forwarded-For: 10.0.0.9, 10.0.0.8", "", true},
		{"IPv6", "[2001:db8:1::1]:5000", listed, "X-Forwarded-For: 2001:db8:2::7%eth0", "2001:db8:2::7", true},
		{"no remote", "@", listed, "", "", false},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		for _, h := range strings.Split(tt.headers, "|") {
			if name, value, ok := strings.Cut(h, ": "); ok {
				r.Header.Add(name, value)
			}
		}
		got := PeerOf(r, tt.listed)
		name := ""
		if got.Addr.IsValid() {
			name = got.Addr.String()
		}
		if name != tt.want || got.Listed != tt.trusted {
			t.Errorf("%s: %q, listed %v; want %q, %v", tt.name, name, got.Listed, tt.want, tt.trusted)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	for remote, want := range map[string]bool{"10.0.0.9:1": true, "192.0.2.1:1": false} {
		r.RemoteAddr = remote
		if got := PeerOf(r, listed).Secured; got != want {
			t.Errorf("%s says https: %v, want %v", remote, got, want)
		}
	}
}
