package probe

import (
	"math"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// Bounds of Rates.
const (
	maxRateSeries = 400_000          // whose last value is kept; more are dropped and counted
	longestRate   = 10 * time.Minute // between two values of one rate, unless the service says that it comes more seldom
	forgetAfter   = time.Hour        // that a service was not read
	sweepEvery    = 10 * time.Minute
	futureBound   = 10 * time.Minute // that a value may claim to be ahead of its reading
)

// RatesOptions are what Rates needs.
type RatesOptions struct {
	Group, Node string // what this machine is called in readings that name neither
}

// Rates makes samples of readings: gauges as they are, rates per second of everything else (rrdcreate(1)). It remembers the last
// value of every series. It may be used by several goroutines.
type Rates struct {
	o        RatesOptions
	mu       sync.Mutex
	services map[serviceKey]*rateService
	latest   time.Time     // of the readings
	passed   time.Duration // as the readings tell it
	swept    time.Duration // when passed was this
	stats    RatesStats
}

// RatesStats count what became of the values.
type RatesStats struct {
	Series  int    // that are remembered
	Samples uint64 // made
	Unknown uint64 // values without a sample: the first ones, "U", outside of min and max, of a counter that began anew
	Stale   uint64 // values not newer than the one before, or of the future
	Strange uint64 // values of fields that no description names
	Dropped uint64 // values of series beyond the bound of 400,000
}

type serviceKey struct{ group, node, service string }

// rateService is what is remembered of one service.
type rateService struct {
	desc   *munin.Service
	fields map[string]*rateField
	gap    time.Duration // longest one between two values of a rate
	seen   time.Duration // what Rates.passed was at the last reading
}

type rateField struct {
	typ         munin.Type
	least, most float64
	known       bool          // raw is of at
	raw         float64       // the last value
	at          int64         // Unix milliseconds of the last value
	since       time.Duration // CLOCK_BOOTTIME of the last value, 0 if it named a time itself
}

// NewRates remembers nothing yet.
func NewRates(o RatesOptions) *Rates {
	return &Rates{o: o, services: map[serviceKey]*rateService{}}
}

// Stats counts since the beginning.
func (r *Rates) Stats() RatesStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Samples adds the samples of one reading to dst. What is unknown gives no sample: the first value of a counter, one that fell
// where it may not, what lies outside of min and max.
func (r *Rates) Samples(dst []tocsin.Sample, rd *Reading) []tocsin.Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(rd.At)
	key := serviceKey{rd.Group, rd.Node, rd.Service.Name}
	if key.group == "" && key.node == "" {
		key.group, key.node = r.o.Group, r.o.Node
	}
	if rd.Service.Host != "" {
		key.node = rd.Service.Host
	}
	own := r.describe(key, rd.Service)
	own.seen = r.passed
	for i := range rd.Values {
		v := &rd.Values[i]
		svc, name := own, rd.Service.Name
		if v.Service != "" && v.Service != name {
			name = v.Service
			svc = r.services[serviceKey{key.group, key.node, name}]
		}
		var f *rateField
		if svc != nil {
			f = svc.fields[v.Field]
		}
		if f == nil {
			if r.stats.Series >= maxRateSeries {
				r.stats.Dropped++
			} else {
				r.stats.Strange++
			}
			continue
		}
		at, since := rd.At.UnixMilli(), rd.Since
		if v.At != 0 {
			at, since = v.At*1000, 0
		}
		if at <= f.at && v.At != 0 || at > rd.At.Add(futureBound).UnixMilli() {
			r.stats.Stale++
			continue
		}
		value, ok := f.take(v.V, at, since, svc.gap)
		if !ok {
			r.stats.Unknown++
			continue
		}
		r.stats.Samples++
		dst = append(dst, tocsin.Sample{
			Series: tocsin.Series{Group: key.group, Node: key.node, Service: name, Field: v.Field},
			T:      at, Value: value,
		})
	}
	return dst
}

