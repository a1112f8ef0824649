package daemon

import (
	"testing"
)

func TestIsPerson(t *testing.T) {
	for name, want := range map[string]bool{"root": false, "daemon": false, "nobody": false, "no such name": false, "../etc": false, "": false} {
		if got := isPerson(name); got != want {
			t.Errorf("isPerson(%q): %t, want %t", name, got, want)
		}
	}
}
