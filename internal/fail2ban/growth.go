package fail2ban

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxGrowth      = 64 // entries of the table of lengths, the first ban included
	defaultFormula = "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor"
)

// Times is the length of a ban by the number of former bans: the first entry is bantime itself, what is beyond the end
// is as long as the last one. There are at most 64 entries. Rndtime is not in it: it is another one for each ban.
//
// A formula that gets too large for a number ends the table there. An error says that the factor, the multipliers or
// the formula cannot be worked out, with the place in the text.
func (g *Growth) Times(bantime time.Duration) ([]time.Duration, error) {
	times := []time.Duration{bantime}
	if bantime <= 0 {
		return times, nil // a ban without end cannot grow
	}
	length, err := g.length(bantime)
	if err != nil {
		return nil, err
	}
	for n := int64(1); n < maxGrowth; n++ {
		v, err := length(n)
		if err != nil {
			if n == 1 {
				return nil, err
			}
			break
		}
		d := v.duration()
		if g.Maxtime != 0 { // fail2ban takes a negative one at its word: no longer than for ever
			d = min(d, g.Maxtime)
		}
		if d < 0 && d != -time.Second {
			return nil, fmt.Errorf("the ban after %d others is %s long", n, d)
		}
		times = append(times, d)
	}
	for len(times) > 1 && times[len(times)-1] == times[len(times)-2] {
		times = times[:len(times)-1]
	}
	return slices.Clip(times), nil
}

// length is how long a ban is after count others, maxtime not looked at.
func (g *Growth) length(bantime time.Duration) (func(count int64) (number, error), error) {
	factor := whole(1)
	if strings.TrimSpace(g.Factor) != "" {
		var err error
		if factor, err = evalExpr(strings.TrimSpace(g.Factor)); err != nil {
			return nil, fmt.Errorf("bantime.factor %q: %w", g.Factor, err)
		}
	}
	base := secondsNumber(bantime)
	if multipliers := strings.Fields(g.Multipliers); len(multipliers) > 0 {
		return multiplied(base, factor, multipliers)
	}
	formula := strings.TrimSpace(g.Formula)
	if formula == "" {
		formula = defaultFormula
	}
	e, err := parseExpr(formula, "ban.Time", "ban.Count", "banFactor")
	if err != nil {
		return nil, fmt.Errorf("bantime.formula %q: %w", formula, err)
	}
	return func(count int64) (number, error) {
		v, err := e(map[string]number{"ban.Time": base, "ban.Count": whole(count), "banFactor": factor})
		if err != nil {
			return number{}, fmt.Errorf("bantime.formula %q: %w", formula, err)
		}
		return extreme([]number{base, v}, 1), nil
	}, nil
}

// multiplied is base times factor times the multiplier that stands at the place of count, the last one beyond the end.
func multiplied(base, factor number, multipliers []string) (func(count int64) (number, error), error) {
	step := make([]number, len(multipliers))
	for i, m := range multipliers {
		n, err := strconv.ParseInt(m, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("bantime.multipliers: %q is no whole number", m)
		}
		step[i] = whole(n)
	}
	return func(count int64) (number, error) {
		v, msg := arithmetic("*", base, factor)
		if msg == "" {
			v, msg = arithmetic("*", v, step[min(count, int64(len(step)-1))])
		}
		if msg != "" {
			return number{}, fmt.Errorf("bantime.multipliers: %s", msg)
		}
		return v, nil
	}, nil
}

// secondsNumber is d in seconds, whole if it can be.
func secondsNumber(d time.Duration) number {
	if d%time.Second == 0 {
		return whole(int64(d / time.Second))
	}
	return number{f: d.Seconds()}
}

// FailureWeight is how many failures one failure of an id counts for that was banned former times before, where bans
// grow: 2, 3, 5, 9 and so on, and at most maxretry (ObserverThread.failureFound). An id without bans counts for 1.
func FailureWeight(former, maxretry int) int {
	if former <= 0 {
		return 1
	}
	return int(math.Min(float64(int64(1)<<min(former, 20))/2+1, float64(maxretry)))
}
