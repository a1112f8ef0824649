package probe

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"tocsin/internal/munin"
)

// table reads lines of a name and a number, such as those of /proc/meminfo and /proc/vmstat: only the names that it was made with.
type table struct {
	index map[string]int
	value []uint64
	has   []bool
}

func newTable(names ...string) *table {
	t := &table{index: map[string]int{}, value: make([]uint64, len(names)), has: make([]bool, len(names))}
	for i, name := range names {
		t.index[name] = i
	}
	return t
}

// read forgets what it had read, and says how many names it found.
func (t *table) read(b []byte) (found int) {
	clear(t.has)
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		key, rest := nextWord(line)
		i, ok := t.index[string(bytes.TrimSuffix(key, []byte(":")))]
		if !ok || t.has[i] {
			continue
		}
		if t.has[i] = firstNumber(rest, &t.value[i]); t.has[i] {
			found++
		}
	}
	return found
}

// get is the number of a name, or nothing.
func (t *table) get(name string) (n float64, ok bool) {
	i := t.index[name]
	return float64(t.value[i]), t.has[i]
}

var memoryProbe = Probe{
	Name: "memory", Doubles: []string{"memory"},
	New: func(h *Host) (Reader, error) {
		r := &memoryReader{f: file{path: h.proc("meminfo")}, t: newTable("MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active", "Inactive",
			"SwapTotal", "SwapFree", "Dirty", "Writeback", "Mapped", "Shmem", "Slab", "PageTables", "Percpu", "VmallocUsed", "Committed_AS")}
		_, err := r.f.read()
		return r, err
	},
}

type memoryReader struct {
	f     file
	t     *table
	desc  *munin.Service
	shape string // what desc was made of
}

func (r *memoryReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	r.t.read(b)
	var values []munin.Value
	kib := func(name string) float64 {
		n, _ := r.t.get(name)
		return n * 1024
	}
	total, has := r.t.get("MemTotal")
	if _, free := r.t.get("MemFree"); !has || !free {
		return nil, strange(r.f.path, "no MemTotal or no MemFree")
	}
	// Shared memory is in Cached as well; what is left of all is what programs hold.
	values = append(values,
		v("apps", max(0, kib("MemTotal")-kib("MemFree")-kib("Buffers")-kib("Cached")-kib("Slab")-kib("PageTables")-kib("Percpu")-kib("SwapCached"))),
		v("free", kib("MemFree")), v("buffers", kib("Buffers")), v("cached", max(0, kib("Cached")-kib("Shmem"))),
		v("swap", max(0, kib("SwapTotal")-kib("SwapFree"))))
	shape := fmt.Sprint(total)
	for _, f := range memoryFields {
		if f.source == "" {
			continue
		}
		if n, ok := r.t.get(f.source); ok {
			values = append(values, v(f.name, n*1024))
			shape += " " + f.name
		}
	}
	if r.desc == nil || r.shape != shape {
		r.desc, r.shape = describeMemory(r.t), shape
	}
	all := []Reading{{Service: r.desc, Values: values}}
	dirty, okDirty := r.t.get("Dirty")
	if back, ok := r.t.get("Writeback"); ok && okDirty {
		all = append(all, Reading{Service: writebackService, Values: []munin.Value{v("dirty", dirty*1024), v("writeback", back*1024)}})
	}
	return all, nil
}

// memoryFields are in the order in which Munin's plugin names them; source is the line of /proc/meminfo where that is all.
var memoryFields = []struct{ name, label, source, draw, colour, info string }{
	{"apps", "apps", "", "AREA", "0", "What programs hold for themselves."},
	{"buffers", "buffers", "", "STACK", "5", "Cache of disks, below the files."},
	{"swap", "swap", "", "STACK", "7", "What was moved out to the swap space."},
	{"cached", "cache", "", "STACK", "4", "Cache of files."},
	{"free", "unused", "", "STACK", "6", "Not used for anything."},
	{"shmem", "shmem", "Shmem", "STACK", "9", "Shared memory, and files in tmpfs."},
	{"slab", "slab_cache", "Slab", "STACK", "3", "What the kernel holds, most of it to know files by name."},
	{"swap_cache", "swap_cache", "SwapCached", "STACK", "2", "What came back from the swap space and has not changed since."},
	{"page_tables", "page_tables", "PageTables", "STACK", "1", "What the kernel needs to know where memory is."},
	{"per_cpu", "per_cpu", "Percpu", "STACK", "20", "What the kernel holds for each processor."},
	{"vmalloc_used", "vmalloc_used", "VmallocUsed", "LINE2", "8", "Memory of the kernel that is contiguous only by name."},
	{"committed", "committed", "Committed_AS", "LINE2", "10", "What was promised to programs. It may be more than there is, for they seldom take all of it."},
	{"mapped", "mapped", "Mapped", "LINE2", "11", "Files that programs look at as memory."},
	{"active", "active", "Active", "LINE2", "12", "Used a short time ago."},
	{"inactive", "inactive", "Inactive", "LINE2", "15", "Not used for long: taken first when memory is short."},
	{"available", "available", "MemAvailable", "LINE1", "16", "What new programs can have without swapping: the number to look at when memory may be short."},
}

