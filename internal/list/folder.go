package list

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Folder keeps lists on the disk: NAME.list is the one accepted last, NAME.refused the one refused since, NAME.state when it
// was fetched. Each file is replaced whole, so that whoever is killed leaves the old one or the new one. Several processes
// may use a folder at once, and several goroutines a Folder.
type Folder struct {
	dir string

	mu     sync.Mutex
	states map[string]State // what is known even if the disk takes no more
}

// ErrName is a name that no list can have.
var ErrName = errors.New("a list's name is 1 to 32 of a-z, 0-9 and \"-\"")

// DamagedError says that a file was found damaged, and where it is now.
type DamagedError struct {
	Path string
	Now  string // "" if it could not be moved
	Err  error
}

func (e *DamagedError) Error() string {
	if e.Now == "" {
		return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s was damaged and is now %s: %v", e.Path, e.Now, e.Err)
}

// Unwrap returns the damage, a [*FormatError].
func (e *DamagedError) Unwrap() error { return e.Err }

// OpenFolder makes dir, readable for its owner alone, unless it is there.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the lists: %w", err)
	}
	return &Folder{dir: dir, states: map[string]State{}}, nil
}

const (
	listSuffix    = ".list"
	refusedSuffix = ".refused"
	stateSuffix   = ".state"
)

func (f *Folder) path(name, suffix string) string { return filepath.Join(f.dir, name+suffix) }

// Names are those of all accepted lists, in order.
func (f *Folder) Names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("look for lists: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), listSuffix); ok && ValidName(name) && e.Type().IsRegular() {
			names = append(names, name)
		}
	}
	return names, nil
}

// Load reads the list that was accepted last. Without one the error is [fs.ErrNotExist]; a [*DamagedError] says that the
// file was no list and has been moved aside.
func (f *Folder) Load(name string) (*Kept, error) { return f.load(name, listSuffix) }

// LoadRefused reads the list that was refused since the last was accepted, with the reasons. Its errors are those of Load.
func (f *Folder) LoadRefused(name string) (*Kept, error) { return f.load(name, refusedSuffix) }

func (f *Folder) load(name, suffix string) (*Kept, error) {
	if !ValidName(name) {
		return nil, ErrName
	}
	k, err := f.read(name, suffix)
	if _, damaged := errors.AsType[*FormatError](err); !damaged {
		return k, err
	}
	if k, err = f.moveAside(name, suffix); k == nil && suffix == listSuffix {
		// What was fetched is lost: its turn has come again.
		if s, ok := f.readState(name); ok {
			s.Turn = time.Time{}
			err = errors.Join(err, f.setState(name, s))
		}
	}
	return k, err
}

// moveAside reads a file again that was found damaged, for somebody may have put a good one there meanwhile. If it is still
// damaged it gets another name, and the error is a [*DamagedError].
func (f *Folder) moveAside(name, suffix string) (*Kept, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	k, err := f.read(name, suffix)
	damage, damaged := errors.AsType[*FormatError](err)
	if !damaged {
		return k, err
	}
	moved := &DamagedError{Path: f.path(name, suffix), Now: f.path(name, suffix+".damaged"), Err: damage}
	if os.Rename(moved.Path, moved.Now) != nil {
		moved.Now = ""
	}
	return nil, moved
}

func (f *Folder) read(name, suffix string) (*Kept, error) {
	file, err := os.Open(f.path(name, suffix))
	if err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	defer file.Close()
	k, err := Decode(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	case k.Name != name:
		return nil, &FormatError{2, fmt.Sprintf("this is the list %s", k.Name)}
	case (len(k.Refused) > 0) != (suffix == refusedSuffix):
		return nil, &FormatError{1, "whether it was refused contradicts the file's name"}
	}
	return k, nil
}

