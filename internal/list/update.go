package list

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"tocsin"
)

// Order is one list to be fetched.
type Order struct {
	Name    string
	Host    string // this machine's name; with Name it chooses the time of day where At does not
	At      string // time of day, "HH:MM" or "auto"
	Terms   Terms  // without Plan, which the source tells
	Budget  int    // fetches that the source grants in 24 hours; 0: any number
	Fetcher Fetcher
}

// Outcome is what a fetch came to.
type Outcome struct {
	Accepted  *Kept // the list that is now kept; nil if it was refused or is unchanged
	Unchanged bool  // the source has nothing newer than what is kept
	Refused   *Kept // the list that was refused, with its reasons
	Added     int   // entries of Accepted that the list before it had not
	Removed   int   // entries that Accepted has no more
	NotPublic int   // entries that were left out because nobody attacks from there
}

// Next is when o is to be fetched; not after now means now. It is at once where the order was changed since, otherwise at the
// list's turn, or later after failures or where the source's grant is used up.
func (f *Folder) Next(o Order, now time.Time) time.Time {
	s := f.State(o.Name)
	next := Due(o.Name, o.Host, o.At, s.Turn, now)
	if s.Asked != o.Terms {
		next = now
	}
	if s.Failures > 0 {
		next = s.Retry
	}
	if tries := recent(s.Tries, now); o.Budget > 0 && len(tries) >= o.Budget {
		if free := tries[len(tries)-o.Budget].Add(day); free.After(next) {
			next = free
		}
	}
	if next.Sub(now) > longestWait {
		return now // written by a clock that was wrong
	}
	return next
}

// Again has a list that could not be fetched tried again at once: what was wrong may have been set right. The fetches that
// failed count no more, for they may have been another account's.
func (f *Folder) Again(name string) error {
	s := f.State(name)
	if s.Failures == 0 {
		return nil
	}
	s.Failures, s.Error, s.Retry, s.Tries = 0, "", time.Time{}, nil
	return f.setState(name, s)
}

// Update fetches a list, judges it, and keeps it or puts it beside. It does not ask whether the list is due.
//
// An error means that nothing was learnt, and that the list of the last time goes on; the next try is written down before a
// fetch is begun, so that not even a process that dies of it fetches again at once. A fetch that ctx ended is not a failure.
// An error of the disk is returned beside the outcome.
func (f *Folder) Update(ctx context.Context, o Order, now time.Time) (Outcome, error) {
	if !ValidName(o.Name) {
		return Outcome{}, ErrName
	}
	before := f.State(o.Name)
	during := before
	during.Tries = recent(append(slices.Clip(before.Tries), now), now)
	during.fail(errors.New("the fetch was interrupted"), o, now)
	unwritten := f.setState(o.Name, during)

	last, err := f.Load(o.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		unwritten = errors.Join(unwritten, err)
	}
	got, err := f.fetch(ctx, o, last)
	if err != nil {
		return Outcome{}, errors.Join(f.setState(o.Name, afterFailure(ctx, o, before, during, err, now)), unwritten, err)
	}
	out, err := f.settle(o, got, last, now)
	if err != nil {
		unwritten = errors.Join(unwritten, err)
	}
	after := afterFetch(o, before, during, out, now)
	if out == (Outcome{}) { // the disk did not take it: try again
		after = during
		after.Error = tocsin.Printable(oneLine(err))
	}
	return out, errors.Join(unwritten, f.setState(o.Name, after))
}

// fetch asks the source, conditionally if what is kept was given on the same terms.
func (f *Folder) fetch(ctx context.Context, o Order, last *Kept) (*Fetched, error) {
	var p Previous
	if last != nil {
		asked := last.Terms
		if asked.Plan = ""; asked == o.Terms {
			p = Previous{last.ETag, last.Modified, last.Generated}
		}
	}
	got, err := o.Fetcher.Fetch(ctx, o.Terms, p)
	if err == nil && got.Unchanged && p == (Previous{}) {
		return nil, errors.New("the source says that nothing changed, and was not asked that")
	}
	if err == nil && !got.Unchanged && got.Parsed == nil {
		panic("BUG: a fetcher returned neither a list nor an error")
	}
	return got, err
}

// settle judges what came, and keeps it or puts it beside.
func (f *Folder) settle(o Order, got *Fetched, last *Kept, now time.Time) (Outcome, error) {
	if got.Unchanged {
		// It is as good as fetched now, which those who judge it by its age have to know.
		last.Fetched = now.Truncate(time.Second)
		return Outcome{Unchanged: true}, f.Keep(last)
	}
	k := &Kept{
		Name: o.Name, Terms: o.Terms, Generated: got.Generated.Truncate(time.Second), Fetched: now.Truncate(time.Second),
		ETag: got.ETag, Modified: got.Modified, Set: got.Parsed.Set,
	}
	k.Terms.Plan = got.Plan
	k.Refused = Judge(got.Parsed, k.Terms, last)
	if err := f.Keep(k); err != nil {
		return Outcome{}, err
	}
	if len(k.Refused) > 0 {
		return Outcome{Refused: k, NotPublic: got.Parsed.Special.N}, nil
	}
	out := Outcome{Accepted: k, NotPublic: got.Parsed.Special.N}
	if last == nil {
		last = &Kept{Set: &Set{}}
	}
	out.Added, out.Removed = Diff(last.Set, k.Set)
	return out, nil
}

// fail counts a failure of a fetch at now.
func (s *State) fail(err error, o Order, now time.Time) {
	s.Failures++
	s.Error = tocsin.Printable(oneLine(err))
	s.Retry = retry(s.Failures, s.Tries, o.Budget, now)
	if rest, ok := errors.AsType[*RestError](err); ok {
		if until := now.Add(min(rest.Wait, longestWait)); until.After(s.Retry) {
			s.Retry = until
		}
	}
}

// afterFailure is the state behind a fetch that brought nothing.
func afterFailure(ctx context.Context, o Order, before, during State, err error, now time.Time) State {
	after := before
	after.Tries = during.Tries
	if _, unsent := errors.AsType[*UnsentError](err); unsent {
		after.Tries = before.Tries
	}
	if ctx.Err() == nil {
		after.fail(err, o, now)
	}
	return after
}

// afterFetch is the state behind a fetch that brought something.
func afterFetch(o Order, before, during State, out Outcome, now time.Time) State {
	if out.Refused != nil && passing(out.Refused.Refused) {
		after := before
		after.Tries = during.Tries
		after.fail(fmt.Errorf("refused: %s", texts(out.Refused.Refused)), o, now)
		return after
	}
	after := State{Turn: now, Good: now, Asked: o.Terms, Tries: during.Tries}
	if out.Refused != nil {
		after.Good, after.Error = before.Good, tocsin.Printable("refused: "+texts(out.Refused.Refused))
	}
	return after
}

// passing says whether a list was refused for reasons that often pass by themselves, such as a page that says "maintenance".
// For others the next turn is soon enough.
func passing(reasons []Reason) bool {
	return slices.ContainsFunc(reasons, func(r Reason) bool { return r.Kind == NotList || r.Kind == Truncated || r.Kind == Empty })
}

func texts(reasons []Reason) string {
	all := make([]string, len(reasons))
	for i, r := range reasons {
		all[i] = r.Text
	}
	return strings.Join(all, "; ")
}

// oneLine is an error's text in at most 500 bytes, without line ends.
func oneLine(err error) string {
	s := strings.ReplaceAll(err.Error(), "\n", "; ")
	return s[:min(len(s), 500)]
}
