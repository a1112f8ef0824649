package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tocsin"
)

// one makes the ban number i, of an address in 10.0.0.0/8.
func one(i int, until time.Time) tocsin.Decision {
	a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	return tocsin.Decision{Jail: "sshd", ID: a.String(), Prefix: netip.PrefixFrom(a, 32), Ports: []uint16{22, 2200}, Until: until}
}

// BenchmarkBan bans one address after the other; ns/op is what a ban takes, and p50-ns and p99-ns how that is spread.
func BenchmarkBan(b *testing.B) {
	until := time.Now().Add(time.Hour)
	for _, watched := range []bool{false, true} {
		for _, full := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("watched=%v/held=%d", watched, full), func(b *testing.B) {
				h := newHost(b)
				f := h.firewall(addresses(full)...)
				if watched {
					ctx, cancel := context.WithCancel(context.Background())
					done := make(chan error)
					go func() { done <- f.Watch(ctx, func() bool { return true }) }()
					defer func() { cancel(); <-done }()
				}
				var took []time.Duration
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					d := one(i, until)
					begin := time.Now()
					if err := f.Ban(d); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(begin))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bans/s")
			})
		}
	}
}

// BenchmarkExtend gives a ban that holds another end.
func BenchmarkExtend(b *testing.B) {
	f := newHost(b).firewall()
	until := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := f.Ban(one(i%100, until.Add(time.Duration(i)))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBanPrefix bans one more prefix while so many are banned, all of which are sent again.
func BenchmarkBanPrefix(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newHost(b).firewall()
			var ds []tocsin.Decision
			for i := range n {
				ds = append(ds, ban(fmt.Sprintf("100.%d.%d.0/24", i>>8, i&0xff)))
			}
			must(b, f.Ban(ds...))
			for i := 0; b.Loop(); i++ {
				if err := f.Ban(ds[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRestore makes the table of so many bans; with kernel=full it holds them already and they are listed first.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		ds := addresses(n)
		b.Run(fmt.Sprintf("%d/kernel=empty", n), func(b *testing.B) {
			f := newHost(b).firewall()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				must(b, f.Clear())
				b.StartTimer()
				if _, err := f.Restore(ds, nil, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/kernel=full", n), func(b *testing.B) {
			f := newHost(b).firewall(ds...)
			for b.Loop() {
				if _, err := f.Restore(ds, nil, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/adopted", n), func(b *testing.B) {
			f := newHost(b).firewall(ds...)
			for b.Loop() {
				adopted, err := f.Restore(nil, nil, time.Now())
				if err != nil || len(adopted) != n {
					b.Fatalf("%d adopted: %v", len(adopted), err)
				}
			}
		})
	}
}

// BenchmarkSync is what comes round every second while nothing ends.
func BenchmarkSync(b *testing.B) {
	f := newHost(b).firewall(addresses(100_000)...)
	now := time.Now()
	for b.Loop() {
		must(b, f.Sync(now))
	}
}

// BenchmarkCheck is what comes round every minute.
func BenchmarkCheck(b *testing.B) {
	f := newHost(b).firewall(addresses(100_000)...)
	for b.Loop() {
		if ok, _, err := f.sound(time.Now()); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
