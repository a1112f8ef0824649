package daemon

import (
	"context"
	"io"

	"tocsin/internal/api"
)

// metrics writes what the rooms count, in Prometheus' text format.
func (g *Guard) metrics(ctx context.Context, w io.Writer) error {
	m := api.NewMetrics(w)
	var readers []*reader
	if err := g.do(ctx, func() {
		m.Gauge("tocsin_bans", "Bans in force.", float64(len(g.active)))
		m.Gauge("tocsin_event_queue", "Failures and logins that wait for the decider.", float64(len(g.events)))
		for _, c := range g.set.cells {
			st := c.jail.Stats()
			m.Counter("tocsin_failures_total", "Failures counted.", float64(c.tally.failures), "jail", c.conf.Name)
			m.Counter("tocsin_bans_total", "Bans taken.", float64(c.tally.bans), "jail", c.conf.Name)
			m.Counter("tocsin_logins_total", "Logins seen.", float64(c.tally.logins), "jail", c.conf.Name)
			m.Counter("tocsin_spared_failures_total", "Failures of addresses that are never banned.", float64(c.tally.spared), "jail", c.conf.Name)
			m.Counter("tocsin_bad_ids_total", "Ids found that are no addresses.", float64(c.tally.badIDs), "jail", c.conf.Name)
			m.Gauge("tocsin_addresses", "Addresses counted at present.", float64(st.Addresses), "jail", c.conf.Name)
			m.Counter("tocsin_addresses_evicted_total", "Addresses forgotten because the table was full.", float64(st.Evicted), "jail", c.conf.Name)
		}
		readers = g.running
	}); err != nil {
		return err
	}
	for _, r := range readers {
		st := r.src.Stats()
		m.Counter("tocsin_lines_total", "Lines read.", float64(st.Lines), "source", r.name)
		m.Counter("tocsin_bytes_total", "Bytes read.", float64(st.Bytes), "source", r.name)
		m.Counter("tocsin_lines_cut_total", "Lines that were too long and cut.", float64(st.Cut), "source", r.name)
		m.Counter("tocsin_lines_dropped_total", "Lines that a socket could not hand on in time.", float64(st.Dropped), "source", r.name)
		m.Counter("tocsin_rotations_total", "Times that a file was rotated.", float64(st.Rotations), "source", r.name)
	}
	fw, st := g.wall.Stats(), g.store.Stats()
	m.Counter("tocsin_firewall_errors_total", "Changes that the kernel refused.", float64(fw.Errors))
	m.Counter("tocsin_firewall_repairs_total", "Times that our table had to be put back because others had changed it.", float64(fw.Repairs))
	m.Gauge("tocsin_store_pending", "Rows that wait to be written.", float64(st.Pending))
	m.Counter("tocsin_store_errors_total", "Writes that failed and are tried again.", float64(st.Errors))
	enforcing := 0.0
	if mode, _, _ := g.mode(); mode == "enforcing" {
		enforcing = 1
	}
	m.Gauge("tocsin_enforcing", "1 while the firewall is in use, 0 while observing or off.", enforcing)
	m.Gauge("tocsin_info", "Always 1; the version is a label.", 1, "version", g.o.Version)
	return m.Flush()
}
