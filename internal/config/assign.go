package config

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tocsin"
)

// target is what a key writes to: the configuration, or one of several tables of it.
type target struct {
	config  *Config
	jail    *Jail    // nil outside a [[jail]]
	list    *List    // nil outside a [[list]]
	node    *Node    // nil outside a [[watch.node]]
	remote  *Remote  // nil outside a [[watch.remote]]
	rule    *Rule    // nil outside a [[rule]]
	contact *Contact // nil outside a [[contact]]
}

// name is that of the jail, the list, the node or the contact.
func (t target) name() string {
	switch {
	case t.list != nil:
		return t.list.Name
	case t.node != nil:
		return t.node.Name
	case t.contact != nil:
		return t.contact.Name
	}
	return t.jail.Name
}

// mark remembers where key is set.
func (t target) mark(key *Key, pos Pos) {
	switch {
	case t.jail != nil:
		t.jail.where[key.Name] = pos
	case t.list != nil:
		t.list.where[key.Name] = pos
	case t.node != nil:
		t.node.where[key.Name] = pos
	case t.remote != nil:
		t.remote.where[key.Name] = pos
	case t.rule != nil:
		t.rule.where[key.Name] = pos
	case t.contact != nil:
		t.contact.where[key.Name] = pos
	case key.Table != "":
		t.config.where[key.Table+"."+key.Name] = pos
	default:
		t.config.where[key.Name] = pos
	}
}

// assignment is one key = value on its way into its field.
type assignment struct {
	r      *reader
	target target
	key    *Key
}

// setter checks a value and writes it to its field, or fails and leaves the field alone.
type setter func(a *assignment, v value)

// fail notes that v is not what the key takes.
func (a *assignment) fail(v value, hint, format string, args ...any) {
	a.r.fail(v.at, hint, "%s %s", a.key.Name, fmt.Sprintf(format, args...))
}

// reject notes what a check of v found, an [*Error] without place.
func (a *assignment) reject(v value, err error) {
	e := asError(a.r.pos(v.at), err)
	e.Msg = a.key.Name + " " + e.Msg
	a.r.errs = append(a.r.errs, e)
}

// is tells whether v is of a kind, and fails if it is not.
func (a *assignment) is(v value, want kind) bool {
	if v.kind == want {
		return true
	}
	example := a.key.Default
	if example == "" {
		example = a.key.Example
	}
	a.fail(v, fmt.Sprintf("write it like %s = %s", a.key.Name, example), "is %s, not %s", want, v.kind)
	return false
}

// texts takes any text that check lets pass. check answers an [*Error] without place.
func texts(field func(target) *string, check func(string) error) setter {
	return func(a *assignment, v value) {
		if !a.is(v, text) {
			return
		}
		if err := check(v.text); err != nil {
			a.reject(v, err)
			return
		}
		*field(a.target) = v.text
	}
}

func booleans(field func(target) *bool) setter {
	return func(a *assignment, v value) {
		if a.is(v, boolean) {
			*field(a.target) = v.text == "true"
		}
	}
}

// wholes takes whole numbers from lo to hi.
func wholes(field func(target) *int, lo, hi int) setter {
	return func(a *assignment, v value) {
		if !a.is(v, integer) {
			return
		}
		n, ok := parseWhole(v.text)
		if !ok || n < lo || n > hi {
			a.fail(v, "", "%s is not between %d and %d", clip(v.text), lo, hi)
			return
		}
		*field(a.target) = n
	}
}

// parseWhole reads a TOML integer: Go's syntax but for the sign before 0x, which the parser has refused.
func parseWhole(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 0, 64)
	return int(n), err == nil
}

// floats takes numbers from lo to hi, with or without a point.
func floats(field func(target) *float64, lo, hi float64) setter {
	return func(a *assignment, v value) {
		if v.kind != integer && !a.is(v, float) {
			return
		}
		x, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
		if err != nil || math.IsNaN(x) || x < lo || x > hi {
			a.fail(v, "", "%s is not between %g and %g", clip(v.text), lo, hi)
			return
		}
		*field(a.target) = x
	}
}

// Which durations a key takes beside the positive ones with an end.
const (
	plain     = 0
	orForever = 1 // "forever"
	orZero    = 2 // "0s"
)

