package host

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrCgo says that this binary has threads that Go does not know, so that nothing can be given up on all of them.
var ErrCgo = errors.New("this program was built with cgo; build it with CGO_ENABLED=0")

// Have tells whether this process has a capability in force, such as unix.CAP_NET_ADMIN.
func Have(capability int) bool {
	_, sets, err := capabilities()
	return err == nil && sets[capability/32].Effective&(1<<(capability%32)) != 0
}

// DropTo gives up every capability but those of keep that the process has, for good: from the permitted, effective,
// inheritable, ambient and bounding sets of all its threads, and with no_new_privs for its children. The user id stays.
//
// Afterwards a process of root may do what the capabilities allow, and otherwise what the owner of root's files may. The
// error says what could not be given up; then some of it may be given up and some not. A binary with cgo gets ErrCgo
// before anything is changed.
func DropTo(keep ...int) error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	if err := dropBounding(kept); err != nil {
		return err
	}
	// Kernels without ambient capabilities (before 4.3) have none to give up.
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header, sets, err := capabilities()
	if err != nil {
		return err
	}
	for i := range sets {
		sets[i].Permitted &= kept[i]
		sets[i].Effective = sets[i].Permitted
		sets[i].Inheritable = 0
	}
	// The pointers are converted in the call, so that they stay valid through it (unsafe.Pointer, rule 4).
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(sets)), 0)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}

// dropBounding takes every capability that the kernel knows and kept lacks from the bounding set, so that a child of root
// does not get it back by running a program. Without CAP_SETPCAP that is not allowed, as in some containers; then
// no_new_privs does it alone (capabilities(7)).
func dropBounding(kept [2]uint32) error {
	if !Have(unix.CAP_SETPCAP) {
		return nil
	}
	for c := 0; c < 64; c++ {
		if kept[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return nil // EINVAL: the kernel knows no more
		}
		if has == 0 {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return nil
}

func onAllThreads(call, a, b, c uintptr) error {
	switch _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno {
	case 0:
		return nil
	case unix.ENOTSUP:
		return ErrCgo
	default:
		return errno
	}
}

// capabilities are those of the calling thread, which are those of all: only DropTo changes them.
func capabilities() (*unix.CapUserHeader, *[2]unix.CapUserData, error) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	sets := &[2]unix.CapUserData{}
	if err := unix.Capget(header, &sets[0]); err != nil {
		return nil, nil, fmt.Errorf("read capabilities: %w", err)
	}
	return header, sets, nil
}
