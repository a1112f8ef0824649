package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"tocsin/e2e/lab"
)

// latency measures the time from the moment at which the fifth failure stands in the log to the last packet of the
// attacker that arrives: a connection over which the attacker sends without a pause is watched at its other end.
func latency(ctx context.Context, b *bench) error {
	g, err := startGuarded(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	victim := netip.MustParseAddrPort("198.18.0.1:4022")
	if err := joinNetworks(ctx, g); err != nil {
		return err
	}
	var l net.Listener
	if err := g.Victim.Do(func() (err error) { l, err = net.Listen("tcp", victim.String()); return err }); err != nil {
		return err
	}
	defer l.Close()

	const rounds = 200
	for i, load := range []struct {
		name  string
		lines int // a second
	}{{"a quiet log", 0}, {"10,000 lines/s", 10_000}} {
		stop := background(g.log, load.lines)
		var took []time.Duration
		var lost int
		for n := range rounds {
			from := netip.AddrFrom4([4]byte{198, 18, byte(1 + i), byte(1 + n)})
			d, err := oneLatency(g, l, from, victim)
			if errors.Is(err, lab.ErrLate) {
				lost++
				continue
			}
			if err != nil {
				stop()
				return err
			}
			took = append(took, d)
		}
		stop()
		p50, p99 := quantiles(took)
		fmt.Printf("%-15s line written to last packet through: p50 %.2f ms, p99 %.2f ms (%d rounds, %d later than %s)\n",
			load.name, p50.Seconds()*1e3, p99.Seconds()*1e3, rounds, lost, latencyTime)
	}
	return nil
}

// latencyTime bounds how long a packet may take to be dropped.
const latencyTime = 2 * time.Second

// joinNetworks gives attacker and victim a network that is large enough for an address a round.
func joinNetworks(ctx context.Context, g *guarded) error {
	if _, err := g.Victim.Script(ctx, "ip addr add 198.18.0.1/15 dev attacker"); err != nil {
		return err
	}
	script := "for i in 1 2; do for n in $(seq 1 200); do ip addr add 198.18.$i.$n/15 dev victim; done; done"
	_, err := g.Attacker.Script(ctx, script)
	return err
}

// oneLatency bans one address and answers how long after its fifth failure its last packet arrived.
func oneLatency(g *guarded, l net.Listener, from netip.Addr, to netip.AddrPort) (time.Duration, error) {
	arrivals := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			arrivals <- c
		}
	}()
	var out net.Conn
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: time.Second}
	if err := g.Attacker.Do(func() (err error) { out, err = dialer.Dial("tcp", to.String()); return err }); err != nil {
		return 0, fmt.Errorf("connect from %s: %w", from, err)
	}
	defer out.Close()
	in := <-arrivals
	defer in.Close()

	var last atomic.Int64 // when a packet arrived last, Unix nanoseconds
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := in.Read(buf); err != nil {
				return
			}
			last.Store(time.Now().UnixNano())
		}
	}()
	sending, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-sending:
				return
			default:
				_ = out.SetWriteDeadline(time.Now().Add(time.Millisecond))
				_, _ = out.Write([]byte("x"))
				time.Sleep(20 * time.Microsecond)
			}
		}
	}()
	defer func() { close(sending); <-done }()

	for n := range 5 {
		if n == 4 {
			time.Sleep(2 * time.Millisecond)
		}
		line := fmt.Sprintf("%s victim sshd[%d]: Failed password for root from %s port %d ssh2\n", time.Now().Format(time.Stamp), 1000+n, from, 40000+n)
		if _, err := g.log.WriteString(line); err != nil {
			return 0, err
		}
	}
	written := time.Now()
	for deadline := written.Add(latencyTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		// Nothing for 50 ms, on a line where packets came every 100 µs: the last one was the last.
		if quiet := time.Since(time.Unix(0, last.Load())); quiet > 50*time.Millisecond {
			return max(0, time.Unix(0, last.Load()).Sub(written)), nil
		}
	}
	return 0, lab.ErrLate
}

// background writes harmless and hostile lines of other addresses at a steady pace until stopped.
func background(log *os.File, perSecond int) (stop func()) {
	if perSecond == 0 {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		const every = 5 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-quit:
				return
			case <-tick.C:
				var text []byte
				for range perSecond * int(every) / int(time.Second) {
					n++
					text = appendNoise(text, n)
				}
				_, _ = log.Write(text)
			}
		}
	}()
	return func() { close(quit); <-done }
}

func appendNoise(text []byte, n int) []byte {
	stamp := time.Now().Format(time.Stamp)
	switch n % 4 {
	case 0:
		return fmt.Appendf(text, "%s victim sshd[%d]: Failed password for root from 203.0.%d.%d port 4242 ssh2\n", stamp, n%60000, n/4/256%256, n/4%256)
	case 1:
		return fmt.Appendf(text, "%s victim CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n", stamp, n%60000)
	case 2:
		return fmt.Appendf(text, "%s victim sshd[%d]: Accepted publickey for marie from 10.20.0.%d port 5022 ssh2: ED25519 SHA256:x\n", stamp, n%60000, n%100)
	}
	return fmt.Appendf(text, "%s victim systemd-logind[512]: Removed session %d.\n", stamp, n)
}
