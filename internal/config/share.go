package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// This file holds the checks of [[list]] and [report].

// Bounds of [report].
const (
	maxCategories = 30 // of one report (AbuseIPDB, REPORT)
	lastCategory  = 23
	leastHold     = 10 * time.Second
	mostHold      = time.Hour
)

var (
	listNameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	timeOfDay    = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
)

func checkListName(s string) error {
	if listNameForm.MatchString(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a list", clip(s)), Hint: "up to 32 small letters, digits, and - behind the first"}
}

func checkListURL(s string) error {
	const hint = `write "abuseipdb:", "https://..." or "file:/..."`
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		return checkPath(path)
	}
	if s == "abuseipdb:" {
		return nil
	}
	if strings.HasPrefix(s, "http://") {
		return &Error{Msg: fmt.Sprintf("%q is not protected on its way: whoever stands in between could have anybody blocked", clip(s)), Hint: "write https://"}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || len(s) > 2000 {
		return &Error{Msg: fmt.Sprintf("%q is not where a list can come from", clip(s)), Hint: hint}
	}
	if u.User != nil {
		return &Error{Msg: "holds a password, which would be shown with the list"}
	}
	return nil
}

func checkAt(s string) error {
	if s == "auto" || timeOfDay.MatchString(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a time of day", clip(s)), Hint: `write it like "04:30", or "auto"`}
}

// setListPorts takes "all" or a list of port numbers.
func setListPorts(a *assignment, v value) {
	const hint = `write it like ports = [22, 443], or ports = "all"`
	switch {
	case v.kind == text && v.text == "all":
		a.target.list.Ports = Ports{All: true}
	case v.kind != list:
		a.fail(v, hint, "is a list or all, not %s", described(v))
	default:
		if ports, ok := a.portList(v); ok {
			a.target.list.Ports = Ports{List: ports}
		}
	}
}

// setReportURL takes the base of the API and gives it the slash at its end.
func setReportURL(a *assignment, v value) {
	if !a.is(v, text) {
		return
	}
	u, err := url.Parse(v.text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || len(v.text) > 2000:
		a.fail(v, `write it like "https://api.abuseipdb.com/api/v2/"`, "%q is not where a service can be", clip(v.text))
	case u.User != nil:
		a.fail(v, "store it with tocsin reputation key", "holds a password, which would be shown with it")
	case u.Scheme == "http" && !ownHost(u.Hostname()):
		a.fail(v, "write https://", "%q is not protected on its way: the key could be read", clip(v.text))
	default:
		a.target.config.Report.URL = strings.TrimSuffix(v.text, "/") + "/"
	}
}

// ownHost says whether a host is this machine, so that what is sent to it does not leave it.
func ownHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// setReportJails takes a table of jails, each with a list of categories.
func setReportJails(a *assignment, v value) {
	const hint = `write it like jails = { sshd = [18, 22] }`
	if v.kind != inlineTable {
		a.fail(v, hint, "is a table of jails with their categories, not %s", described(v))
		return
	}
	if len(v.fields) > maxJails {
		a.fail(v, "", "has %d jails, more than %d", len(v.fields), maxJails)
		return
	}
	jails := map[string][]int{}
	for _, f := range v.fields {
		name := strings.Join(f.path, ".")
		if err := checkName(name); err != nil {
			a.r.fail(f.at, `up to 48 letters, digits, and _ . - behind the first`, "jails holds %q, which is no name of a jail", clip(name))
			continue
		}
		if jails[name] != nil {
			a.r.fail(f.at, "keep one of them", "jails names %s twice", clip(name))
			continue
		}
		if categories, ok := a.categories(f.value, name); ok {
			jails[name] = categories
		}
	}
	a.target.config.Report.Jails = jails
}

// categories takes the categories of one jail, sorted.
func (a *assignment) categories(v value, jail string) (all []int, ok bool) {
	const hint = "18 is guessing passwords, 22 is ssh; they are listed at https://www.abuseipdb.com/categories"
	if v.kind != list || len(v.items) == 0 || len(v.items) > maxCategories {
		a.fail(v, hint, "wants a list of categories for %s, like [18, 22]", clip(jail))
		return nil, false
	}
	for _, item := range v.items {
		n, ok := parseWhole(item.text)
		if item.kind != integer || !ok || n < 1 || n > lastCategory {
			a.fail(item, hint, "holds %s, which is no category", described(item))
			continue
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all), true
}
