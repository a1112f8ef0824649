package munin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Port is where a munin-node listens.
const Port = 4949

// Address is the way to a munin-node.
type Address struct {
	Scheme  string // "munin", "ssh" or "cmd"
	Host    string // a name or an IP address without brackets; "" for cmd
	Port    uint16 // 0: Port, or for ssh what its own configuration says
	User    string // for ssh; "": as its configuration says
	Command string // for ssh, what the shell there is given, "" for what is behind the key; for cmd, the program and its words
}

// ParseAddress reads HOST, HOST:PORT, munin://HOST[:PORT], ssh://[USER@]HOST[:PORT][/COMMAND WORDS] or cmd:///COMMAND WORDS,
// as "address" in munin.conf has them. The port of a munin:// counts (Munin 2.0 ignores it). Here is no shell: of the
// words of a cmd only quotes and backslashes mean something, and what a shell would do more with is a mistake.
func ParseAddress(text string) (Address, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), "://")
	if !ok {
		scheme, rest = "munin", scheme
	}
	a := Address{Scheme: scheme}
	var err error
	switch scheme {
	case "munin":
		a.Host, a.Port, err = splitHost(strings.TrimSuffix(rest, "/"))
	case "ssh":
		where, command, slashed := strings.Cut(rest, "/")
		if user, host, named := strings.Cut(where, "@"); named {
			if a.User, where = user, host; !isUser(user) {
				err = fmt.Errorf("the user %s is none", quoted(user))
			}
		}
		if err == nil {
			a.Host, a.Port, err = splitHost(where)
		}
		if command = strings.TrimSpace(command); slashed && command != "" {
			a.Command = "/" + command
		}
	case "cmd":
		_, command, _ := strings.Cut(rest, "/") // Munin ignores user and host too
		a.Command = "/" + strings.TrimSpace(command)
		_, err = splitWords(a.Command)
		if err == nil && a.Command == "/" {
			err = errors.New("no command is named")
		}
	default:
		err = fmt.Errorf("%s is none of munin, ssh and cmd", quoted(scheme))
	}
	if err == nil && strings.ContainsFunc(a.Command, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		err = errors.New("the command holds a control character")
	}
	if err != nil {
		return Address{}, fmt.Errorf("address %s: %w", quoted(text), err)
	}
	return a, nil
}

func (a Address) String() string {
	host := a.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.User != "" {
		host = a.User + "@" + host
	}
	if a.Port != 0 {
		host += ":" + strconv.Itoa(int(a.Port))
	}
	return a.Scheme + "://" + host + a.Command
}

// splitHost takes HOST[:PORT] apart; an IPv6 address may stand without brackets where no port follows.
func splitHost(text string) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return ip.String(), 0, nil
	}
	host = text
	if strings.Contains(text, ":") {
		var number string
		if host, number, err = net.SplitHostPort(text); err != nil {
			return "", 0, fmt.Errorf("%s is no host and port", quoted(text))
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("the port %s is no number from 1 to 65535", quoted(number))
		}
		port = uint16(n)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), port, nil
	}
	// A dash in front would be an option of ssh.
	if !allOf(host, "-.") || host[0] == '-' {
		return "", 0, fmt.Errorf("%s is no name of a host", quoted(host))
	}
	return host, port, nil
}

func isUser(name string) bool { return allOf(name, "-.+") && name[0] != '-' }

// splitWords splits as a shell does that expands nothing.
func splitWords(text string) ([]string, error) {
	var words []string
	var word []byte
	inWord := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t':
			if inWord {
				words = append(words, string(word))
				word, inWord = word[:0], false
			}
		case '\'', '"':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("a quote %c is not closed", c)
			}
			inside := text[i+1 : i+1+end]
			if c == '"' && strings.ContainsAny(inside, "$`\\") {
				return nil, errors.New("no shell runs the command: $, ` and \\ inside double quotes mean nothing; use single quotes, or put it into a script")
			}
			word, inWord = append(word, inside...), true
			i += end + 1
		case '\\':
			if i++; i == len(text) {
				return nil, errors.New("a backslash at the end")
			}
			word, inWord = append(word, text[i]), true
		case '$', '`', '|', '&', ';', '<', '>', '(', ')', '*', '?', '#':
			return nil, fmt.Errorf("no shell runs the command: %c means nothing; quote it, or put the command into a script", c)
		default:
			word, inWord = append(word, c), true
		}
	}
	if inWord {
		words = append(words, string(word))
	}
	return words, nil
}
