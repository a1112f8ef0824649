package api

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Metrics writes Prometheus' text exposition format. Values of one name may be added at different times; Flush puts them
// together, as the format asks for
// (https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md).
type Metrics struct {
	w        io.Writer
	families map[string]*family
	names    []string
}

type family struct {
	kind, help string
	lines      bytes.Buffer
}

// NewMetrics makes an empty page that Flush will write to w.
func NewMetrics(w io.Writer) *Metrics { return &Metrics{w: w, families: map[string]*family{}} }

// Counter adds the value of something that only grows. Labels are names and values in turn.
func (m *Metrics) Counter(name, help string, v float64, labels ...string) {
	m.add("counter", name, help, v, labels)
}

// Gauge adds the value of something that goes up and down.
func (m *Metrics) Gauge(name, help string, v float64, labels ...string) {
	m.add("gauge", name, help, v, labels)
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (m *Metrics) add(kind, name, help string, v float64, labels []string) {
	f := m.families[name]
	if f == nil {
		f = &family{kind: kind, help: help}
		m.families[name] = f
		m.names = append(m.names, name)
	}
	f.lines.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte('{')
		if i > 0 {
			sep = ','
		}
		fmt.Fprintf(&f.lines, `%c%s="%s"`, sep, labels[i], escapeLabel.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		f.lines.WriteByte('}')
	}
	fmt.Fprintf(&f.lines, " %s\n", strconv.FormatFloat(v, 'g', -1, 64))
}

// Flush writes the page, the names in alphabetical order.
func (m *Metrics) Flush() error {
	var page bytes.Buffer
	slices.Sort(m.names)
	for _, name := range m.names {
		f := m.families[name]
		fmt.Fprintf(&page, "# HELP %s %s\n# TYPE %s %s\n", name, f.help, name, f.kind)
		page.Write(f.lines.Bytes())
	}
	_, err := m.w.Write(page.Bytes())
	return err
}
