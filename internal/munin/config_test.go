package munin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// show is an answer in one line a thing, for tests to compare.
func show(a Answer) string {
	var b strings.Builder
	for _, s := range a.Services {
		fmt.Fprintf(&b, "service %s", s.Name)
		if s.Host != "" {
			fmt.Fprintf(&b, " of %s", s.Host)
		}
		b.WriteByte('\n')
		for _, at := range s.Attrs {
			fmt.Fprintf(&b, "  %s=%s\n", at.Name, at.Value)
		}
		for _, f := range s.Fields {
			fmt.Fprintf(&b, "  %s:", f.Name)
			for _, at := range f.Attrs {
				fmt.Fprintf(&b, " %s=%s", at.Name, at.Value)
			}
			b.WriteByte('\n')
		}
	}
	for _, v := range a.Values {
		fmt.Fprintf(&b, "%s.%s %d:%v\n", v.Service, v.Field, v.At, v.V)
	}
	for _, e := range a.Extinfo {
		fmt.Fprintf(&b, "%s.%s extinfo %s\n", e.Service, e.Field, e.Text)
	}
	for _, p := range a.Problems {
		fmt.Fprintf(&b, "! %s\n", p)
	}
	return b.String()
}

func TestParseConfig(t *testing.T) {
	tests := []struct{ name, plugin, text, want string }{
		{"plain", "load", "graph_title Load average\nload.label load\n", "service load\n  graph_title=Load average\n  load: label=load\n"},
		{"the first graph attribute counts, the last of a field", "x", "graph_title a\ngraph_title b\nf.label a\nf.label b\n", "service x\n  graph_title=a\n  f: label=b\n"},
		{"names are cleaned", "if_eth0.5@x", "graph-title a\n9bad-name.label b\n", "service if_eth0_5_x\n  graph_title=a\n  _bad_name: label=b\n"},
		{"comments, empty lines, CR LF", "x", "# graph_title no\r\ngraph_title yes\r\n\r\nf.label a\r\n", "service x\n  graph_title=yes\n  f: label=a\n"},
		{"blanks around", "x", "graph_title \t two  words \t\nf.label\ta \n", "service x\n  graph_title=two  words\n  f: label=a\n"},
		{"Latin-1 by the value", "x", "graph_title Caf\xe9\nf.label caf\xc3\xa9\n", "service x\n  graph_title=Café\n  f: label=café\n"},
		{"an empty attribute of a field is nothing", "x", "f.label a\nf.info\nf.warning  \n", "service x\n  f: label=a\n"},
		{"fields in the order of their labels", "x", "a.info one\nb.label b\na.label a\nc.min 0\n", "service x\n  b: label=b\n  a: info=one label=a\n  c: min=0\n! service \"x\": field \"c\" has no label\n"},
		{"an attribute with dots", "x", "f.label a\nf.a.b c\n", "service x\n  f: label=a a.b=c\n"},
		{"sections", "disk", "graph_title own\nmultigraph disk.vda\ngraph_title child\nmultigraph disk-x:1\nf.label f\nmultigraph disk\ngraph_info again\n",
			"service disk\n  graph_title=own\n  graph_info=again\nservice disk.vda\n  graph_title=child\nservice disk-x:1\n  f: label=f\n"},
		{"sections only", "disk", "multigraph disk_latency\ngraph_title a\n", "service disk_latency\n  graph_title=a\n"},
		{"a wrong name of a section ends it", "x", "multigraph a..b\ngraph_title a\n", "! line 1: multigraph: the name \"a..b\" has a dot where no name follows or precedes it; nothing after this line is read\n"},
		{"a section with blanks", "x", "graph_title a\nmultigraph b c\ngraph_info no\n", "service x\n  graph_title=a\n! line 2: multigraph: the name \"b c\" has signs besides letters, digits, _ - . and :; nothing after this line is read\n"},
		{"a virtual node", "x", "host_name Router.Example\ngraph_title a\nmultigraph y\ngraph_title b\nhost_name other\n", "service x of router.example\n  graph_title=a\nservice y of router.example\n  graph_title=b\n"},
		{"a wrong virtual node", "x", "host_name a_b\ngraph_title a\n", "service x\n  graph_title=a\n! line 1: host_name \"a_b\" is no name of a node: letters, digits, - and . only\n"},
		{"dirtyconfig", "x", "graph_title a\nf.label a\nf.value 42.5\ng.label b\ng.value U\n", "service x\n  graph_title=a\n  f: label=a\n  g: label=b\nx.f 0:42.5\nx.g 0:NaN\n"},
		{"dirtyconfig with times", "x", "f.label a\nf.value 100:1\nf.value 110:2\nf.value 105:9\ng.label b\ng.value 3\n", "service x\n  f: label=a\n  g: label=b\nx.f 100:1\nx.f 110:2\nx.g 110:3\n"},
		{"a value that is none", "x", "f.label a\nf.value 1,5\nf.value 5 apples\n", "service x\n  f: label=a\n! line 2: field \"f\": \"1,5\" is no number, U, or time:number\n! line 3: field \"f\": \"5 apples\" is no number, U, or time:number\n"},
		{"lines that are nothing", "x", "nonsense\n.label a\na. b\n.\ngraph_title\ngraph_info  \n", "! line 1: neither an attribute nor a comment: \"nonsense\"\n! line 2: neither an attribute nor a comment: \".label a\"\n! line 3: neither an attribute nor a comment: \"a. b\"\n! line 4: neither an attribute nor a comment: \".\"\n! line 5: neither an attribute nor a comment: \"graph_title\"\n! line 6: \"graph_info\" has no value\n"},
		{"a line that begins with a blank", "x", " a.label b\n", "service x\n  _a: label=b\n"},
		{"no end of line", "x", "graph_title a", "service x\n  graph_title=a\n"},
		{"nothing", "x", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(ParseConfig(tt.plugin, []byte(tt.text))); got != tt.want {
				t.Errorf("ParseConfig(%q, %q):\n%swant\n%s", tt.plugin, tt.text, got, tt.want)
			}
		})
	}
}

