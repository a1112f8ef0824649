package manual

import (
	"strings"
	"testing"
)

func TestCut(t *testing.T) {
	const page = "# Top\nintro <!-- id: x -->\n## `findtime`\nwithin\n```\n# no heading\n```\n### Edge\ncounts\n## maxretry\nhow many\n"
	tests := []struct{ title, want string }{
		{"Top", "intro\n## `findtime`\nwithin\n```\n# no heading\n```\n### Edge\ncounts\n## maxretry\nhow many\n"},
		{"`findtime`", "within\n```\n# no heading\n```\n### Edge\ncounts\n"},
		{"Edge", "counts\n"},
		{"maxretry", "how many\n"},
	}
	got := cut("p.md", page)
	if len(got) != len(tests) {
		t.Fatalf("cut gives %d sections, want %d", len(got), len(tests))
	}
	for i, tt := range tests {
		if got[i].Title != tt.title || got[i].Text != tt.want {
			t.Errorf("section %d = %q %q, want %q %q", i, got[i].Title, got[i].Text, tt.title, tt.want)
		}
	}
}

// Every setting, finding and command that the program names must be explained by it.
func TestFind(t *testing.T) {
	for _, word := range []string{"findtime", "FINDTIME", "TOC-FW-001", "tocsin why", "exit codes", "munin_node", "Grafana", "From Munin"} {
		if len(Find(word)) == 0 {
			t.Errorf("Find(%q) finds nothing", word)
		}
	}
	if s := Find("TOC-FW-001"); len(s) > 0 && !strings.Contains(s[0].Text, "nf_tables") {
		t.Errorf("Find(TOC-FW-001) = %q, which does not speak of nf_tables", s[0].Text)
	}
	for _, page := range []string{"share", "Privacy"} {
		if s := Find(page); len(s) != 1 || !strings.Contains(s[0].Text, "\n# ") || strings.Contains(s[0].Text, "<!--") {
			t.Errorf("Find(%q) is not the whole page, without its comments", page)
		}
	}
	if s := Find("../manual/share"); s != nil {
		t.Errorf("Find() of a path = %v, want none", s)
	}
	if s := Find(""); s != nil {
		t.Errorf("Find of nothing finds %d sections", len(s))
	}
}
