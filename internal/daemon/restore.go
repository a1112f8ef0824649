package daemon

import (
	"context"
	"fmt"

	"tocsin/internal/api"
)

// Restore puts into the firewall what was in force when the last guard stopped, and ends: bans, the allow list and other
// people's lists. At boot that is before the network is up; the guard itself can start only once sshd listens, and whoever is
// banned or listed would find the door open until then.
//
// While the emergency exit is open, and where the guard only observes, nothing is done. It fails if a guard runs.
func Restore(ctx context.Context, o Options) (api.Change, error) {
	g := newGuard(ctx, o)
	leave, err := g.settle()
	if err != nil {
		return api.Change{}, err
	}
	defer leave()
	g.chooseWall()
	defer g.leaveWall()
	if !g.enforces {
		return change("nothing is put in force: observing only ("+g.observes+")", ""), nil
	}
	g.restore()
	if g.wasOff {
		return change("nothing is put in force: the emergency exit is open", ""), nil
	}
	parts := g.trouble.look().parts
	for _, part := range []string{"firewall", "store", "allow list", "lists"} {
		if m, bad := parts[part]; bad {
			return api.Change{}, api.Errorf(api.ExitFailed, "tocsin run does it too", fmt.Sprintf("not everything is in force again: %s: %s", part, m.last))
		}
	}
	return change(fmt.Sprintf("%s and %s in force again", api.Count(len(g.active), "ban", "bans"), api.Count(len(g.lists.held), "list", "lists")), "tocsin off"), nil
}
