package daemon

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/probe"
	"tocsin/internal/store"
)

// This file is how it is found out which probes show nothing that others do not show too.

// The rhythm of comparisons. They are nothing that anybody waits for.
const (
	compareFirst = 10 * time.Minute // after the start
	compareLook  = time.Hour        // between two looks who is due
	compareAgain = 24 * time.Hour
	compareSpan  = 7 * 24 * time.Hour
	compareStep  = 5 * time.Minute
	comparePause = 20 // so many times as long as a reading took nothing is read
)

// compare compares the curves of each server once a day, until ctx ends.
func (s *supervisor) compare(ctx context.Context) {
	for wait := compareFirst; pause(ctx, wait); wait = compareLook {
		for _, key := range s.known.due(time.Now().Add(-compareAgain)) {
			if err := s.compareServer(ctx, key, time.Now(), comparePause); err != nil && ctx.Err() == nil {
				s.log.Error("curves could not be compared", "node", key.name, "err", err)
			}
		}
	}
}

// compareServer finds what repeats what on a server, in the week before now, and keeps it.
func (s *supervisor) compareServer(ctx context.Context, key serverKey, now time.Time, pauses int) error {
	to := now.Truncate(compareStep)
	var curves []probe.Curve
	shown := s.known.shown(key)
	whose := s.probesOf(key)
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		v := shown[name]
		if v.virtual {
			continue
		}
		from, ok := whose[name]
		if !ok {
			from, _, _ = strings.Cut(name, ".")
		}
		for _, f := range v.Fields {
			if _, drawn := v.sources[f.Name]; drawn {
				continue
			}
			series := tocsin.Series{Group: key.group, Node: key.name, Service: name, Field: f.Name}
			curves = append(curves, probe.Curve{Probe: from, Name: name + "." + f.Name, Values: func(ctx context.Context) ([]float64, error) {
				begin := time.Now()
				values, err := s.week(ctx, series, to)
				pause(ctx, time.Since(begin)*time.Duration(pauses))
				return values, err
			}})
		}
	}
	found, err := probe.FindRepeats(ctx, curves)
	if err != nil {
		return err
	}
	r := store.Repeats{Group: key.group, Node: key.name, At: now}
	for _, f := range found {
		r.Found = append(r.Found, [2]string{tocsin.Printable(f.Probe), tocsin.Printable(f.Of)})
	}
	return s.known.compared(ctx, &r)
}

// week are the five-minute means of a series in the week before to.
func (s *supervisor) week(ctx context.Context, series tocsin.Series, to time.Time) ([]float64, error) {
	points, err := s.db.Read(ctx, series, to.Add(-compareSpan), to, compareStep)
	if err != nil || len(points) == 0 {
		return nil, err
	}
	values := slices.Repeat([]float64{math.NaN()}, int(compareSpan/compareStep))
	for _, p := range points {
		if i := len(values) - 1 - int(time.Duration(to.UnixMilli()-p.T)*time.Millisecond/compareStep); 0 <= i && i < len(values) {
			values[i] = p.Avg
		}
	}
	return values, nil
}

// probesOf is which probe or plugin of this machine delivers a service. Of other servers nobody but the service tells.
func (s *supervisor) probesOf(key serverKey) map[string]string {
	whose := map[string]string{}
	if key != s.own {
		return whose
	}
	for _, p := range s.pluginStates() {
		for _, name := range p.Services {
			whose[name] = p.Name
		}
	}
	for _, st := range s.set.States() {
		for _, name := range st.Services {
			whose[name] = st.Name
		}
	}
	return whose
}

// due are the servers whose curves were not compared since then.
func (c *catalogue) due(since time.Time) (keys []serverKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, s := range c.servers {
		if s.repeats.At.Before(since) && !s.isVirtual() {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, serverKey.compare)
	return keys
}

// compared keeps what a comparison found.
func (c *catalogue) compared(ctx context.Context, r *store.Repeats) error {
	c.mu.Lock()
	s := c.servers[serverKey{r.Group, r.Node}]
	if s != nil {
		s.repeats = *r
	}
	c.mu.Unlock()
	if s == nil {
		return nil // forgotten meanwhile
	}
	if err := c.store.PutRepeats(ctx, r); err != nil {
		return fmt.Errorf("keep it: %w", err)
	}
	return nil
}

// repeated is what was found of a server.
func (c *catalogue) repeated(key serverKey) [][2]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.servers[key]; s != nil {
		return s.repeats.Found
	}
	return nil
}
