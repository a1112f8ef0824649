package fail2bancli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
)

// status answers "status", "status --all" and "status JAIL [FLAVOR]".
func (c *client) status(ctx context.Context, w []string) (string, error) {
	if len(w) == 0 || w[0] == "--all" {
		return c.statusOfAll(ctx, len(w) > 0)
	}
	if len(w) > 2 {
		return "", exception("Invalid command (no status)")
	}
	j, ids, err := c.jail(ctx, w[0])
	if err != nil {
		return "", err
	}
	heading := "Status for the jail: " + tocsin.Printable(w[0])
	return strings.Join(append([]string{heading}, jailStatus(&j, ids, len(w) > 1 && w[1] == "short", "")...), "\n"), nil
}

func (c *client) statusOfAll(ctx context.Context, each bool) (string, error) {
	s, err := c.guard.Status(ctx)
	if err != nil {
		return "", err
	}
	names := jailNames(&s)
	out := []string{
		"Status", "|- Number of jail:\t" + strconv.Itoa(len(names)),
		"`- Jail list:\t" + strings.Join(printable(names), ", "),
	}
	if !each {
		return strings.Join(out, "\n"), nil
	}
	out[2] = "|" + out[2][1:]
	out = append(out, "`- Status for the jails:")
	for i, name := range names {
		j, ids, err := c.jail(ctx, name)
		if err != nil {
			return "", err
		}
		indent := "   |  "
		if i == len(names)-1 {
			indent = "      "
		}
		out = append(out, "   "+branch(i, len(names))+" Jail: "+tocsin.Printable(name))
		out = append(out, jailStatus(&j, ids, false, indent)...)
	}
	return strings.Join(out, "\n"), nil
}

// jailNames are the names of the jails as status lists them, sorted.
func jailNames(s *api.Status) []string {
	var names []string
	for i := range s.Jails {
		names = append(names, s.Jails[i].Name)
	}
	slices.Sort(names)
	return names
}

// jail asks for a jail and for whom it bans, in the order of the bans.
func (c *client) jail(ctx context.Context, name string) (api.JailDetail, []string, error) {
	j, err := c.guard.Jail(ctx, name)
	if err != nil {
		return j, nil, jailError(name, err)
	}
	banned, err := c.bannedBy(ctx, name)
	if err != nil {
		return j, nil, err
	}
	return j, ids(byStart(banned)), nil
}

func (c *client) bannedBy(ctx context.Context, name string) ([]api.BannedID, error) {
	all, err := c.guard.Banned(ctx, name)
	if err != nil {
		return nil, jailError(name, err)
	}
	for _, j := range all.Jails {
		if j.Name == name {
			return j.Banned, nil
		}
	}
	return nil, nil
}

// byStart orders bans as fail2ban keeps them: as they began. The guard lists them by their end.
func byStart(banned []api.BannedID) []api.BannedID {
	banned = slices.Clone(banned)
	slices.SortStableFunc(banned, func(a, b api.BannedID) int { return a.At.Compare(b.At) })
	return banned
}

func ids(banned []api.BannedID) []string {
	out := make([]string, len(banned))
	for i := range banned {
		out[i] = banned[i].ID
	}
	return out
}

// jailStatus are the lines about one jail, each behind indent.
func jailStatus(j *api.JailDetail, banned []string, short bool, indent string) []string {
	read := "File list:\t" + strings.Join(printable(j.Files), " ")
	if len(j.Files) == 0 && len(j.Journalmatch) > 0 {
		read = "Journal matches:\t" + strings.Join(printable(j.Journalmatch), " + ")
	}
	actions := []string{"Currently banned:\t" + strconv.Itoa(len(banned)), "Total banned:\t" + strconv.FormatUint(j.TotalBanned, 10)}
	if !short {
		actions = append(actions, "Banned IP list:\t"+strings.Join(printable(banned), " "))
	}
	out := []string{indent + "|- Filter", indent + "|  |- Currently failed:\t" + strconv.Itoa(j.Addresses),
		indent + "|  |- Total failed:\t" + strconv.FormatUint(j.Failures, 10), indent + "|  `- " + read, indent + "`- Actions"}
	for i, s := range actions {
		out = append(out, indent+"   "+branch(i, len(actions))+" "+s)
	}
	return out
}

