package munin

import (
	"math"
	"strconv"
	"strings"
)

// ParseValue reads a number as plugins print them; "U" is unknown (NaN). ok is false for anything else: words, hexadecimal,
// digits with underscores, infinities, more than 64 bytes.
func ParseValue(s string) (v float64, ok bool) {
	if s == "U" {
		return math.NaN(), true
	}
	if s == "" || len(s) > 64 || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}
