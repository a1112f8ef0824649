package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// Bounds of the systemd probe.
const (
	maxUnits      = 10_000 // that are in trouble
	maxUnitsNamed = 20
)

var systemdProbe = Probe{
	Name: "systemd", Doubles: []string{"systemd_units", "systemd_status"}, Interval: time.Minute, Timeout: 10 * time.Second,
	New: func(h *Host) (Reader, error) {
		if !exists(h.at("run/systemd/system")) {
			return nil, &Off{Why: "no /run/systemd/system: this machine, or container, was not started by systemd"}
		}
		if !exists(h.at("run/dbus/system_bus_socket")) && !exists(h.at("run/systemd/private")) {
			return nil, &Off{Why: "no /run/dbus/system_bus_socket: systemd can only be asked over D-Bus (package dbus)"}
		}
		return &systemdReader{h: h}, nil
	},
}

type systemdReader struct {
	h     *Host
	shape string
	desc  *munin.Service
}

// unit is one that systemd tells of.
type unit struct{ name, active, sub string }

func (r *systemdReader) Read(ctx context.Context) ([]Reading, error) {
	units, err := r.ask(ctx)
	if err != nil {
		return nil, err
	}
	var failed, restarting []string
	for _, u := range units {
		switch {
		case u.active == "failed":
			failed = append(failed, u.name)
		case u.sub == "auto-restart":
			restarting = append(restarting, u.name)
		}
	}
	if shape := strings.Join(failed, " ") + "\n" + strings.Join(restarting, " "); r.desc == nil || r.shape != shape {
		r.shape, r.desc = shape, describeUnits(failed, restarting)
	}
	return []Reading{{Service: r.desc, Values: []munin.Value{v("failed", float64(len(failed))), v("restarting", float64(len(restarting)))}}}, nil
}

// ask asks the system's bus, which everybody may, or systemd itself, which only root may.
func (r *systemdReader) ask(ctx context.Context) ([]unit, error) {
	b, err := dialBus(ctx, r.h.at("run/dbus/system_bus_socket"), true)
	if err != nil {
		var err2 error
		if b, err2 = dialBus(ctx, r.h.at("run/systemd/private"), false); err2 != nil {
			return nil, fmt.Errorf("ask systemd: %w", err)
		}
	}
	defer b.Close()
	states := busWriter{}
	states.uint32(0)
	for _, s := range []string{"failed", "auto-restart"} {
		states.string(s)
	}
	binary.LittleEndian.PutUint32(states, uint32(len(states)-4))
	body, err := b.call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "ListUnitsFiltered", "as", states)
	if err != nil {
		return nil, fmt.Errorf("ask systemd: %w", err)
	}
	units, ok := parseUnits(body)
	if !ok {
		return nil, &Off{Why: "systemd answers in a way that is not known"}
	}
	return units, nil
}

// parseUnits reads a(ssssssouso): name, description, load, active and sub state, follower, path, and its job.
func parseUnits(r busReader) (units []unit, ok bool) {
	n := int(r.uint32())
	r.align(8)
	for end := r.at + n; r.at < end && !r.bad && len(units) < maxUnits; {
		r.align(8)
		var u unit
		for i := range 10 {
			if i == 7 {
				r.uint32()
				continue
			}
			s := r.string()
			switch i {
			case 0:
				u.name = s
			case 3:
				u.active = s
			case 4:
				u.sub = s
			}
		}
		units = append(units, u)
	}
	return units, !r.bad
}

func describeUnits(failed, restarting []string) *munin.Service {
	s := describe("systemd_units", `
		graph_title Units of systemd in trouble
		graph_args --base 1000 -l 0
		graph_vlabel units
		graph_scale no
		graph_category system
		failed.label failed
		failed.draw AREASTACK
		failed.warning 0
		failed.info They ended with an error, or could not be started.
		restarting.label being restarted
		restarting.draw AREASTACK
		restarting.info They ended and are about to be started again; one that is here often restarts over and over.`)
	for i, names := range [][]string{failed, restarting} {
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		text := strings.Join(names[:min(len(names), maxUnitsNamed)], ", ")
		if more := len(names) - maxUnitsNamed; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		s.Fields[i].Attrs = append(s.Fields[i].Attrs, munin.Attr{Name: "extinfo", Value: strings.ToValidUTF8(text, "?")})
	}
	return s
}
