package fail2ban

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin/internal/regex"
)

func TestAddressesAsRecorded(t *testing.T) {
	type row struct {
		Text, Str, Ptr string
		Valid, Single  bool
		Family         *string
	}
	rows, equal := recorded[row](t, "ipaddr.jsonl"), 0
	for _, r := range rows {
		a := ParseAddress(r.Text)
		family := ""
		if r.Family != nil {
			family = *r.Family
		}
		if a.Text != r.Str || a.Prefix.IsValid() != r.Valid || a.Single != r.Single || a.Family() != family || a.Rev() != r.Ptr {
			t.Errorf("ParseAddress(%q) = %+v, family %q, backwards %q; fail2ban says %+v", r.Text, a, a.Family(), a.Rev(), r)
			continue
		}
		equal++
	}
	t.Logf("%d of %d equal", equal, len(rows))
}

func TestParseAddress(t *testing.T) {
	tests := []struct{ text, want, prefix string }{
		{"", "", ""},
		{"[]", "[]", ""},
		{"192.0.2.1/", "192.0.2.1/", ""},
		{"192.0.2.1/x", "192.0.2.1/x", ""},
		{"192.0.2.1/255.0.255.0", "192.0.2.1/255.0.255.0", ""},
		{"192.0.2.1/-1", "192.0.2.1/-1", ""},
		{"192.0.2.1/0.0.0.0", "0.0.0.0", "0.0.0.0/0"},
		{"2001:db8::1/ffff:ffff::", "2001:db8::/32", "2001:db8::/32"},
		{"::ffff:192.0.2.1/120", "::ffff:192.0.2.0/120", "::ffff:192.0.2.0/120"},
		{"fe80::1%$(id)", "fe80::1%$(id)", ""},
		{"::1:2", "::0.1.0.2", "::1:2/128"}, // as glibc writes it
		{"::12", "::12", "::12/128"},
	}
	for _, tt := range tests {
		a := ParseAddress(tt.text)
		prefix := ""
		if a.Prefix.IsValid() {
			prefix = a.Prefix.String()
		}
		if a.Text != tt.want || prefix != tt.prefix {
			t.Errorf("ParseAddress(%q) = %q, %q, want %q, %q", tt.text, a.Text, prefix, tt.want, tt.prefix)
		}
	}
}

// TestLogAsRecorded writes every line of a recorded fail2ban.log again, from its parts.
func TestLogAsRecorded(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(recordedDumps(t), "fail2ban.log.sample"))
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`^(\S+ \S+) (fail2ban\.\w+) *\[(\d+)\]: ([A-Z ]{7,}?) (.*)\n$`)
	message := regexp.MustCompile(`^\[(\w+)\] (Found|Attempt|Ban|Restore Ban|Unban|Increase Ban) (\S+?)(, bad)?( - .*| \(.*)?$`)
	equal, messages, total := 0, 0, 0
	for l := range strings.Lines(string(data)) {
		total++
		m := parts.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("%q is no line of a log", l)
			continue
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05,000", m[1], time.Local)
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(m[3])
		msg := m[5]
		if w := message.FindStringSubmatch(msg); w != nil {
			messages++
			msg = rewritten(t, w, at)
		}
		if got := string(AppendLog(nil, at, pid, m[2], strings.TrimSpace(m[4]), msg)); got != l {
			t.Errorf("wrote %q, fail2ban wrote %q", got, l)
			continue
		}
		equal++
	}
	t.Logf("%d of %d lines equal, %d of them messages about ids", equal, total, messages)
}

// rewritten makes a message from its parts: jail, kind, id, ", bad", the rest.
func rewritten(t *testing.T, w []string, at time.Time) string {
	t.Helper()
	jail, id := w[1], w[3]
	when := at
	if len(w[5]) > 3 && w[5][:3] == " - " {
		when, _ = time.ParseInLocation(time.DateTime, w[5][3:22], time.Local)
	}
	switch w[2] {
	case "Found":
		if w[4] == "" {
			return LogFound(jail, id, when)
		}
		former, _ := strconv.Atoi(w[5][24:25])
		return LogFoundBad(jail, id, when, former, FailureWeight(former, 100), strings.HasSuffix(w[5], ", Ban"))
	case "Attempt":
		return LogAttempt(jail, id, when)
	case "Ban":
		return LogBan(jail, id)
	case "Restore Ban":
		return LogRestoreBan(jail, id)
	case "Unban":
		return LogUnban(jail, id)
	}
	m := regexp.MustCompile(`^ \((\d+) # (\S+) -> (.*)\)$`).FindStringSubmatch(w[5])
	count, _ := strconv.Atoi(m[1])
	length, _ := Seconds(m[2])
	until, _ := time.ParseInLocation(time.DateTime, m[3], time.Local)
	return LogIncreaseBan(jail, id, count, length, until)
}

