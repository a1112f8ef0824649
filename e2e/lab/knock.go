package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Serve answers HTTP on a TCP port of the host. It ends with stop.
func (h *Host) Serve(at netip.AddrPort, handler http.Handler) (stop func() error, err error) {
	var l net.Listener
	err = h.Do(func() error {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	return func() error {
		err := srv.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// ConnectFrom is Connect from one of the host's addresses.
func (h *Host) ConnectFrom(from netip.Addr, to netip.AddrPort, timeout time.Duration) error {
	return h.Do(func() error {
		d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		conn, err := d.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Knocks is what became of many tries to connect.
type Knocks struct {
	Tried int
	In    int // connected
	Late  int // of these, after the first packet got no answer and was sent again
}

// Knock tries to connect over IPv4, perSecond times a second, until ctx ends, and waits for each at most patience. All of
// it is one thread's work, so that it costs next to nothing.
func (h *Host) Knock(ctx context.Context, from netip.Addr, to netip.AddrPort, perSecond int, patience time.Duration) (k Knocks, err error) {
	err = h.Do(func() error {
		var waiting []knock
		defer func() {
			for _, w := range waiting {
				unix.Close(w.fd)
			}
		}()
		begun := time.Now()
		for ctx.Err() == nil || len(waiting) > 0 {
			for due := int(time.Since(begun).Seconds() * float64(perSecond)); ctx.Err() == nil && k.Tried < due; k.Tried++ {
				fd, err := begin(from, to)
				if err != nil {
					return fmt.Errorf("connect from %s: %w", from, err)
				}
				waiting = append(waiting, knock{fd, time.Now()})
			}
			if waiting, err = k.hear(waiting, patience); err != nil {
				return err
			}
		}
		return nil
	})
	return k, err
}

// knock is a connection that waits for an answer.
type knock struct {
	fd    int
	since time.Time
}

func begin(from netip.Addr, to netip.AddrPort) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// It ends with a reset, so that no port waits for a minute.
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}),
	)
	if err == nil {
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// hear waits a moment for answers, and returns those that go on waiting.
func (k *Knocks) hear(waiting []knock, patience time.Duration) (left []knock, err error) {
	fds := make([]unix.PollFd, len(waiting))
	for i, w := range waiting {
		fds[i] = unix.PollFd{Fd: int32(w.fd), Events: unix.POLLOUT}
	}
	if _, err := unix.Poll(fds, 2); err != nil && !errors.Is(err, unix.EINTR) {
		return waiting, err
	}
	for i, w := range waiting {
		if fds[i].Revents == 0 && time.Since(w.since) < patience {
			left = append(left, w)
			continue
		}
		if fds[i].Revents != 0 {
			failed, err := unix.GetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			info, also := unix.GetsockoptTCPInfo(w.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err := errors.Join(err, also); err != nil {
				return left, err
			}
			if failed == 0 {
				k.In++
				if info.Total_retrans > 0 {
					k.Late++
				}
			}
		}
		unix.Close(w.fd)
	}
	return left, nil
}
