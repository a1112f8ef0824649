package api

import (
	"fmt"
	"net/netip"
	"time"

	"tocsin"
)

// The schemas. A field may be added to an answer under the same number; a field that goes or changes its meaning makes a
// new one.
const (
	SchemaStatus  = "tocsin.status/1"
	SchemaBans    = "tocsin.bans/1"
	SchemaChange  = "tocsin.change/1"
	SchemaAllowed = "tocsin.allowed/1"
	SchemaWhy     = "tocsin.why/1"
	SchemaDoctor  = "tocsin.doctor/1"
	SchemaError   = "tocsin.error/1"
	SchemaJail    = "tocsin.jail/1"
	SchemaBanned  = "tocsin.banned/1"
	SchemaTally   = "tocsin.tally/1"
)

// What the guard does with the firewall (Status.Mode).
const (
	ModeEnforcing = "enforcing"
	ModeObserving = "observing"
	ModeOff       = "off"
)

// How much a finding weighs. A note is worth knowing and changes no exit code.
const (
	SeverityNote    = "note"
	SeverityWarning = "warning"
	SeverityError   = "error"
)

// Status tells what the guard is doing.
type Status struct {
	Schema     string     `json:"schema"`
	Version    string     `json:"version"`
	Started    time.Time  `json:"started"`
	Config     string     `json:"config"` // the file, "" for the built-in configuration
	Mode       string     `json:"mode"`   // enforcing, observing, off
	ModeReason string     `json:"mode_reason"`
	OffUntil   *time.Time `json:"off_until"`
	BansNow    int        `json:"bans_now"`
	BansDay    int        `json:"bans_24h"`
	Jails      []Jail     `json:"jails"`
	Sources    []Source   `json:"sources"`
	Warnings   []Finding  `json:"warnings"`
}

// Jail tells what one jail counts.
type Jail struct {
	Name      string   `json:"name"`
	Filter    string   `json:"filter"`
	Sources   []string `json:"sources"`
	Ports     []uint16 `json:"ports"` // empty: all
	MaxRetry  int      `json:"maxretry"`
	FindTime  string   `json:"findtime"`
	BanTime   string   `json:"bantime"`
	Addresses int      `json:"addresses"` // counted at present
	Failures  uint64   `json:"failures"`  // since the start
	Logins    uint64   `json:"logins"`
	Bans      uint64   `json:"bans"`
	BansNow   int      `json:"bans_now"`
	Spared    uint64   `json:"spared"`  // failures of addresses that are never banned
	Verdict   string   `json:"verdict"` // drop, reject, pass: in no firewall
}

// JailDetail is one jail with everything it was told.
type JailDetail struct {
	Schema string `json:"schema"`
	Jail
	TotalBanned   uint64       `json:"total_banned"` // since the start, by whomever, restored ones included
	FindSeconds   float64      `json:"find_seconds"`
	BanSeconds    float64      `json:"ban_seconds"` // of the first ban; 0: without end
	Growing       bool         `json:"growing"`     // bans grow longer
	MaxMatches    int          `json:"max_matches"`
	MaxLines      int          `json:"max_lines"`
	Prefregex     string       `json:"prefregex"` // this and the next two with their tags replaced, as Python would read them
	Failregex     []string     `json:"failregex"`
	Ignoreregex   []string     `json:"ignoreregex"`
	Datepattern   string       `json:"datepattern"`   // "" for the default ones
	Journalmatch  []string     `json:"journal_match"` // one alternative each; empty if no journal is read
	Files         []string     `json:"files"`         // logs that are read, patterns expanded
	UseDNS        string       `json:"use_dns"`
	LogEncoding   string       `json:"log_encoding"`
	LogTimezone   string       `json:"log_timezone"`
	IgnoreSelf    bool         `json:"ignore_self"`
	IgnoreIP      []string     `json:"ignore_ip"` // what this jail never bans, beside the allow list
	IgnoreCommand string       `json:"ignore_command"`
	IgnoreCache   string       `json:"ignore_cache"`
	Actions       []JailAction `json:"actions"`
}

