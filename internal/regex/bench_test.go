package regex

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// host is what <HOST> becomes in a fail2ban rule.
const host = `(?:\[?(?:(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})|(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)))\]?|(?P<dns>[\w\-.^_]*\w))`

const sshdPrefix = `^\s*\S+\s+sshd(?:-session)?(?:\[\d+\])?:\s+(?P<content>.+)$`

// sshdRules are rules for sshd's messages in the manner of fail2ban's filters, with what its sshd filter uses of the
// syntax: conditionals, negative look-ahead, optional groups, lazy repeats.
var sshdRules = []string{
	`^[aA]uthentication (?:failure|error|failed) for (?P<user>.*) from <HOST>(?: via \S+)?%s$`,
	`^User not known to the underlying authentication module for (?P<user>.*) from <HOST>%s$`,
	`^Failed publickey for invalid user (?P<user>(?P<cond>\S+)|(?:(?! from ).)*?) from <HOST>%p(?: ssh\d*)?(?(cond): |(?:(?:(?! from ).)*)$)`,
	`^Failed (?:password|keyboard-interactive/pam|none) for (?P<inv>invalid user )?(?P<user>(?P<cond>\S+)|(?(inv)(?:(?! from ).)*?|[^:]+)) from <HOST>%p(?: ssh\d*)?(?(cond)(?:: .*)?$|(?:(?:(?! from ).)*)$)`,
	`^(?P<user>ROOT) LOGIN REFUSED FROM <HOST>`,
	`^[iI](?:llegal|nvalid) user (?P<user>.*?) from <HOST>%p\s*$`,
	`^User (?P<user>\S+|.*?) from <HOST> not allowed because not listed in AllowUsers%s$`,
	`^User (?P<user>\S+|.*?) from <HOST> not allowed because listed in DenyUsers%s$`,
	`^User (?P<user>\S+|.*?) from <HOST> not allowed because not in any group%s$`,
	`^refused connect from \S+ \(<HOST>\)`,
	`^Received (?:disconnect) from <HOST>%p:\s*3: .*: Auth fail%s$`,
	`^User (?P<user>\S+|.*?) from <HOST> not allowed because a group is listed in DenyGroups%s$`,
	`^User (?P<user>\S+|.*?) from <HOST> not allowed because none of user's groups are listed in AllowGroups%s$`,
	`^pam_[a-z]+\(sshd:auth\):\s+authentication failure;(?:\s+(?:(?:logname|e?uid|tty)=\S*)){0,4}\s+ruser=(?P<ruser>\S*)\s+rhost=<HOST>(?:\s+user=(?P<user>\S*))?%s$`,
	`^(?:error: )?maximum authentication attempts exceeded for (?P<user>.*) from <HOST>%p(?: ssh\d*)?%s$`,
	`^User (?P<user>\S+|.*?) not allowed because account is locked(?: from <HOST>)?%s$`,
	`^Disconnecting(?: from)?(?: (?:invalid|authenticating)) user (?P<user>\S+) <HOST>%p:\s*Change of username or service not allowed:\s*.*\[preauth\]\s*$`,
	`^Disconnecting: Too many authentication failures(?: for (?P<user>\S+|.*?))?%s$`,
	`^Received disconnect from <HOST>%p:\s*11:`,
	`^Connection (?:closed|reset) by(?: (?:invalid|authenticating) user (?P<user>\S+|.*?))? <HOST>%p\s*\[preauth\]\s*$`,
	`^Accepted (?:\w+) for (?P<user>\S+) from <HOST>(?:\s|$)`,
	`^Did not receive identification string from <HOST>`,
	`^Unable to negotiate with <HOST>%p: no matching \w+ \w+ \w+ found.`,
}

func expand(rules []string) []string {
	r := strings.NewReplacer("<HOST>", host, "%s", `\s*(?:\[preauth\]\s*)?`, "%p", `(?: (?:port \d+|on \S+|\[preauth\])){0,3}`)
	var out []string
	for _, rule := range rules {
		out = append(out, r.Replace(rule))
	}
	return out
}

