package list

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// text is a list of n random public addresses as servers give them, one in ten of IPv6.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	var b bytes.Buffer
	for i := 0; i < n; {
		if i%10 == 9 {
			fmt.Fprintln(&b, addr6{0x2a00<<48 | r.Uint64()>>16, r.Uint64()}.addr())
			i++
		} else if a := r.Uint32(); !isSpecial4(a, a) {
			fmt.Fprintln(&b, addrOf4(a))
			i++
		}
	}
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10_000, 500_000} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) {
			list := text(n)
			b.SetBytes(int64(len(list)))
			b.ReportAllocs()
			for b.Loop() {
				if p, err := Parse(bytes.NewReader(list), n); err != nil || p.Bad.N > 0 {
					b.Fatal(p.Bad, err)
				}
			}
		})
	}
}

func parsed(b *testing.B, n int) *Set {
	b.Helper()
	p, err := Parse(bytes.NewReader(text(n)), n)
	must(b, err)
	return p.Set
}

func BenchmarkEncode(b *testing.B) {
	k := kept(parsed(b, 500_000))
	for b.Loop() {
		must(b, k.Encode(io.Discard))
	}
}

func BenchmarkDecode(b *testing.B) {
	text := encoded(b, kept(parsed(b, 500_000)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := Decode(bytes.NewReader(text))
		must(b, err)
	}
}

// BenchmarkKeep waits for the disk.
func BenchmarkKeep(b *testing.B) {
	f, k := folder(b), kept(parsed(b, 500_000))
	for b.Loop() {
		must(b, f.Keep(k))
	}
}

// BenchmarkHeld tells what a list of 500,000 holds in memory.
func BenchmarkHeld(b *testing.B) {
	list := text(500_000)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p, err := Parse(bytes.NewReader(list), 500_000)
		must(b, err)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB/list")
		runtime.KeepAlive(p)
	}
}
