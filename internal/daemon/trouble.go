package daemon

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// trouble collects what went wrong since the start, for doctor and the metrics. The zero value is ready for use; it is
// safe for use by several goroutines.
type trouble struct {
	mu        sync.Mutex
	parts     map[string]mishap
	protected map[netip.Addr]sparedFailures // of the machine's own surroundings
	badReload string

	stateInstead string // where the state is kept instead, "" if it is where it should be
	stateProblem string // and why
}

type mishap struct {
	n    uint64
	last string
	at   time.Time
}

// sparedFailures are failures of somebody who is never banned because of where they come from.
type sparedFailures struct {
	n   uint64
	why string
	at  time.Time
}

// maxSparedAddrs bounds the addresses that are remembered for doctor; loopback alone has millions.
const maxSparedAddrs = 100

func (t *trouble) add(part string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parts == nil {
		t.parts = map[string]mishap{}
	}
	m := t.parts[part]
	t.parts[part] = mishap{n: m.n + 1, last: err.Error(), at: time.Now()}
}

func (t *trouble) spared(a netip.Addr, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.protected == nil {
		t.protected = map[netip.Addr]sparedFailures{}
	}
	s, known := t.protected[a]
	if !known && len(t.protected) >= maxSparedAddrs {
		return
	}
	t.protected[a] = sparedFailures{n: s.n + 1, why: why, at: time.Now()}
}

// reload notes how the last reload ended; nil is well.
func (t *trouble) reload(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.badReload = ""
	if err != nil {
		t.badReload = err.Error()
	}
}

// elsewhere notes that the state is kept somewhere else than it should be.
func (t *trouble) elsewhere(dir string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stateInstead, t.stateProblem = dir, err.Error()
}

// forget drops what is known of some parts: they begin anew.
func (t *trouble) forget(parts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range parts {
		delete(t.parts, p)
	}
}

// seen is what trouble holds, for those who want to look at it in peace.
type seen struct {
	parts                                 map[string]mishap
	protected                             map[netip.Addr]sparedFailures
	badReload, stateInstead, stateProblem string
}

func (t *trouble) look() seen {
	t.mu.Lock()
	defer t.mu.Unlock()
	return seen{maps.Clone(t.parts), maps.Clone(t.protected), t.badReload, t.stateInstead, t.stateProblem}
}
