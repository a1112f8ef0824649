package fail2bancli

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
)

// set answers "set JAIL ...": bans and the ignore list. Everything else is a setting, which lies in files.
func (c *client) set(ctx context.Context, w []string) (string, error) {
	if len(w) < 2 {
		return "", incomplete()
	}
	name, what, args := w[0], w[1], w[2:]
	switch name {
	case "loglevel", "logtarget", "syslogsocket", "dbfile", "dbmaxmatches", "dbpurgeage", "thread", "allowipv6":
		return "", exception("%s is not changed while the guard runs: set it in %s, then fail2ban-client reload", name, c.file("fail2ban.local"))
	}
	switch what {
	case "banip", "unbanip", "addignoreip", "delignoreip":
		if len(args) == 0 {
			return "", incomplete()
		}
	case "attempt":
		return "", exception("failures come from logs only; to ban: fail2ban-client set %s banip <IP>", name)
	case "idle":
		return "", exception("a jail does not rest; to end it: enabled = false in its section of %s, then fail2ban-client reload", c.file("jail.local"))
	default:
		return c.refuseSetting(name, what)
	}
	j, err := c.guard.Jail(ctx, name)
	if err != nil {
		return "", jailError(name, err)
	}
	switch what {
	case "banip":
		return c.banip(ctx, &j, args)
	case "unbanip":
		return c.unbanip(ctx, name, args)
	case "addignoreip":
		return c.ignore(ctx, name, args, false)
	}
	return c.ignore(ctx, name, args[:1], true)
}

// settingNames are what fail2ban's "set JAIL" knows besides, by the name of the setting in the files.
var settingNames = map[string]string{
	"bantime": "bantime", "findtime": "findtime", "maxretry": "maxretry", "maxmatches": "maxmatches", "maxlines": "maxlines",
	"usedns": "usedns", "ignoreself": "ignoreself", "ignorecommand": "ignorecommand", "ignorecache": "ignorecache",
	"logencoding": "logencoding", "logtimezone": "logtimezone", "datepattern": "datepattern", "prefregex": "prefregex",
	"addlogpath": "logpath", "dellogpath": "logpath", "addjournalmatch": "journalmatch", "deljournalmatch": "journalmatch",
	"addfailregex": "failregex", "delfailregex": "failregex", "addignoreregex": "ignoreregex", "delignoreregex": "ignoreregex",
	"addaction": "action", "delaction": "action", "action": "action",
}

func (c *client) refuseSetting(name, what string) (string, error) {
	setting, ok := settingNames[what]
	if strings.HasPrefix(what, "bantime.") {
		setting, ok = what, true
	}
	if !ok {
		return "", exception("Invalid command %s (no set action or not yet implemented)", quote(what))
	}
	return "", exception("%s is not changed while the guard runs: set it in section [%s] of %s, then fail2ban-client reload", setting, name, c.file("jail.local"))
}

// banip bans by hand for as long as the jail does, and prints how many were not banned before. A ban that lasts longer
// anyway stays as it is.
func (c *client) banip(ctx context.Context, j *api.JailDetail, args []string) (string, error) {
	before, err := c.bannedBy(ctx, j.Name)
	if err != nil {
		return "", err
	}
	var n int
	var errs []error
	for _, id := range args {
		if outlasts(before, id, j.BanSeconds) {
			continue
		}
		made, err := c.guard.Ban(ctx, api.BanRequest{Prefix: id, Jail: j.Name, Seconds: j.BanSeconds, Reason: "fail2ban-client banip", By: c.o.By})
		if err != nil {
			errs = append(errs, lockout(err, id, j.Name))
			continue
		}
		for _, id := range made.Changed {
			if !isBanned(before, id) {
				n++
			}
		}
	}
	return strconv.Itoa(n), errors.Join(errs...)
}

// outlasts says whether id is banned for longer than it would be by a ban of so many seconds, of which 0 has no end.
func outlasts(banned []api.BannedID, id string, seconds float64) bool {
	return slices.ContainsFunc(banned, func(b api.BannedID) bool {
		return b.ID == id && (b.Until == nil || seconds > 0 && time.Until(*b.Until).Seconds() > seconds)
	})
}

