package scrub

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

var about = netip.MustParseAddr("203.0.113.9")

var ours = &Scrubber{Names: []string{"web1", "asso.example"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}

func TestComment(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"counts", "5 SSH login failures in 41s, port 22, 2026-11-21T02:12:40Z", "5 SSH login failures in 41s, port 22, 2026-11-21T02:12:40Z"},
		{"syslog", "Sep 17 10:00:01 web1 sshd[123]: Invalid user sftpuser02 from 203.0.113.9 port 39121", "Sep 17 10:00:01 [redacted] sshd: Invalid user [user] from 203.0.113.9 port 39121"},
		{"common user", "Failed password for root from 203.0.113.9 port 1 ssh2", "Failed password for root from 203.0.113.9 port 1 ssh2"},
		{"somebody", "Failed password for marie from 203.0.113.9", "Failed password for [user] from 203.0.113.9"},
		{"invalid somebody", "Failed password for invalid user marie from 203.0.113.9", "Failed password for invalid user [user] from 203.0.113.9"},
		{"quoted", `user="marie dupont" from 203.0.113.9`, "user=[user] from 203.0.113.9"},
		{"sasl", "authentication failed: sasl_username=marie@asso.example", "authentication failed: sasl_username=[redacted]"},
		{"mail", "RCPT from 203.0.113.9: <jean@example.org> rejected", "RCPT from 203.0.113.9: <[redacted]> rejected"},
		{"url", "GET https://asso.example/reset?token=abc HTTP/1.1", "GET https://[redacted] HTTP/1.1"},
		{"query", "GET /wp-login.php?user=marie&p=1 404", "GET /wp-login.php?[redacted] 404"},
		{"cookie", "Cookie: PHPSESSID=abc; other=1\nnext", "Cookie: [redacted]\nnext"},
		{"password", "login with password=hunter2 refused", "login with password=[redacted] refused"},
		{"other address", "203.0.113.9 scanned 192.168.0.4 and 2001:db8::7", "203.0.113.9 scanned [redacted] and [redacted]"},
		{"with port", "from 203.0.113.9:4022 to 10.0.0.1:22", "from 203.0.113.9 to [redacted]"},
		{"machine", "attack on mail.autre.example.net", "attack on [redacted]"},
		{"mac", "SRC=203.0.113.9 MAC=00:11:22:33:44:55", "SRC=203.0.113.9 MAC=[redacted]"},
		{"member's name", "hello from web1.", "hello from [redacted]."},
		{"part of a name", "hello from web12", "hello from web12"},
		{"duration", "blocked for 15 minutes", "blocked for 15 minutes"},
		{"secret", "id 0123456789abcdef0123456789abcdef seen", "id [redacted] seen"},
		{"control", "a\x1b[31mb\u202ec", "a [31mb c"},
		{"doubtful", "odd @ sign", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ours.Comment(c.text, about); got != c.want {
				t.Errorf("%q\n got %q\nwant %q", c.text, got, c.want)
			}
		})
	}
	if got := ours.Comment("seen at 198.51.100.7", netip.MustParseAddr("198.51.100.7")); strings.Contains(got, "198") {
		t.Errorf("an address of the members is told: %q", got)
	}
	long := ours.Comment(strings.Repeat("é ", 5000), about)
	if len(long) > MaxComment || !utf8.ValidString(long) {
		t.Errorf("%d bytes, valid %v", len(long), utf8.ValidString(long))
	}
}

// FuzzComment looks for canaries that come through, wherever they stand.
func FuzzComment(f *testing.F) {
	f.Add("Failed password for ", " from 203.0.113.9")
	f.Add("GET /x?", "")
	f.Add("\x00", "\xff")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, secret := range []string{"marie.durand@example.org", "192.168.77.77"} {
			got := ours.Comment(before+" "+secret+" "+after, about)
			if strings.Contains(got, secret) {
				t.Errorf("%q came through: %q", secret, got)
			}
			if len(got) > MaxComment || !utf8.ValidString(got) {
				t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
			}
			if again := ours.Comment(got, about); strings.Contains(again, "@") {
				t.Errorf("not steady: %q", again)
			}
		}
	})
}
