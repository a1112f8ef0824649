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
		m.Counter("tocsin_host_names_dropped_total", "Failures of host names that nobody had time to ask for.", float64(g.names.dropped))
		m.Gauge("tocsin_ignorecommand_waiting", "Bans that wait for the answer of an ignorecommand.", float64(len(g.asks.waiting)))
		for _, c := range g.set.cells {
			st := c.jail.Stats()
			m.Counter("tocsin_failures_total", "Failures counted.", float64(c.tally.failures), "jail", c.conf.Name)
			m.Counter("tocsin_bans_total", "Bans taken.", float64(c.tally.bans), "jail", c.conf.Name)
			m.Counter("tocsin_logins_total", "Logins seen.", float64(c.tally.logins), "jail", c.conf.Name)
			m.Counter("tocsin_spared_failures_total", "Failures of addresses that are never banned.", float64(c.tally.spared), "jail", c.conf.Name)
			m.Counter("tocsin_bad_ids_total", "Ids found that are no addresses.", float64(c.tally.badIDs), "jail", c.conf.Name)
			m.Gauge("tocsin_addresses", "Addresses counted at present.", float64(st.Addresses), "jail", c.conf.Name)
			m.Counter("tocsin_evidence_evicted_total", "Failures whose line was forgotten for lack of room.", float64(st.EvidenceEvicted), "jail", c.conf.Name)
			m.Counter("tocsin_memory_evicted_total", "Bans, logins and sessions that a jail forgot for lack of room.", float64(st.MemoryEvicted), "jail", c.conf.Name)
			m.Counter("tocsin_addresses_evicted_total", "Addresses forgotten because the table was full.", float64(st.Evicted), "jail", c.conf.Name)
			for _, a := range g.runActions(c) {
				m.Counter("tocsin_action_runs_total", "Commands of actions that were run.", float64(a.Runs), "jail", c.conf.Name, "action", a.Name)
				m.Counter("tocsin_action_failures_total", "Commands of actions that failed.", float64(a.Failures), "jail", c.conf.Name, "action", a.Name)
				m.Counter("tocsin_action_dropped_total", "Bans that an action was never told of, for its queue was full.", float64(a.Dropped), "jail", c.conf.Name, "action", a.Name)
			}
		}
		m.Gauge("tocsin_jails_failed", "Jails of fail2ban's configuration that cannot run.", float64(len(g.set.failed)))
		readers = g.running
	}); err != nil {
		return err
	}
	for _, k := range g.kept {
		n, _, _, _ := k.look()
		m.Counter("tocsin_restarts_total", "Times that a process beside the guard ended and had to be started again.", float64(n), "process", k.name)
	}
	for _, r := range readers {
		if r.src == nil {
			continue
		}
		if f := r.filters.Load(); f != nil {
			m.Counter("tocsin_filter_lines_too_long_total", "Lines of 16 KiB and more, which no filter looks at.", float64(f.tooLong), "source", r.name)
			m.Counter("tocsin_filter_lines_undated_total", "Lines without a date; they take that of the line before.", float64(f.undated), "source", r.name)
			m.Counter("tocsin_filter_out_of_steps_total", "Texts that the exact matcher gave up on.", float64(f.outOfStep), "source", r.name)
			m.Counter("tocsin_filter_sessions_dropped_total", "Sessions forgotten for lack of room.", float64(f.dropped), "source", r.name)
		}
		st := r.src.Stats()
		m.Counter("tocsin_source_errors_total", "Reads and opens that failed.", float64(st.Errors), "source", r.name)
		m.Counter("tocsin_source_refused_total", "Messages and connections beyond a bound or from strangers.", float64(st.Refused), "source", r.name)
		m.Counter("tocsin_source_malformed_total", "Messages that followed no format.", float64(st.Malformed), "source", r.name)
		m.Counter("tocsin_lines_total", "Lines read.", float64(st.Lines), "source", r.name)
		m.Counter("tocsin_bytes_total", "Bytes read.", float64(st.Bytes), "source", r.name)
		m.Counter("tocsin_lines_cut_total", "Lines that were too long and cut.", float64(st.Cut), "source", r.name)
		m.Counter("tocsin_lines_dropped_total", "Lines that a socket could not hand on in time.", float64(st.Dropped), "source", r.name)
		m.Counter("tocsin_rotations_total", "Times that a file was rotated.", float64(st.Rotations), "source", r.name)
	}
	m.Counter("tocsin_fail2ban_log_lost_lines_total", "Lines that never came to the log in fail2ban's format.", float64(g.f2b.Lost()))
	lists, err := g.listStates(ctx)
	if err != nil {
		return err
	}
	for _, l := range lists.Lists {
		m.Gauge("tocsin_list_entries", "Addresses and networks of a list that are blocked.", float64(l.Entries), "list", l.Name)
		m.Gauge("tocsin_list_members", "Addresses on a list from which somebody logged in, and which are let through.", float64(l.Members), "list", l.Name)
		m.Counter("tocsin_list_dropped_packets_total", "Packets that a list kept out.", float64(l.Packets), "list", l.Name)
		if l.Fetched != nil {
			m.Gauge("tocsin_list_fetched_timestamp_seconds", "When the list in force was fetched.", float64(l.Fetched.Unix()), "list", l.Name)
		}
	}
	fw, st := g.wall.Stats(), g.store.Stats()
	m.Counter("tocsin_firewall_errors_total", "Changes that the kernel refused.", float64(fw.Errors))
	m.Counter("tocsin_firewall_repairs_total", "Times that our table had to be put back because others had changed it.", float64(fw.Repairs))
	m.Counter("tocsin_firewall_refused_total", "Bans for which the firewall had no room.", float64(fw.Refused))
	m.Counter("tocsin_store_refused_total", "Decisions for which the store had no room.", float64(st.Refused))
	m.Counter("tocsin_store_dropped_total", "Logins and counts for which the store had no room.", float64(st.Dropped))
	m.Counter("tocsin_store_failed_total", "Writes that were given up.", float64(st.Failed))
	m.Gauge("tocsin_store_pending", "Rows that wait to be written.", float64(st.Pending))
	m.Counter("tocsin_store_errors_total", "Writes that failed and are tried again.", float64(st.Errors))
	enforcing := 0.0
	if mode, _, _ := g.mode(); mode == api.ModeEnforcing {
		enforcing = 1
	}
	m.Gauge("tocsin_enforcing", "1 while the firewall is in use, 0 while observing or off.", enforcing)
	m.Gauge("tocsin_info", "Always 1; the version is a label.", 1, "version", g.o.Version)
	return m.Flush()
}
