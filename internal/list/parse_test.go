package list

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"tocsin"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string // entries in order
		odd  string // what else is told
	}{
		{"one a line", "8.8.8.8\n1.1.1.1\n2606:4700::1111\n", "1.1.1.1 8.8.8.8 2606:4700::1111", ""},
		{"crlf and no end", "1.1.1.1\r\n8.8.8.8", "1.1.1.1 8.8.8.8", "open"},
		{"byte order mark", "\uFEFF1.1.1.1\n", "1.1.1.1", ""},
		{"comments", "# a\n; b\n\n  \t\n1.1.1.1 # c\n8.8.8.0/24 ; SBL1\n9.9.9.9;x\n", "1.1.1.1 8.8.8.0/24 9.9.9.9", ""},
		{"tabs", "\t1.1.1.1\t# c\n", "1.1.1.1", ""},
		{"netset, host bits", "5.6.7.8/24\n2a00:1450::1/32\n", "5.6.7.0/24 2a00:1450::/32", ""},
		{"/32 and /128 are addresses", "1.1.1.1/32\n2a00::1/128\n", "1.1.1.1 2a00::1", ""},
		{"doubles", "1.1.1.1\n1.1.1.1/32\n1.1.1.0/24\n1.1.1.9/24\n", "1.1.1.0/24 1.1.1.1", "2 doubles"},
		{"ipv4 in ipv6", "::ffff:1.1.1.1\n::ffff:8.8.8.0/120\n", "1.1.1.1 8.8.8.0/24", ""},
		{"wide ipv4 in ipv6", "::ffff:0.0.0.0/80\n", "", "line 1 bad"},
		{"ipset save", "create bad hash:ip family inet hashsize 1024 maxelem 65536 timeout 60\nadd bad 1.1.1.1\nadd bad 8.8.8.8 timeout 12 comment \"x nomatch\"\n",
			"1.1.1.1 8.8.8.8", ""},
		{"ipset exception", "add bad 8.8.8.0/24\nadd bad 8.8.8.8 nomatch\n", "8.8.8.0/24", "line 2 bad"},
		{"ipset with a port", "add bad 8.8.8.8,tcp:80\n", "", "line 1 bad"},
		{"ipset without an entry", "add bad\n", "", "line 1 bad"},
		{"second word", "1.1.1.1 8.8.8.8\n", "", "line 1 bad"},
		{"range", "1.1.1.1-1.1.1.9\n", "", "line 1 bad"},
		{"zone", "fe80::1%eth0\n", "", "line 1 bad"},
		{"leading zero", "01.1.1.1\n", "", "line 1 bad"},
		{"too big a part", "1.1.1.256\n1.1.1.1\n", "1.1.1.1", "line 1 bad"},
		{"empty part", "1..1.1\n1.1.1.\n.1.1.1\n", "", "line 1 bad and 2 more"},
		{"bad lines do not hide good ones", "1.1.1.1\nx\n8.8.8.8\ny\n", "1.1.1.1 8.8.8.8", "line 2 bad and 1 more"},
		{"page", "\n <!DOCTYPE html>\n1.1.1.1\n", "", "page"},
		{"json error", `{"errors":[{"detail":"no"}]}`, "", "line 1 bad open"},
		{"nul", "1.1.1.1\x00\n", "", "line 1 bad"},
		{"special", "10.0.0.1\n1.1.1.1\n192.168.0.0/16\nfe80::/10\n2001:db8::1\n255.255.255.255\n", "1.1.1.1", "5 special"},
		{"touching special", "198.0.0.0/8\n", "", "1 special"},
		{"wide but special", "224.0.0.0/3\nfc00::/7\n::/3\n", "", "3 special"},
		{"wide", "1.0.0.0/7\n2400::/12\n0.0.0.0/0\n::/0\n2400::/19\n8.0.0.0/8\n", "8.0.0.0/8 2400::/19", "4 wide"},
		{"empty", "", "", ""},
		{"long line", "1.1.1.1\n" + strings.Repeat("8", maxLine+1) + "\n8.8.8.8\n", "1.1.1.1", "line 2 bad"},
	}
	for _, tt := range tests {
		p, err := Parse(strings.NewReader(tt.text), 100)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := join(p.Set); got != tt.want {
			t.Errorf("%s: entries %q, want %q", tt.name, got, tt.want)
		}
		if got := odd(p); got != tt.odd {
			t.Errorf("%s: told %q, want %q", tt.name, got, tt.odd)
		}
	}
}

func join(s *Set) string {
	var all []string
	for p := range s.All() {
		all = append(all, tocsin.PrefixString(p))
	}
	return strings.Join(all, " ")
}

