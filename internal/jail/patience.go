package jail

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"tocsin"
)

// Patience is why somebody may fail more often than others.
type Patience uint8

// The reasons. A session is named only where no login within KnownFor is remembered.
const (
	NoPatience Patience = iota
	Known
	Session
)

func (p Patience) String() string {
	return [...]string{"none", "known", "session"}[min(p, Session)]
}

// limit is how many failures ban k, in a window whose first failure was at first.
func (j *Jail) limit(k key, first, at int64) (int, Patience) {
	n, why := j.plainLimit(k, first, at)
	if j.o.Weigh {
		w := j.o.weight(j.former(block{k, j.bits(k)}, at))
		n = (n + w - 1) / w
	}
	return n, why
}

// plainLimit is the limit where every failure counts once.
func (j *Jail) plainLimit(k key, first, at int64) (int, Patience) {
	if last, ok := j.known.m[k]; ok && j.knownFor > 0 && last >= at-j.knownFor {
		return j.patient, Known
	}
	if opened, ok := j.sessions.oldest(k); ok && opened < first {
		return j.patient, Session
	}
	return j.o.MaxRetry, NoPatience
}

// Login notes a success. One that opens a session clears the failures up to it of the same address and user (unless
// KeepOnLogin is set), makes the address known and opens the session. One that ends a session closes the session of that
// address and port; if it names no port, the sessions of that address, those of its user only if it names one. A jail that
// has no patience and clears nothing has no use for logins, and notes none.
func (j *Jail) Login(l *tocsin.Login) {
	if !l.Addr.IsValid() || j.o.KnownFactor == 1 && j.o.KeepOnLogin {
		return
	}
	addr, at := l.Addr.Unmap().WithZone(""), micros(l.At)
	k, user := j.addr(addr), j.user(l.User)
	if !l.Opened {
		j.sessions.close(k, session{addr: netip.AddrPortFrom(addr, l.Port), user: user})
		return
	}
	if e, _ := j.table.find(k); e != 0 && user != 0 && !j.o.KeepOnLogin {
		j.table.filter(e, func(n node) bool { return n.user != user || n.at > at })
		if j.table.entries[e].n == 0 {
			j.table.remove(e)
		}
	}
	if last, ok := j.known.m[k]; !ok || last < at {
		j.known.put(k, at)
	}
	j.sessions.open(k, session{addr: netip.AddrPortFrom(addr, l.Port), user: user, at: at})
}

// session is one that is open.
type session struct {
	addr netip.AddrPort
	user uint32
	at   int64
}

// maxSessions bounds the sessions of one address; the newest are not noted, the oldest is the one that counts.
const maxSessions = 64

// sessions are the open sessions by the key that failures are counted for, each list in the order they opened.
type sessions struct {
	memory[key, []session]
	n int
}

func newSessions(limit int) sessions {
	return sessions{memory: newMemory[key](limit, func(l []session) int64 { return l[len(l)-1].at })}
}

func (s *sessions) open(k key, new session) {
	list := slices.DeleteFunc(s.m[k], func(old session) bool { return old.addr == new.addr && new.addr.Port() != 0 })
	if len(list) < maxSessions {
		i, _ := slices.BinarySearchFunc(list, new.at, func(s session, at int64) int {
			if s.at <= at {
				return -1
			}
			return 1
		})
		list = slices.Insert(list, i, new)
	} else {
		s.evicted++
	}
	s.n += len(list) - len(s.m[k])
	if s.put(k, list) {
		s.n = 0
		for _, l := range s.m {
			s.n += len(l)
		}
	}
}

func (s *sessions) close(k key, gone session) {
	list := s.m[k]
	kept := slices.DeleteFunc(list, func(s session) bool {
		switch {
		case s.addr.Addr() != gone.addr.Addr():
			return false
		case gone.addr.Port() != 0 && s.addr.Port() != 0:
			return s.addr.Port() == gone.addr.Port()
		default:
			return gone.user == 0 || s.user == gone.user
		}
	})
	switch s.n -= len(list) - len(kept); {
	case len(kept) == len(list): // as for most logouts: the line before has told of it
	case len(kept) == 0:
		delete(s.m, k)
	default:
		s.m[k] = kept
	}
}

func (s *sessions) oldest(k key) (at int64, ok bool) {
	list := s.m[k]
	if len(list) == 0 {
		return 0, false
	}
	return list[0].at, true
}

// Standing is what a jail knows about an address.
type Standing struct {
	Failures  int               // in the window that ends now
	More      int               // how many more, now, would ban
	Limit     int               // how many in one window ban this address
	Patience  Patience          // why that is more than for others
	LastLogin time.Time         // zero: none remembered
	Sessions  int               // open ones
	First     time.Time         // the first failure in the window; zero: there is none
	Last      time.Time         // the last
	Users     []string          // the names tried, sorted, of the lines still kept
	Lines     []tocsin.Evidence // the lines still kept, oldest first
	Banned    netip.Prefix      // what is banned and holds the address; zero: it is not banned
	Since     time.Time
	Until     time.Time // the end of that ban; zero: without end
	Former    int       // bans remembered that make the next one longer
}

// Standing says how an address stands at now. It changes nothing.
func (j *Jail) Standing(a netip.Addr, now time.Time) Standing {
	if !a.IsValid() {
		return Standing{}
	}
	return j.standing(j.addr(a), micros(now))
}

// StandingID is Standing for an id that is no address. Of one that is banned Since is set, and Banned is zero.
func (j *Jail) StandingID(id string, now time.Time) Standing {
	return j.standing(j.idKey(id), micros(now))
}

func (j *Jail) standing(k key, at int64) Standing {
	s := Standing{Sessions: len(j.sessions.m[k]), Former: j.former(block{k, j.bits(k)}, at)}
	if last, ok := j.known.m[k]; ok {
		s.LastLogin = fromMicros(last)
	}
	if on, b, ok := j.running(k, at); ok {
		s.Since = fromMicros(b.at)
		if !k.isID() {
			s.Banned = on.prefix()
		}
		if b.until != forEver {
			s.Until = fromMicros(b.until)
		}
	}
	e, _ := j.table.find(k)
	if e == 0 {
		s.Limit, s.Patience = j.limit(k, at, at)
		s.More = s.Limit
		return s
	}
	j.gather(e, at)
	w := j.fullest(k, at)
	s.Failures, s.Limit, s.Patience, s.More = w.n, w.limit, w.patience, max(1, w.limit-w.n)
	if w.n > 0 {
		s.First, s.Last = fromMicros(j.at(w.oldest)), fromMicros(j.at(w.newest))
		s.Lines = j.evidence(w)
	}
	for _, l := range s.Lines {
		if l.User != "" {
			s.Users = append(s.Users, strings.Clone(l.User))
		}
	}
	slices.Sort(s.Users)
	s.Users = slices.Compact(s.Users)
	return s
}
