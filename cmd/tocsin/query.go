package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/graph"
	"tocsin/internal/locale"
)

type queryCmd struct {
	Expr  string `arg:"" help:"A question in PromQL, like munin{service=\"load\"}."`
	Range string `help:"Ask for each step of a time: day, week, month, year, or a duration like 6h (default: for this moment)."`
	Step  string `placeholder:"DURATION" help:"Between two values of --range (default: some 20 of them)."`
	End   string `placeholder:"TIME" help:"The moment that is asked about, and where --range ends, like 2026-11-22T10:00:00Z (default: now)."`
}

func (*queryCmd) Help() string {
	return `Example: tocsin query 'max_over_time(munin{node="web1",service="load"}[1d])'` + "\n\nAsks the store of samples in Prometheus's language. Over the network the same is asked at /api/v1/query with a token."
}

// found is the answer to a question, of which the parts that are shown.
type found struct {
	Status string
	Data   struct {
		ResultType string
		Result     json.RawMessage
	}
}

func (k *queryCmd) Run(e *env) error {
	question, v, err := k.question(time.Now())
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	answer, err := watch.PromQL(e.ctx, question, v)
	if err != nil {
		return err
	}
	if e.flags.JSON {
		_, err := fmt.Fprintf(e.stdout, "%s\n", bytes.TrimSpace(answer))
		return err
	}
	return printFound(e.stdout, answer)
}

// valuesOfRange is how many values of each series a range has where nobody asks for a step.
const valuesOfRange = 20

// question is which of Prometheus's questions it is, and with what.
func (k *queryCmd) question(now time.Time) (string, url.Values, error) {
	v := url.Values{"query": {k.Expr}}
	end := now
	if k.End != "" {
		var err error
		if end, err = time.Parse(time.RFC3339, k.End); err != nil {
			return "", nil, api.Errorf(api.ExitUsage, "write it like 2026-11-22T10:00:00Z", fmt.Sprintf("end %q is no time", k.End))
		}
		v.Set("time", end.Format(time.RFC3339Nano))
	}
	if k.Range == "" {
		if k.Step != "" {
			return "", nil, api.Errorf(api.ExitUsage, "tocsin query EXPR --range day --step 1h", "--step needs --range")
		}
		return "query", v, nil
	}
	length, err := rangeArg(k.Range)
	if err != nil {
		return "", nil, err
	}
	step := max((length / valuesOfRange).Truncate(time.Second), time.Second)
	if k.Step != "" {
		if step, err = stepArg(k.Step); err != nil {
			return "", nil, err
		}
	}
	v.Del("time")
	v.Set("start", end.Add(-length).Format(time.RFC3339Nano))
	v.Set("end", end.Format(time.RFC3339Nano))
	v.Set("step", strconv.FormatFloat(step.Seconds(), 'f', -1, 64))
	return "query_range", v, nil
}

// printFound writes a line for each series: its labels, and its value.
func printFound(w io.Writer, answer []byte) error {
	var f found
	if err := json.Unmarshal(answer, &f); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	type pair [2]any
	var vector []struct {
		Metric map[string]string
		Value  pair
		Values []pair
	}
	switch f.Data.ResultType {
	case "scalar", "string":
		var p pair
		if err := json.Unmarshal(f.Data.Result, &p); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		fmt.Fprintln(w, tocsin.Printable(fmt.Sprint(p[1])))
		return nil
	}
	if err := json.Unmarshal(f.Data.Result, &vector); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(vector) == 0 {
		fmt.Fprintln(w, "nothing found")
		return nil
	}
	t := table(w)
	for _, s := range vector {
		name := metricText(s.Metric)
		if s.Values == nil {
			fmt.Fprintf(t, "%s\t%v\n", name, s.Value[1])
		}
		for _, v := range s.Values {
			at, _ := v[0].(float64)
			fmt.Fprintf(t, "%s\t%v\t%s\n", name, v[1], time.UnixMilli(int64(at*1000)).Local().Format(time.DateTime))
		}
	}
	return t.Flush()
}

// metricText names a series as PromQL does.
func metricText(m map[string]string) string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if name != "__name__" {
			labels = append(labels, fmt.Sprintf("%s=%q", name, m[name]))
		}
	}
	return tocsin.Printable(m["__name__"] + "{" + strings.Join(labels, ",") + "}")
}

type graphCmd struct {
	Server  string `arg:"" help:"The server, or GROUP/SERVER."`
	Service string `arg:"" help:"What is measured, as tocsin server names it."`
	Range   string `default:"day" help:"day, week, month, year, or a duration like 6h."`
	Step    string `placeholder:"DURATION" help:"Between two points (default: as many points as a line has room for)."`
	Output  string `short:"o" placeholder:"FILE" help:"Write it as a picture, NAME.svg or NAME.png, or as CSV; - is CSV on standard output."`
	Behind  string `placeholder:"DURATION" help:"Of a picture: draw also what was so long before (7d: a week ago)."`
	Lang    string `placeholder:"LANG" help:"Of a picture: en or fr (default: what the environment says)."`
	Dark    bool   `help:"Of a picture: light on dark. An SVG follows its reader's system otherwise, a PNG is light."`
	Width   int    `default:"500" help:"Of a picture, in pixels: 280 to 2000."`
}