func TestParseFetch(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "load.value 2.79\n", "x.load 0:2.79\n"},
		{"unknown, exponents, CR LF", "a.value U\r\nb.value 1.5e+06\nc.value -2.5E-07\n", "x.a 0:NaN\nx.b 0:1.5e+06\nx.c 0:-2.5e-07\n"},
		{"supersampled", "w.value 100:1\nw.value 110:U\nw.value 110:3\nw.value 90:4\nw.value 120:5\n", "x.w 100:1\nx.w 110:NaN\nx.w 120:5\n"},
		{"of now", "w.value N:7\nw.value 100:1\n", "x.w 0:7\n"},
		{"extended information", "a.value 1\na.extinfo two  words \n", "x.a 0:1\nx.a extinfo two  words\n"},
		{"what follows the number", "a.value 5 apples\n", "x.a 0:5\n"},
		{"sections", "multigraph d\na.value 1\nmultigraph d.vda\na.value 2\n", "d.a 0:1\nd.vda.a 0:2\n"},
		{"a wrong section", "a.value 1\nmultigraph multigraph\nb.value 2\n", "x.a 0:1\n! line 2: multigraph: the name \"multigraph\" is a reserved word; nothing after this line is read\n"},
		{"a configuration", "graph_title a\na.label b\na.value\n", "! line 1: neither a value nor a comment: \"graph_title a\"\n! line 2: neither a value nor a comment: \"a.label b\"\n! line 3: field \"a\": value is empty\n"},
		{"times that are none", "a.value 0:1\na.value 253402300800:1\na.value -5:1\na.value 99999999999999999999:1\na.value :1\n",
			"! line 1: field \"a\": \"0:1\" is no number, U, or time:number\n! line 2: field \"a\": \"253402300800:1\" is no number, U, or time:number\n! line 3: field \"a\": \"-5:1\" is no number, U, or time:number\n! line 4: field \"a\": \"99999999999999999999:1\" is no number, U, or time:number\n! line 5: field \"a\": \":1\" is no number, U, or time:number\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(ParseFetch("x", []byte(tt.text))); got != tt.want {
				t.Errorf("ParseFetch(%q):\n%swant\n%s", tt.text, got, tt.want)
			}
		})
	}
}

