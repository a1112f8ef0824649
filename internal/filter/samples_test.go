package filter

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"tocsin"
)

// The samples of the shipped filters stand beside them, in filters/NAME.txtar. Each section is one log, read by a fresh
// filter; its name is free text, and may begin with options: "-- [mode=aggressive] scanners --". Before each line stands
// what the filter must make of it:
//
//	# fail 192.0.2.1 user=root      a failure of that id; user= is looked at where it is given, port= too
//	# login 192.0.2.1 user=alice    somebody got in
//	# logout 192.0.2.1 user=alice   and left
//	# helper                        a line of a session that counts as nothing by itself
//	# ignored                       a rule fits, and so does ignoreregex
//	# nothing                       no rule fits
//
// A line or a user that holds NUL, escapes or broken UTF-8 is written as a Go string in quotes. In front of the first
// section, "never in a user name: TEXT" says what the protocol keeps out of a user name, so that
// TestInjectedUserNames does not put it there.
const samplesGlob = "filters/*.txtar"

// sample is one line of a section and the verdict on it.
type sample struct {
	place string // file and section, for messages
	want  string // the verdict: its first word
	id    string
	keys  map[string]string
	line  string
}

// section is one log.
type section struct {
	spec    string // filter and options
	name    string
	samples []sample
}

// sampleFile is the samples of one filter.
type sampleFile struct {
	filter   string
	never    string // no part of a user name, by the protocol
	sections []section
}

func readSamples(t testing.TB) []sampleFile {
	t.Helper()
	paths, err := filepath.Glob(samplesGlob)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples in %s: %v", samplesGlob, err)
	}
	var all []sampleFile
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := sampleFile{filter: strings.TrimSuffix(filepath.Base(path), ".txtar")}
		for l := range strings.Lines(string(ar.Comment)) {
			if text, ok := strings.CutPrefix(l, "never in a user name: "); ok {
				f.never = strings.TrimSpace(text)
			}
		}
		for _, file := range ar.Files {
			f.sections = append(f.sections, readSection(t, f.filter, file))
		}
		all = append(all, f)
	}
	return all
}

func readSection(t testing.TB, filter string, file txtar.File) section {
	t.Helper()
	s := section{spec: filter, name: file.Name}
	if strings.HasPrefix(file.Name, "[") {
		options, name, _ := strings.Cut(file.Name, "]")
		s.spec, s.name = filter+options+"]", strings.TrimSpace(name)
	}
	var verdict string
	n := 0
	for l := range strings.Lines(string(file.Data)) {
		n++
		l = strings.TrimRight(l, "\n")
		if text, ok := strings.CutPrefix(l, "# "); ok {
			verdict = text
			continue
		}
		if l == "" {
			continue
		}
		place := fmt.Sprintf("%s, %q line %d", s.spec, s.name, n)
		if verdict == "" {
			t.Fatalf("%s: no verdict before %q", place, l)
		}
		smp := sample{place: place, line: unquote(t, place, l), keys: map[string]string{}}
		readVerdict(t, &smp, verdict)
		s.samples = append(s.samples, smp)
		verdict = ""
	}
	return s
}

// readVerdict reads "fail 192.0.2.1 user="a b" port=22".
func readVerdict(t testing.TB, s *sample, text string) {
	t.Helper()
	s.want, text, _ = strings.Cut(text, " ")
	if text != "" && !strings.Contains(strings.Fields(text)[0], "=") {
		s.id, text, _ = strings.Cut(text, " ")
	}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			t.Fatalf("%s: %q is no key=value", s.place, text)
		}
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			s.keys[key], text = unquote(t, s.place, quoted), rest[len(quoted):]
			continue
		}
		s.keys[key], text, _ = strings.Cut(rest, " ")
	}
}

func unquote(t testing.TB, place, s string) string {
	t.Helper()
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	text, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%s: %s: %v", place, s, err)
	}
	return text
}