// Keep writes k as the list accepted last, or beside it if it was refused. Accepting takes away what was refused before.
func (f *Folder) Keep(k *Kept) error {
	if !ValidName(k.Name) {
		return ErrName
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f.keep(k)
}

func (f *Folder) keep(k *Kept) error {
	if len(k.Refused) > 0 {
		return f.replace(k.Name+refusedSuffix, k.Encode)
	}
	if err := f.replace(k.Name+listSuffix, k.Encode); err != nil {
		return err
	}
	if err := os.Remove(f.path(k.Name, refusedSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take away the list that was refused before: %w", err)
	}
	return nil
}

// ErrNothing is a list that was refused and of which nothing can be used.
var ErrNothing = errors.New("nothing in the list that was refused can be used")

// Accept makes the list that was refused the accepted one, whatever the reasons were: all of it that are public addresses
// and networks narrow enough. The next list is compared with it. Without one the error is [fs.ErrNotExist].
func (f *Folder) Accept(name string) (*Kept, error) {
	k, err := f.LoadRefused(name)
	if err != nil {
		return nil, err
	}
	if k.Set.Len() == 0 {
		return nil, ErrNothing
	}
	k.Refused = nil
	if err := f.Keep(k); err != nil {
		return nil, err
	}
	return k, nil
}

// Remove takes away everything about a list. One that is not there is no error.
func (f *Folder) Remove(name string) error {
	if !ValidName(name) {
		return ErrName
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f.mu.Lock()
	delete(f.states, name)
	f.mu.Unlock()
	for _, suffix := range []string{listSuffix, refusedSuffix, stateSuffix} {
		for _, path := range []string{f.path(name, suffix), f.path(name, suffix+".damaged"), f.path(name, suffix+".new")} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove a list: %w", err)
			}
		}
	}
	return f.syncDir()
}

// Tidy takes away everything about the lists that are not among names. How often they were fetched within a day is still
// known afterwards: the source counts it too, and a list that was left out by mistake is back in a moment.
func (f *Folder) Tidy(names []string, now time.Time) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look for lists: %w", err)
	}
	gone := map[string]bool{}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if ValidName(name) && e.Type().IsRegular() && !slices.Contains(names, name) {
			gone[name] = true
		}
	}
	var errs []error
	for name := range gone {
		tries := recent(f.State(name).Tries, now)
		if len(tries) > 0 && f.onlyTries(name) {
			continue
		}
		err := f.Remove(name)
		if err == nil && len(tries) > 0 {
			err = f.setState(name, State{Tries: tries})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// onlyTries says whether nothing is left of a list but how often it was fetched.
func (f *Folder) onlyTries(name string) bool {
	left, err := filepath.Glob(f.path(name, ".*"))
	return err == nil && len(left) == 1 && left[0] == f.path(name, stateSuffix) && f.State(name).Turn.IsZero()
}

// lock keeps other writers of the folder away, those of other processes too. A process that is killed lets go of it.
func (f *Folder) lock() (unlock func(), err error) {
	dir, err := os.Open(f.dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of the lists: %w", err)
	}
	if err := ignoringEINTR(func() error { return unix.Flock(int(dir.Fd()), unix.LOCK_EX) }); err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", f.dir, err)
	}
	return func() { dir.Close() }, nil
}

func ignoringEINTR(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// replace writes a file whole, or leaves the old one: what is under the name is on the disk before the name is. The lock must
// be held, for what is unfinished has one name, so that no more than one is ever left behind.
func (f *Folder) replace(name string, write func(io.Writer) error) (err error) {
	path := filepath.Join(f.dir, name)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Remove(path + ".new") // a full disk shall not stay full for its sake
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.syncDir()
}

func (f *Folder) syncDir() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return fmt.Errorf("open the folder of the lists: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("write the folder of the lists to the disk: %w", err)
	}
	return nil
}

// State is what is known about the fetching of a list.
type State struct {
	Turn     time.Time   // when its turn was last done with: a list came, was unchanged, or is to be looked at by people
	Good     time.Time   // when it was last known to be the newest
	Asked    Terms       // what was asked for then, without Plan
	Tries    []time.Time // the fetches of the last 24 hours, oldest first
	Failures int         // in a row
	Error    string      // of the last fetch, "" if it went well; printable
	Retry    time.Time   // when to try again after failures
}

// stateFile is how a State is written.
type stateFile struct {
	Version    int         `json:"version"` // 1
	Turn       time.Time   `json:"turn,omitzero"`
	Good       time.Time   `json:"good,omitzero"`
	Source     string      `json:"source,omitempty"`
	Limit      int         `json:"limit,omitempty"`
	Confidence int         `json:"confidence,omitempty"`
	Tries      []time.Time `json:"tries,omitempty"`
	Failures   int         `json:"failures,omitempty"`
	Error      string      `json:"error,omitempty"`
	Retry      time.Time   `json:"retry,omitzero"`
}

// maxState bounds the file of a State in bytes.
const maxState = 64 << 10

// State tells how the fetching of a list goes. Where nothing was written it is taken from the list that is kept.
func (f *Folder) State(name string) State {
	f.mu.Lock()
	s, ok := f.states[name]
	f.mu.Unlock()
	if ok || !ValidName(name) {
		return s
	}
	s, ok = f.readState(name)
	if !ok {
		if k, err := f.Load(name); err == nil {
			s = State{Turn: k.Fetched, Good: k.Fetched, Asked: k.Terms}
			s.Asked.Plan = ""
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[name] = s
	return s
}

// readState reads a State. One that cannot be read is as good as none: the list is fetched once more.
func (f *Folder) readState(name string) (State, bool) {
	file, err := os.Open(f.path(name, stateSuffix))
	if err != nil {
		return State{}, false
	}
	defer file.Close()
	var w stateFile
	if json.NewDecoder(io.LimitReader(file, maxState)).Decode(&w) != nil || w.Version != 1 || w.Failures < 0 {
		return State{}, false
	}
	return State{
		Turn: w.Turn, Good: w.Good, Asked: Terms{Source: w.Source, Limit: w.Limit, Confidence: w.Confidence},
		Tries: w.Tries, Failures: w.Failures, Error: w.Error, Retry: w.Retry,
	}, true
}

// setState remembers s even if it cannot be written, which the error tells.
func (f *Folder) setState(name string, s State) error {
	f.mu.Lock()
	f.states[name] = s
	f.mu.Unlock()
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f.replace(name+stateSuffix, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(stateFile{
			Version: 1, Turn: s.Turn, Good: s.Good, Source: s.Asked.Source, Limit: s.Asked.Limit, Confidence: s.Asked.Confidence,
			Tries: s.Tries, Failures: s.Failures, Error: s.Error, Retry: s.Retry,
		})
	})
}
