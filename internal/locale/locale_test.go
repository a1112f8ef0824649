package locale

import (
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// placeholders are the names in a sentence, without doubles, sorted; how they are formed may differ between languages.
func placeholders(s string) []string {
	var all []string
	for _, p := range placeholder.FindAllString(s, -1) {
		name, _, _ := strings.Cut(strings.Trim(p, "{}"), ":")
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestCataloguesAgree(t *testing.T) {
	fr, en := Get("fr"), Get("en")
	for _, key := range slices.Sorted(maps.Keys(en.table)) {
		if !fr.Has(key) {
			t.Errorf("%s is not in French", key)
			continue
		}
		e, f := en.table[key], fr.table[key]
		if (e.one != "") != (f.one != "") {
			t.Errorf("%s has two forms in one language and one in the other", key)
		}
		want := placeholders(e.other)
		for lang, s := range map[string]entry{"fr": f, "en": e} {
			if got := placeholders(s.other); !slices.Equal(got, want) {
				t.Errorf("%s: placeholders in %s %q, in English %q", key, lang, got, want)
			}
			if s.one == "" {
				continue
			}
			got := slices.DeleteFunc(placeholders(s.one), func(p string) bool { return p == "n" })
			if !slices.Equal(got, slices.DeleteFunc(slices.Clone(want), func(p string) bool { return p == "n" })) {
				t.Errorf("%s: the singular in %s has placeholders %q, the plural %q", key, lang, got, want)
			}
		}
		if strings.TrimSpace(e.other) == "" || strings.TrimSpace(f.other) == "" {
			t.Errorf("%s is empty", key)
		}
	}
	for key := range fr.table {
		if !en.Has(key) {
			t.Errorf("%s is not in English", key)
		}
	}
}

// typography are mistakes of French, in sentences as they come out.
var typography = []struct{ name, pattern string }{
	{"a straight apostrophe", `'`},
	{"a straight quotation mark", `"`},
	{"three points for an ellipsis", `\.\.\.`},
	{"no space before a double sign", `[^\s\x{202f}\d…][;!?»](\s|$)`},
	{"no space before a colon", `[^\s\x{202f}]:(\s|$)`},
	{"no space before %", `[\d}]%`},
	{"a plain space before a double sign", ` [:;!?%»]`},
	{"no space behind «", `«[^\x{202f}]`},
	{"two spaces", `  `},
	{"a space at an end", `^\s|\s$`},
}

func TestFrenchTypography(t *testing.T) {
	for key, e := range Get("fr").table {
		for _, s := range []string{e.one, e.other} {
			s = placeholder.ReplaceAllStringFunc(s, func(p string) string { return "{" + strings.Repeat("x", len(p)-2) + "}" })
			for _, m := range typography {
				if regexp.MustCompile(m.pattern).MatchString(s) {
					t.Errorf("%s: %s in %q", key, m.name, s)
				}
			}
		}
	}
	for key, e := range Get("en").table {
		if strings.Contains(e.one+e.other, "'") || strings.Contains(e.one+e.other, `"`) {
			t.Errorf("%s: a straight apostrophe or quotation mark in %q", key, e.other)
		}
	}
}

// TestEverySentenceAskedForIsThere reads the program for the keys it asks for.
func TestEverySentenceAskedForIsThere(t *testing.T) {
	asked := regexp.MustCompile(`\b[tT]\s*\(?\s*"([a-z]+(?:\.[a-z0-9_-]+)+)"`)
	l, n := Get("en"), 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go") || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".html") && !strings.HasSuffix(path, ".tmpl"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(path, ".go") && !strings.Contains(string(data), "{{") ||
			strings.HasSuffix(path, ".go") && !strings.Contains(string(data), "locale") {
			return err
		}
		for _, m := range asked.FindAllStringSubmatch(string(data), -1) {
			if n++; !l.Has(m[1]) {
				t.Errorf("%s asks for %s, which is not in the catalogue", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d uses, %d sentences in each language", n, len(l.table))
	if n < 15 {
		t.Errorf("found %d uses of sentences, this room alone has more", n)
	}
}

func TestGet(t *testing.T) {
	for tag, want := range map[string]string{"fr": "fr", "fr-CA": "fr", "fr_FR.UTF-8": "fr", "FR": "fr", "fr@euro": "fr",
		"en": "en", "en_GB": "en", "": "en", "C": "en", "C.UTF-8": "en", "de": "en", "frisian": "en"} {
		if got := Get(tag).Tag(); got != want {
			t.Errorf("Get(%q) is %s, want %s", tag, got, want)
		}
	}
	for _, tag := range Tags() {
		if !Known(tag) || Get(tag).Tag() != tag || !Get(tag).Has("language."+tag) {
			t.Errorf("%s is not whole", tag)
		}
	}
}

func TestPick(t *testing.T) {
	for accept, want := range map[string]string{
		"":                                    "en",
		"fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7": "fr",
		"en-US,en;q=0.5":                      "en",
		"de-DE,de;q=0.9,fr;q=0.3":             "fr",
		"en;q=0.2, fr;q=0.8":                  "fr",
		"fr;q=0":                              "en",
		"fr;q=x, en;q=0.1":                    "en",
		"*":                                   "en",
		strings.Repeat("xx,", 200) + "fr":     "en",
	} {
		if got := Pick(accept).Tag(); got != want {
			t.Errorf("Pick(%.40q) is %s, want %s", accept, got, want)
		}
	}
}

func TestT(t *testing.T) {
	at := time.Date(2026, 11, 21, 14, 5, 0, 0, time.UTC)
	tests := []struct {
		key    string
		args   []any
		fr, en string
	}{
		{"unit.days", []any{"n", 0}, "0 jour", "0 days"},
		{"unit.days", []any{"n", 1}, "1 jour", "1 day"},
		{"unit.days", []any{"n", 1.5}, "1,5 jour", "1.5 days"},
		{"unit.days", []any{"n", 2}, "2 jours", "2 days"},
		{"unit.days", []any{"n", int64(12345)}, "12_345 jours", "12,345 days"},
		{"date.ago", []any{"for", "a\x1b[31mb\u202ec\nd"}, `il y a a\x1b[31mb\u202ec\nd`, `a\x1b[31mb\u202ec\nd ago`},
		{"date.in", []any{"for", at}, "dans 21 nov. 2026 14:05", "in 21 Nov 2026 14:05"},
		{"date.in", []any{"for", 90 * time.Minute}, "dans 1_h 30_min", "in 1~h 30~min"},
		{"date.in", []any{"for", uint64(7)}, "dans 7", "in 7"},
		{"date.in", []any{"for", tocsin.Warning}, "dans warning", "in warning"},
	}
	for _, tt := range tests {
		if got := shown(Get("fr").In(time.UTC).T(tt.key, tt.args...)); got != tt.fr {
			t.Errorf("fr %s %v: %q, want %q", tt.key, tt.args, got, tt.fr)
		}
		if got := shown(Get("en").In(time.UTC).T(tt.key, tt.args...)); got != tt.en {
			t.Errorf("en %s %v: %q, want %q", tt.key, tt.args, got, tt.en)
		}
	}
}

// shown makes spaces that do not break visible: _ is narrow, ~ is not.
func shown(s string) string { return strings.NewReplacer(narrow, "_", "\u00a0", "~").Replace(s) }

func TestForms(t *testing.T) {
	l := &Locale{tag: "fr", zone: time.UTC, table: maps.Clone(Get("fr").table)}
	if err := l.read([]byte(`x.all = "{a:percent} {a:bytes} {a:rate} {a:bits} {a:seconds} {a:days} {t:date} {t:clock}"
x.colon = "Attention : {a} %, « {a} » !"
x.open = "a { b"`)); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 4, 5, 0, 0, time.UTC)
	want := "2_% 2_o 2_o/s 2_bit/s 2_s 2 jours 1er mars 2026 04:05"
	if got := shown(l.T("x.all", "a", 2.0, "t", at)); got != want {
		t.Errorf("forms: %q, want %q", got, want)
	}
	if got, want := shown(l.T("x.all", "a", math.NaN(), "t", at)), strings.Repeat("inconnu ", 6)+"1er mars 2026 04:05"; got != want {
		t.Errorf("forms of no value: %q, want %q", got, want)
	}
	if got, want := shown(l.T("x.colon", "a", 1)), "Attention_: 1_%, «_1_»_!"; got != want {
		t.Errorf("typeset %q, want %q", got, want)
	}
	if got := l.T("x.open"); got != "a { b" {
		t.Errorf("an open brace gives %q", got)
	}
	for name, bad := range map[string]string{"no text": "x.n = 3", "twice": `x.all = "b"`, "no TOML": "x ="} {
		if err := l.read([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMistakesPanicInTests(t *testing.T) {
	for name, do := range map[string]func(){
		"no such sentence":   func() { Get("fr").T("no.such") },
		"no value":           func() { Get("fr").T("date.ago") },
		"two forms and no n": func() { Get("en").T("unit.days", "days", 3) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			do()
		}()
	}
}

func TestNumbers(t *testing.T) {
	fr, en := Get("fr"), Get("en")
	tests := []struct{ name, got, want string }{
		{"int", fr.Int(1480), "1_480"},
		{"int", fr.Int(-1234567), "-1_234_567"},
		{"int", en.Int(1234567), "1,234,567"},
		{"int", en.Int(999), "999"},
		{"least", en.Int(math.MinInt64), "-9,223,372,036,854,775,808"},
		{"float", fr.Float(1234.5, 2), "1_234,50"},
		{"float", en.Float(-0.001, 2), "0.00"},
		{"nan", fr.Float(math.NaN(), 1), "inconnu"},
		{"inf", fr.Number(math.Inf(-1)), "-∞"},
		{"inf", fr.Number(math.Inf(1)), "∞"},
		{"number", fr.Number(37), "37"},
		{"number", fr.Number(4.123), "4,12"},
		{"number", en.Number(99.96), "100"},
		{"number", en.Number(12345.6), "12,346"},
		{"number", en.Number(0.0042), "0.0042"},
		{"number", en.Number(0.00425678), "0.00426"},
		{"number", en.Number(-1.5), "-1.5"},
		{"number", en.Number(0), "0"},
		{"number", fr.Number(1.5e-9), "1,5e-09"},
		{"number", en.Number(1.5e18), "1.5e+18"},
		{"percent", fr.Percent(37.26), "37,3_%"},
		{"percent", en.Percent(37.26), "37.3%"},
		{"bytes", fr.Bytes(0), "0_o"},
		{"bytes", fr.Bytes(4.1e6), "4,1_Mo"},
		{"bytes", en.Bytes(4.1e6), "4.1~MB"},
		{"bytes", en.Bytes(999), "999~B"},
		{"bytes", en.Bytes(999.7), "1~kB"},
		{"bytes", en.Bytes(0.5), "0.5~B"},
		{"bytes", en.Bytes(1e30), "1,000,000,000,000~EB"},
		{"bytes", en.Bytes(math.NaN()), "unknown"},
		{"binary", fr.BinaryBytes(4 << 20), "4_Mio"},
		{"binary", en.BinaryBytes(1536), "1.5~KiB"},
		{"rate", fr.Rate(-6.04e6), "-6,04_Mo/s"},
		{"bits", en.Bits(1e9), "1~Gbit/s"},
		{"list", fr.And(nil), ""},
		{"list", fr.And([]string{"a"}), "a"},
		{"list", fr.And([]string{"a", "b"}), "a et b"},
		{"list", en.And([]string{"a", "b\n", "c"}), `a, b\n and c`},
		{"more", fr.AndMore([]string{"a", "b", "c"}, 3), "a, b et c"},
		{"more", fr.AndMore([]string{"a", "b", "c"}, 2), "a, b et 1 autre"},
		{"more", en.AndMore([]string{"a", "b", "c"}, 0), "a and 2 others"},
	}
	for _, tt := range tests {
		if shown(tt.got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, shown(tt.got), tt.want)
		}
	}
}

func TestDates(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	fr, en := Get("fr").In(paris), Get("en").In(paris)
	now := time.Date(2026, 11, 21, 20, 5, 30, 0, paris)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	tests := []struct{ name, got, want string }{
		{"clock", fr.Clock(now), "20:05"},
		{"in another zone", fr.In(time.UTC).Clock(now), "19:05"},
		{"seconds", fr.ClockSeconds(now), "20:05:30"},
		{"date", fr.Date(now, now), "21 nov."},
		{"first", fr.Date(time.Date(2026, 2, 1, 9, 0, 0, 0, paris), now), "1er févr."},
		{"first", en.Date(time.Date(2026, 2, 1, 9, 0, 0, 0, paris), now), "1 Feb"},
		{"other year", fr.Date(now.AddDate(-1, 0, 0), now), "21 nov. 2025"},
		{"long", fr.LongDate(now), "samedi 21 novembre 2026"},
		{"long", en.LongDate(now), "Saturday 21 November 2026"},
		{"month", fr.Month(now), "novembre 2026"},
		{"short", fr.ShortWeekday(now) + fr.ShortMonth(now) + en.ShortWeekday(now) + en.ShortMonth(now), "sam.nov.SatNov"},
		{"date and time", en.DateTime(now), "21 Nov 2026 20:05"},
		{"today", fr.At(ago(6*time.Hour), now), "14:05"},
		{"yesterday", fr.At(ago(21*time.Hour), now), "hier 23:05"},
		{"tomorrow", en.At(ago(-4*time.Hour), now), "tomorrow 00:05"},
		{"before", fr.At(ago(48*time.Hour), now), "19 nov. 20:05"},
		{"moment", fr.Moment(ago(6*time.Hour), now), "21 nov. 14:05 (il y a 6_h)"},
		{"ago", fr.Ago(now, now), "à l’instant"},
		{"ago", fr.Ago(ago(41*time.Second), now), "il y a 41_s"},
		{"ago", en.Ago(ago(59*time.Minute), now), "59~min ago"},
		{"ago", fr.Ago(ago(-72*time.Hour), now), "dans 3_j"},
		{"ago", fr.Ago(ago(65*24*time.Hour), now), "il y a 2 mois"},
		{"ago", en.Ago(ago(3*365*24*time.Hour), now), "3 years ago"},
		{"duration", fr.Duration(0), "0_s"},
		{"duration", fr.Duration(-5), "0_s"},
		{"duration", fr.Duration(41 * time.Second), "41_s"},
		{"duration", fr.Duration(100 * time.Second), "1_min 40_s"},
		{"duration", fr.Duration(15 * time.Minute), "15_min"},
		{"duration", fr.Duration(15*time.Minute + 9*time.Second), "15_min"},
		{"duration", fr.Duration(time.Hour), "1_h"},
		{"duration", fr.Duration(6*time.Hour + 30*time.Minute), "6_h 30_min"},
		{"duration", fr.Duration(52 * time.Hour), "2_j 4_h"},
		{"duration", en.Duration(41*24*time.Hour + 5*time.Hour), "41~d"},
		{"seconds", fr.Seconds(0.0032), "3,2_ms"},
		{"seconds", fr.Seconds(0.00000032), "0,32_µs"},
		{"seconds", fr.Seconds(3.25), "3,25_s"},
		{"seconds", fr.Seconds(-7200), "-2_h"},
		{"seconds", fr.Seconds(math.NaN()), "inconnu_s"},
		{"zone", fr.In(nil).Zone().String(), time.Local.String()},
	}
	for _, tt := range tests {
		if shown(tt.got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, shown(tt.got), tt.want)
		}
	}
}

func TestIncident(t *testing.T) {
	began := time.Date(2026, 11, 21, 14, 5, 0, 0, time.UTC)
	var (
		series = tocsin.Series{Group: "OVH", Node: "web3", Service: "df", Field: "_var"}
		limit  = tocsin.Incident{Rule: "mine", Group: "OVH", Node: "web3", Series: series, Value: 91.5, Limit: ":90", Label: "/var", Began: began}
	)
	with := func(change func(*tocsin.Incident)) tocsin.Incident { in := limit; change(&in); return in }
	tests := []struct {
		name           string
		in             tocsin.Incident
		title, text    string
		english, intro string
	}{
		{"limit", limit, "web3_: df (/var) à 91,5", "df (/var) est à 91,5 sur web3_; ce qui va bien_: au plus 90. Depuis le 21 nov. 2026 14:05.",
			"web3: df (/var) at 91.5", "df (/var) is at 91.5 on web3; fine would be at most 90. Since 21 Nov 2026 14:05."},
		{"unknown", with(func(in *tocsin.Incident) { in.Value = math.NaN(); in.Label = "" }), "web3_: df (_var) sans valeur",
			"df (_var) n’a plus de valeur sur web3 depuis le 21 nov. 2026 14:05.", "web3: df (_var) without a value", "df (_var) has no value on web3 since 21 Nov 2026 14:05."},
		{"forecast", with(func(in *tocsin.Incident) { in.Full = began.Add(48 * time.Hour) }), "web3_: df (/var) sera plein vers le 23 nov. 2026",
			"df (/var) est à 91,5 sur web3 et sera plein vers le 23 nov. 2026 14:05 si cela continue ainsi.",
			"web3: df (/var) will be full about 23 Nov 2026", "df (/var) is at 91.5 on web3 and will be full about 23 Nov 2026 14:05 if it goes on like this."},
		{"silent", tocsin.Incident{Rule: "s", Node: "mail2", Began: began}, "mail2 sans nouvelles", "Aucune nouvelle de mail2 depuis le 21 nov. 2026 14:05.",
			"mail2 without news", "No news of mail2 since 21 Nov 2026 14:05."},
		{"together", tocsin.Incident{Rule: "slow", Group: "OVH", Members: []string{"a", "b"}, Began: began}, "OVH_: slow sur 2 serveurs",
			"La règle «_slow_» vaut en même temps pour a et b, depuis le 21 nov. 2026 14:05.", "OVH: slow on 2 servers", "The rule “slow” holds at the same time for a and b, since 21 Nov 2026 14:05."},
		{"everywhere", tocsin.Incident{Rule: "s", Began: began}, "tout le parc sans nouvelles", "Aucune nouvelle de tout le parc depuis le 21 nov. 2026 14:05.",
			"all servers without news", "No news of all servers since 21 Nov 2026 14:05."},
		{"other", with(func(in *tocsin.Incident) { in.Limit = ""; in.Extra = "x\r\nBcc: all\x1b[2J" }), "web3_: mine, df (/var) à 91,5",
			`La règle «_mine_» a vu df (/var) à 91,5 sur web3 depuis le 21 nov. 2026 14:05. x\r\nBcc: all\x1b[2J`,
			"web3: mine, df (/var) at 91.5", `The rule “mine” saw df (/var) at 91.5 on web3 since 21 Nov 2026 14:05. x\r\nBcc: all\x1b[2J`},
	}
	for _, tt := range tests {
		title, text := Incident(Get("fr").In(time.UTC), tt.in)
		if shown(title) != tt.title || shown(text) != tt.text {
			t.Errorf("%s:\n got %q, %q\nwant %q, %q", tt.name, shown(title), shown(text), tt.title, tt.text)
		}
		title, text = Incident(Get("en").In(time.UTC), tt.in)
		if shown(title) != tt.english || shown(text) != tt.intro {
			t.Errorf("%s:\n got %q, %q\nwant %q, %q", tt.name, shown(title), shown(text), tt.english, tt.intro)
		}
	}
}

func TestWords(t *testing.T) {
	fr := Get("fr")
	if got := fr.Level(tocsin.Warning) + ", " + fr.Urgency(tocsin.Soon); got != "attention, à voir" {
		t.Errorf("words %q", got)
	}
	for limit, want := range map[string]string{"": "", "10:90": "entre 10 et 90", ":90": "au plus 90", "10:": "au moins 10", "90": "au plus 90",
		" 1.5 : ": "au moins 1,5", ":": "", "a\x00:b": `entre a\x00 et b`} {
		if got := fr.Limit(limit); got != want {
			t.Errorf("limit %q: %q, want %q", limit, got, want)
		}
	}
}

// TestEveryShippedSentenceWorks writes every sentence about an incident with every kind of value.
func TestEveryShippedSentenceWorks(t *testing.T) {
	for _, tag := range Tags() {
		l := Get(tag)
		for _, key := range slices.Sorted(maps.Keys(l.table)) {
			if !strings.HasPrefix(key, "alert.") || !strings.HasSuffix(key, ".title") && !strings.HasSuffix(key, ".text") {
				continue
			}
			in := tocsin.Incident{Node: "web3", Series: tocsin.Series{Node: "web3", Service: "df", Field: "x"}, Value: 3, Limit: ":2", Members: []string{"a", "b"}}
			if got := l.about(key, &in); strings.ContainsAny(got, "{}") {
				t.Errorf("%s %s: %q", tag, key, got)
			}
		}
	}
}
