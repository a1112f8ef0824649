package remotewrite

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

func decoded(t testing.TB, body []byte) (all []Series, err error) {
	t.Helper()
	err = Decode(body, func(s *Series) error {
		all = append(all, Series{Labels: append([]Label(nil), s.Labels...), Points: append([]Point(nil), s.Points...)})
		return nil
	})
	return all, err
}

var some = []Series{
	{Labels: []Label{{"__name__", "munin"}, {"field", "load"}, {"node", "é"}}, Points: []Point{{1000, 0.25}, {2000, math.Inf(1)}, {3000, -1}}},
	{Labels: []Label{{"__name__", "up"}}, Points: []Point{{-5, 1}}},
}

// What we write Prometheus reads, and the other way round.
func TestSpeaksPrometheus(t *testing.T) {
	plain, err := snappy.Decode(nil, Encode(some))
	if err != nil {
		t.Fatal(err)
	}
	var theirs prompb.WriteRequest
	if err := theirs.Unmarshal(plain); err != nil {
		t.Fatal(err)
	}
	var read []Series
	for _, s := range theirs.Timeseries {
		var one Series
		for _, l := range s.Labels {
			one.Labels = append(one.Labels, Label{l.Name, l.Value})
		}
		for _, p := range s.Samples {
			one.Points = append(one.Points, Point{p.Timestamp, p.Value})
		}
		read = append(read, one)
	}
	if !reflect.DeepEqual(read, some) {
		t.Errorf("Prometheus reads %+v, want %+v", read, some)
	}
	theirs.Timeseries[0].Exemplars = []prompb.Exemplar{{Value: 1, Timestamp: 2}}
	theirs.Timeseries = append(theirs.Timeseries, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Histograms: []prompb.Histogram{{Sum: 1}}})
	theirs.Metadata = []prompb.MetricMetadata{{MetricFamilyName: "up", Help: "is it"}}
	body, err := theirs.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decoded(t, snappy.Encode(nil, body)); err != nil || !reflect.DeepEqual(got, some) {
		t.Errorf("of Prometheus's we read %+v, %v; want %+v", got, err, some)
	}
}

func TestDecodePutsInOrder(t *testing.T) {
	got, err := decoded(t, Encode([]Series{{Labels: []Label{{"b", "2"}, {"__name__", "x"}, {"empty", ""}, {"a", "1"}}, Points: []Point{{2, 2}, {1, 1}}}}))
	want := []Series{{Labels: []Label{{"__name__", "x"}, {"a", "1"}, {"b", "2"}}, Points: []Point{{1, 1}, {2, 2}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	point := []Point{{1, 1}}
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"no snappy", []byte("hello, this is text"), "snappy"},
		{"a bomb", append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 0), "more than"},
		{"torn", snappy.Encode(nil, []byte{1<<3 | 2, 200, 1, 2}), "torn"},
		{"another kind of field", snappy.Encode(nil, []byte{1<<3 | 3}), "unknown kind"},
		{"a number for a series", snappy.Encode(nil, []byte{1 << 3, 5}), "wrong type"},
		{"no name", Encode([]Series{{Labels: []Label{{"a", "1"}}, Points: point}}), "without a name"},
		{"a label without a name", Encode([]Series{{Labels: []Label{{"__name__", "x"}, {"", "1"}}, Points: point}}), "without a name"},
		{"a label twice", Encode([]Series{{Labels: []Label{{"__name__", "x"}, {"a", "1"}, {"a", "2"}}, Points: point}}), "twice"},
		{"not UTF-8", Encode([]Series{{Labels: []Label{{"__name__", "\xff"}}, Points: point}}), "UTF-8"},
		{"a long value", Encode([]Series{{Labels: []Label{{"__name__", strings.Repeat("x", maxValue+1)}}, Points: point}}), "bytes"},
		{"many labels", Encode([]Series{{Labels: manyLabels(maxLabels + 1), Points: point}}), "more than"},
		{"many series", Encode(make([]Series, maxSeries+1)), "more than"},
	}
	for _, tt := range tests {
		if _, err := decoded(t, tt.body); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, ErrInvalid, tt.want)
		}
	}
}

func manyLabels(n int) (all []Label) {
	for i := range n {
		all = append(all, Label{fmt.Sprintf("l%d", i), "v"})
	}
	return all
}

func TestDecodeStopsWithEach(t *testing.T) {
	enough, n := errors.New("enough"), 0
	err := Decode(Encode(some), func(*Series) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%v after %d series", err, n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(some))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		all, err := decoded(t, snappy.Encode(nil, plain))
		if err != nil {
			return
		}
		again, err := decoded(t, Encode(all))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(all) { // NaN is not equal to itself
			t.Errorf("%v becomes %v, %v", all, again, err)
		}
	})
}

func TestSend(t *testing.T) {
	const token = "canary-token"
	tests := []struct {
		code   int
		header string
		want   error
	}{
		{code: 204}, {code: 200},
		{400, "", &RefusedError{400, "no\n"}},
		{401, "", &LaterError{Code: 401}},
		{301, "", &LaterError{Code: 301}},
		{429, "7", &LaterError{429, 7 * time.Second}},
		{503, "999999", &LaterError{503, time.Hour}},
		{500, "soon", &LaterError{Code: 500}},
	}
	for _, tt := range tests {
		var got []Series
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got, _ = decoded(t, body)
			for name, want := range map[string]string{"Authorization": "Bearer " + token, "Content-Encoding": "snappy", "Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Write-Version": "0.1.0", "User-Agent": "tocsin/1.2"} {
				if r.Header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, r.Header.Get(name), want)
				}
			}
			w.Header().Set("Location", "https://elsewhere.example/")
			w.Header().Set("Retry-After", tt.header)
			w.WriteHeader(tt.code)
			if tt.code == 400 {
				fmt.Fprintln(w, "no")
			}
		}))
		err := NewClient(server.URL, "1.2", func() (string, error) { return token, nil }).Send(t.Context(), some)
		if !reflect.DeepEqual(err, tt.want) {
			t.Errorf("answer %d: %#v, want %#v", tt.code, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the token is in %q", err)
		}
		if !reflect.DeepEqual(got, some) {
			t.Errorf("sent %+v", got)
		}
		server.Close()
	}
}
