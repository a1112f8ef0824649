package probe

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"tocsin/internal/munin"
)

var pressureProbe = Probe{
	Name: "pressure", Doubles: []string{"linux_psi"},
	New: func(h *Host) (Reader, error) {
		r := &pressureReader{}
		for _, kind := range pressureKinds {
			r.files = append(r.files, file{path: h.proc("pressure/" + kind)})
		}
		if _, err := r.files[0].read(); err != nil {
			why, off := IsOff(err)
			if off && strings.HasPrefix(why, "no ") {
				return nil, &Off{Why: "no /proc/pressure: the kernel is older than 4.20, or was built or started without it (psi=1 on its command line switches it on)"}
			}
			return nil, err
		}
		return r, nil
	},
}

var pressureKinds = []string{"cpu", "io", "memory", "irq"}

type pressureReader struct{ files []file }

// psi is one line of a file of /proc/pressure.
type psi struct {
	known  bool
	avg300 float64
	total  uint64 // microseconds
}

// parsePressure reads a file of /proc/pressure. Either line may be absent.
func parsePressure(b []byte) (some, full psi) {
	for len(b) > 0 {
		var line, word []byte
		line, b = nextLine(b)
		key, rest := nextWord(line)
		var p psi
		avg, total := false, false
		for word, rest = nextWord(rest); word != nil; word, rest = nextWord(rest) {
			name, text, _ := bytes.Cut(word, []byte("="))
			switch string(name) {
			case "avg300":
				n, err := strconv.ParseFloat(string(text), 64)
				p.avg300, avg = n, err == nil && n >= 0 && n <= 100
			case "total":
				p.total, total = number(text)
			}
		}
		p.known = avg && total
		switch string(key) {
		case "some":
			some = p
		case "full":
			full = p
		}
	}
	return some, full
}

func (r *pressureReader) Read(context.Context) ([]Reading, error) {
	summary := Reading{Service: pressureService}
	var totals []Reading
	for i, kind := range pressureKinds {
		b, err := r.files[i].read()
		if err != nil {
			if i == 0 {
				return nil, err
			}
			continue // irq is younger than the others
		}
		some, full := parsePressure(b)
		if kind == "cpu" {
			full.known = false // is 0 by definition, for the whole machine
		}
		total := Reading{Service: pressureTotals[i]}
		for _, p := range []struct {
			name string
			psi
		}{{"some", some}, {"full", full}} {
			if !p.known {
				continue
			}
			total.Values = append(total.Values, v("psi_"+kind+"_total_"+p.name, float64(p.total)))
			if kind != "irq" {
				summary.Values = append(summary.Values, v("psi_"+kind+"_avg300_"+p.name, p.avg300))
			}
		}
		if len(total.Values) > 0 {
			totals = append(totals, total)
		}
	}
	if len(totals) == 0 {
		return nil, strange(r.files[0].path, "no line with a total")
	}
	return append([]Reading{summary}, totals...), nil
}

var pressureService = describe("linux_psi", `
	graph_title Pressure Stall Information - Average
	graph_vlabel %
	graph_scale no
	graph_category system
	graph_info Share of the time that something waited for a processor, a disk or memory, over five minutes. "full": nothing else could run either.
	psi_cpu_avg300_some.label CPU 5min Some
	psi_cpu_avg300_some.min 0
	psi_io_avg300_some.label IO 5min Some
	psi_io_avg300_some.min 0
	psi_io_avg300_full.label IO 5min Full
	psi_io_avg300_full.min 0
	psi_memory_avg300_some.label Memory 5min Some
	psi_memory_avg300_some.min 0
	psi_memory_avg300_full.label Memory 5min Full
	psi_memory_avg300_full.min 0`)

// pressureTotals are exact where the averages are smooth. The raw value is microseconds, ten thousand of which a second are 1 %.
var pressureTotals = func() []*munin.Service {
	of := func(kind, title string, fields ...string) *munin.Service {
		s := describe("linux_psi."+kind+"_total", "graph_title "+title+" Pressure Stall Information - Rate\ngraph_category system\ngraph_vlabel %\ngraph_scale no\ngraph_args --base 1000 -l 0")
		for _, f := range fields {
			name := "psi_" + kind + "_total_" + strings.ToLower(f)
			s.Fields = append(s.Fields, munin.Field{Name: name, Attrs: []munin.Attr{
				{Name: "label", Value: title + " Total " + f}, {Name: "type", Value: "DERIVE"}, {Name: "min", Value: "0"}, {Name: "cdef", Value: name + ",10000,/"},
			}})
		}
		return s
	}
	return []*munin.Service{of("cpu", "CPU", "Some"), of("io", "IO", "Some", "Full"), of("memory", "Memory", "Some", "Full"), of("irq", "Interrupt", "Full")}
}()