// stats is the table that fail2ban 1.1 prints, in its plain form.
func (c *client) stats(ctx context.Context) (string, error) {
	s, err := c.guard.Status(ctx)
	if err != nil {
		return "", err
	}
	names := jailNames(&s)
	if len(names) == 0 {
		return "No jails found.", nil
	}
	rows := [][]string{{"", "", "cur", "tot", "cur", "tot"}}
	for _, name := range names {
		j, ids, err := c.jail(ctx, name)
		if err != nil {
			return "", err
		}
		backend := "files"
		if len(j.Files) == 0 && len(j.Journalmatch) > 0 {
			backend = "systemd"
		}
		rows = append(rows, []string{tocsin.Printable(name), backend, strconv.Itoa(j.Addresses),
			strconv.FormatUint(j.Failures, 10), strconv.Itoa(len(ids)), strconv.FormatUint(j.TotalBanned, 10)})
	}
	width := []int{8, 8, 3, 3, 3, 3}
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	out := []string{fmt.Sprintf("%-*s | %-*s | %-*s | %-*s", width[0], "Jail", width[1], "Backend", width[2]+width[3]+3, "Filter", width[4]+width[5]+3, "Actions")}
	for i, row := range rows {
		out = append(out, fmt.Sprintf("%-*s | %-*s | %*s | %*s | %*s | %*s", width[0], row[0], width[1], row[1],
			width[2], row[2], width[3], row[3], width[4], row[4], width[5], row[5]))
		if i == 0 {
			var dashes []string
			for _, n := range width {
				dashes = append(dashes, strings.Repeat("-", n))
			}
			out = append(out, strings.Join(dashes, "-x-"))
		}
	}
	return strings.Join(out, "\n"), nil
}

// banned answers "banned" and "banned IP..": by jail, or the jails of each address.
func (c *client) banned(ctx context.Context, w []string) (string, error) {
	all, err := c.guard.Banned(ctx, "")
	if err != nil {
		return "", err
	}
	var out []string
	if len(w) == 0 {
		for _, j := range all.Jails {
			out = append(out, "{"+quote(j.Name)+": "+list(ids(byStart(j.Banned)))+"}")
		}
		return "[" + strings.Join(out, ", ") + "]", nil
	}
	for _, id := range w {
		var jails []string
		for _, j := range all.Jails {
			if isBanned(j.Banned, id) {
				jails = append(jails, j.Name)
			}
		}
		out = append(out, list(jails))
	}
	return "[" + strings.Join(out, ", ") + "]", nil
}

func isBanned(banned []api.BannedID, id string) bool {
	return slices.ContainsFunc(banned, func(b api.BannedID) bool { return b.ID == id })
}

// get answers "get JAIL ..." and "get loglevel" and its like.
func (c *client) get(ctx context.Context, w []string) (string, error) {
	if len(w) == 0 {
		return "", incomplete()
	}
	if text, ok, err := c.getMain(w[0]); ok || err != nil {
		return text, err
	}
	if len(w) < 2 {
		return "", incomplete()
	}
	name, what, args := w[0], w[1], w[2:]
	if what == "banip" || what == "banned" {
		banned, err := c.bannedBy(ctx, name)
		if err != nil {
			return "", err
		}
		if what == "banip" {
			return banList(banned, args), nil
		}
		return bannedOf(banned, args), nil
	}
	j, err := c.guard.Jail(ctx, name)
	if err != nil {
		return "", jailError(name, err)
	}
	if text, ok := jailValue(&j, what); ok {
		return text, nil
	}
	if option, ok := strings.CutPrefix(what, "bantime."); ok {
		return c.growth(&j, option)
	}
	if strings.HasPrefix(what, "action") {
		return actionValue(&j, what, args)
	}
	return "", exception("Invalid command (no get action or not yet implemented)")
}

