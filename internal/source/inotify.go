package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// inotify is one instance of the kernel's file watching (inotify(7)). It is used by one goroutine.
type inotify struct {
	fd  int
	buf []byte
}

const (
	// fileEvents: the content grew or was truncated; the file was renamed, or lost a name (IN_ATTRIB tells of the link
	// count: IN_DELETE_SELF comes only when we have closed it too).
	fileEvents = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF

	// dirEvents: a name appeared or disappeared, or the directory itself did.
	dirEvents = unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF |
		unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &inotify{fd: fd, buf: make([]byte, 16<<10)}, nil
}

func (in *inotify) close() { unix.Close(in.fd) }

// watchFD watches the very file that is open as fd, whatever name it has by now.
func (in *inotify) watchFD(fd int, mask uint32) (wd int, err error) {
	return in.watch(procPath(fd), mask)
}

func (in *inotify) watch(path string, mask uint32) (wd int, err error) {
	return unix.InotifyAddWatch(in.fd, path, mask)
}

func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func (in *inotify) unwatch(wd int) { unix.InotifyRmWatch(in.fd, uint32(wd)) }

// events hands over what has happened and returns when there is nothing more. The name is valid during the call.
func (in *inotify) events(each func(wd int, mask uint32, name []byte)) error {
	for {
		n, err := unix.Read(in.fd, in.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read inotify: %w", err)
		}
		for b := in.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int(int32(binary.NativeEndian.Uint32(b)))
			mask := binary.NativeEndian.Uint32(b[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
			each(wd, mask, name)
			b = b[end:]
		}
		if n < len(in.buf)/2 {
			return nil // what came meanwhile keeps the descriptor readable: saves a system call a wake-up
		}
	}
}

// alarm is a descriptor that becomes readable when a context ends, so that poll(2) can wait for it beside others.
type alarm struct {
	fd    int
	close func()
}

func newAlarm(ctx context.Context) (alarm, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return alarm{}, fmt.Errorf("eventfd: %w", err)
	}
	rung := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(rung)
		one := binary.NativeEndian.AppendUint64(nil, 1)
		unix.Write(fd, one)
	})
	return alarm{fd: fd, close: func() {
		if !stop() {
			<-rung // it must not write to a descriptor that has become somebody else's
		}
		unix.Close(fd)
	}}, nil
}

// pollFor waits until the alarm rings, fd is readable or the time is over. A negative fd is not waited for.
func (a alarm) pollFor(fd int, timeout time.Duration) error {
	fds := [2]unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
	// Round up: a rest of less than a millisecond must not become a busy loop.
	ms := int((timeout + time.Millisecond - 1) / time.Millisecond)
	_, err := unix.Poll(fds[:], max(ms, 0))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}
