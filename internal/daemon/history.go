package daemon

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/munin"
	"tocsin/internal/tsdb"
)

// This file is how the history of an older system comes into the store: it is read by whoever may read its files, and handed to
// the watch process.

// consolidations are the words of the stream.
var consolidations = map[string]tsdb.Consolidation{"average": tsdb.Average, "min": tsdb.Min, "max": tsdb.Max, "last": tsdb.Last}

// importHistory takes a stream of series into the store, and what describes them into the catalogue.
func (s *supervisor) importHistory(ctx context.Context, body io.Reader) (api.History, error) {
	in := bufio.NewReaderSize(body, 256<<10)
	all := func(yield func(tsdb.History, error) bool) {
		for {
			h, err := api.ReadHistory(in)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(tsdb.History{}, err)
				return
			}
			one := tsdb.History{Series: tocsin.Series{Group: h.Group, Node: h.Node, Service: h.Service, Field: h.Field}}
			for _, a := range h.Archives {
				of, ok := consolidations[a.Of]
				if !ok {
					continue // of the Holt-Winters kind: a forecast is no history
				}
				rows := make([]tsdb.Row, len(a.Rows))
				for i, r := range a.Rows {
					rows[i] = tsdb.Row{T: r.T, V: r.V}
				}
				one.Archives = append(one.Archives, tsdb.Archive{Step: time.Duration(a.Step) * time.Second, Of: of, Rows: rows})
			}
			s.describeHistory(h)
			if !yield(one, nil) {
				return
			}
		}
	}
	got, err := s.db.Import(ctx, all)
	s.known.save(ctx, false)
	if err != nil {
		return api.History{}, err
	}
	return api.History{Schema: api.SchemaHistory, Series: got.Series, Points: got.Points, Known: got.Known, Old: got.Old, Ahead: got.Ahead}, nil
}

// describeHistory makes a service known that nobody describes any more, so that its history can be found and drawn.
func (s *supervisor) describeHistory(h *api.HistorySeries) {
	desc := &munin.Service{Name: h.Service, Fields: []munin.Field{{Name: h.Field, Attrs: []munin.Attr{{Name: "label", Value: h.Field}}}}}
	if a := munin.ParseConfig(h.Service, []byte(h.Described)); len(a.Services) > 0 {
		desc = &a.Services[0]
		desc.Name = h.Service
	}
	s.known.describe(serverKey{h.Group, h.Node}, desc)
}

// describe makes a service known, and adds fields to one that was imported; one that is read describes itself.
func (c *catalogue) describe(key serverKey, desc *munin.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.server(key)
	if s == nil {
		return
	}
	k := s.services[desc.Name]
	switch {
	case k == nil && len(s.services) < mostOfServer, k != nil && k.desc == nil:
		k = &knownService{desc: desc, read: time.Now()}
		c.shape(key, k, desc)
		s.services[desc.Name] = k
	case k == nil, k.values != nil:
	default:
		whole := &munin.Service{Name: k.desc.Name, Host: k.desc.Host, Attrs: k.desc.Attrs, Fields: slices.Clone(k.desc.Fields)}
		for _, f := range desc.Fields {
			if whole.Field(f.Name) == nil {
				whole.Fields = append(whole.Fields, f)
			}
		}
		if len(whole.Fields) > len(k.desc.Fields) {
			k.desc, k.written = whole, time.Time{}
			c.shape(key, k, whole)
		}
	}
}

// HistoryFile is one file of an older system.
type HistoryFile struct {
	Path string
	tocsin.Series
	Described string
}

// HistoryTree lists what a Munin master keeps in its folder, and what of it cannot be read.
func HistoryTree(dir string) (files []HistoryFile, problems []munin.Problem, err error) {
	t, err := munin.ReadTree(dir)
	if err != nil {
		return nil, nil, err
	}
	for i := range t.Files {
		f := HistoryFile{Path: t.Files[i].Path, Series: t.Files[i].Series}
		if t.Files[i].Service != nil {
			f.Described = string(munin.AppendConfig(nil, t.Files[i].Service))
		}
		files = append(files, f)
	}
	// A field that changed its type has two files; they are of one series.
	slices.SortStableFunc(files, func(a, b HistoryFile) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service), strings.Compare(a.Field, b.Field))
	})
	return files, t.Problems, nil
}

