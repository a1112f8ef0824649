package graph

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// maxArgs bounds graph_args, in bytes.
const maxArgs = 10_000

// args are the options of rrdtool graph that a service may ask for (graph_args). Others are passed over.
type args struct {
	base         float64 // 1000 or 1024
	lower, upper float64 // limits of the axis; NaN: none
	rigid        bool    // the limits hold even where values are beyond
	log          bool
	tight        bool   // the axis ends where the values end
	tightTop     bool   // only above
	label        string // of the vertical axis
	exponent     int    // the axis is written in units of 10 to the power of this
	hasExponent  bool
}

// parseArgs reads graph_args. What cannot be read is passed over, as in rrdtool an option of no use to us is.
func parseArgs(text string) args {
	a := args{base: 1000, lower: math.NaN(), upper: math.NaN()}
	words := splitWords(cut(text, maxArgs))
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		if len(name) > 2 && name[0] == '-' && name[1] != '-' && strings.IndexByte("lubvX", name[1]) >= 0 {
			name, value, joined = name[:2], words[i][2:], true // "-l0"
		}
		next := func() string {
			if !joined && i+1 < len(words) {
				i++
				value = words[i]
			}
			return value
		}
		switch name {
		case "-b", "--base":
			if v := argNumber(next()); v == 1024 {
				a.base = 1024
			}
		case "-l", "--lower-limit":
			a.lower = argNumber(next())
		case "-u", "--upper-limit":
			a.upper = argNumber(next())
		case "-r", "--rigid":
			a.rigid = true
		case "-o", "--logarithmic":
			a.log = true
		case "-A", "--alt-autoscale":
			a.tight = true
		case "-M", "--alt-autoscale-max":
			a.tightTop = true
		case "-v", "--vertical-label":
			a.label = next()
		case "-X", "--units-exponent":
			if v := argNumber(next()); v == math.Trunc(v) && math.Abs(v) <= 18 {
				a.exponent, a.hasExponent = int(v), true
			}
		}
	}
	return a
}

func argNumber(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

// splitWords splits text as a shell would without expanding anything: at spaces, with quotes and backslashes.
func splitWords(text string) (words []string) {
	var word strings.Builder
	open, quote, escaped := false, rune(0), false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			open, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			open, quote = true, r
		case quote == 0 && unicode.IsSpace(r):
			if open {
				words = append(words, word.String())
				word.Reset()
			}
			open = false
		default:
			open = true
			word.WriteRune(r)
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// cut is the first most bytes of s, without half a letter.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
