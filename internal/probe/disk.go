package probe

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// maxDisks bounds the disk probe.
const maxDisks = 64

// diskProbe looks every second, so that the worst second of ten is known, and tells in the operator's interval.
var diskProbe = Probe{
	Name: "disks", Doubles: []string{"diskstats", "iostat", "iostat_ios"}, Interval: time.Second,
	New: func(h *Host) (Reader, error) {
		r := &diskReader{h: h, f: file{path: h.proc("diskstats")}, known: map[string]*disk{}}
		b, err := r.f.read()
		if err == nil && len(b) == 0 {
			err = &Off{Why: "no disks: " + r.f.path + " is empty, as in a container"}
		}
		return r, err
	},
}

// diskCounts are the counters of one line of /proc/diskstats (https://docs.kernel.org/admin-guide/iostats.html). Times are in ms.
type diskCounts struct {
	reads, readMerged, readSectors, readTime     uint64
	writes, writeMerged, writeSectors, writeTime uint64
	inFlight, busyTime, queueTime                uint64
	discards, discardMerged, discardSectors      uint64
	discardTime                                  uint64
	flushes, flushTime                           uint64
}

// parseDisk reads a line: numbers of the device, its name, and 11, 15 or 17 counters.
func parseDisk(line []byte) (name string, c diskCounts, ok bool) {
	_, line = nextWord(line)
	_, line = nextWord(line)
	word, line := nextWord(line)
	var n [17]uint64
	if len(word) == 0 || len(word) > 64 || numbers(line, n[:]) < 11 {
		return "", c, false
	}
	return string(word), diskCounts{
		n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15], n[16],
	}, true
}

// disk is what is remembered of one.
type disk struct {
	field      string // Munin's name of it
	skip       bool   // a part of another one, or none at all
	seen       bool
	told, last diskCounts // when it was told last, and a second ago
	toldAt     time.Duration
	lastAt     time.Duration
	worst      diskWorst // second since it was told
	desc       diskServices
}

// diskWorst is the worst second; NaN where there was nothing.
type diskWorst struct{ read, write, flush, busy, readBytes, writeBytes float64 }

var noWorst = diskWorst{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}

type diskServices struct{ latency, utilization, throughput, iops *munin.Service }

type diskReader struct {
	h     *Host
	f     file
	known map[string]*disk
	next  time.Duration // when to tell
	shape string
	desc  diskServices // of all together
	queue *munin.Service
}

func (r *diskReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	now := r.h.Boot()
	for _, d := range r.known {
		d.seen = false
	}
	lines := 0
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		if lines++; len(line) > 0 {
			r.count(line, now)
		}
	}
	for name, d := range r.known {
		if !d.seen {
			delete(r.known, name)
		}
	}
	if len(r.known) == 0 && lines > 0 {
		return nil, strange(r.f.path, "no line of a name and eleven counters")
	}
	if now < r.next {
		return nil, nil
	}
	every := r.h.interval()
	r.next = now.Truncate(every) + every
	return r.tell(now), nil
}

// count takes the counters of one line.
func (r *diskReader) count(line []byte, now time.Duration) {
	name, c, ok := parseDisk(line)
	if !ok {
		return
	}
	d := r.known[name]
	if d == nil {
		if len(r.known) >= 16*maxDisks {
			return
		}
		d = &disk{worst: noWorst}
		d.field, d.skip = r.identify(name)
		r.known[name] = d
	}
	d.seen = true
	if d.skip {
		return
	}
	if d.lastAt != 0 {
		d.worst.take(&d.last, &c, (now - d.lastAt).Seconds())
	}
	d.last, d.lastAt = c, now
}

// identify says how Munin names a disk, and whether it is none: part of another one, in memory, or made of a file.
func (r *diskReader) identify(name string) (field string, skip bool) {
	for _, p := range []string{"loop", "ram", "zram", "sr", "fd", "nbd", "mtdblock"} {
		if rest, ok := strings.CutPrefix(name, p); ok && strings.Trim(rest, "0123456789") == "" {
			return "", true
		}
	}
	// What is a disk has a folder of its own; its parts are below it. Without /sys nothing is known of that.
	dir := file{path: r.h.sys("block/" + strings.ReplaceAll(name, "/", "!") + "/size")}
	if _, err := dir.read(); err != nil && exists(r.h.sys("block")) {
		return "", true
	}
	if strings.HasPrefix(name, "dm-") {
		f := file{path: r.h.sys("block/" + name + "/dm/name")}
		if b, err := f.read(); err == nil && len(oneLine(b)) > 0 {
			return fieldName(logicalVolume(string(oneLine(b)))), false
		}
	}
	return fieldName(name), false
}

// logicalVolume makes "group/volume" of "group-volume", where a dash in a name is doubled; other names of the device mapper stand
// below "mapper/", as Munin has it.
func logicalVolume(name string) string {
	for i := 1; i+1 < len(name); i++ {
		if name[i] != '-' {
			continue
		}
		if name[i+1] == '-' {
			i++
			continue
		}
		return strings.ReplaceAll(name[:i], "--", "-") + "/" + strings.ReplaceAll(name[i+1:], "--", "-")
	}
	return "mapper/" + name
}

