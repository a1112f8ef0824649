package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

func histories() []HistorySeries {
	return []HistorySeries{
		{Group: "Gandi;Paris", Node: "web1", Service: "df", Field: "_dev_vda1", Described: "graph_title \"Disk\"\nüber.label x\n", Archives: []HistoryArchive{
			{Step: 300, Of: "average", N: 2, Rows: []HistoryRow{{300_000, 1.5}, {600_000, math.Inf(1)}}}, {Step: 86400, Of: "max", N: 1, Rows: []HistoryRow{{86400_000, -2}}},
		}},
		{Node: "web1", Service: "load", Field: "load", Archives: []HistoryArchive{}},
	}
}

func stream(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, s := range histories() {
		if err := WriteHistory(&b, &s); err != nil {
			t.Fatal(err)
		}
	}
	if err := EndHistory(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(r io.Reader) (all []HistorySeries, err error) {
	b := bufio.NewReader(r)
	for {
		s, err := ReadHistory(b)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, *s)
	}
}

// What is written is read, and a stream that is cut anywhere is no whole one.
func TestHistory(t *testing.T) {
	whole := stream(t)
	if got, err := readAll(bytes.NewReader(whole)); err != nil || !reflect.DeepEqual(got, histories()) {
		t.Errorf("read %+v, %v", got, err)
	}
	for n := range whole {
		if _, err := readAll(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("cut at %d of %d bytes: no error", n, len(whole))
		}
	}
	for _, bad := range []string{
		`{"archives":[{"n":99999999}]}` + "\n", `{"archives":[{"n":-1}]}` + "\n", `{"strange":1}` + "\n", "no JSON\n", strings.Repeat("x", maxHistoryLine+100_000),
	} {
		if _, err := readAll(strings.NewReader(bad)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%.40q was read: %v", bad, err)
		}
	}
}

func TestImportHistory(t *testing.T) {
	var got []HistorySeries
	op := &SuperviseOperations{Import: func(_ context.Context, r io.Reader) (h History, err error) {
		got, err = readAll(r)
		return History{Schema: SchemaHistory, Series: len(got)}, err
	}}
	c := NewWatchClient(serveHandler(t, WatchHandler(WatchOperations{}, op)))
	h, err := c.ImportHistory(t.Context(), func(w io.Writer) error { _, err := w.Write(stream(t)); return err })
	if err != nil || h.Series != 2 || !reflect.DeepEqual(got, histories()) {
		t.Errorf("imported %+v, %v; arrived %+v", h, err, got)
	}
	torn := errors.New("the disk is gone")
	if _, err := c.ImportHistory(t.Context(), func(io.Writer) error { return torn }); err == nil {
		t.Error("a stream that could not be written was imported")
	}
}

func FuzzReadHistory(f *testing.F) {
	f.Add(stream(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readAll(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		for i := range all {
			if err := WriteHistory(&b, &all[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := EndHistory(&b); err != nil {
			t.Fatal(err)
		}
		if again, err := readAll(&b); err != nil || len(again) != len(all) {
			t.Errorf("%d series become %d, %v", len(all), len(again), err)
		}
	})
}
