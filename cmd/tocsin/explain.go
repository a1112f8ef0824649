package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"tocsin/docs/manual"
	"tocsin/internal/api"
)

type explainCmd struct {
	Word []string `arg:"" optional:"" help:"A setting (findtime), a finding (TOC-SSH-001), a command, a filter or any word of a heading."`
}

func (*explainCmd) Help() string { return "Example: tocsin explain findtime" }

// explained is what `tocsin explain --json` prints.
type explained struct {
	Schema   string             `json:"schema"`
	Sections []explainedSection `json:"sections"`
}

type explainedSection struct {
	Page  string `json:"page"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

func (x *explainCmd) Run(e *env) error {
	word := strings.Join(x.Word, " ")
	if name, ok := strings.CutPrefix(word, "rules"); ok && (name == "" || name[0] == ' ') {
		return e.explainRules(strings.TrimSpace(name))
	}
	found := manual.Find(word)
	if word == "" {
		return e.contents()
	}
	if len(found) == 0 {
		return api.Errorf(api.ExitFailed, "tocsin explain lists everything", fmt.Sprintf("the manual says nothing under %q", word))
	}
	out := explained{Schema: "tocsin.explain/1", Sections: []explainedSection{}}
	for _, s := range found {
		out.Sections = append(out.Sections, explainedSection(s))
	}
	return e.print(out, func(w io.Writer) {
		for i, s := range found {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s (%s)\n\n%s\n", strings.ReplaceAll(s.Title, "`", ""), s.Page, strings.TrimSpace(s.Text))
		}
	})
}

// contents lists what can be explained.
func (e *env) contents() error {
	out := explained{Schema: "tocsin.explain/1", Sections: []explainedSection{}}
	all := manual.Sections()
	slices.SortStableFunc(all, func(a, b manual.Section) int { return cmp.Compare(a.Page, b.Page) })
	for _, s := range all {
		out.Sections = append(out.Sections, explainedSection{Page: s.Page, Title: s.Title})
	}
	return e.print(out, func(w io.Writer) {
		page := ""
		for _, s := range all {
			if s.Page != page {
				page = s.Page
				fmt.Fprintf(w, "\n%s\n", page)
			}
			fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(s.Title, "`", ""))
		}
	})
}