// JailAction is what a jail does with a ban.
type JailAction struct {
	Name       string            `json:"name"`
	Native     bool              `json:"native"`     // done by our own firewall
	Properties map[string]string `json:"properties"` // as the configuration gives them
	Runs       uint64            `json:"runs"`       // commands run since the start
	Failures   uint64            `json:"failures"`   // of these, the ones that failed
	Dropped    uint64            `json:"dropped"`    // bans it was never told of, for its queue was full
	LastError  string            `json:"last_error"`
}

// Banned lists who is banned now, by jail.
type Banned struct {
	Schema string       `json:"schema"`
	Jails  []BannedJail `json:"jails"` // every jail, in the order of the configuration
}

// BannedJail is one jail's part of Banned.
type BannedJail struct {
	Name   string     `json:"name"`
	Banned []BannedID `json:"banned"` // by the end of the ban
}

// BannedID is one ban in few words.
type BannedID struct {
	ID    string     `json:"id"`
	At    time.Time  `json:"at"`
	Until *time.Time `json:"until"` // null: without end
}

// Source tells how far a log is read.
type Source struct {
	Name     string     `json:"name"`
	Lines    uint64     `json:"lines"`
	Bytes    uint64     `json:"bytes"`
	Cut      uint64     `json:"cut"`       // lines that were too long
	Dropped  uint64     `json:"dropped"`   // lines that a socket could not hand on in time
	CaughtUp bool       `json:"caught_up"` // what was there at the start has been read
	LastLine *time.Time `json:"last_line"`
	Error    string     `json:"error"`
}

// Finding is one thing that doctor would have somebody look at.
type Finding struct {
	Code     string `json:"code"`     // stable; `tocsin explain CODE` tells more
	Severity string `json:"severity"` // note (changes no exit code), warning, error
	Text     string `json:"text"`
	Fix      string `json:"fix"` // what to type or change
}

// Doctor is the answer to `tocsin doctor`.
type Doctor struct {
	Schema   string    `json:"schema"`
	Checked  []string  `json:"checked"`
	Findings []Finding `json:"findings"`
}

// Ban is a ban, running or over.
type Ban struct {
	Jail      string     `json:"jail"`
	ID        string     `json:"id"`
	Prefix    string     `json:"prefix"` // "" if the id is no address
	Active    bool       `json:"active"`
	At        time.Time  `json:"at"`
	Until     *time.Time `json:"until"` // null: without end
	EndedAt   *time.Time `json:"ended_at"`
	EndedBy   string     `json:"ended_by"` // who lifted it early, "" if it ran out
	EndReason string     `json:"end_reason"`
	Verdict   string     `json:"verdict"`
	Ports     []uint16   `json:"ports"` // empty: all
	Origin    string     `json:"origin"`
	By        string     `json:"by"`
	Reason    string     `json:"reason"`
	Failures  int        `json:"failures"`
	Evidence  []Evidence `json:"evidence"`
}

// Evidence is a line that a ban rests on. Control characters in Text are escaped.
type Evidence struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"`
	User   string    `json:"user"`
	Text   string    `json:"text"`
}

// Bans is a list of bans, the newest first.
type Bans struct {
	Schema string `json:"schema"`
	Mode   string `json:"mode"`
	Bans   []Ban  `json:"bans"`
	More   bool   `json:"more"` // there are older ones than the limit let through
}

// BansQuery chooses bans.
type BansQuery struct {
	Addr   netip.Addr    // zero: all
	Jail   string        // "": all
	All    bool          // also those that are over
	Since  time.Duration // 0: no bound
	Limit  int           // 0: 1000, or 100 with the evidence; at most ten times as many
	Detail bool          // with the evidence
}

// Tally counts bans, for graphs. However many there are it is short.
type Tally struct {
	Schema string     `json:"schema"`
	Counts []BanCount `json:"counts"`
	Addrs  PackedBans `json:"addrs"` // whom they are about, of at most 200,000; null unless it was asked for
}

