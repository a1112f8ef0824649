package filter

import (
	"bytes"
	"hash/maphash"
	"time"

	"tocsin"
)

// The bounds of what is remembered between lines. Whoever opens connections fills them, so what falls out is counted.
const (
	maxSessions     = 4096
	maxSessionBytes = 8 << 20 // of all texts that sessions keep
	maxContext      = 20      // lines kept of one session
	sessionLife     = 5 * time.Minute

	maxSpare = 512 // bytes of texts that a session which ended leaves to the next
)

// session is what is known of lines that belong together, such as those of one connection. It keeps texts of its own, so
// that most of its lines are never copied as a whole.
type session struct {
	key          []byte
	hash         uint64
	next         *session // in the same bucket
	values       parts    // the groups of its lines; later lines win
	who          identity // whom values name
	identified   bool     // who is up to date
	helpers      []tocsin.Line
	pending      []tocsin.Line  // failures of a peer that no line has named yet
	several      bool           // its lines tried more than one user name
	counted      bool           // one of its lines was a failure
	seen         int64          // log time in Unix microseconds
	held         int            // bytes of key and values
	bytes        int            // of all that it holds on to, as the books have it
	groups       map[string]any // of its lines, if somebody reads them
	older, newer *session
}

// sessions is a bounded set of sessions, the one used last at the end. Time is that of the log.
//
// It is a table of its own because it is asked for nearly every line: a look-up takes a hash, a bucket and a comparison,
// and needs no string of the key.
type sessions struct {
	buckets []*session // nil until the first session
	seed    maphash.Seed
	n       int
	ring    session  // ring.newer is the oldest, ring.older the newest
	free    *session // linked by newer
	slots   int
	told    []slot // those of which sessions keep the text
	bytes   int
	dropped uint64 // pushed out before their time
	lost    uint64 // failures that were waiting for an address when their session went
}

func newSessions(slots int, told []slot) *sessions {
	s := &sessions{seed: maphash.MakeSeed(), slots: slots, told: told}
	s.ring.older, s.ring.newer = &s.ring, &s.ring
	return s
}

func (ss *sessions) bucket(hash uint64) **session { return &ss.buckets[hash%maxSessions] }

// find returns the session of a key, nil if there is none.
func (ss *sessions) find(key []byte) *session {
	if ss.n == 0 {
		return nil
	}
	hash := maphash.Bytes(ss.seed, key)
	s := *ss.bucket(hash)
	for s != nil && (s.hash != hash || !bytes.Equal(s.key, key)) {
		s = s.next
	}
	return s
}

// get returns the session of a key, nil if there is none at that time.
func (ss *sessions) get(key []byte, at time.Time) *session {
	const life = int64(sessionLife / time.Microsecond)
	now := at.UnixMicro()
	for old := ss.ring.newer; old != &ss.ring && now-old.seen > life; old = ss.ring.newer {
		ss.remove(old)
	}
	s := ss.find(key)
	if s == nil {
		return nil
	}
	if age := now - s.seen; age > life || age < -life {
		ss.remove(s)
		return nil
	}
	s.seen = now
	if ss.ring.older != s {
		s.unlink()
		ss.append(s)
	}
	return s
}

// add begins a session and pushes out the oldest where there is no room.
func (ss *sessions) add(key []byte, at time.Time) *session {
	for ss.n >= maxSessions {
		ss.dropOldest()
	}
	if ss.buckets == nil {
		ss.buckets = make([]*session, maxSessions)
	}
	s := ss.take()
	s.held -= cap(s.key)
	s.key, s.seen = append(s.key[:0], key...), at.UnixMicro()
	s.held += cap(s.key)
	s.hash = maphash.Bytes(ss.seed, key)
	b := ss.bucket(s.hash)
	s.next, *b = *b, s
	ss.n++
	ss.append(s)
	return s
}

// take returns an empty session that is in nobody's list.
func (ss *sessions) take() *session {
	s := ss.free
	if s == nil {
		return &session{values: make(parts, ss.slots)}
	}
	ss.free, s.newer = s.newer, nil
	return s
}

// account brings the books up to date after s, which is the newest, took or gave lines, and makes room if they are too
// many.
func (ss *sessions) account(s *session) {
	n := s.held + len(s.who.id)
	for i := range s.helpers {
		n += len(s.helpers[i].Text)
	}
	for i := range s.pending {
		n += len(s.pending[i].Text)
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
	at := ss.bucket(s.hash)
	for *at != s {
		at = &(*at).next
	}
	*at, s.next = s.next, nil
	ss.n--
	s.unlink()
	ss.lost += uint64(len(s.pending))
	ss.release(s)
}

// release empties a session that is in nobody's list and keeps it for later.
func (ss *sessions) release(s *session) {
	ss.bytes -= s.bytes
	s.bytes = 0
	s.reset(ss.told)
	if s.held > maxSpare {
		clear(s.values)
		s.key, s.held = nil, 0
	}
	s.older, s.newer, ss.free = nil, ss.free, s
}

// reset forgets the lines of a session but not its place.
func (s *session) reset(told []slot) {
	for _, i := range told {
		s.values[i] = s.values[i][:0]
	}
	s.drop()
	s.groups = nil
	s.who, s.identified, s.several, s.counted = identity{}, false, false, false
}

func (s *session) unlink() {
	s.older.newer, s.newer.older = s.newer, s.older
}

func (ss *sessions) append(s *session) {
	s.older, s.newer = ss.ring.older, &ss.ring
	s.older.newer, s.newer.older = s, s
}

// learn adds the groups of one more line, in which told may be set. A second user name makes a later success suspect.
func (s *session) learn(values parts, told []slot) {
	if user := s.values[slotUser]; len(user) > 0 && len(values[slotUser]) > 0 && !bytes.Equal(user, values[slotUser]) {
		s.several = true
	}
	for _, i := range told {
		v, own := values[i], &s.values[i]
		if len(v) == 0 || bytes.Equal(v, *own) {
			continue // most lines of a session tell the same again
		}
		s.held -= cap(*own)
		*own = append((*own)[:0], v...)
		s.held += cap(*own)
		if i <= slotID {
			s.identified = false
		}
	}
}

// identity is whom the session's lines name. It holds until the next line of the session.
func (s *session) identity() *identity {
	if !s.identified {
		s.who, s.identified = identify(s.values), true
	}
	return &s.who
}

// other says whether values name another peer than the lines before: the same process number, another connection.
func (s *session) other(values parts) bool {
	has4, has6 := len(s.values[slotIP4]) > 0, len(s.values[slotIP6]) > 0
	new4, new6 := len(values[slotIP4]) > 0, len(values[slotIP6]) > 0
	switch {
	case has4 && new4 && !bytes.Equal(s.values[slotIP4], values[slotIP4]), has6 && new6 && !bytes.Equal(s.values[slotIP6], values[slotIP6]):
		return true
	}
	return has4 && !has6 && new6 && !new4 || has6 && !has4 && new4 && !new6
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
