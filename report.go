package tocsin

import (
	"net/netip"
	"time"
)

// Report is what others are told about an address. It is made of numbers: no text that a log or a person wrote fits in.
type Report struct {
	Categories  []int     // AbuseIPDB's, sorted, without doubles
	Service     uint8     // what was attacked, a report.Service
	Failures    int       // 0: an operator reports it by hand
	First, Last time.Time // of the failures, or when the operator spoke
	Queued      time.Time // when it was taken up, or last added to; zero: there is no report
}

// QueuedReport is a report on its way: one an address, or one a /64.
type QueuedReport struct {
	Addr netip.Addr
	Report
	Next      Report    // what came up while Report was being sent; its own report follows
	Hold      time.Time // not sent before: somebody may lift the ban
	Due       time.Time // not sent before: 15 minutes between two, and pauses after failures
	Attempt   time.Time // the first time it was sent and no answer came; zero: none is owed
	Tried     time.Time // the last time it was sent
	Tries     int
	Bulk      bool // the attempt without an answer was a row of a bulk report
	Withdrawn bool // the ban was lifted behind the attempt: it is not repeated
}

// SentReport is the last report of an address that the server has, or may have.
type SentReport struct {
	Addr netip.Addr
	At   time.Time
	Same uint64 // hash of comment and categories; 0: not known
}

// RefusedReport is one that the server will never take.
type RefusedReport struct {
	Addr    netip.Addr
	At      time.Time
	Detail  string // the server's words; a stranger's
	Comment string
}

// ReportState is all that the reports' queue remembers over a restart.
type ReportState struct {
	Queued  []QueuedReport
	Sent    []SentReport
	Numbers map[string]int64 // counters, cursor, quotas: by name
}

// ReportChange is what changed in it, kept in one transaction or not at all.
type ReportChange struct {
	Put     []QueuedReport // replace those of the same address
	Drop    []netip.Addr
	Sent    []SentReport
	Refused []RefusedReport
	Numbers map[string]int64 // only those that changed
	Forget  time.Time        // Sent before this is dropped; zero: nothing
}
