// Package probe takes readings: of this machine by probes of its own, of Munin's plugins through the runner, and of other
// munin-nodes; and makes samples of them.
//
// It keeps nothing but what it needs to make rates. A reading is what a plugin would print: a description in Munin's words
// and raw values (docs/design/0006-samples.md).
package probe

import (
	"context"
	"errors"
	"time"

	"tocsin/internal/munin"
)

// Reading is one look at one service.
type Reading struct {
	Group, Node string         // whose it is; both "" for this machine
	Service     *munin.Service // as described now; not changed afterwards, so that one that stayed the same can be shared
	At          time.Time      // when it was read, for values that name no time
	Since       time.Duration  // CLOCK_BOOTTIME of the reading; 0 if it was taken elsewhere
	Values      []munin.Value  // Service is set where the reading is of several; else "" stands for this one
}

// Probe is one built-in probe: a source on this machine that is read over and over.
type Probe struct {
	Name     string        // as tocsin probes shows it: "cpu", "containers", "postfix"
	Doubles  []string      // Munin plugins that show the same
	Interval time.Duration // between two readings; 0: the operator's [watch] interval
	Timeout  time.Duration // after which a reading is given up; 0: the interval
	Root     bool          // reads what only root may: the runner does it
	// New begins anew, with whatever must be remembered between readings. An Off error says why the probe has nothing to read.
	New func(h *Host) (Reader, error)
}

// Reader reads one probe. It is called by one goroutine at a time, returns one reading a service, and need not keep rates:
// counters are read as they are. An Off error switches the probe off until its source is there again; any other error is
// counted, and what was read before it still counts.
type Reader interface {
	Read(ctx context.Context) ([]Reading, error)
}

// Off is why a probe has nothing to read here. It is no fault: "no nginx listens here".
type Off struct{ Why string }

func (o *Off) Error() string { return o.Why }

// IsOff says whether err is an Off, and why.
func IsOff(err error) (why string, off bool) {
	var o *Off
	if errors.As(err, &o) {
		return o.Why, true
	}
	return "", false
}

// Host is where probes read: this machine, or a made-up one in tests.
type Host struct {
	Proc string // "/proc"
	Sys  string // "/sys"
	Root string // "/", before every other path
	// Now is the wall clock, Boot CLOCK_BOOTTIME.
	Now  func() time.Time
	Boot func() time.Duration
	// Settings of the operator that probes need.
	Interval      time.Duration      // of probes that have none of their own; 0: 10 s. What is longer costs less and shows less
	Capacity      map[string]float64 // bytes per second by interface
	Country       string             // a MaxMind database, "" for none
	Sites         []string           // URLs
	Domains       []string
	BigBlueButton string // folder of a BigBlueButton server's properties, "" for the usual one

	// Guard asks the guard for its numbers; nil: nobody does.
	Guard func(ctx context.Context) (*Guard, error)
}
