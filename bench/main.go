// Command bench measures Tocsin beside its peers on this machine, in one run, and prints a table.
//
// It owns the measuring, not the judging: it fails only where a figure cannot be had. Times are of shared machines and
// differ from run to run; the columns of one run may be compared, CPU seconds rather than wall time. Records of runs, with
// machine and date, lie beside it as *.txt.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one thing to measure.
type part struct {
	name string
	f    func(context.Context, *bench) error
}

var parts = []part{
	{"replay", replay},
	{"hostile", hostile},
	{"latency", latency},
	{"idle", idle},
	{"list", lists},
	{"reports", reports},
	{"samples", samples},
	{"poll", poll},
	{"hub", hub},
	{"import", importYear},
	{"drawing", drawing},
	{"alerts", alerts},
}

// bench is what the parts share.
type bench struct {
	tocsin  string // the program
	dir     string // for files, gone at the end
	lines   int    // of the big log
	minutes int    // of samples
}

func run(ctx context.Context) error {
	b := &bench{}
	only := flag.String("only", "", "measure only this `part`: replay, hostile, latency, idle, list, reports, samples, poll, hub, import, drawing, alerts")
	flag.StringVar(&b.tocsin, "tocsin", "bin/tocsin", "the `program` to measure")
	flag.IntVar(&b.lines, "lines", 1_000_000, "`lines` of the log to replay")
	flag.IntVar(&b.minutes, "minutes", 10, "`minutes` of a hub's samples")
	store := flag.String("store", "", "what the parts poll and hub start: do what the arguments say with this `folder` or file")
	inForce := flag.String("list", "", "what the part list starts: put these `files` in force, one after the other, here")
	flag.Parse()
	if *store != "" {
		return storePart(ctx, *store, flag.Args())
	}
	if *inForce != "" {
		return setLists(ctx, strings.Split(*inForce, ","))
	}

	var err error
	if b.tocsin, err = filepath.Abs(b.tocsin); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "tocsin-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)

	fmt.Println(machine())
	for _, p := range parts {
		if *only != "" && *only != p.name {
			continue
		}
		fmt.Printf("\n%s\n", strings.ToUpper(p.name))
		if err := p.f(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// machine names what was measured on, as far as the kernel tells.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	var u syscall.Utsname
	kernel := "unknown"
	if syscall.Uname(&u) == nil {
		kernel = utsString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d x %s, Linux %s, %s", time.Now().Format(time.DateOnly), runtime.NumCPU(), model, kernel, runtime.Version())
}

func utsString(field []int8) string {
	var b strings.Builder
	for _, c := range field {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