// grown is how much a counter grew; times of old kernels overflow at 32 bits. NaN if it began anew.
func grown(was, is uint64) float64 {
	switch {
	case is >= was:
		return float64(is - was)
	case was < 1<<32 && was-is > 1<<31:
		return float64(is + 1<<32 - was)
	}
	return math.NaN()
}

// mean is the mean time of n operations in seconds; NaN if there were none.
func mean(ms, n float64) float64 {
	if !(n > 0) {
		return math.NaN()
	}
	return ms / n / 1000
}

func (w *diskWorst) take(was, is *diskCounts, seconds float64) {
	if !(seconds > 0) {
		return
	}
	worse := func(p *float64, v float64) {
		if v > *p || math.IsNaN(*p) {
			*p = v
		}
	}
	worse(&w.read, mean(grown(was.readTime, is.readTime), grown(was.reads, is.reads)))
	worse(&w.write, mean(grown(was.writeTime, is.writeTime), grown(was.writes, is.writes)))
	worse(&w.flush, mean(grown(was.flushTime, is.flushTime), grown(was.flushes, is.flushes)))
	worse(&w.busy, min(100, grown(was.busyTime, is.busyTime)/seconds/10))
	worse(&w.readBytes, 512*grown(was.readSectors, is.readSectors)/seconds)
	worse(&w.writeBytes, 512*grown(was.writeSectors, is.writeSectors)/seconds)
}

