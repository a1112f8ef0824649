package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/action"
	"tocsin/internal/api"
	"tocsin/internal/exec"
	"tocsin/internal/fail2ban"
	"tocsin/internal/store"
)

// actStopTime is how long the actions of all jails may take to stop. Then what still runs is killed.
const actStopTime = 3 * time.Second

// acting is what the user's own actions do with the bans of their jails. The decider hands over and goes on: each action
// has a queue and a goroutine of its own.
type acting struct {
	by    map[string][]*actor      // by jail, in the order of the configuration; the decider's
	last  map[string]chan struct{} // closed when the last action of a name has stopped; the decider's
	begun bool                     // the actions of this guard were started before
	hosts hosts
	self  func() (short, full string) // this machine's names

	life context.Context // of every queue
	end  context.CancelFunc
	wg   sync.WaitGroup
}

// actor is one action of one jail at work.
type actor struct {
	jail    string
	action  *fail2ban.Action
	version string
	texts   map[[2]string]string // the commands before a ban is put in, by what they do and family
	wants   map[string]bool      // tags that are dear and that some command has
	queue   *action.Queue
	done    chan struct{} // closed when Work has returned
}

func newActing(ctx context.Context) *acting {
	a := &acting{by: map[string][]*actor{}, last: map[string]chan struct{}{}, self: sync.OnceValues(ownNames)}
	a.life, a.end = context.WithCancel(context.WithoutCancel(ctx))
	return a
}

// mayAct says whether the actions run: they do what the firewall does.
func (g *Guard) mayAct() bool { return g.enforces && !g.off() }

// useActions starts the actions that a set asks for and stops the others, after they lifted what they had banned. One that
// did not change goes on.
func (g *Guard) useActions(s *set) {
	now, former := time.Now(), g.acts.by
	g.acts.by = map[string][]*actor{}
	var fresh []*actor
	for _, c := range s.cells {
		if !g.mayAct() {
			break
		}
		for _, fa := range c.actions {
			a := take(former, c.conf.Name, fingerprint(fa))
			if a == nil {
				a = g.newActor(c.conf.Name, fa)
				fresh = append(fresh, a)
			}
			g.acts.by[c.conf.Name] = append(g.acts.by[c.conf.Name], a)
		}
	}
	for _, gone := range former {
		for _, a := range gone {
			g.retire(a)
		}
	}
	for _, a := range fresh {
		if !g.acts.begun {
			g.tellEnded(a, now)
		}
		g.tellRunning(a, "", a.queue.Ban)
		g.start(a)
	}
	if len(fresh) > 0 {
		g.acts.begun = true
		g.noteEnds(now)
	}
}

// start lets an action work, once the one of the same name before it has stopped: they may share chains and files.
func (g *Guard) start(a *actor) {
	name := a.jail + "/" + a.action.Actname
	before := g.acts.last[name]
	g.acts.last[name] = a.done
	g.acts.wg.Go(func() {
		defer close(a.done)
		if before != nil {
			select {
			case <-before:
			case <-g.acts.life.Done():
			}
		}
		a.queue.Work(g.acts.life)
	})
}

// take takes an actor out of those that ran before.
func take(former map[string][]*actor, jail, version string) *actor {
	i := slices.IndexFunc(former[jail], func(a *actor) bool { return a.version == version })
	if i < 0 {
		return nil
	}
	a := former[jail][i]
	former[jail] = slices.Delete(former[jail], i, i+1)
	return a
}

// retire lets an action lift its bans and stop.
func (g *Guard) retire(a *actor) {
	if !a.queue.CanFlush() {
		g.tellRunning(a, "", a.queue.Unban)
	}
	a.queue.End()
}

// tellRunning tells an action of the bans of its jail that are in force, of one family or all.
func (g *Guard) tellRunning(a *actor, family string, tell func(action.Notice)) {
	for k, b := range g.active {
		if k.jail == a.jail && (family == "" || familyOf(b.prefix) == family) {
			d := b.decision(k)
			tell(g.notice(a, &d, true))
		}
	}
}

// endsMark is the store's note of the time up to which actions were told that bans ended.
const endsMark = "actions"

