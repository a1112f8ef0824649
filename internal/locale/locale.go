// Package locale holds every sentence that a person reads on pages and in messages, in French and in English, and how
// each language writes numbers, sizes, dates, durations and lists.
//
// It decides nothing: whoever has something to say asks [Locale.T] for the sentence by its key. The sentences stand in
// LANGUAGE.toml and LANGUAGE-PART.toml beside this file, embedded; a test holds that both languages have the same keys
// and placeholders.
//
// The one thing to know: what is put into a sentence is made harmless first (tocsin.Printable), so that a plugin's or a
// log's text can neither break a line nor turn its direction. Escaping for HTML stays with the page.
package locale

import (
	"embed"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"tocsin"
)

//go:embed *.toml
var files embed.FS

// Locale is a language and a time zone. It never changes, and may be used by many at once.
type Locale struct {
	tag   string
	zone  *time.Location
	table map[string]entry
}

// entry is one sentence. one is empty where it has no plural.
type entry struct{ one, other string }

// Tags are the languages there are, best first for whoever asks for none of them.
func Tags() []string { return []string{"en", "fr"} }

// Known says whether tag is one of Tags.
func Known(tag string) bool { return slices.Contains(Tags(), tag) }

// Get finds a language by its tag, or by what LANG says: "fr", "fr-CA", "fr_FR.UTF-8". Whatever is not known is English.
// Times are the machine's; see [Locale.In].
func Get(tag string) *Locale {
	if language(tag) == "fr" {
		return french()
	}
	return english()
}

var (
	french  = sync.OnceValue(func() *Locale { return load("fr") })
	english = sync.OnceValue(func() *Locale { return load("en") })
)

// language cuts a tag to its first part, in small letters.
func language(tag string) string {
	if i := strings.IndexAny(tag, "-_.@"); i >= 0 {
		tag = tag[:i]
	}
	return strings.ToLower(strings.TrimSpace(tag))
}

// Pick finds the language that a browser likes best, from its Accept-Language (RFC 9110, 12.5.4). Only the first 500
// bytes are read.
func Pick(accept string) *Locale {
	best, most := "en", 0.0
	for part := range strings.SplitSeq(accept[:min(len(accept), 500)], ",") {
		tag, rest, _ := strings.Cut(part, ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(rest), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		if tag = language(tag); Known(tag) && q > most {
			best, most = tag, q
		}
	}
	return Get(best)
}

// Tag is the language's name for machines: "fr".
func (l *Locale) Tag() string { return l.tag }

// In is the same language with times of another zone; nil is the machine's.
func (l *Locale) In(zone *time.Location) *Locale {
	if zone == nil {
		zone = time.Local
	}
	other := *l
	other.zone = zone
	return &other
}

// Zone is the zone in which times are written.
func (l *Locale) Zone() *time.Location { return l.zone }

// Has says whether there is a sentence for key.
func (l *Locale) Has(key string) bool {
	_, ok := l.table[key]
	return ok
}

// T writes the sentence of a key. args are the names and values of its placeholders, in turn: T("unit.days", "n", 30).
//
// A placeholder is {name}, or {name:form} with one of the forms of [Locale.form]. Without a form whole numbers and
// fractions are written as the language does, times with date and clock, durations as [Locale.Duration]. A sentence with
// two forms takes the one for the value of "n".
//
// A key that is not there, or a placeholder without a value, is a mistake of ours: it panics in tests, and shows itself in
// production.
func (l *Locale) T(key string, args ...any) string {
	e, ok := l.table[key]
	if !ok {
		return mistake("no sentence "+key, key)
	}
	text := e.other
	if e.one != "" {
		n, ok := number(value(args, "n"))
		if !ok {
			return mistake("sentence "+key+" has two forms and no n", e.other)
		}
		if l.singular(n) {
			text = e.one
		}
	}
	return l.fill(key, text, args)
}

// singular says which form n takes: in French 0 and 1.5 are singular, in English only 1 is.
func (l *Locale) singular(n float64) bool {
	if l.tag == "fr" {
		return n > -2 && n < 2
	}
	return n == 1
}

// fill puts values where their placeholders stand.
func (l *Locale) fill(key, text string, args []any) string {
	if !strings.Contains(text, "{") {
		return text
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '{')
		if i < 0 {
			break
		}
		end := strings.IndexByte(text[i:], '}')
		if end < 0 {
			break
		}
		b.WriteString(text[:i])
		name, form, _ := strings.Cut(text[i+1:i+end], ":")
		v := value(args, name)
		if v == nil {
			b.WriteString(mistake("sentence "+key+" wants "+name, text[i:i+end+1]))
		} else {
			b.WriteString(l.form(form, v))
		}
		text = text[i+end+1:]
	}
	b.WriteString(text)
	return b.String()
}

