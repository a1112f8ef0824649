package fail2ban

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTagsAsRecorded compares with what fail2ban 1.0.2 makes of tags.
func TestTagsAsRecorded(t *testing.T) {
	type row struct {
		Command     string
		Info        map[string]any
		Tags        map[string]string
		Conditional string
		Result      any
		Error       *string
	}
	rows, equal := recorded[row](t, "tags.jsonl"), 0
	for n, r := range rows {
		var got, want any
		if r.Tags != nil {
			got, want = staticRow(r.Tags, r.Conditional, r.Error != nil), r.Result
			if r.Error != nil {
				want = "error"
			}
		} else {
			got, want = dynamicRow(t, r.Command, r.Info), r.Result
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("row %d: %q, fail2ban says %q", n+1, got, want)
			continue
		}
		equal++
	}
	t.Logf("%d of %d equal", equal, len(rows))
}

func staticRow(tags map[string]string, conditional string, fails bool) any {
	a := &Action{Name: "test"}
	for name, value := range tags {
		a.Options = append(a.Options, Option{Name: name, Value: value})
	}
	_, family, _ := strings.Cut(conditional, "=")
	got := map[string]any{}
	for name := range tags {
		plain, cond := cutCondition(name)
		text, err := a.static(plain, family)
		if err != nil {
			return "error"
		}
		if cond != "" || a.option(name, family).Name != name { // fail2ban leaves the other form as it is
			text = tags[name]
		}
		got[name] = text
	}
	return got
}

func dynamicRow(t *testing.T, command string, info map[string]any) any {
	v := Values{}
	for tag, value := range info {
		groups, ok := value.(map[string]any)
		if !ok {
			v[tag] = fmt.Sprint(value)
			continue
		}
		for group, value := range groups {
			tag := map[string]string{"fid": "id", "fport": "port"}[group]
			if tag == "" {
				tag = group
			}
			v["F-"+strings.ToUpper(tag)] = fmt.Sprint(value)
		}
	}
	s, msg := script(command, v)
	if msg != "" {
		t.Errorf("script(%q): %s", command, msg)
	}
	if len(s.Args) == 0 {
		return s.Text
	}
	return append([]string{s.Text}, s.Args...)
}

// shells are those that people's /bin/sh is.
func shells(t testing.TB) []string {
	var found []string
	for _, sh := range []string{"dash", "bash"} {
		if path, err := exec.LookPath(sh); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Skip("neither dash nor bash is installed: no shell to run commands with")
	}
	return found
}

