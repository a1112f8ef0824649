package regex

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"
)

// oracle is Python's own re, asked over a pipe.
type oracle struct {
	in  io.Writer
	out *bufio.Scanner
}

// oracleProgram answers a JSON line {p: pattern, f: flags, t: [texts in base64]} with
// {e: error}, {r: [null, or the spans of all groups in characters]}, or {slow: true} where Python itself backtracks for
// longer than a second.
const oracleProgram = `
import base64, json, re, signal, sys, warnings
warnings.simplefilter("ignore")
class Slow(Exception): pass
def slow(*_): raise Slow
signal.signal(signal.SIGALRM, slow)
def search(p, s):
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        return p.search(s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
for line in sys.stdin:
    q = json.loads(line)
    try:
        p = re.compile(q["p"], q["f"])
    except re.error as e:
        print(json.dumps({"e": e.msg, "at": e.pos or 0}), flush=True)
        continue
    except (OverflowError, RecursionError) as e:
        print(json.dumps({"e": str(e)}), flush=True)
        continue
    out = []
    try:
        for t in q["t"]:
            m = search(p, base64.b64decode(t).decode("utf-8", "replace"))
            out.append([list(m.span(i)) for i in range(p.groups + 1)] if m else None)
        print(json.dumps({"r": out}), flush=True)
    except Slow:
        print(json.dumps({"slow": True}), flush=True)
`

type answer struct {
	Err  string     `json:"e"`
	At   int        `json:"at"`
	Slow bool       `json:"slow"`
	Rows [][][2]int `json:"r"`
}

func newOracle(t testing.TB) *oracle {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: nothing to compare with")
	}
	cmd := exec.Command(python, "-c", oracleProgram)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 64<<20)
	return &oracle{in: in, out: sc}
}

func (o *oracle) ask(t testing.TB, pattern string, flags Flags, texts [][]byte) answer {
	t.Helper()
	f := 0
	for i, bit := range []int{2, 8, 16, 64} { // re.I, re.M, re.S, re.X
		if flags&(1<<i) != 0 {
			f |= bit
		}
	}
	q := struct {
		P string   `json:"p"`
		F int      `json:"f"`
		T []string `json:"t"`
	}{P: pattern, F: f, T: []string{}}
	for _, text := range texts {
		q.T = append(q.T, base64.StdEncoding.EncodeToString(text))
	}
	line, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	if !o.out.Scan() {
		t.Fatalf("python3 went away at %q: %v", pattern, o.out.Err())
	}
	var a answer
	if err := json.Unmarshal(o.out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// spans gives the groups of the matcher's last match in characters, as Python counts them.
func spans(m *Matcher, re *Regexp, text []byte) [][2]int {
	at := make(map[int]int) // byte offset -> character
	n := 0
	for i := 0; i < len(text); n++ {
		at[i] = n
		_, w := decode(text, i)
		i += w
	}
	at[len(text)], at[-1] = n, -1
	var out [][2]int
	for g := range re.GroupNames() {
		start, end := m.Group(g)
		out = append(out, [2]int{at[start], at[end]})
	}
	return out
}

// clip cuts Python's spans to the text, as Group does with the newline that Match adds.
func clip(rows [][2]int, n int) [][2]int {
	out := slices.Clone(rows)
	for i := range out {
		out[i][0], out[i][1] = min(out[i][0], n), min(out[i][1], n)
	}
	return out
}

// compare checks one pattern on texts against Python, as Match and as Search.
func (o *oracle) compare(t testing.TB, pattern string, flags Flags, texts [][]byte, opts Options) (compiled bool) {
	t.Helper()
	withNewline := make([][]byte, 0, 2*len(texts))
	for _, text := range texts {
		withNewline = append(withNewline, append(slices.Clone(text), '\n'))
	}
	want := o.ask(t, pattern, flags, append(withNewline, texts...))
	if want.Slow {
		return false
	}
	re, err := Compile(pattern, flags)
	if (err != nil) != (want.Err != "") {
		t.Fatalf("Compile(%q, %d): error %v, Python's %q at %d", pattern, flags, err, want.Err, want.At)
	}
	if err != nil {
		return false
	}
	set, err := NewSet([]*Regexp{re}, opts)
	if err != nil {
		t.Fatalf("NewSet(%q): %v", pattern, err)
	}
	m := set.NewMatcher()
	for i, text := range texts {
		n := len([]rune(string(decodeAll(text))))
		check := func(how string, got int, row [][2]int) {
			t.Helper()
			if (got == 0) != (row != nil) {
				t.Fatalf("%s of %q (flags %d) on %q: rule %d, Python's groups %v (regular %v)", how, pattern, flags, text, got, row, re.Regular())
			}
			if row == nil {
				return
			}
			if got := spans(m, re, text); !slices.Equal(got, clip(row, n)) {
				t.Fatalf("%s of %q (flags %d) on %q: groups %v, Python's %v (regular %v)", how, pattern, flags, text, got, row, re.Regular())
			}
		}
		check("Match", m.Match(text), want.Rows[i])
		check("Search", m.Search(text), want.Rows[len(texts)+i])
	}
	if s := m.Stats(); s.OutOfSteps > 0 {
		t.Logf("%q ran out of steps", pattern)
	}
	return true
}

func decodeAll(text []byte) []rune {
	var out []rune
	for i := 0; i < len(text); {
		r, n := decode(text, i)
		out = append(out, r)
		i += n
	}
	return out
}

// TestAgainstPython compares random patterns on random texts with Python: whether it compiles, whether it matches, and
// every group.
func TestAgainstPython(t *testing.T) {
	o := newOracle(t)
	n := 1500
	if testing.Short() {
		n = 400
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), python: true}
	good := 0
	for range n {
		pattern, flags := g.pattern(), Flags(0)
		if g.IntN(3) == 0 {
			flags = Flags(g.IntN(8))
		}
		var texts [][]byte
		for range 6 {
			texts = append(texts, g.text())
		}
		if o.compare(t, pattern, flags, texts, Options{}) {
			good++
		}
	}
	t.Logf("%d of %d patterns compile", good, n)
}
