package fail2bancli

import (
	"strconv"
	"strings"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// quote is s as Python's repr writes it, control characters escaped.
func quote(s string) string { return fail2ban.PythonValue(s) }

// list is a list of texts as Python's repr writes it.
func list(texts []string) string { return fail2ban.PythonValue(texts) }

// tree is a heading and its branches, the last of them with a corner.
func tree(heading string, branches []string) string {
	var b strings.Builder
	b.WriteString(heading)
	for i, s := range branches {
		b.WriteString("\n" + branch(i, len(branches)) + " " + s)
	}
	return b.String()
}

func branch(i, n int) string {
	if i == n-1 {
		return "`-"
	}
	return "|-"
}

// printable makes each text safe to show.
func printable(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = tocsin.Printable(s)
	}
	return out
}

// whole is a number of seconds as fail2ban prints it: whole ones without a point.
func whole(seconds float64) string { return strconv.FormatFloat(seconds, 'f', -1, 64) }

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
