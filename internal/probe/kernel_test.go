package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// wantValues compares what a probe said with "service.field": value; what is not named may be anything.
func wantValues(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[key]
		if w := want[key]; !ok || math.Abs(g-w) > 1e-9*math.Abs(w)+1e-12 && !(math.IsNaN(g) && math.IsNaN(w)) {
			t.Errorf("%s = %v (%v), want %v", key, g, ok, w)
		}
	}
}

func TestCPU(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/stat": `cpu  1000 200 300 4000 500 6 70 80 400 50
cpu0 500 100 150 2000 250 3 35 40 200 25
cpu1 500 100 150 2000 250 3 35 40 200 25
intr 9406546 0 9 0
ctxt 22114219
btime 1700000000
processes 199250
procs_running 3
procs_blocked 2
softirq 5 1 1
`})
	wantValues(t, taken(t, cpuProbe, h), map[string]float64{
		"cpu.user": 600, "cpu.nice": 150, "cpu.system": 300, "cpu.idle": 4000, "cpu.iowait": 500, "cpu.irq": 6, "cpu.softirq": 70, "cpu.steal": 80, "cpu.guest": 450,
		"forks.forks": 199250, "interrupts.intr": 9406546, "interrupts.ctx": 22114219, "vmstat.wait": 2, "vmstat.sleep": 2,
	})
}

func TestCPUFallsALittle(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/stat": "cpu  1000 0 0 4000 500 0 0\ncpu0 0\n"})
	d := held{p: &cpuProbe, h: h}
	for _, step := range []struct {
		text string
		want float64
	}{
		{"cpu  1000 0 0 4000 500 0 0\ncpu0 0\n", 500},
		{"cpu  1000 0 0 4010 480 0 0\ncpu0 0\n", 500}, // an estimate
		{"cpu  1000 0 0 4020 510 0 0\ncpu0 0\n", 510},
		{"cpu  10 0 0 40 5 0 0\ncpu0 0\n", 5}, // began anew
	} {
		writeFile(t, filepath.Join(h.Proc, "stat"), step.text)
		rs, err := d.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := flatten(t, "cpu", rs)
		wantValues(t, got, map[string]float64{"cpu.iowait": step.want})
		if _, ok := got["cpu.steal"]; ok {
			t.Errorf("a kernel without steal has cpu.steal = %v", got["cpu.steal"])
		}
	}
}

func TestMemory(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/meminfo": "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    500 kB\nBuffers:          20 kB\nCached:          300 kB\n" +
		"SwapCached:        5 kB\nActive: 7 kB\nShmem:            40 kB\nSwapTotal:       200 kB\nSwapFree:        150 kB\nSlab: 60 kB\nPageTables: 3 kB\nDirty: 11 kB\nWriteback: 1 kB\nHugePages_Total: 0\n"})
	got := taken(t, memoryProbe, h)
	wantValues(t, got, map[string]float64{
		"memory.apps": (1000 - 100 - 20 - 300 - 5 - 60 - 3) << 10, "memory.free": 100 << 10, "memory.cached": 260 << 10, "memory.swap": 50 << 10, "memory.shmem": 40 << 10,
		"memory.available": 500 << 10, "memory.active": 7 << 10, "memory_writeback.dirty": 11 << 10, "memory_writeback.writeback": 1 << 10,
	})
	if _, ok := got["memory.committed"]; ok {
		t.Error("a kernel that does not say Committed_AS has memory.committed")
	}
}

func TestVM(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/vmstat": "nr_free_pages 1\npswpin 3\npswpout 4\npgmajfault 5\nallocstall_dma 1\nallocstall_normal 6\nworkingset_refault_anon 2\nworkingset_refault_file 7\noom_kill 8\n"})
	got := taken(t, vmProbe, h)
	wantValues(t, got, map[string]float64{"swap.swap_in": 3, "swap.swap_out": 4, "oom.oom_kill": 8, "memory_reclaim.major": 5, "memory_reclaim.stalls": 7, "memory_reclaim.refaults": 9})
	if _, ok := got["memory_reclaim.scanned"]; ok {
		t.Error("a kernel that does not count pgscan_direct has memory_reclaim.scanned")
	}
}

func TestPressure(t *testing.T) {
	line := "avg10=1.50 avg60=2.50 avg300=3.50 total="
	h := fakeMachine(t, map[string]string{
		"proc/pressure/cpu":    "some " + line + "100\nfull " + line + "7\n",
		"proc/pressure/io":     "some " + line + "200\nfull " + line + "300\n",
		"proc/pressure/memory": "some " + line + "400\nfull " + line + "500\n",
	})
	got := taken(t, pressureProbe, h)
	wantValues(t, got, map[string]float64{
		"linux_psi.psi_cpu_avg300_some": 3.5, "linux_psi.psi_io_avg300_full": 3.5, "linux_psi.cpu_total.psi_cpu_total_some": 100, "linux_psi.io_total.psi_io_total_some": 200,
		"linux_psi.io_total.psi_io_total_full": 300, "linux_psi.memory_total.psi_memory_total_full": 500,
	})
	if _, ok := got["linux_psi.cpu_total.psi_cpu_total_full"]; ok {
		t.Error("full of cpu, which is 0 by definition, is told")
	}
}

func TestMachineFiles(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/uptime": "172800.00 1.00\n", "proc/loadavg": "0.10 0.20 0.30 2/345 678\n",
		"proc/sys/fs/file-nr": "1000\t10\t100000\n", "proc/sys/fs/inode-nr": "500\t100\n"})
	wantValues(t, taken(t, uptimeProbe, h), map[string]float64{"uptime.uptime": 2})
	wantValues(t, taken(t, loadProbe, h), map[string]float64{"load.load": 0.2, "load.load1": 0.1, "load.load15": 0.3, "threads.threads": 345})
	wantValues(t, taken(t, filesProbe, h), map[string]float64{"open_files.used": 990, "open_inodes.used": 400, "open_inodes.max": 500})
	if got, _ := describeFiles(100000).Field("used").Get("warning"); got != "92000" {
		t.Errorf("warning of open files is %q, want 92000", got)
	}
	if got, ok := describeFiles(1<<63 - 1).Field("used").Get("warning"); ok {
		t.Errorf("warning of open files without a limit is %q", got)
	}
}

func TestClock(t *testing.T) {
	got := flatten(t, "clock", clockReadings(&unix.Timex{Offset: -1500, Freq: 65536 * 3, Maxerror: 16000, Esterror: 20, Status: staNano}))
	wantValues(t, got, map[string]float64{"ntp_kernel_pll_off.ntp_pll_off": -1.5e-6, "ntp_kernel_err.ntp_err": 20e-6, "ntp_kernel_err.max_err": 0.016, "ntp_kernel_pll_freq.ntp_pll_freq": 3, "clock_synced.synced": 1})
	got = flatten(t, "clock", clockReadings(&unix.Timex{Offset: 1500, Status: staUnsync}))
	wantValues(t, got, map[string]float64{"ntp_kernel_pll_off.ntp_pll_off": 1.5e-3, "clock_synced.synced": 0})
}

func TestMounts(t *testing.T) {
	got := parseMounts([]byte(`22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 27 254:1 /srv /srv/bound rw - ext4 /dev/vda1 rw
31 27 254:2 / /srv/with\040blank ro,relatime - xfs /dev/mapper/g-v rw
32 27 254:3 / /old rw - ext4 /dev/vdc ro
33 27 0:30 / /run rw - tmpfs tmpfs rw
34 27 0:31 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
35 27 0:32 / /net rw - nfs4 nas:/export/home rw,vers=4.2
36 27 0:33 / /misc rw - autofs systemd-1 rw
37 27 254:9 / /old rw - ext4 /dev/vdd rw
38 27 x
39 27 0:40 / relative rw - ext4 /dev/vde rw
`))
	want := []mount{
		{"254:1", "/", "ext4", "/dev/vda1", false}, {"254:2", "/srv/with blank", "xfs", "/dev/mapper/g-v", false},
		{"0:30", "/run", "tmpfs", "tmpfs", false}, {"0:32", "/net", "nfs4", "nas:/export/home", false}, {"254:9", "/old", "ext4", "/dev/vdd", false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("mounts %+v, want %+v", got, want)
	}
	for i, field := range []string{"_dev_vda1", "_dev_mapper_g_v", "_run", "nas__export_home", "_dev_vdd"} {
		if f := want[i].field(); f != field {
			t.Errorf("%+v is named %s, want %s", want[i], f, field)
		}
	}
	if f := want[2].absField(); f != "tmpfs__run" {
		t.Errorf("df_abs names /run %s, want tmpfs__run", f)
	}
}

// filesystems is a reader of a made-up machine whose statfs is ours.
func filesystems(t *testing.T, mounts, fstab string, statfs func(path string, st *unix.Statfs_t) error) *filesystemReader {
	t.Helper()
	h := fakeMachine(t, map[string]string{"proc/self/mountinfo": mounts, "etc/fstab": fstab})
	r, err := filesystemProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	fr := r.(*filesystemReader)
	fr.statfs = func(path string, st *unix.Statfs_t) error {
		rel, err := filepath.Rel(h.Root, path)
		if err != nil {
			return err
		}
		return statfs(filepath.Join("/", rel), st)
	}
	return fr
}

func TestFilesystems(t *testing.T) {
	r := filesystems(t, "27 1 254:1 / / rw - ext4 /dev/vda1 rw\n28 1 254:2 / /data rw - btrfs /dev/vdb rw\n29 1 254:3 / /broken rw - ext4 /dev/vdc ro\n"+
		"30 1 254:4 / /cdrom rw - ext4 /dev/vdd ro\n31 1 254:5 / /gone rw - ext4 /dev/vde rw\n32 1 0:9 / /run/user/1000 rw - tmpfs tmpfs rw\n33 1 0:8 / /run rw - tmpfs tmpfs rw\n",
		"# comment\n/dev/vdc /broken/ ext4 defaults 0 2\n/dev/vdd /cdrom ext4 ro 0 0\n",
		func(path string, st *unix.Statfs_t) error {
			*st = unix.Statfs_t{Bsize: 4096, Frsize: 4096, Blocks: 1000, Bfree: 300, Bavail: 200, Files: 100, Ffree: 25}
			switch path {
			case "/data":
				st.Files, st.Ffree = 0, 0
			case "/gone":
				return unix.EIO
			}
			return nil
		})
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := flatten(t, "filesystems", rs)
	wantValues(t, got, map[string]float64{
		"df._dev_vda1": 100 * 700. / 900, "df_inode._dev_vda1": 75, "df_abs._dev_vda1": 2800, "df_readonly._dev_vda1": 0, "df_stuck._dev_vda1": 0, "df_full._dev_vda1": math.NaN(),
		"df_readonly._dev_vdc": 1, "df_readonly._dev_vdd": 0, "df_stuck._dev_vde": 0, "df._run": 100 * 700. / 900,
	})
	for _, no := range []string{"df_inode._dev_vdb", "df._dev_vde", "df_full._run", "df._run_user_1000"} {
		if v, ok := got[no]; ok {
			t.Errorf("%s = %v, want nothing", no, v)
		}
	}
	// What could be written to and cannot be any more.
	writeFile(t, r.mounts.path, "27 1 254:1 / / rw - ext4 /dev/vda1 ro\n")
	if rs, err = r.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	got = flatten(t, "filesystems", rs)
	wantValues(t, got, map[string]float64{"df_readonly._dev_vda1": 1})
	if _, ok := got["df_stuck._dev_vde"]; ok || len(r.known) != 1 {
		t.Errorf("%d filesystems are remembered, want the one that is mounted", len(r.known))
	}
}

func TestFilesystemThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		asked := make(chan string, 100)
		r := filesystems(t, "27 1 254:1 / / rw - ext4 /dev/vda1 rw\n28 1 0:5 / /nfs rw - nfs4 nas:/x rw\n29 1 254:2 / /z rw - ext4 /dev/vdb rw\n", "",
			func(path string, st *unix.Statfs_t) error {
				asked <- path
				if path == "/nfs" {
					<-free
				}
				*st = unix.Statfs_t{Bsize: 4096, Blocks: 1000, Bfree: 300, Bavail: 200}
				return nil
			})
		for i := range 3 {
			begin := time.Now()
			rs, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took != statTime {
				t.Errorf("reading %d took %v, want %v", i, took, statTime)
			}
			got := flatten(t, "filesystems", rs)
			wantValues(t, got, map[string]float64{"df_stuck.nas__x": 1, "df_stuck._dev_vda1": 0, "df._dev_vdb": 100 * 700. / 900})
			if _, ok := got["df.nas__x"]; ok {
				t.Error("one that does not answer has a size")
			}
		}
		close(free)
		synctest.Wait()
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantValues(t, flatten(t, "filesystems", rs), map[string]float64{"df_stuck.nas__x": 0, "df.nas__x": 100 * 700. / 900})
		close(asked)
		n := 0
		for path := range asked {
			if path == "/nfs" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the one that hangs was asked %d times, want once", n)
		}
	})
}

func TestTrend(t *testing.T) {
	const size = 100e9
	fill := func(hours float64, free func(hour float64) float64) *trend {
		tr := &trend{}
		for m := 0.0; m <= hours*60; m++ {
			tr.add(time.Hour+time.Duration(m)*time.Minute, free(m/60), size)
		}
		return tr
	}
	tests := []struct {
		name       string
		tr         *trend
		slow, fast float64
	}{
		{"nothing known", &trend{}, math.NaN(), math.NaN()},
		{"half an hour", fill(0.5, func(h float64) float64 { return size - h*1e9 }), math.NaN(), math.NaN()},
		{"steady", fill(24, func(h float64) float64 { return 50e9 - h*1e9 }), 26. / 24, 26. / 24},
		{"getting emptier", fill(24, func(h float64) float64 { return 50e9 + h*1e9 }), never, never},
		{"unchanged", fill(24, func(float64) float64 { return 50e9 }), never, never},
		{"ten years and more", fill(24, func(h float64) float64 { return 50e9 - h*1e5 }), never, never},
		{"full", fill(24, func(h float64) float64 { return max(0, 10e9-h*1e9) }), 0, never},
	}
	for _, tt := range tests {
		slow, fast := tt.tr.full()
		for _, c := range []struct {
			name      string
			got, want float64
		}{{"seven days", slow, tt.slow}, {"six hours", fast, tt.fast}} {
			if math.Abs(c.got-c.want) > 0.01*c.want+1e-6 || math.IsNaN(c.got) != math.IsNaN(c.want) {
				t.Errorf("%s: full in %v days by the last %s, want %v", tt.name, c.got, c.name, c.want)
			}
		}
	}
	// Quiet for nine days, then a leak: six hours know, seven days hardly.
	leak := fill(9*24+3, func(h float64) float64 { return 50e9 - max(0, h-9*24)*5e9 })
	if slow, fast := leak.full(); fast > 0.7 || slow < 5*fast {
		t.Errorf("a leak of three hours: full in %v and %v days, want the six hours to see it first", slow, fast)
	}
	if len(leak.points) > trendPoints {
		t.Errorf("%d points are kept, want at most %d", len(leak.points), trendPoints)
	}
	leak.add(300*24*time.Hour, 10e9, 2*size)
	if slow, _ := leak.full(); !math.IsNaN(slow) || len(leak.points) != 1 {
		t.Errorf("another size did not begin anew: %v, %d points", slow, len(leak.points))
	}
}

func TestDisks(t *testing.T) {
	line := func(reads, readSectors, readTime, writes, writeSectors, writeTime, busy, queue, flushes, flushTime int) string {
		return fmt.Sprintf("   7 0 loop0 1 1 1 1 1 1 1 1 0 1 1\n 254 0 vda %d 0 %d %d %d 0 %d %d 0 %d %d 0 0 0 0 %d %d\n 254 1 vda1 1 1 1 1 1 1 1 1 0 1 1\n 253 0 dm-0 5 0 8 1 5 0 8 1 0 1 1\n 254 16 vdb 0 0 0 0 0 0 0 0 0 0 0\n",
			reads, readSectors, readTime, writes, writeSectors, writeTime, busy, queue, flushes, flushTime)
	}
	h := fakeMachine(t, map[string]string{"proc/diskstats": line(100, 1000, 50, 200, 4000, 600, 70, 80, 10, 20),
		"sys/block/vda/size": "1", "sys/block/vdb/size": "1", "sys/block/dm-0/size": "1", "sys/block/dm-0/dm/name": "big--group-root\n"})
	now := 1000 * time.Second
	h.Boot = func() time.Duration { return now }
	r, err := diskProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	read := func() map[string]float64 {
		t.Helper()
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return flatten(t, "disks", rs)
	}
	if got := read(); len(got) != 0 {
		t.Errorf("the first reading tells %v, want nothing", got)
	}
	for second := 1; second <= 9; second++ { // quiet, but for one bad second
		now += time.Second
		if second == 4 {
			writeFile(t, h.proc("diskstats"), line(100, 1000, 50, 202, 4000, 2600, 1070, 2080, 11, 920))
		}
		if got := read(); len(got) != 0 {
			t.Fatalf("second %d tells %v, want nothing before ten seconds have passed", second, got)
		}
	}
	now += time.Second
	writeFile(t, h.proc("diskstats"), line(100, 1000, 50, 210, 4400, 2608, 1080, 2090, 12, 921))
	got := read()
	wantValues(t, got, map[string]float64{
		"diskstats_latency.vda.avgwrwait": 2.008 / 10, "diskstats_latency.vda.avgrdwait": math.NaN(), "diskstats_latency.vda.avgwait": 2.008 / 10, "diskstats_latency.vda.avgflwait": 0.901 / 2,
		"diskstats_latency.vda.maxwrwait": 1, "diskstats_latency.vda.maxflwait": 0.9, "diskstats_latency.vda.maxrdwait": math.NaN(), "diskstats_latency.vda.svctm": 1.01 / 10,
		"diskstats_latency.vda_avgwait": 2.008 / 10, "diskstats_utilization.vda_util": 10.1, "diskstats_utilization.vda.maxutil": 100,
		"diskstats_throughput.vda.wrbytes": 512 * 400 / 10, "diskstats_throughput.vda.maxwrbytes": 512 * 400, "diskstats_throughput.vda_rdbytes": 0,
		"diskstats_iops.vda.wrio": 1, "diskstats_iops.vda.rdio": 0, "diskstats_iops.vda.flio": 0.2, "diskstats_iops.vda.avgwrrqsz": 512 * 400 / 10. / 1000, "diskstats_iops.vda.avgrdrqsz": math.NaN(),
		"diskstats_queue.vda_queue": 2.010 / 10, "diskstats_iops.big_group_root.wrio": 0,
	})
	for key := range got {
		if strings.Contains(key, "loop0") || strings.Contains(key, "vda1") || strings.Contains(key, "vdb") {
			t.Errorf("%s is told: a part, something in a file, or never used", key)
		}
	}
	// Counters that began anew are unknown for once.
	now += 10 * time.Second
	writeFile(t, h.proc("diskstats"), line(1, 8, 1, 1, 8, 1, 1, 1, 0, 0))
	wantValues(t, read(), map[string]float64{"diskstats_latency.vda.avgwrwait": math.NaN(), "diskstats_iops.vda.wrio": math.NaN(), "diskstats_utilization.vda.util": math.NaN()})
}

func TestGrown(t *testing.T) {
	for _, tt := range []struct {
		was, is uint64
		want    float64
	}{{5, 8, 3}, {5, 5, 0}, {1<<32 - 10, 5, 15}, {1 << 40, 5, math.NaN()}, {1000, 5, math.NaN()}} {
		if got := grown(tt.was, tt.is); got != tt.want && !(math.IsNaN(got) && math.IsNaN(tt.want)) {
			t.Errorf("grown(%d, %d) = %v, want %v", tt.was, tt.is, got, tt.want)
		}
	}
	for in, want := range map[string]string{"vg-root": "vg/root", "big--group-a--b": "big-group/a-b", "luks": "mapper/luks", "a--b": "mapper/a--b", "": "mapper/"} {
		if got := logicalVolume(in); got != want {
			t.Errorf("logicalVolume(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	head := "Inter-|   Receive                        |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	dev := func(in, out int) string {
		return head + "    lo: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n" + fmt.Sprintf("  eth0: %d 10 1 2 0 0 0 0 %d 20 3 4 0 5 0 0\n", in, out) +
			"eth1.7:9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\nveth12: 7 7 0 0 0 0 0 0 7 7 0 0 0 0 0 0\n  ens3: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  ifb0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
	}
	h := fakeMachine(t, map[string]string{"proc/net/dev": dev(1000, 500), "sys/class/net/eth0/speed": "-1\n", "sys/class/net/eth1.7/speed": "1000\n"})
	h.Capacity = map[string]float64{"ens3": 62.5e6, "ifb0": 1e6}
	now := time.Hour
	h.Boot = func() time.Duration { return now }
	got := taken(t, networkProbe, h)
	wantValues(t, got, map[string]float64{
		"if_eth0.down": 1000, "if_eth0.up": 500, "if_err_eth0.rcvd": 1, "if_err_eth0.rxdrop": 2, "if_err_eth0.trans": 3, "if_err_eth0.txdrop": 4, "if_err_eth0.collisions": 5,
		"if_packets_eth0.down": 10, "if_packets_eth0.up": 20, "if_eth1_7.down": 9, "if_capacity.ens3": 62.5e6, "if_capacity.eth1_7": 125e6, "if_ifb0.up": 1,
	})
	for _, no := range []string{"if_lo.down", "if_veth12.down", "if_capacity.eth0"} {
		if v, ok := got[no]; ok {
			t.Errorf("%s = %v, want nothing", no, v)
		}
	}
	d := held{p: &networkProbe, h: h}
	var rs []Reading
	for i, out := range []int{0, 300_000, 100_000_000, 100_000_000} { // 1 kB/s, then 332 kB/s, then nothing
		writeFile(t, h.proc("net/dev"), dev(10*i, out))
		var err error
		if rs, err = d.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		now += capacitySpan
	}
	wantValues(t, flatten(t, "network", rs), map[string]float64{"if_capacity.eth0": (100_000_000 - 300_000) / 300.})
	for _, rd := range rs {
		switch rd.Service.Name {
		case "if_capacity":
			if l, _ := rd.Service.Field("eth0").Get("label"); l != "eth0 (observed)" {
				t.Errorf("the label of eth0's capacity is %q, want it to say that it was observed", l)
			}
		case "if_eth0":
			if _, ok := rd.Service.Field("up").Get("max"); ok {
				t.Error("a card without a speed has a max")
			}
		case "if_eth1_7":
			if m, _ := rd.Service.Field("up").Get("max"); m != "1000000000" {
				t.Errorf("max of a card of 1000 Mbit/s is %q, want Munin's 1000000000", m)
			}
		case "if_ens3":
			if _, ok := rd.Service.Field("up").Get("max"); ok {
				t.Error("a capacity that is set has a max: what is above it would be unknown")
			}
			if info, _ := rd.Service.Field("up").Get("info"); !strings.Contains(info, "500 Mbit/s") {
				t.Errorf("the info of ens3 is %q, want its capacity of 500 Mbit/s", info)
			}
		}
	}
}

func TestSoftnetAndConntrack(t *testing.T) {
	h := fakeMachine(t, map[string]string{
		"proc/net/softnet_stat": "001431da 00000001 00000003 0 0\n00000010 00000002 00000001 0 0\n", "proc/sys/net/netfilter/nf_conntrack_count": "42\n",
		"proc/sys/net/netfilter/nf_conntrack_max": "262144\n", "proc/net/stat/nf_conntrack": "entries  insert_failed drop early_drop\n00000005  00000001 00000002 0000000a\n00000005  00000001 00000000 00000000\n",
	})
	wantValues(t, taken(t, softnetProbe, h), map[string]float64{"softnet.processed": 0x1431da + 0x10, "softnet.dropped": 3, "softnet.squeezed": 4})
	wantValues(t, taken(t, conntrackProbe, h), map[string]float64{"fw_conntrack.total": 42, "conntrack_errors.insert_failed": 2, "conntrack_errors.drop": 2, "conntrack_errors.early_drop": 10})
	if got, _ := describeConntrack(262144).Field("total").Get("warning"); got != "209715.2" {
		t.Errorf("warning of conntrack is %q, want 209715.2", got)
	}
}

func TestTCP(t *testing.T) {
	h := fakeMachine(t, map[string]string{
		"proc/net/snmp": "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts\n" +
			"Tcp: 1 -1 1369 952 38 1 2 100 200 7 8 9\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 10 11 12 13 14\n",
		"proc/net/netstat":  "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeouts TCPSynRetrans\nTcpExt: 21 22 23 24 25\nIpExt: InOctets\nIpExt: 5\n",
		"proc/net/sockstat": "sockets: used 71\nTCP: inuse 2 orphan 18 tw 16 alloc 63 mem 0\nUDP: inuse 4 mem 0\nFRAG: inuse 0 memory 0\n",
	})
	wantValues(t, taken(t, tcpProbe, h), map[string]float64{
		"netstat.active": 1369, "netstat.passive": 952, "netstat.failed": 38, "netstat.resets": 1, "netstat.established": 2, "netstat_established.established": 2,
		"tcp_retrans.sent": 200, "tcp_retrans.retrans": 7, "tcp_retrans.timeouts": 24, "tcp_retrans.synretrans": 25, "tcp_listen.overflows": 22, "tcp_listen.drops": 23, "tcp_listen.cookies": 21,
		"udp.in": 10, "udp.out": 13, "udp.rcvbuf": 14, "udp.noport": 11, "sockets.sockets_used": 71, "sockets.tcp_tw": 16, "sockets.udp_inuse": 4,
	})
}

func TestProcesses(t *testing.T) {
	stat := func(name, state string, nice int) string {
		return fmt.Sprintf("1 (%s) %s 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 %d 1 0 1\n", name, state, nice)
	}
	h := fakeMachine(t, map[string]string{
		"proc/1/stat": stat("init", "S", 0), "proc/2/stat": stat("kworker", "I", -20), "proc/30/stat": stat("a) R (b", "D", 0), "proc/31/stat": stat("x", "Z", 19),
		"proc/32/stat": stat("y", "R", 5), "proc/33/stat": stat("z", "t", 0), "proc/34/stat": "torn", "proc/35/cmdline": "no stat: it ended", "proc/net/dev": "", "proc/self/stat": stat("self", "R", 0),
	})
	wantValues(t, taken(t, processProbe, h), map[string]float64{
		"processes.processes": 6, "processes.sleeping": 1, "processes.idle": 1, "processes.uninterruptible": 1, "processes.zombie": 1, "processes.runnable": 1, "processes.stopped": 1,
		"proc_pri.high": 1, "proc_pri.low": 2,
	})
}

func TestUsers(t *testing.T) {
	record := func(typ byte, line string) string {
		b := make([]byte, utmpSize)
		b[0] = typ
		copy(b[utmpLine:], line)
		return string(b)
	}
	h := fakeMachine(t, map[string]string{"run/utmp": record(2, "~") + record(7, "tty1") + record(7, "pts/0") + record(7, "pts/1") + record(8, "pts/2") + record(7, ":0") + "torn"})
	wantValues(t, taken(t, usersProbe, h), map[string]float64{"users.tty": 1, "users.pts": 2, "users.X": 1, "users.pty": 0, "users.other": 0})
	h = fakeMachine(t, map[string]string{
		"run/systemd/sessions/1": "UID=0\nACTIVE=1\nSTATE=active\nCLASS=user\nTTY=/dev/pts/3\n", "run/systemd/sessions/2": "STATE=online\nCLASS=user\n",
		"run/systemd/sessions/3": "STATE=closing\nCLASS=user\nTTY=pts/4\n", "run/systemd/sessions/4": "STATE=active\nCLASS=manager\n", "run/systemd/sessions/4.ref": "",
	})
	wantValues(t, taken(t, usersProbe, h), map[string]float64{"users.pts": 1, "users.other": 1, "users.tty": 0})
}

// TestOffWithAReason takes away what each probe reads: it must say so in words, and not fail.
func TestOffWithAReason(t *testing.T) {
	files := map[string]string{
		"cpu": "proc/stat", "load": "proc/loadavg", "memory": "proc/meminfo", "vm": "proc/vmstat", "pressure": "proc/pressure/cpu", "filesystems": "proc/self/mountinfo", "disks": "proc/diskstats",
		"network": "proc/net/dev", "softnet": "proc/net/softnet_stat", "tcp": "proc/net/snmp", "conntrack": "proc/sys/net/netfilter/nf_conntrack_count", "processes": "proc/1/stat", "users": "run/utmp",
		"open_files": "proc/sys/fs/file-nr", "uptime": "proc/uptime",
	}
	for _, p := range hostProbes {
		name, ok := files[p.Name]
		if !ok {
			continue
		}
		d := held{p: &p, h: fakeMachine(t, nil)}
		_, err := d.read(t.Context())
		if why, off := IsOff(err); !off || why == "" {
			t.Errorf("%s without %s: %v, want off with a reason", p.Name, name, err)
		}
		if p.Name == "users" || p.Name == "filesystems" { // utmp may be empty, and so may a list of mounts
			continue
		}
		d = held{p: &p, h: fakeMachine(t, map[string]string{name: "Er war's, der das Lied gesungen\n\x00\xff"})}
		_, err = d.read(t.Context())
		if why, off := IsOff(err); !off || why == "" {
			t.Errorf("%s with nonsense in %s: %v, want off with a reason", p.Name, name, err)
		}
	}
	if os.Getuid() == 0 {
		return // root may read everything
	}
	h := fakeMachine(t, map[string]string{"proc/stat": ""})
	if err := os.Chmod(h.proc("stat"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := cpuProbe.New(h); !strings.Contains(fmt.Sprint(err), "may not be read") {
		t.Errorf("an unreadable file: %v", err)
	}
}

func TestFileIsBounded(t *testing.T) {
	h := fakeMachine(t, map[string]string{"proc/stat": strings.Repeat("x", maxFile+1), "proc/loadavg": strings.Repeat("1 ", 50_000)})
	if _, err := cpuProbe.New(h); err == nil {
		t.Error("a file of more than 4 MiB was read")
	}
	f := file{path: h.proc("loadavg")}
	if b, err := f.read(); err != nil || len(b) != 100_000 {
		t.Errorf("read %d bytes, %v; want 100000", len(b), err)
	}
	if _, err := (&file{path: h.Proc}).read(); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a folder was read: %v", err)
	}
}

func FuzzHostText(f *testing.F) {
	for _, s := range []string{
		"cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\nintr 5 6\nctxt 7\nprocesses 8\nprocs_running 1\nprocs_blocked 0\n", "0.10 0.20 0.30 2/345 678\n", "MemTotal: 1 kB\nMemFree: 1 kB\n",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0 avg60=0 avg300=0 total=18446744073709551616\n", "27 1 254:1 / /a\\040b rw shared:1 - ext4 /dev/vda1 rw\n",
		" 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n", "x|y\n face |bytes\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", "001431da 00000001 00000003\n",
		"Tcp: A MaxConn\nTcp: 1 -1\n", "TCP: inuse 2 orphan\n", "1 (a) b) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 -5 1 0 1\n", "STATE=active\nCLASS=user\nTTY=pts/3\n", "g-v", `a\134b\9`, "1h aligned",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseStat(b); ok && s.columns < 4 {
			t.Errorf("parseStat took %d columns", s.columns)
		}
		if load, _, ok := parseLoad(b); ok && (load[0] < 0 || math.IsNaN(load[0])) {
			t.Errorf("parseLoad gave %v", load)
		}
		tab := newTable("MemTotal", "MemFree", "Tcp.A", "Tcp.MaxConn")
		tab.read(b)
		tab.readPairs(b)
		if some, full := parsePressure(b); some.known && some.avg300 > 100 || full.known && full.avg300 > 100 {
			t.Errorf("parsePressure gave %v, %v", some, full)
		}
		for _, m := range parseMounts(b) {
			if m.at == "" || m.field() != fieldName(m.field()) && m.field() != "_root" {
				t.Errorf("parseMounts gave %+v", m)
			}
		}
		for rest := b; len(rest) > 0; {
			var line []byte
			line, rest = nextLine(rest)
			if name, _, ok := parseDisk(line); ok && name == "" {
				t.Errorf("parseDisk gave no name")
			}
		}
		all, _ := parseNetDev(b, func(name []byte) bool { return !isHidden(name) })
		for _, c := range all {
			if tail := fieldTail(c.name); strings.ContainsFunc(tail, func(r rune) bool { return r > unicode.MaxASCII || strings.ContainsRune(". -:\x00", r) }) {
				t.Errorf("an interface is named %q", tail)
			}
		}
		sumHex(b, 3)
		parseSockstat(b)
		if _, nice, ok := parseProcess(b); ok && (nice < -20 || nice > 19) {
			t.Errorf("parseProcess gave nice %d", nice)
		}
		parseUtmp(b)
		parseSession(b)
		if kind := loginKind(string(b)); !slices.Contains([]string{"tty", "pty", "pts", "X", "other"}, kind) {
			t.Errorf("loginKind gave %q", kind)
		}
		if v := logicalVolume(string(b)); !strings.Contains(v, "/") {
			t.Errorf("logicalVolume gave %q", v)
		}
		updateRate(string(b))
		grown(uint64(len(b)), 1<<31)
	})
}