// BanCount counts the bans of one jail on the same ports.
type BanCount struct {
	Jail   string   `json:"jail"`
	Ports  []uint16 `json:"ports"` // empty: all
	Active int      `json:"active"`
	Day    int      `json:"day"` // taken within 24 hours
}

// PackedBans are bans in few bytes each: one with bits, and the 4 or 16 of the address.
type PackedBans []byte

// The bits.
const (
	packedActive = 1 << iota
	packedDay
	packed6
)

// Add adds a ban.
func (p *PackedBans) Add(addr netip.Addr, active, day bool) {
	var bits byte
	if active {
		bits |= packedActive
	}
	if day {
		bits |= packedDay
	}
	if addr.Is6() {
		bits |= packed6
	}
	*p = append(append(*p, bits), addr.AsSlice()...)
}

// All are the bans. What is cut off is left out.
func (p PackedBans) All(yield func(addr netip.Addr, bits PackedBits) bool) {
	for len(p) > 0 {
		n := 1 + 4
		if p[0]&packed6 != 0 {
			n = 1 + 16
		}
		if len(p) < n {
			return
		}
		addr, _ := netip.AddrFromSlice(p[1:n])
		if !yield(addr, PackedBits(p[0])) {
			return
		}
		p = p[n:]
	}
}

// PackedBits say how it is with a ban.
type PackedBits byte

// Active says whether it is in force.
func (b PackedBits) Active() bool { return b&packedActive != 0 }

// Day says whether it was taken within 24 hours.
func (b PackedBits) Day() bool { return b&packedDay != 0 }

// BanRequest asks to ban somebody by hand.
type BanRequest struct {
	Prefix     string  `json:"prefix"`
	Jail       string  `json:"jail"`    // "": the jail "operator", on all ports
	Seconds    float64 `json:"seconds"` // 0: without end
	Reason     string  `json:"reason"`
	By         string  `json:"by"`
	AcceptRisk string  `json:"accept_risk"` // "lockout": ban although a session of this address is open
}