func describeMemory(t *table) *munin.Service {
	total, _ := t.get("MemTotal")
	s := describe("memory", fmt.Sprintf(`
		graph_args --base 1024 -l 0 --upper-limit %.0f
		graph_vlabel Bytes
		graph_title Memory usage
		graph_category system
		graph_info What the memory is used for.`, total*1024))
	var order []string
	for _, name := range []string{"apps", "page_tables", "per_cpu", "swap_cache", "slab", "shmem", "cached", "buffers", "free", "swap"} {
		for _, f := range memoryFields {
			if f.name == name && present(t, f.source) {
				order = append(order, name)
			}
		}
	}
	s.Attrs = append(s.Attrs, munin.Attr{Name: "graph_order", Value: strings.Join(order, " ")})
	for _, f := range memoryFields {
		if !present(t, f.source) {
			continue
		}
		s.Fields = append(s.Fields, munin.Field{Name: f.name, Attrs: []munin.Attr{
			{Name: "label", Value: f.label}, {Name: "draw", Value: f.draw}, {Name: "info", Value: f.info}, {Name: "colour", Value: "COLOUR" + f.colour},
		}})
	}
	return s
}

func present(t *table, source string) bool {
	if source == "" {
		return true
	}
	_, ok := t.get(source)
	return ok
}

var writebackService = describe("memory_writeback", `
	graph_title Memory waiting for the disk
	graph_args --base 1024 -l 0
	graph_vlabel Bytes
	graph_category disk
	graph_info What was written by programs and is not on the disk yet. It grows without end while a disk hangs.
	dirty.label to be written
	dirty.draw AREA
	writeback.label being written
	writeback.draw LINE1`)

var vmProbe = Probe{
	Name: "vm", Doubles: []string{"swap"},
	New: func(h *Host) (Reader, error) {
		r := &vmReader{f: file{path: h.proc("vmstat")}, t: newTable("pswpin", "pswpout", "oom_kill", "pgmajfault", "pgscan_direct",
			"allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable", "workingset_refault_anon", "workingset_refault_file", "pgpgin", "pgpgout")}
		_, err := r.f.read()
		return r, err
	},
}

type vmReader struct {
	f file
	t *table
}

func (r *vmReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	if r.t.read(b) == 0 {
		return nil, strange(r.f.path, "none of its counters is known")
	}
	var all []Reading
	add := func(s *munin.Service, fields []string, sources ...[]string) {
		var values []munin.Value
		for i, names := range sources {
			sum, found := 0.0, false
			for _, name := range names {
				if n, ok := r.t.get(name); ok {
					sum, found = sum+n, true
				}
			}
			if found {
				values = append(values, v(fields[i], sum))
			}
		}
		if len(values) > 0 {
			all = append(all, Reading{Service: s, Values: values})
		}
	}
	add(swapService, []string{"swap_in", "swap_out"}, []string{"pswpin"}, []string{"pswpout"})
	add(oomService, []string{"oom_kill"}, []string{"oom_kill"})
	add(reclaimService, []string{"major", "scanned", "stalls", "refaults"}, []string{"pgmajfault"}, []string{"pgscan_direct"},
		[]string{"allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable"}, []string{"workingset_refault_anon", "workingset_refault_file"})
	return all, nil
}

var swapService = describe("swap", `
	graph_title Swap in/out
	graph_args -l 0 --base 1000
	graph_vlabel pages per ${graph_period} in (-) / out (+)
	graph_category system
	swap_in.label swap
	swap_in.type DERIVE
	swap_in.max 100000
	swap_in.min 0
	swap_in.graph no
	swap_out.label swap
	swap_out.type DERIVE
	swap_out.max 100000
	swap_out.min 0
	swap_out.negative swap_in`)

var oomService = describe("oom", `
	graph_title Processes killed for want of memory
	graph_args --base 1000 -l 0
	graph_vlabel kills / ${graph_period}
	graph_category system
	graph_period hour
	oom_kill.label killed
	oom_kill.type DERIVE
	oom_kill.min 0
	oom_kill.max 10000
	oom_kill.info The kernel found no memory and ended a process. One is too many.`)

var reclaimService = describe("memory_reclaim", `
	graph_title Memory that was searched for
	graph_args --base 1000 -l 0
	graph_vlabel events / ${graph_period}
	graph_category system
	graph_info Work that is only done when memory is short.
	major.label pages read from disk
	major.type DERIVE
	major.min 0
	major.info A program needed a page that had to be read first.
	scanned.label pages looked at
	scanned.type DERIVE
	scanned.min 0
	scanned.info A program had to look for free memory itself.
	stalls.label waits
	stalls.type DERIVE
	stalls.min 0
	stalls.info A program had to wait for free memory.
	refaults.label thrown away too early
	refaults.type DERIVE
	refaults.min 0
	refaults.info A page was needed again soon after it had been thrown away.`)