// describe returns what is remembered of a service, made to fit its description.
func (r *Rates) describe(key serviceKey, desc *munin.Service) *rateService {
	s := r.services[key]
	if s == nil {
		s = &rateService{}
		if r.stats.Series >= maxRateSeries {
			return s // for this reading only
		}
		r.services[key] = s
	}
	if s.desc == desc {
		return s
	}
	same := s.desc != nil && s.desc.Same(desc)
	s.desc = desc
	if same {
		return s
	}
	s.gap = longestRate
	if text, ok := desc.Get("update_rate"); ok {
		s.gap = max(s.gap, 2*updateRate(text))
	}
	old := s.fields
	s.fields = make(map[string]*rateField, len(desc.Fields))
	r.stats.Series -= len(old)
	for i := range desc.Fields {
		d := &desc.Fields[i]
		if s.fields[d.Name] != nil {
			continue
		}
		if r.stats.Series >= maxRateSeries {
			continue
		}
		f := &rateField{typ: d.Type()}
		if o := old[d.Name]; o != nil && o.typ == f.typ {
			*f = *o
		}
		f.least, f.most = d.Bounds()
		s.fields[d.Name] = f
		r.stats.Series++
	}
	return s
}

// updateRate reads an update_rate: seconds, or a number with s, m, h, d, w, t (31 days), y; "aligned" may follow.
func updateRate(text string) time.Duration {
	n, rest := 0, text
	for rest != "" && rest[0] >= '0' && rest[0] <= '9' && n < 1<<24 {
		n, rest = n*10+int(rest[0]-'0'), rest[1:]
	}
	unit := time.Second
	if rest != "" {
		const day = 24 * time.Hour
		if u, ok := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': day, 'w': 7 * day, 't': 31 * day, 'y': 365 * day}[rest[0]]; ok {
			unit = u
		}
	}
	return min(time.Duration(n), 366*24*time.Hour/unit) * unit
}

// take makes a value of the field's next raw value; not ok means unknown.
func (f *rateField) take(raw float64, at int64, since, longest time.Duration) (value float64, ok bool) {
	was, first := *f, !f.known
	f.raw, f.at, f.since, f.known = raw, at, since, !math.IsNaN(raw) && !math.IsInf(raw, 0)
	switch {
	case !f.known:
		return 0, false
	case f.typ == munin.Gauge:
		value = raw
	case first:
		return 0, false
	default:
		elapsed := time.Duration(at-was.at) * time.Millisecond
		if since != 0 && was.since != 0 {
			elapsed = since - was.since
		}
		if elapsed <= 0 || elapsed > longest {
			return 0, false // after a reboot, or a gap over which a mean says nothing
		}
		if value, ok = f.rate(was.raw, raw, elapsed.Seconds()); !ok {
			return 0, false
		}
	}
	return value, value >= f.least && value <= f.most
}

// rate is the rate per second between two raw values.
func (f *rateField) rate(was, is, seconds float64) (value float64, ok bool) {
	switch {
	case f.typ == munin.Absolute:
		return is / seconds, true
	case f.typ == munin.Counter && is < was:
		d, ok := f.wrapped(was, is, seconds)
		return d / seconds, ok
	}
	return (is - was) / seconds, true
}

// wrapped is the difference of a counter that fell, if it overflowed. RRDtool takes every fall for an overflow and leaves it to
// max to find the reboots, of which each is a spike where there is no max. Here a fall without a max must begin in the last and
// end in the first quarter of what the counter can hold.
func (f *rateField) wrapped(was, is, seconds float64) (d float64, ok bool) {
	for _, size := range []float64{1 << 32, 1 << 64} {
		if was >= size {
			continue
		}
		d = size - was + is // in this order, for near 2^64 a float64 is exact only to 2048
		if !math.IsInf(f.most, 1) {
			return d, d/seconds <= f.most
		}
		if was >= size*3/4 && is < size/4 {
			return d, true
		}
	}
	return 0, false
}

// sweep forgets services that were not read for long. Time is that of the readings, which passes by at most ten minutes from one
// to the next, so that a clock that is set forgets nothing.
func (r *Rates) sweep(at time.Time) {
	if at.Before(r.latest.Add(-forgetAfter)) {
		r.latest = at // it was set back
	}
	if d := at.Sub(r.latest); d > 0 {
		r.passed += min(d, sweepEvery)
		r.latest = at
	}
	if r.passed-r.swept < sweepEvery {
		return
	}
	r.swept = r.passed
	for key, s := range r.services {
		if r.passed-s.seen > max(forgetAfter, s.gap) {
			r.stats.Series -= len(s.fields)
			delete(r.services, key)
		}
	}
}
