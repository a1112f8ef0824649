package api

import "testing"

func TestPortsText(t *testing.T) {
	tests := []struct {
		ports []uint16
		want  string
	}{
		{nil, "all ports"},
		{[]uint16{22}, "port 22"},
		{[]uint16{22, 2200}, "ports 22,2200"},
		{[]uint16{20, 21, 989, 990}, "ports 20,21,989,990"},
		{[]uint16{25, 27000, 27001, 27002, 27005}, "ports 25,27000-27002,27005"},
		{[]uint16{65533, 65534, 65535}, "ports 65533-65535"},
	}
	for _, tt := range tests {
		if got := PortsText(tt.ports); got != tt.want {
			t.Errorf("PortsText(%v) = %q, want %q", tt.ports, got, tt.want)
		}
	}
}
