package probe

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxKernelFile is how much of a file of the kernel is read. The longest, a table of some thousand interfaces, is shorter.
const maxKernelFile = 1 << 20

// kernelFile reads small files again and again into one buffer.
type kernelFile struct{ buf []byte }

// read gives a file's content, which the next call overwrites; nil if it cannot be read. It never waits: who made a FIFO
// there is not waited for.
func (k *kernelFile) read(path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if k.buf == nil {
		k.buf = make([]byte, 8<<10)
	}
	for n := 0; ; {
		m, err := unix.Read(fd, k.buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || m < 0:
			return nil
		case m == 0:
			return k.buf[:n]
		}
		if n += m; n == len(k.buf) {
			if n >= maxKernelFile {
				return nil
			}
			k.buf = append(k.buf, make([]byte, n)...)
		}
	}
}

// number reads a file of one number. "max" and whatever is none is NaN.
func (k *kernelFile) number(path string) float64 { return parseNumber(bytes.TrimSpace(k.read(path))) }

func parseNumber(text []byte) float64 {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return math.NaN()
	}
	return float64(n)
}

// usage is what the control groups tell of one container. What they do not tell is NaN.
type usage struct {
	cpu, user, system, throttled float64 // time so far, in ticks of 10 ms: as a rate, percent of one core
	cpuLimit                     float64 // percent of one core

	memory                         float64 // bytes in use, without files that could be dropped at once
	anon, files, shmem, kernel     float64 // bytes; files without shmem
	swap, memoryLimit              float64 // bytes
	oomKills                       float64 // so far
	readBytes, writeBytes          float64 // so far
	readOps, writeOps              float64 // so far
	pids, pidsLimit                float64
	stallCPU, stallMemory, stallIO float64 // time in which some task waited, ticks of 10 ms
	stallMemoryFull, stallIOFull   float64 // time in which all of them did
	received, sent, lost           float64 // bytes by the network, as the container sees it, and packets dropped or damaged; so far
}

// unknownUsage is what is known before anything was read.
func unknownUsage() usage {
	n := math.NaN()
	return usage{n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n}
}

// Ticks of 10 ms in the units of the kernel.
const (
	tickMicros = 10_000
	tickNanos  = 10_000_000
)

// whole cuts what is less than one: Munin's counters are whole numbers (rrdcreate(1), DERIVE).
func whole(v float64) float64 { return math.Trunc(v) }

// readV2 reads a directory of the unified hierarchy (https://docs.kernel.org/admin-guide/cgroup-v2.html). ok is false if it
// is gone, or has no controllers.
func (k *kernelFile) readV2(u *usage, dir string, top func(dev string, all map[string]bool) bool) (ok bool) {
	file := func(name string) string { return dir + "/" + name }
	stat := k.read(file("cpu.stat"))
	if stat == nil {
		return false
	}
	eachPair(stat, func(key string, v float64) {
		switch key {
		case "usage_usec":
			u.cpu = whole(v / tickMicros)
		case "user_usec":
			u.user = whole(v / tickMicros)
		case "system_usec":
			u.system = whole(v / tickMicros)
		case "throttled_usec":
			u.throttled = whole(v / tickMicros)
		}
	})
	if quota, period, ok := bytes.Cut(bytes.TrimSpace(k.read(file("cpu.max"))), []byte(" ")); ok {
		u.cpuLimit = 100 * parseNumber(quota) / parseNumber(period)
	}
	u.memory, u.memoryLimit, u.swap = k.number(file("memory.current")), k.number(file("memory.max")), k.number(file("memory.swap.current"))
	eachPair(k.read(file("memory.stat")), func(key string, v float64) {
		switch key {
		case "anon":
			u.anon = v
		case "file":
			u.files = v
		case "shmem":
			u.shmem = v
		case "slab", "kernel": // kernel includes slab and comes with 5.18
			if !(u.kernel > v) {
				u.kernel = v
			}
		case "inactive_file":
			u.memory = max(0, u.memory-v)
		}
	})
	u.files = max(0, u.files-u.shmem)
	eachPair(k.read(file("memory.events")), func(key string, v float64) {
		if key == "oom_kill" {
			u.oomKills = v
		}
	})
	readIO(u, k.read(file("io.stat")), top)
	u.pids, u.pidsLimit = k.number(file("pids.current")), k.number(file("pids.max"))
	u.stallCPU, _ = stalls(k.read(file("cpu.pressure")))
	u.stallMemory, u.stallMemoryFull = stalls(k.read(file("memory.pressure")))
	u.stallIO, u.stallIOFull = stalls(k.read(file("io.pressure")))
	return true
}

