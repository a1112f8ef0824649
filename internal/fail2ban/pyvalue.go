package fail2ban

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tuple is a tuple of Python, where []any is a list.
type Tuple []any

// PythonValue writes v as Python's repr does, which is what fail2ban's client prints: nil, bool, int, int64, float64,
// string, []any, []string, Tuple and map[string]any (its keys in order). Any other type is a mistake of the caller's.
func PythonValue(v any) string {
	var b strings.Builder
	writePython(&b, v)
	return b.String()
}

func writePython(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int:
		b.WriteString(strconv.Itoa(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		writePythonFloat(b, v)
	case string:
		writePythonText(b, v)
	case []string:
		writePythonList(b, "[", appendTexts(nil, v), "]")
	case []any:
		writePythonList(b, "[", v, "]")
	case Tuple:
		end := ")"
		if len(v) == 1 {
			end = ",)"
		}
		writePythonList(b, "(", v, end)
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			writePythonText(b, k)
			b.WriteString(": ")
			writePython(b, v[k])
		}
		b.WriteByte('}')
	default:
		panic(fmt.Sprintf("BUG: PythonValue of %T", v))
	}
}

func writePythonList(b *strings.Builder, open string, list []any, end string) {
	b.WriteString(open)
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		writePython(b, v)
	}
	b.WriteString(end)
}

// writePythonFloat writes the shortest digits that read back as f; always with a point or an exponent.
func writePythonFloat(b *strings.Builder, f float64) {
	switch size := math.Abs(f); {
	case math.IsNaN(f):
		b.WriteString("nan")
	case math.IsInf(f, 0):
		b.WriteString(strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+")))
	case f == 0 || 1e-4 <= size && size < 1e16:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		b.WriteString(s)
	default:
		b.WriteString(strconv.FormatFloat(f, 'e', -1, 64))
	}
}

// writePythonText prefers single quotes, and writes what cannot be printed as \n, \x1b, \u200b. A byte that is no UTF-8
// is written as the \udcff that Python keeps it as.
func writePythonText(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(b, `\udc%02x`, s[0])
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
		s = s[n:]
	}
	b.WriteByte(quote)
}