// cage is an empty folder but for one file for * to match.
func cage(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bait"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runScript runs a script in a cage and returns what it printed. What it leaves behind there is an error.
func runScript(t testing.TB, dir, sh string, s Script) string {
	t.Helper()
	args := append([]string{"-c", s.Text}, s.Args...)
	cmd := exec.Command(sh, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	b, _ := cmd.CombinedOutput() // some of the commands fail, as they should
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Fatalf("%s -c %q %q left %d files behind, %v", sh, s.Text, s.Args, len(left), err)
	}
	return string(b)
}

// hostile are values as the CVEs of fail2ban and of others had them, and what is special about a place.
var hostile = []string{
	"plain", "", "two words", " lead and trail ", "a\tb", "-n", "*", "?", "[a-z]*", "~", "~root", "!!", "a=b",
	"$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "& touch pwned", "&& touch pwned", "\ntouch pwned\n",
	"\r\ntouch pwned", "'; touch pwned; '", "\"; touch pwned; \"", "'\"; touch pwned; \"'", "\\'; touch pwned; \\'", "\\", "\\\\", "'", "\"",
	"`", "$", "${x}", "${x:=$(touch pwned)}", "$((x[$(touch pwned)]))", "x[$(touch pwned)]", ")", "$(", "(", "> pwned", ">pwned", "< /etc/passwd",
	"EOF\ntouch pwned\nEOF", "EOF", "\nEOF\ntouch pwned", "#", "# x", "a # b", "<ip>", "<F-USER>", "<matches>", "f2bV_matches", "$f2bV_matches", "$0",
	"%s%n", "\\n", "\\0", "\x01\x1b[2J", "\x81\x82\x83\x84", "\x86\x87\x88'", "Á\u0081", "a\x00b", "\xff\xfe", "ü", "reboot", "a b; touch pwned", "}", "{", "))", "]]", "done", "esac",
	"1.2.3.4'", "1.2.3.4; touch pwned", "::1%$(touch pwned)", "~!touch pwned", "x\n~!touch pwned", "\n.\nx",
}

// places are commands that say <matches> in every place that a shell knows; a %s in want is the value.
var places = []struct{ text, want string }{
	{`printf '[%s]' <matches>`, "[%s]"},
	{`printf '[%s]' a<matches>b`, "[a%sb]"},
	{`printf '[%s]' "<matches>"`, "[%s]"},
	{`printf '[%s]' "a <matches>b c"`, "[a %sb c]"},
	{`printf '[%s]' '<matches>'`, "[%s]"},
	{`printf '[%s]' 'a <matches> b'`, "[a %s b]"},
	{`printf '[%s]' "'<matches>'"`, "['%s']"},
	{`printf '[%s]' '"<matches>"'`, `["%s"]`},
	{`printf '[%s]' \'<matches>\'`, `['%s']`},
	{`printf '[%s]' "\"<matches>\""`, `["%s"]`},
	{`printf '[%s]' "$(printf %s "<matches>")"`, "[%s]"},
	{`printf '[%s]' "$(printf %s '<matches>')"`, "[%s]"},
	{`printf '[%s]' "$(printf %s <matches>)"`, "[%s]"},
	{"printf '[%s]' \"`printf %s \"<matches>\"`\"", "[%s]"},
	{"printf '[%s]' \"`printf %s '<matches>'`\"", "[%s]"},
	{"printf '[%s]' \"`printf %s <matches>`\"", "[%s]"},
	{`x=<matches>; printf '[%s]' "$x"`, "[%s]"},
	{`x='<matches>' ; printf '[%s]' "$x"`, "[%s]"},
	{`(printf '[%s]' "<matches>")`, "[%s]"},
	{`{ printf '[%s]' "<matches>"; }`, "[%s]"},
	{`if true; then printf '[%s]' "<matches>"; fi`, "[%s]"},
	{`for x in 1; do printf '[%s]' "<matches>"; done`, "[%s]"},
	{`case a in a) printf '[%s]' "<matches>";; esac`, "[%s]"},
	{`printf '[%s]' "<matches>" # it's <matches>`, "[%s]"},
	{"# don't <matches>\nprintf '[%s]' '<matches>'", "[%s]"},
	{"printf '[%s]' \\\n\"<matches>\"", "[%s]"},
	{"cat <<EOF\n[<matches>]\nEOF\n", "[%s]\n"},
	{"cat <<EOF\n<matches>\nEOF\n", "%s\n"},
	{"cat <<-EOF\n\t'<matches>' \"<matches>\"\n\tEOF\nprintf %s '<matches>'", "'%s' \"%s\"\n%s"},
	{"cat <<EOF; printf %s '<matches>'\n$(printf %s \"<matches>\")\nEOF\n", ""},
	{"cat <<'EOF'\n[<matches>]\nEOF\n", "[%s]\n"},
	{`printf '[%s]' "${x:-<matches>}"`, "[%s]"},
	{`printf '[%s]' "$((<matches>))"`, ""},
	{`printf '[%s]' $'<matches>'`, ""},
	{`eval "printf '[%s]' '<matches>'"`, "[%s]"},
	{`sh -c "printf %s '<matches>'"`, "%s"},
	{`env sh -c 'printf %s "<matches>"'`, "%s"},
	{`awk 'BEGIN { printf "%s", "<matches>" }'`, "%s"},
	{`sed -n 's/x/<matches>/p' /dev/null`, ""},
	{`printf '[%s]' "$(eval "printf %s '<matches>'")"`, "[%s]"},
	{`eval "$(printf %s '<matches>')" 2>/dev/null`, ""},
	{"sh <<EOF 2>/dev/null\n: <matches>\nEOF\n", ""},
	{"cat <<EOF | sh 2>/dev/null\n: <matches>\nEOF\n", ""},
	{`printf '[%s]' \<matches>`, "[%s]"},
	{`<matches> 2>/dev/null`, ""},
	{`[ -n "a<matches>" ] && printf '[%s]' "<matches>"`, "[%s]"},
	{`[ -v "<matches>" ] 2>/dev/null`, ""},
	{"printf '[%s]' \"`printf %s \\\"<matches>\\\"`\"", "[%s]"},
	{"printf '[%s]' \"`printf %s \\`printf %s '<matches>'\\``\"", "[%s]"},
	{`printf '[%s]' <matches> >/dev/null 2>&1; printf '[%s]' <matches>`, "[%s]"},
	{`printf '%s' "<matches><F-USER><matches>x"`, "%s%sx"},
	{`printf '[%s]' "$(case a in a) printf %s "<matches>";; esac)"`, "[%s]"},
}

// TestPlaces runs every hostile value in every place, in every shell: what comes out is the value and nothing else, or
// the command is refused.
func TestPlaces(t *testing.T) {
	ran, refused, dir := 0, 0, cage(t)
	for _, sh := range shells(t) {
		for _, p := range places {
			r := 0
			for _, value := range hostile {
				s, msg := script(p.text, Values{"matches": value})
				if msg != "" {
					r++
					continue
				}
				ran++
				got := runScript(t, dir, sh, s)
				checkPlace(t, sh, p.text, p.want, value, got)
			}
			refused += r
			if r == len(hostile) {
				t.Errorf("%s: refused for every value, a plain word too", p.text)
			}
		}
	}
	t.Logf("%d ran, %d refused", ran, refused)
}

// checkPlace compares what a command printed with what it should print. A command substitution loses new lines at its
// end, and a value that is not in quotes and empty is no argument at all.
func checkPlace(t testing.TB, sh, text, want, value, got string) {
	t.Helper()
	if want == "" {
		return // only what it must not do
	}
	value = argument(value, false)
	if strings.Contains(want, "%s") && !strings.Contains(text, "<<") && (strings.Contains(text, "$(") || strings.Contains(text, "`")) {
		value = strings.TrimRight(value, "\n")
	}
	if want = strings.ReplaceAll(want, "%s", value); got != want {
		t.Errorf("%s: %s with %q printed %q, want %q", sh, text, value, got, want)
	}
}

func FuzzPlaces(f *testing.F) {
	for i, value := range hostile {
		f.Add(i%len(places), value)
	}
	f.Fuzz(func(t *testing.T, place int, value string) {
		p := places[((place%len(places))+len(places))%len(places)]
		s, msg := script(p.text, Values{"matches": value})
		if msg != "" {
			return
		}
		for _, sh := range shells(t) {
			got := runScript(t, cage(t), sh, s)
			checkPlace(t, sh, p.text, p.want, value, got)
		}
	})
}

// FuzzScript gives the lexer commands of all kinds: it must come to an end, and a value that is not a plain word must
// never become part of the text.
func FuzzScript(f *testing.F) {
	for _, p := range places {
		f.Add(p.text)
	}
	const marker = "zq;zq"
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "zq") {
			return
		}
		s, msg := script(text, Values{"matches": marker})
		if msg == "" && strings.Contains(s.Text, "zq") {
			t.Errorf("script(%q) = %q", text, s.Text)
		}
	})
}