// noLimitV1 is what version 1 says where there is no limit, and more than any machine has.
const noLimitV1 = 1 << 60

// readV1 reads the directory of one controller of version 1 (https://docs.kernel.org/admin-guide/cgroup-v1/index.html).
func (k *kernelFile) readV1(u *usage, controller, dir string, top func(dev string, all map[string]bool) bool) {
	file := func(name string) string { return dir + "/" + name }
	// The controllers cpu and cpuacct may share one hierarchy.
	switch controller {
	case "cpuacct", "cpu,cpuacct":
		u.cpu = whole(k.number(file("cpuacct.usage")) / tickNanos)
		// USER_HZ is 100 on all that Linux runs on, which makes its ticks ours.
		eachPair(k.read(file("cpuacct.stat")), func(key string, v float64) {
			switch key {
			case "user":
				u.user = v
			case "system":
				u.system = v
			}
		})
	}
	switch controller {
	case "cpu", "cpu,cpuacct":
		eachPair(k.read(file("cpu.stat")), func(key string, v float64) {
			if key == "throttled_time" {
				u.throttled = whole(v / tickNanos)
			}
		})
		u.cpuLimit = 100 * k.number(file("cpu.cfs_quota_us")) / k.number(file("cpu.cfs_period_us"))
	case "memory":
		u.memory, u.kernel = k.number(file("memory.usage_in_bytes")), k.number(file("memory.kmem.usage_in_bytes"))
		if u.memoryLimit = k.number(file("memory.limit_in_bytes")); u.memoryLimit >= noLimitV1 {
			u.memoryLimit = math.NaN()
		}
		eachPair(k.read(file("memory.stat")), func(key string, v float64) {
			switch key {
			case "total_rss":
				u.anon = v
			case "total_cache":
				u.files = v
			case "total_shmem":
				u.shmem = v
			case "total_swap":
				u.swap = v
			case "total_inactive_file":
				u.memory = max(0, u.memory-v)
			}
		})
		u.files = max(0, u.files-u.shmem)
		eachPair(k.read(file("memory.oom_control")), func(key string, v float64) {
			if key == "oom_kill" {
				u.oomKills = v
			}
		})
	case "blkio":
		// The recursive ones came with 4.15.
		read := func(name string) []byte {
			if text := k.read(file(name + "_recursive")); text != nil {
				return text
			}
			return k.read(file(name))
		}
		u.readBytes, u.writeBytes = readBlkio(read("blkio.throttle.io_service_bytes"), top)
		u.readOps, u.writeOps = readBlkio(read("blkio.throttle.io_serviced"), top)
	case "pids":
		u.pids, u.pidsLimit = k.number(file("pids.current")), k.number(file("pids.max"))
	}
}

// eachPair calls f with each line of a word and a number.
func eachPair(text []byte, f func(key string, v float64)) {
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if v := parseNumber(value); ok && !math.IsNaN(v) {
			f(string(key), v)
		}
	}
}

// stalls reads a pressure file (https://docs.kernel.org/accounting/psi.html): the time that some, and that all waited.
func stalls(text []byte) (some, full float64) {
	some, full = math.NaN(), math.NaN()
	for line := range bytes.Lines(text) {
		i := bytes.LastIndex(line, []byte("total="))
		if i < 0 {
			continue
		}
		v := whole(parseNumber(bytes.TrimSpace(line[i+len("total="):])) / tickMicros)
		switch {
		case bytes.HasPrefix(line, []byte("some ")):
			some = v
		case bytes.HasPrefix(line, []byte("full ")):
			full = v
		}
	}
	return some, full
}

