package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxMind writes a file of MaxMind's format with a country for each prefix of IPv4
// (https://maxmind.github.io/MaxMind-DB/).
func maxMind(t *testing.T, lands map[string]string) []byte {
	t.Helper()
	text := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	number := func(kind byte, n uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, n)
		if kind > 7 {
			return append([]byte{4, kind - 7}, b...)
		}
		return append([]byte{kind<<5 | 4}, b...)
	}
	type node [2]int // -1: nothing; -2-n: data n
	nodes := []node{{-1, -1}}
	var data bytes.Buffer
	for prefix, land := range lands {
		p := netip.MustParsePrefix(prefix)
		offset := data.Len()
		data.WriteByte(7<<5 | 1)
		data.Write(text("country"))
		data.WriteByte(7<<5 | 1)
		data.Write(text("iso_code"))
		data.Write(text(land))
		at, addr := 0, p.Addr().As4()
		for i := range p.Bits() {
			bit := addr[i/8] >> (7 - i%8) & 1
			if i == p.Bits()-1 {
				nodes[at][bit] = -2 - offset
				break
			}
			if nodes[at][bit] < 0 {
				nodes = append(nodes, node{-1, -1})
				nodes[at][bit] = len(nodes) - 1
			}
			at = nodes[at][bit]
		}
	}
	var out bytes.Buffer
	for _, n := range nodes {
		for _, v := range n {
			switch {
			case v == -1:
				v = len(nodes)
			case v < 0:
				v = len(nodes) + 16 + (-v - 2)
			}
			out.Write([]byte{byte(v >> 16), byte(v >> 8), byte(v)})
		}
	}
	out.Write(make([]byte, 16))
	out.Write(data.Bytes())
	out.WriteString("\xab\xcd\xefMaxMind.com")
	out.WriteByte(7<<5 | 7)
	for _, f := range []struct {
		key   string
		value []byte
	}{
		{"node_count", number(6, uint32(len(nodes)))},
		{"record_size", []byte{5<<5 | 1, 24}},
		{"ip_version", []byte{5<<5 | 1, 4}},
		{"database_type", text("Country")},
		{"binary_format_major_version", []byte{5<<5 | 1, 2}},
		{"binary_format_minor_version", []byte{5 << 5}},
		{"build_epoch", number(9, 1)},
	} {
		out.Write(text(f.key))
		out.Write(f.value)
	}
	return out.Bytes()
}

func TestGuard(t *testing.T) {
	h := hostAt(t.TempDir())
	h.Country = filepath.Join(t.TempDir(), "country.mmdb")
	if err := os.WriteFile(h.Country, maxMind(t, map[string]string{"192.0.2.0/24": "FR", "198.51.100.0/24": "DE", "203.0.113.0/24": "x\n"}), 0o644); err != nil {
		t.Fatal(err)
	}
	g := &Guard{
		Jails: []GuardJail{{"sshd", 900, 12, 40}, {"post.fix", 3, 0, 1}, {"quiet", 0, 0, 0}},
		Bans: []GuardBans{
			{"sshd", []uint16{22}, 1, 2},
			{"sshd", []uint16{22, 2222}, 1, 0},
			{"post.fix", nil, 1, 1},
			{"gone", nil, 1, 1},
		},
		Addrs: slices.Values([]GuardAddr{
			{netip.MustParseAddr("192.0.2.7"), true, true},
			{netip.MustParseAddr("192.0.2.8"), true, false},
			{netip.MustParseAddr("198.51.100.8"), false, true},
			{netip.MustParseAddr("203.0.113.8"), true, true},
		}),
		Lists:   []GuardList{{"abuseipdb", 10000, 77}},
		Reports: GuardReports{On: true, Sent: 30, Waiting: 2},
	}
	h.Guard = func(context.Context) (*Guard, error) { return g, nil }
	r, err := guardProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/guard", dump(rs))

	// What there is none of any more is zero, and described as before.
	g.Bans, g.Addrs, g.Lists, g.Reports.On = nil, slices.Values([]GuardAddr(nil)), nil, false
	again, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Reading{}
	for _, r := range again {
		byName[r.Service.Name] = r
	}
	for _, before := range rs {
		name := before.Service.Name
		after, ok := byName[name]
		switch {
		case strings.HasPrefix(name, "lists") || name == "reports":
			if ok {
				t.Errorf("%s is still read", name)
			}
		case !ok:
			t.Errorf("%s is not read any more", name)
		case strings.HasPrefix(name, "bans_"):
			for _, v := range after.Values {
				if v.V != 0 {
					t.Errorf("%s.%s = %v without bans", name, v.Field, v.V)
				}
			}
			if len(after.Values) != len(before.Values) {
				t.Errorf("%s has %d fields, before %d", name, len(after.Values), len(before.Values))
			}
		}
	}

	h.Guard = func(context.Context) (*Guard, error) { return nil, errors.New("it sleeps") }
	if _, err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "it sleeps") {
		t.Errorf("a guard that does not answer: %v", err)
	}
}

func TestCountryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	c := countries{path: path}
	if err := c.refresh(); err == nil {
		t.Error("no error without a file")
	}
	write := func(b []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", b, 0o644), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	whole := maxMind(t, map[string]string{"192.0.2.0/24": "FR"})
	where := func(addr string) string { _, l := c.of(netip.MustParseAddr(addr)); return l }
	write(whole)
	if err := c.refresh(); err != nil || where("192.0.2.1") != "FR" || where("192.0.3.1") != "unknown" || where("2001:db8::") != "unknown" {
		t.Errorf("%v, %q, %q, %q", err, where("192.0.2.1"), where("192.0.3.1"), where("2001:db8::"))
	}
	write(whole[:40])
	if err := c.refresh(); err == nil || where("192.0.2.1") != "FR" {
		t.Errorf("a torn file: %v, %q; want an error, and the former one in use", err, where("192.0.2.1"))
	}
	write(maxMind(t, map[string]string{"192.0.2.0/24": "DE"}))
	if err := c.refresh(); err != nil || where("192.0.2.1") != "DE" {
		t.Errorf("a new file: %v, %q", err, where("192.0.2.1"))
	}
}

func TestPortsAreBounded(t *testing.T) {
	n := newTally("bans_port", "", "")
	for p := range 500 {
		addPorts(n, []uint16{uint16(p)}, 1)
	}
	if len(n.order) != maxPorts+1 || n.values["other"] != 500-maxPorts {
		t.Errorf("%d fields, %v others", len(n.order), n.values["other"])
	}
}