func (g *Guard) noteEnds(now time.Time) {
	if len(g.acts.by) > 0 {
		g.store.PutMark(store.Mark{Source: endsMark, At: now})
	}
}

// maxEnded is how many bans of one jail are looked at for those that ended while no guard ran.
const maxEnded = 20_000

// tellEnded tells an action of the bans that ended while no guard was there to tell it. One that can flush did so when the
// last guard stopped.
func (g *Guard) tellEnded(a *actor, now time.Time) {
	if a.queue.CanFlush() {
		return
	}
	marks, err := g.store.Marks(endsMark)
	if err != nil || len(marks) == 0 {
		return
	}
	bans, err := g.store.Bans(store.Query{Jail: a.jail, Now: now, Limit: maxEnded})
	if err != nil {
		g.log.Warn("the actions are not told which bans ended meanwhile", "jail", a.jail, "err", err)
		return
	}
	for i := range bans {
		d := &bans[i].Decision
		_, runs := g.active[banKey{d.Jail, d.ID}]
		if !runs && bans[i].Ended.IsZero() && d.Until.After(marks[0].At) && !d.Until.After(now) {
			a.queue.Unban(g.notice(a, d, true))
		}
	}
}

// actOnBan hands a ban over to the actions of its jail. known says that one was in force before.
func (g *Guard) actOnBan(d *tocsin.Decision, known bool) {
	if !g.mayAct() {
		return
	}
	for _, a := range g.acts.by[d.Jail] {
		n := g.notice(a, d, false)
		if known {
			a.queue.Prolong(n)
		} else {
			a.queue.Ban(n)
		}
	}
}

// actOnUnbans hands over that bans ended, whatever ended them. Where none of a jail is left, and an action can lift all
// with one command, it is told only that.
func (g *Guard) actOnUnbans(ds []tocsin.Decision) {
	if len(g.acts.by) == 0 || !g.mayAct() {
		return
	}
	flushed := map[*actor]bool{}
	if len(ds) > 1 {
		g.flushEmpty(ds, flushed)
	}
	for i := range ds {
		for _, a := range g.acts.by[ds[i].Jail] {
			if !flushed[a] {
				a.queue.Unban(g.notice(a, &ds[i], false))
			}
		}
	}
}

// flushEmpty flushes the actions that can, of the jails of ds that have no ban left.
func (g *Guard) flushEmpty(ds []tocsin.Decision, flushed map[*actor]bool) {
	left := map[string]bool{}
	for k := range g.active {
		left[k.jail] = true
	}
	for i := range ds {
		for _, a := range g.acts.by[ds[i].Jail] {
			if !left[ds[i].Jail] && !flushed[a] && a.queue.CanFlush() {
				a.queue.Flush()
				flushed[a] = true
			}
		}
	}
}

// killActions ends the actions at once, with what they run, and returns when nothing of theirs is left.
func (g *Guard) killActions() {
	g.acts.end()
	g.acts.wg.Wait()
}

// stopActions stops the actions, those of a jail in reverse order. The decider must have ended.
func (g *Guard) stopActions() {
	ctx, cancel := context.WithTimeout(g.acts.life, actStopTime)
	defer cancel()
	var jails sync.WaitGroup
	for _, all := range g.acts.by {
		jails.Go(func() {
			for _, a := range slices.Backward(all) {
				a.queue.End()
				select {
				case <-a.done:
				case <-ctx.Done():
				}
			}
		})
	}
	jails.Wait()
	g.noteEnds(time.Now().Add(-2 * tickTime)) // what ended since the last tick was not told; twice does no harm
	if ctx.Err() != nil {
		g.log.Warn("the actions took too long to stop and are killed; what they banned may stay")
	}
}

