package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// f2bLog writes the log that fail2ban would write: recidive, log watchers and dashboards read it. It never holds up the
// decider: lines wait in memory, bounded, for a goroutine that writes them and follows the file's rotation.
type f2bLog struct {
	trouble *trouble
	log     *slog.Logger
	target  atomic.Pointer[f2bTarget]
	anew    atomic.Bool   // open the file anew
	wake    chan struct{} // something is to be done
	mu      sync.Mutex
	waiting []byte        // whole lines
	dropped uint64        // lines for which there was no room, since the last time that this was said
	lost    atomic.Uint64 // lines that never came to the disk
	told    throttle
}

// f2bTarget is where fail2ban's log goes, and from which level. An empty path is nowhere.
type f2bTarget struct {
	path  string
	level f2bLevel
}

// f2bLevel is a level of Python's logging.
type f2bLevel int

// The levels that are written.
const (
	f2bDebug   f2bLevel = 10
	f2bInfo    f2bLevel = 20
	f2bNotice  f2bLevel = 25
	f2bWarning f2bLevel = 30
	f2bNothing f2bLevel = 100
)

// f2bLevels are the levels of fail2ban.conf. Of those above WARNING nothing is written, those below DEBUG tell no more.
var f2bLevels = map[string]f2bLevel{
	"CRITICAL": f2bNothing, "ERROR": f2bNothing, "WARNING": f2bWarning, "NOTICE": f2bNotice, "INFO": f2bInfo, "MSG": f2bInfo - 2,
	"DEBUG": f2bDebug, "TRACEDEBUG": f2bDebug, "HEAVYDEBUG": f2bDebug,
}

func (l f2bLevel) String() string {
	switch l {
	case f2bDebug:
		return "DEBUG"
	case f2bInfo:
		return "INFO"
	case f2bNotice:
		return "NOTICE"
	}
	return "WARNING"
}

// maxF2BWaiting is how many bytes of lines wait for the disk, about 80,000 lines.
const maxF2BWaiting = 8 << 20

func newF2BLog(log *slog.Logger, t *trouble) *f2bLog {
	l := &f2bLog{log: log, trouble: t, wake: make(chan struct{}, 1)}
	l.target.Store(&f2bTarget{})
	return l
}

// use says where to write from now on.
func (l *f2bLog) use(t f2bTarget) {
	l.target.Store(&t)
	l.rouse()
}

// reopen opens the file anew, soon: somebody has moved it away. It returns the path, "" if nothing is written.
func (l *f2bLog) reopen() (path string) {
	l.anew.Store(true)
	l.rouse()
	return l.target.Load().path
}

func (l *f2bLog) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// writes says whether lines of a level are written.
func (l *f2bLog) writes(level f2bLevel) bool {
	t := l.target.Load()
	return t.path != "" && level >= t.level
}

// say writes a line soon. It does not wait.
func (l *f2bLog) say(component string, level f2bLevel, msg string) {
	if !l.writes(level) {
		return
	}
	l.mu.Lock()
	if len(l.waiting) < maxF2BWaiting {
		l.waiting = fail2ban.AppendLog(l.waiting, time.Now(), os.Getpid(), component, level.String(), msg)
	} else {
		l.dropped++
		l.lost.Add(1)
	}
	l.mu.Unlock()
	l.rouse()
}

// run writes until ctx ends, and then what is left.
func (l *f2bLog) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var out f2bFile
	defer out.close()
	for {
		select {
		case <-ctx.Done():
			l.write(&out)
			return nil
		case <-tick.C:
			out.follow()
		case <-l.wake:
		}
		l.write(&out)
	}
}

// write brings what waits to the file. What cannot be written is dropped: it would be old news when the disk is back.
func (l *f2bLog) write(out *f2bFile) {
	l.mu.Lock()
	lines, dropped := l.waiting, l.dropped
	l.waiting, l.dropped = nil, 0
	l.mu.Unlock()
	path := l.target.Load().path
	if l.anew.Swap(false) || path != out.path {
		out.close()
	}
	var err error
	switch out.path = path; {
	case path == "":
		return
	case out.f == nil:
		err = out.open()
	}
	if err == nil && len(lines) > 0 {
		_, err = out.f.Write(lines)
	}
	if dropped > 0 && err == nil {
		err = fmt.Errorf("%d lines came faster than they could be written", dropped)
	}
	if err != nil {
		l.lost.Add(uint64(bytes.Count(lines, []byte("\n"))))
		l.trouble.add("fail2ban's log", err)
		l.told.say(time.Now(), func(int) { l.log.Error("fail2ban's log is not whole", "file", path, "err", err) })
	}
}

