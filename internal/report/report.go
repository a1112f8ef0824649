// Package report is what we tell AbuseIPDB or a hub: which decisions become reports, what a report says, when it is sent, and
// what is done about each answer.
//
// It does not speak HTTP and keeps no file: a sender sends, a keeper keeps. Queue is the rules and nothing else, without clock
// and without I/O; Reporter runs it.
//
// The one thing to know: an attempt is written down before it is sent, the answer behind it. An attempt without an answer may
// have reached the server. It is repeated only within the 15 minutes in which the server itself drops a double, and counted
// as unknown afterwards. So a kill at any moment loses and doubles nothing else.
package report

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/abuseipdb"
)

// Decision is what the guard tells of one of its decisions: numbers, and the name of a jail of our own configuration.
type Decision struct {
	N           int64 // the guard's number, growing
	Jail        string
	Prefix      netip.Prefix
	Addr        netip.Addr // the address that failed last; zero: take that of Prefix, if it is a single one
	Action      tocsin.Action
	Origin      tocsin.Origin
	At          time.Time
	Failures    int
	MaxRetry    int       // of the jail: a ban of fewer failures is not reported; 0: not known any more
	First, Last time.Time // of the failures; zero: At
	Known       bool      // somebody logged in from there within 90 days
	Allowed     bool
	WhileOff    bool // taken while reports were switched off
}

// Jail is how the bans of one jail are reported.
type Jail struct {
	Categories []int
}

// Options are the settings of a queue.
type Options struct {
	Jails map[string]Jail // whose bans are reported
	Hold  time.Duration   // how long a report waits for an unban, default 60 s

	// Account tells one key and server from another, such as a hash of both. A stop (401, 402, 403) lasts until it changes.
	Account uint64

	// Spare says why nothing may be told of an address now, Yes if it may. It is asked when a decision comes and again
	// before its report is sent, with the address or its /64: the allow list, own addresses, logins within 90 days. It may be
	// called from any goroutine. A Queue needs a quick one; a Reporter waits for it without keeping anybody else waiting.
	// nil: nobody is spared.
	Spare func(netip.Prefix) Why

	Most int            // reports in the queue, default 200,000, about 400 bytes each
	Rand func() float64 // 0 to 1, for jitter; nil: math/rand
}

func (o Options) checked() (Options, error) {
	var errs []error
	if o.Hold == 0 {
		o.Hold = time.Minute
	}
	if o.Hold < 0 || o.Hold > time.Hour {
		errs = append(errs, fmt.Errorf("a hold of %s is not between 0 and 1 h", o.Hold))
	}
	if o.Most == 0 {
		o.Most = 200_000
	}
	for name, j := range o.Jails {
		if err := abuseipdb.CheckCategories(j.Categories); err != nil {
			errs = append(errs, fmt.Errorf("jail %s: %w", name, err))
		}
	}
	if o.Spare == nil {
		o.Spare = func(netip.Prefix) Why { return Yes }
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o, errors.Join(errs...)
}

// Why says why a decision is not reported.
type Why uint8

// The reasons. Yes is none: it is reported.
const (
	Yes         Why = iota
	NotEvidence     // it rests on a list, an operator or another server
	NotAsked        // its jail is not one of those reported
	TooFew          // fewer failures than the jail's maxretry, or a single one
	NoAddress       // a network, or no address at all
	NotPublic
	Allowed
	Own
	LoggedIn // within 90 days
	TooOld   // longer ago than a report may wait
	WhileOff // taken while reports were switched off
	whys

	unasked = whys // Spare is to be asked first; nothing is counted by it
)

var whyNames = [whys]string{"yes", "not by evidence", "jail not reported", "too few failures", "no single address",
	"not a public address", "allowed", "own address", "logged in", "too old", "taken while reports were off"}

func (w Why) String() string {
	if w >= whys {
		return fmt.Sprintf("why(%d)", w)
	}
	return whyNames[w]
}

// widestV6 is the widest IPv6 prefix that stands for one offender. Bans of wider ones rest on bans inside them.
const widestV6 = 56

// Eligible says whether a ban is reported, and under which address. Times are on now's clock.
func (o *Options) Eligible(d *Decision, now time.Time) (netip.Addr, Why) {
	addr, why := o.byItself(d, now)
	if why != Yes {
		return addr, why
	}
	for _, p := range d.asked(addr) {
		if why := o.Spare(p); why != Yes {
			return addr, why
		}
	}
	return addr, Yes
}

// asked are the prefixes that Spare is asked about.
func (d *Decision) asked(addr netip.Addr) [2]netip.Prefix {
	return [2]netip.Prefix{d.Prefix.Masked(), keyOf(addr)}
}

// byItself is what Eligible says without Spare.
func (o *Options) byItself(d *Decision, now time.Time) (netip.Addr, Why) {
	addr, single := d.reported()
	_, asked := o.Jails[d.Jail]
	switch {
	case d.Origin != tocsin.ByJail:
		return addr, NotEvidence
	case !asked:
		return addr, NotAsked
	case d.WhileOff:
		return addr, WhileOff
	case d.Failures < max(d.MaxRetry, 2):
		return addr, TooFew
	case !single:
		return addr, NoAddress
	case !public(addr):
		return addr, NotPublic
	case d.Allowed:
		return addr, Allowed
	case d.Known:
		return addr, LoggedIn
	case now.Sub(d.At) >= giveUp:
		return addr, TooOld
	}
	return addr, Yes
}

// reported is the single address that a decision is about.
func (d *Decision) reported() (netip.Addr, bool) {
	p, addr := d.Prefix, d.Addr
	if !p.IsValid() {
		return addr, false
	}
	if !addr.IsValid() && p.IsSingleIP() {
		addr = p.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || !p.Contains(addr) {
		return addr, false
	}
	return addr, p.IsSingleIP() || addr.Is6() && p.Bits() >= widestV6
}

// keyOf is what there is one report of: an IPv4 address, an IPv6 /64.
func keyOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// special are the prefixes that no stranger on the internet has
// (https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry).
var special = func() (all []netip.Prefix) {
	for _, p := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()

var globalV6 = netip.MustParsePrefix("2000::/3")

// public says whether an address is one that somebody on the internet may have.
func public(a netip.Addr) bool {
	if a.Is6() && !globalV6.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
