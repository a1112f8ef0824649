package probe

import (
	"bytes"
	"context"
	"strconv"

	"tocsin/internal/munin"
)

var loadProbe = Probe{
	Name: "load", Doubles: []string{"load", "threads"},
	New: func(h *Host) (Reader, error) {
		r := &loadReader{f: file{path: h.proc("loadavg")}}
		_, err := r.f.read()
		return r, err
	},
}

type loadReader struct{ f file }

func (r *loadReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	load, threads, ok := parseLoad(b)
	if !ok {
		return nil, strange(r.f.path, "no three averages and a number of threads")
	}
	return []Reading{
		{Service: loadService, Values: []munin.Value{v("load", load[1]), v("load1", load[0]), v("load15", load[2])}},
		{Service: threadsService, Values: []munin.Value{v("threads", float64(threads))}},
	}, nil
}

// parseLoad reads /proc/loadavg: the means of 1, 5 and 15 minutes, and running/all threads.
func parseLoad(b []byte) (load [3]float64, threads uint64, ok bool) {
	for i := range load {
		var word []byte
		word, b = nextWord(b)
		n, err := strconv.ParseFloat(string(word), 64)
		if err != nil || !(n >= 0 && n < 1e9) {
			return load, 0, false
		}
		load[i] = n
	}
	word, _ := nextWord(b)
	_, all, _ := bytes.Cut(word, []byte("/"))
	threads, ok = number(all)
	return load, threads, ok
}

var loadService = describe("load", `
	graph_title Load average
	graph_args --base 1000 -l 0
	graph_vlabel load
	graph_scale no
	graph_category system
	graph_info How many threads ran, wanted to run, or waited for a disk, on average.
	load.label load
	load.info The mean of about five minutes.
	load1.label 1 minute
	load1.draw LINE1
	load15.label 15 minutes
	load15.draw LINE1`)

var threadsService = describe("threads", `
	graph_title Number of threads
	graph_vlabel number of threads
	graph_category processes
	threads.label threads
	threads.info Threads of all processes, those of the kernel included.`)
