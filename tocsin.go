// Package tocsin holds the words: the small values that cross from one room of the program to another.
//
// A word carries data and nothing else; it has no methods beyond String and validation, and it imports only the
// standard library. Every other package may import this one, this one imports none (docs/design/0001-the-house.md).
package tocsin

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Position says where a line stands in its source, so that a decision can be recognised when the line is read again.
//
// For a file, File is the identity of the file (it survives a rename) and Offset the byte at which the line begins.
// For a journal, File identifies the journal and Offset is the sequence number of the entry.
// The zero Position belongs to a line that cannot be read a second time (standard input, syslog sockets).
type Position struct {
	File   uint64
	Offset int64
}

// Record is one line as a source hands it over. It is a view: Text lies in the read buffer and is valid only during the
// call that passes the record on. What must outlive the call becomes a Line.
type Record struct {
	Source string
	Pos    Position
	At     time.Time // zero: the text carries its own date
	Text   []byte    // without its line end; at most 16 KiB
	Seen   bool      // handled before a restart; read again only to rebuild what was counted
}

// Line is one line of a log that somebody is blamed for.
type Line struct {
	Source string // as written in the configuration: "file:/var/log/auth.log", "journal:_SYSTEMD_UNIT=ssh.service"
	Pos    Position
	At     time.Time // the time the line claims
	Text   string    // without its line end; hostile: escape it before it reaches a terminal
}

// Failure is an attempt that failed, as a filter read it from a line.
type Failure struct {
	Filter  string
	ID      string       // the text that the filter found and that would be banned
	Prefix  netip.Prefix // a single address (/32 or /128), or the network that the filter found; zero if ID is no address
	Host    bool         // ID is a host name that stands where an address may; somebody has to ask for its addresses
	User    string       // the user name that was tried, "" if the line names none
	At      time.Time
	Line    Line
	Context []Line  // earlier lines of the same session that belong to the evidence, oldest first
	Fields  []Field // the other named groups of the filter, in the order of the pattern
}

// Field is one more named part of a line, such as the port or the method.
type Field struct{ Name, Value string }

// Login is a success: somebody authenticated, or their session ended.
type Login struct {
	Source string
	Addr   netip.Addr
	Port   uint16 // the peer's port, 0 if the line does not tell; with Addr it names the session
	User   string
	At     time.Time
	Opened bool // true: a session began; false: it ended
}

// Verdict is what happens to the packets of somebody banned.
type Verdict uint8

// The verdicts. Drop is silence; Reject answers with a reset or an ICMP error. Pass leaves the packets alone: the ban is
// one of actions only, such as a mail, and no firewall may enforce it.
const (
	Drop Verdict = iota
	Reject
	Pass
)

// Action is what a decision does.
type Action uint8

// The actions.
const (
	Ban Action = iota
	Unban
)

// Origin is who took a decision.
type Origin uint8

// The origins.
const (
	ByJail Origin = iota
	ByOperator
	ByFleet
	ByList
)

// Proto is the transport protocol that a decision about ports covers.
type Proto uint8

// The protocols. A decision without ports covers every protocol whatever its Proto.
const (
	TCP Proto = iota
	UDP
	TCPAndUDP // the same ports of both
)

// Decision is a ban or the lifting of one. Bans are keyed by (Jail, ID): lifting one jail's ban leaves another's.
type Decision struct {
	Jail     string
	ID       string       // what is banned: PrefixString of Prefix, or what was found where it is no address
	Prefix   netip.Prefix // masked; zero if ID is no address
	Addr     netip.Addr   // who failed last, for ByJail; zero if that is no single address
	Verdict  Verdict
	Ports    []uint16 // sorted, without doubles; empty: all ports and protocols
	Proto    Proto
	Action   Action
	Origin   Origin
	Reason   string    // one sentence for people, or what the operator gave
	By       string    // who, for ByOperator: "root", "marie (sudo)"; "" otherwise
	At       time.Time // log time for ByJail
	Until    time.Time // zero: without end
	Failures int       // how many failures led to it; 0 if none
	Former   int       // bans of the same id before this one, as far as the jail remembers them (it does where bans grow)
	Evidence []Evidence
	Fields   []Field // of the failure that completed the evidence, its user among them; hostile, for actions only, not stored
	Trigger  Line    // the line that completed the evidence, without Text; zero for other origins
}

// Evidence is a line that a decision rests on.
type Evidence struct {
	Line
	User string
}

// Duration is how long the ban lasts; ok is false if it has no end.
func (d *Decision) Duration() (dur time.Duration, ok bool) {
	if d.Until.IsZero() {
		return 0, false
	}
	return d.Until.Sub(d.At), true
}

// InForce says whether the ban still holds at now.
func (d *Decision) InForce(now time.Time) bool {
	return d.Action == Ban && (d.Until.IsZero() || now.Before(d.Until))
}