// lockout rewords the hint of a refusal to lock somebody out: fail2ban-client has no word for "all the same".
func lockout(err error, id, jail string) error {
	const flag = "--accept-risk=lockout"
	var told *api.Error
	if !errors.As(err, &told) || !strings.Contains(told.Hint, flag) {
		return err
	}
	hinted := *told
	hinted.Hint = "to ban it all the same: tocsin ban " + id + " --jail " + jail + " " + flag
	return &hinted
}

// unbanip lifts bans of one jail and prints how many.
func (c *client) unbanip(ctx context.Context, name string, args []string) (string, error) {
	report := args[0] == "--report-absent"
	if report {
		args = args[1:]
	}
	n, absent, err := c.lift(ctx, name, args)
	if err == nil && report && len(absent) > 0 {
		return "", exception("not banned: %s", list(absent))
	}
	return strconv.Itoa(n), err
}

// lift ends the bans of each id by a jail, or by all of them, and says which ids were not banned.
func (c *client) lift(ctx context.Context, jail string, args []string) (n int, absent []string, err error) {
	for _, id := range args {
		lifted, err := c.guard.Unban(ctx, api.UnbanRequest{Prefix: id, Jail: jail, Reason: "fail2ban-client unban", By: c.o.By})
		var told *api.Error
		if errors.As(err, &told) && told.Exit == api.ExitUsage && !isAddress(id) {
			err = nil // what is no address is not banned
		}
		if err != nil {
			return n, absent, err
		}
		if len(lifted.Changed) == 0 {
			absent = append(absent, id)
		}
		n += len(lifted.Changed)
	}
	return n, absent, nil
}

func isAddress(id string) bool {
	_, err := config.ParsePrefix(id)
	return err == nil
}

// unban answers "unban IP.." and "unban --all".
func (c *client) unban(ctx context.Context, w []string) (string, error) {
	switch {
	case len(w) == 0:
		return "", exception("Invalid command")
	case len(w) == 1 && w[0] == "--all":
		lifted, err := c.guard.Unban(ctx, api.UnbanRequest{All: true, Reason: "fail2ban-client unban --all", By: c.o.By})
		return strconv.Itoa(len(lifted.Changed)), err
	}
	n, _, err := c.lift(ctx, "", w)
	return strconv.Itoa(n), err
}

// ignore changes whom a jail never bans, until the next reload, and prints the list.
func (c *client) ignore(ctx context.Context, name string, args []string, remove bool) (string, error) {
	for _, id := range args {
		if _, err := c.guard.Allow(ctx, api.AllowRequest{Prefix: id, Jail: name, Remove: remove, Note: "fail2ban-client", By: c.o.By}); err != nil {
			return "", err
		}
	}
	j, err := c.guard.Jail(ctx, name)
	if err != nil {
		return "", jailError(name, err)
	}
	return ignored(&j), nil
}

// reload answers "reload" and "restart", with fail2ban's options: the guard reads the whole configuration again. It keeps
// its bans in either case, as fail2ban does, unless --unban is given.
func (c *client) reload(ctx context.Context, w []string) (string, error) {
	jail := ""
	unban, ifExists := false, false
	for _, arg := range w[1:] {
		switch arg {
		case "--restart", "--all":
		case "--unban":
			unban = true
		case "--if-exists":
			ifExists = true
		default:
			if jail != "" || strings.HasPrefix(arg, "-") {
				return "", exception("Unexpected argument(s) for %s: %s", w[0], list(w[1:]))
			}
			jail = arg
		}
	}
	if unban {
		if _, err := c.guard.Unban(ctx, api.UnbanRequest{All: true, Jail: jail, Reason: "fail2ban-client reload --unban", By: c.o.By}); err != nil {
			return "", err
		}
	}
	done, err := c.guard.Reload(ctx)
	if err != nil {
		return "", err
	}
	// Behind the first line stand the jails that cannot run: fail2ban names them too, and says OK.
	_, failed, _ := strings.Cut(done.Text, "\n")
	for line := range strings.Lines(failed) {
		complain(c.o.Stderr, "ERROR", tocsin.Printable(strings.TrimRight(line, "\n")))
	}
	if jail != "" && !ifExists {
		if _, err := c.guard.Jail(ctx, jail); err != nil {
			return "", jailError(jail, err)
		}
	}
	return "OK", nil
}
