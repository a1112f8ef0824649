package probe

import (
	"bytes"
	"context"
	"fmt"

	"tocsin/internal/munin"
)

// ticks of /proc/stat are hundredths of a second on every Linux (USER_HZ), and so per cent of one processor.
var cpuProbe = Probe{
	Name: "cpu", Doubles: []string{"cpu", "forks", "interrupts", "vmstat"},
	New: func(h *Host) (Reader, error) {
		r := &cpuReader{f: file{path: h.proc("stat")}}
		_, err := r.f.read()
		return r, err
	},
}

// The columns of the line "cpu" (proc_stat(5)).
const (
	cpuUser = iota
	cpuNice
	cpuSystem
	cpuIdle
	cpuIOWait
	cpuIRQ
	cpuSoftIRQ
	cpuSteal
	cpuGuest
	cpuGuestNice
	cpuColumns
)

// procStat is what is read of /proc/stat.
type procStat struct {
	cpu                                [cpuColumns]uint64 // hundredths of a second of all processors
	columns, cpus                      int
	intr, ctxt, forks, running, blocks uint64
	has                                [5]bool // intr, ctxt, forks, running, blocks
}

// parseStat reads /proc/stat. A kernel may leave out columns at the end of the line "cpu" and whole lines.
func parseStat(b []byte) (s procStat, ok bool) {
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		key, rest := nextWord(line)
		switch {
		case string(key) == "cpu":
			s.columns = numbers(rest, s.cpu[:])
		case bytes.HasPrefix(key, []byte("cpu")):
			s.cpus++
		case string(key) == "intr":
			s.has[0] = firstNumber(rest, &s.intr)
		case string(key) == "ctxt":
			s.has[1] = firstNumber(rest, &s.ctxt)
		case string(key) == "processes":
			s.has[2] = firstNumber(rest, &s.forks)
		case string(key) == "procs_running":
			s.has[3] = firstNumber(rest, &s.running)
		case string(key) == "procs_blocked":
			s.has[4] = firstNumber(rest, &s.blocks)
		}
	}
	return s, s.columns > cpuIdle
}

type cpuReader struct {
	f    file
	last [cpuColumns]uint64
	desc *munin.Service
	cpus int
}

func (r *cpuReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	s, ok := parseStat(b)
	if !ok {
		return nil, strange(r.f.path, `no line "cpu" with four numbers`)
	}
	// A guest's time is in user as well, that of a nice guest in nice.
	guest := min(s.cpu[cpuGuest], s.cpu[cpuUser])
	nice := min(s.cpu[cpuGuestNice], s.cpu[cpuNice])
	s.cpu[cpuUser] -= guest
	s.cpu[cpuNice] -= nice
	s.cpu[cpuGuest] = guest + nice
	for i := range s.cpu {
		// idle and iowait are estimates, which now and then fall by a little.
		if was := r.last[i]; s.cpu[i] < was && was-s.cpu[i] < 100*uint64(max(s.cpus, 1)) {
			s.cpu[i] = was
		}
	}
	r.last = s.cpu
	if r.desc == nil || r.cpus != s.cpus {
		r.desc, r.cpus = describeCPU(s.columns, s.cpus), s.cpus
	}
	cpu := Reading{Service: r.desc}
	for i := range min(s.columns, cpuGuestNice) {
		cpu.Values = append(cpu.Values, v(cpuFields[i].name, float64(s.cpu[i])))
	}
	all := []Reading{cpu}
	if s.has[2] {
		all = append(all, Reading{Service: forksService, Values: []munin.Value{v("forks", float64(s.forks))}})
	}
	if s.has[0] && s.has[1] {
		all = append(all, Reading{Service: interruptsService, Values: []munin.Value{v("intr", float64(s.intr)), v("ctx", float64(s.ctxt))}})
	}
	if s.has[3] && s.has[4] {
		running := max(s.running, 1) - 1 // without ourselves, who are reading this
		all = append(all, Reading{Service: vmstatService, Values: []munin.Value{v("wait", float64(running)), v("sleep", float64(s.blocks))}})
	}
	return all, nil
}

var cpuFields = [cpuGuestNice]struct{ name, info string }{
	cpuUser:    {"user", "Programs, those with a raised nice value aside."},
	cpuNice:    {"nice", "Programs that step back behind others (nice)."},
	cpuSystem:  {"system", "The kernel, working for programs."},
	cpuIdle:    {"idle", "Nothing to do."},
	cpuIOWait:  {"iowait", "Nothing to do but to wait for a disk."},
	cpuIRQ:     {"irq", "Interrupts of devices."},
	cpuSoftIRQ: {"softirq", "What interrupts left to do later, most of it for the network."},
	cpuSteal:   {"steal", "This machine had work, but the hypervisor gave the processor to another one. More than a few per cent for long: ask the provider."},
	cpuGuest:   {"guest", "Virtual machines that run on this one."},
}

func describeCPU(columns, cpus int) *munin.Service {
	s := describe("cpu", fmt.Sprintf(`
		graph_title CPU usage
		graph_order system user nice idle iowait irq softirq
		graph_args --base 1000 -r --lower-limit 0 --upper-limit %d
		graph_vlabel %%
		graph_scale no
		graph_info What the processors did. 100 %% is one of them.
		graph_category system
		graph_period second`, 100*max(cpus, 1)))
	for _, i := range []int{cpuSystem, cpuUser, cpuNice, cpuIdle, cpuIOWait, cpuIRQ, cpuSoftIRQ, cpuSteal, cpuGuest} {
		if i >= columns {
			continue
		}
		draw := "STACK"
		if i == cpuSystem {
			draw = "AREA"
		}
		f := cpuFields[i]
		s.Fields = append(s.Fields, munin.Field{Name: f.name, Attrs: []munin.Attr{
			{Name: "label", Value: f.name}, {Name: "draw", Value: draw}, {Name: "min", Value: "0"}, {Name: "type", Value: "DERIVE"}, {Name: "info", Value: f.info},
		}})
	}
	return s
}

var forksService = describe("forks", `
	graph_title Fork rate
	graph_args --base 1000 -l 0
	graph_vlabel forks / ${graph_period}
	graph_category processes
	graph_info New processes and threads.
	forks.label forks
	forks.type DERIVE
	forks.min 0
	forks.max 100000`)

var interruptsService = describe("interrupts", `
	graph_title Interrupts and context switches
	graph_args --base 1000 -l 0
	graph_vlabel interrupts & ctx switches / ${graph_period}
	graph_category system
	intr.label interrupts
	intr.type DERIVE
	intr.min 0
	intr.info Devices and timers that asked for the processor.
	ctx.label context switches
	ctx.type DERIVE
	ctx.min 0
	ctx.info One process was stopped so that another could run.`)

var vmstatService = describe("vmstat", `
	graph_title VMstat
	graph_args --base 1000 -l 0
	graph_vlabel process states
	graph_category processes
	wait.label running
	wait.type GAUGE
	wait.max 500000
	wait.info Threads that run or would like to.
	sleep.label I/O sleep
	sleep.type GAUGE
	sleep.max 500000
	sleep.info Threads that wait for a disk and cannot be interrupted.`)
