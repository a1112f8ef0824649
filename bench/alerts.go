package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/alert"
	"tocsin/internal/config"
	"tocsin/internal/munin"
)

// A fleet as the room of warnings sees it: every server has curves with limits of plugins and of rules.
const (
	alertServers = 250
	alertCurves  = 40 // of each server, all of them judged
	alertRounds  = 360
)

// alerts measures what 10,000 limits and rules cost that are judged every ten seconds for an hour: the processor time in
// percent of one core.
func alerts(_ context.Context, _ *bench) error {
	own := `[[rule]]
name = "bench"
service = "rules*"
warning = ":90"
clear_warning = ":80"
critical = ":98"
for = "5m"
mean = "1m"
`
	c, err := config.Parse("bench.toml", []byte(own))
	if err != nil {
		return err
	}
	rules, wrong := alert.Compile(alert.Shipped(), c.Rules)
	if len(wrong) > 0 {
		return wrong
	}
	e, err := alert.New(alert.Options{Rules: rules})
	if err != nil {
		return err
	}
	services := make([]*munin.Service, 0, 4)
	for _, name := range []string{"limits1", "limits2", "rules1", "rules2"} {
		s := &munin.Service{Name: name}
		for i := range alertCurves / 4 {
			f := munin.Field{Name: fmt.Sprintf("f%d", i)}
			if name[0] == 'l' {
				f.Attrs = []munin.Attr{{Name: "warning", Value: ":90"}, {Name: "critical", Value: ":98"}}
			}
			s.Fields = append(s.Fields, f)
		}
		services = append(services, s)
	}
	names := make([]string, alertServers)
	for i := range names {
		names[i] = fmt.Sprintf("server%d", i)
	}
	now := hubStart
	var before syscall.Rusage
	for round := range alertRounds + 1 {
		if round == 1 { // the rules are chosen once
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				return err
			}
		}
		for i, name := range names {
			e.Asked("Provider", name, time.Minute)
			for _, s := range services {
				e.Read("Provider", name, s)
				for j := range s.Fields {
					e.Observe(&tocsin.Sample{
						Series: tocsin.Series{Group: "Provider", Node: name, Service: s.Name, Field: s.Fields[j].Name},
						T:      now.UnixMilli(), Value: float64((i*7 + j*13 + round) % 89),
					})
				}
			}
		}
		now = now.Add(10 * time.Second)
		e.Tick(now)
	}
	var after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		return err
	}
	spent := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	st := e.Stats()
	fmt.Printf("%d limits and rules of %d servers, judged every 10 s: %s of processor for %s, %.3f %% of a core, %s a value\n", st.Checks, st.Nodes,
		spent.Round(time.Millisecond), alertRounds*10*time.Second, 100*spent.Seconds()/(alertRounds*10), (spent / time.Duration(alertRounds*st.Checks)).Round(time.Nanosecond))
	return nil
}
