package web

import (
	"math"
	"strconv"
)

// The size of a sparkline in its own units.
const (
	sparkWidth  = 96
	sparkHeight = 20
)

// sparkline is the path of a small curve, with gaps where nothing is known; "" if nothing is known at all. top is the value
// of its upper end; 0: the largest that there is.
func sparkline(trend []float64, top float64) string {
	if top == 0 {
		top = most(trend)
	}
	if top <= 0 || math.IsInf(top, 0) {
		top = 1
	}
	var path []byte
	last := -2
	for i, v := range trend {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		cmd := byte('L')
		if i != last+1 {
			cmd = 'M'
		}
		last = i
		x := 0
		if len(trend) > 1 {
			x = i * sparkWidth / (len(trend) - 1)
		}
		y := int(math.Round(sparkHeight - 1 - min(max(v/top, 0), 1)*(sparkHeight-2)))
		path = append(path, cmd)
		path = strconv.AppendInt(path, int64(x), 10)
		path = append(path, ' ')
		path = strconv.AppendInt(path, int64(y), 10)
	}
	if len(path) == 0 {
		return ""
	}
	return string(path)
}

// most is the largest value that is known; negative infinity if none is.
func most(all []float64) float64 {
	m := math.Inf(-1)
	for _, v := range all {
		if v > m {
			m = v
		}
	}
	return m
}
