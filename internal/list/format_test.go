package list

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// kept is a list with everything that one can have.
func kept(s *Set) *Kept {
	return &Kept{
		Name: "abuseipdb", Terms: Terms{Source: "abuseipdb:", Plan: "5 lists a day", Limit: 10000, Confidence: 100},
		Generated: t0, Fetched: t0.Add(767 * time.Second), ETag: `W/"a1"`, Modified: "Sun, 22 Nov 2026 03:00:00 GMT", Set: s,
	}
}

func encoded(t testing.TB, k *Kept) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The bytes of docs/format/list.md: another program may read them, and another version of this one must.
func TestGolden(t *testing.T) {
	refused := kept(set("1.1.1.1"))
	refused.Refused = []Reason{{Half, "it has 1 entries, less than half of the 3 of the last one"}}
	refused.Terms.Plan, refused.ETag, refused.Modified, refused.Generated = "", "", "", time.Time{}
	for name, k := range map[string]*Kept{
		"testdata/abuseipdb.list":    kept(set("2a00:1450::/32 8.8.8.8 8.8.8.0/24 1.1.1.1 2606:4700::1111")),
		"testdata/abuseipdb.refused": refused,
	} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := encoded(t, k)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		back, err := Decode(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if again := encoded(t, back); !bytes.Equal(again, want) {
			t.Errorf("%s read and written is\n%s", name, again)
		}
	}
}

func TestDocumentHoldsTheGoldenFile(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format/list.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/abuseipdb.list")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, golden) {
		t.Error("docs/format/list.md shows another file than testdata/abuseipdb.list")
	}
}

// Whoever holds the watch process may hand over anything. Only what Encode writes is taken.
func TestDecodeRefuses(t *testing.T) {
	good := string(encoded(t, kept(set("1.1.1.1 8.8.8.0/24"))))
	body := func(entries ...string) string {
		k := kept(set(""))
		head, _ := k.header()
		return signed(strings.Join(head[:len(head)-1], "\n")+"\n", entries)
	}
	if _, err := Decode(strings.NewReader(body("1.1.1.1", "8.8.8.8"))); err != nil {
		t.Fatalf("what this test signs is not taken: %v", err)
	}
	tests := []struct{ name, text, want string }{
		{"empty", "", "breaks off"},
		{"a page", "<html>\n", "this is no list"},
		{"newer", strings.Replace(good, "tocsin-list 1", "tocsin-list 2", 1), "newer version"},
		{"another entry", strings.Replace(good, "1.1.1.1", "1.1.1.2", 1), "changed or damaged"},
		{"another limit", strings.Replace(good, "limit 10000", "limit 90000", 1), "changed or damaged"},
		{"something behind", good + "9.9.9.9\n", "something follows"},
		{"no end", good[:len(good)-1], "breaks off"},
		{"unknown word", strings.Replace(good, "etag", "etaq", 1), `unknown word "etaq"`},
		{"a name that is a path", strings.Replace(good, "name abuseipdb", "name ../../etc", 1), "is no name"},
		{"control characters", strings.Replace(good, "plan 5", "plan \x1b5", 1), "nothing that can be read"},
		{"a million too many", strings.Replace(good, "entries 2", "entries 2000001", 1), "is no entries"},
		{"a sign", strings.Replace(good, "entries 2", "entries +2", 1), "is no entries"},
		{"the whole internet", body("0.0.0.0/0"), "too wide"},
		{"half of it", body("8.0.0.0/7"), "too wide"},
		{"loopback", body("127.0.0.1"), "no public address"},
		{"private", body("8.8.8.8", "10.0.0.0/8"), "no public address"},
		{"order", body("8.8.8.8", "1.1.1.1"), "does not belong behind"},
		{"double", body("8.8.8.8", "8.8.8.8"), "does not belong behind"},
		{"host bits", body("8.8.8.8/24"), "shortest form"},
		{"/32", body("8.8.8.8/32"), "shortest form"},
		{"long form", body("2a00:0:0:0::1"), "shortest form"},
		{"comment", body("# no"), "shortest form"},
		{"empty line", body(""), "shortest form"},
		{"long line", body(strings.Repeat("8", 70_000)), "longer than"},
		{"endless header", magic + "\n" + strings.Repeat("plan x\n", 30), "does not end"},
		{"header twice", signed(magic+"\nname a\nname a\nsource x\nlimit 1\nconfidence 0\nfetched 2026-11-22T03:00:00Z\n", nil), "one form"},
		{"no source", signed(magic+"\nname a\nlimit 1\nconfidence 0\nfetched 2026-11-22T03:00:00Z\n", nil), "lacks a name"},
	}
	for _, tt := range tests {
		k, err := Decode(strings.NewReader(tt.text))
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Decode = %v, %v; want an error with %q", tt.name, k, err, tt.want)
		}
	}
	for i := range len(good) {
		if _, err := Decode(strings.NewReader(good[:i])); err == nil {
			t.Errorf("the first %d bytes of %d are taken for a list", i, len(good))
		}
	}
}

// signed completes a header and entries as somebody would who knows the form.
func signed(head string, entries []string) string {
	head += fmt.Sprintf("entries %d\n", len(entries))
	body := ""
	for _, e := range entries {
		body += e + "\n"
	}
	return fmt.Sprintf("%ssha256 %x\n\n%s", head, sha256.Sum256([]byte(head+body)), body)
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, kept(set("1.1.1.1 8.8.8.0/24 2a00::1"))))
	f.Add([]byte(magic + "\nname a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		if got := encoded(t, k); !bytes.Equal(got, text) {
			t.Errorf("%q was taken, and is written as %q", text, got)
		}
	})
}
