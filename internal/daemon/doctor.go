package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/host"
)

// checked says what doctor looks at, for the person who sees no finding.
var checked = []string{
	"mode and emergency exit", "firewall", "store", "sources", "sshd's ports", "allow list", "configuration", "jails and actions of fail2ban", "bridges", "lists and the watch process",
}

func (g *Guard) doctor(ctx context.Context) (api.Doctor, error) {
	return api.Doctor{Schema: api.SchemaDoctor, Checked: checked, Findings: g.findings(ctx)}, nil
}

// findings looks at everything that may be wrong with the guard itself. The codes are explained in docs/manual/cli.md.
func (g *Guard) findings(ctx context.Context) []api.Finding {
	f := findings{}
	g.findMode(&f)
	if !mayDropPrivileges && os.Geteuid() == 0 {
		f.add("TOC-PRV-001", api.SeverityWarning, "build it with CGO_ENABLED=0, as make build does", "this build cannot give up root's privileges, and keeps them")
	}
	g.findTrouble(&f)
	g.findKept(&f)
	g.findFail2ban(ctx, &f)
	g.findSources(ctx, &f)
	g.findSpared(&f)
	g.findLists(ctx, &f)
	findBridges(&f, "/sys/class/net")
	slices.SortStableFunc(f, func(a, b api.Finding) int { return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text)) })
	return f
}

type findings []api.Finding

func (f *findings) add(code, severity, fix, format string, args ...any) {
	*f = append(*f, api.Finding{Code: code, Severity: severity, Text: fmt.Sprintf(format, args...), Fix: fix})
}

func (g *Guard) findMode(f *findings) {
	switch mode, reason, until := g.mode(); mode {
	case api.ModeOff:
		end := "until tocsin on"
		if until != nil {
			end = "until " + until.Local().Format(time.DateTime)
		}
		f.add("TOC-OFF-001", api.SeverityWarning, "tocsin on", "the emergency exit is open, nobody is banned %s", end)
	case api.ModeObserving:
		f.add("TOC-FW-001", api.SeverityWarning, "run it as root on a kernel with nf_tables, without --observe", "observing only: %s", reason)
	}
}

func (g *Guard) findTrouble(f *findings) {
	t := g.trouble.look()
	if name := g.store.MovedAside(); name != "" {
		f.add("TOC-STO-002", api.SeverityWarning, "look at the disk; remove the file when you do not need it", "the store was damaged, its old file is %s; bans in the kernel were kept", name)
	}
	if t.stateInstead != "" {
		f.add("TOC-STO-003", api.SeverityError, "make room on the disk, then restart the guard", "the state folder cannot be used (%s); the state is kept in %s until then", t.stateProblem, t.stateInstead)
	}
	if t.badReload != "" {
		f.add("TOC-CFG-001", api.SeverityError, "tocsin check, then tocsin reload", "the last reload failed, the old configuration is in force: %s", t.badReload)
	}
	if st := g.store.Stats(); st.Pending > 0 && st.LastError != "" {
		f.add("TOC-STO-001", api.SeverityError, "make room on the disk", "%s not stored yet: %s; bans go on", api.Count(st.Pending, "row is", "rows are"), st.LastError)
	}
	if st := g.wall.Stats(); st.LastError != "" {
		f.add("TOC-FW-002", api.SeverityError, "nft list table inet tocsin", "the firewall refused a change: %s", st.LastError)
	}
	for part, m := range t.parts {
		if part != "firewall" && part != "store" {
			do := "look at the log"
			if part == "actions" {
				do = "look at the log, then restart the guard: actions do not run until then"
			}
			f.add("TOC-RUN-001", api.SeverityError, do, "%s: %s (%s, the last at %s)", part, m.last, api.Count(int(m.n), "time", "times"), m.at.Format(time.DateTime))
		}
	}
}

func (g *Guard) findSources(ctx context.Context, f *findings) {
	var readers []*reader
	var badIDs uint64
	sshSources := map[string]bool{} // syslog's, in which anybody may speak for sshd
	guardSSH := `add a [[jail]] with name = "sshd" and filter = "sshd"; any [[jail]] replaces the built-in one`
	journal := "with systemd, read journal:_SYSTEMD_UNIT=ssh.service instead"
	_ = g.do(ctx, func() {
		readers = g.running
		if g.set.f2b != nil {
			guardSSH = "mend or enable its jail: tocsin check --fail2ban " + g.set.f2b.Dir
			journal = "with systemd, set backend = systemd in its jail"
		}
		for _, c := range g.set.cells {
			badIDs += c.tally.badIDs
			for _, name := range c.sources {
				sshSources[name] = sshSources[name] || c.def.Name == "sshd"
			}
			for _, note := range c.found {
				if strings.Contains(note, "nobody listens") {
					f.add("TOC-SSH-001", api.SeverityWarning, "start sshd, or correct Port in sshd_config", "jail %s bans on a port on which nobody listens: %s", c.conf.Name, note)
				}
			}
		}
	})
	var missing []string
	for _, r := range readers {
		st := r.status()
		if r.src != nil && strings.HasPrefix(r.name, "file:") && r.src.Stats().Files == 0 {
			missing = append(missing, st.Name)
		}
		if st.Error != "" {
			f.add("TOC-SRC-001", api.SeverityWarning, "look at the log", "%s: %s", st.Name, st.Error)
		}
		if st.Dropped > 0 {
			f.add("TOC-SRC-003", api.SeverityWarning, "send fewer lines, or read a file", "%s: %s dropped, they came too fast", st.Name, api.Count(int(st.Dropped), "line was", "lines were"))
		}
		if fs := r.filters.Load(); fs != nil && fs.outOfStep > 0 {
			f.add("TOC-FLT-002", api.SeverityWarning, "tell the author of the filter", "%s: the filter gave up on %s", st.Name, api.Count(int(fs.outOfStep), "text", "texts"))
		}
		if sshSources[r.name] && !strings.HasPrefix(r.name, "journal:") {
			f.add("TOC-SRC-002", api.SeverityNote, journal, "%s can be written by any local user, who can so have an address banned", st.Name)
		}
	}
	findMissing(f, missing)
	if len(sshSources) > 0 && !slices.Contains(slices.Collect(maps.Values(sshSources)), true) && sshListens(ctx) {
		f.add("TOC-SSH-002", api.SeverityWarning, guardSSH, "sshd listens here, and no jail guards it")
	}
	if badIDs > 0 {
		f.add("TOC-FLT-001", api.SeverityNote, "tocsin test FILTER FILE", "%s in the logs; nobody is banned for that", api.Count(int(badIDs), "id that is no address was found", "ids that are no addresses were found"))
	}
}

