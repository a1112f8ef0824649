package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkContainers reads made-up containers, as many as a machine of a provider has, and as many as are read at most.
func BenchmarkContainers(b *testing.B) {
	for _, n := range []int{20, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			src := unpack(b, "testdata/containers/v2.txtar")
			dir := b.TempDir()
			one := filepath.Join(src, "sys/fs/cgroup/lxc.payload.mail-1")
			if err := os.CopyFS(dir+"/proc", os.DirFS(src+"/proc")); err != nil {
				b.Fatal(err)
			}
			for i := range n {
				box := fmt.Sprintf("%s/sys/fs/cgroup/lxc.payload.c%d", dir, i)
				pid := fmt.Sprint(1000 + i)
				if err := os.CopyFS(box, os.DirFS(one)); err != nil {
					b.Fatal(err)
				}
				for name, text := range map[string]string{
					box + "/init.scope/cgroup.procs": pid, dir + "/proc/" + pid + "/cgroup": fmt.Sprintf("0::/lxc.payload.c%d/init.scope\n", i),
					dir + "/proc/" + pid + "/status": "NSpid: " + pid + " 1\n", dir + "/sys/fs/cgroup/cgroup.controllers": "",
				} {
					if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
						b.Fatal(err)
					}
					if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
						b.Fatal(err)
					}
				}
				net, err := os.ReadFile(src + "/proc/200/net/dev")
				if err != nil {
					b.Fatal(err)
				}
				ns := dir + "/proc/" + pid
				if err := os.MkdirAll(ns+"/ns", 0o755); err != nil {
					b.Fatal(err)
				}
				if err := os.MkdirAll(ns+"/net", 0o755); err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(ns+"/net/dev", net, 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.Symlink("net:["+pid+"]", ns+"/ns/net"); err != nil {
					b.Fatal(err)
				}
			}
			r, err := containersProbe.New(hostAt(dir))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := r.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Read(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
