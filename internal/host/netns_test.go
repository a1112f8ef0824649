package host

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tocsin/internal/exec"
)

// namespace is a network namespace of a test, empty but for a loopback interface that is up.
type namespace struct{ file *os.File }

// newNamespace makes one, or skips the test where that cannot be done. It ends with the test.
func newNamespace(t *testing.T) namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("needs IPv6, which this kernel has switched off")
	}
	made := make(chan error)
	var ns namespace
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, and its namespace with the last user
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skipf("cannot make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.file.Close() })
	ns.ip(t, "link set lo up")
	return ns
}

// do runs f in the namespace and waits for it. Programs that f starts are in the namespace too.
func (ns namespace) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// ip runs ip(8) in the namespace, once for each line.
func (ns namespace) ip(t *testing.T, lines ...string) {
	t.Helper()
	path, err := exec.Find("ip")
	if err != nil {
		t.Skip("needs the program ip (package iproute2)")
	}
	for _, line := range lines {
		ns.do(func() {
			if _, err := exec.Run(t.Context(), exec.Command{Path: path, Args: strings.Fields(line)}); err != nil {
				t.Errorf("ip %s: %v", line, err)
			}
		})
	}
	if t.Failed() {
		t.FailNow()
	}
}