// manyMissing are more logs than a person reads one by one: somebody enabled the jails of services that are not installed.
const manyMissing = 3

// findMissing tells of the logs that are waited for.
func findMissing(f *findings, names []string) {
	const fix = "nothing, if the service has not logged yet; else check the path"
	if n := len(names); n > manyMissing {
		f.add("TOC-SRC-001", api.SeverityWarning, fix, "%d logs do not exist, %s among them; they are waited for", n, strings.Join(names[:manyMissing], ", "))
		return
	}
	for _, name := range names {
		f.add("TOC-SRC-001", api.SeverityWarning, fix, "%s does not exist; it is waited for", name)
	}
}

// runActions are the details of those actions of a jail that are run, if it has any. It belongs into the decider.
func (g *Guard) runActions(c *cell) []api.JailAction {
	if len(c.actions) == 0 {
		return nil
	}
	return slices.DeleteFunc(g.actionDetails(c), func(a api.JailAction) bool { return a.Native })
}

// findFail2ban tells of fail2ban's jails that cannot run, of what is done otherwise, and of actions that fail.
func (g *Guard) findFail2ban(ctx context.Context, f *findings) {
	_ = g.do(ctx, func() {
		s := g.set
		if s.f2b == nil {
			return
		}
		check := "tocsin check --fail2ban " + s.f2b.Dir
		for _, j := range s.failed {
			f.add("TOC-F2B-001", api.SeverityError, check, "jail %s of %s %s: %s", j.name, s.f2b.Dir, j.how(), strings.Join(errorsOf(j.err), "; "))
		}
		if n := s.differences(); n > 0 {
			f.add("TOC-F2B-002", api.SeverityNote, check, "%s in %s done otherwise than written there", api.Count(n, "thing is", "things are"), s.f2b.Dir)
		}
		for _, c := range s.cells {
			for _, a := range g.runActions(c) {
				if a.Failures > 0 {
					f.add("TOC-ACT-001", api.SeverityWarning, "look at the log, and at its file in "+s.f2b.Dir+"/action.d", "action %s of jail %s failed %s of %d: %s",
						a.Name, c.conf.Name, api.Count(int(a.Failures), "time", "times"), a.Runs, a.LastError)
				}
				if a.Dropped > 0 {
					f.add("TOC-ACT-002", api.SeverityWarning, "make the action faster, or let it do less", "action %s of jail %s was not told of %s: it is too slow",
						a.Name, c.conf.Name, api.Count(int(a.Dropped), "ban", "bans"))
				}
			}
		}
	})
}

func sshListens(ctx context.Context) bool {
	_, how, err := host.SSHPorts(ctx)
	return err == nil && slices.ContainsFunc(how, func(s string) bool { return strings.HasSuffix(s, ", listening") })
}

// findSpared warns when the machine's own surroundings fail to log in: all clients behind a NAT or docker-proxy come from
// one address then, and nobody among them can be banned.
func (g *Guard) findSpared(f *findings) {
	for a, s := range g.trouble.look().protected {
		if s.n < sparedWorthSaying || time.Since(s.at) > 24*time.Hour {
			continue
		}
		f.add("TOC-NAT-001", api.SeverityWarning, "let the service see its clients' addresses (docker: userland-proxy off; proxy: real client address)",
			"%s from %s, which is never banned (%s): are all clients behind it?", api.Count(int(s.n), "failure", "failures"), a, s.why)
	}
}

// sparedWorthSaying is how many failures of the machine's own surroundings are more than somebody's typing errors.
const sparedWorthSaying = 5

// findBridges notes that frames between bridged guests pass below our chains.
func findBridges(f *findings, classNet string) {
	bridges, err := filepath.Glob(filepath.Join(classNet, "*", "bridge"))
	if err != nil || len(bridges) == 0 {
		return
	}
	for _, b := range bridges {
		members, err := os.ReadDir(filepath.Join(filepath.Dir(b), "brif"))
		if err == nil && len(members) > 0 {
			f.add("TOC-BRG-001", api.SeverityNote, "run a guard inside the guests", "guests bridged on %s with addresses of their own are not covered; published ports are", filepath.Base(filepath.Dir(b)))
		}
	}
}
