package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"tocsin/internal/firewall"
	"tocsin/internal/list"
)

// lists measures a list from its text to the kernel. Each program runs in a network namespace of its own. Ours also takes
// a second edition in place of the first, while it watches the table as the guard does.
func lists(ctx context.Context, b *bench) error {
	if err := exec.Command("unshare", "-n", "nft", "list", "ruleset").Run(); err != nil {
		fmt.Println("needs root, unshare and nft:", err)
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "list\tprogram\tCPU s\twall s\tpeak RSS MB\t")
	for _, l := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"500000 addresses", spread(500_000, 7001, 32)}, {"50000 prefixes", spread(50_000, 1<<16, 20)}} {
		files, err := writeList(b.dir, l.prefixes)
		if err != nil {
			return err
		}
		for _, p := range []struct {
			name string
			argv []string
		}{
			{"tocsin", []string{self, "-list", files.text}},
			{"tocsin, a new edition", []string{self, "-list", files.text + "," + files.next}},
			{"nft -f", []string{"nft", "-f", files.nft}},
			{"ipset restore", []string{"ipset", "restore", "-file", files.ipset}},
		} {
			if _, err := exec.LookPath(p.argv[0]); err != nil {
				fmt.Fprintf(t, "%s\t%s\tnot installed\t\t\t\n", l.name, p.name)
				continue
			}
			u, err := best(3, func() (usage, error) { return measureList(ctx, p.argv) })
			if err != nil {
				return err
			}
			fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.1f\t\n", l.name, p.name, u.cpu.Seconds(), u.wall.Seconds(), float64(u.peakKB)/1024)
		}
	}
	return t.Flush()
}

// measureList runs a program without a network. One that tells what its last step cost is believed.
func measureList(ctx context.Context, argv []string) (usage, error) {
	u, err := measure(ctx, "", "unshare", append([]string{"-n"}, argv...)...)
	var told struct{ Wall, CPU time.Duration }
	if err == nil && json.Unmarshal(u.stdout, &told) == nil {
		u.wall, u.cpu = told.Wall, told.CPU
	}
	return u, err
}

// spread makes n networks, of which the first addresses lie step apart, leaving out what is not public. They have bits bits
// or up to eight more, or all.
func spread(n, step, bits int) []netip.Prefix {
	var firsts []byte // octets of addresses of which all are public
	for o := byte(1); o < 224; o++ {
		if !slices.Contains([]byte{10, 100, 127, 169, 172, 192, 198, 203}, o) {
			firsts = append(firsts, o)
		}
	}
	var ps []netip.Prefix
	for i := range n {
		x := i * step
		a := netip.AddrFrom4([4]byte{firsts[x>>24], byte(x >> 16), byte(x >> 8), byte(x)})
		ps = append(ps, netip.PrefixFrom(a, min(bits+i%9, 32)).Masked())
	}
	return ps
}

// listFiles are the same list for each program, and for ours its next edition.
type listFiles struct{ text, next, nft, ipset string }

func writeList(dir string, ps []netip.Prefix) (listFiles, error) {
	files := listFiles{filepath.Join(dir, "list"), filepath.Join(dir, "next"), filepath.Join(dir, "list.nft"), filepath.Join(dir, "list.ipset")}
	flags, kind := "", "hash:ip"
	if !ps[0].IsSingleIP() {
		flags, kind = "flags interval;", "hash:net"
	}
	var texts []string
	for _, p := range ps {
		texts = append(texts, strings.TrimSuffix(p.String(), "/32"))
	}
	nft := "table inet bench { set l { type ipv4_addr; " + flags + " elements = {\n" + strings.Join(texts, ",\n") + "\n} }\n" +
		"chain c { type filter hook prerouting priority raw; ip saddr @l drop; }; }\n"
	ipset := fmt.Sprintf("create l %s maxelem %d\nadd l %s\n", kind, len(ps), strings.Join(texts, "\nadd l "))
	return files, errors.Join(
		os.WriteFile(files.text, []byte(strings.Join(texts, "\n")+"\n"), 0o600),
		os.WriteFile(files.next, []byte(strings.Join(texts[len(texts)/50:], "\n")+"\n"), 0o600), // 2 % are gone
		os.WriteFile(files.nft, []byte(nft), 0o600),
		os.WriteFile(files.ipset, []byte(ipset), 0o600))
}

// setLists is the other end of lists: it puts one file after the other in force, in the kernel's network namespace that it
// was started in. If there are several it prints what the last of them cost.
func setLists(ctx context.Context, names []string) error {
	f, err := firewall.Open(firewall.Options{})
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Restore(nil, nil, time.Now()); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { _ = f.Watch(ctx, func() bool { return true }) })
	defer watch.Wait()
	defer stop()
	for i, name := range names {
		begin, before := time.Now(), ownCPU()
		if err := setList(f, name); err != nil {
			return err
		}
		if i > 0 && i == len(names)-1 {
			err := json.NewEncoder(os.Stdout).Encode(map[string]time.Duration{"Wall": time.Since(begin), "CPU": ownCPU() - before})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func setList(f *firewall.Firewall, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := list.Parse(bufio.NewReader(file), 500_000)
	if err != nil {
		return err
	}
	ps := slices.AppendSeq(make([]netip.Prefix, 0, parsed.Set.Len()), parsed.Set.All())
	return f.SetList(firewall.List{Name: "bench", Prefixes: ps})
}

// ownCPU is the processor time of this process, the kernel's work for it included.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