// SendHistory hands the files to the watch process. told is called for each file that cannot be read; the others are taken.
func SendHistory(ctx context.Context, w *api.WatchClient, files []HistoryFile, told func(error)) (api.History, error) {
	return w.ImportHistory(ctx, func(to io.Writer) error {
		for i := 0; i < len(files); {
			h := &api.HistorySeries{Group: files[i].Group, Node: files[i].Node, Service: files[i].Service, Field: files[i].Field, Described: files[i].Described}
			for same := files[i].Series; i < len(files) && files[i].Series == same; i++ {
				if err := addRRD(h, files[i].Path); err != nil {
					told(err)
				}
			}
			if len(h.Archives) == 0 {
				continue
			}
			if err := api.WriteHistory(to, h); err != nil {
				return err
			}
		}
		return api.EndHistory(to)
	})
}

// addRRD adds the archives of an RRD file.
func addRRD(h *api.HistorySeries, path string) error {
	r, err := munin.OpenRRD(path)
	if err != nil {
		return err
	}
	for i := range r.Archives {
		a := &r.Archives[i]
		of := strings.ToLower(a.CF)
		if _, ok := consolidations[of]; !ok {
			continue
		}
		out := api.HistoryArchive{Step: a.Step, Of: of}
		for t, v := range a.Rows(0) {
			if !math.IsNaN(v) {
				out.Rows = append(out.Rows, api.HistoryRow{T: t * 1000, V: v})
			}
		}
		h.Archives = append(h.Archives, out)
	}
	return nil
}

// Bounds of a CSV file.
const (
	maxCSVRows = 1 << 22
	maxCSVGap  = 24 * time.Hour
)

// SendCSV hands a CSV file to the watch process: a time and a value in each row, RFC 3339 or Unix seconds, in order. A row
// stands for the usual time between two rows, a day at most.
func SendCSV(ctx context.Context, w *api.WatchClient, path string, as tocsin.Series) (api.History, error) {
	f, err := os.Open(path)
	if err != nil {
		return api.History{}, err
	}
	defer f.Close()
	rows, err := readCSV(f)
	if err != nil {
		return api.History{}, fmt.Errorf("%s:%w", path, err)
	}
	h := &api.HistorySeries{Group: as.Group, Node: as.Node, Service: as.Service, Field: as.Field, Archives: []api.HistoryArchive{{Step: stepOf(rows), Of: "average", Rows: rows}}}
	return w.ImportHistory(ctx, func(to io.Writer) error {
		if err := api.WriteHistory(to, h); err != nil {
			return err
		}
		return api.EndHistory(to)
	})
}

// readCSV reads times and values; a first row that has none is a heading. Errors begin with the line.
func readCSV(r io.Reader) (rows []api.HistoryRow, err error) {
	c := csv.NewReader(r)
	c.FieldsPerRecord, c.ReuseRecord, c.TrimLeadingSpace = -1, true, true
	for n := 1; ; n++ {
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf(" %w", err)
		}
		line, _ := c.FieldPos(0)
		if len(record) < 2 {
			return nil, fmt.Errorf("%d: a row is a time and a value", line)
		}
		at, ok := csvTime(record[0])
		v, err := strconv.ParseFloat(record[1], 64)
		switch {
		case n == 1 && !ok:
			continue
		case !ok:
			return nil, fmt.Errorf("%d: %.60q is no time: write 2026-11-22T10:00:00Z, or seconds since 1970", line, record[0])
		case record[1] == "" || record[1] == "U":
			continue // unknown
		case err != nil:
			return nil, fmt.Errorf("%d: %.60q is no number", line, record[1])
		case len(rows) > 0 && at <= rows[len(rows)-1].T:
			return nil, fmt.Errorf("%d: %s is not later than the row before", line, record[0])
		case len(rows) == maxCSVRows:
			return nil, fmt.Errorf("%d: more than %d rows", line, maxCSVRows)
		}
		rows = append(rows, api.HistoryRow{T: at, V: v})
	}
	if len(rows) == 0 {
		return nil, errors.New("1: no row with a time and a value")
	}
	return rows, nil
}

func csvTime(text string) (ms int64, ok bool) {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 && n < 1e11 {
		return int64(n * 1000), true
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, text, time.UTC); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// stepOf is the usual time between two rows, in seconds: the median, so that gaps do not count.
func stepOf(rows []api.HistoryRow) int64 {
	var gaps []int64
	for i := 1; i < len(rows); i++ {
		gaps = append(gaps, (rows[i].T-rows[i-1].T)/1000)
	}
	if len(gaps) == 0 {
		return 300
	}
	slices.Sort(gaps)
	return min(max(gaps[len(gaps)/2], 1), int64(maxCSVGap/time.Second))
}
