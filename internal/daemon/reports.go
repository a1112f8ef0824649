package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/list"
	"tocsin/internal/report"
)

const (
	askSpared  = 2 * time.Second // how long the guard may take to say whether somebody is spared
	freshFor   = time.Minute     // nothing is sent while the guard has not answered for so long: nobody knows who logged in
	maxKnown   = 20_000
	atOnce     = 1000 // decisions asked for
	guardWaits = 8 * time.Second
)

// openReports opens the queue of reports. Nothing is sent yet.
func (s *session) openReports(ctx context.Context) (*report.Reporter, error) {
	o := report.Options{
		Jails: map[string]report.Jail{}, Hold: s.conf.Report.Hold, Account: s.account,
		Spare: s.spare,
	}
	for name, categories := range s.conf.Report.Jails {
		o.Jails[name] = report.Jail{Categories: categories}
	}
	return report.NewReporter(ctx, o, s.w.store, s, s.w.log)
}

// followGuard follows the guard's decisions, and notices when its configuration or our key is another one.
func (s *session) followGuard(ctx context.Context) error {
	var away bool
	for ctx.Err() == nil {
		asked := time.Now()
		news, err := s.w.guard.Decisions(ctx, s.question())
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !away {
				s.w.log.Warn("the guard does not answer; asking again", "err", err)
			}
			away = true
			pause(ctx, guardAgain)
			continue
		case away:
			s.w.log.Info("the guard answers again")
			away = false
		}
		known := s.w.reloads
		newAccount := s.account != s.w.account(s.conf)
		if newAccount {
			s.fetchAgain()
		}
		if s.w.reloads = news.Reloads; known >= 0 && known != news.Reloads || newAccount {
			return errReload
		}
		if err := s.takeIn(ctx, &news); err != nil {
			return err
		}
		switch {
		case s.reporter == nil:
			pause(ctx, guardWaits)
		case len(news.Decisions) == 0 && time.Since(asked) < time.Second:
			pause(ctx, time.Second)
		}
	}
	return nil
}

// fetchAgain has the service's lists tried again that another key did not get.
func (s *session) fetchAgain() {
	for _, c := range s.conf.Lists {
		if !strings.HasPrefix(c.URL, "abuseipdb:") {
			continue
		}
		if err := s.w.folder.Again(c.Name); err != nil {
			s.w.log.Warn("cannot note that a list is tried again", "node", c.Name, "err", err)
		}
	}
}

// question is what the guard is asked. Without reports only whether it is there.
func (s *session) question() api.DecisionsQuery {
	if s.reporter == nil {
		return api.DecisionsQuery{After: -1}
	}
	cursor := s.reporter.Cursor()
	if cursor == 0 {
		return api.DecisionsQuery{After: -1} // where it stands: what was before is not reported
	}
	q := api.DecisionsQuery{After: max(cursor, 0), Limit: atOnce, Wait: guardWaits}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard.IsZero() { // reports wait for an answer
		q.Wait = 0
	}
	return q
}

