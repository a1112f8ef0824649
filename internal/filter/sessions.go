package filter

import (
	"time"

	"tocsin"
)

// The bounds of what is remembered between lines. Whoever opens connections fills them, so what falls out is counted.
const (
	maxSessions     = 4096
	maxSessionBytes = 8 << 20 // of all lines that sessions keep
	maxContext      = 20      // lines kept of one session
	sessionLife     = 5 * time.Minute
)

// session is what is known of lines that belong together, such as those of one connection.
type session struct {
	key          string
	values       []string // the groups of its lines, by slot; later lines win
	held         []int    // by slot, the length of the line that the value is a part of
	helpers      []tocsin.Line
	pending      []tocsin.Line // failures of a peer that no line has named yet
	several      bool          // its lines tried more than one user name
	counted      bool          // one of its lines was a failure
	seen         time.Time     // log time
	keyBytes     int           // of the line that the key is a part of
	bytes        int           // of all lines that it holds on to
	older, newer *session
}

// sessions is a bounded set of sessions, the one used last at the end. Time is that of the log.
type sessions struct {
	byKey   map[string]*session
	ring    session  // ring.newer is the oldest, ring.older the newest
	free    *session // linked by newer
	slots   int
	bytes   int
	dropped uint64 // pushed out before their time
	lost    uint64 // failures that were waiting for an address when their session went
}

func newSessions(slots int) *sessions {
	s := &sessions{byKey: map[string]*session{}, slots: slots}
	s.ring.older, s.ring.newer = &s.ring, &s.ring
	return s
}

// get returns the session of a key, nil if there is none at that time.
func (ss *sessions) get(key string, at time.Time) *session {
	for old := ss.ring.newer; old != &ss.ring && at.Sub(old.seen) > sessionLife; old = ss.ring.newer {
		ss.remove(old)
	}
	s := ss.byKey[key]
	if s == nil {
		return nil
	}
	if age := at.Sub(s.seen); age > sessionLife || age < -sessionLife {
		ss.remove(s)
		return nil
	}
	s.seen = at
	s.unlink()
	ss.append(s)
	return s
}

// add begins a session and pushes out the oldest where there is no room. key is a part of a line of n bytes.
func (ss *sessions) add(key string, n int, at time.Time) *session {
	for len(ss.byKey) >= maxSessions {
		ss.dropOldest()
	}
	s := ss.take()
	s.key, s.keyBytes, s.seen = key, n, at
	ss.byKey[key] = s
	ss.append(s)
	return s
}

// take returns an empty session that is in nobody's list.
func (ss *sessions) take() *session {
	s := ss.free
	if s == nil {
		return &session{values: make([]string, ss.slots), held: make([]int, ss.slots)}
	}
	ss.free, s.newer = s.newer, nil
	return s
}

// account brings the books up to date after s, which is the newest, took or gave lines, and makes room if they are too
// many. A line that several values are parts of counts several times: better too much than too little.
func (ss *sessions) account(s *session) {
	n := s.keyBytes
	for _, h := range s.held {
		n += h
	}
	for _, l := range s.helpers {
		n += len(l.Text)
	}
	for _, l := range s.pending {
		n += len(l.Text)
	}
	ss.bytes += n - s.bytes
	s.bytes = n
	for ss.bytes > maxSessionBytes && ss.ring.newer != s {
		ss.dropOldest()
	}
}

func (ss *sessions) dropOldest() {
	ss.dropped++
	ss.remove(ss.ring.newer)
}

// remove ends a session that is in the set. Its parts are used again by the next one.
func (ss *sessions) remove(s *session) {
	delete(ss.byKey, s.key)
	s.unlink()
	ss.lost += uint64(len(s.pending))
	ss.release(s)
}

// release empties a session that is in nobody's list and keeps it for later.
func (ss *sessions) release(s *session) {
	ss.bytes -= s.bytes
	s.reset()
	s.key, s.keyBytes, s.bytes = "", 0, 0
	s.older, s.newer, ss.free = nil, ss.free, s
}

// reset forgets the lines of a session but not its place.
func (s *session) reset() {
	clear(s.values)
	clear(s.held)
	s.drop()
	s.several, s.counted = false, false
}

func (s *session) unlink() {
	s.older.newer, s.newer.older = s.newer, s.older
}

func (ss *sessions) append(s *session) {
	s.older, s.newer = ss.ring.older, &ss.ring
	s.older.newer, s.newer.older = s, s
}

// learn adds the groups of one more line, which has n bytes. A second user name makes a later success suspect.
func (s *session) learn(values []string, n int) {
	if user := values[slotUser]; user != "" && s.values[slotUser] != "" && user != s.values[slotUser] {
		s.several = true
	}
	for i, v := range values {
		if v != "" {
			s.values[i], s.held[i] = v, n
		}
	}
}

// other says whether values name another peer than the lines before: the same process number, another connection.
func (s *session) other(values []string) bool {
	differs := func(i slot) bool { return s.values[i] != "" && values[i] != "" && s.values[i] != values[i] }
	crosses := func(i, j slot) bool {
		return s.values[i] != "" && values[j] != "" && s.values[j] == "" && values[i] == ""
	}
	return differs(slotIP4) || differs(slotIP6) || crosses(slotIP4, slotIP6) || crosses(slotIP6, slotIP4)
}

// drop gives up the lines of a session.
func (s *session) drop() {
	clear(s.helpers)
	s.helpers = s.helpers[:0]
	s.forgive()
}

// forgive gives up the failures that wait for an address.
func (s *session) forgive() {
	clear(s.pending)
	s.pending = s.pending[:0]
}

// keep adds a line to lines, the oldest giving way.
func keep(lines []tocsin.Line, l tocsin.Line) []tocsin.Line {
	if len(lines) >= maxContext {
		copy(lines, lines[1:])
		lines = lines[:len(lines)-1]
	}
	return append(lines, l)
}

// deliver takes out what the session kept: the helpers, then the failures that waited for an address.
func (s *session) deliver() []tocsin.Line {
	n := len(s.helpers) + len(s.pending)
	if n == 0 {
		return nil
	}
	all := make([]tocsin.Line, 0, n)
	all = append(append(all, s.helpers...), s.pending...)
	s.drop()
	return all
}
