package exec

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// maxErrorText bounds what is kept of a child's standard error, in bytes.
const maxErrorText = 4 << 10

// maxCrash bounds what is kept of what a Go program says when it crashes, in bytes: its beginning says why, and where.
const maxCrash = 8 << 10

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
	mu    sync.Mutex
	buf   []byte
	line  []byte // how the line that is being written begins
	crash []byte // from where a Go program began to tell of its end; at most maxCrash bytes
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepCrash(p)
	t.buf = append(t.buf, p[max(0, len(p)-maxErrorText):]...)
	if over := len(t.buf) - maxErrorText; over > 0 {
		t.buf = slices.Delete(t.buf, 0, over)
	}
	return len(p), nil
}

// isCrash says whether a line begins as those with which Go's runtime tells that the program ends now.
func isCrash(line []byte) bool {
	return bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte(longestCrash))
}

const longestCrash = "fatal error: "

// keepCrash looks for the beginning of a crash, and keeps what follows. Others may print such a line and go on: the exit code
// tells them apart.
func (t *tail) keepCrash(p []byte) {
	for t.crash == nil && len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		begins := min(n, len(longestCrash)-len(t.line))
		t.line = append(t.line, p[:begins]...)
		if isCrash(t.line) {
			t.crash = bytes.Clone(t.line)
			p = p[begins:]
			break
		}
		if p[n-1] == '\n' {
			t.line = t.line[:0]
		}
		p = p[n:]
	}
	if t.crash != nil {
		t.crash = append(t.crash, p[:min(len(p), maxCrash-len(t.crash))]...)
	}
}

// crashed is what a Go program said of its end, line by line, without control characters; none if it did not crash.
func (t *tail) crashed() (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range bytes.Lines(t.crash) {
		if text := strings.TrimRight(printable(string(line)), " "); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
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