// jailValue is one setting of a jail as fail2ban's client shows it.
func jailValue(j *api.JailDetail, what string) (text string, ok bool) {
	switch what {
	case "bantime":
		if j.BanSeconds == 0 {
			return "-1", true
		}
		return whole(j.BanSeconds), true
	case "findtime":
		return whole(j.FindSeconds), true
	case "maxretry":
		return strconv.Itoa(j.MaxRetry), true
	case "maxmatches":
		return strconv.Itoa(j.MaxMatches), true
	case "maxlines":
		return strconv.Itoa(j.MaxLines), true
	case "usedns":
		return tocsin.Printable(j.UseDNS), true
	case "ignoreself":
		return pythonBool(j.IgnoreSelf), true
	case "ignorecommand":
		return tocsin.Printable(j.IgnoreCommand), true
	case "ignorecache":
		return tocsin.Printable(cmp.Or(j.IgnoreCache, "None")), true
	case "logtimezone":
		return tocsin.Printable(cmp.Or(j.LogTimezone, "None")), true
	case "prefregex":
		return tocsin.Printable(j.Prefregex), true
	case "ignoreip":
		return ignored(j), true
	case "logpath":
		if len(j.Files) == 0 {
			return "No file is currently monitored", true
		}
		return tree("Current monitored log file(s):", printable(j.Files)), true
	case "logencoding":
		encoding := j.LogEncoding
		if encoding == "auto" || encoding == "" {
			encoding = "UTF-8"
		}
		return "Current log encoding is set to:\n" + tocsin.Printable(encoding), true
	case "journalmatch":
		if len(j.Journalmatch) == 0 {
			return "No journal match filter set", true
		}
		return "Current match filter:\n" + strings.Join(printable(j.Journalmatch), " + "), true
	case "datepattern":
		return "Current date pattern set to: " + datePattern(j), true
	case "failregex":
		return expressions(j.Failregex), true
	case "ignoreregex":
		return expressions(j.Ignoreregex), true
	case "actions":
		if len(j.Actions) == 0 {
			return "No actions for jail " + tocsin.Printable(j.Name), true
		}
		var names []string
		for _, a := range j.Actions {
			names = append(names, tocsin.Printable(a.Name))
		}
		return "The jail " + tocsin.Printable(j.Name) + " has the following actions:\n" + strings.Join(names, ", "), true
	}
	return "", false
}

func ignored(j *api.JailDetail) string {
	if len(j.IgnoreIP) == 0 {
		return "No IP address/network is ignored"
	}
	return tree("These IP addresses/networks are ignored:", printable(j.IgnoreIP))
}

func expressions(all []string) string {
	if len(all) == 0 {
		return "No regular expression is defined"
	}
	numbered := make([]string, len(all))
	for i, s := range all {
		numbered[i] = fmt.Sprintf("[%d]: %s", i, tocsin.Printable(s))
	}
	return tree("The following regular expression are defined:", numbered)
}

// datePattern is the pattern of a jail and what its codes mean.
func datePattern(j *api.JailDetail) string {
	if len(j.Files) == 0 && len(j.Journalmatch) > 0 {
		return "Not set/required"
	}
	pattern, name := describeDates(strings.Split(j.Datepattern, "\n"))
	if pattern == "" {
		return name
	}
	return tocsin.Printable(pattern + " (" + name + ")")
}

// banList answers "get JAIL banip [SEP|--with-time]".
func banList(banned []api.BannedID, args []string) string {
	sep := " "
	if len(args) > 0 {
		sep = args[0]
	}
	texts := printable(ids(banned))
	if sep == "--with-time" {
		sep = "\n"
		for i, b := range banned {
			texts[i] += " \t" + banTimes(b)
		}
	}
	return strings.Join(texts, sep)
}

// banTimes is when a ban began, how long it lasts and when it ends, in local time.
func banTimes(b api.BannedID) string {
	at := b.At.Local().Format(time.DateTime)
	if b.Until == nil {
		return at + " + -1 = 9999-12-31 23:59:59"
	}
	seconds := b.Until.Sub(b.At).Round(time.Second) / time.Second
	return fmt.Sprintf("%s + %d = %s", at, seconds, b.Until.Local().Format(time.DateTime))
}

