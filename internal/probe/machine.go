package probe

import (
	"context"
	"fmt"

	"tocsin/internal/munin"

	"golang.org/x/sys/unix"
)

var uptimeProbe = Probe{
	Name: "uptime", Doubles: []string{"uptime"},
	New: func(h *Host) (Reader, error) {
		r := &uptimeReader{f: file{path: h.proc("uptime")}}
		_, err := r.f.read()
		return r, err
	},
}

type uptimeReader struct{ f file }

func (r *uptimeReader) Read(context.Context) ([]Reading, error) {
	seconds, err := r.f.oneNumber()
	if err != nil {
		return nil, err
	}
	return []Reading{{Service: uptimeService, Values: []munin.Value{v("uptime", seconds/86400)}}}, nil
}

var uptimeService = describe("uptime", `
	graph_title Uptime
	graph_args --base 1000 -l 0
	graph_scale no
	graph_vlabel uptime in days
	graph_category system
	uptime.label uptime
	uptime.draw AREA`)

var filesProbe = Probe{
	Name: "open_files", Doubles: []string{"open_files", "open_inodes"},
	New: func(h *Host) (Reader, error) {
		r := &filesReader{files: file{path: h.proc("sys/fs/file-nr")}, inodes: file{path: h.proc("sys/fs/inode-nr")}}
		_, err := r.files.read()
		return r, err
	},
}

type filesReader struct {
	files, inodes file
	most          uint64
	desc          *munin.Service
}

func (r *filesReader) Read(context.Context) ([]Reading, error) {
	b, err := r.files.read()
	if err != nil {
		return nil, err
	}
	var n [3]uint64 // allocated, free, most
	if numbers(oneLine(b), n[:]) < 3 {
		return nil, strange(r.files.path, "no three numbers")
	}
	if r.desc == nil || r.most != n[2] {
		r.desc, r.most = describeFiles(n[2]), n[2]
	}
	all := []Reading{{Service: r.desc, Values: []munin.Value{v("used", float64(n[0]-min(n[1], n[0])))}}}
	var i [2]uint64 // inodes, free ones among them
	if b, err := r.inodes.read(); err == nil && numbers(oneLine(b), i[:]) == 2 {
		all = append(all, Reading{Service: inodesService, Values: []munin.Value{v("used", float64(i[0]-min(i[1], i[0]))), v("max", float64(i[0]))}})
	}
	return all, nil
}

func describeFiles(most uint64) *munin.Service {
	text := `
		graph_title File table usage
		graph_args --base 1000 -l 0
		graph_vlabel number of open files
		graph_category system
		used.label open files
		used.info Files, sockets and pipes that are open in all processes.`
	if most < 1<<40 { // today there is no limit: the number of what can be counted
		text += fmt.Sprintf("\nused.warning %.0f\nused.critical %.0f", float64(most)*0.92, float64(most)*0.98)
	}
	return describe("open_files", text)
}

var inodesService = describe("open_inodes", `
	graph_title Inode table usage
	graph_args --base 1000 -l 0
	graph_vlabel number of open inodes
	graph_category system
	used.label open inodes
	used.info Files that the kernel knows, open or not.
	max.label inode table size`)

var clockProbe = Probe{
	Name: "clock", Doubles: []string{"ntp_kernel_err", "ntp_kernel_pll_off", "ntp_kernel_pll_freq"},
	New: func(*Host) (Reader, error) { return clockReader{}, nil },
}

type clockReader struct{}

// Bits and states of adjtimex(2).
const (
	staNano   = 0x2000
	staUnsync = 0x40
)

func (clockReader) Read(context.Context) ([]Reading, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return nil, missing("adjtimex(2)", err)
	}
	return clockReadings(&t), nil
}

func clockReadings(t *unix.Timex) []Reading {
	unit := 1e-6
	if t.Status&staNano != 0 {
		unit = 1e-9
	}
	synced := 1.0
	if t.Status&staUnsync != 0 {
		synced = 0
	}
	return []Reading{
		{Service: clockOffService, Values: []munin.Value{v("ntp_pll_off", float64(t.Offset)*unit)}},
		{Service: clockErrService, Values: []munin.Value{v("ntp_err", float64(t.Esterror)*1e-6), v("max_err", float64(t.Maxerror)*1e-6)}},
		{Service: clockFreqService, Values: []munin.Value{v("ntp_pll_freq", float64(t.Freq)/65536)}},
		{Service: clockSyncService, Values: []munin.Value{v("synced", synced)}},
	}
}

var (
	clockOffService = describe("ntp_kernel_pll_off", `
		graph_title NTP kernel PLL offset (secs)
		graph_vlabel PLL offset (secs)
		graph_category time
		ntp_pll_off.label pll-offset
		ntp_pll_off.info How far the clock is off, as the kernel was told last. It is told by ntpd and chrony, not by systemd-timesyncd.`)
	clockErrService = describe("ntp_kernel_err", `
		graph_title NTP kernel PLL estimated error (secs)
		graph_vlabel est. err (secs)
		graph_category time
		ntp_err.label est-error
		max_err.label at most
		max_err.info Grows by half a millisecond a second while nobody sets the clock.`)
	clockFreqService = describe("ntp_kernel_pll_freq", `
		graph_title NTP kernel PLL frequency (ppm)
		graph_args --alt-autoscale
		graph_vlabel PLL frequency (ppm)
		graph_category time
		ntp_pll_freq.label pll-freq
		ntp_pll_freq.info By how much the clock is made to run faster.`)
	clockSyncService = describe("clock_synced", `
		graph_title Clock is set by a time server
		graph_args --base 1000 -l 0 --upper-limit 1
		graph_scale no
		graph_category time
		synced.label set
		synced.info 1 while a time server keeps the clock right, 0 if none has for long.`)
)
