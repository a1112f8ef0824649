package jail

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tocsin"
)

func TestEvidenceIsCut(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", ""},
		{"at the limit", strings.Repeat("a", 20), strings.Repeat("a", 20)},
		{"one over", strings.Repeat("a", 21), strings.Repeat("a", 17) + "…"},
		{"between two characters", strings.Repeat("a", 16) + "éééé", strings.Repeat("a", 16) + "…"},
		{"after a whole character", strings.Repeat("a", 15) + "éééé", strings.Repeat("a", 15) + "é…"},
		{"four bytes", strings.Repeat("a", 14) + "😀😀", strings.Repeat("a", 14) + "…"},
		{"not UTF-8", strings.Repeat("\x80", 30), strings.Repeat("\x80", 14) + "…"},
		{"NUL and escapes stay", "\x00\x1b[31m", "\x00\x1b[31m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLines(1, 20)
			got, ok := l.get(nil, l.add(&tocsin.Failure{User: strings.Repeat("é", maxUser), Line: tocsin.Line{Text: tt.text}}))
			if !ok || got[0].Text != tt.want {
				t.Errorf("%q is kept as %q, want %q", tt.text, got[0].Text, tt.want)
			}
			if len(got[0].User) > maxUser || !utf8.ValidString(got[0].User) {
				t.Errorf("user is kept as %q", got[0].User)
			}
		})
	}
}

func TestEvidenceKeepsTheNewestLines(t *testing.T) {
	o := options()
	o.EvidenceLines = 5
	j := mustNew(t, o)
	context := func(n int) tocsin.Line {
		return tocsin.Line{Source: "journal:", Pos: tocsin.Position{File: 1, Offset: int64(n)}, At: t0, Text: fmt.Sprint("context ", n)}
	}
	var ds []tocsin.Decision
	for i := range 3 {
		f := failure("192.0.2.1", "root", t0.Add(time.Duration(i)*time.Second), i)
		f.Context = []tocsin.Line{context(1), context(2 + i)} // the first belongs to the whole session
		ds = j.Failure(ds, f)
	}
	var got []string
	for _, e := range ds[0].Evidence {
		got = append(got, strings.Fields(e.Text)[0]+fmt.Sprint(e.Pos.Offset)+e.User)
	}
	if want := "[Failed0root context3 Failed100root context4 Failed200root]"; fmt.Sprint(got) != want {
		t.Errorf("evidence %v, want %s", got, want)
	}
}

func TestEvidenceOfLongSessions(t *testing.T) {
	l := newLines(1, maxLine)
	f := tocsin.Failure{User: "root", Line: tocsin.Line{Text: "last"}}
	for range 100 {
		f.Context = append(f.Context, tocsin.Line{Text: strings.Repeat("x", 5000)})
	}
	got, ok := l.get(nil, l.add(&f))
	if !ok || len(got) != 16 || got[15].Text != "last" || got[15].User != "root" || len(got[0].Text) != maxLine {
		t.Errorf("%d lines kept of 101, want the 16 that fit a chunk", len(got))
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	o := options()
	o.EvidenceBytes = 128 << 10
	j := mustNew(t, o)
	j.Failure(nil, failure("192.0.2.1", "root", t0, 0))
	for i := range 2000 {
		j.Failure(nil, failure(fmt.Sprintf("10.0.%d.%d", i/256, i%256), "root", t0, i))
	}
	s := j.Stats()
	if s.EvidenceBytes != 128<<10 || s.EvidenceEvicted == 0 {
		t.Errorf("%+v, want 128 KiB of lines and the rest counted", s)
	}
	ds := attack(j, "192.0.2.1", t0, 2)
	if len(ds) != 1 || ds[0].Failures != 3 || len(ds[0].Evidence) != 2 {
		t.Errorf("%+v, want a ban for 3 failures with the 2 lines that are left", ds)
	}
}
