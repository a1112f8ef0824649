package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin/internal/locale"
)

// TestContrast computes the contrast of every pair of colours that text is drawn with, in both themes: 4.5 to 1 is what
// WCAG asks for (1.4.3), and French law of public bodies.
func TestContrast(t *testing.T) {
	css, err := files.ReadFile("static/tocsin.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s):root[^{]*\{([^}]*--bg:[^}]*)\}`).FindAllStringSubmatch(string(css), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d themes", len(blocks))
	}
	n := 0
	for i, block := range blocks {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]+)`).FindAllStringSubmatch(block[1], -1) {
			colours[m[1]] = m[2]
		}
		for _, pair := range []string{"text bg", "text card", "text hover", "soft bg", "soft card", "soft hover", "link bg", "link card", "link hover", "good card", "good bg", "text good-bg",
			"warn card", "warn warn-bg", "bad card", "bad bad-bg", "bad hover", "on-accent accent", "card bad"} {
			front, back, _ := strings.Cut(pair, " ")
			if colours[front] == "" || colours[back] == "" {
				continue // paper has no more than it needs
			}
			n++
			if c := contrast(t, colours[front], colours[back]); c < 4.5 {
				t.Errorf("theme %d: %s has a contrast of %.2f", i, pair, c)
			}
		}
	}
	t.Logf("%d pairs", n)
	if n < 50 {
		t.Errorf("only %d pairs were found", n)
	}
}

// contrast is WCAG's (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio).
func contrast(t *testing.T, a, b string) float64 {
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	hex := colour[1:]
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}

// fifty is an overview of fifty servers with curves.
func fifty() *Overview {
	o := &Overview{At: time.Now(), Banned: 214}
	for i := range 50 {
		curve := func(k float64) []float64 {
			all := make([]float64, 48)
			for j := range all {
				all[j] = 40 + 30*math.Sin(float64(i*j)/9*k) + 10*math.Cos(float64(j*j+i))
			}
			return all
		}
		o.Rows = append(o.Rows, Row{Group: fmt.Sprintf("Provider %d", i/12), Name: fmt.Sprintf("server%d.asso.example", i), State: "ok",
			CPU: Meter{12, curve(1)}, Network: Meter{float64(i) * 1e6, curve(2)}, Bans: Meter{31, curve(3)}, Memory: 48, Disk: 61, DiskOf: "/var"})
	}
	return o
}

// TestWeights holds what a first visit to an overview of fifty servers costs, every file counted, and what one file may.
func TestWeights(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Overview = func(context.Context) (*Overview, error) { return fifty(), nil } })
	a := s.as("marie").get("/")
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	_, _ = z.Write([]byte(a.text))
	_ = z.Close()
	sum, all := packed.Len(), fmt.Sprintf("page %d", packed.Len())
	for _, name := range []string{"tocsin.css", "tocsin.js", "icon.svg"} {
		f := s.pages.static[name]
		if !strings.Contains(a.text, f.path) {
			t.Errorf("the page does not load %s", name)
		}
		sum += len(f.packed)
		all += fmt.Sprintf(", %s %d", name, len(f.packed))
	}
	t.Logf("%d bytes compressed (%s), %d raw", sum, all, len(a.text))
	if sum > 40<<10 {
		t.Errorf("an overview of 50 servers weighs %d bytes (%s), at most 40 KB", sum, all)
	}
	err := fs.WalkDir(files, "static", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() > 60<<10 {
			t.Errorf("%s: %d bytes, %v", path, info.Size(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkOverview draws an overview of fifty servers with curves.
func BenchmarkOverview(b *testing.B) {
	p, err := parsePages()
	if err != nil {
		b.Fatal(err)
	}
	o, l := fifty(), locale.Get("fr")
	b.ReportAllocs()
	for b.Loop() {
		f := &frame{Locale: l, Site: "Association Exemple", Now: o.At, Static: func(name string) string { return "/static/" + name }, Body: viewOverview(o, nil, l, o.At)}
		var out bytes.Buffer
		if err := p["overview"].ExecuteTemplate(&out, "frame.html", f); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSparkline(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		trend []float64
		top   float64
		want  string
	}{
		{nil, 100, ""},
		{[]float64{nan, nan}, 100, ""},
		{[]float64{0, 50, 100}, 100, "M0 19L48 10L96 1"},
		{[]float64{0, nan, 100}, 100, "M0 19M96 1"},
		{[]float64{1, 2}, 0, "M0 10L96 1"},
		{[]float64{0, 0}, 0, "M0 19L96 19"},
		{[]float64{-5, 500, math.Inf(1)}, 100, "M0 19L48 1"},
		{[]float64{7}, 0, "M0 1"},
	} {
		if got := sparkline(tt.trend, tt.top); got != tt.want {
			t.Errorf("sparkline(%v, %v): %q, want %q", tt.trend, tt.top, got, tt.want)
		}
	}
}
