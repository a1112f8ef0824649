package probe

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"tocsin/internal/munin"

	"github.com/klauspost/compress/s2"
)

// maxWire bounds what DecodeReadings unpacks.
const maxWire = 64 << 20

// The wire between the runner and us: JSON, packed with s2, in base64. Names are short for there are many of them.
type wireReadings struct {
	Version  int           `json:"v"`
	Off      string        `json:"off,omitempty"`
	Problem  string        `json:"problem,omitempty"`
	Readings []wireReading `json:"r,omitempty"`
}

type wireReading struct {
	Group   string      `json:"g,omitempty"`
	Node    string      `json:"n,omitempty"`
	Service wireService `json:"s"`
	At      int64       `json:"t"` // Unix nanoseconds
	Since   int64       `json:"b"` // nanoseconds
	Values  []wireValue `json:"v"`
}

type wireService struct {
	Name   string      `json:"n"`
	Host   string      `json:"h,omitempty"`
	Attrs  []string    `json:"a,omitempty"` // name, value, name, value
	Fields []wireField `json:"f,omitempty"`
}

type wireField struct {
	Name  string   `json:"n"`
	Attrs []string `json:"a,omitempty"`
}

type wireValue struct {
	Service string `json:"s,omitempty"`
	Field   string `json:"f"`
	At      int64  `json:"t,omitempty"`
	V       string `json:"v"`
}

// EncodeReadings makes a word without spaces of what Rooted.Read returned.
func EncodeReadings(rs []Reading, err error) string {
	w := wireReadings{Version: 1}
	if why, off := IsOff(err); off {
		w.Off = why
	} else if err != nil {
		w.Problem = err.Error()
	}
	for i := range rs {
		w.Readings = append(w.Readings, toWire(&rs[i]))
	}
	text, err := json.Marshal(w)
	if err != nil {
		panic("BUG: probe: readings are no JSON: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(s2.Encode(nil, text))
}

// DecodeReadings is the other way; what the reader said is said again.
func DecodeReadings(text string) ([]Reading, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("readings of the runner: %w", err)
	}
	if n, err := s2.DecodedLen(packed); err != nil || n > maxWire {
		return nil, errors.New("readings of the runner: too long, or torn")
	}
	plain, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fmt.Errorf("readings of the runner: %w", err)
	}
	var w wireReadings
	if err := json.Unmarshal(plain, &w); err != nil {
		return nil, fmt.Errorf("readings of the runner: %w", err)
	}
	if w.Version != 1 {
		return nil, fmt.Errorf("readings of the runner: version %d; the runner is of another version: restart it", w.Version)
	}
	var rs []Reading
	for i := range w.Readings {
		rs = append(rs, fromWire(&w.Readings[i]))
	}
	switch {
	case w.Off != "":
		return rs, &Off{Why: w.Off}
	case w.Problem != "":
		return rs, errors.New(w.Problem)
	}
	return rs, nil
}

func toWire(r *Reading) wireReading {
	w := wireReading{
		Group: r.Group, Node: r.Node, At: r.At.UnixNano(), Since: int64(r.Since),
		Service: wireService{Name: r.Service.Name, Host: r.Service.Host, Attrs: flat(r.Service.Attrs)},
	}
	for _, f := range r.Service.Fields {
		w.Service.Fields = append(w.Service.Fields, wireField{f.Name, flat(f.Attrs)})
	}
	for _, v := range r.Values {
		text := "U"
		if !math.IsNaN(v.V) && !math.IsInf(v.V, 0) {
			text = strconv.FormatFloat(v.V, 'g', -1, 64)
		}
		w.Values = append(w.Values, wireValue{v.Service, v.Field, v.At, text})
	}
	return w
}

func fromWire(w *wireReading) Reading {
	s := &munin.Service{Name: w.Service.Name, Host: w.Service.Host, Attrs: unflat(w.Service.Attrs)}
	for _, f := range w.Service.Fields {
		s.Fields = append(s.Fields, munin.Field{Name: f.Name, Attrs: unflat(f.Attrs)})
	}
	r := Reading{Group: w.Group, Node: w.Node, Service: s, At: time.Unix(0, w.At), Since: time.Duration(w.Since)}
	for _, v := range w.Values {
		if n, ok := munin.ParseValue(v.V); ok {
			r.Values = append(r.Values, munin.Value{Service: v.Service, Field: v.Field, At: v.At, V: n})
		}
	}
	return r
}

func flat(attrs []munin.Attr) []string {
	var words []string
	for _, a := range attrs {
		words = append(words, a.Name, a.Value)
	}
	return words
}

func unflat(words []string) []munin.Attr {
	var attrs []munin.Attr
	for i := 0; i+1 < len(words); i += 2 {
		attrs = append(attrs, munin.Attr{Name: words[i], Value: words[i+1]})
	}
	return attrs
}
