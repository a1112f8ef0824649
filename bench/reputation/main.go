// Command reputation plays attackers, honest people and adversaries against formulas that make a list of dangerous
// addresses, and prints what each is worth. The formula of the product is the product's own code.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"tocsin/internal/reputation"
)

func main() {
	seeds := flag.Int("seeds", 3, "worlds")
	only := flag.String("only", "", "one attack by name; none: only the world without one")
	mine := flag.Bool("mine", false, "only the product's formula")
	flag.Parse()
	if *mine {
		formulas = formulas[len(formulas)-1:]
	}
	if err := run(*seeds, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(seeds int, only string) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "no attack\tprecision\trecall IP\trecall vol\tmedian time to list\tshared hours\treused hours\thonest single hours")
	for _, make := range formulas {
		var sum result
		for seed := range seeds {
			w := newWorld(uint64(seed + 1))
			sum.add(play(w, make, nil))
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.1f h\t%.1f %%\t%.1f %%\t%.2f %%\n", sum.title, sum.share(attacker), sum.recallIP(),
			sum.recallVolume(), sum.median(), 100*sum.share(many), 100*sum.share(reused), 100*sum.share(single))
	}
	t.Flush()
	if only == "none" {
		return nil
	}
	fmt.Println()
	fmt.Fprintln(t, "victims on the list (hours each)\t"+header()+"\talarm after")
	for _, a := range adversaries {
		if only != "" && a.name != only {
			continue
		}
		fmt.Fprint(t, a.name)
		var alarm string
		for _, make := range formulas {
			var sum result
			for seed := range seeds {
				w := newWorld(uint64(seed + 1))
				sum.add(play(w, make, a.act))
			}
			if a.share {
				fmt.Fprintf(t, "\t%.3f", sum.targetShare())
			} else {
				fmt.Fprintf(t, "\t%.0f %% (%.0f)", 100*float64(sum.victims)/float64(victims*seeds), sum.victimHours/float64(max(1, sum.victims)))
			}
			alarm = sum.alarmed(seeds)
		}
		fmt.Fprintf(t, "\t%s\n", alarm)
	}
	return t.Flush()
}

var formulas = []func(w *world) formula{
	func(*world) formula {
		return &tally{title: "count >= 3 in 30 d", least: 3, last: map[reputation.Key]map[uint32]int64{}}
	},
	func(*world) formula {
		return &tally{title: "ln, 75 at 2", least: 2, decay: true, last: map[reputation.Key]map[uint32]int64{}}
	},
	func(*world) formula {
		return &tally{title: "ln, 75 at 10", least: 10, decay: true, last: map[reputation.Key]map[uint32]int64{}}
	},
	func(w *world) formula { return newOurs("Tocsin", w) },
}

func header() (s string) {
	for i, make := range formulas {
		if i > 0 {
			s += "\t"
		}
		s += make(&world{}).name()
	}
	return s
}

// result is what one formula did in one world.
type result struct {
	title       string
	hours       [5]float64 // on the list, by class
	hits, known int        // attacks seen by honest sensors, and those of them that were on the list
	seen, found int        // attackers with a hit, and those that came on the list while they attacked
	delays      []float64  // hours
	victims     int
	victimHours float64
	target      float64 // hours on the list of those that an adversary would clear
	targetAll   float64
	alarms      []float64 // hours after the attack began
	noise       int       // alarms about others
}

func (r *result) add(o result) {
	r.title = o.title
	for i := range r.hours {
		r.hours[i] += o.hours[i]
	}
	r.hits, r.known, r.seen, r.found = r.hits+o.hits, r.known+o.known, r.seen+o.seen, r.found+o.found
	r.delays = append(r.delays, o.delays...)
	r.victims, r.victimHours = r.victims+o.victims, r.victimHours+o.victimHours
	r.target, r.targetAll = r.target+o.target, r.targetAll+o.targetAll
	r.alarms, r.noise = append(r.alarms, o.alarms...), r.noise+o.noise
}

func (r *result) share(c class) float64 {
	all := 0.0
	for _, h := range r.hours[attacker:] { // where nobody is, nobody is harmed and nothing gained
		all += h
	}
	return r.hours[c] / max(1, all)
}

func (r *result) recallIP() float64     { return float64(r.found) / float64(max(1, r.seen)) }
func (r *result) recallVolume() float64 { return float64(r.known) / float64(max(1, r.hits)) }
func (r *result) targetShare() float64  { return r.target / max(1, r.targetAll) }

func (r *result) median() float64 {
	if len(r.delays) == 0 {
		return 0
	}
	slices.Sort(r.delays)
	return r.delays[len(r.delays)/2]
}

func (r *result) alarmed(seeds int) string {
	if len(r.alarms) == 0 {
		return fmt.Sprintf("none (%d others)", r.noise)
	}
	return fmt.Sprintf("%.1f h in %d of %d (%d others)", slices.Max(r.alarms), len(r.alarms), seeds, r.noise)
}

// play lets everything happen and looks at the list every hour: at all of it in a world without an adversary, and else at
// those whom the adversary means.
func play(w *world, make func(*world) formula, act func(*world)) (r result) {
	if act != nil {
		act(w)
	}
	f := make(w)
	r.title = f.name()
	began := w.at(attackDay)
	first := map[reputation.Key]int64{}
	found := map[reputation.Key]bool{}
	harmed := map[reputation.Key]float64{}
	appealed := map[reputation.Key]int64{}
	next := w.at(0) + hour
	for _, e := range w.sorted() {
		for ; next <= e.at; next += hour {
			f.tick(next)
			if next < w.at(measureFrom) {
				continue
			}
			if act == nil {
				for _, k := range f.all(next) {
					c := w.what(k, next)
					r.hours[c]++
					if c == attacker && !found[k] && first[k] != 0 {
						found[k] = true
						r.delays = append(r.delays, float64(next-first[k])/float64(hour))
					}
				}
			}
			for _, k := range w.victims {
				if next > began && f.listed(k, next) {
					harmed[k]++
					if appealed[k] == 0 {
						appealed[k] = next
					}
				}
			}
			for k, at := range appealed {
				if at > 0 && next >= at+appealAfter {
					appealed[k] = 0
					f.appeal(k, next)
				}
			}
			if act != nil && next > began {
				r.watch(w, f, next)
			}
		}
		switch e.kind {
		case attacked:
			if _, real := w.lives[e.key]; real && e.at >= w.at(measureFrom) {
				if first[e.key] == 0 {
					first[e.key] = e.at
					r.seen++
				}
				r.hits++
				if act == nil && f.listed(e.key, e.at) {
					r.known++
				}
			}
			f.report(e)
		case mistyped, forged:
			f.report(e)
		case loggedIn, vouched:
			f.vouch(e)
		}
	}
	r.found = len(found)
	for _, h := range harmed {
		r.victims++
		r.victimHours += h
	}
	if o, ok := f.(*ours); ok {
		for _, a := range o.alarms {
			switch theirs := a.Orgs[0] > 1000 || slices.Contains(w.bad, a.Orgs[1]); {
			case !theirs || a.At < began:
				r.noise++
			case len(r.alarms) == 0:
				r.alarms = append(r.alarms, float64(a.At-began)/float64(hour))
			}
		}
	}
	return r
}

// watch counts how long those stay on the list whom an adversary would clear.
func (r *result) watch(w *world, f formula, at int64) {
	for _, k := range w.busiest(at) {
		r.targetAll++
		if f.listed(k, at) {
			r.target++
		}
	}
}
