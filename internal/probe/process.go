package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"tocsin/internal/munin"
)

// maxProcesses bounds how many processes are looked at; with more the numbers are too low, and say so by standing still.
const maxProcesses = 100_000

var processProbe = Probe{
	Name: "processes", Doubles: []string{"processes", "proc_pri"}, Interval: time.Minute, Timeout: 30 * time.Second,
	New: func(h *Host) (Reader, error) {
		if !exists(h.proc("1/stat")) {
			return nil, &Off{Why: "no " + h.proc("1/stat") + ": /proc is mounted with hidepid, which shows everybody only processes of their own"}
		}
		return &processReader{dir: h.Proc}, nil
	},
}

type processReader struct{ dir string }

// parseProcess reads what comes first of /proc/PID/stat: the state, and the nice value. The name may hold anything, brackets too.
func parseProcess(b []byte) (state byte, nice int, ok bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, false
	}
	word, rest := nextWord(b[i+1:])
	if len(word) != 1 {
		return 0, 0, false
	}
	var at []byte
	for range 16 { // state is the third word, nice the nineteenth (proc_pid_stat(5))
		at, rest = nextWord(rest)
	}
	nice, err := strconv.Atoi(string(at))
	return word[0], nice, err == nil && nice >= -20 && nice <= 19
}

func (r *processReader) Read(ctx context.Context) ([]Reading, error) {
	dir, err := os.Open(r.dir)
	if err != nil {
		return nil, missing(r.dir, err)
	}
	defer dir.Close()
	var states [256]int
	total, high, low := 0, 0, 0
	buf := make([]byte, 1024)
	path := append(make([]byte, 0, 64), r.dir...)
	path = append(path, '/')
	for ctx.Err() == nil && total < maxProcesses {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if name[0] < '1' || name[0] > '9' {
				continue
			}
			n := readHead(string(append(append(path, name...), "/stat"...)), buf)
			state, nice, ok := parseProcess(buf[:n])
			if !ok {
				continue // it ended meanwhile
			}
			total++
			states[state]++
			if nice < 0 {
				high++
			} else if nice > 0 {
				low++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, missing(r.dir, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if total == 0 {
		return nil, strange(r.dir, "no process in it can be read")
	}
	count := func(letters string) float64 {
		n := 0
		for _, c := range []byte(letters) {
			n += states[c]
		}
		return float64(n)
	}
	return []Reading{
		{Service: processesService, Values: []munin.Value{v("processes", float64(total)), v("uninterruptible", count("D")), v("runnable", count("R")), v("sleeping", count("S")),
			v("idle", count("I")), v("stopped", count("Tt")), v("paging", count("W")), v("dead", count("Xx")), v("zombie", count("Z"))}},
		{Service: priorityService, Values: []munin.Value{v("high", float64(high)), v("low", float64(low))}},
	}, nil
}

// readHead reads the beginning of a file into buf and says how much there was; 0 if it cannot be read.
func readHead(path string, buf []byte) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	n, err := f.Read(buf)
	if err != nil {
		return 0
	}
	return n
}

var processesService = describe("processes", `
	graph_title Processes
	graph_category processes
	graph_args --base 1000 -l 0
	graph_vlabel Number of processes
	graph_order sleeping idle stopped zombie dead paging uninterruptible runnable processes
	dead.label dead
	dead.draw STACK
	dead.colour ff0000
	paging.label paging
	paging.draw STACK
	paging.colour 00aaaa
	paging.info Only kernels before 2.6 have them.
	idle.label idle
	idle.draw STACK
	idle.colour 4169e1
	idle.info Threads of the kernel without work.
	sleeping.label sleeping
	sleeping.draw AREA
	sleeping.colour 0022ff
	uninterruptible.label uninterruptible
	uninterruptible.draw STACK
	uninterruptible.colour ffa500
	uninterruptible.info They wait for a disk, most of them, and cannot even be killed.
	stopped.label stopped
	stopped.draw STACK
	stopped.colour cc0000
	stopped.info Stopped by hand, or looked at by a debugger.
	runnable.label runnable
	runnable.draw STACK
	runnable.colour 22ff22
	runnable.info They run or wait for a processor.
	zombie.label zombie
	zombie.draw STACK
	zombie.colour 990000
	zombie.info They ended, and the process that started them did not ask how.
	processes.label total
	processes.draw LINE1
	processes.colour c0c0c0`)

var priorityService = describe("proc_pri", `
	graph_title Processes priority
	graph_order low high
	graph_category processes
	graph_args --base 1000 -l 0
	graph_vlabel Number of processes
	high.label high priority
	high.draw STACK
	high.info Their nice value is below zero.
	low.label low priority
	low.draw AREA
	low.info Their nice value is above zero.`)
