// Package config reads tocsin.toml into plain values, each with the place where it stands.
//
// It owns the names of the keys, their defaults, their units and their bounds: one table, keys.go, from which the check,
// the defaults and the manual come. It does not know what the values do: whether a filter exists or a journal match makes
// sense is found out by the rooms they belong to, and the daemon reports their answer with the place from [Jail.Pos].
//
// The one thing to know: reading is strict, and every mistake of a file is reported at once, so [Parse] goes on after the
// first one and returns [Errors].
package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"tocsin"
)

// Bounds of a configuration file. A larger one is refused, not cut.
const (
	maxFile    = 1 << 20 // bytes
	maxJails   = 500
	maxLists   = 16     // as many as the firewall takes
	maxAllow   = 10_000 // entries of one allow list
	maxSources = 100    // sources of one jail
	maxPorts   = 256    // ports of one jail
	maxNodes   = 2000
	maxRemotes = 8
	maxSites   = 1000 // sites, and domains, that are looked at
	maxRules   = 1000
)

// Forever is the duration of a ban without end, written "forever". No other duration comes near it.
const Forever time.Duration = 1<<63 - 1

// Config is a whole tocsin.toml. Keys that the file does not name have their defaults.
type Config struct {
	File      string // as given to Load or Parse; "" if there is no file
	State     string // folder for what must survive
	Socket    string // unix socket of the guard
	Listen    string // "HOST:PORT" of the pages; "" if switched off
	Guard     Guard
	Fail2ban  Fail2ban
	Jails     []Jail // in the order of the file; a file without a jail has the default one, unless fail2ban's are run
	Lists     []List // in the order of the file
	Report    Report
	Watch     Watch
	Rules     []Rule // of warnings, in the order of the file
	Mail      Mail
	Contacts  []Contact // in the order of the file
	Web       Web
	Retention Retention

	where map[string]Pos
}

// Guard holds the settings that cover every jail.
type Guard struct {
	Observe bool           // decide and show, touch no firewall
	Allow   []netip.Prefix // never banned; masked
}

// Fail2ban says how jails of fail2ban are run.
type Fail2ban struct {
	Dir          string        // of its configuration; "": none is run
	Log          string        // in its format: "auto", "off", or a path
	IPv6Prefix   int           // IPv6 failures are counted and banned by this prefix length
	KnownFactor  int           // addresses that logged in within KnownFor may fail this many times as often
	KnownFor     time.Duration // 0: nobody is known
	ClearByLogin bool          // a login clears failures of the same user
}

// List is one [[list]]: whose addresses are blocked because others say so.
type List struct {
	Name       string
	URL        string // "abuseipdb:", "https://...", "file:/..."
	At         string // "HH:MM" of the machine's time, or "auto"
	Confidence int    // of abuseipdb: only addresses of at least this score
	Limit      int    // at most so many entries
	Ports      Ports  // never Auto

	where map[string]Pos
}

// Pos is where the value of a key of this list stands; for a key that is left at its default it is where the list begins.
func (l *List) Pos(key string) Pos { return placeOf(l.where, key) }

// Report says what is told to AbuseIPDB or a hub, and where that is.
type Report struct {
	Enabled bool
	URL     string           // base of the API, with a slash at its end; lists from "abuseipdb:" and checks use it too
	Jails   map[string][]int // the categories of each jail whose bans are reported
	Hold    time.Duration    // how long a ban waits before it is reported; an unban meanwhile drops it
}

// Shares says whether lists are taken or reports given.
func (c *Config) Shares() bool { return c.Report.Enabled || len(c.Lists) > 0 }

// Watches says whether there is anything for the watch process to do.
func (c *Config) Watches() bool { return c.Watch.Enabled || c.Shares() }

// Retention says how long what was seen is kept.
type Retention struct {
	Evidence, Bans, Logins        time.Duration
	Samples, Samples5m, Samples1h time.Duration // as they came, of five minutes, of an hour
}

// Jail is one [[jail]]: which lines are read, what counts, and what happens then.
type Jail struct {
	Name    string
	Filter  string   // with its options, as in "sshd[mode=aggressive]"
	Sources []string // as written: "file:/var/log/auth.log"; empty: to be found on the machine ("auto")
	Ports   Ports
	Enabled bool
	Verdict tocsin.Verdict

	MaxRetry int           // failures that lead to a ban
	FindTime time.Duration // within this time

	BanTime   time.Duration // Forever: without end
	BanFactor float64       // each ban remembered multiplies the next one by this
	BanMax    time.Duration // no ban grows beyond; Forever: no limit
	BanMemory time.Duration // how long an ended ban still counts for BanFactor

	IPv6Prefix  int           // IPv6 failures are counted and banned by this prefix length
	KnownFactor int           // addresses that logged in within KnownFor may fail this many times as often
	KnownFor    time.Duration // 0: nobody is known

	SubnetBans   int           // this many banned addresses of one /24 or /48 ban it; 0: off
	SubnetWithin time.Duration // within this time

	Allow        []netip.Prefix // never banned by this jail; masked
	MaxAddresses int            // addresses remembered at once; the oldest falls out
	Timezone     string         // IANA name for dates without a zone; "": the machine's

	where map[string]Pos
}

// Ports is what a ban covers: where the service listens (Auto), everything (All), or List, sorted and without doubles.
type Ports struct {
	Auto, All bool
	List      []uint16
}

// RunFail2ban makes c run the jails of the folder dir, in place of the default jail.
func (c *Config) RunFail2ban(dir string) {
	c.Fail2ban.Dir = dir
	if c.where == nil {
		c.where = map[string]Pos{}
	}
	c.where["fail2ban.dir"] = Pos{} // it stands in no file
	c.Jails = slices.DeleteFunc(c.Jails, func(j Jail) bool { return j.where[""].Line == 0 })
}

// Pos is where the value of a key stands: "state", "guard.allow", "retention.bans". A key that the file leaves at its
// default has the file's name without a line.
func (c *Config) Pos(key string) Pos {
	if p, ok := c.where[key]; ok {
		return p
	}
	return Pos{File: c.File}
}

// Pos is where the value of a key of this jail stands: "filter", "sources", or one of its entries, "sources[1]", counted
// from 0. For a key that is left at its default it is where the jail begins, for the default jail nowhere.
func (j *Jail) Pos(key string) Pos { return placeOf(j.where, key) }

// Default is the configuration of a machine without a file: one jail for sshd that finds its ports and sources itself.
func Default() *Config {
	c, err := Parse("", nil)
	if err != nil {
		panic("BUG: the default configuration is not valid: " + err.Error())
	}
	return c
}

// Load reads the file at path. Mistakes in it are [Errors]; a file that cannot be opened or read keeps its cause, so that
// errors.Is(err, fs.ErrNotExist) tells whether there is one.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads data, the text of a configuration file called name. The error is nil or [Errors] with every mistake, in the
// order of the file. With mistakes the configuration is not fit for use: it holds what could be understood, so that others
// can look for mistakes of their kind (see [Errors.With]).
func Parse(name string, data []byte) (*Config, error) {
	r := newReader(name, data)
	if len(data) > maxFile {
		r.fail(-1, "split it, or look whether it is the right file", "the file is larger than 1 MiB")
		return nil, r.errs
	}
	r.document()
	r.finish()
	if len(r.errs) > 0 {
		return r.config, r.mistakes()
	}
	return r.config, nil
}

// asError returns what a check found as a mistake at pos.
func asError(pos Pos, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Pos: pos, Msg: e.Msg, Hint: e.Hint}
	}
	return &Error{Pos: pos, Msg: err.Error()}
}
