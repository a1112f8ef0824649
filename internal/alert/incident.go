package alert

import (
	"cmp"
	"math"
	"slices"
	"time"

	"tocsin"
)

// How often something may change before it is unstable, and for how long it must not to be steady again.
const (
	mostTurns   = 4
	steadyAfter = time.Hour
)

// incident is one thing that is wrong, told or not.
type incident struct {
	tocsin.Incident
	svc      *service // nil: it is about a server or a group
	rule     *rule    // nil after a restart, until it is judged again
	contacts []string
	alias    string

	level   tocsin.Level // as it was judged last; Incident.Level is what was told
	most    tocsin.Level // that was told since it began
	turns   []time.Duration
	last    time.Duration // when it changed last
	mute    bool          // it came back while somebody looked after it: its end is not told either
	altered bool
}

// over says that nothing of it is wrong, as far as was told.
func (in *incident) over() bool { return in.Level == tocsin.Fine && !in.Flaps }

func (in *incident) copied() tocsin.Incident {
	c := in.Incident
	c.Members = slices.Clone(in.Members)
	return c
}

func (in *incident) change(turn tocsin.Turn, at time.Time, tell bool) tocsin.Change {
	return tocsin.Change{Incident: in.copied(), Turn: turn, At: at, Tell: tell, Contacts: slices.Clone(in.contacts), Alias: in.alias}
}

// incident is that of a key, made if there is none and something is wrong; nil if nothing is, or there are too many.
func (e *Engine) incident(key string, level tocsin.Level) *incident {
	in := e.open[key]
	if in == nil && level > tocsin.Fine {
		if len(e.open) >= maxIncidents {
			e.stats.Dropped++
			return nil
		}
		in = &incident{Incident: tocsin.Incident{Key: key, Value: math.NaN()}}
		e.open[key] = in
	}
	if in != nil && level > tocsin.Fine && in.level == tocsin.Fine && in.over() {
		in.Began = time.Time{} // it begins anew
	}
	return in
}

// gone ends what cannot be judged any more.
func (e *Engine) gone(key string) {
	if in := e.open[key]; in != nil {
		in.level = tocsin.Fine
		if in.Flaps {
			in.Flaps, in.turns = false, nil
		}
	}
}

// settle compares what is with what was told, and returns what there is to tell and to keep, in the order in which it began.
func (e *Engine) settle() (changes []tocsin.Change) {
	var moved []*incident
	for key, in := range e.open {
		switch {
		case in.level == tocsin.Fine && in.ID == 0, // never told
			in.over() && in.level == tocsin.Fine && e.passed-in.last > memoryOfEnded:
			delete(e.open, key)
			delete(e.byID, in.ID)
		case in.level != in.Level, in.altered, in.Flaps, !in.Ack.Until.IsZero():
			moved = append(moved, in)
		}
	}
	slices.SortFunc(moved, func(a, b *incident) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.Key, b.Key)) })
	for _, in := range moved {
		changes = e.settleOne(changes, in)
	}
	return changes
}

func (e *Engine) settleOne(changes []tocsin.Change, in *incident) []tocsin.Change {
	altered := in.altered
	in.altered = false
	if until := in.Ack.Until; !until.IsZero() && !e.now.Before(until) {
		in.Ack, in.mute = tocsin.Ack{}, false
		if in.Level > tocsin.Fine && in.level > tocsin.Fine && !in.Flaps {
			changes = append(changes, e.turn(in, tocsin.Again, true))
		}
	}
	switch {
	case in.Flaps:
		return e.settleFlapping(changes, in)
	case in.level == in.Level:
		if altered && in.Level > tocsin.Fine {
			changes = append(changes, e.turn(in, tocsin.Altered, false))
		}
	case in.level > in.Level && e.heldBy(in) != "":
	case in.Level == tocsin.Fine:
		if in.ID == 0 {
			in.ID = e.next
			e.next++
			e.byID[in.ID] = in
		}
		if in.Ack.Until.IsZero() {
			in.Ack = tocsin.Ack{} // it was for the time before
		}
		in.mute = !in.Ack.At.IsZero()
		in.Level, in.most, in.Ended = in.level, in.level, time.Time{}
		return append(changes, e.told(in, tocsin.Began))
	case in.level == tocsin.Fine:
		in.Level, in.Ended = tocsin.Fine, e.now
		return append(changes, e.told(in, tocsin.Over))
	case in.level > in.Level:
		tell := in.level > in.most
		in.Level, in.most = in.level, max(in.level, in.most)
		if tell {
			return append(changes, e.told(in, tocsin.Worsened))
		}
		return append(changes, e.turn(in, tocsin.Worsened, false))
	default:
		in.Level = in.level
		return append(changes, e.turn(in, tocsin.Eased, false))
	}
	return changes
}

// settleFlapping keeps an unstable incident quiet until it has not changed for an hour.
func (e *Engine) settleFlapping(changes []tocsin.Change, in *incident) []tocsin.Change {
	if in.level != in.Level {
		in.Level = in.level
		return append(changes, e.turn(in, tocsin.Altered, false))
	}
	if e.passed-in.last < steadyAfter {
		return changes
	}
	in.Flaps, in.turns = false, nil
	if in.Level > tocsin.Fine {
		in.most = in.Level
		return append(changes, e.turn(in, tocsin.Steady, true))
	}
	in.Ended = e.now
	return append(changes, e.turn(in, tocsin.Over, true))
}

// told is a turn of which people are told, unless there were too many of them.
func (e *Engine) told(in *incident, turn tocsin.Turn) tocsin.Change {
	in.turns = slices.DeleteFunc(in.turns, func(t time.Duration) bool { return e.passed-t > steadyAfter })
	in.turns = append(in.turns, e.passed)
	if len(in.turns) >= mostTurns {
		in.Flaps, in.Ended = true, time.Time{}
		turn = tocsin.Unstable
	}
	return e.turn(in, turn, !in.mute)
}

func (e *Engine) turn(in *incident, turn tocsin.Turn, tell bool) tocsin.Change {
	in.Worst = max(in.Worst, in.Level)
	in.Changed, in.last = e.now, e.passed
	if tell {
		e.stats.Told++
	}
	return in.change(turn, e.now, tell)
}

// Silence is a time in which nothing is told of what it selects. Empty patterns select everything.
type Silence struct {
	ID                int64
	Group, Node, Rule string // patterns with * and ?
	By, Note          string
	Made, Until       time.Time
}

// SetSilences says which silences there are. What is held back is told when the last of them ends, if it is still wrong.
func (e *Engine) SetSilences(all []Silence) { e.silences = slices.Clone(all) }

// silenced says whether a silence covers a rule on a server; "" for the server means the group, for the rule all of them.
func (e *Engine) silenced(group, name, rule string) bool {
	for i := range e.silences {
		s := &e.silences[i]
		if e.now.Before(s.Until) && covers(s.Group, group) && covers(s.Node, name) && covers(s.Rule, rule) {
			return true
		}
	}
	return false
}

func covers(pattern, s string) bool {
	return pattern == "" || pattern == "*" || s != "" && match(pattern, s)
}
