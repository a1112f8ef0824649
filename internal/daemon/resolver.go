package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"tocsin/internal/exec"
	"tocsin/internal/host"
)

// What the resolver is asked: the addresses of a name (Values "name"), the names of an address (Values "addr"). The answer
// is in Result.Out, one a line.
const (
	askForward = "forward"
	askReverse = "reverse"
)

// Bounds of the resolver. Names come from log lines, and answers from whoever owns the zone.
const (
	resolveTime = 5 * time.Second
	maxAnswers  = 16
	maxResolves = 16
	maxHost     = 253 // bytes of a name (https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4)
)

// startResolver starts the resolver as nobody and returns the stream to it. life is the runner's own.
func (r *runner) startResolver(life context.Context) (net.Conn, error) {
	conn, childs, err := exec.Pair()
	if err != nil {
		return nil, err
	}
	defer childs.Close()
	// Nobody may not look into every folder that this program may lie in, but finds itself.
	c := exec.Command{Path: "/proc/self/exe", Args: []string{"resolver", "--fd", "3"}, Files: []*os.File{childs}}
	if r.root {
		if c.User, err = exec.LookupUser("nobody"); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	child, err := exec.Start(life, c)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	go func() {
		_ = child.Stdout.Close()
		if err := child.Wait(); err != nil && life.Err() == nil {
			r.o.Log.Warn("the resolver ended; it is started again when it is needed", "err", err)
		}
	}()
	return conn, nil
}

// RunResolver answers names and addresses over conn until it ends. It is a process of its own because it talks to the
// network, with what strangers put into their zones.
func RunResolver(ctx context.Context, conn net.Conn) error {
	if err := host.DropTo(); err != nil && !errors.Is(err, host.ErrCgo) {
		return fmt.Errorf("drop privileges: %w", err)
	}
	slots := make(chan struct{}, maxResolves)
	return exec.Serve(ctx, conn, func(ctx context.Context, j exec.Job) exec.Result {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return exec.Result{Problem: context.Cause(ctx).Error()}
		}
		ctx, cancel := context.WithTimeout(ctx, resolveTime)
		defer cancel()
		return resolve(ctx, j)
	})
}

// resolve asks the system's resolvers, in Go: no module of the C library is loaded for it.
func resolve(ctx context.Context, j exec.Job) exec.Result {
	dns := net.Resolver{PreferGo: true}
	var answers []string
	var err error
	switch j.Do {
	case askForward:
		name := j.Values["name"]
		if hostName(name) != name || name == "" {
			return exec.Result{Problem: "no host name"}
		}
		var addrs []netip.Addr
		addrs, err = dns.LookupNetIP(ctx, "ip", name)
		for _, a := range addrs {
			answers = append(answers, a.Unmap().WithZone("").String())
		}
	case askReverse:
		var a netip.Addr
		if a, err = netip.ParseAddr(j.Values["addr"]); err == nil {
			var names []string
			names, err = dns.LookupAddr(ctx, a.String())
			for _, n := range names {
				if n = hostName(strings.TrimSuffix(n, ".")); n != "" {
					answers = append(answers, n)
				}
			}
		}
	default:
		return exec.Result{Problem: fmt.Sprintf("%q is no question", j.Do)}
	}
	if nx := (*net.DNSError)(nil); errors.As(err, &nx) && nx.IsNotFound {
		err = nil // that there is none is an answer
	}
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	return exec.Result{Ran: true, Out: strings.Join(answers[:min(len(answers), maxAnswers)], "\n")}
}

// hostName is what may be believed of a name that a stranger chose: its letters, digits, dots, hyphens and underscores.
func hostName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), maxHost)]
}
