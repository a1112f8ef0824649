package munin

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// rrdXML reads what "rrdtool dump" writes. Times stand in comments only and are reckoned as for the file itself.
type rrdXML struct {
	rrd    *RRD
	path   []string // names of the open elements
	text   strings.Builder
	a      *RRDArchive
	row    int // values in the open row
	values int // of all archives
}

// maxXMLText bounds the text of one element.
const maxXMLText = 4096

func parseRRDXML(r io.Reader) (*RRD, error) {
	x := rrdXML{rrd: &RRD{}}
	d := xml.NewDecoder(r)
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) { return in, nil } // names and numbers are ASCII
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = x.take(token)
		}
		if err != nil {
			line, _ := d.InputPos()
			return nil, torn("line %d of the XML: %v", line, err)
		}
	}
	return x.finish()
}

func (x *rrdXML) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return x.open(t.Name.Local)
	case xml.CharData:
		if len(x.path) > 0 && x.text.Len()+len(t) <= maxXMLText {
			x.text.Write(t)
		}
	case xml.EndElement:
		if len(x.path) == 0 || x.path[len(x.path)-1] != t.Name.Local {
			return fmt.Errorf("</%s> closes nothing", t.Name.Local)
		}
		err := x.close(strings.Join(x.path, "/"), strings.TrimSpace(x.text.String()))
		x.path = x.path[:len(x.path)-1]
		x.text.Reset()
		return err
	}
	return nil
}

func (x *rrdXML) open(name string) error {
	if len(x.path) == 0 && name != "rrd" {
		return fmt.Errorf("it begins with <%.20s>, not with <rrd>", name)
	}
	if len(x.path) >= 10 {
		return fmt.Errorf("<%.20s> is nested too deeply", name)
	}
	x.path = append(x.path, name)
	x.text.Reset()
	switch strings.Join(x.path, "/") {
	case "rrd/ds":
		if len(x.rrd.Sources) == maxRRDSources {
			return fmt.Errorf("more than %d data sources", maxRRDSources)
		}
		x.rrd.Sources = append(x.rrd.Sources, RRDSource{Min: math.NaN(), Max: math.NaN(), Reading: "U"})
	case "rrd/rra":
		if len(x.rrd.Archives) == maxRRDRRAs {
			return fmt.Errorf("more than %d archives", maxRRDRRAs)
		}
		x.rrd.Archives = append(x.rrd.Archives, RRDArchive{width: len(x.rrd.Sources)})
		x.a = &x.rrd.Archives[len(x.rrd.Archives)-1]
	case "rrd/rra/database/row":
		x.row = 0
	}
	return nil
}

// close takes the text of the element at path, which ends.
func (x *rrdXML) close(path, text string) (err error) {
	r := x.rrd
	var ds *RRDSource
	if n := len(r.Sources); n > 0 {
		ds = &r.Sources[n-1]
	}
	switch path {
	case "rrd/version":
		r.Version = text
	case "rrd/step":
		r.Step, err = xmlSeconds(text)
	case "rrd/lastupdate":
		r.Last, err = xmlSeconds(text)
	case "rrd/ds/name":
		ds.Name = text
	case "rrd/ds/type":
		ds.Kind = text
	case "rrd/ds/minimal_heartbeat":
		ds.Heartbeat, err = xmlSeconds(text)
	case "rrd/ds/min":
		ds.Min, err = xmlFloat(text)
	case "rrd/ds/max":
		ds.Max, err = xmlFloat(text)
	case "rrd/ds/last_ds":
		ds.Reading = text
	case "rrd/rra/cf":
		x.a.CF = text
	case "rrd/rra/pdp_per_row":
		x.a.PerRow, err = xmlSeconds(text)
	case "rrd/rra/database/row":
		if x.row != x.a.width {
			err = fmt.Errorf("a row has %d values, there are %d data sources", x.row, x.a.width)
		}
	case "rrd/rra/database/row/v":
		x.row++
		if x.values++; x.values > maxRRDValues {
			return fmt.Errorf("more than %d values", maxRRDValues)
		}
		var v float64
		v, err = xmlFloat(text)
		x.a.values = append(x.a.values, v)
	}
	return err
}

// finish looks whether everything was there, and reckons the times.
func (x *rrdXML) finish() (*RRD, error) {
	r := x.rrd
	switch {
	case len(x.path) > 0:
		return nil, torn("the XML ends within <%s>", x.path[len(x.path)-1])
	case r.Step == 0 || len(r.Sources) == 0 || len(r.Archives) == 0:
		return nil, torn("the XML lacks the step, the data sources or the archives")
	}
	for i := range r.Archives {
		a := &r.Archives[i]
		if a.width != len(r.Sources) || a.PerRow == 0 || a.PerRow > maxRRDSeconds/r.Step || len(a.values) == 0 {
			return nil, torn("archive %d of the XML lacks its steps a row or its rows", i+1)
		}
		a.Step = a.PerRow * r.Step
		a.Newest = r.Last - r.Last%a.Step
	}
	return r, nil
}

func xmlSeconds(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > maxRRDSeconds {
		return 0, fmt.Errorf("%.40q is no number of seconds", text)
	}
	return n, nil
}

// xmlFloat reads a number as rrdtool prints it: "1.0000000000e+00", "NaN", "-nan", "inf"; older ones wrote "U".
func xmlFloat(text string) (float64, error) {
	if strings.EqualFold(strings.TrimLeft(text, "+-"), "nan") || text == "U" {
		return math.NaN(), nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no number", text)
	}
	return v, nil
}
