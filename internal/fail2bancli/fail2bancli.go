// Package fail2bancli answers as fail2ban-client and fail2ban-regex do, so that hands and scripts keep their habits.
//
// Client asks the guard over its socket and prints what fail2ban's client would print of the same state, byte for byte,
// because Munin's plugin and many scripts parse that text. Regex runs a filter over a log with our own expressions and
// dates and prints fail2ban-regex's summary. Neither decides anything, and neither runs a command.
//
// The one thing to know: what fail2ban changes in the memory of its server and we keep in files (bantime, failregex, log
// paths) is refused with what to do instead, never pretended.
package fail2bancli

import (
	"fmt"
	"io"
	"os"
	"time"

	"tocsin/internal/fail2ban"
)

// Options are what a command is given by whoever starts it.
type Options struct {
	Socket         string // the guard's, unless -s names another
	Release        string // of this program
	By             string // the person at the keyboard, for the record of who did what
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// The exit codes of fail2ban's commands.
const (
	exitOK   = 0
	exitFail = 255
)

// Command returns the function that answers to a name that the program can be called by; nil if it is none of
// fail2ban's.
func Command(name string) func(args []string, o Options) int {
	switch name {
	case "fail2ban-client":
		return Client
	case "fail2ban-regex":
		return Regex
	case "fail2ban-server":
		return Server
	}
	return nil
}

// Server answers to fail2ban-server: the version and the checks of the configuration are the client's; what would start a
// server says who guards instead.
func Server(args []string, o Options) int { return Client(args, o) }

// complain writes a line as fail2ban logs it to standard error.
func complain(w io.Writer, level, text string) {
	fmt.Fprintf(w, "%s %-24s[%d]: %-7s %s\n", time.Now().Format("2006-01-02 15:04:05,000"), "fail2ban", os.Getpid(), level, text)
}

// banner is what --version prints.
func banner(o Options) string { return "Fail2Ban v" + fail2ban.Version + " (Tocsin " + o.Release + ")" }