func TestAppendLog(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 53, 48, 7_999_999, time.UTC)
	tests := []struct{ got, want string }{
		{string(AppendLog([]byte("x"), at, 7, FromActions, LogNotice, LogBan("sshd", "192.0.2.1"))),
			"x2026-11-22 14:53:48,007 fail2ban.actions        [7]: NOTICE  [sshd] Ban 192.0.2.1\n"},
		{string(AppendLog(nil, at, 7, FromServer, LogError, "a\nb\r\x1b\xff\u2028\u202eü")),
			"2026-11-22 14:53:48,007 fail2ban.server         [7]: ERROR   a\\nb\\r\\x1b\\xff\\u2028\\u202eü\n"},
		{string(AppendSyslog(nil, 7, FromActions, LogNotice, LogUnban("sshd", "::1"))), "fail2ban.actions[7]: NOTICE [sshd] Unban ::1"},
		{LogIgnore("sshd", "::1", "ip"), "[sshd] Ignore ::1 by ip"},
		{LogAlready("sshd", "::1"), "[sshd] ::1 already banned"},
		{LogIncreaseBan("sshd", "::1", 3, -time.Second, time.Time{}), "[sshd] Increase Ban ::1 (3 # permanent -> infinite)"},
		{LogBan("x", "a b"), `[x] Ban "a\x20b"`},
		{LogBan("x", ""), `[x] Ban ""`},
		{LogBan("x", "jürgen@example.com"), "[x] Ban jürgen@example.com"},
		{LogBan("x", strings.Repeat("é", maxLogID)), "[x] Ban " + strings.Repeat("é", maxLogID/2) + "..."},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// forged are ids that pretend to be something else in a log.
var forged = []string{
	"x] Ban 198.51.100.1", "x]\u00a0Ban\u00a0198.51.100.1", "x]\tBan\t198.51.100.1", "x\n2026-11-22 14:53:48,372 fail2ban.actions [1]: NOTICE [sshd] Ban 198.51.100.1",
	"] Ban 198.51.100.1", "[a] Ban 198.51.100.1", "]\u2003Ban\u2003198.51.100.1", "\" ] Ban 198.51.100.1", "x]\x1cBan\x1c198.51.100.1", "x] Ban 198.51.100.1 ", "x]\x85Ban\x85198.51.100.1",
}

// TestRecidive gives our lines to the expression of Debian's jail recidive: it must find who was banned, and nobody that
// a forged id speaks of.
func TestRecidive(t *testing.T) {
	find := recidive(t)
	at := time.Date(2026, 11, 22, 14, 53, 48, 0, time.UTC)
	line := func(msg string) string {
		l := string(AppendLog(nil, at, 4711, FromActions, LogNotice, msg))
		return strings.TrimSuffix(l[len("2026-11-22 14:53:48,000"):], "\n") // without the date, as filters see it
	}
	tests := []struct{ msg, want string }{
		{LogBan("sshd", "192.0.2.1"), "192.0.2.1"},
		{LogBan("sshd", "2001:db8::1"), "2001:db8::1"},
		{LogBan("my jail-2", "192.0.2.1"), "192.0.2.1"},
		{LogBan("recidive", "192.0.2.1"), ""},
		{LogRestoreBan("sshd", "192.0.2.1"), ""},
		{LogUnban("sshd", "192.0.2.1"), ""},
		{LogIncreaseBan("sshd", "192.0.2.1", 2, time.Hour, at), ""},
		{LogAlready("sshd", "192.0.2.1"), ""},
	}
	for _, tt := range tests {
		if got := find(line(tt.msg)); got != tt.want {
			t.Errorf("%q: recidive finds %q, want %q", tt.msg, got, tt.want)
		}
	}
	for _, id := range forged {
		for _, msg := range []string{LogBan("sshd", id), LogUnban("sshd", id), LogRestoreBan("sshd", id), LogFound("sshd", id, at), LogAttempt("sshd", id, at),
			LogAlready("sshd", id), LogIgnore("sshd", id, "ip"), LogFoundBad("sshd", id, at, 1, 2, true), LogIncreaseBan("sshd", id, 2, time.Hour, at)} {
			if got := find(line(msg)); got != "" {
				t.Errorf("%q: recidive finds %q", msg, got)
			}
		}
	}
	if got := find(line("[sshd] Ban x] Ban 198.51.100.1")); got == "" {
		t.Error("an id that is not quoted forges nothing: the ids of this test are no good")
	}
}

// recidive is the failregex of Debian's jail of that name: it says who is found in a line.
func recidive(t *testing.T) func(line string) string {
	t.Helper()
	if _, err := os.Stat("/etc/fail2ban/filter.d/recidive.conf"); err != nil {
		t.Skip("no /etc/fail2ban/filter.d/recidive.conf: install Debian's package fail2ban to test against it")
	}
	f, err := LoadFilter(os.DirFS("/etc/fail2ban/filter.d"), "recidive", nil, "file")
	if err != nil {
		t.Fatal(err)
	}
	const host = `(?:\[?(?:(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})|` +
		`(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)))\]?|(?P<dns>[\w\-.^_]*\w))`
	re, err := regex.Compile(strings.ReplaceAll(f.Failregex[0].Text, "<HOST>", host), 0)
	if err != nil {
		t.Fatal(err)
	}
	set, err := regex.NewSet([]*regex.Regexp{re}, regex.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := set.NewMatcher()
	return func(line string) string {
		if m.Match([]byte(line)) < 0 {
			return ""
		}
		for g, name := range re.GroupNames() {
			if start, end := m.Group(g); start >= 0 && (name == "ip4" || name == "ip6" || name == "dns") {
				return line[start:end]
			}
		}
		return ""
	}
}
