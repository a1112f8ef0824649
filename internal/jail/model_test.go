package jail

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tocsin"
)

// model is the jail written down as plainly as its promise: it keeps every failure for ever and looks at all windows.
type model struct {
	o        Options
	failures map[string][]tocsin.Failure
	bans     map[string][]tocsin.Decision // the last is the one that counts
	logins   map[string]time.Time
	sessions map[string][]tocsin.Login
}

func newModel(o Options) *model {
	return &model{o, map[string][]tocsin.Failure{}, map[string][]tocsin.Decision{}, map[string]time.Time{}, map[string][]tocsin.Login{}}
}

func (m *model) failure(f tocsin.Failure) (until time.Time, n int, banned bool) {
	if b := m.bans[f.ID]; len(b) > 0 {
		last := b[len(b)-1]
		if !f.At.Before(last.At.Add(-m.o.FindTime)) && f.At.Before(last.Until) {
			return time.Time{}, 0, false
		}
	}
	all := append(m.failures[f.ID], f)
	m.failures[f.ID] = all
	var best struct {
		missing, n int
		end        time.Time
	}
	best.missing = 1 << 30
	for _, last := range all {
		end := last.At
		if end.Before(f.At) || end.Add(-m.o.FindTime).After(f.At) {
			continue
		}
		n, first := 0, end
		for _, g := range all {
			if !g.At.After(end) && !g.At.Before(end.Add(-m.o.FindTime)) {
				n++
				if g.At.Before(first) {
					first = g.At
				}
			}
		}
		missing := m.limit(f, first) - n
		if missing < best.missing || missing == best.missing && end.After(best.end) {
			best.missing, best.n, best.end = missing, n, end
		}
	}
	if best.missing > 0 {
		return time.Time{}, 0, false
	}
	delete(m.failures, f.ID)
	until = best.end.Add(m.o.banTime(m.former(f.ID, best.end)))
	m.bans[f.ID] = append(m.bans[f.ID], tocsin.Decision{At: best.end, Until: until})
	return until, best.n, true
}

func (m *model) former(id string, at time.Time) (n int) {
	for _, b := range m.bans[id] {
		if b.Origin == tocsin.ByJail && !b.At.Before(at.Add(-m.o.BanMemory)) {
			n++
		}
	}
	return n
}

// limit is the least n failures whose weights add up to enough.
func (m *model) limit(f tocsin.Failure, first time.Time) int {
	enough, weight := m.enough(f, first), 1
	if n := m.former(f.ID, f.At); m.o.Weigh && n > 0 {
		weight = min(int(math.Pow(2, float64(n)))/2+1, m.o.MaxRetry)
	}
	for n := 0; ; n++ {
		if n*weight >= enough {
			return n
		}
	}
}

func (m *model) enough(f tocsin.Failure, first time.Time) int {
	patient := m.o.MaxRetry * m.o.KnownFactor
	if at, ok := m.logins[f.ID]; ok && m.o.KnownFor > 0 && !at.Before(f.At.Add(-m.o.KnownFor)) {
		return patient
	}
	for _, s := range m.sessions[f.ID] {
		if s.At.Before(first) {
			return patient
		}
	}
	return m.o.MaxRetry
}

func (m *model) login(l tocsin.Login) {
	id := l.Addr.String()
	m.sessions[id] = slices.DeleteFunc(m.sessions[id], func(s tocsin.Login) bool { return s.Port == l.Port })
	if !l.Opened {
		return
	}
	m.sessions[id] = append(m.sessions[id], l)
	if l.At.After(m.logins[id]) {
		m.logins[id] = l.At
	}
	m.failures[id] = slices.DeleteFunc(m.failures[id], func(f tocsin.Failure) bool {
		return l.User != "" && f.User == l.User && !f.At.After(l.At)
	})
}

func (m *model) lift(id string, at time.Time) {
	delete(m.failures, id)
	b := m.bans[id]
	if n := len(b); n > 0 && b[n-1].Until.After(at) {
		b[n-1].Until = at
		return
	}
	m.bans[id] = append(b, tocsin.Decision{At: at, Until: at, Origin: tocsin.ByOperator})
}

// TestModel plays random logs to the jail and to the model, with lines out of order by up to one findtime.
func TestModel(t *testing.T) {
	for seed := range uint64(120) {
		playModel(t, seed, 1500)
	}
}

