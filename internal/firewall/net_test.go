package firewall

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// host is a network namespace with nothing in it but its loopback.
type host struct {
	t  testing.TB
	ns *os.File
}

// newHost makes a host, or skips the test where that is not allowed.
func newHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	h := &host{t: t}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		h.ns = ns
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skipf("cannot make a network namespace: %v", err)
	}
	t.Cleanup(func() { h.ns.Close() })
	return h
}

// do runs f on a thread within the host.
func (h *host) do(f func()) {
	h.t.Helper()
	if err := inNamespace(int(h.ns.Fd()), func() error { f(); return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// run runs a program within the host and returns what it printed.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		h.t.Skipf("needs the program %s", name)
	}
	var out []byte
	var err error
	h.do(func() { out, err = exec.Command(name, args...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (h *host) options() Options {
	log := slog.New(slog.NewTextHandler(testWriter{h.t}, nil))
	return Options{NetNS: int(h.ns.Fd()), Log: log}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// firewall opens a firewall in the host, and makes its table.
func (h *host) firewall(bans ...tocsin.Decision) *Firewall {
	h.t.Helper()
	f := h.open(h.options())
	if _, err := f.Restore(bans, nil, time.Now()); err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *host) open(o Options) *Firewall {
	h.t.Helper()
	f, err := Open(o)
	if err != nil {
		h.t.Skipf("nf_tables cannot be used here: %v", err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}

// ban is a decision of the jail sshd about port 22 for an hour; change it with the functions below.
// passed makes a ban one of actions only.
func passed(d *tocsin.Decision) { d.Verdict = tocsin.Pass }

func ban(id string, with ...func(*tocsin.Decision)) tocsin.Decision {
	d := tocsin.Decision{Jail: "sshd", ID: id, Ports: []uint16{22}, At: time.Now(), Until: time.Now().Add(time.Hour)}
	if p, err := netip.ParsePrefix(id); err == nil {
		d.Prefix = p
	} else if a, err := netip.ParseAddr(id); err == nil {
		d.Prefix = netip.PrefixFrom(a, a.BitLen())
	}
	for _, f := range with {
		f(&d)
	}
	return d
}

func ports(ps ...uint16) func(*tocsin.Decision) { return func(d *tocsin.Decision) { d.Ports = ps } }
func jail(name string) func(*tocsin.Decision)   { return func(d *tocsin.Decision) { d.Jail = name } }
func rejected(d *tocsin.Decision)               { d.Verdict = tocsin.Reject }
func udp(d *tocsin.Decision)                    { d.Proto = tocsin.UDP }
func tcpAndUDP(d *tocsin.Decision)              { d.Proto = tocsin.TCPAndUDP }
func forever(d *tocsin.Decision)                { d.Until = time.Time{} }

func lasting(dur time.Duration) func(*tocsin.Decision) {
	return func(d *tocsin.Decision) { d.Until = d.At.Add(dur) }
}
