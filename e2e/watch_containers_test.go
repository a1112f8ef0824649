package e2e

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is a process with a network, processes and a control group of its own.
type container struct {
	name string
	pid  int // as this program sees it
	addr string
}

// container makes one on the victim, with a cable to it.
func (w *storing) container(n int) *container {
	w.t.Helper()
	c := &container{name: fmt.Sprintf("tocsine2e%d%c", os.Getpid(), 'a'+rune(n)), addr: fmt.Sprintf("198.18.%d.2", n)}
	p, err := w.Victim.Start(exec.Command("unshare", "--net", "--pid", "--fork", "--kill-child", "sleep", "3600"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Kill)
	w.within(answer, "a process of "+c.name, func() (bool, error) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.Pid()))
		if err != nil {
			return false, err
		}
		_, err = fmt.Sscan(string(text), &c.pid)
		return err == nil, nil
	})
	w.intoGroups(c)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		w.t.Fatal(err)
	}
	// Of the numbers that it has, from here to within, the second is the one on the victim.
	there := regexp.MustCompile(`(?m)^NSpid:\t\d+\t(\d+)\t1$`).FindSubmatch(status)
	if there == nil {
		w.t.Fatalf("no number on the victim: %s", status)
	}
	w.script(fmt.Sprintf(`ip link add guest%[1]d type veth peer name eth0 netns %[2]s
ip addr add 198.18.%[1]d.1/30 dev guest%[1]d
ip link set guest%[1]d up
nsenter -t %[2]s -n sh -eu -c 'ip addr add 198.18.%[1]d.2/30 dev eth0; ip link set eth0 up; ip link set lo up'`, n, there[1]))
	return c
}

// intoGroups puts it into a control group of its own wherever one can be made, as LXC does.
func (w *storing) intoGroups(c *container) {
	w.t.Helper()
	trees, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		trees = []string{"/sys/fs/cgroup/cgroup.procs"} // version 2 alone
	}
	joined := 0
	for _, tree := range trees {
		dir := filepath.Join(filepath.Dir(tree), "lxc.payload."+c.name)
		if os.Mkdir(dir, 0o755) != nil {
			continue // not every one may be parted
		}
		w.t.Cleanup(func() {
			_ = syscall.Kill(c.pid, syscall.SIGKILL)
			for deadline := time.Now().Add(answer); os.Remove(dir) != nil && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
		})
		if os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, c.pid), 0) == nil {
			joined++
		}
	}
	if joined == 0 {
		w.t.Skip("no process can be put into a control group here")
	}
}

// listen listens within the container.
func (c *container) listen() (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		var ns *os.File
		if ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", c.pid)); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			l, err = net.Listen("tcp", c.addr+":5001")
		}
	}()
	<-done
	return l, err
}

// exchange sends that many bytes over one connection into the container and out of it.
func (w *storing) exchange(c *container, in, out int64) error {
	l, err := c.listen()
	if err != nil {
		return err
	}
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	errs := make(chan error, 2)
	wg.Go(func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			if _, err = io.CopyN(io.Discard, conn, in); err == nil {
				_, err = io.CopyN(conn, zeros{}, out)
			}
		}
		errs <- err
	})
	var conn net.Conn
	if err := w.Victim.Do(func() error {
		conn, err = net.DialTimeout("tcp", c.addr+":5001", answer)
		return err
	}); err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.CopyN(conn, zeros{}, in); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, out); err != nil {
		return err
	}
	return <-errs
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// total is what a rate of bytes makes in all, from the first sample on, and how many samples there are.
func (w *storing) total(field string) (bytes float64, n int) {
	w.t.Helper()
	got, err := w.prom(ours, "query", url.Values{"query": {`munin{service="containers_net",field="` + field + `"}[15m]`}})
	if err != nil || len(got) > 1 {
		w.t.Fatalf("%s: %v, %v", field, got, err)
	}
	for _, points := range got {
		var times []int64
		for at := range points {
			times = append(times, at)
		}
		slices.Sort(times)
		for i := 1; i < len(times); i++ {
			bytes += points[times[i]] * float64(times[i]-times[i-1]) / 1000
		}
		n = len(times)
	}
	return bytes, n
}

// Two containers exchange known amounts over TCP; what the graphs show of each, read through its own namespace by the runner,
// is that, and nothing of the other's.
func TestContainersTraffic(t *testing.T) {
	w := watchScene(t, 3*time.Minute)
	need(t, "nsenter", "unshare", "sleep")
	all := []*container{w.container(0), w.container(1)}
	sent := [][2]int64{{80e6, 20e6}, {30e6, 50e6}} // into it, out of it
	w.configure("listen = \"" + ours + "\"\n" + "[watch]\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\n" + sshd)
	w.run("--config", configFile)
	w.answers()
	for _, c := range all {
		w.within(2*answer, "samples of "+c.name, func() (bool, error) {
			time.Sleep(100 * time.Millisecond)
			_, n := w.total("lxc_" + c.name + "_down")
			return n > 1, nil
		})
	}
	// In pieces over several seconds, of both at once, as traffic comes.
	const pieces = 5
	for range pieces {
		var wg sync.WaitGroup
		for i, c := range all {
			wg.Go(func() {
				if err := w.exchange(c, sent[i][0]/pieces, sent[i][1]/pieces); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(700 * time.Millisecond)
	}
	for i, c := range all {
		for k, direction := range []string{"_down", "_up"} {
			want := float64(sent[i][k])
			var got float64
			w.within(answer, "all that was sent", func() (bool, error) {
				time.Sleep(100 * time.Millisecond)
				got, _ = w.total("lxc_" + c.name + direction)
				return got >= want, nil
			})
			if math.Abs(got-want) > 0.02*want {
				t.Errorf("%s%s: %.0f bytes are told, %.0f were sent: %+.2f %%", c.name, direction, got, want, 100*(got-want)/want)
			} else {
				t.Logf("%s%s: %+.2f %%", c.name, direction, 100*(got-want)/want)
			}
		}
	}
	if out := w.must("server", "web1", "containers_net"); !strings.Contains(out, "lxc_"+all[0].name) || !strings.Contains(out, "lxc_"+all[1].name) {
		t.Errorf("tocsin server web1 containers_net: %s", out)
	}
}
