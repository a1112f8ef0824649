package probe

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/munin"
)

// fakeMachine makes a machine of files: "proc/stat", "sys/block/vda/size", "etc/fstab".
func fakeMachine(t testing.TB, files map[string]string) *Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		writeFile(t, filepath.Join(root, name), text)
	}
	start := time.Now()
	return &Host{Proc: filepath.Join(root, "proc"), Sys: filepath.Join(root, "sys"), Root: root, Now: time.Now, Boot: func() time.Duration { return time.Hour + time.Since(start) }}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// taken reads a probe twice, and returns the second time as "service.field" and its value.
func taken(t *testing.T, p Probe, h *Host) map[string]float64 {
	t.Helper()
	d := held{p: &p, h: h}
	if _, err := d.read(t.Context()); err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	rs, err := d.read(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	return flatten(t, p.Name, rs)
}

// flatten also checks what holds for every reading.
func flatten(t *testing.T, name string, rs []Reading) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for _, rd := range rs {
		s := rd.Service
		for _, want := range []string{"graph_title", "graph_category"} {
			if _, ok := s.Get(want); !ok {
				t.Errorf("%s: the service %s has no %s", name, s.Name, want)
			}
		}
		for _, f := range s.Fields {
			if f.Name != fieldName(f.Name) {
				t.Errorf("%s: %s.%s is no name of a field", name, s.Name, f.Name)
			}
			if _, ok := f.Get("label"); !ok {
				t.Errorf("%s: %s.%s has no label", name, s.Name, f.Name)
			}
		}
		for _, v := range rd.Values {
			key := s.Name + "." + v.Field
			if s.Field(v.Field) == nil {
				t.Errorf("%s: %s has a value and no description", name, key)
			}
			if _, twice := got[key]; twice {
				t.Errorf("%s: %s has two values", name, key)
			}
			if math.IsInf(v.V, 0) {
				t.Errorf("%s: %s is %v", name, key, v.V)
			}
			got[key] = v.V
		}
	}
	return got
}

