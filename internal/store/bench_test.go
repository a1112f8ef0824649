package store

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"tocsin"
)

// BenchmarkPut waits for the disk each time; several goroutines share a commit.
func BenchmarkPut(b *testing.B) {
	for _, workers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			s := fresh(b)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for range workers {
					d := ban(n, 5)
					n++
					wg.Go(func() { put(b, s, d) })
				}
				wg.Wait()
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// BenchmarkPutMany lifts as many bans as one call of an operator may, and tells how long a ban waits that comes behind them.
func BenchmarkPutMany(b *testing.B) {
	const n = 10_000
	s := open(b, filepath.Join(b.TempDir(), "state.db"), Options{})
	var at time.Duration
	var behind time.Duration
	for b.Loop() {
		b.StopTimer()
		at += time.Minute
		var bans, unbans []tocsin.Decision
		for i := range n {
			d := ban(i, 0)
			d.At, d.Trigger = t0.Add(at), tocsin.Line{}
			d.Until = d.At.Add(time.Hour)
			bans, unbans = append(bans, d), append(unbans, unban(d, time.Second))
		}
		put(b, s, bans...)
		b.StartTimer()
		done := make(chan struct{})
		go func() { put(b, s, unbans...); close(done) }()
		for s.Stats().Pending == 0 {
			runtime.Gosched()
		}
		began := time.Now()
		put(b, s, ban(n+int(at/time.Minute), 5))
		behind += time.Since(began)
		<-done
	}
	b.ReportMetric(float64(behind.Milliseconds())/float64(b.N), "ms-behind/op")
}

// filled makes a store with that many bans, of which the last 10,000 are in force.
func filled(b *testing.B, n int) *Store {
	b.Helper()
	s := open(b, filepath.Join(b.TempDir(), "state.db"), Options{Queue: n})
	var ds []tocsin.Decision
	for i := range n {
		d := ban(i, 5)
		d.At = t0.Add(time.Duration(i-n) * time.Second)
		d.Until = d.At.Add(10_000 * time.Second)
		if ds = append(ds, d); len(ds) == 1000 {
			put(b, s, ds...)
			ds = ds[:0]
		}
	}
	return s
}

func BenchmarkFilled(b *testing.B) {
	s := filled(b, 100_000)
	b.Run("Active", func(b *testing.B) {
		for b.Loop() {
			if got, err := s.Active(t0); len(got) != 9_999 || err != nil {
				b.Fatal(len(got), err)
			}
		}
	})
	b.Run("Bans", func(b *testing.B) {
		for b.Loop() {
			if got := bans(b, s, Query{Addr: ban(77_777, 0).Prefix.Addr(), WithEvidence: true}); len(got) != 1 {
				b.Fatal(got)
			}
		}
	})
	b.Run("Decided", func(b *testing.B) {
		d := ban(77_777, 0)
		for b.Loop() {
			if yes, err := s.Decided(ctx, d.Jail, d.ID, d.Trigger); !yes || err != nil {
				b.Fatal(yes, err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := s.file.Load().check(ctx); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(s.Stats().Size)/(1<<20), "MiB")
	})
}

// BenchmarkTallyBans counts the bans of a day of a great attack.
func BenchmarkTallyBans(b *testing.B) {
	s := fresh(b)
	for i := range 10 {
		bans := make([]tocsin.Decision, 10_000)
		for j := range bans {
			bans[j] = ban(10_000*i+j, 0)
			bans[j].At, bans[j].Trigger = t0.Add(time.Duration(j)*time.Second), tocsin.Line{}
		}
		put(b, s, bans...)
	}
	b.ReportAllocs()
	for b.Loop() {
		if all, _, err := s.TallyBans(t0, t0.Add(time.Hour), 0); err != nil || len(all) != 1 || all[0].Taken != 100_000 {
			b.Fatal(all, err)
		}
	}
}
