package tsdb

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// repairLog makes of the many lines that Prometheus's database says about a damaged write-ahead log one that tells the
// operator what happened. What it says later, when it runs, is passed on if it is a warning.
type repairLog struct {
	out   slog.Handler
	state *repairState
}

type repairState struct {
	mu      sync.Mutex
	opening bool
	damage  string // what was found
}

func newRepairLog(log *slog.Logger) *repairLog {
	return &repairLog{out: log.Handler(), state: &repairState{opening: true}}
}

func (l *repairLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *repairLog) Handle(ctx context.Context, r slog.Record) error {
	l.state.mu.Lock()
	opening := l.state.opening
	if opening && strings.Contains(r.Message, "attempting repair") {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "err" && l.state.damage == "" {
				l.state.damage = a.Value.String()
			}
			return true
		})
	}
	l.state.mu.Unlock()
	// A merge of overlapping blocks is what late samples need.
	if opening || strings.Contains(r.Message, "verlapping blocks") {
		return nil
	}
	return l.out.Handle(ctx, r)
}

func (l *repairLog) WithAttrs(as []slog.Attr) slog.Handler {
	return &repairLog{out: l.out.WithAttrs(as), state: l.state}
}

func (l *repairLog) WithGroup(name string) slog.Handler {
	return &repairLog{out: l.out.WithGroup(name), state: l.state}
}

// opened tells of a repair, once.
func (l *repairLog) opened() {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.opening = false
	if l.state.damage != "" {
		slog.New(l.out).Warn("the write-ahead log of the samples was damaged and is repaired; samples behind the damage are missing",
			"err", l.state.damage)
	}
}