// What is over a bound is left out and told; what came before stays.
func TestParseBounds(t *testing.T) {
	many := func(n int, line string) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.Bytes()
	}
	tests := []struct {
		name  string
		a     Answer
		count func(Answer) int
		want  int
		told  string
	}{
		{"services", ParseConfig("x", many(maxServices+5, "multigraph s%d\n")), func(a Answer) int { return len(a.Services) }, maxServices, "more than 2000 services"},
		{"fields", ParseConfig("x", many(maxFields+5, "f%d.label a\n")), func(a Answer) int { return len(a.Services[0].Fields) }, maxFields, "more than 2000 fields"},
		{"values", ParseFetch("x", many(maxValues+5, "f%d.value 1\n")), func(a Answer) int { return len(a.Values) }, maxValues, "more than 10000 values"},
		{"graph attributes", ParseConfig("x", many(maxGraphAttrs+5, "graph_%d a\n")), func(a Answer) int { return len(a.Services[0].Attrs) }, maxGraphAttrs, "more than 200 attributes"},
		{"field attributes", ParseConfig("x", many(maxFieldAttrs+5, "f.a%d b\n")), func(a Answer) int { return len(a.Services[0].Fields[0].Attrs) }, maxFieldAttrs, "more than 50 attributes"},
		{"problems", ParseFetch("x", many(maxProblems+5, "nonsense %d\n")), func(a Answer) int { return len(a.Problems) }, maxProblems, "and 6 more"},
		{"bytes", ParseFetch("x", bytes.Repeat([]byte("a.value 1\n"), maxText/10+5)), func(a Answer) int { return len(a.Values) }, 1, "4194350 bytes: only the first 4194304 are read"},
		{"a line", ParseFetch("x", []byte("a.value 1\nb.extinfo "+strings.Repeat("x", maxLine)+"\nc.value 2\n")), func(a Answer) int { return len(a.Values) }, 2, "the line has 65546 bytes"},
		{"a name", ParseConfig("x", []byte(strings.Repeat("n", maxName+1)+".label a\n")), func(a Answer) int { return len(a.Services) }, 0, "its name is too long"},
	}
	for _, tt := range tests {
		if got := tt.count(tt.a); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
		if !slices.ContainsFunc(tt.a.Problems, func(p Problem) bool { return strings.Contains(p.Msg, tt.told) }) {
			t.Errorf("%s: %q is not told, but %v", tt.name, tt.told, tt.a.Problems)
		}
	}
}

func TestAppend(t *testing.T) {
	s := &Service{
		Name: "x", Host: "router.example",
		Attrs: []Attr{{"graph_title", " two\nlines "}, {"multigraph", "no"}, {"bad name", "no"}, {"graph_info", ""}},
		Fields: []Field{
			{Name: "count", Attrs: []Attr{{"label", "a"}, {"type", "DERIVE"}, {"value", "no"}}},
			{Name: "9-x", Attrs: []Attr{{"label", "b"}, {"type", "COUNTER"}, {"in\nfo", "no"}}},
			{Name: "gauge", Attrs: []Attr{{"label", "c"}}},
		},
	}
	got := string(AppendConfig(nil, s))
	want := "host_name router.example\ngraph_title two lines\ncount.label a\ncount.type DERIVE\n__x.label b\n__x.type COUNTER\ngauge.label c\n"
	if got != want {
		t.Errorf("AppendConfig:\n%swant\n%s", got, want)
	}
	got = string(AppendValues(nil, s, []Value{
		{"", "count", 0, 12.7}, {"x", "count", 1795361490, -3.2}, {"other", "count", 0, 1}, {"x", "9-x", 0, -1}, {"x", "gauge", 0, math.NaN()},
		{"x", "gauge", 0, math.Inf(1)}, {"x", "gauge", 0, 0.1}, {"x", "gauge", 0, 2.5e-7}, {"x", "gauge", 0, 1e300}, {"x", "count", 0, 1 << 63}, {"x", "count", 0, -0.2},
	}))
	want = "count.value 13\ncount.value 1795361490:-3\n__x.value U\ngauge.value U\ngauge.value U\ngauge.value 0.1\ngauge.value 2.5e-07\ngauge.value 1e+300\ncount.value 9223372036854775808\ncount.value 0\n"
	if got != want {
		t.Errorf("AppendValues:\n%swant\n%s", got, want)
	}
}