// tell makes readings of what happened since the last time.
func (r *diskReader) tell(now time.Duration) []Reading {
	var names []string
	for name, d := range r.known {
		if !d.skip && (d.last.reads > 0 || d.last.writes > 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = names[:min(len(names), maxDisks)]
	r.describe(names)
	all := []Reading{{Service: r.desc.latency}, {Service: r.desc.utilization}, {Service: r.desc.throughput}, {Service: r.desc.iops}, {Service: r.queue}}
	for _, name := range names {
		d := r.known[name]
		was, is := d.told, d.last
		seconds := (now - d.toldAt).Seconds()
		first := d.toldAt == 0
		worst := d.worst
		d.told, d.toldAt, d.worst = is, now, noWorst
		if first || !(seconds > 0) {
			continue
		}
		reads, writes, flushes := grown(was.reads, is.reads), grown(was.writes, is.writes), grown(was.flushes, is.flushes)
		readTime, writeTime := grown(was.readTime, is.readTime), grown(was.writeTime, is.writeTime)
		busy := grown(was.busyTime, is.busyTime)
		util := min(100, busy/seconds/10)
		wait := mean(readTime+writeTime, reads+writes)
		readBytes, writeBytes := 512*grown(was.readSectors, is.readSectors), 512*grown(was.writeSectors, is.writeSectors)
		sum := func(i int, field string, value float64) {
			all[i].Values = append(all[i].Values, v(d.field+field, value))
		}
		sum(0, "_avgwait", wait)
		sum(1, "_util", util)
		sum(2, "_rdbytes", readBytes/seconds)
		sum(2, "_wrbytes", writeBytes/seconds)
		sum(3, "_rdio", reads/seconds)
		sum(3, "_wrio", writes/seconds)
		sum(4, "_queue", grown(was.queueTime, is.queueTime)/seconds/1000)
		all = append(all,
			Reading{Service: d.desc.latency, Values: []munin.Value{
				v("svctm", mean(busy, reads+writes)), v("avgwait", wait), v("avgrdwait", mean(readTime, reads)), v("avgwrwait", mean(writeTime, writes)),
				v("avgflwait", mean(grown(was.flushTime, is.flushTime), flushes)), v("maxrdwait", worst.read), v("maxwrwait", worst.write), v("maxflwait", worst.flush)}},
			Reading{Service: d.desc.utilization, Values: []munin.Value{v("util", util), v("maxutil", worst.busy)}},
			Reading{Service: d.desc.throughput, Values: []munin.Value{v("rdbytes", readBytes/seconds), v("wrbytes", writeBytes/seconds),
				v("maxrdbytes", worst.readBytes), v("maxwrbytes", worst.writeBytes)}},
			Reading{Service: d.desc.iops, Values: []munin.Value{v("rdio", reads/seconds), v("wrio", writes/seconds), v("flio", flushes/seconds),
				v("avgrdrqsz", readBytes/reads/1000), v("avgwrrqsz", writeBytes/writes/1000)}})
	}
	for i := range all {
		for j := range all[i].Values {
			if x := &all[i].Values[j].V; math.IsInf(*x, 0) {
				*x = math.NaN()
			}
		}
	}
	return slices.DeleteFunc(all, func(rd Reading) bool { return len(rd.Values) == 0 })
}

// describe makes the descriptions anew if there are other disks than before.
func (r *diskReader) describe(names []string) {
	shape := strings.Join(names, " ")
	if r.shape == shape && r.queue != nil {
		return
	}
	r.shape = shape
	r.desc = diskServices{
		latency: describe("diskstats_latency", "graph_title Disk latency per device\ngraph_args --base 1000\ngraph_vlabel Average IO Wait (seconds)\ngraph_category disk\ngraph_width 400"),
		utilization: describe("diskstats_utilization", `graph_title Utilization per device
			graph_args --base 1000 --lower-limit 0 --upper-limit 100 --rigid
			graph_vlabel % busy
			graph_category disk
			graph_width 400
			graph_scale no`),
		throughput: describe("diskstats_throughput", "graph_title Throughput per device\ngraph_args --base 1024\ngraph_vlabel Bytes/${graph_period} read (-) / write (+)\ngraph_category disk\ngraph_width 400"),
		iops:       describe("diskstats_iops", "graph_title Disk IOs per device\ngraph_args --base 1000\ngraph_vlabel IOs/${graph_period} read (-) / write (+)\ngraph_category disk\ngraph_width 400"),
	}
	r.queue = describe("diskstats_queue", "graph_title Queue per device\ngraph_args --base 1000 -l 0\ngraph_vlabel requests under way\ngraph_category disk\ngraph_info How many requests were waiting or being served, on average.")
	gauge := []string{"type GAUGE", "min 0", "draw LINE1"}
	for _, name := range names {
		d := r.known[name]
		add(r.desc.latency, d.field+"_avgwait", name, gauge...)
		add(r.desc.utilization, d.field+"_util", name, gauge...)
		add(r.desc.throughput, d.field+"_rdbytes", name, append(gauge, "graph no")...)
		add(r.desc.throughput, d.field+"_wrbytes", name, append(gauge, "negative "+d.field+"_rdbytes")...)
		add(r.desc.iops, d.field+"_rdio", name, append(gauge, "graph no")...)
		add(r.desc.iops, d.field+"_wrio", name, append(gauge, "negative "+d.field+"_rdio")...)
		add(r.queue, d.field+"_queue", name, gauge...)
		if d.desc.latency == nil {
			d.desc = describeDisk(name, d.field)
		}
	}
}

func describeDisk(name, field string) diskServices {
	gauge := []string{"type GAUGE", "min 0", "draw LINE1"}
	d := diskServices{
		latency: describe("diskstats_latency."+field, fmt.Sprintf(`graph_title Average latency for /dev/%s
			graph_args --base 1000 --logarithmic
			graph_vlabel seconds
			graph_category disk
			graph_info How long a request took, waiting included. Where there was no request there is no value. The worst second tells of stalls that an average hides.`, name)),
		utilization: describe("diskstats_utilization."+field, fmt.Sprintf(`graph_title Disk utilization for /dev/%s
			graph_args --base 1000 --lower-limit 0 --upper-limit 100 --rigid
			graph_vlabel %% busy
			graph_category disk
			graph_scale no
			graph_info Share of the time with at least one request under way. A virtual disk serves many at a time and may have room at 100 %%: look at latency and queue.`, name)),
		throughput: describe("diskstats_throughput."+field, fmt.Sprintf("graph_title Disk throughput for /dev/%s\ngraph_args --base 1024\ngraph_vlabel Pr ${graph_period} read (-) / write (+)\ngraph_category disk", name)),
		iops:       describe("diskstats_iops."+field, fmt.Sprintf("graph_title IOs for /dev/%s\ngraph_args --base 1000\ngraph_vlabel Units read (-) / write (+)\ngraph_category disk", name)),
	}
	add(d.latency, "svctm", "Device IO time", gauge...)
	add(d.latency, "avgwait", "IO Wait time", gauge...)
	add(d.latency, "avgrdwait", "Read IO Wait time", append(gauge, "warning 0:3")...)
	add(d.latency, "avgwrwait", "Write IO Wait time", append(gauge, "warning 0:3")...)
	add(d.latency, "avgflwait", "Flush IO Wait time", gauge...)
	add(d.latency, "maxrdwait", "Read, worst second", gauge...)
	add(d.latency, "maxwrwait", "Write, worst second", gauge...)
	add(d.latency, "maxflwait", "Flush, worst second", gauge...)
	add(d.utilization, "util", "Utilization", gauge...)
	add(d.utilization, "maxutil", "Worst second", gauge...)
	add(d.throughput, "rdbytes", "invisible", append(gauge, "graph no")...)
	add(d.throughput, "wrbytes", "Bytes", append(gauge, "negative rdbytes")...)
	add(d.throughput, "maxrdbytes", "invisible", append(gauge, "graph no")...)
	add(d.throughput, "maxwrbytes", "Busiest second", append(gauge, "negative maxrdbytes")...)
	add(d.iops, "rdio", "dummy", append(gauge, "graph no")...)
	add(d.iops, "wrio", "IO/sec", append(gauge, "negative rdio")...)
	add(d.iops, "flio", "Flushes/sec", gauge...)
	add(d.iops, "avgrdrqsz", "dummy", append(gauge, "graph no")...)
	add(d.iops, "avgwrrqsz", "Req Size (KB)", append(gauge, "negative avgrdrqsz")...)
	return d
}