// TestProbesOfThisMachine reads everything that is there.
func TestProbesOfThisMachine(t *testing.T) {
	h := NewHost()
	services := map[string]string{}
	for _, p := range hostProbes {
		d := held{p: &p, h: h}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err := d.read(ctx)
		rs, err2 := d.read(ctx)
		cancel()
		if err == nil {
			err = err2
		}
		if why, off := IsOff(err); off {
			t.Logf("%s is off: %s", p.Name, why)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		flatten(t, p.Name, rs)
		for _, rd := range rs {
			if other, ok := services[rd.Service.Name]; ok {
				t.Errorf("the service %s comes from %s and from %s", rd.Service.Name, other, p.Name)
			}
			services[rd.Service.Name] = p.Name
		}
	}
	for _, want := range []string{"cpu", "load", "memory", "uptime"} {
		if services[want] == "" {
			t.Errorf("no service %s on this machine", want)
		}
	}
}

// TestDescriptionsAreMunins compares ours with what Munin's plugins answered on a machine: titles, and types, bounds and drawing
// of the fields, so that imported history and an old master go on with ours.
func TestDescriptionsAreMunins(t *testing.T) {
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of Munin's plugins")
	}
	ours := recorded(t)
	// What is left out on purpose: fields that would cost too much for what they say.
	without := map[string]bool{
		"proc_pri.locked": true, "fw_conntrack.established": true, "fw_conntrack.fin_wait": true, "fw_conntrack.time_wait": true, "fw_conntrack.syn_sent": true,
		"fw_conntrack.udp": true, "fw_conntrack.assured": true, "fw_conntrack.nated": true,
		"df_inode.devtmpfs": true, "df_abs.devtmpfs__dev": true, "df_abs.tools__mnt_tools": true, "df.tools": true, "df_inode.tools": true,
		"df._sys_fs_cgroup": true, "df_inode._sys_fs_cgroup": true, "df_abs.tmpfs__sys_fs_cgroup": true,
	}
	compared, same := 0, 0
	for _, set := range []string{"default/cpu", "default/df", "default/df_inode", "default/diskstats", "default/forks", "default/fw_conntrack", "default/if_eth0", "default/if_err_eth0",
		"default/interrupts", "default/load", "default/memory", "default/netstat", "default/open_files", "default/open_inodes", "default/proc_pri", "default/processes",
		"default/swap", "default/threads", "default/uptime", "default/users", "default/vmstat", "full/tcp", "full/df_abs"} {
		text, err := os.ReadFile(filepath.Join(dir, "munin/captures", set+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range muninAnswers(string(text)) {
			mine := ours[want.Name]
			if mine == nil {
				t.Errorf("no service %s among ours", want.Name)
				continue
			}
			for _, a := range want.Attrs {
				if slices.Contains([]string{"graph_info", "graph_args", "graph_order"}, a.Name) {
					continue // in our own words, or of that machine
				}
				compared++
				if got, _ := mine.Get(a.Name); got != a.Value {
					t.Errorf("%s %s is %q, want %q", want.Name, a.Name, got, a.Value)
					continue
				}
				same++
			}
			for _, f := range want.Fields {
				if without[want.Name+"."+f.Name] {
					continue
				}
				mf := mine.Field(f.Name)
				compared++
				if mf == nil {
					t.Errorf("%s has no field %s", want.Name, f.Name)
					continue
				}
				same++
				for _, attr := range []string{"type", "min", "max", "cdef", "negative", "graph", "draw", "label", "colour"} {
					got, _ := mf.Get(attr)
					w, _ := f.Get(attr)
					if f.Name == "total" && attr == "graph" { // the others that would be drawn are left out
						continue
					}
					compared++
					if got != w {
						t.Errorf("%s.%s: %s is %q, want %q", want.Name, f.Name, attr, got, w)
						continue
					}
					same++
				}
			}
		}
	}
	t.Logf("%d of %d titles, fields and attributes as Munin's", same, compared)
}

// recorded are our descriptions on a machine like that of the recorded answers.
func recorded(t *testing.T) map[string]*munin.Service {
	t.Helper()
	h := fakeMachine(t, map[string]string{
		"proc/stat":            "cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1 2\nctxt 3\nbtime 4\nprocesses 5\nprocs_running 2\nprocs_blocked 0\n",
		"proc/loadavg":         "2.10 2.56 2.77 3/218 12345\n",
		"proc/vmstat":          "pswpin 0\npswpout 0\noom_kill 0\n",
		"proc/uptime":          "3456.78 100.00\n",
		"proc/sys/fs/file-nr":  "916\t0\t2466190\n",
		"proc/sys/fs/inode-nr": "399822\t0\n",
		"proc/diskstats":       " 254       0 vda 3153222 467511 198052818 3597360 1961003 787252 117070200 965538 0 465564 4738316 1118121 185 81157096 132405 498035 43011\n",
		"sys/block/vda/size":   "1\n",
		"proc/net/dev":         "Inter-| Receive\n face |bytes packets\n  eth0: 314749499   19417    0    0    0     0          0         0  1682718   15464    0    0    0     0       0          0\n",
		"proc/net/snmp":        "Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab\nTcp: 1369 952 38 1 2\n",
		"proc/sys/net/netfilter/nf_conntrack_count": "0\n", "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
		"proc/1/stat":         "1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 1\n",
		"proc/self/mountinfo": "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n28 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw\n",
		"run/utmp":            "",
		"proc/meminfo": "MemTotal: 24683656 kB\nMemFree: 1000 kB\nMemAvailable: 2000 kB\nBuffers: 1 kB\nCached: 5 kB\nSwapCached: 0 kB\nActive: 1 kB\nInactive: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n" +
			"Dirty: 1 kB\nWriteback: 0 kB\nMapped: 1 kB\nShmem: 1 kB\nSlab: 1 kB\nPageTables: 1 kB\nPercpu: 1 kB\nVmallocUsed: 1 kB\nCommitted_AS: 1 kB\n",
	})
	all := map[string]*munin.Service{}
	for _, p := range hostProbes {
		switch p.Name {
		case "clock", "tcp_states":
			continue
		}
		d := held{p: &p, h: h}
		for range 2 {
			rs, err := d.read(t.Context())
			if _, off := IsOff(err); err != nil && !off {
				t.Fatal(err)
			}
			for _, rd := range rs {
				all[rd.Service.Name] = rd.Service
			}
		}
		if r, ok := d.r.(*diskReader); ok { // tells in its interval only
			for _, s := range []diskServices{r.desc, r.known["vda"].desc} {
				for _, s := range []*munin.Service{s.latency, s.utilization, s.throughput, s.iops} {
					all[s.Name] = s
				}
			}
		}
	}
	all["tcp"] = tcpStatesService
	return all
}

// muninAnswers are the services of a recorded "config".
func muninAnswers(text string) []*munin.Service {
	var all []*munin.Service
	name, lines := "", []string(nil)
	end := func() {
		if len(lines) > 0 {
			all = append(all, describe(name, strings.Join(lines, "\n")))
		}
		lines = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "> config "); ok {
			name = rest
			continue
		}
		if strings.HasPrefix(line, "> fetch") {
			break
		}
		line = strings.TrimRight(strings.TrimPrefix(line, "< "), " ")
		if rest, ok := strings.CutPrefix(line, "multigraph "); ok {
			end()
			name = rest
			continue
		}
		if line != "." {
			lines = append(lines, line)
		}
	}
	end()
	return all
}

func TestFieldName(t *testing.T) {
	for in, want := range map[string]string{"/dev/vda1": "_dev_vda1", "9bad-name": "_bad_name", "cpu0": "cpu0", "": "_", "root": "_root", "é": "__", "nas:/srv": "nas__srv"} {
		if got := fieldName(in); got != want {
			t.Errorf("fieldName(%q) = %q, want %q", in, got, want)
		}
	}
}

// BenchmarkRound reads every probe of the host once, as every ten seconds; what is read every minute or second counts as often.
func BenchmarkRound(b *testing.B) {
	h := NewHost()
	type turn struct {
		d    *held
		name string
	}
	var all []turn
	for _, p := range hostProbes {
		d := &held{p: &p, h: h}
		if _, err := d.read(b.Context()); err != nil {
			continue
		}
		all = append(all, turn{d, p.Name})
	}
	readings := 0
	round := func(t turn) {
		rs, err := t.d.read(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		readings += len(rs)
	}
	for _, t := range all {
		b.Run(t.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				round(t)
			}
		})
	}
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			for _, t := range all {
				switch every := t.d.p.Interval; {
				case every == time.Second:
					for range 10 {
						round(t)
					}
				case every <= 10*time.Second, i%int(every/(10*time.Second)) == 0:
					round(t)
				}
			}
			i++
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/10_000*100, "%core-at-10s")
	})
}

func contextOf(t *testing.T, long time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), long)
}
