package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

// singles makes n addresses of the third and later of every four in 1.0.0.0/8 and on, prefixes n networks of 16 to 28 bits.
func singles(n, seed int) []netip.Prefix {
	var ps []netip.Prefix
	for i := range n {
		x := uint32(i*2654435761+seed*97) % (223 << 24)
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x>>24) | 1, byte(x >> 16), byte(x >> 8), byte(x)}), 32))
	}
	return ps
}

func networks(n, seed int) []netip.Prefix {
	var ps []netip.Prefix
	for i, p := range singles(n, seed) {
		ps = append(ps, netip.PrefixFrom(p.Addr(), 20+i%9).Masked())
	}
	return ps
}

// BenchmarkSetList swaps two lists. Watched, the kernel also prepares to tell the watcher of every element.
func BenchmarkSetList(b *testing.B) {
	for _, tt := range []struct {
		name string
		make func(n, seed int) []netip.Prefix
		n    int
	}{{"addresses", singles, 10_000}, {"addresses", singles, 500_000}, {"prefixes", networks, 50_000}} {
		for _, watched := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s=%d/watched=%v", tt.name, tt.n, watched), func(b *testing.B) {
				f := newHost(b).firewall()
				if watched {
					ctx, cancel := context.WithCancel(context.Background())
					done := make(chan error)
					go func() { done <- f.Watch(ctx, yes) }()
					defer func() { cancel(); <-done }()
				}
				lists := [2][]netip.Prefix{tt.make(tt.n, 1), tt.make(tt.n, 2)}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					must(b, f.SetList(List{Name: "x", Prefixes: lists[i%2]}))
				}
				b.ReportMetric(float64(f.Stats().Lists["x"].Entries), "entries")
			})
		}
	}
}
