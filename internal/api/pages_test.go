package api

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestWhatPagesMayChange asks as the watch process, as nobody in particular and as root.
func TestWhatPagesMayChange(t *testing.T) {
	const watch, member = 4711, 1000
	on := true
	op := Operations{
		MayShare: func(uid uint32) bool { return uid == watch },
		ForPages: func(context.Context) bool { return on },
	}
	done := func(context.Context, any) (Change, error) { return Change{Text: "done"}, nil }
	ban := bounded(func(ctx context.Context, r BanRequest) (Change, error) { return done(ctx, r) }, boundBan)
	unban := bounded(func(ctx context.Context, r UnbanRequest) (Change, error) { return done(ctx, r) }, boundUnban)
	allow := bounded(func(ctx context.Context, r AllowRequest) (Change, error) { return done(ctx, r) }, boundAllow)
	week := (7 * 24 * time.Hour).Seconds()
	for _, tt := range []struct {
		name string
		ask  func(context.Context) (Change, error)
		want int
	}{
		{"ban", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.7", Seconds: week, By: "marie"})
		}, ExitDone},
		{"ban a network", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.0/24", Seconds: week, By: "marie"})
		}, ExitDone},
		{"ban too wide a network", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.0/23", Seconds: week, By: "marie"})
		}, ExitPermission},
		{"ban too wide a network of IPv6", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "2001:db8::/47", Seconds: week, By: "marie"})
		}, ExitPermission},
		{"ban too wide a network of IPv4 in IPv6's clothes", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "::ffff:10.0.0.0/104", Seconds: week, By: "marie"})
		}, ExitPermission},
		{"ban a network of IPv4 in IPv6's clothes", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "::ffff:192.0.2.0/120", Seconds: week, By: "marie"})
		}, ExitDone},
		{"ban without end", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.7", By: "marie"})
		}, ExitPermission},
		{"ban for too long", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.7", Seconds: PagesLongest.Seconds() + 1, By: "marie"})
		}, ExitPermission},
		{"close a session", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.7", Seconds: week, By: "marie", AcceptRisk: "lockout"})
		}, ExitPermission},
		{"ban for a jail", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "192.0.2.7", Seconds: week, By: "marie", Jail: "sshd"})
		}, ExitPermission},
		{"ban what is no address", func(ctx context.Context) (Change, error) {
			return ban(ctx, BanRequest{Prefix: "mallory", Seconds: week, By: "marie"})
		}, ExitUsage},
		{"unban", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "192.0.2.7", By: "paul"})
		}, ExitDone},
		{"unban a network", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "192.0.2.0/24", By: "paul"})
		}, ExitDone},
		{"unban everybody by a prefix", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "0.0.0.0/0", By: "paul"})
		}, ExitPermission},
		{"unban everybody by a prefix in IPv6's clothes", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "::ffff:0.0.0.0/96", By: "paul"})
		}, ExitPermission},
		{"unban what is no address", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "mallory", By: "paul"})
		}, ExitDone},
		{"unban for nobody", func(ctx context.Context) (Change, error) { return unban(ctx, UnbanRequest{Prefix: "192.0.2.7"}) }, ExitUsage},
		{"unban for a hostile name", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "192.0.2.7", By: "a\x1b[2J"})
		}, ExitUsage},
		{"unban for a long name", func(ctx context.Context) (Change, error) {
			return unban(ctx, UnbanRequest{Prefix: "192.0.2.7", By: strings.Repeat("x", maxBy+1)})
		}, ExitUsage},
		{"unban everybody", func(ctx context.Context) (Change, error) { return unban(ctx, UnbanRequest{All: true, By: "paul"}) }, ExitPermission},
		{"allow", func(ctx context.Context) (Change, error) {
			return allow(ctx, AllowRequest{Prefix: "2001:db8::/64", Seconds: week, By: "paul"})
		}, ExitDone},
		{"allow without end", func(ctx context.Context) (Change, error) {
			return allow(ctx, AllowRequest{Prefix: "192.0.2.7", By: "paul"})
		}, ExitPermission},
		{"allow for a jail", func(ctx context.Context) (Change, error) {
			return allow(ctx, AllowRequest{Prefix: "192.0.2.7", Seconds: week, By: "paul", Jail: "sshd"})
		}, ExitPermission},
		{"take off the allow list", func(ctx context.Context) (Change, error) {
			return allow(ctx, AllowRequest{Prefix: "192.0.2.7", Remove: true, By: "paul"})
		}, ExitPermission},
	} {
		for uid, want := range map[uint32]int{0: ExitDone, member: ExitPermission, watch: tt.want} {
			ctx := context.WithValue(t.Context(), peerKey{}, uid)
			err := op.mayManage(ctx)
			if err == nil {
				_, err = tt.ask(ctx)
			}
			if got := exitOf(err); got != want {
				t.Errorf("%s as user %d ends with %d, want %d (%v)", tt.name, uid, got, want, err)
			}
		}
	}
	on = false
	if got := exitOf(op.mayManage(context.WithValue(t.Context(), peerKey{}, uint32(watch)))); got != ExitPermission {
		t.Errorf("switched off, the pages end with %d", got)
	}
	if err := op.mayManage(t.Context()); exitOf(err) != ExitPermission {
		t.Errorf("somebody of whom the kernel tells nothing: %v", err)
	}
}