// f2bFile is the file of that log.
type f2bFile struct {
	path string
	f    *os.File // nil: not open
	info os.FileInfo
}

func (o *f2bFile) close() {
	if o.f != nil {
		_ = o.f.Close() // every line is written when it comes
	}
	o.f, o.info = nil, nil
}

// follow closes a file that was moved away or removed, so that the next line opens its successor.
func (o *f2bFile) follow() {
	if o.f == nil {
		return
	}
	if now, err := os.Lstat(o.path); err != nil || !os.SameFile(now, o.info) {
		o.close()
	}
}

// open opens the file, or makes it. In a folder where others may write, they may have put something in its place: a link
// to a file of the system, a pipe that never ends. Nothing of that kind is written to.
func (o *f2bFile) open() error {
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a symbolic link; name the file that it leads to", o.path)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkF2BFile(info)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("%s: %w", o.path, err)
	}
	o.f, o.info = f, info
	return nil
}

func checkF2BFile(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a file")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("cannot tell whose file it is")
	}
	if st.Nlink > 1 {
		return errors.New("it has a second name, which may be a file of the system")
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, who could make it tell of bans that never were", st.Uid)
	}
	return nil
}

// f2bFound tells of a failure that counts.
func (g *Guard) f2bFound(c *cell, f *tocsin.Failure) {
	if !g.f2b.writes(f2bInfo) {
		return
	}
	at := f.At.Local()
	g.f2b.say(fail2ban.FromFilter, f2bInfo, fail2ban.LogFound(c.conf.Name, f.ID, at))
	if w, former := c.jail.Weight(f); w > 1 {
		g.f2b.say(fail2ban.FromObserver, f2bInfo, fail2ban.LogFoundBad(c.conf.Name, f.ID, at, former, w, w >= c.options.MaxRetry))
	}
}

// f2bIgnored tells of somebody who is spared, and by what: "ip", "dns", "command", "ignoreself rule".
func (g *Guard) f2bIgnored(c *cell, id, by string) {
	g.f2b.say(fail2ban.FromFilter, f2bInfo, fail2ban.LogIgnore(c.conf.Name, id, by))
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
	g.f2b.say(fail2ban.FromActions, f2bNotice, fail2ban.LogBan(d.Jail, d.ID))
	dur, ends := d.Duration()
	if d.Former == 0 || ends && dur == g.plainBanTime(d.Jail) {
		return
	}
	until := d.Until
	if ends {
		until = until.Local()
	}
	g.f2b.say(fail2ban.FromObserver, f2bNotice, fail2ban.LogIncreaseBan(d.Jail, d.ID, d.Former+1, dur.Truncate(time.Second), until))
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
		g.f2b.say(fail2ban.FromActions, f2bNotice, fail2ban.LogUnban(jail, id))
	}
}

// f2bLate tells of somebody who is banned and failed again as often as leads to a ban. The longer after the ban, the
// louder: somebody may not be where the ban is.
func (g *Guard) f2bLate(c *cell, f *tocsin.Failure) {
	k := banKey{c.conf.Name, f.ID}
	b, ok := g.active[k]
	if !ok || !g.f2b.writes(f2bDebug) && !g.f2b.writes(f2bNotice) && !g.f2b.writes(f2bWarning) {
		return
	}
	b.late++
	g.active[k] = b
	if b.late%c.options.MaxRetry != 0 {
		return
	}
	level := f2bWarning
	switch after := f.At.Sub(b.at); {
	case after < 3*time.Second:
		level = f2bDebug
	case after < time.Minute:
		level = f2bNotice
	}
	g.f2b.say(fail2ban.FromActions, level, fail2ban.LogAlready(c.conf.Name, f.ID))
}

// f2bRestored tells of the bans that were in force when the guard began.
func (g *Guard) f2bRestored() {
	if !g.enforces || !g.f2b.writes(f2bNotice) {
		return
	}
	for k := range g.active {
		g.f2b.say(fail2ban.FromActions, f2bNotice, fail2ban.LogRestoreBan(k.jail, k.id))
	}
}