// pieces are what random commands are made of.
var pieces = []string{
	"'", "'", "\"", "\"", "`", "`", "$(", "(", ")", ")", "{ ", "; }", " ", "\n", "\\", "#", "<<EOF\n", "\nEOF\n", "<<'E'\n", "\nE\n", "<<-E\n", "\n\tE\n",
	"${x:-", "${x#", "}", "$((", "))", "x", "echo ", "printf %s ", "case a in a) ", ";; esac", "eval ", "sh -c ", "[[ ", " ]]", ";", "|cat", "|sh", "&&",
	"<matches>", "<matches>", "<matches>", "'<matches>'", "\"<matches>\"", "a=", "$'", "$\"", "$", "<<<", "<", ">/dev/null ", "2>&1 ", "if ", "then ", "fi", "f() ", "! ", "~", "*", "=", "-v ",
}

// randomCommand makes a command that is mostly a valid one, with commands inside of it to a depth.
func randomCommand(random *rand.Rand, depth int) string {
	one := func() string { return randomCommand(random, depth-1) }
	word := func() string {
		switch random.IntN(9) {
		case 0:
			return "<matches>"
		case 1:
			return `"a <matches>"`
		case 2:
			return "'it <matches>'"
		case 3:
			return `it\'s`
		case 4:
			return "x=<matches>"
		case 5:
			return pieces[random.IntN(len(pieces))]
		case 6:
			return "\"`" + one() + "`\""
		case 7:
			return `"$(` + one() + `)"`
		}
		return "$(" + one() + ")"
	}
	if depth <= 0 {
		return "echo x"
	}
	switch random.IntN(12) {
	case 0:
		return "cat <<EOF\n" + word() + "\nEOF\n"
	case 1:
		return "cat <<-'E' | cat\n\tit's " + word() + "\n\tE\n" + one()
	case 2:
		return "(" + one() + ")"
	case 3:
		return "{ " + one() + "; }"
	case 4:
		return "if " + one() + "; then " + one() + "; fi"
	case 5:
		return "case " + word() + " in a) " + one() + ";; *) " + one() + ";; esac"
	case 6:
		return one() + " # don't <matches>\n" + one()
	case 7:
		return one() + " | " + one()
	case 8:
		return "x=" + word() + "; " + one()
	}
	return "echo " + word() + " " + word() + " >/dev/null 2>&1"
}

