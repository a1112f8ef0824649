package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"tocsin/docs/manual"
)

// The page on the command line has a section for every command, with all its flags.
func TestManualTellsOfEveryFlag(t *testing.T) {
	parser, err := kong.New(&cli{}, kong.Vars{"config": defaultConfig})
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range manual.Sections() {
		if s.Page == "cli.md" {
			sections[s.Title] = s.Text
		}
	}
	everywhere := sections["The command line"]
	for _, c := range parser.Model.Children {
		text, ok := sections["tocsin "+c.Name]
		switch {
		case c.Hidden:
			continue
		case !ok:
			t.Errorf("cli.md has no section tocsin %s", c.Name)
			continue
		}
		for _, f := range c.Flags {
			if f.Hidden || f.Name == "help" || strings.Contains(text, "--"+f.Name) {
				continue
			}
			t.Errorf("cli.md does not tell of tocsin %s --%s", c.Name, f.Name)
		}
	}
	for _, f := range parser.Model.Flags {
		if f.Name != "help" && !strings.Contains(everywhere, "| `--"+f.Name) {
			t.Errorf("cli.md does not tell of --%s", f.Name)
		}
	}
}