func playModel(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 1))
	o := Options{
		Name: "sshd", MaxRetry: 1 + r.IntN(6), FindTime: time.Duration(1+r.IntN(100)) * time.Second,
		BanTime: time.Duration(1+r.IntN(200)) * time.Second, BanFactor: float64(1 + r.IntN(2)), BanMax: time.Hour,
		BanMemory: time.Duration(r.IntN(1000)) * time.Second, KnownFactor: 1 + r.IntN(3), KnownFor: time.Duration(r.IntN(300)) * time.Second,
	}
	if o.Weigh = r.IntN(3) == 0; o.Weigh {
		o.BanMemory += time.Second
	}
	for range r.IntN(4) {
		o.BanTimes = append(o.BanTimes, time.Duration(1+r.IntN(200))*time.Second)
	}
	o, err := o.checked()
	if err != nil {
		t.Fatal(err)
	}
	j, m := mustNew(t, o), newModel(o)
	now, disorder := t0, r.IntN(2)
	users := []string{"root", "admin", ""}
	for i := range steps {
		now = now.Add(time.Duration(r.IntN(5)) * time.Second)
		if r.IntN(100) == 0 {
			now = now.Add(time.Duration(r.IntN(5)) * o.FindTime)
		}
		at := now
		if disorder == 1 && r.IntN(3) == 0 {
			at = now.Add(-time.Duration(r.Int64N(int64(o.FindTime)/1e6+1)) * time.Millisecond)
		}
		id := fmt.Sprintf("192.0.2.%d", r.IntN(5))
		addr, named := netip.MustParseAddr(id), r.IntN(4) == 0
		if named { // an id that is no address
			id = fmt.Sprintf("mallory%d", r.IntN(3))
		}
		switch what := r.IntN(20); {
		case what == 0 && named:
			j.LiftID(id, now)
			m.lift(id, now)
		case what == 0:
			j.Lift(netip.PrefixFrom(addr, 32), now)
			m.lift(id, now)
		case what <= 2 && !named:
			l := tocsin.Login{Addr: addr, Port: uint16(1 + r.IntN(3)), User: users[r.IntN(3)], At: at, Opened: r.IntN(3) > 0}
			j.Login(&l)
			m.login(l)
		default:
			f := failure(id, users[r.IntN(3)], at, i)
			ds := j.Failure(nil, f)
			until, n, banned := m.failure(*f)
			if banned != (len(ds) > 0) || banned && (!ds[0].Until.Equal(until) || ds[0].Failures != n) {
				t.Fatalf("seed %d, step %d, %s at %v: jail says %+v, model says %v until %v for %d failures",
					seed, i, id, at.Sub(t0), ds, banned, until, n)
			}
		}
	}
}

// FuzzJail plays whatever comes, times included, and checks what holds for every log: nothing panics, no failure counts
// for two bans, and every ban rests on as many failures as it says, within one findtime.
func FuzzJail(f *testing.F) {
	f.Add([]byte("0123456789"))
	f.Add([]byte{0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0})
	f.Add([]byte{12, 1, 0, 12, 1, 0, 12, 1, 0, 12, 1, 0, 9, 1, 32, 8, 1, 0, 12, 1, 0, 12, 1, 0})
	f.Add([]byte{0, 0, 0, 255, 0, 0, 0, 0, 1, 1, 1, 9, 2, 2, 2, 9, 3, 3, 3, 9, 0, 255, 4, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		o := options()
		o.MaxAddresses, o.SubnetBans, o.SubnetWithin, o.BanFactor, o.KnownFor = 4, 2, time.Hour, 2, time.Hour
		o.EvidenceLines, o.Overall, o.Weigh, o.BanMemory = 1000, true, true, 1000*time.Hour
		j := mustNew(t, o)
		at, used := t0, map[int64]bool{}
		for n := 0; len(data) >= 3; n, data = n+1, data[3:] {
			step := time.Duration(int8(data[1])) * time.Second << (data[0] >> 4)
			if data[0]>>4 == 15 {
				step *= 1 << 20 // years
			}
			at = at.Add(step)
			id := fmt.Sprintf("192.0.%d.%d", data[2]>>3&1, data[2]&7)
			switch data[0] & 15 {
			case 8:
				j.LiftID("mallory", at)
			case 9:
				j.Elsewhere(&tocsin.Decision{Jail: "other", Prefix: netip.PrefixFrom(netip.MustParseAddr(id), int(data[2]%33)), At: at})
			case 12:
				id = "mallory"
			}
			switch data[0] & 7 {
			case 0:
				j.Lift(netip.PrefixFrom(netip.MustParseAddr(id), int(data[2]%33)).Masked(), at)
			case 1:
				j.Login(&tocsin.Login{Addr: netip.MustParseAddr(id), Port: uint16(data[2] & 1), User: "root", At: at, Opened: data[2]&32 > 0})
			case 2:
				j.StandingID("mallory", at)
				j.Standing(netip.MustParseAddr(id), at)
			case 3:
				j.Banned(&tocsin.Decision{Jail: "sshd", Prefix: netip.PrefixFrom(netip.MustParseAddr(id), int(data[2]%33)), At: at, Until: at.Add(step)})
			default:
				for i, d := range j.Failure(nil, failure(id, "root", at, n)) {
					if i == 0 {
						checkBan(t, &d, used, o.FindTime)
					}
				}
			}
		}
		if s := j.Stats(); s.Addresses > 4 || s.BansRemembered > 4 || s.Failures > 4*maxFailures {
			t.Errorf("bounds are broken: %+v", s)
		}
	})
}

func checkBan(t *testing.T, d *tocsin.Decision, used map[int64]bool, findTime time.Duration) {
	t.Helper()
	if len(d.Evidence) != d.Failures {
		t.Errorf("a ban for %d failures rests on %d lines", d.Failures, len(d.Evidence))
	}
	for _, e := range d.Evidence {
		if used[e.Pos.Offset] {
			t.Errorf("the failure at offset %d led to two bans", e.Pos.Offset)
		}
		used[e.Pos.Offset] = true
		if age := d.At.Sub(e.At); age < 0 || age > findTime {
			t.Errorf("a ban at %v rests on a failure at %v", d.At, e.At)
		}
	}
}
