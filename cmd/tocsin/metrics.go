package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"tocsin/internal/api"
)

type metricsCmd struct{}

func (*metricsCmd) Help() string {
	return "Example: tocsin metrics > /var/lib/prometheus/node-exporter/tocsin.prom"
}

// metrics is what `tocsin metrics --json` prints.
type metrics struct {
	Schema  string   `json:"schema"`
	Metrics []metric `json:"metrics"`
}

type metric struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
}

func (*metricsCmd) Run(e *env, guard *api.Client) error {
	var page bytes.Buffer
	if err := guard.Metrics(e.ctx, &page); err != nil {
		return err
	}
	if !e.flags.JSON {
		_, err := page.WriteTo(e.stdout)
		return err
	}
	ms, err := parseMetrics(page.String())
	if err != nil {
		return api.Errorf(api.ExitData, "are guard and command of the same version?", "read metrics: "+err.Error())
	}
	return e.print(metrics{Schema: "tocsin.metrics/1", Metrics: ms}, func(io.Writer) {})
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)`)
	unescape   = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")
)

// parseMetrics reads what a guard writes of Prometheus' text format
// (https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md): samples without times, whose
// values are finite. Anything else is an error: half an answer would look like a whole one.
func parseMetrics(page string) ([]metric, error) {
	ms := []metric{}
	n := 0
	for line := range strings.SplitSeq(page, "\n") {
		n++
		if line == "" || line[0] == '#' {
			continue
		}
		m, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func parseSample(line string) (metric, error) {
	parts := sampleLine.FindStringSubmatch(line)
	if parts == nil {
		return metric{}, fmt.Errorf("%.80q is no sample", line)
	}
	m := metric{Name: parts[1], Labels: map[string]string{}}
	var err error
	if m.Value, err = strconv.ParseFloat(parts[3], 64); err != nil || math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
		return m, fmt.Errorf("%.80q is no finite number", parts[3])
	}
	for rest := parts[2]; rest != ""; {
		pair := labelPair.FindStringSubmatch(rest)
		if pair == nil {
			return m, fmt.Errorf("%.80q are no labels", parts[2])
		}
		if _, twice := m.Labels[pair[1]]; twice {
			return m, fmt.Errorf("label %s stands twice", pair[1])
		}
		m.Labels[pair[1]] = unescape.Replace(pair[2])
		rest = rest[len(pair[0]):]
	}
	return m, nil
}