// randomLines makes plugin text of the kinds of lines that plugins print and of slips of the pen, without those few in
// which we mean to differ from Munin: blanks behind the name of a section or for a value, "N:" before a value, a time of zero, a lone CR,
// one section twice in a fetch.
func randomLines(r *rand.Rand, do string) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	name := func() string {
		return pick("a", "b", "c_1", "9x", "x-y", "Ä", "\xe9t\xe9", " lead", "root", "a b", "", "multi", "_")
	}
	attr := func() string {
		return pick("label", "label", "type", "min", "max", "warning", "info", "draw", "cdef", "extinfo", "a.b", "value", "value", "x", "")
	}
	text := func() string {
		return pick("a", "two words", "10:20", "DERIVE", "a  b\tc", "caf\xe9", "caf\xc3\xa9", "x,8,*", "${graph_period}", "#no", "", "\"q\"", "1e6", "U")
	}
	value := func() string {
		return pick("1", "-2.5", "U", "1.5e+06", "2.5e-07", "1795361490:13", "1795361500:14", "1795361490:U", "100:5", "x", "1,5", "", "+3", "18446744073709551615", "5 apples")
	}
	var b strings.Builder
	for i := range 1 + r.IntN(12) {
		switch r.IntN(12) {
		case 0:
			section := pick("s", "s.t", "s.u-v", "s:w", "multigraph", "a..b", ".a", "b c", "é")
			if do == "fetch" {
				section = fmt.Sprintf("%s%d", section, i)
			}
			b.WriteString("multigraph " + section)
		case 1:
			b.WriteString(pick("# comment", "", "#", "nonsense", ".", "a.", "a.label", ".label x", "a.value"))
		case 2, 3:
			b.WriteString(pick("graph_title", "graph_order", "graph-args", "graph_info", "9x", "Ärger", "multigraphs", "update_rate") + pick(" ", "  ", "\t") + pick("a", "b c", "a a b", "é"))
		case 4, 5, 6:
			if do == "fetch" {
				b.WriteString(name() + ".value " + value())
				break
			}
			fallthrough
		default:
			at := attr()
			v := text()
			if at == "value" {
				v = value()
			}
			b.WriteString(name() + "." + at + pick(" ", "  ", "\t") + v)
		}
		b.WriteString(pick("\n", "\n", "\n", " \n", "\r\n", "\n\n"))
	}
	lines := strings.SplitAfter(b.String(), "\n")
	for i, line := range lines {
		if bare := strings.TrimRight(line, " \t\r\n"); bare != line && (strings.HasPrefix(line, "multigraph ") || !strings.ContainsAny(strings.TrimLeft(bare, " "), " \t")) {
			lines[i] = bare + "\n"
		}
	}
	return strings.Join(lines, "")
}

