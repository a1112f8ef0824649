package exec

import (
	"bytes"
	"slices"
	"sync"
)

// maxErrorText bounds what is kept of a child's standard error, in bytes.
const maxErrorText = 4 << 10

// head keeps the beginning of what is written to it, and calls full once when more comes.
type head struct {
	buf   []byte
	limit int
	full  func()
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - len(h.buf)
	h.buf = append(h.buf, p[:min(room, len(p))]...)
	if len(p) > room && h.full != nil {
		h.full()
		h.full = nil
	}
	return len(p), nil
}

// tail keeps the end of what is written to it, at most maxErrorText bytes. It may be read while it is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-maxErrorText):]...)
	if over := len(t.buf) - maxErrorText; over > 0 {
		t.buf = slices.Delete(t.buf, 0, over)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}

// lastLine is the last line that says something, without control characters. Programs put their reason last.
func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.bytes())
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return printable(string(bytes.TrimSpace(text)))
}
