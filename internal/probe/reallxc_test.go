package probe

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestRealLXC starts a container of LXC, sends it what is known, and reads. Its programs are the machine's own.
func TestRealLXC(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := exec.LookPath("lxc-execute"); err != nil {
		t.Skip("lxc-execute is not installed")
	}
	ownNetwork(t)
	dir, err := os.MkdirTemp("/tmp", "tocsin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// A name of its own: the control groups of a run before may still be there.
	name := filepath.Base(dir)
	outer := "tp" + name[max(0, len(name)-8):]
	put(t, dir, map[string]string{"conf": `lxc.uts.name = tocsin
lxc.rootfs.path = dir:/
lxc.net.0.type = veth
lxc.net.0.flags = up
lxc.net.0.veth.pair = ` + outer + `
lxc.net.0.hwaddr = 02:00:00:00:00:02
lxc.net.0.ipv4.address = 198.18.9.2/30
`})
	cmd := exec.Command("lxc-execute", "-P", dir, "-n", name, "-f", dir+"/conf", "-o", dir+"/log", "-l", "INFO", "--", "sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		exec.Command("lxc-stop", "-P", dir, "-n", name, "-k").Run()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	read := func() map[string]float64 {
		r, err := containersProbe.New(NewHost())
		if err != nil {
			return nil
		}
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, r := range rs {
			for _, v := range r.Values {
				values[r.Service.Name+" "+v.Field] = v.V
			}
		}
		return values
	}
	field := "lxc_" + fieldName(name)
	await := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
			select {
			case err := <-ended:
				log, _ := os.ReadFile(dir + "/log")
				t.Skipf("LXC does not run here: %v: %s", err, log)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	await("its network is not read", func() bool { _, ok := read()["containers_net "+field+"_down"]; return ok })
	await("it gets no card", func() bool { return exec.Command("ip", "link", "show", outer).Run() == nil })
	shell(t, "ip", "addr", "add", "198.18.9.1/30", "dev", outer)
	shell(t, "ip", "link", "set", outer, "up")
	shell(t, "ip", "neigh", "replace", "198.18.9.2", "lladdr", "02:00:00:00:00:02", "dev", outer)
	awaitLink(t, outer)
	before := read()
	c, err := net.Dial("udp", "198.18.9.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n, onWire = 500, 1000 + 8 + 20 + 14
	for sent := 0; sent < n; {
		// Nobody listens there. That is told by the next write, which then sends nothing.
		if _, err := c.Write(make([]byte, 1000)); err == nil {
			sent++
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	down := "containers_net " + field + "_down"
	await("what was sent does not arrive", func() bool { return read()[down]-before[down] >= n*onWire })
	after := read()
	// Neighbours introduce themselves meanwhile, in a few packets.
	if got := after[down] - before[down]; got > n*onWire+20_000 {
		t.Errorf("it received %v bytes, %d were sent to it", got, n*onWire)
	}
	for _, known := range []string{"containers_cpu " + field, "containers_memory " + field, "containers_pids " + field, "containers_net." + field + " up"} {
		if v, ok := after[known]; !ok || v != v {
			t.Errorf("%s is not known", known)
		}
	}
	if after["containers_pids "+field] < 1 || after["containers_memory "+field] <= 0 {
		t.Errorf("it has %v processes and %v bytes", after["containers_pids "+field], after["containers_memory "+field])
	}
}
