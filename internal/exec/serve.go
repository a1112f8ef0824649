package exec

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
)

// Serve does the jobs that are asked for over one connection until the other side ends it, it breaks or ctx ends. Then the
// contexts of all jobs end, and Serve returns when they have. do is called by many goroutines at once.
func Serve(ctx context.Context, conn net.Conn, do func(context.Context, Job) Result) error {
	ctx, cancel := context.WithCancel(ctx)
	s := server{wire: newWire(conn, maxMessage), do: do, stops: map[uint64]context.CancelFunc{}}
	defer s.jobs.Wait()
	defer cancel()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		var r request
		switch err := s.wire.receive(&r); {
		case err == nil:
		case errors.Is(err, io.EOF), ctx.Err() != nil, errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			return nil
		default:
			return err
		}
		if r.Job == nil {
			s.stop(r.ID)
			continue
		}
		s.begin(ctx, r)
	}
}

// server is one connection of Serve.
type server struct {
	wire *wire
	do   func(context.Context, Job) Result
	jobs sync.WaitGroup

	mu    sync.Mutex
	stops map[uint64]context.CancelFunc // by the number of the request
}

func (s *server) begin(ctx context.Context, r request) {
	s.mu.Lock()
	_, doubled := s.stops[r.ID]
	full := len(s.stops) >= maxUnderWay
	var job context.Context
	if !doubled && !full {
		job, s.stops[r.ID] = context.WithCancel(ctx)
	}
	s.mu.Unlock()
	switch {
	case doubled:
		_ = s.wire.conn.Close() // it does not know what it asks
	case full:
		_ = s.wire.send(answer{r.ID, Result{Problem: "too many jobs are under way"}}, maxAnswer)
	default:
		s.jobs.Go(func() {
			result := s.do(job, *r.Job)
			s.stop(r.ID)
			if s.wire.send(answer{r.ID, result}, maxAnswer) == ErrTooBig {
				_ = s.wire.send(answer{r.ID, Result{Problem: "the answer was too long"}}, maxAnswer)
			}
		})
	}
}

// stop ends a job's context, if it is still under way.
func (s *server) stop(id uint64) {
	s.mu.Lock()
	cancel := s.stops[id]
	delete(s.stops, id)
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// ServeAll serves everybody who connects to l and whom allowed lets in by their user, until ctx ends. It closes l.
func ServeAll(ctx context.Context, l net.Listener, allowed func(uid uint32) bool, do func(context.Context, Job) Result, log *slog.Logger) error {
	var peers sync.WaitGroup
	defer peers.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	slots := make(chan struct{}, maxPeers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			_ = l.Close()
			return err
		}
		uid, err := PeerUID(conn)
		if err != nil || !allowed(uid) {
			log.Warn("refused a connection", "uid", uid, "err", err)
			_ = conn.Close()
			<-slots
			continue
		}
		peers.Go(func() {
			defer func() { <-slots }()
			if err := Serve(ctx, conn, do); err != nil {
				log.Warn("a connection broke", "uid", uid, "err", err)
			}
		})
	}
}
