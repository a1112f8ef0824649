package tsdb

import "github.com/prometheus/prometheus/model/histogram"

// floats makes held an iterator of Prometheus's: there are no native histograms here.
type floats struct{ held }

// AtHistogram is never called: no value is one.
func (*floats) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) { return 0, nil }

// AtFloatHistogram is never called: no value is one.
func (*floats) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return 0, nil
}
