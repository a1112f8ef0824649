package fail2bancli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// runRegex calls our fail2ban-regex.
func runRegex(args ...string) (said string, code int) {
	var out, errs bytes.Buffer
	code = Regex(args, Options{Release: "test", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	return out.String() + errs.String(), code
}

var processed = regexp.MustCompile(`processed in \d+\.\d\d sec`)

func untimed(s string) string { return processed.ReplaceAllString(s, "processed in X sec") }

// TestRegexLikeDebians compares every byte with Debian's own fail2ban-regex, on its own sample logs.
func TestRegexLikeDebians(t *testing.T) {
	const program, logs = "/usr/bin/fail2ban-regex", "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs"
	for _, file := range []string{program, logs + "/sshd"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("Debian's fail2ban is not installed: %v", err)
		}
	}
	own := filepath.Join(t.TempDir(), "own.conf")
	if err := os.WriteFile(own, []byte("[Definition]\nfailregex = ^ bad <F-USER>\\S+</F-USER> from <ADDR>$\n            ^ worse from <ADDR>$\nignoreregex = trusted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(partial, []byte("# comment\n\n2026-11-22 10:11:12 bad a\tb from 192.0.2.1\n2026-11-22 10:11:13 bad trusted from 192.0.2.1\n2026-11-22 10:11:14 worse from 192.0.2.2\r\n2026-11-22 10:11:15 worse from 192.0.2.3"), 0o644); err != nil {
		t.Fatal(err)
	}
	const line, expr = "Nov 22 10:00:00 h sshd[1]: Failed password for root from 192.0.2.1 port 1 ssh2", "Failed password for .* from <HOST>"
	tests := [][]string{
		{"-r", logs + "/sshd", "sshd[mode=aggressive, publickey=any]"},
		{"-r", "-v", "-v", "--print-all-matched", "--print-all-missed", logs + "/sshd", "sshd"},
		{"-r", "--no-check-all", "--print-all-ignored", "--print-no-missed", logs + "/sshd", "sshd"},
		{"-r", "-v", logs + "/monit", "monit"},
		{"-r", "--print-all-matched", logs + "/guacamole", "guacamole"}, // without -v, which tells the time of day,
		{"-r", "-v", logs + "/nsd", "nsd"},
		{"-r", "-v", logs + "/recidive", "recidive"},
		{"--usedns", "no", logs + "/dovecot", "dovecot"},
		{"--usedns=no", "--print-no-ignored", "--print-all-miss", logs + "/exim", "exim[mode=aggressive]"},
		{"-r", logs + "/apache-auth", "/etc/fail2ban/filter.d/apache-auth.conf"},
		{"-r", "-o", "id", logs + "/sshd", "sshd"},
		{"--usedns=raw", "-o", "id", logs + "/dovecot", "dovecot"},
		{"-r", "-o", "ip", logs + "/postfix", "postfix[mode=aggressive]"},
		{"-r", "-o", "msg", logs + "/dovecot", "dovecot"},
		{"-r", "-o", "user", logs + "/sshd", "sshd"},
		{"-r", "-o", "<ip> <F-USER> <time> <failures> <msg>", logs + "/dovecot", "dovecot"},
		{"-o", "row", "2026-11-22 10:11:12 x from ::ffff:192.0.2.1 id abc", `x from <ADDR> id <F-ID>\S+</F-ID>`},
		{line, expr}, {line, expr, "root"}, {line, "sshd"}, {line, "no address"}, {line, "two (<HOST>"},
		{"-L", "3", "--print-all-matched", "Nov 22 10:00:00 h x\nNov 22 10:00:01 h y\nNov 22 10:00:01 h z from 192.0.2.2", "h x<SKIPLINES>^.*from <ADDR>$"},
		{"-v", "--TZ", "UTC+0200", "2026-11-22 10:11:12 x from 192.0.2.1", "x from <HOST>"},
		{"-v", "-d", `{^LN-BEG}%ExY-%Exm-%Exd`, "2026-11-22 x from 192.0.2.1", "from <HOST>"},
		{"-r", "-d", "{NONE}", logs + "/dropbear", "dropbear"},
		{"-c", "/etc/fail2ban/filter.d", "-r", logs + "/dropbear", "dropbear"},
		{"--print-all-matched", partial, own},
	}
	for _, args := range tests {
		name := strings.Join(args, " ")
		t.Run(strings.ReplaceAll(name, logs+"/", ""), func(t *testing.T) {
			cmd := exec.Command(program, args...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // the code is compared
			got, code := runRegex(args...)
			if want := untimed(out.String() + errs.String()); untimed(got) != want || code != cmd.ProcessState.ExitCode() {
				t.Errorf("fail2ban-regex %s says, with exit code %d:\n%s\nDebian's says %d:\n%s", name, code, got, cmd.ProcessState.ExitCode(), want)
			}
		})
	}
}

func TestRegex(t *testing.T) {
	conf := folder(t, map[string]string{
		"filter.d/web.conf":    "[Definition]\nprefregex = ^ h <F-CONTENT>.+</F-CONTENT>$\nfailregex = ^<mode> <F-USER>.*</F-USER> from <HOST>$\n ^worse <ADDR>$\nignoreregex = trusted\nmode = bad\nmaxlines = 1\ndatepattern = ^%%Y-%%m-%%d %%H:%%M:%%S\n",
		"filter.d/broken.conf": "[Definition]\nfailregex = %(nosuch)s\n",
		"latin.log":            "2026-11-22 10:11:12 h bad Andr\xe9 from 192.0.2.1\n2026-11-22 10:11:13 h bad trusted from 192.0.2.1\n2026-11-22 10:11:14 h other\n",
	})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("2026-11-22 10:11:12 h worse 192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "old.log.gz"), packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	const summary = `
Running tests
=============

Use   failregex line : user <F-USER>\S+</F-USER> from <ADDR>
Use      single line : 2026-11-22 10:11:12 user a from 192.0.2.1


Results
=======

Failregex: 1 total
|-  #) [# of hits] regular expression
|   1) [1] user <F-USER>\S+</F-USER> from <ADDR>
` + "`-" + `

Ignoreregex: 0 total

Date template hits:
|- [# of hits] date format
|  [1] {^LN-BEG}ExYear(?P<_sep>[-/.])Month(?P=_sep)Day(?:T|  ?)24hour:Minute:Second(?:[.,]Microseconds)?(?:\s*Zone offset)?
` + "`-" + `

Lines: 1 lines, 0 ignored, 1 matched, 0 missed
[processed in X sec]

`
	const expr = `user <F-USER>\S+</F-USER> from <ADDR>`
	tests := []struct {
		name string
		args []string
		want string // a part of it, but for the summary
		code int
	}{
		{"the summary", []string{"2026-11-22 10:11:12 user a from 192.0.2.1", expr}, summary, 0},
		{"a hostile line", []string{"--print-all-matched", "2026-11-22 10:11:12 user \x1b[2J from 192.0.2.1", expr}, `|  2026-11-22 10:11:12 user \x1b[2J from 192.0.2.1`, 0},
		{"a hostile name", []string{"-o", "user", "2026-11-22 10:11:12 user \x1b[2J from 192.0.2.1", expr}, `\x1b[2J`, 0},
		{"a row", []string{"-o", "row", "2026-11-22T10:11:12Z user a from 999.0.2.1", expr}, "['999.0.2.1',\t1795342272.0,\t{'user': 'a', 'ip4': '999.0.2.1', 'ip6': None}],", 0},
		{"Latin letters", []string{"-c", conf, "-e", "latin1", "--print-all-matched", conf + "/latin.log", "web"}, "Lines: 3 lines, 1 ignored, 1 matched, 1 missed\n[processed in X sec]\n\n|- Matched line(s):\n|  2026-11-22 10:11:12 h bad André from 192.0.2.1\n`-\n|- Ignored line(s):\n|  2026-11-22 10:11:13 h bad trusted from 192.0.2.1\n`-\n|- Missed line(s):\n|  2026-11-22 10:11:14 h other\n`-\n", 0},
		{"what is seen", []string{"-c", conf, "-vv", conf + "/latin.log", "web[mode=bad]"}, "Real  filter options : {'logtype': 'file', 'datepattern': '^%Y-%m-%d %H:%M:%S', 'mode': 'bad'}", 0},
		{"a name that is resolved", []string{"-c", conf, "-o", "id", "2026-11-22 10:11:12 h bad x from localhost", "web"}, "127.0.0.1\n", 0},
		{"a name that is not", []string{"-c", conf, "--usedns", "raw", "-o", "id", "2026-11-22 10:11:12 h bad x from localhost", "web"}, "localhost\n", 0},
		{"a packed log", []string{"-c", conf, conf + "/old.log.gz", "web"}, "Lines: 1 lines, 0 ignored, 1 matched, 0 missed", 0},
		{"an unknown encoding", []string{"-c", conf, "-e", "nonsense", conf + "/latin.log", "web"}, "unknown encoding: nonsense", 255},
		{"a broken filter", []string{"-c", conf, "a", "broken"}, "broken.conf:2: ", 255},
		{"what it costs", []string{"-c", conf, "a", "broken"}, "ERROR: failed to load filter broken\n", 255},
		{"options without an end", []string{"-c", conf, "a", "web[mode]"}, "ERROR: Wrong filter name or options", 255},
		{"too many lines", []string{"-L", "5000", "a", expr}, "maxlines '5000' is no number", 255},
		{"levels", []string{"--verbosity", "x", "a", expr}, "invalid integer value: 'x'", 2},
		{"both", []string{"--print-no-missed", "--print-all-missed", "a", expr}, "mutually exclusive", 255},
		{"help", []string{"--help"}, "Usage: fail2ban-regex", 0},
		{"version", []string{"--version"}, "fail2ban-regex 1.0.2 (Tocsin test)\n", 0},
		{"no regex", []string{"a log"}, "ERROR: provide both <LOG> and <REGEX>.", 255},
		{"links to another site", []string{"-D", "a", "b"}, "-D is not answered here", 255},
		{"an unknown option", []string{"--nonsense", "a", "b"}, "no such option: --nonsense", 2},
		{"an expression that is none", []string{"a", "sshd[mode"}, "unterminated character set at position 4", 255},
		{"an unknown zone", []string{"--TZ", "Nowhere", "a", expr}, "Unknown or unsupported time zone: 'Nowhere'", 255},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, code := runRegex(tt.args...)
			if !strings.Contains(untimed(got), tt.want) || code != tt.code {
				t.Errorf("fail2ban-regex %q says, with exit code %d:\n%s\nwant %d and:\n%s", tt.args, code, got, tt.code, tt.want)
			}
		})
	}
}

func TestRegexReadsTheJournal(t *testing.T) {
	const remote = "/lib/systemd/systemd-journal-remote"
	if _, err := os.Stat(remote); err != nil {
		t.Skip("Debian's systemd-journal-remote is not installed")
	}
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("there is no journalctl")
	}
	file := filepath.Join(t.TempDir(), "test.journal")
	const entry = "__REALTIME_TIMESTAMP=1795342272%06d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n" +
		"_UID=0\n_HOSTNAME=v\nSYSLOG_IDENTIFIER=%s\n_COMM=%s\n_PID=7\nMESSAGE=Invalid user x from 192.0.2.%d\n\n"
	cmd := exec.Command(remote, "--output="+file, "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(entry, 0, 1, "sshd", "sshd", 1) + fmt.Sprintf(entry, 5, 2, "other", "other", 2))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", remote, err, out)
	}
	got, code := runRegex("--print-all-matched", "-m", "_COMM=sshd", "systemd-journal[journalfiles="+file+"]", `Invalid user \S+ from <ADDR>`)
	want := "Use    journal match : _COMM=sshd\n\n\nResults\n=======\n\nFailregex: 1 total\n" +
		"|-  #) [# of hits] regular expression\n|   1) [1] Invalid user \\S+ from <ADDR>\n`-\n\nIgnoreregex: 0 total\n\nLines: 1 lines, 0 ignored, 1 matched, 0 missed\n" +
		"[processed in X sec]\n\n|- Matched line(s):\n|  " + journalTime(time.Unix(1795342272, 0)) + "v sshd[7]: Invalid user x from 192.0.2.1\n`-\n"
	if !strings.HasSuffix(untimed(got), want) || code != exitOK {
		t.Errorf("says, with exit code %d:\n%s\nwant at its end:\n%s", code, got, want)
	}
}

// No line and no expression of strangers makes a run end badly, also where matches span several lines.
func FuzzRegex(f *testing.F) {
	f.Add("Nov 22 10:00:00 h x\nNov 22 10:00:01 h y\nNov 22 10:00:01 h z from 192.0.2.2", "h x<SKIPLINES>^.*from <ADDR>$", "y", 3)
	f.Add("@400000006a01e5d000000000 a\nb from ::1\n\n", `(?m)^(<F-MLFID>.</F-MLFID>)?.*$`, "", 2)
	f.Add("x\nfrom 1.2.3.4/99\n", `\n*from <SUBNET>\n*`, `\n`, 2)
	f.Add("a\nb\nc", `^<F-ID>\S*</F-ID>\s*$`, `b`, 1)
	f.Fuzz(func(t *testing.T, log, expr, ignore string, lines int) {
		if lines < 1 || lines > 5 || len(log) > 500 || len(expr) > 200 || len(ignore) > 50 {
			t.Skip("outside of what is tried")
		}
		if _, err := os.Stat(log); err == nil {
			t.Skip("a file")
		}
		for _, out := range []string{"", "row", "msg", "<ip> <msg> <F-ID>"} {
			args := []string{"-r", "-v", "-L", strconv.Itoa(lines), "--print-all-matched"}
			if out != "" {
				args = append(args, "-o", out)
			}
			said, _ := runRegex(append(args, "--", log, expr, ignore)...)
			for _, r := range said {
				if r < ' ' && r != '\n' && r != '\t' {
					t.Fatalf("a run of %q over %q says %q", expr, log, said)
				}
			}
		}
	})
}
