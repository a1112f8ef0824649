package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"time"

	"tocsin"
)

// Options are a jail's settings.
type Options struct {
	Name     string        // the jail's name, as decisions carry it
	MaxRetry int           // failures that ban, 1 to 100,000
	FindTime time.Duration // within which they must lie, both ends included; up to 10 years
	BanTime  time.Duration // how long a ban lasts; 0 or less: for ever

	// Each ban remembered makes the next one BanFactor times as long, up to BanMax. 0 and 1: all bans are equally long.
	BanFactor float64
	BanMax    time.Duration // 0: no limit but 100 years
	BanMemory time.Duration // how far back bans are remembered, from the beginning of one to that of the next

	// BanTimes, if there are any, are used instead of BanTime, BanFactor and BanMax: the length of a ban by the number of
	// remembered ones, the last of them for all that follow; 0 or less: for ever.
	BanTimes  []time.Duration
	BanJitter time.Duration // up to so much is added to a ban that follows another one; it depends on id and time only, so a replay gives the same
	Weigh     bool          // a failure of an id with n remembered bans counts like 2^n/2+1 of them, at most MaxRetry, as fail2ban's observer has it
	Overall   bool          // bans by other jails, told with Elsewhere, are remembered like our own

	IPv6Prefix int // IPv6 addresses are counted and banned by prefixes of this length; default 64. Shorter: more neighbours share one count

	// Patience with people who have proved who they are: KnownFactor times MaxRetry failures are needed where the
	// address logged in within KnownFor, or holds a session that is older than its first failure in the window.
	KnownFactor int           // default 3; 1: no patience
	KnownFor    time.Duration // 0: only open sessions count
	KeepOnLogin bool          // a login clears no failures

	// The subnet rule: SubnetBans different addresses of one /24 (IPv4) or /48 (IPv6) banned within SubnetWithin ban all
	// of it. 0: off. It says nothing about IPv6 if IPv6Prefix is 48 or shorter.
	SubnetBans   int
	SubnetWithin time.Duration

	MaxAddresses int // addresses with failures that are kept, default 100,000; 64 to 100 bytes each, and 24 a failure. Also bounds bans, logins and sessions

	Ports   []uint16 // what decisions cover; sorted by New. Empty: everything
	Proto   tocsin.Proto
	Verdict tocsin.Verdict

	Bare bool // decisions tell whom, when and for how long, but not why: no line is kept, no reason written

	EvidenceLines     int // lines kept with a ban, the newest; default 20
	EvidenceLineBytes int // longer lines are cut; default 500, up to 4096
	EvidenceBytes     int // memory for lines that are not yet part of a ban, default 4 MiB, at least 128 KiB. More: fewer bans with missing lines when very many addresses fail at once
}

const (
	maxRetry   = 100_000
	maxTime    = 10 * 365 * 24 * time.Hour
	maxBanTime = 100 * 365 * 24 * time.Hour
)

// checked fills in the defaults.
func (o Options) checked() (Options, error) {
	var errs []error
	wrong := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("jail %s: "+format, append([]any{o.Name}, a...)...))
	}
	number := func(name string, v *int, byDefault, low, high int) {
		if *v == 0 {
			*v = byDefault
		}
		if *v < low || *v > high {
			wrong("%s %d is not between %d and %d", name, *v, low, high)
		}
	}
	duration := func(name string, d, low, high time.Duration) {
		if d < low || d > high {
			wrong("%s %v is not between %v and %v", name, d, low, high)
		}
	}
	if o.Name == "" {
		wrong("a jail needs a name")
	}
	number("maxretry", &o.MaxRetry, 0, 1, maxRetry)
	number("ipv6_prefix", &o.IPv6Prefix, 64, 1, 128)
	number("known_factor", &o.KnownFactor, 3, 1, maxRetry/max(1, o.MaxRetry))
	number("subnet_bans", &o.SubnetBans, 0, 0, 1<<16)
	number("max_addresses", &o.MaxAddresses, 100_000, 1, 1<<24)
	number("lines of evidence", &o.EvidenceLines, 20, 1, 1000)
	number("bytes of a line of evidence", &o.EvidenceLineBytes, 500, 16, maxLine)
	number("bytes for evidence", &o.EvidenceBytes, 4<<20, 1, 1<<32)
	duration("findtime", o.FindTime, time.Microsecond, maxTime)
	duration("bantime", max(o.BanTime, 0), 0, maxBanTime)
	duration("bantime_max", o.BanMax, 0, maxBanTime)
	duration("bantime_memory", o.BanMemory, 0, maxBanTime)
	duration("bantime.rndtime", o.BanJitter, 0, maxBanTime)
	if len(o.BanTimes) > maxFormer {
		wrong("%d lengths of growing bans are more than %d", len(o.BanTimes), maxFormer)
	}
	for _, d := range o.BanTimes {
		duration("the length of a growing ban", max(d, 0), 0, maxBanTime)
	}
	duration("known_for", o.KnownFor, 0, maxBanTime)
	duration("subnet_within", o.SubnetWithin, 0, maxTime)
	if o.BanFactor == 0 {
		o.BanFactor = 1
	}
	if !(o.BanFactor >= 1 && o.BanFactor <= 1000) { // written so that NaN is wrong too
		wrong("bantime_factor %v is not between 1 and 1000", o.BanFactor)
	}
	o.Ports = tocsin.SortPorts(slices.Clone(o.Ports))
	return o, errors.Join(errs...)
}

// banTime is the length of a ban after that many remembered ones; 0: for ever.
func (o *Options) banTime(former int) time.Duration {
	if n := len(o.BanTimes); n > 0 {
		return max(0, o.BanTimes[min(former, n-1)])
	}
	if o.BanTime <= 0 {
		return 0
	}
	limit := o.BanMax
	if limit == 0 {
		limit = maxBanTime
	}
	grown := float64(o.BanTime) * math.Pow(o.BanFactor, float64(former))
	if grown >= float64(limit) {
		return max(limit, o.BanTime) // a maximum below the ban time does not shorten the first ban
	}
	return time.Duration(grown)
}

// jitter is what is added to the length of a ban that follows another one.
func (o *Options) jitter(id string, at int64) time.Duration {
	if o.BanJitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, at)
	_, _ = io.WriteString(h, id)
	return time.Duration(h.Sum64()%uint64(o.BanJitter.Microseconds()+1)) * time.Microsecond
}

// weight is how much a failure counts after that many remembered bans: 1, then 2, 3, 5, 9, as in fail2ban's observer.
func (o *Options) weight(former int) int {
	if !o.Weigh || former == 0 {
		return 1
	}
	return min(1<<(min(former, 20)-1)+1, o.MaxRetry)
}
