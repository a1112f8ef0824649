// Package tsdb keeps samples for years and answers questions about them.
//
// It is three databases of Prometheus's kind, raw, 5 minutes and 1 hour; which one answers is its own business
// (docs/design/0006-samples.md). It opens no network connection.
package tsdb
