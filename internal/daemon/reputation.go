package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/abuseipdb"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/report"
)

// This file is what the watch process answers on its socket.

// checkedFor is how long the answer to a check is used again.
const checkedFor = 24 * time.Hour

func (w *watcher) operations() api.WatchOperations {
	return api.WatchOperations{Reputation: w.reputation, Check: w.check, Report: w.report, Forget: w.forget, Accept: w.accept}
}

// current is the session; between two there is none for a moment.
func (w *watcher) current() (*session, error) {
	if s := w.now.Load(); s != nil {
		return s, nil
	}
	return nil, api.Errorf(api.ExitTryLater, "try again", "the watch process is reading its configuration")
}

func (w *watcher) reputation(context.Context) (api.Reputation, error) {
	s, err := w.current()
	if err != nil {
		return api.Reputation{}, err
	}
	r := api.Reputation{
		Schema: api.SchemaReputation, Version: w.o.Version, Started: w.started.UTC(), Service: s.client.Host(), Lists: []api.FetchedList{},
	}
	if _, err := readKey(w.dir); err == nil {
		r.Key = true
	} else if !errors.Is(err, errNoKey) {
		r.KeyProblem = tocsin.Printable(err.Error())
	}
	for _, c := range s.conf.Lists {
		r.Lists = append(r.Lists, s.fetched(c))
	}
	r.Reports = s.reportState()
	return r, nil
}

// fetched is how it stands with a list.
func (s *session) fetched(c config.List) api.FetchedList {
	f := api.FetchedList{Name: c.Name, Handed: s.isHanded(c.Name), Refused: []string{}}
	o, err := s.order(c)
	if err != nil {
		f.Error = tocsin.Printable(err.Error())
		return f
	}
	f.Source = o.Terms.Source
	next := s.w.folder.Next(o, time.Now())
	st := s.w.folder.State(c.Name)
	f.Next, f.Fetched, f.Failures, f.Error = api.Time(next), api.Time(st.Good), st.Failures, st.Error
	if k, err := s.w.folder.Load(c.Name); err == nil {
		f.Entries, f.Generated = k.Set.Len(), api.Time(k.Generated)
	}
	if k, err := s.w.folder.LoadRefused(c.Name); err == nil {
		for _, r := range k.Refused {
			f.Refused = append(f.Refused, r.Text)
		}
	}
	return f
}

func (s *session) reportState() api.ReportState {
	r := api.ReportState{Enabled: s.conf.Report.Enabled, Jails: s.conf.Report.Jails, LeftOut: map[string]int64{}}
	if s.reporter == nil {
		return r
	}
	st := s.reporter.Stats()
	r.Cursor = st.Cursor
	r.Held, r.Queued = st.Held, st.Queued-st.Held
	r.Sent, r.Doubles, r.Refused, r.Unknown, r.GivenUp, r.Withdrawn = st.Sent, st.Duplicates, st.Refused, st.Unknown, st.GivenUp, st.Withdrawn
	r.LeftOut = st.Skipped
	if st.Single.Limit > 0 {
		r.Quota, r.Limit = &st.Single.Remaining, &st.Single.Limit
	}
	r.RestsUntil = api.Time(st.Single.Rest)
	r.Stopped = stopText(st.Stopped)
	return r
}

// stopText says what to do about an answer after which nothing is sent any more.
func stopText(status int) string {
	switch status {
	case 0:
		return ""
	case 401:
		return "the API key is missing or refused: tocsin reputation key"
	case 402:
		return "the account's plan does not cover reports"
	}
	return "the service forbids it: look at the account on its web page"
}

// check asks the service about an address, unless it was asked within a day.
func (w *watcher) check(ctx context.Context, addr netip.Addr) (api.Check, error) {
	s, err := w.current()
	if err != nil {
		return api.Check{}, err
	}
	var c api.Check
	text, _, ok, err := w.store.Checked(ctx, addr, time.Now().Add(-checkedFor))
	if err == nil && ok && json.Unmarshal([]byte(text), &c) == nil && c.Service == s.client.Host() {
		c.Cached = true
		return c, nil
	}
	got, _, err := s.client.Check(ctx, abuseipdb.CheckQuery{Addr: addr, MaxAge: 90})
	if err != nil {
		return api.Check{}, callError(err)
	}
	c = api.Check{
		Schema: api.SchemaCheck, Addr: addr.String(), Service: s.client.Host(), Asked: time.Now().UTC(), Score: got.Score,
		Reports: got.Reports, Users: got.Reporters, Last: api.Time(got.Last), Country: got.Country, Usage: got.Usage, Provider: got.ISP,
		Domain: got.Domain, Tor: got.Tor, Trusted: got.WhitelistKnown && got.Whitelisted,
	}
	kept, err := json.Marshal(c)
	if err == nil {
		err = w.store.PutChecked(ctx, addr, c.Asked, string(kept))
	}
	if err != nil {
		w.log.Warn("an answer is not kept", "err", err)
	}
	return c, nil
}

