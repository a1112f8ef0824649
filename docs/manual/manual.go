// Package manual embeds the pages of this folder, so that `tocsin explain` answers without a network.
//
// It owns how a page is cut into sections and how a word finds its section. It does not format: a section is given as it
// stands in the page, without its comments.
package manual

import (
	"embed"
	"io/fs"
	"regexp"
	"strings"
)

//go:embed *.md
var pages embed.FS

// Section is one headed part of a page.
type Section struct {
	Page  string // "guard.md"
	Title string // the heading without its marks
	Text  string // what follows, up to the next heading of the same or a higher level
}

// Sections cuts every page at its headings, in the order of the pages' names.
func Sections() []Section {
	names, err := fs.Glob(pages, "*.md")
	if err != nil {
		panic("BUG: manual: " + err.Error())
	}
	var all []Section
	for _, name := range names {
		text, err := pages.ReadFile(name)
		if err != nil {
			panic("BUG: manual: " + err.Error())
		}
		all = append(all, cut(name, string(text))...)
	}
	return all
}

// comment is what a page holds for tests and not for readers.
var comment = regexp.MustCompile(` ?<!--.*?-->`)

// cut makes a section of each heading; a heading's section holds those of lower levels as well.
func cut(page, text string) []Section {
	type open struct{ index, level int }
	var out []Section
	var stack []open
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced {
			line = comment.ReplaceAllString(line, "")
		}
		if level := headingLevel(line); level > 0 && !fenced {
			for len(stack) > 0 && stack[len(stack)-1].level >= level {
				stack = stack[:len(stack)-1]
			}
			out = append(out, Section{Page: page, Title: strings.TrimSpace(line[level:])})
			for _, o := range stack {
				out[o.index].Text += line
			}
			stack = append(stack, open{len(out) - 1, level})
			continue
		}
		for _, o := range stack {
			out[o.index].Text += line
		}
	}
	return out
}

func headingLevel(line string) int {
	n := len(line) - len(strings.TrimLeft(line, "#"))
	if n == 0 || n > 6 || !strings.HasPrefix(line[n:], " ") {
		return 0
	}
	return n
}

// whole is a page that is called by its name, such as "share", under its first heading.
func whole(name string) (Section, bool) {
	text, err := pages.ReadFile(name + ".md")
	if err != nil {
		return Section{}, false
	}
	title, rest, _ := strings.Cut(string(text), "\n")
	return Section{Page: name + ".md", Title: strings.TrimSpace(strings.TrimLeft(title, "#")), Text: comment.ReplaceAllString(rest, "")}, true
}

// Find returns what is said about a word: the whole page of that name, or else the sections whose heading is the word (marks
// and letter case aside), or else those whose heading contains it.
func Find(word string) []Section {
	word = plain(word)
	if word == "" {
		return nil
	}
	if page, ok := whole(word); ok {
		return []Section{page}
	}
	var same, holding []Section
	for _, s := range Sections() {
		switch title := plain(s.Title); {
		case title == word:
			same = append(same, s)
		case strings.Contains(title, word):
			holding = append(holding, s)
		}
	}
	if len(same) > 0 {
		return same
	}
	return holding
}

func plain(s string) string {
	return strings.ToLower(strings.TrimSpace(strings.ReplaceAll(s, "`", "")))
}