func (v Verdict) String() string { return word("verdict", int(v), "drop", "reject", "pass") }
func (a Action) String() string  { return word("action", int(a), "ban", "unban") }
func (o Origin) String() string  { return word("origin", int(o), "jail", "operator", "fleet", "list") }
func (p Proto) String() string   { return word("proto", int(p), "tcp", "udp", "tcp,udp") }

func word(kind string, i int, names ...string) string {
	if i >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, i)
	}
	return names[i]
}

// PrefixString writes a prefix as people write it: a single address without its length.
func PrefixString(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// PortsString writes a set of ports as people write it: "22,2200", or "all" for the empty set.
func PortsString(ports []uint16) string {
	if len(ports) == 0 {
		return "all"
	}
	var b strings.Builder
	for i, p := range ports {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(p)))
	}
	return b.String()
}

// SortPorts brings a set of ports into the form that Decision asks for. It changes its argument.
func SortPorts(ports []uint16) []uint16 {
	slices.Sort(ports)
	return slices.Compact(ports)
}

// Printable makes hostile text safe to show: control characters, invalid UTF-8 and the characters that reorder or hide
// text (bidirectional controls, zero-width) come out as Go escapes. Text without them is returned as it is.
func Printable(s string) string {
	safe := func(r rune) bool {
		return r == ' ' || r != utf8.RuneError && unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case safe(r):
			b.WriteRune(r)
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// Series names one curve, in Munin's words: a service of a node has fields.
type Series struct {
	Group   string // the provider or whatever the operator groups by, "" for none; levels are separated by ";"
	Node    string // a server, or what stands for one
	Service string // "load", "if_eth0"; a child of a service stands behind a dot, as in "diskstats_latency.vda"
	Field   string
}

// Sample is one value of a series: a gauge, or a rate per second.
type Sample struct {
	Series
	T     int64 // Unix milliseconds
	Value float64
}

// Level is how bad something is. Unknown ranks above Fine: nobody can say that all is well.
type Level uint8

// The levels, in rising order.
const (
	Fine Level = iota
	Unknown
	Warning
	Critical
)

func (l Level) String() string {
	return word("level", int(l), "fine", "unknown", "warning", "critical")
}

// Urgency is how soon a human has to know.
type Urgency uint8

// The urgencies, in rising order: with the next morning's digest, today, now.
const (
	Digest Urgency = iota
	Soon
	Urgent
)

func (u Urgency) String() string { return word("urgency", int(u), "digest", "soon", "urgent") }

// Incident is one thing that is wrong, from its beginning to its end. It holds no sentence: those are made for a reader,
// in the reader's language. Label and Extra are a plugin's words, and hostile.
type Incident struct {
	ID      int64  // what people call it by; 0: not yet numbered
	Key     string // by which the rules know it again: one open incident for each key
	Rule    string
	Group   string
	Node    string // "" if it is about a whole group
	Series  Series // zero if it is about a whole server or group
	Level   Level  // now; Fine: it is over
	Worst   Level
	Urgency Urgency
	Value   float64   // NaN: unknown
	Limit   string    // in Munin's range words; "" where the rule has none
	Label   string    // of the curve
	Extra   string    // what the plugin adds
	Members []string  // the servers that it stands for, where one message names several
	Full    time.Time // when a forecast says that it is full; zero: no forecast
	Began   time.Time
	Changed time.Time
	Ended   time.Time // zero: open
	Flaps   bool      // it changes so often that only the first and the last change are told
	Ack     Ack
}

// Ack says that somebody looks after an incident. The zero Ack says that nobody does.
type Ack struct {
	By    string
	Note  string
	At    time.Time
	Until time.Time // after which it is told again; zero: until it is over
}

// Turn is what an incident did.
type Turn uint8

// The turns.
const (
	Began    Turn = iota // it is wrong; also again, within an hour of its end
	Worsened             // its level rose
	Eased                // its level fell, but it is not over
	Over                 // it is fine
	Unstable             // it changes so often that nothing is told until it is steady
	Steady               // it is unstable no more, but still wrong
	Again                // the time of an acknowledgement is over, and it is still wrong
	Acked                // somebody looks after it
	Altered              // something else, such as its members
)

func (t Turn) String() string {
	return word("turn", int(t), "began", "worsened", "eased", "over", "unstable", "steady", "again", "acked", "altered")
}

// Change is one turn of an incident, with the incident as it is from then on.
type Change struct {
	Incident
	Turn     Turn
	At       time.Time
	Tell     bool     // somebody has to be told; otherwise it is only kept
	Contacts []string // who, by name; nil: all that want it
	Alias    string   // what munin.conf calls the server in messages (notify_alias); "" for its name
}