// sendReports sends once the guard has answered: before that nobody can say who is spared, and a report that was under way
// when the last watch process was killed would be put off for a minute instead of being repeated at once.
func (s *session) sendReports(ctx context.Context) error {
	select {
	case <-s.met:
		return s.reporter.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// takeIn gives the guard's news to the reports.
func (s *session) takeIn(ctx context.Context, news *api.Decisions) error {
	s.mu.Lock()
	s.heard = time.Now()
	clear(s.known)
	s.mu.Unlock()
	s.meets()
	if s.reporter == nil {
		return nil
	}
	cursor := s.reporter.Cursor()
	switch {
	case cursor == 0 && news.Newest == 0:
		return s.reporter.Begin(ctx, beforeAll)
	case cursor == 0:
		return s.reporter.Begin(ctx, news.Newest)
	case news.Newest < cursor:
		s.w.log.Warn("the guard has lost its store and counts anew; going on from where it is", "n", news.Newest)
		return s.reporter.Rewind(ctx, max(news.Newest, beforeAll))
	}
	ds := make([]report.Decision, 0, len(news.Decisions))
	for i := range news.Decisions {
		d, err := decisionOf(&news.Decisions[i])
		if err != nil {
			s.w.log.Error("the guard told something that is not understood", "err", err)
			continue
		}
		d.WhileOff = news.Reports == nil || d.At.Before(*news.Reports)
		s.note(&d)
		ds = append(ds, d)
	}
	return s.reporter.Take(ctx, ds, news.Next >= news.Newest)
}

// beforeAll is the cursor in front of the first decision of an empty store.
const beforeAll = -1

// decisionOf takes a decision off the wire.
func decisionOf(w *api.Decision) (d report.Decision, err error) {
	d = report.Decision{N: w.N, Jail: w.Jail, At: w.At, Failures: w.Failures, MaxRetry: w.MaxRetry, Known: w.Known, Allowed: w.Allowed}
	if d.Prefix, err = netip.ParsePrefix(w.Prefix); err != nil {
		return d, fmt.Errorf("decision %d: %w", w.N, err)
	}
	if w.Addr != "" {
		if d.Addr, err = netip.ParseAddr(w.Addr); err != nil {
			return d, fmt.Errorf("decision %d: %w", w.N, err)
		}
	}
	if w.First != nil && w.Last != nil {
		d.First, d.Last = *w.First, *w.Last
	}
	for action := tocsin.Ban; ; action++ {
		if action > tocsin.Unban {
			return d, fmt.Errorf("decision %d: unknown action", w.N)
		}
		if action.String() == w.Action {
			d.Action = action
			break
		}
	}
	d.Origin = tocsin.ByList // nothing is reported that is not known to rest on evidence
	if w.Origin == tocsin.ByJail.String() {
		d.Origin = tocsin.ByJail
	}
	return d, nil
}

// note remembers for a moment what the guard said of somebody, so that it is not asked the same again at once.
func (s *session) note(d *report.Decision) {
	why := report.Yes
	switch {
	case d.Allowed:
		why = report.Allowed
	case d.Known:
		why = report.LoggedIn
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) < maxKnown {
		s.known[d.Prefix.Masked().String()] = why
	}
}

// spare asks the guard whether nothing may be told of somebody now. Where it does not answer, what it said when it banned
// them holds; nothing is sent then anyway (see Send).
func (s *session) spare(p netip.Prefix) report.Why {
	s.mu.Lock()
	why, noted := s.known[p.String()]
	s.mu.Unlock()
	if noted {
		return why
	}
	ctx, cancel := context.WithTimeout(context.Background(), askSpared)
	defer cancel()
	got, err := s.w.guard.Spared(ctx, p)
	switch {
	case err != nil:
		s.mu.Lock()
		s.heard, s.unsure = time.Time{}, true // so that nothing is sent, even if it answers something else meanwhile
		s.mu.Unlock()
		return report.Yes
	case got.Own:
		return report.Own
	case got.Allowed:
		return report.Allowed
	case got.Known:
		return report.LoggedIn
	}
	return report.Yes
}

// errGuardAway keeps reports back while nobody can tell who logged in or was let in.
var errGuardAway = errors.New("the guard does not answer")

// Send makes the one call of a job, and says what became of it.
func (s *session) Send(ctx context.Context, j report.Job) report.Answer {
	s.mu.Lock()
	heard, unsure := s.heard, s.unsure
	s.unsure = false
	s.mu.Unlock()
	if unsure || time.Since(heard) > freshFor {
		return report.Answer{Outcome: report.Failed, Detail: errGuardAway.Error()}
	}
	return report.Client{API: s.client}.Send(ctx, j)
}

// give hands a list to the guard.
func (s *session) give(ctx context.Context, k *list.Kept) (api.ListState, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(k.Encode(w)) }()
	defer r.Close() // ends the writer where the guard has heard enough
	return s.w.guard.GiveList(ctx, k.Name, r)
}

// DryRun says what would be reported of the guard's decisions of the last day, and sends nothing.
func DryRun(ctx context.Context, guard *api.Client, conf *config.Config) (api.DryRun, error) {
	out := api.DryRun{Schema: api.SchemaDryRun, URL: conf.Report.URL, Enabled: conf.Report.Enabled, Reports: []api.PlannedReport{}, LeftOut: map[string]int64{}}
	o := report.Options{Jails: map[string]report.Jail{}, Spare: func(netip.Prefix) report.Why { return report.Yes }}
	for name, categories := range conf.Report.Jails {
		o.Jails[name] = report.Jail{Categories: categories}
	}
	var planned []report.Decision
	last := map[netip.Prefix]int{} // of planned, the newest ban
	lifted := map[int]bool{}       // of planned, within hold
	for after := int64(0); ; {
		news, err := guard.Decisions(ctx, api.DecisionsQuery{After: after, Since: 24 * time.Hour, Limit: atOnce})
		if err != nil {
			return out, err
		}
		for i := range news.Decisions {
			d, err := decisionOf(&news.Decisions[i])
			switch {
			case err != nil:
			case d.Action == tocsin.Unban:
				if i, ok := last[d.Prefix]; ok && d.At.Sub(planned[i].At) < conf.Report.Hold {
					lifted[i] = true
				}
			default:
				last[d.Prefix] = len(planned)
				planned = append(planned, d)
			}
		}
		if len(news.Decisions) == 0 || news.Next <= after {
			break
		}
		after = news.Next
	}
	for i := range planned {
		d := &planned[i]
		addr, why := o.Eligible(d, time.Now())
		if why == report.Yes && lifted[i] {
			out.LeftOut["lifted within hold"]++
			continue
		}
		if why != report.Yes {
			out.LeftOut[why.String()]++
			continue
		}
		r := d.Planned(o.Jails[d.Jail], addr, time.Now())
		out.Reports = append(out.Reports, api.PlannedReport{Addr: r.Addr.String(), Categories: r.Categories, Comment: r.Comment, At: r.At})
	}
	return out, nil
}
