package exec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Runner asks a runner to do jobs, many at a time over one connection. Its methods may be called by several goroutines.
type Runner struct {
	dial func(context.Context) (net.Conn, error)

	mu      sync.Mutex
	line    *wire // nil: not connected
	last    uint64
	waiting map[uint64]chan Result
	closed  bool
	readers sync.WaitGroup
}

// dialTime is how long a connection may take: the runner is on this machine.
const dialTime = 2 * time.Second

// NewRunner makes a Runner that connects when it is first asked, and again after the connection broke. dial may return
// an error for good; what is asked then gets ErrUnreachable with that error.
func NewRunner(dial func(context.Context) (net.Conn, error)) *Runner {
	return &Runner{dial: dial, waiting: map[uint64]chan Result{}}
}

// DialSocket connects to the runner that listens at path.
func DialSocket(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// RunnerOn makes a Runner that is connected by conn, such as an end of a Pair, and by nothing else. Close closes it.
func RunnerOn(conn net.Conn) *Runner {
	r := NewRunner(func(context.Context) (net.Conn, error) { return nil, errors.New("it has ended") })
	r.connect(conn)
	return r
}

// Do has a job done and waits for it. If ctx ends first the job is stopped. The error is ErrUnreachable, ErrGone, ErrTooBig
// or that of ctx; how the job itself went is in Result.
func (r *Runner) Do(ctx context.Context, j Job) (Result, error) {
	line, id, reply, err := r.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := line.send(request{ID: id, Job: &j}, maxMessage); err != nil {
		r.forget(id)
		if errors.Is(err, ErrTooBig) {
			return Result{}, err
		}
		return Result{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	select {
	case result, ok := <-reply:
		if !ok {
			return Result{}, ErrGone
		}
		return result, nil
	case <-ctx.Done():
		r.forget(id)
		_ = line.send(request{ID: id}, maxMessage)
		return Result{}, context.Cause(ctx)
	}
}

// begin connects if need be and takes a number for a job.
func (r *Runner) begin(ctx context.Context) (*wire, uint64, chan Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, nil, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, nil, fmt.Errorf("%w: it was left", ErrUnreachable)
	}
	if r.line == nil {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		conn, err := r.dial(ctx)
		if err != nil {
			return nil, 0, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		r.connect(conn)
	}
	r.last++
	reply := make(chan Result, 1)
	r.waiting[r.last] = reply
	return r.line, r.last, reply, nil
}

// connect takes a connection into use.
func (r *Runner) connect(conn net.Conn) {
	line := newWire(conn, maxAnswer)
	r.line = line
	r.readers.Go(func() { r.read(line) })
}

func (r *Runner) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// read hands answers to those who wait for them. When the connection ends nobody waits any longer.
func (r *Runner) read(line *wire) {
	for {
		var a answer
		err := line.receive(&a)
		r.mu.Lock()
		if err != nil {
			break // with the lock
		}
		reply := r.waiting[a.ID]
		delete(r.waiting, a.ID)
		r.mu.Unlock()
		if reply != nil {
			reply <- a.Result // it holds one
		}
	}
	defer r.mu.Unlock()
	_ = line.conn.Close()
	r.line = nil
	for id, reply := range r.waiting {
		close(reply)
		delete(r.waiting, id)
	}
}

// Close ends the connection. The runner then stops what it does for us.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	var err error
	if r.line != nil {
		err = r.line.conn.Close()
	}
	r.mu.Unlock()
	r.readers.Wait()
	return err
}
