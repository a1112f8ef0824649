package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Watch says what is supervised.
type Watch struct {
	Enabled      bool
	Group, Name  string // of this machine; "": no group, the host name
	Interval     time.Duration
	MuninPlugins string             // folder; "": none is run
	MuninNode    string             // "ADDRESS:PORT" where we are a munin-node; "": nowhere
	MuninAllow   []netip.Prefix     // who may ask there
	MuninConf    string             // path; "": none
	Capacity     map[string]float64 // of network cards, in bytes per second
	Country      string             // path of a database; "": none
	Sites        []string           // URLs
	Domains      []string
	Deadman      string   // URL that is asked while all goes on; "": none
	Nodes        []Node   // in the order of the file
	Remotes      []Remote // in the order of the file
}

// Node is one [[watch.node]]: another server that is asked.
type Node struct {
	Name, Group, Address string
	Interval             time.Duration
	TLS                  bool
	CA, Certificate, Key string // paths; "": none

	where map[string]Pos
}

// Remote is one [[watch.remote]]: a store that every sample is written to.
type Remote struct {
	URL, TokenFile string

	where map[string]Pos
}

// Pos is where the value of a key of this node stands; for a key that is left at its default it is where the node begins.
func (n *Node) Pos(key string) Pos { return placeOf(n.where, key) }

// Pos is where the value of a key of this remote stands; for a key that is left at its default it is where the remote begins.
func (m *Remote) Pos(key string) Pos { return placeOf(m.where, key) }

func placeOf(where map[string]Pos, key string) Pos {
	if p, ok := where[key]; ok {
		return p
	}
	return where[""]
}

// finishWatch does what needs a whole [[watch.node]] or [[watch.remote]].
func (r *reader) finishWatch() {
	type place struct{ group, name string }
	first := map[place]int{}
	for _, s := range r.nodes {
		n := s.target.node
		if _, ok := s.seen["name"]; !ok {
			r.fail(s.at, `write it like name = "mail1"`, "node without a name")
		} else if line, ok := first[place{n.Group, n.Name}]; ok && n.Name != "" {
			r.fail(s.seen["name"], "history is kept by group and name: give it another one", "a second node %q of this group, the first is in line %d", n.Name, line)
		} else {
			first[place{n.Group, n.Name}] = r.pos(s.seen["name"]).Line
		}
		if _, ok := s.seen["address"]; !ok {
			r.fail(s.at, `write it like address = "munin://192.0.2.10:4949"`, "node without an address")
		}
		if (n.Certificate == "") != (n.Key == "") {
			r.fail(s.at, "a certificate is of use only with its key", "node with one of tls_certificate and tls_key")
		}
		r.config.Watch.Nodes = append(r.config.Watch.Nodes, *n)
	}
	for _, s := range r.remotes {
		if _, ok := s.seen["url"]; !ok {
			r.fail(s.at, `write it like url = "https://prometheus.example/api/v1/write"`, "remote without a url")
		}
		r.config.Watch.Remotes = append(r.config.Watch.Remotes, *s.target.remote)
	}
}

// listOf takes a list of texts that check lets pass, each once.
func listOf(field func(target) *[]string, check func(string) error) setter {
	return func(a *assignment, v value) {
		if !a.is(v, list) || !a.fits(v, maxSites) {
			return
		}
		var all []string
		for _, item := range v.items {
			if item.kind != text {
				a.fail(item, "write each between quotes", "holds texts, not %s", described(item))
			} else if err := check(item.text); err != nil {
				a.reject(item, err)
			} else if !slices.Contains(all, item.text) {
				all = append(all, item.text)
			}
		}
		*field(a.target) = all
	}
}

// setCapacity takes a table of network cards with what they carry.
func setCapacity(a *assignment, v value) {
	const hint = `write it like capacity = { eth0 = "500M" }; the units are k, M and G, bits per second`
	if v.kind != inlineTable {
		a.fail(v, hint, "is a table of network cards, not %s", described(v))
		return
	}
	if len(v.fields) > maxPorts {
		a.fail(v, "", "has %d cards, more than %d", len(v.fields), maxPorts)
		return
	}
	all := map[string]float64{}
	for _, f := range v.fields {
		name := strings.Join(f.path, ".")
		bits, ok := parseBits(f.value.text)
		switch {
		case !cardForm.MatchString(name):
			a.r.fail(f.at, "cards are named as ip link shows them", "capacity holds %q, which is no network card", clip(name))
		case f.value.kind != text && f.value.kind != integer || !ok:
			a.fail(f.value, hint, "holds %s, which is no number of bits per second", described(f.value))
		default:
			all[name] = bits / 8
		}
	}
	a.target.config.Watch.Capacity = all
}