func (*graphCmd) Help() string {
	return "Example: tocsin graph web1 load --range week -o load.svg\n\nDraws a service in the terminal, or writes it as a picture or as CSV: per field the average, minimum and maximum of each step."
}

// ranges are the times that have a name. A graph of one is as long as Munin's.
var ranges = map[string]time.Duration{"day": 24 * time.Hour, "week": 7 * 24 * time.Hour, "month": 31 * 24 * time.Hour, "year": 366 * 24 * time.Hour}

// rangeArg is how long a range is.
func rangeArg(text string) (time.Duration, error) {
	if length, ok := ranges[text]; ok {
		return length, nil
	}
	d, err := config.ParseDuration(text)
	if err != nil || d <= 0 || d == config.Forever {
		return 0, api.Errorf(api.ExitUsage, "write day, week, month, year, or a duration like 6h", fmt.Sprintf("range %q is no time", text))
	}
	return d, nil
}

func stepArg(text string) (time.Duration, error) {
	d, err := config.ParseDuration(text)
	if err != nil || d <= 0 || d == config.Forever {
		return 0, api.Errorf(api.ExitUsage, "write it like 5m", fmt.Sprintf("step %q is no duration", text))
	}
	return d, nil
}

func (k *graphCmd) Run(e *env) error {
	length, err := rangeArg(k.Range)
	if err != nil {
		return err
	}
	if munins, _, ok := graph.Window(k.Range); ok {
		length = munins
	}
	q := api.GraphQuery{Service: k.Service, To: time.Now().Truncate(time.Second)}
	q.Group, q.Server = serverName(k.Server)
	q.From = q.To.Add(-length)
	if k.Step != "" {
		if q.Step, err = stepArg(k.Step); err != nil {
			return err
		}
	} else if k.Output == "" {
		q.Step = max(length/(2*chartWidth), time.Second) // two dots a letter
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	if picture := filepath.Ext(k.Output); picture == ".svg" || picture == ".png" {
		return k.picture(e, watch, q)
	}
	g, err := watch.Graph(e.ctx, q)
	switch {
	case err != nil:
		return err
	case k.Output == "-":
		return writeCSV(e.stdout, &g)
	case k.Output != "":
		return saveCSV(k.Output, &g)
	}
	return e.print(g, func(w io.Writer) { printGraph(w, &g, q.From, q.To) })
}

// picture draws what the watch process tells.
func (k *graphCmd) picture(e *env, watch *api.WatchClient, q api.GraphQuery) error {
	q.Marks = true
	g, err := watch.Graph(e.ctx, q)
	if err != nil {
		return err
	}
	o := graph.Options{Width: k.Width, Subtitle: g.Server, Marks: g.DrawnMarks(), Locale: locale.Get(k.language())}
	if k.Dark {
		o.Theme = graph.Dark
	}
	d := g.Data()
	if k.Behind != "" {
		ago, err := stepArg(k.Behind)
		if err != nil {
			return err
		}
		before := q
		before.From, before.To, before.Marks, before.Step = q.From.Add(-ago), q.To.Add(-ago), false, d.Step
		ghost, err := watch.Graph(e.ctx, before)
		if err != nil {
			return err
		}
		d.Ghost, o.GhostName = ghost.Points(ago), o.Locale.T("graph.before", "for", o.Locale.Rough(ago))
	}
	drawn, err := graph.New(d, o)
	if err != nil {
		return err
	}
	for _, note := range drawn.Notes {
		fmt.Fprintln(e.stderr, note)
	}
	var b bytes.Buffer
	draw := drawn.SVG
	if filepath.Ext(k.Output) == ".png" {
		draw = drawn.PNG
	}
	if err := draw(&b); err != nil {
		return err
	}
	return os.WriteFile(k.Output, b.Bytes(), 0o644)
}

// language is the one that is asked for, or that of the environment.
func (k *graphCmd) language() string {
	return cmp.Or(k.Lang, os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"), "en")
}

func saveCSV(path string, g *api.Graph) error {
	var b bytes.Buffer
	if err := writeCSV(&b, g); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// writeCSV writes a row for each step: its end, and per field average, minimum and maximum. What is unknown is empty.
func writeCSV(w io.Writer, g *api.Graph) error {
	c := csv.NewWriter(w)
	head := []string{"time"}
	times := map[int64]bool{}
	points := make([]map[int64]api.GraphPoint, len(g.Fields))
	for i, f := range g.Fields {
		head = append(head, f.Name, f.Name+":min", f.Name+":max")
		points[i] = make(map[int64]api.GraphPoint, len(f.Points))
		for _, p := range f.Points {
			points[i][p.T] = p
			times[p.T] = true
		}
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, t := range slices.Sorted(maps.Keys(times)) {
		row := []string{time.Unix(t, 0).UTC().Format(time.RFC3339)}
		for i := range g.Fields {
			p, ok := points[i][t]
			for _, v := range []float64{p.Avg, p.Min, p.Max} {
				cell := ""
				if ok {
					cell = strconv.FormatFloat(v, 'g', -1, 64)
				}
				row = append(row, cell)
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
