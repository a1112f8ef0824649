package source

import (
	"sync"
	"time"
)

// queue holds messages between the sockets' goroutines, which must not wait, and the reader's, which may. It is two
// batches that change places: one is filled while the other is read. It does not allocate once they have grown.
type queue struct {
	mu     sync.Mutex
	filled batch
	ready  chan struct{} // holds a token while filled has messages
}

type batch struct {
	text     []byte
	messages []message
}

type message struct {
	end int // in text; it begins where the one before ends
	at  time.Time
}

const (
	maxQueued      = 16 << 10 // messages
	maxQueuedBytes = 4 << 20
)

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// put appends a message. It answers false if there is no room for it.
func (q *queue) put(text []byte, at time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.filled.messages) >= maxQueued || len(q.filled.text)+len(text) > maxQueuedBytes {
		return false
	}
	q.filled.text = append(q.filled.text, text...)
	q.filled.messages = append(q.filled.messages, message{len(q.filled.text), at})
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// swap empties b and exchanges it for what was filled.
func (q *queue) swap(b *batch) {
	b.text, b.messages = b.text[:0], b.messages[:0]
	q.mu.Lock()
	q.filled, *b = *b, q.filled
	q.mu.Unlock()
}
