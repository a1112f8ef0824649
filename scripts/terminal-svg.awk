#!/usr/bin/awk -f
# Draws text as a terminal: make demo | scripts/terminal-svg.awk > docs/demo.svg
# Lines of more than 118 characters are cut. No font is embedded: the reader's own monospace is used.

function escaped(s) {
	gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s)
	return s
}

# The colour says what a line is, and so do its words.
function class(s) {
	if (s ~ /^  (victim#|attacker  ssh|attacker  connect|honest)/) return s ~ /attacker/ ? "a" : s ~ /honest/ ? "h" : "c"
	if (s ~ /is banned|no answer|msg=banned/) return "a"
	if (s ~ /^[A-Z]/) return "t"
	return "o"
}

{
	if (length($0) > 118) $0 = substr($0, 1, 117) "…"
	line[++n] = $0
}

END {
	height = n * 17 + 32
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 %d\" role=\"img\" aria-label=\"A session with tocsin in a terminal\">\n", height
	print "<style>text{font:13px ui-monospace,monospace;white-space:pre;fill:#cdd6e0}.t{fill:#fff;font-weight:bold}.c{fill:#8fd3ff}.a{fill:#ff9d8a}.h{fill:#a6e3a1}</style>"
	printf "<rect width=\"960\" height=\"%d\" rx=\"8\" fill=\"#10161d\"/>\n", height
	for (i = 1; i <= n; i++)
		if (line[i] != "") printf "<text class=\"%s\" x=\"16\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", class(line[i]), i * 17 + 12, escaped(line[i])
	print "</svg>"
}
