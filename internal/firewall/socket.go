package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer is how large one transaction may be. The kernel refuses a longer message with EMSGSIZE; 256 MiB hold
	// about three million elements. It is a limit and no reservation.
	sendBuffer = 256 << 20
	// receiveBuffer is what one answer may need: the kernel fills dumps in pieces as large as the reader's buffer, but
	// never more than 32 KiB (netlink_dump, https://git.kernel.org/torvalds/c/d35c99ff77ecb2eb239731b799386f3b3637a31e).
	receiveBuffer = 64 << 10
)

// socket is one lasting netlink socket to nf_tables. It is not safe for concurrent use.
//
// The kernel handles a request within the system call that sends it, so the answer lies ready when send returns. Reading
// therefore never waits: no answer is an error, and nothing here can hang.
type socket struct {
	fd     int
	room   int    // how large one transaction may be, in bytes
	portID uint32 // how the kernel names this socket; events tell it as their cause
	seq    uint32
	buf    []byte
}

// dial opens a socket in the network namespace that the descriptor netns refers to, or in the caller's if it is 0.
func dial(netns int) (*socket, error) {
	var s *socket
	err := inNamespace(netns, func() (err error) {
		s, err = dialHere()
		return err
	})
	return s, err
}

func dialHere() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd, buf: make([]byte, receiveBuffer)}
	if err := s.prepare(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) prepare() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	s.portID = name.(*unix.SockaddrNetlink).Pid
	// Without CAP_NET_ADMIN the limit of net.core.wmem_max holds, and nothing of what follows would be allowed anyway.
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	room, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	s.room = room
	// Errors that carry the kernel's own words, and not a copy of a request that may be megabytes long. Both are since
	// Linux 4.12 and only nice to have.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return nil
}

// close makes every later use fail. The descriptor's number may soon be another file's.
func (s *socket) close() error {
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// inNamespace runs do on a thread that stands in the network namespace of the descriptor netns; 0 is the own one.
func inNamespace(netns int, do func() error) error {
	if netns == 0 {
		return do()
	}
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine, so nobody inherits its namespace
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			errs <- os.NewSyscallError("setns", err)
			return
		}
		errs <- do()
	}()
	return <-errs
}

// commit sends the transaction and reports the first thing that the kernel refused; then nothing of it was done.
//
// Only the last message asks for an acknowledgement, while refusals are always told, so the answers to a transaction
// of any size fit the receive buffer. (One acknowledgement a message overflows it at 300 messages; the reader then sees
// ENOBUFS although everything was applied.)
func (s *socket) commit(b *batch) error {
	return s.run(b, true)
}

// check asks the kernel to judge the transaction without doing it: a batch without its end is rolled back.
func (s *socket) check(b *batch) error {
	return s.run(b, false)
}

func (s *socket) run(b *batch, commit bool) error {
	first := s.seq + 1
	wire, last := b.seal(first, commit)
	s.seq = last + 1
	if err := unix.Sendto(s.fd, wire, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("send to nf_tables", err)
	}
	var refused error
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && refused != nil:
			return refused
		case err != nil:
			return os.NewSyscallError("read the answer of nf_tables", err)
		}
		for m := range messages(s.buf[:n]) {
			if m.seq-first > last-first || m.typ != unix.NLMSG_ERROR {
				continue // the rest of an earlier answer
			}
			err := m.err()
			if err != nil && refused == nil {
				refused = fmt.Errorf("%s: %w", b.label(m.seq-first), err)
			}
			// A refusal of the batch as a whole bears the number of its beginning and may stand alone.
			if m.seq == last || m.seq == first {
				return refused
			}
		}
	}
}

// errInterrupted says that the rules changed while they were being listed.
var errInterrupted = errors.New("the rules changed while they were listed")

// dump asks for a list and hands over every message of the answer; the message is valid only during the call.
func (s *socket) dump(typ uint16, attrs []byte, each func(message)) error {
	s.seq++
	seq := s.seq
	req := binary.NativeEndian.AppendUint32(nil, uint32(headerLen+len(attrs)))
	req = binary.NativeEndian.AppendUint16(req, unix.NFNL_SUBSYS_NFTABLES<<8|typ)
	req = binary.NativeEndian.AppendUint16(req, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req = binary.NativeEndian.AppendUint32(req, seq)
	req = append(req, 0, 0, 0, 0, unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0)
	req = append(req, attrs...)
	if err := unix.Sendto(s.fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("send to nf_tables", err)
	}
	var interrupted error
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return os.NewSyscallError("read the list of nf_tables", err)
		}
		for m := range messages(s.buf[:n]) {
			if m.seq != seq {
				continue
			}
			if m.flags&unix.NLM_F_DUMP_INTR != 0 {
				interrupted = errInterrupted
			}
			switch m.typ {
			case unix.NLMSG_DONE:
				return interrupted
			case unix.NLMSG_ERROR:
				return m.err()
			default:
				each(m)
			}
		}
	}
}
