package config

import (
	"errors"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		in   string
		want time.Duration // 0: refused
	}{
		{"1s", time.Second},
		{"90s", 90 * time.Second},
		{"10m", 10 * time.Minute},
		{"1h30m", 90 * time.Minute},
		{"7d", 7 * day},
		{"5w", 35 * day},
		{"1y", 365 * day},
		{"1y2w3d4h5m6s", (365+14+3)*day + 4*time.Hour + 5*time.Minute + 6*time.Second},
		{"0h5m", 5 * time.Minute},
		{"100y", 36500 * day},
		{"36500d", 36500 * day},
		{"forever", Forever},
		{"", 0},
		{"0s", 0},
		{"600", 0},
		{"10x", 0},
		{"m", 0},
		{"-1", 0},
		{"-5m", 0},
		{"+5m", 0},
		{"1.5h", 0},
		{"30m1h", 0},
		{"1h1h", 0},
		{"1h 30m", 0},
		{" 1h", 0},
		{"1H", 0},
		{"Forever", 0},
		{"100y1s", 0},
		{"36501d", 0},
		{"99999999999999999999s", 0},
		{"10m\x00", 0},
		{"٣m", 0},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if got != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("ParseDuration(%q): got %v, %v; want %v", tt.in, got, err, tt.want)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Hint == "") {
			t.Errorf("ParseDuration(%q): error without a hint: %v", tt.in, err)
		}
		if err == nil {
			if again, err := ParseDuration(FormatDuration(got)); again != got || err != nil {
				t.Errorf("%q is written as %q, which reads as %v, %v", tt.in, FormatDuration(got), again, err)
			}
		}
	}
}

func TestFormatDuration(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{15 * time.Minute, "15m"},
		{36 * time.Hour, "1d12h"},
		{35 * 24 * time.Hour, "5w"},
		{36 * 24 * time.Hour, "36d"},
		{365 * 24 * time.Hour, "1y"},
		{400 * 24 * time.Hour, "400d"},
		{90*time.Second + time.Millisecond, "1m30s"},
		{999 * time.Millisecond, "0s"},
		{0, "0s"},
		{-time.Minute, "-1m"},
		{-1 << 63, "-100y"},
		{Forever, "forever"},
	}
	for _, tt := range tests {
		if got := FormatDuration(tt.in); got != tt.want {
			t.Errorf("FormatDuration(%v): got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	tests := []struct {
		in, want string // want "": refused
		hint     string
	}{
		{"192.0.2.7", "192.0.2.7/32", ""},
		{"198.51.100.0/24", "198.51.100.0/24", ""},
		{"0.0.0.0/0", "0.0.0.0/0", ""},
		{"2001:db8:1::/48", "2001:db8:1::/48", ""},
		{"2001:DB8::1", "2001:db8::1/128", ""},
		{"::ffff:192.0.2.7", "192.0.2.7/32", ""},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24", ""},
		{"192.0.2.7/24", "", "write 192.0.2.0/24 for the network, or 192.0.2.7 for the one address"},
		{"2001:db8::1/64", "", "write 2001:db8::/64 for the network, or 2001:db8::1 for the one address"},
		{"fe80::1%eth0", "", "write fe80::1; it holds on every interface"},
		{"www.example.org", "", "names are not looked up; write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48"},
		{"192.0.2.0/255.255.255.0", "", "write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48"},
		{"192.0.2.0/33", "", "write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48"},
		{"192.0.2.0/", "", "write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48"},
		{"", "", "write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48"},
	}
	for _, tt := range tests {
		got, err := ParsePrefix(tt.in)
		if tt.want != "" {
			if err != nil || got.String() != tt.want {
				t.Errorf("ParsePrefix(%q): got %v, %v; want %s", tt.in, got, err, tt.want)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Hint != tt.hint {
			t.Errorf("ParsePrefix(%q): got %v, %v; want the hint %q", tt.in, got, err, tt.hint)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"10m", "1h30m", "forever", "0s", "100y", "99999999999999999999s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d <= 0 || d > maxDuration && d != Forever {
			t.Fatalf("ParseDuration(%q) = %v", s, d)
		}
		if again, err := ParseDuration(FormatDuration(d)); again != d || err != nil {
			t.Fatalf("%q is written as %q, which reads as %v, %v", s, FormatDuration(d), again, err)
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"192.0.2.7", "198.51.100.0/24", "::ffff:1.2.3.4/97", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrefix(s)
		if err == nil && (!p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() && p.Bits() >= 96) {
			t.Fatalf("ParsePrefix(%q) = %v", s, p)
		}
	})
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"allow", "allow", 0},
		{"bantme", "bantime", 1},
		{"maxrerty", "maxretry", 2},
		{"", "ports", 5},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q): got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
