package graph

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
	"time"
)

// Table is what is drawn, as numbers: a row for each step in which something is known.
type Table struct {
	Names  []string // of the fields, in the order of drawing
	Labels []string
	Rows   []TableRow
}

// TableRow is a step.
type TableRow struct {
	T      int64        // its end, Unix seconds
	Values [][3]float64 // average, minimum, maximum of each field after cdef, NaN where unknown
}

// Table is what is drawn, as numbers. A mirrored field stands before the one above it.
func (g *Graph) Table() Table {
	var t Table
	var all []*values
	for i := range g.curves {
		c := &g.curves[i]
		if c.negative != nil {
			t.Names, t.Labels = append(t.Names, c.name+":negative"), append(t.Labels, c.label+" (−)")
			all = append(all, c.negative)
		}
		t.Names, t.Labels = append(t.Names, c.name), append(t.Labels, c.label)
		all = append(all, &c.values)
	}
	for i := range g.grid.n {
		row := TableRow{T: min(g.grid.first+int64(i)*g.grid.step, g.d.To.Unix()), Values: make([][3]float64, len(all))}
		known := false
		for j, v := range all {
			row.Values[j] = [3]float64{v.avg[i], v.min[i], v.max[i]}
			known = known || !math.IsNaN(v.avg[i])
		}
		if known {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// CSV writes the table: the end of each step in UTC, and per field the average, minimum and maximum. What is unknown is
// empty.
func (g *Graph) CSV(w io.Writer) error {
	t := g.Table()
	c := csv.NewWriter(w)
	head := []string{"time"}
	for _, name := range t.Names {
		head = append(head, name, name+":min", name+":max")
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, r := range t.Rows {
		line := []string{time.Unix(r.T, 0).UTC().Format(time.RFC3339)}
		for _, three := range r.Values {
			for _, v := range three {
				cell := ""
				if !math.IsNaN(v) {
					cell = strconv.FormatFloat(v, 'g', -1, 64)
				}
				line = append(line, cell)
			}
		}
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
