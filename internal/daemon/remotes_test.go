package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/remotewrite"
)

// strict is a store that refuses a request, all of it, for one sample that is older than what it has of that series: so does
// Prometheus, unless it is told otherwise.
type strict struct {
	mu       sync.Mutex
	newest   map[string]int64
	have     map[string]float64
	requests int
	closed   bool // it refuses everything
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a part of it is no request
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	took, newest := map[string]float64{}, map[string]int64{}
	err := remotewrite.Decode(body, func(one *remotewrite.Series) error {
		name := fmt.Sprint(one.Labels)
		for _, p := range one.Points {
			if p.T < max(s.newest[name], newest[name]) || s.closed {
				return fmt.Errorf("%s at %d is out of order", name, p.T)
			}
			newest[name], took[fmt.Sprint(name, p.T)] = p.T, p.V
		}
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for name, t := range newest {
		s.newest[name] = t
	}
	for at, v := range took {
		s.have[at] = v
	}
}

func strictRemote(t *testing.T) (*strict, *remote) {
	s := &strict{newest: map[string]int64{}, have: map[string]float64{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	r := &remote{client: remotewrite.NewClient(server.URL, "1", func() (string, error) { return "", nil })}
	r.s = &supervisor{log: slog.New(slog.DiscardHandler), remotes: []*remote{r}}
	return s, r
}

// What a store has already does not keep it from getting what is newer, wherever the cut between the two is.
func TestSendPartsWhatIsRefused(t *testing.T) {
	const series, points = 20, 30
	for _, cut := range []int{1, 7, 15, 29} {
		s, r := strictRemote(t)
		batch := func(from, to int) (all []remotewrite.Series) {
			for i := range series {
				one := remotewrite.Series{Labels: labelsOf(tocsin.Series{Node: "web1", Service: "s", Field: fmt.Sprint("f", i)})}
				for k := from; k < to; k++ {
					one.Points = append(one.Points, remotewrite.Point{T: int64(1000 + 10*k), V: float64(i*k) + 0.5})
				}
				all = append(all, one)
			}
			return all
		}
		for _, b := range [][]remotewrite.Series{batch(0, cut), batch(0, points)} {
			if err := r.send(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.have) != series*points {
			t.Errorf("cut at %d: %d samples are there, want %d; %d requests", cut, len(s.have), series*points, s.requests)
		}
		if s.requests > 1+1<<(mostHalves+1) {
			t.Errorf("cut at %d: %d requests", cut, s.requests)
		}
	}
	// A store that takes nothing at all is not asked a hundred times for each batch.
	s, r := strictRemote(t)
	s.closed = true
	for range 50 {
		one := remotewrite.Series{Labels: labelsOf(tocsin.Series{Node: "n"})}
		for k := range 500 {
			one.Points = append(one.Points, remotewrite.Point{T: int64(k), V: 1})
		}
		if err := r.send(t.Context(), []remotewrite.Series{one}); err != nil {
			t.Fatal(err)
		}
	}
	if s.requests > 50+mostVain+2*mostHalves || r.refuse.Load() != 50*500 || r.sent.Load() != 0 {
		t.Errorf("%d requests; refused %d, sent %d", s.requests, r.refuse.Load(), r.sent.Load())
	}
}

// What comes late, of a time that was sent already, is sent after it, in order; no more of it than there is room for.
func TestSendsLate(t *testing.T) {
	s, r := strictRemote(t)
	now := time.Now().UnixMilli()
	r.passed.Store(now)
	one := func(node string, ago time.Duration, v float64) tocsin.Sample {
		return tocsin.Sample{Series: tocsin.Series{Group: "G", Node: node, Service: "load", Field: "load"}, T: now - ago.Milliseconds(), Value: v}
	}
	late := []tocsin.Sample{one("a", 10*time.Second, 1), one("a", 20*time.Second, 2), one("b", 59*time.Minute, 3)}
	rand.Shuffle(len(late), func(i, k int) { late[i], late[k] = late[k], late[i] })
	r.s.noteLate(append(late, one("a", -time.Second, 4), one("a", 2*time.Hour, 5))) // not late; not taken here either
	r.s.noteLateSeries([]remotewrite.Series{{
		Labels: []remotewrite.Label{{Name: "__name__", Value: "up"}},
		Points: []remotewrite.Point{{T: now - 1000, V: 6}, {T: now, V: 7}, {T: now + 1, V: 8}},
	}})
	r.sendLate(t.Context())
	if len(s.have) != 5 || r.refuse.Load() != 0 || r.sent.Load() != 5 {
		t.Errorf("%d samples are there, %d sent, %d refused; want 5: %v", len(s.have), r.sent.Load(), r.refuse.Load(), s.have)
	}
	if s.newest[fmt.Sprint(labelsOf(one("a", 0, 0).Series))] != now-10_000 {
		t.Errorf("newest: %v", s.newest)
	}

	var many []tocsin.Sample
	for i := range mostLate + 7 {
		many = append(many, one(fmt.Sprint("n", i), time.Second, 1))
	}
	r.s.noteLate(many)
	if n := r.late.lost(); n != 7 {
		t.Errorf("%d are dropped, want 7", n)
	}
	r.sendLate(t.Context())
	if len(s.have) != 5+mostLate {
		t.Errorf("%d samples are there, want %d", len(s.have), 5+mostLate)
	}
}