// parseBits reads a number with k, M or G behind it.
func parseBits(s string) (bits float64, ok bool) {
	factor := 1.0
	if i := strings.IndexAny(s, "kMG"); i >= 0 && i == len(s)-1 {
		factor = map[byte]float64{'k': 1e3, 'M': 1e6, 'G': 1e9}[s[i]]
		s = s[:i]
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	bits = n * factor
	return bits, err == nil && bits >= 1 && bits <= 1e15
}

var cardForm = regexp.MustCompile(`^[^\x00-\x20/\x7f]{1,15}$`) // as the kernel takes them (net/core/dev.c, dev_valid_name)

// Bounds of names. They are checked by hand: a regular expression that counts so far costs a megabyte.
const (
	maxNodeName    = 254
	maxGroupLevel  = 60
	maxGroupLevels = 8
	maxDomain      = 253
	maxDomainPart  = 63
)

// isPart says whether s is letters, digits and dashes, with neither a dash nor nothing at its ends.
func isPart(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' && i > 0 && i < len(s)-1) {
			return false
		}
	}
	return s != ""
}

// isNodeName says whether s is a name for a server, as Munin has them: letters, digits, points and dashes.
func isNodeName(s string) bool {
	if len(s) > maxNodeName || s == "" || strings.Trim(s[:1]+s[len(s)-1:], "-.") != s[:1]+s[len(s)-1:] {
		return false
	}
	return isPart("x" + strings.ReplaceAll(s, ".", "-") + "x")
}

func isGroup(s string) bool {
	levels := strings.Split(s, ";")
	for _, level := range levels {
		if level == "" || level == "." || level == ".." || utf8.RuneCountInString(level) > maxGroupLevel || strings.ContainsFunc(level, func(r rune) bool {
			return r < 0x20 || r == 0x7f || strings.ContainsRune(`:/\"`, r)
		}) {
			return false
		}
	}
	return len(levels) <= maxGroupLevels
}

func isDomain(s string) bool {
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if !isPart(part) || len(part) > maxDomainPart {
			return false
		}
	}
	return len(parts) > 1 && len(parts[len(parts)-1]) > 1 && len(s) <= maxDomain
}

func checkNode(s string) error {
	if isNodeName(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a server", clip(s)), Hint: "letters, digits, points and dashes"}
}

func checkGroup(s string) error {
	if isGroup(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a group", clip(s)), Hint: `up to 60 letters a level without / : " and \, up to 8 levels with ; between`}
}

// checkNodeAddress wants a way to a munin-node; whether the program of a cmd: is there, the poll will tell.
func checkNodeAddress(s string) error {
	u, err := url.Parse(s)
	if err == nil && hasPassword(u) {
		return errPassword("use a key of ssh's")
	}
	ok := err == nil && len(s) <= 2000 && u.RawQuery == "" && u.Fragment == ""
	switch {
	case !ok:
	case u.Scheme == "munin":
		ok = u.Hostname() != "" && u.User == nil && strings.Trim(u.Path, "/") == ""
	case u.Scheme == "ssh":
		ok = u.Hostname() != "" && u.Hostname()[0] != '-'
	case u.Scheme == "cmd":
		ok = u.Host == "" && len(u.Path) > 1
	default:
		ok = false
	}
	if ok {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not where a munin-node answers", clip(s)), Hint: `write "munin://HOST:PORT", "ssh://USER@HOST/COMMAND" or "cmd:///COMMAND"`}
}

func hasPassword(u *url.URL) bool {
	_, ok := u.User.Password()
	return ok
}

func errPassword(hint string) *Error {
	return &Error{Msg: "holds a password, which would be shown with it", Hint: hint}
}

func checkSite(s string) error {
	u, err := url.Parse(s)
	if err == nil && hasPassword(u) {
		return errPassword("name a page that asks for none")
	}
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && u.Fragment == "" && len(s) <= 2000 {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("holds %q, which is no address of a site", clip(s)), Hint: `write it like "https://asso.example/"`}
}

func checkDomain(s string) error {
	if isDomain(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("holds %q, which is no domain", clip(s)), Hint: `write it like "asso.example"`}
}

// checkRemote wants a place where the token, and how a machine does, cannot be read on the way.
func checkRemote(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Fragment != "" || len(s) > 2000:
		return &Error{Msg: fmt.Sprintf("%q is not where samples can be written", clip(s)), Hint: `write it like "https://prometheus.example/api/v1/write"`}
	case u.User != nil:
		return errPassword("put a token into a file, and name it as token_file")
	case u.Scheme == "http" && !ownHost(u.Hostname()):
		return &Error{Msg: fmt.Sprintf("%q is not protected on its way", clip(s)), Hint: "write https://"}
	}
	return nil
}
