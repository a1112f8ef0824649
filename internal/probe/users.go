package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
)

// maxSessions bounds how many files of sessions are read.
const maxSessions = 4096

var usersProbe = Probe{
	Name: "users", Doubles: []string{"users"},
	New: func(h *Host) (Reader, error) {
		r := &usersReader{utmp: file{path: h.at("run/utmp")}, sessions: h.at("run/systemd/sessions")}
		if _, err := r.utmp.read(); err == nil {
			return r, nil
		}
		r.utmp.path = "" // gone since Debian 13
		if _, err := os.ReadDir(r.sessions); err != nil {
			return nil, &Off{Why: "neither /run/utmp nor systemd-logind tells who is logged in"}
		}
		return r, nil
	},
}

type usersReader struct {
	utmp     file
	sessions string
}

func (r *usersReader) Read(context.Context) ([]Reading, error) {
	var lines []string // what they are logged in at
	if r.utmp.path != "" {
		b, err := r.utmp.read()
		if err != nil {
			return nil, err
		}
		lines = parseUtmp(b)
	} else {
		var err error
		if lines, err = readSessions(r.sessions); err != nil {
			return nil, err
		}
	}
	n := map[string]float64{}
	for _, line := range lines {
		n[loginKind(line)]++
	}
	rd := Reading{Service: usersService}
	for _, f := range usersService.Fields {
		rd.Values = append(rd.Values, v(f.Name, n[f.Name]))
	}
	return []Reading{rd}, nil
}

// Shape of a record of utmp(5) on every Linux: the type, and the terminal at byte 8.
const (
	utmpSize    = 384
	utmpLine    = 8
	utmpLineLen = 32
	userProcess = 7
)

// parseUtmp returns the terminals of those who are logged in.
func parseUtmp(b []byte) []string {
	var lines []string
	for ; len(b) >= utmpSize && len(lines) < maxSessions; b = b[utmpSize:] {
		if b[0] != userProcess || b[1] != 0 {
			continue
		}
		line, _, _ := bytes.Cut(b[utmpLine:utmpLine+utmpLineLen], []byte{0})
		lines = append(lines, string(line))
	}
	return lines
}

// readSessions returns the terminals of logind's sessions of users; a session has none if it is no terminal.
func readSessions(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, missing(dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxSessions)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, missing(dir, err)
	}
	var lines []string
	for _, name := range names {
		f := file{path: dir + "/" + name}
		if strings.HasSuffix(name, ".ref") { // a pipe
			continue
		}
		if b, err := f.read(); err == nil {
			if line, ok := parseSession(b); ok {
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}

// parseSession reads a file of /run/systemd/sessions.
func parseSession(b []byte) (line string, ok bool) {
	user, active := false, false
	for len(b) > 0 {
		var l []byte
		l, b = nextLine(b)
		key, value, _ := strings.Cut(string(l), "=")
		switch key {
		case "CLASS":
			user = value == "user" || value == "user-early"
		case "STATE":
			active = value == "active" || value == "online"
		case "TTY", "DISPLAY":
			line = value
		}
	}
	return line, user && active
}

// loginKind is the field that Munin counts a terminal in.
func loginKind(line string) string {
	switch line = strings.TrimPrefix(line, "/dev/"); {
	case strings.HasPrefix(line, "pty"), strings.HasPrefix(line, "ttyp"):
		return "pty"
	case strings.HasPrefix(line, "pts"):
		return "pts"
	case strings.HasPrefix(line, "tty"):
		return "tty"
	case strings.HasPrefix(line, ":"):
		return "X"
	}
	return "other"
}

var usersService = describe("users", `
	graph_title Logged in users
	graph_args --base 1000 -l 0
	graph_vlabel Users
	graph_scale no
	graph_category system
	graph_printf %3.0lf
	tty.label tty
	tty.draw AREASTACK
	tty.colour 00FF00
	pty.label pty
	pty.draw AREASTACK
	pty.colour 0000FF
	pts.label pts
	pts.draw AREASTACK
	pts.colour 00FFFF
	X.label X displays
	X.draw AREASTACK
	X.colour 000000
	other.label Other users
	other.colour FF0000`)