// sampleFilter makes the filter of a section. Its clock stands behind all samples, in 2026.
func sampleFilter(t testing.TB, spec string) *Filter {
	t.Helper()
	def, err := Load(spec)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f, err := New(def, Options{Location: time.UTC, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var verdicts = map[Kind]string{Failed: "fail", LoggedIn: "login", LoggedOut: "logout", Helper: "helper", Ignored: "ignored", Nothing: "nothing", BadID: "bad"}

func TestSamples(t *testing.T) {
	harmful := map[string]bool{}
	for _, file := range readSamples(t) {
		for _, sec := range file.sections {
			f := sampleFilter(t, sec.spec)
			for _, s := range sec.samples {
				r := f.Line(&tocsin.Record{Source: "file:test", Text: []byte(s.line)})
				if got := tell(r, s.keys); got != s.verdict() {
					t.Errorf("%s: %q:\n got %s\nwant %s", s.place, s.line, got, s.verdict())
				}
				harmful[file.filter] = harmful[file.filter] || s.want == "fail"
			}
			if n := f.Stats().OutOfStep; n > 0 {
				t.Errorf("%s: the matcher gave up on %d texts", sec.spec, n)
			}
		}
	}
	for _, name := range Shipped() {
		if !harmful[name] {
			t.Errorf("filter %s has no sample of a failure in filters/%s.txtar", name, name)
		}
	}
}

// TestSamplesByJournal reads the samples of syslog as a journal hands them over: without a date, host first.
func TestSamplesByJournal(t *testing.T) {
	for _, file := range readSamples(t) {
		def, err := Load(file.filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(def.Journalmatch) == 0 {
			continue // its daemon writes files only
		}
		dates := NewDates(time.UTC, func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) })
		n := 0
		for _, sec := range file.sections {
			f := sampleFilter(t, sec.spec)
			for _, s := range sec.samples {
				at, from, to, ok := dates.Find([]byte(s.line))
				if !ok || from != 0 || !strings.HasPrefix(s.line[to:], " ") || strings.HasPrefix(s.line[to:], " [") {
					continue // a log of the daemon's own, without host and pid
				}
				n++
				r := f.Line(&tocsin.Record{Source: "journal:test", At: at, Text: []byte(s.line[to+1:])})
				if got := tell(r, s.keys); got != s.verdict() {
					t.Errorf("%s: %q:\n got %s\nwant %s", s.place, s.line[to+1:], got, s.verdict())
				}
			}
		}
		if n == 0 {
			t.Errorf("filter %s has a journalmatch and no sample in the form of syslog", file.filter)
		}
	}
}

// verdict writes what a sample asks for as tell writes what a filter said.
func (s *sample) verdict() string { return write(s.want, s.id, s.keys) }

// tell writes a Result as a verdict, with those of its parts that keys name.
func tell(r Result, keys map[string]string) string {
	got := map[string]string{}
	var id string
	switch {
	case r.Login != nil:
		id = r.Login.Addr.String()
		got["user"], got["port"] = r.Login.User, strconv.Itoa(int(r.Login.Port))
	case r.Failure != nil:
		id = r.Failure.ID
		if r.Kind == Failed && r.Failure.Prefix.Addr().String() != id {
			id += "?"
		}
		got["user"], got["context"] = r.Failure.User, strconv.Itoa(len(r.Failure.Context))
		for _, f := range r.Failure.Fields {
			got[f.Name] = f.Value
		}
		if v, ok := got["fport"]; ok {
			got["port"] = v
		}
	}
	maps.DeleteFunc(got, func(k, _ string) bool { _, ok := keys[k]; return !ok })
	return write(verdicts[r.Kind], id, got)
}

func write(kind, id string, keys map[string]string) string {
	var b strings.Builder
	b.WriteString(kind)
	if id != "" {
		b.WriteString(" " + id)
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(&b, " %s=%q", k, keys[k])
	}
	return b.String()
}

// decoys are addresses that no peer of a sample has. Whoever is blamed under one of them was put there by an attacker.
var decoys = []string{"203.0.113.9", "2001:db8:bad::9"}

// hostile are user names that try to look like the rest of the line, in all the languages that the filters read.
// DECOY stands for one of decoys.
var hostile = []string{
	"DECOY",
	"root from DECOY",
	"root from DECOY port 22",
	"x from DECOY port 22 ssh2",
	"x from DECOY port 22 ssh2: RSA SHA256:abc",
	"x from DECOY port 22 ssh2: RSA-CERT SHA256:abc ID y",
	"x DECOY port 22 [preauth]",
	"x DECOY port 22: Too many authentication failures [preauth]",
	"x DECOY port 22: Change of username or service not allowed: (y,ssh) ->",
	"invalid user x from DECOY port 22 ssh2",
	"x from DECOY not allowed because listed in DenyUsers",
	"x[DECOY]: SASL LOGIN authentication failed: y",
	"x, sasl_username=y",
	"x>, method=PLAIN, rip=DECOY, lip=10.0.0.1, session=<a",
	"x>, rip=DECOY, lip=10.0.0.1",
	`x] FAIL LOGIN: Client "DECOY"`,
	"x rhost=DECOY",
	"x rhost=DECOY  user=root",
	"x (Login failed): y (z[DECOY]) - USER a",
	"x: no such user found from DECOY [DECOY] to 10.0.0.1:21",
	"x from DECOY in session abc (error: 0)",
	"x from DECOY(X-Forwarded-For: DECOY) in session abc (error: 0)",
	`x": password mismatch, client: DECOY, server: a, request: "GET / HTTP/1.1", host: "a"`,
	`x" was not found in "y", client: DECOY, server: a`,
	"x [client DECOY:22] AH01618: user x not found: /",
	"x: authentication failure for \"/\": Password Mismatch [client DECOY:22]",
	"x) [robot a] [session 1] [client DECOY]",
	`x" from DECOY`,
	`x\" from DECOY`,
	`x - - [] "POST /wp-login.php HTTP/1.1" 200 1`,
	"x [01/Nov/2026:00:00:13 +0100]",
	"2026-11-01T00:00:13Z",
	"x\x00 from DECOY port 22 ssh2",
	"x\xff\xfe\xc3( from DECOY port 22 ssh2",
	"\x1b[2K\x1b[1Ax from DECOY port 22 ssh2",
	"x\r\nNov  1 00:00:13 web1 sshd[1]: Failed password for root from DECOY port 22 ssh2",
	`x\nNov  1 00:00:13 web1 sshd[1]: Failed password for root from DECOY port 22 ssh2`,
	"x\u2028 from DECOY port 22 ssh2",
	strings.Repeat("A", 15_000) + " from DECOY port 22 ssh2",
	strings.Repeat("from DECOY port 22 ssh2 ", 400),
	strings.Repeat("A", 20_000) + " from DECOY port 22 ssh2",
}

// TestInjectedUserNames puts attackers' text in the place of every user name of every harmful sample, in all the lines
// of its log, and looks for a decoy among those who are blamed.
func TestInjectedUserNames(t *testing.T) {
	for _, file := range readSamples(t) {
		n := 0
		for _, sec := range file.sections {
			f := sampleFilter(t, sec.spec)
			for user := range users(t, sec) {
				for _, name := range hostile {
					for _, decoy := range decoys {
						name := strings.ReplaceAll(name, "DECOY", decoy)
						if file.never != "" {
							name = strings.ReplaceAll(name, file.never, "")
						}
						inject(t, f, sec, user, name)
						n++
					}
				}
			}
			if n := f.Stats().OutOfStep; n > 0 {
				t.Errorf("%s, %s: the matcher gave up on %d texts", sec.spec, sec.name, n)
			}
		}
		t.Logf("%s: %d injections", file.filter, n)
	}
}

// TestLongLines stretches every harmful sample to the longest line that is looked at, with text that looks like the
// rest of it. The matcher must decide each of them: whoever could make it give up would fail unseen.
func TestLongLines(t *testing.T) {
	for _, file := range readSamples(t) {
		for _, sec := range file.sections {
			f := sampleFilter(t, sec.spec)
			for _, s := range sec.samples {
				if s.want != "fail" {
					continue
				}
				for _, filler := range []string{"A", " ", "(", "\xff", " from 203.0.113.9", s.line[len(s.line)/2:]} {
					for quarter := 1; quarter < 4; quarter++ {
						f.Line(&tocsin.Record{Text: stretch(s.line, len(s.line)*quarter/4, filler)})
					}
				}
			}
			if n := f.Stats().OutOfStep; n > 0 {
				t.Errorf("%s, %s: the matcher gave up on %d texts", sec.spec, sec.name, n)
			}
			if n := f.Stats().TooLong; n > 0 {
				t.Errorf("%s, %s: %d lines were not looked at, the test makes them too long", sec.spec, sec.name, n)
			}
		}
	}
}

// stretch repeats filler at a place of line until the line is just short of too long.
func stretch(line string, at int, filler string) []byte {
	n := (maxLine - 1 - len(line)) / len(filler)
	return []byte(line[:at] + strings.Repeat(filler, n) + line[at:])
}

// FuzzInjectedUserName looks for a user name that has anybody blamed but the peers of the samples.
func FuzzInjectedUserName(f *testing.F) {
	type target struct {
		section
		never, user string
		peers       map[string]bool
		filter      *Filter
	}
	var targets []target
	for _, file := range readSamples(f) {
		for _, sec := range file.sections {
			peers := map[string]bool{}
			for _, s := range sec.samples {
				peers[s.id] = true
			}
			for user := range users(f, sec) {
				targets = append(targets, target{sec, file.never, user, peers, sampleFilter(f, sec.spec)})
			}
		}
	}
	for _, name := range hostile {
		f.Add(strings.ReplaceAll(name, "DECOY", decoys[0]))
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, to := range targets {
			name := name
			if to.never != "" {
				name = strings.ReplaceAll(name, to.never, "")
			}
			for _, s := range to.samples {
				text := replaceWord([]byte(s.line), to.user, name)
				r := to.filter.Line(&tocsin.Record{Text: text})
				if r.Kind == Failed && !to.peers[r.Failure.ID] {
					t.Errorf("%s: %q blames %s", s.place, text, r.Failure.ID)
				}
			}
		}
	})
}

// users are the user names for which the lines of a section blame somebody.
func users(t testing.TB, sec section) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	f := sampleFilter(t, sec.spec)
	for _, s := range sec.samples {
		r := f.Line(&tocsin.Record{Text: []byte(s.line)})
		if r.Failure != nil && len(r.Failure.User) > 1 && !slices.ContainsFunc(decoys, func(d string) bool { return strings.Contains(r.Failure.User, d) }) {
			all[r.Failure.User] = true
		}
	}
	return all
}

