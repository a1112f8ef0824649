package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"iter"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/graph"
	"tocsin/internal/munin"
	"tocsin/internal/tsdb"
)

// Of the picture that is drawn: four curves of two years.
const (
	graphFields = 4
	graphYears  = 2
	graphTimes  = 20 // it is drawn, for the mean
)

// drawing measures what a year's picture costs, from the store of samples with two years in steps of five minutes, beside
// rrdtool graph on the same values in Munin's archives.
func drawing(ctx context.Context, b *bench) error {
	to := time.Now().Truncate(24 * time.Hour)
	from := to.Add(-graphYears * 365 * 24 * time.Hour)
	dir := filepath.Join(b.dir, "graph")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	db, err := tsdb.Open(ctx, tsdb.Options{Dir: filepath.Join(dir, "store"), Every: -1})
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Import(ctx, graphHistory(from, to)); err != nil {
		return err
	}
	s := &munin.Service{Name: "load", Attrs: []munin.Attr{{Name: "graph_title", Value: "A year"}}}
	for i := range graphFields {
		s.Fields = append(s.Fields, munin.Field{Name: graphField(i), Attrs: []munin.Attr{{Name: "label", Value: graphField(i)}}})
	}
	var svg, png bytes.Buffer
	draw := func(w *bytes.Buffer, how func(*graph.Graph) error) (time.Duration, error) {
		begin := cpuTime()
		for range graphTimes {
			w.Reset()
			length, step, _ := graph.Window("year")
			d := graph.Data{Service: s, From: to.Add(-length), To: to, Step: step, Points: map[string][]graph.Point{}}
			for i := range graphFields {
				points, err := db.Read(ctx, graphSeries(i), d.From, d.To, step)
				if err != nil {
					return 0, err
				}
				for _, p := range points {
					d.Points[graphField(i)] = append(d.Points[graphField(i)], graph.Point{T: p.T / 1000, Avg: p.Avg, Min: p.Min, Max: p.Max})
				}
			}
			g, err := graph.New(d, graph.Options{})
			if err != nil {
				return 0, err
			}
			if err := how(g); err != nil {
				return 0, err
			}
		}
		return (cpuTime() - begin) / graphTimes, nil
	}
	asSVG, err := draw(&svg, func(g *graph.Graph) error { return g.SVG(&svg) })
	if err != nil {
		return err
	}
	asPNG, err := draw(&png, func(g *graph.Graph) error { return g.PNG(&png) })
	if err != nil {
		return err
	}
	fmt.Printf("a year of %d curves from %d years in steps of 5 min, read and drawn:\n", graphFields, graphYears)
	fmt.Printf("  tocsin: SVG %.1f ms CPU, %d bytes, %d after gzip; PNG %.1f ms CPU, %d bytes\n", ms(asSVG), svg.Len(), gzipped(svg.Bytes()), ms(asPNG), png.Len())
	return drawingTheirs(ctx, dir, from, to)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func gzipped(data []byte) int {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data) // into memory
	_ = z.Close()
	return b.Len()
}

func graphField(i int) string { return fmt.Sprint("f", i) }

func graphSeries(i int) tocsin.Series {
	return tocsin.Series{Node: "web1", Service: "load", Field: graphField(i)}
}

// graphValue is a load that rises and falls with the day and the year.
func graphValue(i int, at time.Time) float64 {
	s := float64(at.Unix())
	return 2 + math.Sin(2*math.Pi*s/86400+float64(i)) + 0.5*math.Sin(2*math.Pi*s/86400/365) + 0.2*math.Mod(s*float64(i+3)/300*0.618, 1)
}

func graphHistory(from, to time.Time) iter.Seq2[tsdb.History, error] {
	return func(yield func(tsdb.History, error) bool) {
		for i := range graphFields {
			a := tsdb.Archive{Step: 5 * time.Minute, Of: tsdb.Average}
			for at := from; !at.After(to); at = at.Add(a.Step) {
				a.Rows = append(a.Rows, tsdb.Row{T: at.UnixMilli(), V: graphValue(i, at)})
			}
			if !yield(tsdb.History{Series: graphSeries(i), Archives: []tsdb.Archive{a}}, nil) {
				return
			}
		}
	}
}

// drawingTheirs has rrdtool draw the same, as munin-graph asks it to.
func drawingTheirs(ctx context.Context, dir string, from, to time.Time) error {
	if _, err := exec.LookPath("rrdtool"); err != nil {
		fmt.Println("  rrdtool: not installed")
		return nil
	}
	args := []string{"graph", "FILE", "--start", fmt.Sprint(to.Add(-400 * 24 * time.Hour).Unix()), "--end", fmt.Sprint(to.Unix()), "--width", "400", "--height", "175", "--slope-mode", "--title", "A year"}
	for i := range graphFields {
		file := filepath.Join(dir, graphField(i)+".rrd")
		create := []string{"create", file, "--start", fmt.Sprint(from.Unix() - 300), "--step", "300", "DS:42:GAUGE:600:U:U"}
		for _, cf := range []string{"AVERAGE", "MIN", "MAX"} {
			create = append(create, "RRA:"+cf+":0.5:1:576", "RRA:"+cf+":0.5:6:432", "RRA:"+cf+":0.5:24:540", "RRA:"+cf+":0.5:288:450")
			args = append(args, fmt.Sprintf("DEF:%s%d=%s:42:%s", strings.ToLower(cf[:2]), i, file, cf))
		}
		if out, err := exec.CommandContext(ctx, "rrdtool", create...).CombinedOutput(); err != nil {
			return fmt.Errorf("rrdtool create: %w: %s", err, out)
		}
		var update strings.Builder
		for at := from; !at.After(to); at = at.Add(5 * time.Minute) {
			fmt.Fprintf(&update, "update %s %d:%.4f\n", file, at.Unix(), graphValue(i, at))
		}
		cmd := exec.CommandContext(ctx, "rrdtool", "-")
		cmd.Stdin = strings.NewReader(update.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("rrdtool update: %w: %.200s", err, out)
		}
		args = append(args, fmt.Sprintf("LINE1:av%d#00%02X00:%s", i, 255-50*i, graphField(i)), fmt.Sprintf("GPRINT:av%d:LAST:%%6.2lf%%s", i),
			fmt.Sprintf("GPRINT:mi%d:MIN:%%6.2lf%%s", i), fmt.Sprintf("GPRINT:av%d:AVERAGE:%%6.2lf%%s", i), fmt.Sprintf("GPRINT:ma%d:MAX:%%6.2lf%%s\\j", i))
	}
	for _, format := range []string{"PNG", "SVG"} {
		args[1] = filepath.Join(dir, "theirs."+strings.ToLower(format))
		var cpu time.Duration
		for range graphTimes {
			cmd := exec.CommandContext(ctx, "rrdtool", append(args, "--imgformat", format)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("rrdtool graph: %w: %s", err, out)
			}
			u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		data, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		fmt.Printf("  rrdtool: %s %.1f ms CPU, a program's start with it, %d bytes, %d after gzip\n", format, ms(cpu/graphTimes), len(data), gzipped(data))
	}
	return nil
}
