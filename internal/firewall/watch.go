package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// checkEvery is how often the table is compared with what was made even if nobody reported a change.
	checkEvery = time.Minute
	// settle is how long a change by others may go on before it is judged, so that one flush is one repair.
	settle = 50 * time.Millisecond
	// repairEvery bounds how often the table is made anew, should another program undo every repair. While the kernel
	// refuses the table it is tried ever more seldom, down to once in checkEvery.
	repairEvery = 500 * time.Millisecond
	// sayEvery bounds how often a repair is logged as a warning.
	sayEvery = time.Minute
)

// Watch sees to it that the table stays as it was made, until ctx ends; then it returns nil.
//
// When others delete, flush or change it (nft flush ruleset, firewalld), Watch asks lost, and if that answers true makes
// the table anew in one transaction, within a second. If lost answers false (an operator switched the guard off) the
// firewall is off until the next Restore. Once a minute the chains, rules and sets are compared with those that were made,
// and, where the kernel tells, the number of elements with those that are wanted; elements are never listed.
//
// Watch returns an error only if it cannot listen to the kernel; the firewall works on without it.
func (f *Firewall) Watch(ctx context.Context, lost func() (restore bool)) error {
	m, err := f.listen()
	if err != nil {
		return fmt.Errorf("watch the table inet %s: %w", f.o.Table, err)
	}
	defer f.unlisten()
	var reader sync.WaitGroup
	reader.Go(func() { m.read() })
	defer reader.Wait()
	defer m.conn.Close()

	minute := time.NewTicker(checkEvery)
	defer minute.Stop()
	r := repair{f: f, lost: lost}
	r.inspect(routine) // what happened before we listened
	for {
		why := routine
		select {
		case <-ctx.Done():
			return nil
		case err := <-m.failed:
			return fmt.Errorf("watch the table inet %s: %w", f.o.Table, err)
		case <-minute.C:
		case <-f.stirred:
		case <-m.overrun:
			why = unheard
		case <-m.touched:
			why = disturbed
		}
		if !pause(ctx, settle) {
			return nil
		}
		select {
		case <-m.touched:
			why = disturbed
		default:
		}
		if wait := r.inspect(why); !pause(ctx, wait) {
			return nil
		}
	}
}

// cause is why the table is looked at.
type cause uint8

const (
	routine   cause = iota
	unheard         // some changes were not heard, which may have been of our table
	disturbed       // our table was changed
)

// pause waits, and returns false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// repair is how Watch puts the table right, over and over.
type repair struct {
	f     *Firewall
	lost  func() bool
	wait  time.Duration // after the last failure
	said  time.Time
	count int // repairs since
}

// inspect makes the table anew if it is not as it should be, and returns how long to leave it alone now.
func (r *repair) inspect(why cause) time.Duration {
	f, now := r.f, time.Now()
	if !f.damaged(why, now) {
		return 0
	}
	restore := r.lost() // without the lock: it may ask for our Stats
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.standing {
		return 0 // Clear was faster
	}
	if !restore {
		f.standing, f.stale = false, false
		f.o.Log.Info("the firewall is off, as asked")
		return 0
	}
	f.stats.Repairs++
	r.count++
	if err := f.remake(now); err != nil {
		r.say(now, "the table could not be made again", "err", err)
		r.wait = min(max(2*r.wait, repairEvery), checkEvery)
		return r.wait
	}
	r.say(now, "others changed our table, made it again", "n", r.count)
	r.wait = 0
	return repairEvery
}

// say warns, but not more often than every sayEvery.
func (r *repair) say(now time.Time, msg string, args ...any) {
	if now.Sub(r.said) < sayEvery {
		r.f.o.Log.Debug(msg, args...)
		return
	}
	r.f.o.Log.Warn(msg, args...)
	r.said, r.count = now, 0
}

// damaged says whether the table must be made anew: because somebody touched it, a transaction failed, or it looks so.
func (f *Firewall) damaged(why cause, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.standing || f.stale || why == disturbed {
		return f.standing
	}
	ok, sure, err := f.sound(now)
	return err == nil && !(ok && (sure || why == routine))
}

// monitor hears of every change to nf_tables that another socket than ours makes.
type monitor struct {
	conn    *netlink.Conn
	table   string
	touched chan struct{} // our table was changed; holds one
	overrun chan struct{} // changes came too fast and some were not heard; holds one
	failed  chan error
}

func (f *Firewall) listen() (*monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: f.o.NetNS})
	if err != nil {
		return nil, err
	}
	m := &monitor{
		conn:    conn,
		table:   f.o.Table,
		touched: make(chan struct{}, 1),
		overrun: make(chan struct{}, 1),
		failed:  make(chan error, 1),
	}
	_ = conn.SetReadBuffer(4 << 20) // the more fits, the rarer is a change that was not heard
	f.mu.Lock()                     // so that it does not begin to hear in the middle of a great transaction
	defer f.mu.Unlock()
	if err := errors.Join(ignore(conn, f.sock.portID), conn.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		conn.Close()
		return nil, err
	}
	f.monitor = m
	return m, nil
}

// unlisten forgets the monitor of Watch.
func (f *Firewall) unlisten() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.monitor = nil
}

// pause hears nothing until resume. Without a membership to give up there is nothing to pause.
func (m *monitor) pause() { _ = m.conn.LeaveGroup(unix.NFNLGRP_NFTABLES) }

// resume hears again; if that is refused, Watch ends with the reason.
func (m *monitor) resume() {
	if err := m.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		select {
		case m.failed <- err:
		default: // it ends already
		}
	}
}

// ignore keeps the kernel from queueing the changes that the socket with this port made, 40,000 of which may come a second
// in an attack. It is a socket filter: nlmsg_pid, the word at 12, names the socket that asked for the change.
func ignore(conn *netlink.Conn, portID uint32) error {
	// The filter reads the word as big endian, while the kernel wrote it in its own order.
	id := binary.BigEndian.Uint32(native(portID))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: id, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", failed))
}

// read runs until the connection is closed.
func (m *monitor) read() {
	for {
		events, err := m.conn.Receive()
		switch {
		case errors.Is(err, syscall.ENOBUFS):
			signal(m.overrun)
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF):
			return
		case err != nil:
			m.failed <- err
			return
		}
		for _, e := range events {
			if m.disturbs(message{typ: uint16(e.Header.Type), data: e.Data}) {
				signal(m.touched)
			}
		}
	}
}

// disturbs says whether an event is a change of our table that should be undone. New elements that somebody adds by hand
// are not.
func (m *monitor) disturbs(e message) bool {
	kind, ok := e.kind()
	return ok && kind != unix.NFT_MSG_NEWSETELEM && kind != unix.NFT_MSG_NEWGEN && belongs(e, m.table)
}

// signal wakes the reader of a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
