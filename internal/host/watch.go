package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// How long the network must be quiet before a change is told, and how long a restless one can put that off.
const (
	settleTime = 300 * time.Millisecond
	settleMost = 3 * time.Second
)

// Watch calls changed, from its own goroutine, each time addresses or gateways of this machine are others than before and
// have settled. What the kernel says again, as it does with each router advertisement, is no change. It returns when ctx
// ends, with its error, or when the kernel can no longer be listened to.
//
// Resolvers are not watched: ask for them again when changed is called, and now and then.
func Watch(ctx context.Context, changed func()) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: group(unix.RTNLGRP_IPV4_IFADDR) | group(unix.RTNLGRP_IPV6_IFADDR) |
			group(unix.RTNLGRP_IPV4_ROUTE) | group(unix.RTNLGRP_IPV6_ROUTE),
	})
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // wakes the reader

	known := network()    // after the socket was opened: what changes from here on is told to it
	var pending time.Time // when the first change came that is not looked at yet; zero: none
	for {
		messages, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			pending = time.Time{}
			if now := network(); now != known {
				known = now
				changed()
			}
		case errors.Is(err, unix.ENOBUFS): // more changes than the socket could hold
			pending = first(pending)
		case err != nil:
			return fmt.Errorf("watch addresses: %w", err)
		case matters(messages):
			pending = first(pending)
		}
		if err := c.SetReadDeadline(settled(pending)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch addresses: %w", err)
		}
	}
}

// network is the addresses and gateways of this machine as one text, to see whether they are others than before. What
// cannot be found out is part of it, so that its coming back is a change too.
func network() string {
	addrs, err1 := interfaceAddrs()
	gateways, err2 := Gateways()
	return fmt.Sprint(addrs, err1, gateways, err2)
}

// group is the bit of a multicast group in netlink.Config.
func group(g uint32) uint32 { return 1 << (g - 1) }

// first is when the change began that is pending, now if there was none.
func first(pending time.Time) time.Time {
	if pending.IsZero() {
		return time.Now()
	}
	return pending
}

// settled is when a pending change is told; zero, which is never, if none is pending.
func settled(pending time.Time) time.Time {
	if pending.IsZero() {
		return time.Time{}
	}
	soon, latest := time.Now().Add(settleTime), pending.Add(settleMost)
	if latest.Before(soon) {
		return latest
	}
	return soon
}

// matters tells whether one of messages is about an address or a default route. The thousand routes of a router come and
// go without anybody's address changing.
func matters(messages []netlink.Message) bool {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			return true
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 { // rtm_dst_len
				return true
			}
		}
	}
	return false
}
