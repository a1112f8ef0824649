package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

var (
	signer = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	known  = signer.Public().(ed25519.PublicKey)
	other  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)).Public().(ed25519.PublicKey)
	when   = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
)

// crowd is a set like real ones: addresses that share a third as many /24.
func crowd(r *rand.Rand, n int) *Set {
	s := &Set{}
	nets := make([]uint32, n/3)
	for i := range nets {
		nets[i] = 0x01000000 + r.Uint32N(0xDE000000)&^0xFF
	}
	for range n {
		s.V4 = append(s.V4, nets[int(float64(len(nets))*r.Float64()*r.Float64())]+r.Uint32N(256))
	}
	for range n / 20 {
		s.V6 = append(s.V6, 0x2000_0000_0000_0000+r.Uint64N(1<<40)<<16)
	}
	s.Sort()
	return s
}

// changed is a set with a part of it exchanged.
func changed(r *rand.Rand, s *Set, part float64) *Set {
	n := &Set{}
	for _, v := range s.V4 {
		if r.Float64() >= part {
			n.V4 = append(n.V4, v)
		}
	}
	fresh := crowd(r, int(float64(len(s.V4))*part))
	n.V4 = append(n.V4, fresh.V4...)
	n.V6 = append(slices.Clone(s.V6), fresh.V6...)
	n.Sort()
	return n
}

func TestWholeAndDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	before := crowd(r, 76_016)
	now := changed(r, before, 0.02)
	whole, err := Whole(before, Meta{Generation: 10, At: when, Score: 100}, signer)
	if err != nil {
		t.Fatal(err)
	}
	got, m, err := Apply(whole, known, nil)
	if err != nil || !reflect.DeepEqual(got, before) {
		t.Fatalf("a whole set comes back different: %v", err)
	}
	if m.Generation != 10 || m.From != 0 || !m.At.Equal(when) || m.Score != 100 || m.Hash != before.Hash() {
		t.Errorf("meta %+v", m)
	}
	diff, err := Difference(before, now, Meta{Generation: 11, From: 10, At: when.Add(time.Hour), Score: 100}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := Apply(diff, known, before); err != nil || !reflect.DeepEqual(got, now) {
		t.Fatalf("a difference gives another set: %v", err)
	}
	t.Logf("%d addresses: %d bytes whole, %.2f an address; a difference of 2 %%: %d bytes", before.Len(), len(whole), float64(len(whole))/float64(before.Len()), len(diff))
	if per := float64(len(whole)) / float64(before.Len()); per > 2 {
		t.Errorf("%.2f bytes an address", per)
	}
	if len(diff) > len(whole)/8 {
		t.Errorf("the difference has %d bytes", len(diff))
	}
	// On anything else than what it begins at it is refused.
	for _, base := range []*Set{nil, {}, crowd(r, 1000)} {
		if _, _, err := Apply(diff, known, base); !errors.Is(err, ErrBase) {
			t.Errorf("on a set of %v: %v", base != nil, err)
		}
	}
}

func TestSmallSets(t *testing.T) {
	for _, s := range []*Set{{}, {V4: []uint32{0}}, {V4: []uint32{0, 1, 0xFFFFFFFF}}, {V6: []uint64{0, 1 << 63, 1<<64 - 1}}, {V4: []uint32{9}, V6: []uint64{9}}} {
		file, err := Whole(s, Meta{Generation: 1}, signer)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := Apply(file, known, nil)
		if err != nil || !slices.Equal(got.V4, s.V4) || !slices.Equal(got.V6, s.V6) {
			t.Errorf("%v comes back as %v: %v", s, got, err)
		}
	}
	var s Set
	for _, a := range []string{"192.0.2.9", "::ffff:192.0.2.7", "2001:db8::5", "2001:db8::9", "192.0.2.7"} {
		s.Add(netip.MustParseAddr(a))
	}
	s.Sort()
	var got []string
	s.Prefixes(func(p netip.Prefix) { got = append(got, p.String()) })
	if want := []string{"192.0.2.7/32", "192.0.2.9/32", "2001:db8::/64"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRefused(t *testing.T) {
	file, err := Whole(&Set{V4: []uint32{1, 5, 9}}, Meta{Generation: 3, At: when}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for n := range file {
		if _, _, err := Apply(file[:n], known, nil); err == nil {
			t.Fatalf("%d of %d bytes are taken", n, len(file))
		}
		broken := bytes.Clone(file)
		broken[n] ^= 1
		if _, _, err := Apply(broken, known, nil); err == nil {
			t.Fatalf("it is taken with byte %d changed", n)
		}
	}
	if _, err := Read(file, other); !errors.Is(err, ErrSignature) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := Read(file, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	if _, err := Difference(&Set{}, &Set{}, Meta{Generation: 3, From: 3}, signer); err == nil {
		t.Error("a difference that leads nowhere is written")
	}
}

func FuzzApply(f *testing.F) {
	file, err := Whole(&Set{V4: []uint32{1, 5, 9}, V6: []uint64{7}}, Meta{Generation: 3, At: when}, signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file[len(magic) : len(file)-ed25519.SignatureSize])
	f.Add(bytes.Repeat([]byte{255}, headerSize))
	f.Fuzz(func(t *testing.T, body []byte) {
		// It is signed whatever it says: a signer's fault must not harm who reads.
		signed := append([]byte(magic), body...)
		set, m, err := Apply(append(signed, ed25519.Sign(signer, signed)...), known, nil)
		if err == nil && (set.Hash() != m.Hash || !slices.IsSorted(set.V4) || !slices.IsSorted(set.V6)) {
			t.Error("a set that is not one")
		}
	})
}