// value finds the value of a placeholder; nil if there is none.
func value(args []any, name string) any {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == name {
			return args[i+1]
		}
	}
	return nil
}

// form writes v in the form of a placeholder: "percent", "bytes", "rate" (bytes a second), "bits" (a second), "seconds",
// "days", "date", "clock" or "" for what suits its type.
func (l *Locale) form(form string, v any) string {
	if t, ok := v.(time.Time); ok {
		switch form {
		case "date":
			return l.Date(t, time.Time{})
		case "clock":
			return l.Clock(t)
		}
		return l.DateTime(t)
	}
	n, ok := number(v)
	if !ok {
		switch v := v.(type) {
		case string:
			return tocsin.Printable(v)
		case limitText:
			return l.limit(string(v), form)
		case time.Duration:
			return l.Duration(v)
		}
		return tocsin.Printable(fmt.Sprint(v))
	}
	if math.IsNaN(n) {
		return l.T("unit.unknown")
	}
	switch form {
	case "percent":
		return l.Percent(n)
	case "bytes":
		return l.Bytes(n)
	case "rate":
		return l.Rate(n)
	case "bits":
		return l.Bits(n)
	case "seconds":
		return l.Seconds(n)
	case "days":
		return l.T("unit.days", "n", n)
	}
	if _, ok := v.(float64); ok {
		return l.Number(n)
	}
	return l.Int(int64(n))
}

// number is the value of whatever is a number; durations are none.
func number(v any) (n float64, ok bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// mistake is what stands in for a sentence that is not there.
func mistake(what, shown string) string {
	if testing.Testing() {
		panic("BUG: locale: " + what)
	}
	return shown
}

// load reads the catalogue of a language. The files are ours, so a mistake in them is a bug.
func load(tag string) *Locale {
	l := &Locale{tag: tag, zone: time.Local, table: map[string]entry{}}
	for _, name := range names(tag) {
		data, err := files.ReadFile(name)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		if err := l.read(data); err != nil {
			panic("BUG: " + path.Base(name) + ": " + err.Error())
		}
	}
	return l
}

// names are the files of a language, sorted.
func names(tag string) []string {
	all, err := files.ReadDir(".")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	var found []string
	for _, f := range all {
		if base := strings.TrimSuffix(f.Name(), ".toml"); base == tag || strings.HasPrefix(base, tag+"-") {
			found = append(found, f.Name())
		}
	}
	return found
}

// read adds the sentences of one file.
func (l *Locale) read(data []byte) error {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return err
	}
	return l.add("", tree)
}

func (l *Locale) add(key string, v any) error {
	switch v := v.(type) {
	case string:
		return l.put(key, entry{other: v})
	case map[string]any:
		one, isOne := v["one"].(string)
		other, isOther := v["other"].(string)
		if len(v) == 2 && isOne && isOther {
			return l.put(key, entry{one, other})
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := l.add(strings.TrimPrefix(key+"."+name, "."), v[name]); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s is no text", key)
}

func (l *Locale) put(key string, e entry) error {
	if l.Has(key) {
		return fmt.Errorf("%s stands there twice", key)
	}
	if l.tag == "fr" {
		e.one, e.other = typeset(e.one), typeset(e.other)
	}
	l.table[key] = e
	return nil
}

// narrow is the space that French sets before double signs and between groups of digits: it does not break.
const narrow = "\u202f"

// typeset puts French's narrow spaces where the catalogue, for the ease of those who write it, has plain ones.
func typeset(s string) string { return doubleSigns.Replace(s) }

var doubleSigns = strings.NewReplacer(" :", narrow+":", " ;", narrow+";", " !", narrow+"!", " ?", narrow+"?",
	" %", narrow+"%", " »", narrow+"»", "« ", "«"+narrow)