// callError gives a failed call the exit code of its kind.
func callError(err error) *api.Error {
	text := tocsin.Printable(err.Error())
	var quota *abuseipdb.QuotaError
	var network *abuseipdb.NetworkError
	var parameter *abuseipdb.ParameterError
	switch {
	case errors.Is(err, errNoKey), errors.Is(err, abuseipdb.ErrKey):
		return api.Errorf(api.ExitPermission, "tocsin reputation key", text)
	case errors.As(err, &quota):
		return api.Errorf(api.ExitTryLater, "", text)
	case errors.As(err, &network):
		return api.Errorf(api.ExitUnreachable, "", text)
	case errors.As(err, &parameter):
		return api.Errorf(api.ExitData, "", text)
	}
	return api.Errorf(api.ExitFailed, "", text)
}

// errReportsOff is the answer where nobody switched reports on.
func errReportsOff() *api.Error {
	return api.Errorf(api.ExitFindings, "set enabled = true under [report], then tocsin reload; tocsin reputation --dry-run shows what would be sent", "reports are switched off")
}

func parseRequest(r *api.AddrRequest) (netip.Addr, error) {
	addr, err := netip.ParseAddr(r.Addr)
	if err != nil || addr.Zone() != "" {
		return addr, api.Errorf(api.ExitUsage, "write it like 192.0.2.7 or 2001:db8::7", fmt.Sprintf("%q is not an IP address", tocsin.Printable(r.Addr)))
	}
	return addr.Unmap(), nil
}

// report queues a report that an operator asks for.
func (w *watcher) report(ctx context.Context, r api.AddrRequest) (api.Change, error) {
	addr, err := parseRequest(&r)
	if err != nil {
		return api.Change{}, err
	}
	if err := abuseipdb.CheckCategories(r.Categories); err != nil {
		return api.Change{}, api.Errorf(api.ExitUsage, "such as --category 18,22; they are listed at https://www.abuseipdb.com/categories", err.Error())
	}
	s, err := w.current()
	if err != nil {
		return api.Change{}, err
	}
	if s.reporter == nil {
		return api.Change{}, errReportsOff()
	}
	switch why, err := s.reporter.Report(ctx, addr, r.Categories); {
	case err != nil:
		return api.Change{}, err
	case why != report.Yes:
		return api.Change{}, refused("", "%s is not reported: %s", addr, why)
	}
	return change(fmt.Sprintf("%s will be reported to %s", addr, s.client.Host()), "tocsin reputation forget "+addr.String(), addr.String()), nil
}

// forget takes back what was reported about an address, and what was going to be.
func (w *watcher) forget(ctx context.Context, r api.AddrRequest) (api.Change, error) {
	addr, err := parseRequest(&r)
	if err != nil {
		return api.Change{}, err
	}
	s, err := w.current()
	if err != nil {
		return api.Change{}, err
	}
	return s.forget(ctx, addr)
}

func (s *session) forget(ctx context.Context, addr netip.Addr) (api.Change, error) {
	waited, err := s.dropWaiting(ctx, addr)
	if err != nil {
		return api.Change{}, err
	}
	if err := s.w.store.DropChecked(ctx, addr); err != nil {
		s.w.log.Warn("an answer is not forgotten", "err", err)
	}
	n, _, err := s.client.ClearAddress(ctx, addr)
	switch {
	case err != nil && waited:
		e := callError(err)
		e.Msg = fmt.Sprintf("the report about %s that waited is not sent; what %s was told before could not be taken back: %s", addr, s.client.Host(), e.Msg)
		return api.Change{}, e
	case err != nil:
		return api.Change{}, callError(err)
	}
	text := fmt.Sprintf("%s at %s about %s taken back", api.Count(n, "report", "reports"), s.client.Host(), addr)
	if waited {
		text += ", one that waited is not sent"
	}
	return change(text, "", addr.String()), nil
}

