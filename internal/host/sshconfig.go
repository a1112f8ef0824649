package host

import (
	"bufio"
	"bytes"
	"path"
	"strings"
)

const sshdConfig = "/etc/ssh/sshd_config"

// Bounds of a configuration that includes others: sshd itself allows 16 levels (sshd_config(5), servconf.h).
const (
	maxIncludeDepth = 16
	maxIncludeFiles = 256
)

// configuredPorts reads the ports from an sshd_config(5) and what it includes, for where sshd cannot be asked.
func (m *machine) configuredPorts(file string) []uint16 {
	c := sshdPorts{m: m}
	c.read(file, 0)
	return c.result()
}

// sshdPorts gathers what a configuration says about ports.
type sshdPorts struct {
	m      *machine
	files  int
	ports  []uint16
	listen []uint16 // of each ListenAddress, 0 where it names none
}

// result combines the two as sshd does: a ListenAddress without a port listens on every Port, one with a port on that.
func (c *sshdPorts) result() []uint16 {
	ports := c.ports
	if len(ports) == 0 {
		ports = []uint16{defaultSSHPort}
	}
	if len(c.listen) == 0 {
		return ports
	}
	var all []uint16
	for _, p := range c.listen {
		if p == 0 {
			all = append(all, ports...)
		} else {
			all = append(all, p)
		}
	}
	return all
}

// read takes the global part of a file: from the first Match on, no port can be set.
func (c *sshdPorts) read(file string, depth int) {
	if depth > maxIncludeDepth || c.files == maxIncludeFiles {
		return
	}
	c.files++
	text, err := c.m.read(file)
	if err != nil {
		return // sshd would not start with it; what else is known still holds
	}
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		keyword, args := sshdLine(scan.Text())
		if keyword == "match" {
			return
		}
		if len(args) == 0 {
			continue
		}
		switch keyword {
		case "port":
			if p, ok := parsePort(args[0]); ok {
				c.ports = append(c.ports, p)
			}
		case "listenaddress":
			if _, p, ok := splitListen(args[0]); ok {
				c.listen = append(c.listen, p)
			}
		case "include":
			for _, pattern := range args {
				if !path.IsAbs(pattern) {
					pattern = path.Join("/etc/ssh", pattern)
				}
				for _, found := range c.m.glob(pattern) {
					c.read(found, depth+1)
				}
			}
		}
	}
}

// sshdLine takes a line apart: the keyword in lower case, then the arguments. "=" may stand for the first blank, arguments
// may be quoted, and a comment begins with "#".
func sshdLine(line string) (keyword string, args []string) {
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, " \t=\"#")
	if end < 0 {
		return strings.ToLower(line), nil
	}
	keyword, rest := strings.ToLower(line[:end]), strings.TrimLeft(line[end:], " \t")
	rest = strings.TrimPrefix(rest, "=")
	return keyword, words(rest)
}

// words splits at blanks outside double quotes, up to a "#" that begins a word.
func words(s string) []string {
	var all []string
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '#' {
			return all
		}
		var word string
		if s[0] == '"' {
			word, s, _ = strings.Cut(s[1:], `"`)
		} else if end := strings.IndexAny(s, " \t"); end >= 0 {
			word, s = s[:end], s[end:]
		} else {
			word, s = s, ""
		}
		all = append(all, word)
	}
}
