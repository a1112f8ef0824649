package main

import (
	"math"

	"tocsin/internal/reputation"
)

// formula decides what is on a list.
type formula interface {
	name() string
	report(e event)
	vouch(e event)
	appeal(k reputation.Key, at int64)
	tick(at int64)
	listed(k reputation.Key, at int64) bool
	all(at int64) []reputation.Key
}

// tally counts reporters, as simple lists do: n reporters within thirty days, or the logarithm of their number with decay.
type tally struct {
	title string
	least float64
	decay bool // reports fade with a half-life of fifteen days; else they count for thirty
	last  map[reputation.Key]map[uint32]int64
}

func (t *tally) name() string                 { return t.title }
func (t *tally) vouch(event)                  {}
func (t *tally) appeal(reputation.Key, int64) {}
func (t *tally) tick(int64)                   {}
func (t *tally) report(e event) {
	m := t.last[e.key]
	if m == nil {
		m = map[uint32]int64{}
		t.last[e.key] = m
	}
	m[e.who] = e.at
}

func (t *tally) listed(k reputation.Key, at int64) bool {
	n := 0.0
	for _, last := range t.last[k] {
		switch age := float64(at - last); {
		case t.decay:
			n += math.Exp2(-age / float64(15*dayLong))
		case age < float64(30*dayLong):
			n++
		}
	}
	return n >= t.least
}

func (t *tally) all(at int64) (keys []reputation.Key) {
	for k := range t.last {
		if t.listed(k, at) {
			keys = append(keys, k)
		}
	}
	return keys
}

// ours is the formula of the product, the very code.
type ours struct {
	title  string
	book   *reputation.Book
	alarms []reputation.Alarm
}

func newOurs(title string, w *world) *ours {
	o := &ours{title: title}
	o.book = reputation.New(reputation.Options{Orgs: w.orgs, Reporters: w.reporters, Shared: func(k reputation.Key) bool { return w.shared[k] }})
	for _, k := range w.canaries {
		o.book.Canary(k)
	}
	return o
}

func (o *ours) name() string { return o.title }

func (o *ours) report(e event) {
	if err := o.book.Ingest(reputation.Report{Reporter: e.who, Key: e.key, At: e.at, Quality: 255}); err != nil {
		panic(err)
	}
}

func (o *ours) vouch(e event) {
	if err := o.book.Vouch(e.who, e.key, e.at); err != nil {
		panic(err)
	}
}

func (o *ours) appeal(k reputation.Key, at int64) { o.book.Clear(k, at, true) }

func (o *ours) tick(at int64) {
	o.book.Tick(at)
	o.alarms = append(o.alarms, o.book.Alarms()...)
}

func (o *ours) listed(k reputation.Key, at int64) bool { return o.book.Score(k, at) >= 100 }

func (o *ours) all(at int64) (keys []reputation.Key) {
	o.book.List(100, at, func(l reputation.Listed) { keys = append(keys, l.Key) })
	return keys
}
