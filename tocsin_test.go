package tocsin

import (
	"testing"
	"time"
)

func TestPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "Failed password for root", "Failed password for root"},
		{"letters of any script", "jérôme 東京", "jérôme 東京"},
		{"escape sequence", "a\x1b[31mb", `a\x1b[31mb`},
		{"newline, carriage return, NUL", "a\nb\rc\x00", `a\nb\rc\x00`},
		{"invalid UTF-8", "a\xffb", `a\xffb`},
		{"a real replacement character", "a\uFFFDb", `a\ufffdb`},
		{"right-to-left override", "a\u202Eb", `a\u202eb`},
		{"zero width", "a\u200Bb", `a\u200bb`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"C1 control", "a\u009bb", `a\u009bb`},
		{"quotes stay", `a'b"c`, `a'b"c`},
	}
	for _, tt := range tests {
		if got := Printable(tt.in); got != tt.want {
			t.Errorf("%s: Printable(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestInForce(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	tests := []struct {
		name string
		d    Decision
		at   time.Duration
		want bool
	}{
		{"running", Decision{At: t0, Until: t0.Add(time.Minute)}, 59 * time.Second, true},
		{"just over", Decision{At: t0, Until: t0.Add(time.Minute)}, time.Minute, false},
		{"without end", Decision{At: t0}, 1e6 * time.Hour, true},
		{"an unban", Decision{Action: Unban, At: t0, Until: t0.Add(time.Minute)}, 0, false},
	}
	for _, tt := range tests {
		if got := tt.d.InForce(t0.Add(tt.at)); got != tt.want {
			t.Errorf("%s: InForce after %s = %v, want %v", tt.name, tt.at, got, tt.want)
		}
	}
}

func TestPorts(t *testing.T) {
	tests := []struct {
		in   []uint16
		want string
	}{
		{nil, "all"},
		{[]uint16{22}, "22"},
		{[]uint16{2222, 22, 2200, 22}, "22,2200,2222"},
	}
	for _, tt := range tests {
		if got := PortsString(SortPorts(tt.in)); got != tt.want {
			t.Errorf("ports of %v = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		Drop.String(): "drop", Reject.String(): "reject", Ban.String(): "ban", Unban.String(): "unban",
		ByJail.String(): "jail", ByOperator.String(): "operator", ByFleet.String(): "fleet", ByList.String(): "list",
		TCP.String(): "tcp", UDP.String(): "udp", TCPAndUDP.String(): "tcp,udp", Origin(9).String(): "origin(9)",
	} {
		if got != want {
			t.Errorf("word %q, want %q", got, want)
		}
	}
}