// bannedOf answers "get JAIL banned [IP..]".
func bannedOf(banned []api.BannedID, args []string) string {
	if len(args) == 0 {
		return list(ids(byStart(banned)))
	}
	out := make([]string, len(args))
	for i, id := range args {
		out[i] = "0"
		if isBanned(banned, id) {
			out[i] = "1"
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// actionValue answers "get JAIL actionproperties A" and "get JAIL action A X".
func actionValue(j *api.JailDetail, what string, args []string) (string, error) {
	if what != "action" && what != "actionproperties" && what != "actionmethods" {
		return "", exception("Invalid command (no get action or not yet implemented)")
	}
	if len(args) == 0 {
		return "", incomplete()
	}
	at := slices.IndexFunc(j.Actions, func(a api.JailAction) bool { return a.Name == args[0] })
	switch {
	case at < 0:
		msg := "Invalid Action name: " + tocsin.Printable(args[0])
		return "", &nok{"(" + quote(msg) + ",)", quote(msg)}
	case what == "actionmethods":
		return "", exception("actions have no methods here: their commands are run as the files of action.d say")
	}
	properties := j.Actions[at].Properties
	if what == "actionproperties" {
		var names []string
		for name := range properties {
			names = append(names, tocsin.Printable(name))
		}
		slices.Sort(names)
		return fmt.Sprintf("The jail %s action %s has the following properties:\n%s", tocsin.Printable(j.Name), tocsin.Printable(args[0]), strings.Join(names, ", ")), nil
	}
	if len(args) == 1 {
		return "", incomplete()
	}
	value, ok := properties[args[1]]
	if !ok {
		value, ok = unsetProperties[args[1]]
	}
	if !ok {
		return "", exception("'CommandAction' object has no attribute %s", quote(args[1]))
	}
	return printableText(value), nil
}

// unsetProperties are what an action of fail2ban has of itself, where its files say nothing.
var unsetProperties = map[string]string{
	"actionstart": "", "actionstop": "", "actionflush": "", "actionreload": "", "actioncheck": "",
	"actionrepair": "", "actionban": "", "actionreban": "", "actionunban": "", "timeout": "60",
}

// printableText makes a text of several lines safe to show.
func printableText(text string) string {
	return strings.Join(printable(strings.Split(text, "\n")), "\n")
}

// getMain answers "get loglevel" and the like, which are settings of fail2ban.conf.
func (c *client) getMain(what string) (text string, ok bool, err error) {
	switch what {
	case "loglevel", "logtarget", "syslogsocket", "dbfile", "dbmaxmatches", "dbpurgeage":
	case "thread":
		return "{'stacksize': 0}", true, nil
	default:
		return "", false, nil
	}
	conf, err := c.config()
	if err != nil {
		return "", false, err
	}
	return mainValue(&conf.Main, what), true, nil
}

func mainValue(m *fail2ban.Main, what string) string {
	noDatabase := m.Dbfile == "" || m.Dbfile == "None"
	switch what {
	case "loglevel":
		return "Current logging level is " + quote(strings.ToUpper(m.Loglevel))
	case "logtarget":
		return tree("Current logging target is:", []string{tocsin.Printable(m.Logtarget)})
	case "syslogsocket":
		return tree("Current syslog socket is:", []string{tocsin.Printable(m.Syslogsocket)})
	case "dbfile":
		if noDatabase {
			return "Database currently disabled"
		}
		return tree("Current database file is:", []string{tocsin.Printable(m.Dbfile)})
	case "dbpurgeage":
		if noDatabase {
			return "Database currently disabled"
		}
		return tree("Current database purge age is:", []string{whole(m.Dbpurgeage.Seconds()) + "seconds"})
	}
	if noDatabase {
		return "None"
	}
	return strconv.Itoa(m.Dbmaxmatches)
}
