package probe

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"tocsin/internal/munin"
)

func TestWire(t *testing.T) {
	want := []Reading{
		{Service: describe("postfix_mailqueue", "graph_title Queue\nactive.label active\nactive.type GAUGE"), At: time.Unix(1700000000, 5).Local(), Since: 7,
			Values: []munin.Value{{Field: "active", V: 1.25}, {Service: "other", Field: "x", At: 1700000000, V: 1 << 63}}},
		{Group: "g", Node: "n", Service: &munin.Service{Name: "empty", Host: "virtual"}, At: time.Unix(1, 0).Local()},
	}
	for _, tt := range []struct {
		err  error
		want string
	}{{nil, ""}, {&Off{Why: "no queue"}, "no queue"}, {errors.New("refused"), "refused"}} {
		got, err := DecodeReadings(EncodeReadings(want, tt.err))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("with %v: read back %+v, want %+v", tt.err, got, want)
		}
		_, wasOff := IsOff(tt.err)
		if _, off := IsOff(err); (err == nil) != (tt.err == nil) || err != nil && err.Error() != tt.want || off != wasOff {
			t.Errorf("the error %v came back as %v", tt.err, err)
		}
	}
	got, err := DecodeReadings(EncodeReadings([]Reading{{Service: &munin.Service{Name: "a"}, Values: []munin.Value{v("x", math.NaN()), v("y", math.Inf(1))}}}, nil))
	if err != nil || !math.IsNaN(got[0].Values[0].V) || !math.IsNaN(got[0].Values[1].V) {
		t.Errorf("unknown values came back as %+v, %v", got, err)
	}
}

func FuzzDecodeReadings(f *testing.F) {
	f.Add(EncodeReadings([]Reading{{Service: describe("a", "graph_title A\nx.label x"), Values: []munin.Value{v("x", 1)}}}, nil))
	f.Add(EncodeReadings(nil, &Off{Why: "why"}))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		rs, _ := DecodeReadings(text)
		for _, r := range rs {
			if r.Service == nil {
				t.Error("a reading without a service")
			}
		}
	})
}
