package jail

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"tocsin"
)

// BenchmarkFailure is a flood from so many addresses at once; the metrics say how much of it led to bans.
func BenchmarkFailure(b *testing.B) {
	for _, addresses := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint("addresses=", addresses), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			fs := make([]*tocsin.Failure, 1<<16)
			for i := range fs {
				n := r.IntN(addresses)
				fs[i] = failure(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String(), []string{"root", "admin", "test"}[i%3], t0, i)
			}
			j := mustNew(b, Options{Name: "sshd", MaxRetry: 5, FindTime: 10 * time.Minute, BanTime: 15 * time.Minute, KnownFor: time.Hour})
			var ds []tocsin.Decision
			at, i := t0, 0
			b.ReportAllocs()
			for b.Loop() {
				f := fs[i&(len(fs)-1)]
				at = at.Add(time.Duration(addresses) * time.Microsecond * 100)
				f.At, f.Line.At = at, at
				ds = j.Failure(ds[:0], f)
				i++
			}
			s := j.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mfailures/s")
			b.ReportMetric(float64(s.Bans)/float64(s.Counted)*100, "%bans")
			b.ReportMetric(float64(s.Late)/float64(s.Counted)*100, "%late")
		})
	}
}

// BenchmarkThreshold is the worst case of the window: an address that always stays just below a high limit.
func BenchmarkThreshold(b *testing.B) {
	for _, limit := range []int{5, 100, 1000} {
		b.Run(fmt.Sprint("maxretry=", limit), func(b *testing.B) {
			j := mustNew(b, Options{Name: "sshd", MaxRetry: limit, FindTime: 10 * time.Minute, BanTime: time.Hour})
			f := failure("192.0.2.1", "root", t0, 1)
			step := 10*time.Minute/time.Duration(limit-1) + time.Second
			for b.Loop() {
				f.At = f.At.Add(step)
				j.Failure(nil, f)
			}
		})
	}
}