// UnbanRequest asks to lift bans.
type UnbanRequest struct {
	Prefix string `json:"prefix"` // an address lifts every ban that contains it; a prefix lifts the bans inside it
	All    bool   `json:"all"`
	Jail   string `json:"jail"` // "": all jails
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// AllowRequest asks to put a prefix on the allow list or to take it off.
type AllowRequest struct {
	Prefix  string  `json:"prefix"`
	Seconds float64 `json:"seconds"` // 0: without end
	Note    string  `json:"note"`
	By      string  `json:"by"`
	Remove  bool    `json:"remove"`
	Jail    string  `json:"jail"` // only for this jail, and until its next reload; "": for all of them
}

// OffRequest asks to stop or to resume touching the firewall.
type OffRequest struct {
	On    bool       `json:"on"`    // close the emergency exit; false: open it
	Until *time.Time `json:"until"` // when it closes by itself; null: when somebody closes it
}

// Change is the answer to a request that changes something.
type Change struct {
	Schema  string   `json:"schema"`
	Changed []string `json:"changed"` // what was banned, lifted, allowed
	Text    string   `json:"text"`    // the same in a sentence
	Undo    string   `json:"undo"`    // the command that takes it back, "" if there is none
}

// Allowed is the allow list.
type Allowed struct {
	Schema  string  `json:"schema"`
	Allowed []Allow `json:"allowed"`
}

// Allow is one entry of the allow list.
type Allow struct {
	Prefix string     `json:"prefix"`
	Origin string     `json:"origin"` // operator, configuration, or what it is: loopback, own address, gateway, resolver
	Until  *time.Time `json:"until"`
	By     string     `json:"by"`
	Note   string     `json:"note"`
	Jail   string     `json:"jail"` // "": all jails; several have a comma between them
}

// Why answers the question for one address.
type Why struct {
	Schema    string     `json:"schema"`
	Addr      string     `json:"addr"`
	Mode      string     `json:"mode"`
	Banned    bool       `json:"banned"`
	Allowed   *Allow     `json:"allowed"` // null: not on the allow list
	Bans      []Ban      `json:"bans"`    // running, with their evidence
	Former    []Ban      `json:"former"`  // over, newest first, at most 20; the newest with its evidence
	FormerAll int        `json:"former_count"`
	Standing  []Standing `json:"standing"`       // where the jails' counts stand now
	Users     []string   `json:"users"`          // user names that were tried
	Today     int        `json:"failures_today"` // of this day in UTC
	Logins    []Login    `json:"logins"`         // newest first, at most 10
	Listed    []Listed   `json:"listed"`         // lists of other people's that name it
	Next      []string   `json:"next"`           // what to type next
}

// Listed is one list of other people's that names an address.
type Listed struct {
	List    string   `json:"list"`
	Entry   string   `json:"entry"`   // the address, or the network that holds it
	Ports   []uint16 `json:"ports"`   // that the list closes; empty: all
	Blocked bool     `json:"blocked"` // false: it is let through, or the list is not in force
}

// Standing is what one jail has counted against an address.
type Standing struct {
	Jail     string     `json:"jail"`
	Failures int        `json:"failures"` // within the window now
	More     int        `json:"more"`     // how many more would ban
	MaxRetry int        `json:"maxretry"` // how many within findtime ban, with the patience that this address enjoys
	FindTime string     `json:"findtime"`
	Patience string     `json:"patience"` // why this address may fail more often, "" if it may not
	Last     *time.Time `json:"last"`
	Evidence []Evidence `json:"evidence"`
}

// Login is a login of the address.
type Login struct {
	At   time.Time `json:"at"`
	User string    `json:"user"`
}

// Error is what went wrong, in the form that people and scripts read it.
type Error struct {
	Schema string `json:"schema"`
	Exit   int    `json:"exit"` // the exit code of the command, see docs/manual/cli.md
	Msg    string `json:"error"`
	Hint   string `json:"hint"`
	Code   string `json:"code,omitempty"` // for programs; "" for most errors
}

// CodeNoJail is the code of the error about a jail that is not there.
const CodeNoJail = "no-jail"

// NoJail is the error about a jail that is not there; hint tells which are.
func NoJail(name, hint string) *Error {
	e := Errorf(ExitUsage, hint, fmt.Sprintf("no jail is named %q", name))
	e.Code = CodeNoJail
	return e
}

func (e *Error) Error() string { return e.Msg }

// Errorf makes an Error with an exit code and a hint ("" for none).
func Errorf(exit int, hint, msg string) *Error {
	return &Error{Schema: SchemaError, Exit: exit, Msg: msg, Hint: hint}
}

// Bounds of the list of bans: what one answer may hold in memory.
const (
	defaultBans, maxBans             = 1000, 10_000
	defaultDetailed, maxDetailedBans = 100, 1000
)

// Exit codes, as in sysexits.h where that has a fitting one (docs/manual/cli.md).
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 64
	ExitData        = 65
	ExitOpen        = 66
	ExitUnreachable = 69
	ExitTryLater    = 75
	ExitPermission  = 77
	ExitFindings    = 78
)

// BanOf puts a decision into its wire form.
func BanOf(d *tocsin.Decision, now time.Time) Ban {
	b := Ban{
		Jail: d.Jail, ID: d.ID, Active: d.InForce(now), At: d.At.UTC(), Verdict: d.Verdict.String(), Ports: d.Ports,
		Origin: d.Origin.String(), By: d.By, Reason: d.Reason, Failures: d.Failures, Evidence: EvidenceOf(d.Evidence),
		Until: Time(d.Until),
	}
	if d.Prefix.IsValid() {
		b.Prefix = d.Prefix.String()
	}
	if b.Ports == nil {
		b.Ports = []uint16{}
	}
	return b
}

// EvidenceOf puts evidence into its wire form, control characters escaped.
func EvidenceOf(es []tocsin.Evidence) []Evidence {
	out := make([]Evidence, 0, len(es))
	for _, e := range es {
		out = append(out, Evidence{
			At: e.At.UTC(), Source: e.Source, User: tocsin.Printable(e.User), Text: tocsin.Printable(e.Text),
		})
	}
	return out
}

// Time is t in UTC, or nil for the zero time.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