func odd(p *Parsed) string {
	var all []string
	tell := func(when bool, format string, args ...any) {
		if when {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	tell(p.Page, "page")
	tell(p.Bad.N > 0 && !p.Page, "line %d bad", p.Bad.Line)
	tell(p.Bad.N > 1 && !p.Page, "and %d more", p.Bad.N-1)
	tell(p.Duplicates > 0, "%d doubles", p.Duplicates)
	tell(p.Special.N > 0, "%d special", p.Special.N)
	tell(p.Wide.N > 0, "%d wide", p.Wide.N)
	tell(p.TooLong, "too long")
	tell(p.Truncated != "", "truncated")
	tell(p.OpenEnd, "open")
	return strings.Join(all, " ")
}

// What an address looks like must be settled by the standard library, wherever the fast way says something.
func FuzzAddress4(f *testing.F) {
	for _, s := range []string{"1.1.1.1", "255.255.255.255", "256.1.1.1", "01.1.1.1", "1.1.1", "1.1.1.1.1", "0.0.0.0", "1.1.1.1 ", "00.0.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := netip.ParseAddr(s)
		want := err == nil && a.Is4()
		got, ok := address4([]byte(s))
		if ok != want || ok && addrOf4(got) != a {
			t.Errorf("address4(%q) = %v %t, netip says %v %v", s, addrOf4(got), ok, a, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1.1.1.1\n8.8.8.0/24\r\n", "add x 1.1.1.1 nomatch\n", "\x1f\x8b\x08", "<html>", "::ffff:1.1.1.1/100", "# x\n;\n", "\uFEFF"} {
		f.Add([]byte(s))
	}
	f.Add(zipped("1.1.1.1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(bytes.NewReader(text), 10)
		if err != nil {
			t.Fatal(err)
		}
		Judge(p, Terms{Limit: 10}, nil)
		k := kept(p.Set)
		var b bytes.Buffer
		if err := k.Encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := Decode(&b)
		if err != nil {
			t.Fatalf("what was parsed cannot be kept: %v", err)
		}
		if added, removed := Diff(p.Set, again.Set); added+removed != 0 {
			t.Errorf("%d added, %d removed by keeping", added, removed)
		}
	})
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

func TestParseZipped(t *testing.T) {
	whole := zipped("1.1.1.1\n8.8.8.8\n")
	for cut := len(whole); cut > 1; cut-- {
		p, err := Parse(bytes.NewReader(whole[:cut]), 10)
		if err != nil {
			t.Fatal(err)
		}
		if cut == len(whole) {
			if join(p.Set) != "1.1.1.1 8.8.8.8" || p.Truncated != "" {
				t.Errorf("entries %q, truncated %q", join(p.Set), p.Truncated)
			}
		} else if p.Truncated == "" {
			t.Errorf("nothing is missing of the first %d bytes of %d", cut, len(whole))
		}
	}
	damaged := slices.Clone(whole)
	damaged[len(damaged)-6] ^= 1 // the checksum
	if p, err := Parse(bytes.NewReader(damaged), 10); err != nil || p.Truncated == "" {
		t.Errorf("damaged: %+v, %v", p, err)
	}
}

// A small file may inflate to any size: reading stops at the bound of the text.
func TestParseBounds(t *testing.T) {
	bomb := zipped(strings.Repeat("# nothing\n", 2<<20))
	p, err := Parse(bytes.NewReader(bomb), 10)
	if err != nil || !p.TooLong {
		t.Errorf("%d bytes that inflate to 20 MiB: too long %t, %v", len(bomb), p.TooLong, err)
	}
	p, err = Parse(strings.NewReader(strings.Repeat("x\n", 10_000)), 0)
	if err != nil || p.Bad.N != maxBad+1 {
		t.Errorf("10,000 bad lines: %d were read, %v", p.Bad.N, err)
	}
}

func TestParseBrokenOff(t *testing.T) {
	p, err := Parse(io.MultiReader(strings.NewReader("1.1.1.1\n8.8.8.8"), iotest.ErrReader(io.ErrUnexpectedEOF)), 10)
	if err != nil || p.Truncated == "" || join(p.Set) != "1.1.1.1" {
		t.Errorf("broken off: entries %q, truncated %q, %v; want the half line left out", join(p.Set), p.Truncated, err)
	}
	boom := errors.New("boom")
	if _, err := Parse(io.MultiReader(strings.NewReader("1.1.1.1\n"), iotest.ErrReader(boom)), 10); !errors.Is(err, boom) {
		t.Errorf("a reader's error comes back as %v", err)
	}
}
