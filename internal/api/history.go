package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"
)

// This file holds how the history of an older system is handed to the watch process: a stream of series. Each begins with a
// line of JSON, and its rows follow as pairs of 8 bytes, little endian: Unix milliseconds and a double. A last line says that
// nothing is missing.

// SchemaHistory is that of the answer.
const SchemaHistory = "tocsin.history/1"

// importPath is where it is put. No time limit of other requests holds there.
const importPath = "/v1/import"

// Bounds of the stream, which only root and the watch process's own user may send.
const (
	maxHistoryLine = 1 << 20 // bytes
	maxHistoryRows = 1 << 24 // of one series
	maxArchives    = 100     // of one series
	historyTime    = 30 * time.Minute
)

// HistorySeries is what an older system kept of one field.
type HistorySeries struct {
	Group     string           `json:"group"`
	Node      string           `json:"node"`
	Service   string           `json:"service"`
	Field     string           `json:"field"`
	Described string           `json:"described,omitempty"` // the service, as a plugin answers to config; "" if nobody knows
	Archives  []HistoryArchive `json:"archives"`
	End       bool             `json:"end,omitempty"`
}

// HistoryArchive is one table of it.
type HistoryArchive struct {
	Step int64        `json:"step"` // seconds that a row stands for
	Of   string       `json:"of"`   // average, min, max, last
	N    int          `json:"n"`
	Rows []HistoryRow `json:"-"`
}

// HistoryRow is one value; it stands for the step that ends at T.
type HistoryRow struct {
	T int64 // Unix milliseconds
	V float64
}

// History is what an import did.
type History struct {
	Schema string `json:"schema"`
	Series int    `json:"series"` // that brought anything new
	Points int    `json:"points"` // that are new
	Known  int    `json:"known"`  // that were there already
	Old    int    `json:"old"`    // rows that are past the retention
	Ahead  int    `json:"ahead"`  // rows that lie in the future
}

// WriteHistory writes one series of a stream.
func WriteHistory(w io.Writer, s *HistorySeries) error {
	for i := range s.Archives {
		s.Archives[i].N = len(s.Archives[i].Rows)
	}
	head, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	var row [16]byte
	for i := range s.Archives {
		for _, r := range s.Archives[i].Rows {
			binary.LittleEndian.PutUint64(row[:8], uint64(r.T))
			binary.LittleEndian.PutUint64(row[8:], math.Float64bits(r.V))
			if _, err := w.Write(row[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// EndHistory writes the end of a stream.
func EndHistory(w io.Writer) error { return WriteHistory(w, &HistorySeries{End: true}) }

// ReadHistory reads the next series of a stream. io.EOF is the end; a stream that is cut off ends with another error.
func ReadHistory(r *bufio.Reader) (*HistorySeries, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	var s HistorySeries
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("a series of the history: %w", err)
	}
	if s.End {
		return nil, io.EOF
	}
	rows := 0
	for _, a := range s.Archives {
		if a.N < 0 || a.N > maxHistoryRows-rows || len(s.Archives) > maxArchives {
			return nil, errors.New("a series of the history has too many rows")
		}
		rows += a.N
	}
	for i := range s.Archives {
		a := &s.Archives[i]
		var row [16]byte
		for range a.N { // grown as they come: a length is quickly said
			if _, err := io.ReadFull(r, row[:]); err != nil {
				return nil, cutOff(err)
			}
			a.Rows = append(a.Rows, HistoryRow{T: int64(binary.LittleEndian.Uint64(row[:8])), V: math.Float64frombits(binary.LittleEndian.Uint64(row[8:]))})
		}
	}
	return &s, nil
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, cutOff(err)
		case len(line) > maxHistoryLine:
			return nil, errors.New("a line of the history is too long")
		}
	}
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the history was cut off")
	}
	return err
}

// importHandler takes a history, which may last longer than other requests.
func importHandler(take func(context.Context, io.Reader) (History, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := mayChange(r.Context()); err != nil {
			answer(w, nil, err)
			return
		}
		c, ends := http.NewResponseController(w), time.Now().Add(historyTime)
		if err := errors.Join(c.SetReadDeadline(ends), c.SetWriteDeadline(ends)); err != nil {
			answer(w, nil, err)
			return
		}
		v, err := take(r.Context(), r.Body)
		answer(w, v, err)
	}
}

// ImportHistory hands the watch process a stream that write writes.
func (w *WatchClient) ImportHistory(ctx context.Context, write func(io.Writer) error) (h History, err error) {
	body, to := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(to, 256<<10)
		err := write(b)
		if err == nil {
			err = b.Flush()
		}
		_ = to.CloseWithError(err) // the reader gets it
	}()
	slow := *w.c
	slow.http.Timeout = historyTime
	resp, err := slow.send(ctx, http.MethodPut, importPath, nil, body)
	_ = body.Close() // so that write ends
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		return h, Errorf(ExitUnreachable, "", fmt.Sprintf("read the %s's answer: %v", w.c.who, err))
	}
	return h, nil
}