// newActor gets an action ready.
func (g *Guard) newActor(jail string, fa *fail2ban.Action) *actor {
	a := &actor{
		jail: jail, action: fa, version: fingerprint(fa), done: make(chan struct{}),
		texts: map[[2]string]string{}, wants: map[string]bool{},
	}
	for _, do := range actionCommands {
		for _, family := range []string{"", "inet4", "inet6"} {
			a.texts[[2]string{do, family}] = staticText(fa, do, family)
		}
	}
	for _, tag := range dearTags {
		a.wants[tag] = fa.Wants(tag)
	}
	entry := jail + "/" + fa.Actname
	a.queue = action.New(action.Options{
		Run: func(ctx context.Context, do, family string, values map[string]string) (exec.Result, error) {
			return g.command(ctx, exec.Job{Entry: entry, Version: a.version, Do: do, Family: family, Values: values})
		},
		Text: func(do, family string) string { return a.texts[[2]string{do, family}] },
		Idle: func(_, family string) map[string]string { return g.acts.names(idleValues(family)) },
		Restarted: func(family string) {
			_ = g.do(g.acts.life, func() { g.tellRunning(a, family, a.queue.Reban) })
		},
		OnDemand: fa.OnDemand(), Families: families(fa), Norestored: fa.Norestored(), RepairOnUnban: isOn(fa, "actionrepair_on_unban"),
		Log: g.log.With("jail", jail, "action", fa.Actname),
	})
	return a
}

// isOn says whether a switch of an action is set, and not to no.
func isOn(a *fail2ban.Action, name string) bool {
	text, _ := a.Option(name)
	return !slices.Contains([]string{"", "0", "no", "off", "false"}, strings.ToLower(strings.TrimSpace(text)))
}

// staticText is a command as it stands before a ban is put in, "" if there is none. One that cannot be made is run, so that
// the runner says why.
func staticText(a *fail2ban.Action, do, family string) string {
	values := fail2ban.Values{}
	if family != "" {
		values["family"] = family
	}
	s, ok, err := a.Command(do, family, values)
	switch {
	case err != nil:
		return err.Error()
	case !ok:
		return ""
	}
	return strings.Join(append([]string{s.Text}, s.Args...), "\x00")
}

// families are those that an action is started for, where it is started at once.
func families(a *fail2ban.Action) []string {
	if own, ok := a.Option("families"); ok && strings.TrimSpace(own) != "" {
		return strings.FieldsFunc(own, func(r rune) bool { return strings.ContainsRune(" ,\t\n", r) })
	}
	if slices.ContainsFunc(a.Options, func(o fail2ban.Option) bool { return strings.Contains(o.Name, "?family=") }) {
		return []string{"inet4", "inet6"}
	}
	return nil
}

// actionDetails tells what a jail does with a ban. It belongs into the decider.
func (g *Guard) actionDetails(c *cell) []api.JailAction {
	out := []api.JailAction{}
	if c.f2b == nil {
		return out
	}
	for _, fa := range c.f2b.Actions {
		d := api.JailAction{Name: fa.Actname, Native: !slices.Contains(c.actions, fa) && !fa.Python, Properties: map[string]string{}}
		for _, o := range fa.Options {
			d.Properties[o.Name] = o.Value
		}
		version := fingerprint(fa)
		for _, a := range g.acts.by[c.conf.Name] {
			if a.version == version {
				st := a.queue.Stats()
				d.Runs, d.Failures, d.Dropped, d.LastError = st.Runs, st.Failures, st.Dropped, tocsin.Printable(st.LastError)
			}
		}
		out = append(out, d)
	}
	return out
}

// hosts remembers the names of addresses, that there is none included, as fail2ban does.
type hosts struct {
	mu    sync.Mutex
	known map[string]hostAnswer
}

type hostAnswer struct {
	name  string
	until time.Time
}

// get returns what is remembered, or asks.
func (h *hosts) get(key string, ask func() (string, error)) string {
	now := time.Now()
	h.mu.Lock()
	a, ok := h.known[key]
	h.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.name
	}
	name, err := ask()
	if err != nil {
		name = "" // whoever cannot be asked now is not asked for each ban
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = map[string]hostAnswer{}
	}
	if len(h.known) >= maxNames {
		maps.DeleteFunc(h.known, func(_ string, a hostAnswer) bool { return now.After(a.until) })
	}
	if len(h.known) >= maxNames {
		clear(h.known)
	}
	h.known[key] = hostAnswer{name, now.Add(nameTime)}
	return name
}
