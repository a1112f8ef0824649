// Package fail2ban reads the files of fail2ban: their INI dialect, the layers and includes, %(interpolation)s, <tags>,
// and the name[option=value] that stands in a jail. Files in, plain structs out.
//
// It does not compile a regular expression, does not know what <HOST> means (package filter does), and runs nothing.
//
// The one thing to know: every line of a value keeps the file and line where a person wrote it, through layers,
// interpolation and tags, so that a mistake found much later still names its place. A line that is nothing but a
// reference gives way to the lines it refers to, with their places; a reference inside a line takes that line's place.
//
// The behaviour is that of fail2ban 1.0.2 on Python 3.11, whose jail.conf(5) is the manual of the language.
package fail2ban

import (
	"errors"
	"fmt"
)

// The bounds of what is read. Configuration is written by root, but a mistake in it must not eat the machine.
const (
	maxFileSize = 1 << 20 // bytes of one file
	maxFiles    = 1000    // files of one filter, or of jail.d; includes and layers counted each time they are read
	maxValue    = 1 << 20 // bytes of one value once interpolation and tags are done
	maxMade     = 1 << 26 // bytes of all values that one call reads
	maxJails    = 2000    // jails that are enabled
	maxActions  = 64      // actions of one jail
	maxDepth    = 10      // %(references)s inside references, as in Python's ConfigParser
	maxReplaced = 10_000  // <tags> replaced in one filter
)

// Pos is a place in a file, for people. Line counts from 1; 0 means that the text came from no file
// (File then says where it came from, such as "option mode").
type Pos struct {
	File string
	Line int
}

func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is a mistake in a file, with its place and, where there is one, what to do about it.
// What LoadFilter returns may join several: errors.As finds the first, Errors lists them all.
type Error struct {
	Pos  Pos
	Msg  string
	Hint string // "" if there is nothing better to say than Msg
}

func (e *Error) Error() string {
	s := e.Pos.String() + ": " + e.Msg
	if e.Hint != "" {
		s += "\n  hint: " + e.Hint
	}
	return s
}

// Errors lists the mistakes that err joins, in the order in which they stand in the files.
func Errors(err error) []*Error {
	var e *Error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, err := range joined.Unwrap() {
			all = append(all, Errors(err)...)
		}
		return all
	}
	if errors.As(err, &e) {
		return []*Error{e}
	}
	return nil
}
