package munin

import (
	"math"
	"testing"
)

func TestParseValue(t *testing.T) {
	tests := []struct {
		text string
		want float64
		ok   bool
	}{
		{"0", 0, true}, {"-3.5", -3.5, true}, {"+7", 7, true}, {"1.5e3", 1500, true}, {"2E-2", 0.02, true}, {"18446744073709551615", 1 << 64, true},
		{"U", math.NaN(), true},
		{"", 0, false}, {"u", 0, false}, {"0x10", 0, false}, {"1_000", 0, false}, {"inf", 0, false}, {"NaN", 0, false}, {"1,5", 0, false}, {"1e999", 0, false}, {"e", 0, false},
	}
	for _, tt := range tests {
		v, ok := ParseValue(tt.text)
		if ok != tt.ok || ok && v != tt.want && !(math.IsNaN(v) && math.IsNaN(tt.want)) {
			t.Errorf("ParseValue(%q) = %v, %v; want %v, %v", tt.text, v, ok, tt.want, tt.ok)
		}
	}
}

func TestField(t *testing.T) {
	f := Field{Name: "up", Attrs: []Attr{{"type", "GAUGE"}, {"type", "DERIVE"}, {"min", "0"}, {"max", "much"}}}
	if got := f.Type(); got != Derive {
		t.Errorf("Type = %v, want the last one, %v", got, Derive)
	}
	if least, most := f.Bounds(); least != 0 || !math.IsInf(most, 1) {
		t.Errorf("Bounds = %v, %v; want 0 and no upper bound, for %q is no number", least, most, "much")
	}
	s := Service{Name: "if_eth0", Attrs: []Attr{{"graph_title", "first"}, {"graph_title", "second"}}, Fields: []Field{f}}
	if v, ok := s.Get("graph_title"); v != "first" || !ok {
		t.Errorf("graph_title = %q, %v; want the first", v, ok)
	}
	if s.Field("up") == nil || s.Field("down") != nil {
		t.Error("Field finds up and nothing else")
	}
}