// TestAgainstMunin compares with Munin's own reading, where Debian's package munin is installed.
func TestAgainstMunin(t *testing.T) {
	if _, err := os.Stat("/usr/share/perl5/Munin/Master/Node.pm"); err != nil {
		t.Skip("Debian's package munin is not installed: nothing to compare with")
	}
	type muninCase struct {
		Do     string `json:"do"`
		Plugin string `json:"plugin"`
		Text   string `json:"text"`
	}
	r := rand.New(rand.NewPCG(1, 2))
	var cases []muninCase
	var in bytes.Buffer
	for i := range 4000 {
		do := []string{"config", "fetch"}[i%2]
		c := muninCase{do, "pl-ug.in", randomLines(r, do)}
		cases = append(cases, c)
		c.Text = latin1(c.Text)
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(toLatin1(line))
		in.WriteByte('\n')
	}
	cmd := exec.Command("perl", "testdata/node.pl")
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("perl cannot run Munin's reading here: %v: %s", err, stderr.Bytes())
	}
	answers := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	if len(answers) != len(cases) {
		t.Fatalf("%d answers to %d cases: %s", len(answers), len(cases), stderr.Bytes())
	}
	same := 0
	for i, c := range cases {
		var words [][]string
		if err := json.Unmarshal([]byte(latin1(string(answers[i]))), &words); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		var a Answer
		if c.Do == "config" {
			a = ParseConfig(c.Plugin, []byte(c.Text))
		} else {
			a = ParseFetch(c.Plugin, []byte(c.Text))
		}
		got, want := ourWords(a), theirWords(words, c.Do)
		if slices.Equal(got, want) {
			same++
		} else if i-same < 5 {
			t.Errorf("%s of %q:\n%s\nMunin:\n%s", c.Do, c.Text, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	t.Logf("%d of %d random texts are read as Munin reads them", same, len(cases))
	if same != len(cases) {
		t.Errorf("%d differ", len(cases)-same)
	}
}

// latin1 takes every byte for a character, toLatin1 back.
func latin1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func toLatin1(text []byte) []byte {
	var b []byte
	for _, r := range string(text) {
		b = append(b, byte(r))
	}
	return b
}

// ourWords and theirWords are what was read in a form that can be compared: the order of fields from graph_order and
// labels, no label where Munin makes one up, values as numbers.
func ourWords(a Answer) (out []string) {
	for _, s := range a.Services {
		order := ""
		for _, at := range s.Attrs {
			if at.Name == "graph_order" {
				order = at.Value
			} else {
				out = append(out, fmt.Sprintf("graph %s %s=%s", s.Name, at.Name, at.Value))
			}
		}
		for _, f := range s.Fields {
			_, labelled := f.Get("label")
			if labelled {
				order += " " + f.Name
			}
			for _, at := range f.Attrs {
				if at.Name != "extinfo" || labelled {
					out = append(out, fmt.Sprintf("field %s %s %s=%s", s.Name, f.Name, at.Name, at.Value))
				}
			}
		}
		out = append(out, orderWords(s.Name, order)...)
	}
	for _, e := range a.Extinfo {
		out = append(out, fmt.Sprintf("extinfo %s %s %s", e.Service, e.Field, e.Text))
	}
	for _, v := range a.Values {
		out = append(out, fmt.Sprint(v))
	}
	slices.Sort(out)
	return out
}

func orderWords(service, order string) []string {
	words := strings.Fields(order)
	var unique []string
	for _, w := range words {
		if !slices.Contains(unique, w) {
			unique = append(unique, w)
		}
	}
	if len(unique) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("order %s %s", service, strings.Join(unique, " "))}
}

func theirWords(words [][]string, do string) (out []string) {
	var values []Value
	var newest int64
	unlabelled := map[[2]string]bool{}
	for _, w := range words {
		if w[0] == "field" && w[3] == "label" && w[4] == "No .label provided" {
			unlabelled[[2]string{w[1], w[2]}] = true
		}
	}
	for _, w := range words {
		for i := range w {
			w[i] = plainText(toLatin1([]byte(w[i])))
		}
		switch w[0] {
		case "graph":
			if w[2] == "graph_order" {
				out = append(out, orderWords(w[1], w[3])...)
			} else {
				out = append(out, fmt.Sprintf("graph %s %s=%s", w[1], w[2], w[3]))
			}
		case "field":
			if !unlabelled[[2]string{w[1], w[2]}] || w[3] != "label" && w[3] != "extinfo" {
				out = append(out, fmt.Sprintf("field %s %s %s=%s", w[1], w[2], w[3], w[4]))
			}
		case "extinfo":
			out = append(out, fmt.Sprintf("extinfo %s %s %s", w[1], w[2], w[3]))
		case "value":
			v, ok := ParseValue(w[4])
			if !ok {
				continue
			}
			var at int64
			// Without a time Munin says -1, or in a fetch the time of its reading.
			if fmt.Sscan(w[3], &at); at < 0 || do == "fetch" && at > 1795361500 {
				at = 0
			}
			newest = max(newest, at)
			values = append(values, Value{w[1], w[2], at, v})
		}
	}
	if do == "config" {
		for i := range values {
			if values[i].At == 0 {
				values[i].At = newest
			}
		}
	}
	for _, v := range rising(values) {
		out = append(out, fmt.Sprint(v))
	}
	slices.Sort(out)
	return out
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("graph_title a\nf.label b\nf.value 100:1\nmultigraph x.y\nhost_name h\ng.label c\ng.type DERIVE\n"))
	f.Add([]byte("multigraph a..b\n\r\n# c\n \xe9.label \xe9\nf.a.b\x00 c\n"))
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		f.Add([]byte(randomLines(r, "config")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a := ParseConfig("plug-in", text)
		for i := range a.Services {
			s := &a.Services[i]
			if i > 0 || s.Name != "plug_in" {
				if why := wrongService(s.Name); why != "" {
					t.Fatalf("the name %q %s", s.Name, why)
				}
			}
			// What is written is read as the same, but for a field of which nothing is known and what may not be printed.
			again := ParseConfig("plug-in", append([]byte("multigraph "+s.Name+"\n"), AppendConfig(nil, s)...))
			want := *s
			want.Fields = slices.DeleteFunc(slices.Clone(want.Fields), func(f Field) bool { return len(f.Attrs) == 0 })
			if s.Name == "multigraph" || len(want.Attrs)+len(want.Fields) == 0 {
				continue
			}
			if len(again.Services) != 1 || !sameService(again.Services[0], want) {
				t.Fatalf("written and read again:\n%swas\n%s", show(again), show(a))
			}
		}
		for _, v := range a.Values {
			if v.Field != FieldName(v.Field) || v.At < 0 || v.At >= maxEpoch || math.IsInf(v.V, 0) {
				t.Fatalf("value %+v", v)
			}
		}
		if len(a.Problems) > maxProblems {
			t.Fatalf("%d problems", len(a.Problems))
		}
	})
}

func sameService(a, b Service) bool {
	empty := func(s Service) Service {
		if len(s.Attrs) == 0 {
			s.Attrs = nil
		}
		if len(s.Fields) == 0 {
			s.Fields = nil
		}
		return s
	}
	return reflect.DeepEqual(empty(a), empty(b))
}

func FuzzParseFetch(f *testing.F) {
	f.Add([]byte("a.value 1\nb.value 1795361490:13\nmultigraph x\na.value U\na.extinfo text\n"))
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		f.Add([]byte(randomLines(r, "fetch")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a := ParseFetch("plug-in", text)
		var printed []byte
		for _, v := range a.Values {
			if v.Service != "plug_in" && wrongService(v.Service) != "" || v.Field != FieldName(v.Field) {
				t.Fatalf("value %+v", v)
			}
			printed = append(append(printed, "multigraph "+v.Service+"\n"...), AppendValues(nil, &Service{Name: v.Service}, []Value{v})...)
		}
		if again := ParseFetch("plug-in", printed); fmt.Sprint(again.Values) != fmt.Sprint(a.Values) {
			t.Fatalf("written and read again: %v, was %v", again.Values, a.Values)
		}
	})
}