// durations takes durations of at most most, and the special ones of which it is said.
func durations(field func(target) *time.Duration, most time.Duration, special int) setter {
	return func(a *assignment, v value) {
		switch {
		case v.kind == integer && v.text == "-1" && special&orForever != 0:
			a.fail(v, `write "forever"`, "-1 is not a duration")
			return
		case v.kind == integer:
			a.fail(v, fmt.Sprintf(`write the unit with it, between quotes: %s = "%ss"`, a.key.Name, clip(v.text)), "%s is not a duration", clip(v.text))
			return
		case !a.is(v, text):
			return
		case special&orZero != 0 && (v.text == "0s" || v.text == "0"):
			*field(a.target) = 0
			return
		}
		d, err := ParseDuration(v.text)
		switch {
		case err != nil:
			a.reject(v, err)
		case d == Forever && special&orForever == 0:
			a.fail(v, fmt.Sprintf("write it like %s = %s", a.key.Name, a.key.Default), "cannot be forever")
		case d != Forever && d > most:
			a.fail(v, fmt.Sprintf("at most %q", FormatDuration(most)), "%q is too long", v.text)
		default:
			*field(a.target) = d
		}
	}
}

// within takes durations from least to most.
func within(field func(target) *time.Duration, least, most time.Duration) setter {
	return func(a *assignment, v value) {
		before, was := len(a.r.errs), *field(a.target)
		durations(field, maxDuration, plain)(a, v)
		if d := *field(a.target); len(a.r.errs) == before && (d < least || d > most) {
			*field(a.target) = was
			a.fail(v, "", "%q is not between %s and %s", v.text, FormatDuration(least), FormatDuration(most))
		}
	}
}

// prefixes takes a list of addresses and prefixes.
func prefixes(field func(target) *[]netip.Prefix) setter {
	return func(a *assignment, v value) {
		if !a.is(v, list) || !a.fits(v, maxAllow) {
			return
		}
		var all []netip.Prefix
		for _, item := range v.items {
			if item.kind != text {
				a.fail(item, `write each between quotes, like "192.0.2.7"`, "holds addresses and prefixes, not %s", item.kind)
				continue
			}
			p, err := ParsePrefix(item.text)
			if err != nil {
				a.reject(item, err)
				continue
			}
			if widest := WidestPrefix(p.Addr()); p.Bits() < widest {
				a.fail(item, "name narrower ones", "holds %s, which is wider than /%d: an allow list that holds the internet guards nothing", p, widest)
				continue
			}
			all = append(all, p)
		}
		*field(a.target) = all
	}
}

// fits tells whether a list is within its bound, and fails if it is not.
func (a *assignment) fits(v value, most int) bool {
	if len(v.items) > most {
		a.fail(v, "", "has %d entries, more than %d", len(v.items), most)
		return false
	}
	return true
}

func setVerdict(a *assignment, v value) {
	switch {
	case !a.is(v, text):
	case v.text == tocsin.Drop.String():
		a.target.jail.Verdict = tocsin.Drop
	case v.text == tocsin.Reject.String():
		a.target.jail.Verdict = tocsin.Reject
	default:
		a.fail(v, `write "drop" or "reject"`, "%q is not a verdict", clip(v.text))
	}
}

// setPorts takes "auto", "all", or a list of port numbers.
func setPorts(a *assignment, v value) {
	const hint = `write it like ports = [22, 2200], ports = "auto" or ports = "all"`
	switch {
	case v.kind == text && v.text == "auto":
		a.target.jail.Ports = Ports{Auto: true}
	case v.kind == text && v.text == "all":
		a.target.jail.Ports = Ports{All: true}
	case v.kind == text:
		a.fail(v, hint, "%q is neither auto nor all", clip(v.text))
	case v.kind != list:
		a.fail(v, hint, "is a list, auto or all, not %s", v.kind)
	default:
		if ports, ok := a.portList(v); ok {
			a.target.jail.Ports = Ports{List: ports}
		}
	}
}

// portList takes a list of port numbers; ok is false if it is none, which is told.
func (a *assignment) portList(v value) (ports []uint16, ok bool) {
	if len(v.items) == 0 {
		a.fail(v, `for every port write ports = "all"`, "is an empty list: a ban would cover nothing")
		return nil, false
	}
	if !a.fits(v, maxPorts) {
		return nil, false
	}
	for _, item := range v.items {
		n, ok := parseWhole(item.text)
		if item.kind != integer || !ok || n < 1 || n > math.MaxUint16 {
			a.fail(item, "ports are numbers from 1 to 65535", "holds %s, which is no port", described(item))
			continue
		}
		ports = append(ports, uint16(n))
	}
	return tocsin.SortPorts(ports), true
}

// described is a value for a message: as written where that is short and plain.
func described(v value) string {
	switch v.kind {
	case integer, float, boolean:
		return clip(v.text)
	case text:
		return strconv.Quote(clip(v.text))
	}
	return string(v.kind)
}

