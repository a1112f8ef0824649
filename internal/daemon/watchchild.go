package daemon

import (
	"context"
	"net"
	"time"
)

// startWatch starts the watch process as its own user, if there is anything for it to do and nobody else does it, and again
// whenever it ends. It must be done before privileges are given up. What it is able to do does not matter to the guard, so
// that a failure is told and nothing more.
func (g *Guard) startWatch(s *set) {
	if !g.startsWatch {
		return
	}
	if conn, err := net.DialTimeout("unix", WatchSocket(g.state), time.Second); err == nil {
		_ = conn.Close()
		return
	}
	_, err := makeWatchFolder(g.state)
	var st *starter
	if err == nil {
		st, err = g.useStarter(s)
	}
	if err != nil {
		g.pages = "" // nobody would answer there
		g.log.Error("the watch process does not run: lists get old, and nothing is reported", "err", err)
		g.trouble.add("watch process", err)
		return
	}
	g.keep(&kept{
		name: theWatch, what: "the watch process", lacks: "lists get old, and nothing is reported",
		start:  func() (<-chan error, error) { return st.start(theWatch, nil) },
		wanted: g.shares,
	})
	// It gets the guard's last seconds to end by itself.
	context.AfterFunc(g.life, func() { _ = send(st.conn, noMore, nil) })
}

// startsWatch says whether the watch process is this guard's to start. Where a sandbox is around us another unit does. It is
// asked before privileges are given up: afterwards that looks like a sandbox.
func startsWatch(o *Options) bool { return o.Watch && o.Config.Watches() && bounded() == "" }

// shares says whether the configuration in force has anything for a watch process to do.
func (g *Guard) shares() (yes bool) {
	yes = true // until it is in force
	_ = g.do(g.life, func() { yes = g.set == nil || g.set.conf.Watches() })
	return yes
}