// attack is a value that does something in whatever place it is taken for a part of the command.
const attack = "\n'\"`)}\nEOF\nE\n\tE\n))]];;\nesac\nfi\ntouch pwned\n$(touch pwned)`touch pwned`;touch pwned;'$(touch pwned)'\"$(touch pwned)\""

// TestRandomCommands puts an attack into commands of all shapes, most of them nonsense, and runs them: whatever the shell
// makes of them, the attack must not run.
func TestRandomCommands(t *testing.T) {
	n := 400
	if more, err := strconv.Atoi(os.Getenv("TOCSIN_RANDOM_COMMANDS")); err == nil {
		n = more // to search for longer
	}
	random := rand.New(rand.NewPCG(uint64(n), 2))
	ran, dir, all := 0, cage(t), shells(t)
	for ran < n {
		text := randomCommand(random, 3)
		if ran%2 == 0 {
			var b strings.Builder
			for range 2 + random.IntN(14) {
				b.WriteString(pieces[random.IntN(len(pieces))])
			}
			text = b.String()
		}
		s, msg := script(text, Values{"matches": attack})
		if msg != "" || len(s.Args) == 0 {
			continue
		}
		ran++
		for _, sh := range all {
			runScript(t, dir, sh, s)
		}
	}
}

func TestScript(t *testing.T) {
	many := Values{}
	var all []string
	for i := range 12 {
		tag := fmt.Sprintf("F-G%d", i)
		many[tag] = fmt.Sprintf("v %d;", i)
		all = append(all, "<"+tag+">")
	}
	tests := []struct {
		name, text string
		values     Values
		want       Script
		problem    string
	}{
		{name: "an absent value is empty", text: "x '<ip>' <failures>", want: Script{Text: "x '' 0"}},
		{name: "others stay", text: "x <unknown> <F-user> <sp>y", want: Script{Text: "x <unknown> <F-user>  y"}},
		{name: "twice, one argument", text: "x <ip> '<ip>'", values: Values{"ip": "a;b"}, want: Script{"f2bV_ip=$0 \nx \"$f2bV_ip\" ''\"$f2bV_ip\"''", []string{"a;b"}}},
		{name: "a name that runs on", text: `x "<ip>1"`, values: Values{"ip": "a;"}, want: Script{"f2bV_ip=$0 \nx \"${f2bV_ip}1\"", []string{"a;"}}},
		{name: "names that clash", text: `x "<a-b>" "<a_b>"`, values: Values{"a-b": ";1", "a_b": ";2"},
			want: Script{"f2bV_a_b=$0 f2bV_a_b_=$1 \nx \"$f2bV_a_b\" \"$f2bV_a_b_\"", []string{";1", ";2"}}},
		{name: "a value is not looked into", text: `x "<ip>"`, values: Values{"ip": "<failures>"}, want: Script{"f2bV_ip=$0 \nx \"$f2bV_ip\"", []string{"<failures>"}}},
		{name: "mail(1)", text: `printf %b "<matches>" | mail -s x root`, values: Values{"matches": "a\n~!id\\n~"},
			want: Script{"f2bV_matches=$0 \nprintf %b \"$f2bV_matches\" | mail -s x root", []string{"a\n ~!id\\\\n ~"}}},
		{name: "sendmail is not mail(1)", text: `printf %b "<matches>" | /usr/sbin/sendmail`, values: Values{"matches": "a\n~!id"},
			want: Script{"f2bV_matches=$0 \nprintf %b \"$f2bV_matches\" | /usr/sbin/sendmail", []string{"a\n~!id"}}},
		{name: "awk", text: `awk '/<ip>/'`, values: Values{"ip": "/{system(1)}"}, problem: "<ip> stands in the arguments of awk"},
		{name: "awk, an address", text: `sed '/^<ip>$/d'`, values: Values{"ip": "2001:db8::/32"}, want: Script{Text: `sed '/^2001:db8::/32$/d'`}},
		{name: "sed, a command in a path", text: `sed '/^<ip>$/d'`, values: Values{"ip": "x/eid"}, problem: "arguments of sed"},
		{name: "an address with a zone", text: `sed '/^<ip>$/d'`, values: Values{"ip": "fe80::1%;id"}, problem: "arguments of sed"},
		{name: "arithmetic", text: `echo $((<failures>+1))`, values: Values{"failures": "a"}, problem: "in $((..))"},
		{name: "a tag ends a document", text: "cat <<<ip>\n1\n", values: Values{"ip": "1"}, problem: "a tag ends a here-document"},
		{name: "a tag behind <", text: "cat <<ip> <<EOF\n<fid>\nEOF\n", values: Values{"ip": "a", "fid": "b"},
			want: Script{"f2bV_fid=$0 \ncat <a <<EOF\n$f2bV_fid\nEOF\n", []string{"b"}}},
		{name: "a file", text: "echo x >/run/<ip>", values: Values{"ip": "../etc/passwd"}, problem: "in the name of a file"},
		{name: "a quoted document", text: "cat <<'EOF'\n<ip>\nEOF\n", values: Values{"ip": "EOF"}, problem: "here-document with a quoted end"},
		{name: "a long value is cut", text: `x "<matches>"`, values: Values{"matches": ";" + strings.Repeat("ü", maxArg)},
			want: Script{"f2bV_matches=$0 \nx \"$f2bV_matches\"", []string{";" + strings.Repeat("ü", maxArg/2-1)}}},
		{name: "a dollar sign", text: `x "$<ip>(touch pwned)"`, problem: "behind a dollar sign"},
		{name: "a backslash", text: `x "\<ip>" 'y'`, problem: "behind a backslash"},
		{name: "nothing in front of a comment", text: "x <ip># it's\ny '<fid>'", values: Values{"fid": "a;"},
			want: Script{"f2bV_fid=$0 \nx # it's\ny ''\"$f2bV_fid\"''", []string{"a;"}}},
		{name: "a value that names the command", text: "<ip> '<matches>'", values: Values{"ip": "awk", "matches": "a b"}, problem: "arguments of awk"},
		{name: "deep", text: strings.Repeat("$(", 200), problem: "levels deep"},
		{name: "long", text: strings.Repeat("x", maxScript+1), problem: "longer than"},
	}
	for _, tt := range tests {
		got, problem := script(tt.text, tt.values)
		if tt.problem != "" {
			if !strings.Contains(problem, tt.problem) {
				t.Errorf("%s: %q, want the problem %q", tt.name, problem, tt.problem)
			}
			continue
		}
		if problem != "" || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q %s\nwant %q", tt.name, got, problem, tt.want)
		}
	}
	s, _ := script("printf '%s,' "+strings.Join(all, " "), many)
	for _, sh := range shells(t) { // from the tenth on, $10 would be $1 and a 0
		if got := runScript(t, cage(t), sh, s); got != "v 0;,v 1;,v 2;,v 3;,v 4;,v 5;,v 6;,v 7;,v 8;,v 9;,v 10;,v 11;," {
			t.Errorf("%s: twelve values: %q", sh, got)
		}
	}
}