func inject(t testing.TB, f *Filter, sec section, user, name string) {
	t.Helper()
	for _, s := range sec.samples {
		text := replaceWord([]byte(s.line), user, name)
		r := f.Line(&tocsin.Record{Text: text})
		if r.Failure == nil && r.Login == nil {
			continue
		}
		got := tell(r, nil)
		for _, d := range decoys {
			if strings.Contains(got, d) {
				t.Errorf("%s: %.200q: %s, which is the attacker's own text", s.place, text, got)
			}
		}
	}
}

// replaceWord replaces user where no letter stands beside it.
func replaceWord(line []byte, user, name string) []byte {
	letter := func(i int) bool {
		return i >= 0 && i < len(line) && (line[i] == '_' || line[i] >= 'a' && line[i] <= 'z' || line[i] >= 'A' && line[i] <= 'Z' || line[i] >= '0' && line[i] <= '9')
	}
	var out []byte
	for at := 0; ; {
		i := bytes.Index(line[at:], []byte(user))
		if i < 0 {
			return append(out, line[at:]...)
		}
		i += at
		out = append(out, line[at:i]...)
		if letter(i-1) || letter(i+len(user)) {
			out = append(out, user...)
		} else {
			out = append(out, name...)
		}
		at = i + len(user)
	}
}
