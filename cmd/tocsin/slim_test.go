package main

import (
	"reflect"
	"strings"
	"testing"
)

// Only what is still as it is in the file is given back.
func TestUntouched(t *testing.T) {
	const smaps = `00400000-01000000 r-xp 00000000 fe:00 12 /usr/bin/tocsin
Rss:                 100 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01000000-01100000 r--p 00c00000 fe:00 12 /usr/bin/tocsin
Anonymous:             4 kB
01100000-01200000 r--p 00d00000 fe:00 12 /usr/bin/tocsin
Anonymous:             0 kB
01200000-01300000 rw-p 00e00000 fe:00 12 /usr/bin/tocsin
Anonymous:             0 kB
01300000-01400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f000000-7f100000 r-xp 00000000 fe:00 13 /usr/lib/libc.so.6
Anonymous:             0 kB
7ffd0000-7ffd1000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1000000}, {0x1100000, 0x1200000}}
	if got := untouched(strings.NewReader(smaps), "/usr/bin/tocsin"); !reflect.DeepEqual(got, want) {
		t.Errorf("given back: %x, want %x", got, want)
	}
}

// The program goes on as it was.
func TestForgetStart(t *testing.T) {
	for range 3 {
		forgetStart()
	}
	if !strings.HasPrefix(version(), release) {
		t.Error("the program is not what it was")
	}
}