func TestAction(t *testing.T) {
	a := &Action{Name: "mine", Pos: Pos{"jail.local", 3}, Options: []Option{
		{Name: "actionban", Value: "<ipt> -s <ip> <how> -m <timeout> -b <bantime>", Pos: Pos{"action.d/mine.conf", 4}},
		{Name: "actionunban", Value: " \n"},
		{Name: "actionstart", Value: "awk '/<F-USER>/' <matches>", Pos: Pos{"action.d/mine.conf", 7}},
		{Name: "ipt", Value: "iptables <lock>"},
		{Name: "ipt?family=inet6", Value: "ip6tables <lock>"},
		{Name: "lock", Value: "-w"},
		{Name: "how", Value: "<how-<kind>>"},
		{Name: "kind", Value: "soft"},
		{Name: "how-soft", Value: "REJECT"},
		{Name: "timeout", Value: "2m"},
		{Name: "bantime", Value: "7"},
		{Name: "norestored", Value: "True"},
	}}
	for family, want := range map[string]string{
		"inet4": "iptables -w -s 192.0.2.1 REJECT -m 120 -b 600",
		"inet6": "ip6tables -w -s 192.0.2.1 REJECT -m 120 -b 600",
	} {
		s, ok, err := a.Command("actionban", family, Values{"ip": "192.0.2.1", "bantime": "600"})
		if err != nil || !ok || s.Text != want {
			t.Errorf("actionban, %s: %q, %v, %v, want %q", family, s.Text, ok, err, want)
		}
	}
	for _, name := range []string{"actionunban", "actionflush"} {
		if _, ok, err := a.Command(name, "", nil); ok || err != nil {
			t.Errorf("%s: %v, %v, want nothing to run", name, ok, err)
		}
	}
	_, _, err := a.Command("actionstart", "", Values{"F-USER": "a b"})
	if want := "action.d/mine.conf:7: actionstart of mine: <F-USER> stands in the arguments of awk"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("actionstart: %v, want %s", err, want)
	}
	if !a.OnDemand() || !a.Norestored() || !a.Wants("ip") || !a.Wants("F-USER") || a.Wants("ipmatches") {
		t.Error("OnDemand, Norestored or Wants is wrong")
	}
	if d, err := a.Timeout(); d != 2*time.Minute || err != nil {
		t.Errorf("Timeout() = %s, %v", d, err)
	}
	a.Options = append(a.Options, Option{Name: "actionstart_on_demand", Value: "false"}, Option{Name: "timeout", Value: "soon"})
	if a.OnDemand() {
		t.Error("actionstart_on_demand = false is not heard")
	}
	if _, err := a.Timeout(); err == nil {
		t.Error("Timeout() takes soon")
	}
	if _, _, err := a.Command("actionban", "", nil); err == nil || !strings.Contains(err.Error(), `"soon" is no time`) {
		t.Errorf("a command with a timeout that is none: %v", err)
	}
	if d, err := (&Action{}).Timeout(); d != time.Minute || err != nil {
		t.Errorf("Timeout() of an action that does not say = %s, %v", d, err)
	}
	loop := &Action{Options: []Option{{Name: "actionban", Value: "<a>"}, {Name: "a", Value: "<b>"}, {Name: "b", Value: "x<a>"}}}
	if _, _, err := loop.Command("actionban", "", nil); err == nil || !strings.Contains(err.Error(), "<a> leads back to itself") {
		t.Errorf("a loop: %v", err)
	}
	grow := &Action{Options: []Option{{Name: "actionban", Value: "<a>"}}}
	for c := 'a'; c < 'z'; c++ {
		grow.Options = append(grow.Options, Option{Name: string(c), Value: strings.Repeat("<"+string(c+1)+">", 10)})
	}
	grow.Options = append(grow.Options, Option{Name: "z", Value: "0123456789"})
	if _, _, err := grow.Command("actionban", "", nil); err == nil || !strings.Contains(err.Error(), "grow over") {
		t.Errorf("tags that multiply: %v", err)
	}
	again := &Action{Options: []Option{{Name: "actionban", Value: "<<<x>>>"}, {Name: "x", Value: "actionban"}}}
	if _, _, err := again.Command("actionban", "", nil); err == nil {
		t.Error("a loop made of pieces is not found")
	}
}