// readIO adds up io.stat, a line for each disk: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". A group that never
// touched a disk has no lines.
func readIO(u *usage, text []byte, top func(dev string, all map[string]bool) bool) {
	if text == nil {
		return
	}
	u.readBytes, u.writeBytes, u.readOps, u.writeOps = 0, 0, 0, 0
	all := devices(text)
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) == 0 || !top(string(words[0]), all) {
			continue
		}
		for _, w := range words[1:] {
			key, value, _ := bytes.Cut(w, []byte("="))
			v := parseNumber(value)
			if math.IsNaN(v) {
				continue
			}
			switch string(key) {
			case "rbytes":
				u.readBytes += v
			case "wbytes":
				u.writeBytes += v
			case "rios":
				u.readOps += v
			case "wios":
				u.writeOps += v
			}
		}
	}
}

// readBlkio adds up a table of version 1: "8:0 Read 4096".
func readBlkio(text []byte, top func(dev string, all map[string]bool) bool) (read, write float64) {
	if text == nil {
		return math.NaN(), math.NaN()
	}
	all := devices(text)
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) != 3 || !top(string(words[0]), all) {
			continue
		}
		v := parseNumber(words[2])
		switch string(words[1]) {
		case "Read":
			read += v
		case "Write":
			write += v
		}
	}
	return read, write
}

// devices are the device numbers that begin the lines of a table.
func devices(text []byte) map[string]bool {
	all := map[string]bool{}
	for line := range bytes.Lines(text) {
		if dev, _, ok := bytes.Cut(line, []byte(" ")); ok {
			all[string(dev)] = true
		}
	}
	return all
}

// disks knows which block device lies on which, so that what passes through several is counted once, at the top.
type disks struct {
	sys     string
	holders map[string][]string // by device number
}

// top says whether dev is to be counted: it is no loop device, whose file lies on another, and none of the devices that
// are made of it (LVM, RAID, dm-crypt) is in the same table.
func (d *disks) top(dev string, all map[string]bool) bool {
	major, minor, ok := bytes.Cut([]byte(dev), []byte(":"))
	if !ok || string(major) == "7" || math.IsNaN(parseNumber(major)) || math.IsNaN(parseNumber(minor)) {
		return false
	}
	if len(all) < 2 {
		return true
	}
	held, known := d.holders[dev]
	if !known {
		held = d.lookUp(dev)
		if d.holders == nil || len(d.holders) > 10_000 {
			d.holders = map[string][]string{}
		}
		d.holders[dev] = held
	}
	for _, h := range held {
		if all[h] {
			return false
		}
	}
	return true
}

// lookUp finds the numbers of the devices that are made of dev, and of those that are made of these.
func (d *disks) lookUp(dev string) []string {
	var held []string
	dir := filepath.Join(d.sys, "dev/block", dev, "holders")
	for depth := 0; depth < 4; depth++ {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if number, err := os.ReadFile(filepath.Join(d.sys, "block", e.Name(), "dev")); err == nil {
				held = append(held, string(bytes.TrimSpace(number)))
			}
		}
		dir = filepath.Join(d.sys, "block", entries[0].Name(), "holders")
	}
	return held
}

// traffic adds up a /proc/PID/net/dev without the loopback. drop counts packets of both directions that were dropped or
// damaged.
func traffic(text []byte) (received, sent, drop float64, err error) {
	n := 0
	for line := range bytes.Lines(text) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue // the two lines of the head
		}
		words := bytes.Fields(rest)
		if len(words) < 16 {
			return 0, 0, 0, fmt.Errorf("a line of %d numbers where 16 were expected", len(words))
		}
		if n++; string(bytes.TrimSpace(name)) == "lo" {
			continue
		}
		received += parseNumber(words[0])
		sent += parseNumber(words[8])
		for _, i := range []int{2, 3, 10, 11} {
			drop += parseNumber(words[i])
		}
	}
	if n == 0 {
		return 0, 0, 0, fmt.Errorf("no interface")
	}
	return received, sent, drop, nil
}