// setSources takes "auto" or a list of sources. What follows the kind of a source is for the source to judge.
func setSources(a *assignment, v value) {
	const hint = `write it like sources = ["file:/var/log/auth.log"], or sources = "auto"`
	switch {
	case v.kind == text && v.text == "auto":
		a.target.jail.Sources = nil
		return
	case v.kind != list:
		a.fail(v, hint, "is a list or auto, not %s", described(v))
		return
	case len(v.items) == 0:
		a.fail(v, hint, "is an empty list: there would be nothing to read")
		return
	case !a.fits(v, maxSources):
		return
	}
	var all []string
	for i, item := range v.items {
		a.target.jail.where[fmt.Sprintf("sources[%d]", i)] = a.r.pos(item.at)
		switch {
		case item.kind != text:
			a.fail(item, hint, "holds texts, not %s", item.kind)
		case strings.HasPrefix(item.text, "/"):
			a.fail(item, fmt.Sprintf("for a file write %q", clip("file:"+item.text)), "%q does not say what kind of source it is", clip(item.text))
		case len(item.text) > 4096 || !sourceForm.MatchString(item.text):
			a.fail(item, "a source begins with file:, journal: or syslog:", "%q is not a source", clip(item.text))
		case slices.Contains(all, item.text):
			a.fail(item, "its lines would count twice", "names %q twice", clip(item.text))
		default:
			all = append(all, item.text)
		}
	}
	a.target.jail.Sources = all
}

var sourceForm = regexp.MustCompile(`^[a-z]+:[^\x00-\x1f\x7f]+$`)

// Bounds of names. They are checked by hand: a regular expression that counts so far costs a megabyte in each process.
const (
	maxName       = 48
	maxFilterName = 100
	maxFilterArgs = 1000 // characters of a filter's options
)

// isWord says whether s is one to most letters, digits, and _ . - behind the first.
func isWord(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && (c == '_' || c == '.' || c == '-')) {
			return false
		}
	}
	return true
}

func isName(s string) bool { return isWord(s, maxName) }

// isFilter says whether s is a filter's name, with options in brackets or without.
func isFilter(s string) bool {
	name, rest, options := strings.Cut(s, "[")
	if options {
		args, closed := strings.CutSuffix(rest, "]")
		n := utf8.RuneCountInString(args)
		if !closed || n < 1 || n > maxFilterArgs || strings.ContainsFunc(args, func(c rune) bool { return c < ' ' || c == 0x7f || c == '[' || c == ']' }) {
			return false
		}
	}
	return isWord(name, maxFilterName)
}

func checkName(s string) error {
	if isName(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a jail", clip(s)), Hint: "up to 48 letters, digits, and _ . - behind the first"}
}

func checkFilter(s string) error {
	if isFilter(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a filter", clip(s)), Hint: `write its name, with options as in "sshd[mode=aggressive]"`}
}

func checkPath(s string) error {
	switch {
	case !filepath.IsAbs(s):
		return &Error{Msg: fmt.Sprintf("%q is not a whole path", clip(s)), Hint: `begin it with "/"`}
	case len(s) > 4095 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return &Error{Msg: fmt.Sprintf("%q is not a path", clip(s))}
	}
	return nil
}

// orNoPath takes a path, or nothing.
func orNoPath(s string) error {
	if s == "" {
		return nil
	}
	return checkPath(s)
}

// checkLog takes "auto", "off" or a path.
func checkLog(s string) error {
	if s == "auto" || s == "off" {
		return nil
	}
	if err := checkPath(s); err != nil {
		return &Error{Msg: fmt.Sprintf("%q is neither auto nor off nor a whole path", clip(s)), Hint: `begin a path with "/"`}
	}
	return nil
}

// checkSocket knows the bound of a unix socket's path: 108 bytes with its NUL (unix(7), sun_path).
func checkSocket(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if len(s) > 107 {
		return &Error{Msg: fmt.Sprintf("has %d bytes, the path of a socket may have 107", len(s))}
	}
	return nil
}

func checkListen(s string) error {
	if s == "" {
		return nil
	}
	addr := s
	if port, ok := strings.CutPrefix(s, "localhost:"); ok {
		addr = "127.0.0.1:" + port
	}
	if at, err := netip.ParseAddrPort(addr); err != nil || at.Port() == 0 {
		return &Error{
			Msg:  fmt.Sprintf("%q is not an address with a port", clip(s)),
			Hint: `write it like "127.0.0.1:8044"; for every address "[::]:8044"; "" switches it off`,
		}
	}
	return nil
}

func checkTimezone(s string) error {
	if s == "" {
		return nil
	}
	if _, err := time.LoadLocation(s); err == nil && s != "Local" {
		return nil
	}
	if _, err := time.LoadLocation("Europe/Paris"); err != nil {
		return &Error{Msg: fmt.Sprintf("%q is not known here", clip(s)), Hint: "this machine knows no time zones: install tzdata"}
	}
	return &Error{Msg: fmt.Sprintf("%q is not a time zone", clip(s)), Hint: `write it like "Europe/Paris" or "UTC"`}
}
