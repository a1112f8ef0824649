package daemon

import (
	"time"

	"tocsin"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
)

// newF2BLog makes the log in fail2ban's format. What goes wrong with it is told to doctor and, now and then, logged.
func (g *Guard) newF2BLog() *f2blog.Log {
	var told throttle
	return f2blog.New(func(path string, err error) {
		g.trouble.add("fail2ban's log", err)
		told.say(time.Now(), func(int) { g.log.Error("fail2ban's log is not whole", "file", path, "err", err) })
	})
}

// f2bFound tells of a failure that counts.
func (g *Guard) f2bFound(c *cell, f *tocsin.Failure) {
	if !g.f2b.Writes(f2blog.Info) {
		return
	}
	at := f.At.Local()
	g.f2b.Say(fail2ban.FromFilter, f2blog.Info, fail2ban.LogFound(c.conf.Name, f.ID, at))
	if w, former := c.jail.Weight(f); w > 1 {
		g.f2b.Say(fail2ban.FromObserver, f2blog.Info, fail2ban.LogFoundBad(c.conf.Name, f.ID, at, former, w, w >= c.options.MaxRetry))
	}
}

// f2bIgnored tells of somebody who is spared, and by what: "ip", "dns", "command", "ignoreself rule".
func (g *Guard) f2bIgnored(c *cell, id, by string) {
	g.f2b.Say(fail2ban.FromFilter, f2blog.Info, fail2ban.LogIgnore(c.conf.Name, id, by))
}

// f2bDecided tells of a ban or its lifting. Whoever only observes bans nobody, and must not tell recidive so, nor a
// fail2ban that runs beside.
func (g *Guard) f2bDecided(d *tocsin.Decision) {
	if !g.enforces {
		return
	}
	if d.Action == tocsin.Unban {
		g.f2bUnban(d.Jail, d.ID)
		return
	}
	g.f2b.Say(fail2ban.FromActions, f2blog.Notice, fail2ban.LogBan(d.Jail, d.ID))
	dur, ends := d.Duration()
	if d.Former == 0 || ends && dur == g.plainBanTime(d.Jail) {
		return
	}
	until := d.Until
	if ends {
		until = until.Local()
	}
	g.f2b.Say(fail2ban.FromObserver, f2blog.Notice, fail2ban.LogIncreaseBan(d.Jail, d.ID, d.Former+1, dur.Truncate(time.Second), until))
}

// plainBanTime is how long the first ban of a jail lasts.
func (g *Guard) plainBanTime(jail string) time.Duration {
	c := g.cellNamed(jail)
	switch {
	case c == nil:
		return 0
	case len(c.options.BanTimes) > 0:
		return c.options.BanTimes[0]
	}
	return c.options.BanTime
}

func (g *Guard) f2bUnban(jail, id string) {
	if g.enforces {
		g.f2b.Say(fail2ban.FromActions, f2blog.Notice, fail2ban.LogUnban(jail, id))
	}
}

// f2bLate tells of somebody who is banned and failed again as often as leads to a ban. The longer after the ban, the
// louder: somebody may not be where the ban is.
func (g *Guard) f2bLate(c *cell, f *tocsin.Failure) {
	k := banKey{c.conf.Name, f.ID}
	b, ok := g.active[k]
	if !ok || !g.f2b.Writes(f2blog.Debug) && !g.f2b.Writes(f2blog.Notice) && !g.f2b.Writes(f2blog.Warning) {
		return
	}
	b.late++
	g.active[k] = b
	if b.late%c.options.MaxRetry != 0 {
		return
	}
	level := f2blog.Warning
	switch after := f.At.Sub(b.at); {
	case after < 3*time.Second:
		level = f2blog.Debug
	case after < time.Minute:
		level = f2blog.Notice
	}
	g.f2b.Say(fail2ban.FromActions, level, fail2ban.LogAlready(c.conf.Name, f.ID))
}

// f2bRestored tells of the bans that were in force when the guard began.
func (g *Guard) f2bRestored() {
	if !g.enforces || !g.f2b.Writes(f2blog.Notice) {
		return
	}
	for k := range g.active {
		g.f2b.Say(fail2ban.FromActions, f2blog.Notice, fail2ban.LogRestoreBan(k.jail, k.id))
	}
}
