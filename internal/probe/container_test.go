package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

// unpack makes the files of a txtar. One named x.link becomes a symbolic link x.
func unpack(t testing.TB, archive string) string {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range a.Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if link, is := strings.CutSuffix(path, ".link"); is {
			err = os.Symlink(strings.TrimSpace(string(f.Data)), link)
		} else {
			err = os.WriteFile(path, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// hostAt is a made-up machine below dir, at a time of its own.
func hostAt(dir string) *Host {
	return &Host{
		Proc: dir + "/proc", Sys: dir + "/sys", Root: dir + "/root",
		Now: func() time.Time { return time.Unix(1_800_000_000, 0) }, Boot: func() time.Duration { return time.Hour },
	}
}

// dump writes readings as a plugin would print them: description, then values.
func dump(rs []Reading) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "multigraph %s\n", r.Service.Name)
		for _, a := range r.Service.Attrs {
			fmt.Fprintf(&b, "%s %s\n", a.Name, a.Value)
		}
		for _, f := range r.Service.Fields {
			for _, a := range f.Attrs {
				fmt.Fprintf(&b, "%s.%s %s\n", f.Name, a.Name, a.Value)
			}
		}
		for _, v := range r.Values {
			fmt.Fprintf(&b, "%s.value %s\n", v.Field, strings.Replace(strconv.FormatFloat(v.V, 'f', -1, 64), "NaN", "U", 1))
		}
	}
	return b.String()
}

// golden compares got with a file, or writes it where TOCSIN_UPDATE is set.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("TOCSIN_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("line %d of what was read is %q, %s has %q", i+1, g[i], file, w[i])
		}
	}
	t.Fatalf("%d lines were read, %s has %d", len(g), file, len(w))
}

func TestContainersAndServices(t *testing.T) {
	for _, tt := range []struct {
		tree  string
		probe Probe
	}{{"v2", containersProbe}, {"v1", containersProbe}, {"v2", servicesProbe}} {
		t.Run(tt.tree+" "+tt.probe.Name, func(t *testing.T) {
			r, err := tt.probe.New(hostAt(unpack(t, "testdata/containers/"+tt.tree+".txtar")))
			if err != nil {
				t.Fatal(err)
			}
			rs, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/containers/"+tt.tree+"."+tt.probe.Name, dump(rs))
			again, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range again {
				if again[i].Service != rs[i].Service {
					t.Errorf("%s is described anew although nothing changed", rs[i].Service.Name)
				}
			}
		})
	}
}