// dropWaiting drops what was going to be reported about an address, also while reports are off: they may be on again before
// it is too old.
func (s *session) dropWaiting(ctx context.Context, addr netip.Addr) (was bool, err error) {
	r := s.reporter
	if r == nil {
		s.w.asides.Lock()
		defer s.w.asides.Unlock()
		if r, err = s.openReports(ctx); err != nil {
			return false, err
		}
	}
	return r.Forget(ctx, addr)
}

// ForgetAlone takes back what was reported about an address, and what was going to be, where no watch process runs. As root
// it becomes the user of the watch process for good: what that one wrote is not opened with root's power.
func ForgetAlone(ctx context.Context, o WatchOptions, addr netip.Addr) (api.Change, error) {
	if os.Geteuid() == 0 {
		if _, err := makeWatchFolder(o.Config.State); err != nil {
			return api.Change{}, err
		}
		if err := become(watchUser()); err != nil {
			return api.Change{}, fmt.Errorf("become the user of the watch process: %w", err)
		}
	}
	return forgetAlone(ctx, o, addr)
}

func forgetAlone(ctx context.Context, o WatchOptions, addr netip.Addr) (api.Change, error) {
	w, leave, err := newWatcher(o)
	if err != nil {
		return api.Change{}, err
	}
	defer leave()
	s, err := w.newSession(ctx, o.Config)
	if err != nil {
		return api.Change{}, err
	}
	return s.forget(ctx, addr)
}

// become gives up being root.
func become(u exec.User) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(int(u.GID)); err != nil {
		return err
	}
	return syscall.Setuid(int(u.UID))
}

// accept uses a list that was refused.
func (w *watcher) accept(_ context.Context, name string) (api.Change, error) {
	s, err := w.current()
	if err != nil {
		return api.Change{}, err
	}
	poked, ok := s.poked[name]
	if !ok {
		return api.Change{}, api.Errorf(api.ExitUsage, "the lists are: "+listNames(s.conf.Lists), fmt.Sprintf("no list is named %q", tocsin.Printable(name)))
	}
	k, err := w.folder.Accept(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Change{}, refused("", "no list %s was refused since the last one that was accepted", name)
	case err != nil:
		return api.Change{}, err
	}
	s.setHanded(name, false)
	select {
	case poked <- true:
	default:
	}
	return change(fmt.Sprintf("list %s with %s is accepted and goes to the guard", name, api.Count(k.Set.Len(), "entry", "entries")), "", name), nil
}

// WatchFindings is what doctor tells of the watch process.
func WatchFindings(r *api.Reputation) []api.Finding {
	f := findings{}
	if r.KeyProblem != "" {
		f.add("TOC-REP-001", api.SeverityError, "tocsin reputation key", "the API key cannot be used: %s", r.KeyProblem)
	} else if !r.Key && (r.Reports.Enabled || asksService(r)) {
		f.add("TOC-REP-001", api.SeverityError, "tocsin reputation key", "there is no API key for %s", r.Service)
	}
	if r.Reports.Stopped != "" {
		f.add("TOC-REP-002", api.SeverityError, "tocsin reputation", "no reports are sent: %s", r.Reports.Stopped)
	}
	if r.Reports.Unknown > 0 {
		f.add("TOC-REP-003", api.SeverityNote, "nothing", "%s sent without an answer, and may have been lost", api.Count(int(r.Reports.Unknown), "report was", "reports were"))
	}
	for _, l := range r.Lists {
		if len(l.Refused) > 0 {
			f.add("TOC-LST-004", api.SeverityWarning, "look at it; tocsin reputation accept "+l.Name+" uses it", "a newer list %s is not used: %s", l.Name, strings.Join(l.Refused, "; "))
		}
		if l.Failures > 2 {
			f.add("TOC-LST-005", api.SeverityWarning, "see tocsin reputation", "list %s was not fetched %s in a row: %s", l.Name, api.Count(l.Failures, "time", "times"), l.Error)
		}
	}
	return f
}

// asksService says whether a list comes from the service that wants a key.
func asksService(r *api.Reputation) bool {
	for _, l := range r.Lists {
		if u, err := url.Parse(l.Source); err == nil && u.Host == r.Service {
			return true
		}
	}
	return false
}
