package main

import (
	"bufio"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// forgetStart lets the kernel take back the pages of the program's own file that nothing but its initialisation needed: a
// store of samples is linked in, and whoever only guards would carry ten megabytes of it. What is needed again is read from
// the file again (madvise(2), MADV_DONTNEED on a private file mapping). Where that fails the program is just larger.
func forgetStart() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	for _, m := range untouched(maps, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.begin, m.end-m.begin, unix.MADV_DONTNEED)
	}
}

// settled is when a process that stays has done what it does once; from then on it is looked after every so often: before Go
// collects garbage by itself because two minutes have passed, which would leave the pages of the collector with a process that
// hardly ever needs them.
const (
	settled    = 20 * time.Second
	slimsEvery = 110 * time.Second
)

// staySlim makes a process that stays small: it collects garbage early, for little of it is made, and gives back what only the
// start needed, of the program and of its memory, when that is over. What happens seldom, such as writing a block of samples,
// needs other pages and more memory for a moment: they are given back likewise.
func staySlim() (stop func()) {
	debug.SetGCPercent(50)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for wait := settled; ; wait = slimsEvery {
			select {
			case <-time.After(wait):
				debug.FreeOSMemory()
				forgetStart()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

type mapping struct{ begin, end uintptr }

// untouched finds the mappings of a file that nobody may write to and nobody has written to: a linker writes into some before
// it closes them, and what it wrote is not in the file.
func untouched(smaps io.Reader, file string) (all []mapping) {
	var m mapping
	ours := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 6 && strings.Contains(f[0], "-"): // from-to perms offset dev inode path (proc_pid_maps(5))
			from, to, _ := strings.Cut(f[0], "-")
			begin, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			m = mapping{uintptr(begin), uintptr(end)}
			ours = err1 == nil && err2 == nil && f[5] == file && !strings.Contains(f[1], "w")
		case len(f) > 0 && strings.Contains(f[0], "-"): // of no file
			ours = false
		case ours && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0":
			all = append(all, m)
		}
	}
	return all
}