func TestClassify(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	tests := []struct{ path, want string }{
		{"system.slice/docker-" + id + ".scope", "docker " + id},
		{"docker/" + id, "docker " + id},
		{"docker/" + id[1:], ""},
		{"docker/buildkit/" + id, ""},
		{"machine.slice/libpod-" + id + ".scope", "podman " + id},
		{"libpod_parent/libpod-" + id, ""},
		{"machine.slice/libpod-conmon-" + id + ".scope", ""},
		{"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope", "podman " + id + " of 1000"},
		{"user.slice/user-x.slice/libpod-" + id + ".scope", "podman " + id},
		{"lxc.payload.web1", "lxc web1"},
		{"lxc.payload.", ""},
		{"lxc.monitor.web1", ""},
		{"lxc/101", "lxc 101"},
		{"lxc/101/ns", ""},
		{"lxc.monitor/101", ""},
		{`machine.slice/systemd-nspawn@a\x2db.service`, "nspawn a-b"},
		{`machine.slice/machine-a\x2db.scope`, "nspawn a-b"},
		{`machine.slice/machine-qemu\x2d12\x2dweb\x2d1.scope`, "vm web-1"},
		{`machine.slice/machine-lxc\x2d4711\x2dweb.scope`, "lxc web"},
		{`machine.slice/machine-qemu\x2dbox.scope`, "nspawn qemu-box"},
		{"qemu.slice/102.scope", "vm 102"},
		{"kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", "kubernetes " + id},
		{"kubepods.slice/crio-" + id + ".scope", "kubernetes " + id},
		{"kubepods.slice/crio-conmon-" + id + ".scope", ""},
		{"kubepods/burstable/pod1/" + id, "kubernetes " + id},
		{"system.slice/nginx.service", "service nginx"},
		{`system.slice/system-postfix.slice/postfix@-.service`, "service postfix@-"},
		{"system.slice/system-postfix.slice", ""},
		{"user.slice/user-0.slice/session-1.scope", ""},
		{"init.scope", ""},
		{`machine.slice/systemd-nspawn@a\x2.service`, `nspawn a\x2`},
	}
	for _, tt := range tests {
		g, ok := classify(tt.path)
		got := ""
		if ok {
			got = g.kind + " " + g.id
			if g.user != "" {
				got += " of " + g.user
			}
		}
		if tt.path == "libpod_parent/libpod-"+id {
			tt.want = "podman " + id // without systemd
		}
		if got != tt.want {
			t.Errorf("classify(%q) = %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestNoContainers(t *testing.T) {
	_, err := containersProbe.New(hostAt(t.TempDir()))
	if why, off := IsOff(err); !off || !strings.Contains(why, "no control groups") {
		t.Errorf("without control groups: %v", err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sys/fs/cgroup/pids/user.slice", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = containersProbe.New(hostAt(dir))
	if why, off := IsOff(err); !off || why != "no containers run here, or none in a control group of their own" {
		t.Errorf("without containers: %v", err)
	}
}

func TestContainersThatGo(t *testing.T) {
	dir := unpack(t, "testdata/containers/v2.txtar")
	r, err := containersProbe.New(hostAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	fields := func() []string {
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range rs[0].Service.Fields {
			names = append(names, f.Name)
		}
		return names
	}
	before := fields()
	if err := os.RemoveAll(dir + "/sys/fs/cgroup/lxc.payload.mail-1"); err != nil {
		t.Fatal(err)
	}
	fields() // notices
	after := fields()
	if want := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return s == "lxc_mail_1" }); !slices.Equal(after, want) || len(after) == len(before) {
		t.Errorf("after a container went: %q, before %q", after, before)
	}
}

func TestContainersAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range maxContainers + 5 {
		if err := os.MkdirAll(fmt.Sprintf("%s/sys/fs/cgroup/lxc.payload.c%04d", dir, i), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/sys/fs/cgroup/lxc.payload.c%04d/cpu.stat", dir, i), []byte("usage_usec 10000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/sys/fs/cgroup/cgroup.controllers", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := containersProbe.New(hostAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1005 containers run here, 1000 of them are read") {
		t.Errorf("error %v", err)
	}
	if n := len(rs[0].Values); n != maxContainers {
		t.Errorf("%d containers were read, want %d", n, maxContainers)
	}
}

// TestFieldsOfNames has names that fall together once only letters and digits are left.
func TestFieldsOfNames(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 200)
	for _, name := range []string{"a-b", "a.b", long, long + "y"} {
		if err := os.MkdirAll(dir+"/sys/fs/cgroup/pids/lxc.payload."+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r, err := containersProbe.New(hostAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range r.(*boxReader).boxes {
		if seen[b.field] || len(b.field) > maxField || fieldName(b.field) != b.field {
			t.Errorf("field %q of %q", b.field, b.id)
		}
		seen[b.field] = true
	}
	if len(seen) != 4 || !seen["lxc_a_b"] {
		t.Errorf("fields %v", seen)
	}
}

// helperEnv makes this test's own program wait in the namespaces it was started in, or read as nobody.
const helperEnv = "TOCSIN_PROBE_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "wait":
		io.Copy(io.Discard, os.Stdin) // until who started us is gone
		os.Exit(0)
	case "veths":
		v, err := openVeths()
		if err == nil {
			var in, out float64
			if _, in, out, _, err = v.of(os.Args[len(os.Args)-1]); err == nil {
				fmt.Printf("%.0f %.0f\n", in, out)
			}
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inNamespace starts a process with a network and processes of its own. It ends with the test.
func inNamespace(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no namespaces can be made here: %v", err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// ownNetwork gives the test a network that nobody else has, another run of it neither. The thread ends with the test.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network of our own: %v", err)
	}
}

// awaitLink waits until a card is up at both ends.
func awaitLink(t *testing.T, card string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if out, _ := exec.Command("ip", "-o", "link", "show", card).Output(); strings.Contains(string(out), " state UP ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come up", card)
		}
	}
}

func shell(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// TestRealContainers makes two containers of namespaces and control groups, sends to each of them what is known, and reads.
func TestRealContainers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces and control groups need root")
	}
	trees, err := cgroupTrees("/sys")
	if err != nil {
		t.Skip(err)
	}
	ownNetwork(t)
	names := []string{fmt.Sprintf("tocsin-a-%d", os.Getpid()), fmt.Sprintf("tocsin-b-%d", os.Getpid())}
	pids := make([]int, 2)
	sent := []int{300, 120} // datagrams of 1,000 bytes
	for i, name := range names {
		pids[i] = inNamespace(t)
		joined := 0
		for _, tr := range trees {
			if tr.name == "unified" && len(trees) > 1 {
				continue
			}
			dir := filepath.Join(tr.dir, "lxc.payload."+name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				continue
			}
			t.Cleanup(func() {
				syscall.Kill(pids[i], syscall.SIGKILL)
				for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
					if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
						return
					}
				}
			})
			if os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pids[i])), 0) == nil {
				joined++
			}
		}
		if joined == 0 {
			t.Skip("no process can be put into a control group here")
		}
		outer, inner := fmt.Sprintf("tpo%d%d", i, os.Getpid()%10000), fmt.Sprintf("tpi%d%d", i, os.Getpid()%10000)
		shell(t, "ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", strconv.Itoa(pids[i]))
		t.Cleanup(func() { exec.Command("ip", "link", "del", outer).Run() })
		shell(t, "ip", "addr", "add", fmt.Sprintf("198.18.%d.1/30", 2*i), "dev", outer)
		// An address that never answers to ARP is known from the start: nothing but our datagrams goes there.
		shell(t, "ip", "link", "set", outer, "addrgenmode", "none", "up")
		shell(t, "nsenter", "-t", strconv.Itoa(pids[i]), "-n", "ip", "link", "set", inner, "addrgenmode", "none", "up")
		shell(t, "ip", "neigh", "add", fmt.Sprintf("198.18.%d.2", 2*i), "lladdr", "02:00:00:00:00:01", "dev", outer)
		awaitLink(t, outer)
	}
	h := NewHost()
	read := func() map[string]float64 {
		t.Helper()
		r, err := containersProbe.New(h)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := r.Read(context.Background())
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
	before := read()
	for i := range names {
		c, err := net.Dial("udp", fmt.Sprintf("198.18.%d.2:9", 2*i))
		if err != nil {
			t.Fatal(err)
		}
		for range sent[i] {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
	}
	// The kernel hands the datagrams over in its own time.
	const onWire = 1000 + 8 + 20 + 14
	field := func(i int, suffix string) string {
		return "containers_net lxc_" + fieldName(names[i]) + suffix
	}
	var after map[string]float64
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		after = read()
		if after[field(0, "_down")]-before[field(0, "_down")] >= float64(sent[0]*onWire) && after[field(1, "_down")]-before[field(1, "_down")] >= float64(sent[1]*onWire) || time.Now().After(deadline) {
			break
		}
	}
	for i := range names {
		got := after[field(i, "_down")] - before[field(i, "_down")]
		if got != float64(sent[i]*onWire) {
			t.Errorf("%s received %v bytes, %d were sent to it", names[i], got, sent[i]*onWire)
		}
		if up := after[field(i, "_up")] - before[field(i, "_up")]; up != 0 {
			t.Errorf("%s sent %v bytes, it was silent", names[i], up)
		}
		var known int
		for name, v := range after {
			if strings.HasPrefix(name, "containers_") && strings.Contains(name, fieldName(names[i])) && !math.IsNaN(v) {
				known++
			}
		}
		t.Logf("%s: %d values are known", names[i], known)
		if known < 5 {
			t.Errorf("%s: %d values are known, want at least its processes, memory and time", names[i], known)
		}

		// Who may not look into the namespace asks for the cards that lead there; the answer is the same.
		v, err := openVeths()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		_, in, out, _, err := v.of(strconv.Itoa(pids[i]))
		if err != nil || in != after[field(i, "_down")] || out != after[field(i, "_up")] {
			t.Errorf("by its card %s has received %v and sent %v (%v), by its own count %v and %v", names[i], in, out, err, after[field(i, "_down")], after[field(i, "_up")])
		}
	}
	asNobody(t, h, names, pids, after, field)

	// The same where /proc shows nobody but process 1.
	hidden := NewHost()
	hidden.Proc = t.TempDir()
	if err := os.Symlink("/proc/1", hidden.Proc+"/1"); err != nil {
		t.Fatal(err)
	}
	h = hidden
	blind := read()
	for i := range names {
		for _, suffix := range []string{"_down", "_up"} {
			if got, want := blind[field(i, suffix)], after[field(i, suffix)]; got != want {
				t.Errorf("%s%s is %v where processes are hidden, %v where they are not", names[i], suffix, got, want)
			}
		}
	}
}

