package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds how many mistakes of one file are told.
const maxErrors = 100

// Pos is a place in a file. Lines and columns count from 1, columns in characters; Line 0 means the file as a whole, and
// the zero Pos is nowhere.
type Pos struct {
	File      string
	Line, Col int
}

// String writes a place as editors and compilers do, "FILE:LINE:COLUMN", and "" for the zero Pos.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one mistake: where, what, and what to do about it. Hint may be empty, and so may Pos where the text did not
// come from a file.
type Error struct {
	Pos
	Msg, Hint string
}

// Error is "FILE:LINE:COLUMN: message", with the hint on a line of its own.
func (e *Error) Error() string {
	s := e.Msg
	if at := e.Pos.String(); at != "" {
		s = at + ": " + s
	}
	if e.Hint != "" {
		s += "\n  hint: " + e.Hint
	}
	return s
}

// Errors are all mistakes of one file, in its order. It is never empty where it is an error.
type Errors []*Error

// Error is every mistake, one after the other.
func (es Errors) Error() string {
	var b strings.Builder
	for i, e := range es {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// Unwrap gives errors.As the single mistakes.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

func inFile(a, b *Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col)) }

// mistakes are those found so far as the user gets them: in the order of the file, bounded, the bound said.
func (r *reader) mistakes() Errors {
	slices.SortStableFunc(r.errs, inFile)
	if n := len(r.errs) - maxErrors; n > 0 {
		r.errs = append(r.errs[:maxErrors], &Error{Pos: Pos{File: r.config.File}, Msg: fmt.Sprintf("and %d more mistakes", n)})
	}
	return r.errs
}

// With adds mistakes that others found, in the order of the file. At a place where a mistake is told already, another one
// is likely to be its echo and is left out.
func (es Errors) With(more Errors) Errors {
	all := slices.Clone(es)
	for _, e := range more {
		if !slices.ContainsFunc(es, func(told *Error) bool { return told.Pos == e.Pos }) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, inFile)
	return all
}
