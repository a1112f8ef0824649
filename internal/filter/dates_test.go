package filter

import (
	"testing"
	"time"

	"tocsin/internal/fail2ban"
)

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}
	return loc
}

// noon is the clock of the tests: 22 November 2026.
func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func TestDatesFind(t *testing.T) {
	tests := []struct {
		name, line string
		text       string // the bytes that tell the time; "" if none do
		want       string // RFC 3339, in UTC
	}{
		{"syslog", "Nov  1 00:00:13 web1 sshd", "Nov  1 00:00:13", "2026-11-01T00:00:13Z"},
		{"syslog, two digits", "Nov 21 23:59:59 web1", "Nov 21 23:59:59", "2026-11-21T23:59:59Z"},
		{"syslog, leap second", "Nov 21 23:59:60 web1", "Nov 21 23:59:60", "2026-11-22T00:00:00Z"},
		{"syslog, a day ahead", "Nov 23 12:00:00 web1", "Nov 23 12:00:00", "2026-11-23T12:00:00Z"},
		{"syslog, more than a day ahead", "Nov 23 12:00:01 web1", "Nov 23 12:00:01", "2025-11-23T12:00:01Z"},
		{"syslog, leap day", "Feb 29 01:02:03 web1", "Feb 29 01:02:03", "2024-02-29T01:02:03Z"},
		{"syslog, no such day", "Feb 30 01:02:03 web1", "", ""},
		{"syslog, no such hour", "Nov 21 24:00:00 web1", "", ""},
		{"asctime", "[Sun Nov 22 10:00:00.250 2026] [error]", "Sun Nov 22 10:00:00.250 2026", "2026-11-22T10:00:00.25Z"},
		{"year in the middle", "Sun Nov 22 2026 10:00:00 x", "Sun Nov 22 2026 10:00:00", "2026-11-22T10:00:00Z"},
		{"ISO, zone", "2026-11-22T10:00:00.123456+01:00 web1", "2026-11-22T10:00:00.123456+01:00", "2026-11-22T09:00:00.123456Z"},
		{"ISO, zone without colon", "2026-11-22 10:00:00 -0530 web1", "2026-11-22 10:00:00 -0530", "2026-11-22T15:30:00Z"},
		{"ISO, zone of hours", "2026-11-22 10:00:00+02 web1", "2026-11-22 10:00:00+02", "2026-11-22T08:00:00Z"},
		{"ISO, Z", "2026-11-22T10:00:00Z web1", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"},
		{"ISO, comma", "2026-11-22 10:00:00,987 INFO", "2026-11-22 10:00:00,987", "2026-11-22T10:00:00.987Z"},
		{"ISO, nanoseconds", "2026-11-22T10:00:00.123456789Z x", "2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.123456789Z"},
		{"ISO, ten digits are no fraction", "2026-11-22T10:00:00.1234567890Z x", "2026-11-22T10:00:00", "2026-11-22T10:00:00Z"},
		{"ISO, a word behind it", "2026-11-22T10:00:00Zulu", "", ""},
		{"nginx error", "2026/11/22 10:00:00 [error]", "2026/11/22 10:00:00", "2026-11-22T10:00:00Z"},
		{"apache access", `192.0.2.1 - - [22/Nov/2026:10:00:00 +0100] "GET`, "22/Nov/2026:10:00:00 +0100", "2026-11-22T09:00:00Z"},
		{"named", "22-Nov-2026 10:00:00.252 security", "22-Nov-2026 10:00:00.252", "2026-11-22T10:00:00.252Z"},
		{"day first", "22/11/2026 10:00:00 x", "22/11/2026 10:00:00", "2026-11-22T10:00:00Z"},
		{"day first, short year", "22-11-26 10:00:00 x", "22-11-26 10:00:00", "2026-11-22T10:00:00Z"},
		{"cPanel", "11/22/2026:10:00:00 x", "11/22/2026:10:00:00", "2026-11-22T10:00:00Z"},
		{"month first", "11-22-2026 10:00:00.5 x", "11-22-2026 10:00:00.5", "2026-11-22T10:00:00.5Z"},
		{"epoch", "1795341600 x", "1795341600", "2026-11-22T10:00:00Z"},
		{"epoch, fraction, squid", "1795341600.123 456 192.0.2.1", "1795341600.123", "2026-11-22T10:00:00.123Z"},
		{"epoch in brackets", "[1795341600] x", "1795341600", "2026-11-22T10:00:00Z"},
		{"auditd", "type=USER_AUTH msg=audit(1795341600.250:99): pid=1", "1795341600.250", "2026-11-22T10:00:00.25Z"},
		{"epoch elsewhere", "x 1795341600 y", "", ""},
		{"epoch, twelve digits", "179534160000 x", "", ""},
		{"time of today", "11:59:59 x", "11:59:59", "2026-11-22T11:59:59Z"},
		{"time of yesterday", "12:00:01 x", "12:00:01", "2026-11-21T12:00:01Z"},
		{"time elsewhere", "x 11:59:59 y", "", ""},
		{"angle", "<11/22/26@10:00:00> x", "<11/22/26@10:00:00>", "2026-11-22T10:00:00Z"},
		{"mysql", "261122 10:00:00 x", "261122 10:00:00", "2026-11-22T10:00:00Z"},
		{"mysql, one digit", "261122  9:00:00 x", "261122  9:00:00", "2026-11-22T09:00:00Z"},
		{"tomcat", "Nov 22, 2026 12:00:00 AM x", "Nov 22, 2026 12:00:00 AM", "2026-11-22T00:00:00Z"},
		{"tomcat, afternoon", "Nov 22, 2026 1:00:00 pm x", "Nov 22, 2026 1:00:00 pm", "2026-11-22T13:00:00Z"},
		{"tomcat, no such hour", "Nov 22, 2026 13:00:00 PM x", "", ""},
		{"ASSP", "Nov-22-26 10:00:00 x", "Nov-22-26 10:00:00", "2026-11-22T10:00:00Z"},
		{"compact", "20261122T100000.5Z x", "20261122T100000.5Z", "2026-11-22T10:00:00.5Z"},
		{"zone in front", "[PDT Nov 21 10:00:00] x", "PDT Nov 21 10:00:00", "2026-11-21T17:00:00Z"},
		{"zone that nobody knows", "XYZW Nov 21 10:00:00 x", "XYZW Nov 21 10:00:00", "2026-11-21T10:00:00Z"},
		{"offset in front", "+02:00 Nov 21 10:00:00 x", "+02:00 Nov 21 10:00:00", "2026-11-21T08:00:00Z"},
		{"TAI64N", "@40000000" + "6a2f0c00" + "1dcd6500 x", "@400000006a2f0c001dcd6500", "2026-06-14T20:16:00.5Z"},
		{"TAI64N of a far future", "@7fffffffffffffff00000000 x", "", ""},
		{"priority in front", "<38>Nov 22 10:00:00 web1", "Nov 22 10:00:00", "2026-11-22T10:00:00Z"},
		{"the first of two", "x 2026-11-22 10:00:00 y 2026-11-22 11:00:00", "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"inside a word", "x2026-11-22 10:00:00", "", ""},
		{"behind a letter of another script", "é2026-11-22 10:00:00", "", ""},
		{"behind a sign of another script", "»2026-11-22 10:00:00«", "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"year of another century", "1926-11-22 10:00:00", "", ""},
		{"empty", "", "", ""},
		{"hostile", "Nov \x00\xff 22:22:22 [\xff[[:::", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDates(time.UTC, noon)
			for _, again := range []string{"first", "second"} {
				at, start, end, ok := d.Find([]byte(tt.line))
				got, text := "", ""
				if ok {
					got, text = at.Format(time.RFC3339Nano), tt.line[start:end]
				}
				if got != tt.want || text != tt.text {
					t.Errorf("%s time: Find(%q) = %q by %q, want %q by %q", again, tt.line, got, text, tt.want, tt.text)
				}
			}
		})
	}
}

// What was remembered from one line must never be told for another.
func TestDatesRemember(t *testing.T) {
	tests := []struct{ name, first, second, want string }{
		{"fraction", "2026-11-22T10:00:00.1Z a", "2026-11-22T10:00:00.2Z a", "2026-11-22T10:00:00.2Z"},
		{"zone comes", "2026-11-22T10:00:00 a", "2026-11-22T10:00:00+01:00 a", "2026-11-22T09:00:00Z"},
		{"zone goes", "2026-11-22T10:00:00+01:00 a", "2026-11-22T10:00:01 a", "2026-11-22T10:00:01Z"},
		{"year comes", "Nov 22 10:00:00 a", "Nov 22 10:00:00 2024 a", "2024-11-22T10:00:00Z"},
		{"year goes", "Nov 22 10:00:00 2024 a", "Nov 22 10:00:00 a", "2026-11-22T10:00:00Z"},
		{"another year", "Nov 22 10:00:00 2024 a", "Nov 22 10:00:00 2025 a", "2025-11-22T10:00:00Z"},
		{"minute", "Nov 22 10:00:00 a", "Nov 22 10:59:59 a", "2026-11-22T10:59:59Z"},
		{"hour", "Nov 22 10:59:59 a", "Nov 22 11:00:00 a", "2026-11-22T11:00:00Z"},
		{"leap second", "Nov 22 10:59:59 a", "Nov 22 10:59:60 a", "2026-11-22T11:00:00Z"},
		{"minute that is none", "Nov 22 10:00:00 a", "Nov 22 10:60:00 a", ""},
		{"date goes on as a word", "Nov 22 10:00:00 a", "Nov 22 10:00:00a", ""},
		{"short", "Nov 22 10:00:00 a", "Nov 22 10:00:0", "2026-11-22T10:00:00Z"},
		{"other format", "Nov 22 10:00:00 a", "2026-11-22T10:00:01Z a", "2026-11-22T10:00:01Z"},
		{"month first is learnt", "11-22-2026 10:00:00 a", "11-02-2026 10:00:00 a", "2026-11-02T10:00:00Z"},
		{"day first by default", "x", "11-02-2026 10:00:00 a", "2026-02-11T10:00:00Z"},
	}
	for _, tt := range tests {
		d := NewDates(time.UTC, noon)
		d.Find([]byte(tt.first))
		got := ""
		if at, _, _, ok := d.Find([]byte(tt.second)); ok {
			got = at.Format(time.RFC3339Nano)
		}
		if got != tt.want {
			t.Errorf("%s: Find(%q) after %q = %q, want %q", tt.name, tt.second, tt.first, got, tt.want)
		}
	}
}

func TestDatesNewYear(t *testing.T) {
	tests := []struct{ name, now, line, want string }{
		{"December read in January", "2027-01-01T00:00:10Z", "Dec 31 23:59:59", "2026-12-31T23:59:59Z"},
		{"January read in December", "2026-12-31T23:59:50Z", "Jan  1 00:00:05", "2027-01-01T00:00:05Z"},
		{"January", "2027-01-01T00:00:10Z", "Jan  1 00:00:05", "2027-01-01T00:00:05Z"},
		{"a day ahead, to the second", "2026-12-31T00:00:00Z", "Jan  1 00:00:00", "2027-01-01T00:00:00Z"},
		{"a second more", "2026-12-31T00:00:00Z", "Jan  1 00:00:01", "2026-01-01T00:00:01Z"},
	}
	for _, tt := range tests {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		at, _, _, _ := NewDates(time.UTC, func() time.Time { return now }).Find([]byte(tt.line))
		if got := at.Format(time.RFC3339); got != tt.want {
			t.Errorf("%s: Find(%q) at %s = %s, want %s", tt.name, tt.line, tt.now, got, tt.want)
		}
	}
}

// The clock goes on while a line of the same hour is remembered.
func TestDatesYearIsThoughtAnew(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	d := NewDates(time.UTC, func() time.Time { return now })
	for _, want := range []int{2025, 2026} {
		for _, line := range []string{"Nov 22 10:00:00 a", "Nov 22 10:00:01 b"} {
			if at, _, _, _ := d.Find([]byte(line)); at.Year() != want {
				t.Errorf("at %v Find(%q) is of %d, want %d", now, line, at.Year(), want)
			}
		}
		now = now.Add(48 * time.Hour)
	}
}

// Europe/Zurich leaves out 02:00 to 03:00 on 29 March 2026 and runs through it twice on 25 October. What a date in
// there means cannot be known, but it must not be further off than that hour, and the hours beside it must be right.
func TestDatesClockChange(t *testing.T) {
	d := NewDates(mustZone(t, "Europe/Zurich"), noon)
	tests := []struct{ line, want, or string }{
		{"2026-03-29 01:59:59 a", "2026-03-29T00:59:59Z", ""},
		{"2026-03-29 02:30:00 a", "2026-03-29T01:30:00Z", "2026-03-29T00:30:00Z"},
		{"2026-03-29 03:00:00 a", "2026-03-29T01:00:00Z", ""},
		{"2026-10-25 01:59:59 a", "2026-10-24T23:59:59Z", ""},
		{"2026-10-25 02:30:00 a", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		{"2026-10-25 02:30:00+01:00 a", "2026-10-25T01:30:00Z", ""},
		{"2026-10-25 03:00:00 a", "2026-10-25T02:00:00Z", ""},
		{"Oct 25 03:00:00 a", "2026-10-25T02:00:00Z", ""},
		{"Mar 29 03:00:00 a", "2026-03-29T01:00:00Z", ""},
	}
	for _, tt := range tests {
		at, _, _, _ := d.Find([]byte(tt.line))
		if got := at.Format(time.RFC3339); got != tt.want && got != tt.or {
			t.Errorf("Find(%q) = %s, want %s %s", tt.line, got, tt.want, tt.or)
		}
	}
	// Lord Howe Island changes its clock by half an hour: within an hour the offset is not the same.
	d = NewDates(mustZone(t, "Australia/Lord_Howe"), noon)
	for _, tt := range []struct{ line, want string }{
		{"2026-10-04 01:59:59 a", "2026-10-03T15:29:59Z"},
		{"2026-10-04 02:30:00 a", "2026-10-03T15:30:00Z"},
		{"2026-10-04 02:59:59 a", "2026-10-03T15:59:59Z"},
	} {
		at, _, _, _ := d.Find([]byte(tt.line))
		if got := at.Format(time.RFC3339); got != tt.want {
			t.Errorf("Find(%q) on Lord Howe = %s, want %s", tt.line, got, tt.want)
		}
	}
}

func TestDatepattern(t *testing.T) {
	tests := []struct{ name, pattern, line, text, want string }{
		{"default", "{DEFAULT}", "x 2026-11-22 10:00:00 y", "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"line begin", "{^LN-BEG}", "x 2026-11-22 10:00:00 y", "", ""},
		{"line begin, two signs", "{^LN-BEG}", "[[2026-11-22 10:00:00 y", "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"line begin, three signs", "{^LN-BEG}", "[[[2026-11-22 10:00:00 y", "", ""},
		{"none", "{NONE}", "2026-11-22 10:00:00 y", "", ""},
		{"own", "%d.%m.%Y %H:%M:%S", "x 22.11.2026 10:00:00 y", "22.11.2026 10:00:00", "2026-11-22T10:00:00Z"},
		{"own, year of any century", "^%Y-%m-%d", "1999-12-31 x", "1999-12-31", "1999-12-31T00:00:00Z"},
		{"own group is cut", `^\[(%Y-%m-%d %H:%M:%S)\]`, "[2026-11-22 10:00:00] y", "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"twelve hours", "%Y-%m-%d %I:%M:%S %p", "2026-11-22 12:30:00 am y", "2026-11-22 12:30:00 am", "2026-11-22T00:30:00Z"},
		{"fraction", "%H:%M:%S.%f %d/%m/%Y", "10:00:00.25 22/11/2026", "10:00:00.25 22/11/2026", "2026-11-22T10:00:00.25Z"},
		{"month name", "^%B %d %Y %H:%M:%S", "november 22 2026 10:00:00", "november 22 2026 10:00:00", "2026-11-22T10:00:00Z"},
		{"day of the year", "%Y %j %H:%M:%S", "2026 326 10:00:00", "2026 326 10:00:00", "2026-11-22T10:00:00Z"},
		{"week", "%Y %W %w %H:%M:%S", "2026 46 0 10:00:00", "2026 46 0 10:00:00", "2026-11-22T10:00:00Z"},
		{"abbreviation", "%Y-%m-%d %H:%M:%S %Exz", "2026-11-22 10:00:00 CEST", "2026-11-22 10:00:00 CEST", "2026-11-22T08:00:00Z"},
		{"abbreviation that nobody knows", "%Y-%m-%d %H:%M:%S %Exz", "2026-11-22 10:00:00 QQQ", "", ""},
		{"date inside", `^<co ts="{DATE}"\s+`, `<co ts="2026-11-22 10:00:00" x`, `<co ts="2026-11-22 10:00:00" `, "2026-11-22T10:00:00Z"},
		{"date inside, grouped", `^[^\[]*\[({DATE})`, `x [2026-11-22 10:00:00] y`, "2026-11-22 10:00:00", "2026-11-22T10:00:00Z"},
		{"epoch", "epoch", "1795341600 x", "1795341600", "2026-11-22T10:00:00Z"},
		{"epoch, line begin", "{^LN-BEG}Epoch", "[1795341600.250] x", "1795341600.250", "2026-11-22T10:00:00.25Z"},
		{"milliseconds", "LEPOCH", "1795341600250 x", "1795341600250", "2026-11-22T10:00:00.25Z"},
		{"microseconds", "{^LN-BEG}LEPOCH", "1795341600250000 x", "1795341600250000", "2026-11-22T10:00:00.25Z"},
		{"milliseconds inside", `"ts":{LEPOCH},`, `{"ts":1795341600250,"x":1}`, `"ts":1795341600250,`, "2026-11-22T10:00:00.25Z"},
		{"TAI64N", "TAI64N", "x @400000006a2f0c001dcd6500 y", "@400000006a2f0c001dcd6500", "2026-06-14T20:16:00.5Z"},
		{"TAI64N, line begin", "{^LN-BEG}TAI64N", "@400000006a2f0c001dcd6500 y", "@400000006a2f0c001dcd6500", "2026-06-14T20:16:00.5Z"},
		{"percent", "%%%Y-%m-%d", "%2026-11-21 y", "%2026-11-21", "2026-11-21T00:00:00Z"},
		{"date is optional", `(?i)^(?:foo\(()\))`, "foo() y", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := ParseDatepattern([]fail2ban.Regex{{Text: tt.pattern}}, time.UTC, noon)
			if err != nil {
				t.Fatal(err)
			}
			at, start, end, ok := d.Find([]byte(tt.line))
			got, text := "", ""
			if ok {
				got, text = at.Format(time.RFC3339Nano), tt.line[start:end]
			}
			if got != tt.want || text != tt.text {
				t.Errorf("with %q Find(%q) = %q by %q, want %q by %q", tt.pattern, tt.line, got, text, tt.want, tt.text)
			}
		})
	}
}

func TestDatepatternsInOrder(t *testing.T) {
	d, err := ParseDatepattern([]fail2ban.Regex{{Text: "{NONE}"}, {Text: "^at %Y-%m-%d %H:%M:%S"}, {Text: "EPOCH"}}, time.UTC, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ line, want string }{
		{"at 2026-11-22 10:00:00 x", "2026-11-22T10:00:00Z"},
		{"1795341600 x", "2026-11-22T10:00:00Z"},
		{"at 2026-11-22 10:00:01 x", "2026-11-22T10:00:01Z"},
	} {
		at, _, _, _ := d.Find([]byte(tt.line))
		if got := at.Format(time.RFC3339); got != tt.want {
			t.Errorf("Find(%q) = %s, want %s", tt.line, got, tt.want)
		}
	}
}

func TestDatepatternMistakes(t *testing.T) {
	_, err := ParseDatepattern([]fail2ban.Regex{
		{Text: "%Y(", Pos: fail2ban.Pos{File: "a.conf", Line: 3}},
		{Text: "{DEFAULT}"},
		{Text: "%Y-%ExY", Pos: fail2ban.Pos{File: "a.conf", Line: 5}},
	}, nil, nil)
	if got := fail2ban.Errors(err); len(got) != 2 || got[0].Pos.Line != 3 || got[1].Pos.Line != 5 {
		t.Errorf("mistakes %q, want one in line 3 and one in line 5", got)
	}
}

func TestDatesDoNotAllocate(t *testing.T) {
	d := NewDates(time.UTC, noon)
	lines := [][]byte{[]byte("Nov 22 10:00:00 a"), []byte("2026-11-22T10:00:00Z a"), []byte("PDT Nov 21 10:00:00 a"), []byte("none")}
	if n := testing.AllocsPerRun(100, func() {
		for _, l := range lines {
			d.Find(l)
		}
	}); n != 0 {
		t.Errorf("Find allocates %v times in %d lines", n, len(lines))
	}
}

// FuzzDates checks that what is remembered changes no answer: a Dates that has seen another line says the same as a
// fresh one, unless the two lines are of formats that can be mistaken for each other.
func FuzzDates(f *testing.F) {
	for _, s := range []string{
		"Nov  1 00:00:13 web1", "2026-11-22T10:00:00.123456+01:00 web1", "[22/Nov/2026:10:00:00 +0100]", "1795341600.123 x",
		"<11/22/26@10:00:00>", "@400000006a2f0c001dcd6500", "PDT Nov 21 10:00:00", "261122  9:00:00", "Nov 22, 2026 1:00:00 pm",
		"audit(1795341600.250:99)", "\xff[Nov \x00 1 00:00:13", "11-02-2026 10:00:00",
	} {
		f.Add([]byte(s), []byte("Nov  1 00:00:14 web1"))
		f.Add([]byte("2026-11-22T10:00:01"), []byte(s))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		used, fresh := NewDates(time.UTC, noon), NewDates(time.UTC, noon)
		used.Find(one)
		learnt := used.learnt
		at, start, end, ok := used.Find(two)
		if ok && (start < 0 || end <= start || end > len(two)) {
			t.Fatalf("Find(%q) = [%d:%d]", two, start, end)
		}
		wantAt, wantStart, wantEnd, wantOK := fresh.Find(two)
		if learnt == formatMDY || learnt == formatDMY || learnt == formatCPanel {
			return
		}
		if ok != wantOK || start != wantStart || end != wantEnd || !at.Equal(wantAt) {
			t.Errorf("after %q Find(%q) = %v [%d:%d] %v, alone %v [%d:%d] %v", one, two, at, start, end, ok, wantAt, wantStart, wantEnd, wantOK)
		}
	})
}

func TestFixedZone(t *testing.T) {
	tests := []struct {
		name string
		want int // seconds east
		ok   bool
	}{
		{"UTC+0200", 7200, true},
		{"GMT-01", -3600, true},
		{"+02:00", 7200, true},
		{"-0330", -12600, true},
		{"CET", 3600, true},
		{"CET+0100", 7200, true},
		{"Z", 0, true},
		{"", 0, false},
		{"+2", 0, false},
		{"+2:000", 0, false},
		{"+02:0", 0, false},
		{"+ab00", 0, false},
		{"Europe/Paris", 0, false},
		{"cet", 0, false},
	}
	for _, tt := range tests {
		loc, ok := FixedZone(tt.name)
		got := 0
		if ok {
			_, got = time.Unix(0, 0).In(loc).Zone()
		}
		if got != tt.want || ok != tt.ok {
			t.Errorf("FixedZone(%q) = %d s, %v; want %d s, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}