// asNobody reads the same without any right.
func asNobody(t *testing.T, h *Host, names []string, pids []int, want map[string]float64, field func(int, string) string) {
	dir, err := os.MkdirTemp("/tmp", "tocsin-probe-test")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/self", self, 0o755)); err != nil {
		t.Fatal(err)
	}
	for i := range names {
		cmd := exec.Command(dir+"/self", strconv.Itoa(pids[i]))
		cmd.Env = append(os.Environ(), helperEnv+"=veths")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		if want := fmt.Sprintf("%.0f %.0f\n", want[field(i, "_down")], want[field(i, "_up")]); err != nil || string(out) != want {
			t.Errorf("nobody is told %q (%v) of %s, want %q", out, err, names[i], want)
		}
		// The file that tells namespaces apart can be looked at by all.
		var st, own unix.Stat_t
		if err := errors.Join(unix.Stat(fmt.Sprintf("/proc/%d/net/dev", pids[i]), &st), unix.Stat("/proc/self/net/dev", &own)); err != nil {
			t.Fatal(err)
		}
		if st.Ino == own.Ino {
			t.Errorf("%s has our inode of net/dev, %d", names[i], own.Ino)
		}
	}
	space := namespaces{proc: h.Proc, byLink: false}
	if a, b, host := space.of(strconv.Itoa(pids[0])), space.of(strconv.Itoa(pids[1])), space.of("1"); a == b || a == host || b == host || a == "" || b == "" {
		t.Errorf("by inode the namespaces are %q, %q and %q of the host: all three should differ", a, b, host)
	}
}

func FuzzKernelText(f *testing.F) {
	for _, s := range []string{
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=20000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=10000\n",
		"254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=1\n", "8:0 Read 4096\n8:0 Write 1\nTotal 3\n",
		"Inter-| x\n face |y\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", "0::/a/b\n3:cpu:/a\n", "NSpid:\t5\t1\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := []byte(s)
		u := unknownUsage()
		all := func(string, map[string]bool) bool { return true }
		readIO(&u, text, all)
		readBlkio(text, all)
		stalls(text)
		isInit(text)
		eachPair(text, func(string, float64) {})
		if in, out, lost, err := traffic(text); err == nil && (in < 0 || out < 0 || lost < 0) {
			t.Errorf("traffic(%q) = %v, %v, %v", s, in, out, lost)
		}
		classify(s)
		if p := plain(s); p == "" || strings.ContainsAny(p, "\n\x00\x1b") {
			t.Errorf("plain(%q) = %q", s, p)
		}
		(&veths{sums: map[int32][3]float64{}}).add(text)
	})
}
