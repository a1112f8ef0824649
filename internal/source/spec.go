package source

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Kind is which of the sources a Spec names.
type Kind uint8

// The kinds.
const (
	KindFile Kind = iota + 1
	KindJournal
	KindSyslog
)

func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindJournal:
		return "journal"
	case KindSyslog:
		return "syslog"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Spec is a source as the configuration names it, taken apart. Only the fields of its Kind are set.
type Spec struct {
	Kind Kind
	Text string // as written

	Path string // file: the path or pattern; syslog over unix: the socket

	Match []string // journal: terms as journalctl takes them, "+" between alternatives; empty: every entry

	Network string         // syslog: "udp", "tcp" or "unix"
	Addr    netip.AddrPort // syslog: where to listen
	Allow   []netip.Prefix // syslog: who may send; empty: anybody who reaches a loopback address
	Mode    uint32         // syslog: permissions of the unix socket
}

// SpecError says what is wrong with a source, and how to write it.
type SpecError struct{ Spec, Msg, Hint string }

func (e *SpecError) Error() string { return fmt.Sprintf("source %q: %s", e.Spec, e.Msg) }

const specHint = `write it like "file:/var/log/auth.log", "journal:_SYSTEMD_UNIT=ssh.service" or "syslog:udp://127.0.0.1:5514"`

// Parse takes a source apart as it is written in the configuration. Its error is a *SpecError.
//
//	file:/var/log/auth.log            an absolute path, or a pattern: * ? [a-z] in any part of it
//	journal:_SYSTEMD_UNIT=ssh.service journal matches, separated by spaces; "+" between alternatives
//	syslog:udp://127.0.0.1:5514       also tcp://; beyond loopback only with ?allow=192.0.2.0/24,2001:db8::/48
//	syslog:unix:///run/tocsin/log     a datagram socket; ?mode=0666 lets every user write to it
func Parse(spec string) (Spec, error) {
	kind, rest, ok := strings.Cut(spec, ":")
	if !ok {
		return Spec{}, &SpecError{spec, "no kind before a colon", specHint}
	}
	s := Spec{Text: spec}
	var msg, hint string
	switch kind {
	case "file":
		msg, hint = s.parseFile(rest)
	case "journal":
		msg, hint = s.parseJournal(rest)
	case "syslog":
		msg, hint = s.parseSyslog(rest)
	default:
		msg, hint = fmt.Sprintf("unknown kind %q", kind), specHint
	}
	if msg != "" {
		return Spec{}, &SpecError{spec, msg, hint}
	}
	return s, nil
}

func (s *Spec) parseFile(path string) (msg, hint string) {
	s.Kind = KindFile
	switch {
	case strings.ContainsRune(path, 0):
		return "the path contains a NUL byte", specHint
	case !filepath.IsAbs(path):
		return fmt.Sprintf("%q is no absolute path", path), "begin it with a slash: " + `"file:/var/log/auth.log"`
	case strings.HasSuffix(path, "/"):
		return "the path ends in a slash", `name the files in it: "file:` + path + `*.log"`
	}
	if _, err := filepath.Match(path, ""); err != nil {
		return "the pattern is not closed", `close "[" with "]", or write "\[" for the character itself`
	}
	s.Path = filepath.Clean(path)
	return "", ""
}

const journalHint = `write matches like "journal:_SYSTEMD_UNIT=ssh.service _UID=0"; "+" stands between alternatives`

func (s *Spec) parseJournal(text string) (msg, hint string) {
	s.Kind = KindJournal
	s.Match = strings.Fields(text)
	return checkMatches(s.Match)
}

// checkMatches sees to it that every term is a match and nothing that journalctl would take for an option or a path.
func checkMatches(terms []string) (msg, hint string) {
	open := true // a "+" needs a match on both sides
	for _, t := range terms {
		if t == "+" {
			if open {
				return `"+" has no match before it`, journalHint
			}
			open = true
			continue
		}
		field, value, ok := strings.Cut(t, "=")
		if !ok || !isFieldName(field) {
			return fmt.Sprintf("%q is no journal match", t), journalHint
		}
		if value == "" {
			return fmt.Sprintf("the match %q has no value", t), journalHint
		}
		open = false
	}
	if len(terms) > 0 && open {
		return `"+" has no match behind it`, journalHint
	}
	return "", ""
}

// isFieldName follows systemd's journal_field_valid: upper case, digits and underscores, no digit first, 64 at most.
func isFieldName(s string) bool {
	if s == "" || len(s) > 64 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

const syslogHint = `write it like "syslog:udp://127.0.0.1:5514", "syslog:tcp://[::1]:5514" or "syslog:unix:///run/tocsin/log"`

func (s *Spec) parseSyslog(text string) (msg, hint string) {
	s.Kind = KindSyslog
	network, rest, ok := strings.Cut(text, "://")
	if !ok {
		return "no network before \"://\"", syslogHint
	}
	place, query, _ := strings.Cut(rest, "?")
	s.Network = network
	switch network {
	case "udp", "tcp":
		addr, err := netip.ParseAddrPort(place)
		if err != nil {
			return fmt.Sprintf("%q is no address with a port", place), syslogHint
		}
		if addr.Addr().Zone() != "" {
			return "an address with a zone cannot be listened on", syslogHint
		}
		s.Addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	case "unix":
		if !filepath.IsAbs(place) || len(place) > 107 { // sockaddr_un.sun_path, with its NUL
			return fmt.Sprintf("%q is no absolute path of at most 107 bytes", place), syslogHint
		}
		s.Path, s.Mode = filepath.Clean(place), 0o600
	default:
		return fmt.Sprintf("unknown network %q", network), syslogHint
	}
	if msg, hint := s.parseSyslogQuery(query); msg != "" {
		return msg, hint
	}
	if s.Addr.IsValid() && !s.Addr.Addr().IsLoopback() && len(s.Allow) == 0 {
		return fmt.Sprintf("%s is no loopback address, and nobody is said to be allowed", s.Addr.Addr()),
			`say who may send: "syslog:` + network + "://" + place + `?allow=192.0.2.0/24"`
	}
	return "", ""
}

func (s *Spec) parseSyslogQuery(query string) (msg, hint string) {
	if query == "" {
		return "", ""
	}
	for _, kv := range strings.Split(query, "&") {
		key, value, _ := strings.Cut(kv, "=")
		switch {
		case key == "allow" && s.Network != "unix":
			for _, text := range strings.Split(value, ",") {
				p, err := parsePrefix(text)
				if err != nil {
					return fmt.Sprintf("allow: %q is no address or prefix", text), `write it like "?allow=192.0.2.0/24,2001:db8::7"`
				}
				s.Allow = append(s.Allow, p)
			}
		case key == "mode" && s.Network == "unix":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil || mode > 0o777 {
				return fmt.Sprintf("mode: %q are no permissions", value), `write them in octal: "?mode=0660"`
			}
			s.Mode = uint32(mode)
		default:
			return fmt.Sprintf("unknown setting %q for %s", key, s.Network), syslogHint
		}
	}
	return "", ""
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}
