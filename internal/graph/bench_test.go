package graph

import (
	"bytes"
	"testing"
)

func BenchmarkYear(b *testing.B) {
	for _, m := range demos {
		if m.length != year {
			continue
		}
		d, o := m.make(b)
		draw := func(name string, how func(*Graph, *bytes.Buffer) error) {
			b.Run(m.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				var w bytes.Buffer
				for b.Loop() {
					w.Reset()
					g, err := New(d, o)
					if err != nil {
						b.Fatal(err)
					}
					if err := how(g, &w); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		draw("svg", func(g *Graph, w *bytes.Buffer) error { return g.SVG(w) })
		draw("png", func(g *Graph, w *bytes.Buffer) error { return g.PNG(w) })
	}
}
