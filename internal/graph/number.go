package graph

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"tocsin"
)

// prefixes are those of the SI as rrdtool prints them, from 10 to the power of -18 on.
const prefixes = "afpnum kMGTPE"

// scaled brings v between 1 and base, as rrdtool's auto_scale does, and says with which prefix; "" for none, "?" beyond all.
func scaled(v, base float64) (float64, string) {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v, ""
	}
	i := math.Floor(math.Log(math.Abs(v)) / math.Log(base))
	v /= math.Pow(base, i)
	return v, prefix(int(i))
}

// prefix is that of base to the power of i.
func prefix(i int) string {
	switch {
	case i == 0:
		return ""
	case i < -6 || i > 6:
		return "?"
	}
	return prefixes[i+6 : i+7]
}

// number is a number of the legend: what comes before the prefix of the unit, and the prefix.
type number struct {
	text   string
	prefix string
}

func (n number) String() string { return n.text + n.prefix }

// unknown is how a number is written that nobody knows.
const unknown = "–"

// format is graph_printf: one verb of C's printf for a float between two texts.
type format struct {
	before, after string
	verb          string // of fmt
	scale         bool   // with a prefix of the SI
}

// printf is the part of C's printf that a legend may have. Widths and precisions of three digits are nobody's.
var printf = regexp.MustCompile(`^([^%]{0,20})%([-+ 0#]{0,5})(\d{0,2})(\.\d{0,2})?(?:l|L)?([fFeEgGdi])([^%]{0,20})(%[sS])?([^%]{0,20})$`)

// parseFormat reads graph_printf, "" or one that is not understood counting as what base makes usual. Percent signs are
// written twice. With scale there is a prefix.
func parseFormat(text string, base float64, scale bool) format {
	f := format{verb: "%6.2f", scale: scale}
	if base == 1024 {
		f.verb = "%7.2f" // 1012.56 has one letter more
	}
	const percent = "\x00"
	m := printf.FindStringSubmatch(strings.ReplaceAll(tocsin.Printable(cut(text, maxLabel)), "%%", percent))
	if m == nil {
		return f
	}
	verb := m[5]
	if verb == "d" || verb == "i" {
		verb, m[4] = "f", ".0"
	}
	f.verb = "%" + m[2] + m[3] + m[4] + verb
	f.before, f.after = strings.ReplaceAll(m[1], percent, "%"), strings.ReplaceAll(m[6]+m[8], percent, "%")
	f.scale = scale || m[7] != ""
	return f
}

// print writes a number as rrdtool does.
func (f format) print(v, base float64) number {
	if math.IsNaN(v) {
		return number{text: unknown}
	}
	var n number
	if f.scale {
		v, n.prefix = scaled(v, base)
	}
	text := "∞"
	switch {
	case math.IsInf(v, -1):
		text = "-∞"
	case !math.IsInf(v, 1):
		text = strings.TrimSpace(fmt.Sprintf(f.verb, v))
	}
	n.text = strings.TrimSpace(f.before + text + f.after)
	return n
}

// plain writes a number of an axis with as many digits as step, the distance of two of them, needs.
func plain(v, step float64) string {
	digits := 0
	for s := step; digits < 12 && math.Abs(s-math.Round(s)) > 1e-6*math.Abs(s)+1e-12; digits++ {
		s *= 10
	}
	return strconv.FormatFloat(v+0, 'f', digits, 64)
}

// trimmed writes a number with as many digits as it has, up to three.
func trimmed(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
