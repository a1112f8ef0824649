package daemon

import "testing"

// TestWhatDiffersByRoot holds the rows of "What differs" that need root's capabilities. A guard that is built without cgo
// gives them up for the whole process, so they are held before a test starts one: tests run in the order of their files'
// names.
func TestWhatDiffersByRoot(t *testing.T) {
	for _, id := range []string{"all-ports", "log-packets", "answers", "open", "own-table", "stop", "actname", "bad-value", "broken-jail", "broken-line", "root-only"} {
		t.Run(id, differences[id])
	}
}