func mustSet(t testing.TB, o Options, patterns ...string) *Set {
	t.Helper()
	var res []*Regexp
	for _, p := range patterns {
		re, err := Compile(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		res = append(res, re)
	}
	s, err := NewSet(res, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logLines makes lines of a Debian auth.log without their dates, four in ten of them of an attack.
func logLines(n int, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	user := func() string {
		return pick("root", "admin", "ubuntu", "test", "oracle", "git", "postgres", "pi", "user1")
	}
	addr := func() string {
		if r.IntN(12) == 0 {
			return fmt.Sprintf("2001:db8:bad:%x::%x", r.IntN(1<<16), r.IntN(1<<16))
		}
		return fmt.Sprintf("203.0.113.%d", r.IntN(256))
	}
	port := func() int { return 1024 + r.IntN(60000) }
	sshd := func(format string, args ...any) string {
		return fmt.Sprintf(" web1 sshd[%d]: ", 1000+r.IntN(99000)) + fmt.Sprintf(format, args...)
	}
	attack := []func() string{
		func() string { return sshd("Failed password for %s from %s port %d ssh2", user(), addr(), port()) },
		func() string {
			return sshd("Failed password for invalid user %s from %s port %d ssh2", user(), addr(), port())
		},
		func() string { return sshd("Invalid user %s from %s port %d", user(), addr(), port()) },
		func() string {
			return sshd("Connection closed by authenticating user %s %s port %d [preauth]", user(), addr(), port())
		},
		func() string {
			return sshd("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s  user=%s", addr(), user())
		},
		func() string {
			return sshd("Received disconnect from %s port %d:11: Bye Bye [preauth]", addr(), port())
		},
		func() string { return sshd("pam_unix(sshd:auth): check pass; user unknown") },
	}
	quiet := []func() string{
		func() string {
			return sshd("Accepted publickey for %s from 10.20.0.%d port %d ssh2: RSA SHA256:%x", user(), r.IntN(256), port(), r.Uint64())
		},
		func() string {
			return sshd("pam_unix(sshd:session): session opened for user %s(uid=1001) by (uid=0)", user())
		},
		func() string { return sshd("pam_unix(sshd:session): session closed for user %s", user()) },
		func() string {
			return sshd("Disconnected from user %s 10.20.0.%d port %d", user(), r.IntN(256), port())
		},
		func() string {
			return fmt.Sprintf(" web1 systemd-logind[512]: New session %d of user %s.", r.IntN(1<<16), user())
		},
		func() string { return fmt.Sprintf(" web1 systemd-logind[512]: Removed session %d.", r.IntN(1<<16)) },
		func() string {
			return fmt.Sprintf(" web1 CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)", r.IntN(1<<16))
		},
		func() string {
			return fmt.Sprintf(" web1 CRON[%d]: pam_unix(cron:session): session closed for user root", r.IntN(1<<16))
		},
		func() string {
			return fmt.Sprintf(" web1 sudo:   %s : TTY=pts/0 ; PWD=/home/x ; USER=root ; COMMAND=/usr/bin/apt update", user())
		},
		func() string {
			return fmt.Sprintf(" web1 sftp-server[%d]: open \"/home/x/upload/img_%05d.jpg\" flags WRITE,CREATE mode 0644", r.IntN(1<<16), r.IntN(99999))
		},
	}
	lines := make([][]byte, n)
	for i := range lines {
		from := quiet
		if r.IntN(10) < 4 {
			from = attack
		}
		lines[i] = []byte(from[r.IntN(len(from))]())
	}
	return lines
}

// BenchmarkLog is what a filter does with each line of a log: the prefix, then the rules on what the prefix leaves.
func BenchmarkLog(b *testing.B) { benchmarkLog(b, sshdPrefix, expand(sshdRules)) }

func benchmarkLog(b *testing.B, prefixPattern string, rulePatterns []string) {
	lines := logLines(20000, 1)
	bytes := 0
	for _, l := range lines {
		bytes += len(l) + 1
	}
	prefix := mustSet(b, Options{}, prefixPattern).NewMatcher()
	content := slices.Index(prefix.set.res[0].GroupNames(), "content")
	rules := mustSet(b, Options{}, rulePatterns...).NewMatcher()
	b.ReportAllocs()
	b.SetBytes(int64(bytes))
	hits := 0
	for b.Loop() {
		hits = 0
		for _, l := range lines {
			if prefix.Match(l) < 0 {
				continue
			}
			start, end := prefix.Group(content)
			if rules.Match(l[start:end]) >= 0 {
				hits++
			}
		}
	}
	b.ReportMetric(float64(len(lines))*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
	b.ReportMetric(float64(hits)/float64(len(lines)), "hits/line")
	s := rules.Stats()
	b.ReportMetric(float64(s.States), "states")
	b.ReportMetric(float64(s.Confirmations), "confirmations")
}

// BenchmarkNewSet is what starting a filter costs.
func BenchmarkNewSet(b *testing.B) {
	var res []*Regexp
	for _, p := range expand(sshdRules) {
		re, err := Compile(p, 0)
		if err != nil {
			b.Fatal(err)
		}
		res = append(res, re)
	}
	b.ReportAllocs()
	for b.Loop() {
		s, err := NewSet(res, Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.NewMatcher()
	}
}
