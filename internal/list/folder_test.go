package list

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childFolder names the folder that a child of this test binary writes lists to until it is killed.
const childFolder = "TOCSIN_TEST_LISTS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := keepForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// numbered is a list of n entries that says so.
func numbered(n int) *Kept {
	k := kept(NewSet(func(yield func(netip.Prefix) bool) {
		for i := range n {
			if !yield(netip.PrefixFrom(addrOf4(8<<24|uint32(i)), 32)) {
				return
			}
		}
	}))
	k.Terms.Limit = n
	return k
}

// keepForEver keeps lists of growing size, each refused first and then accepted, and tells of each step when it is done.
func keepForEver(dir string) error {
	f, err := OpenFolder(dir)
	if err != nil {
		return err
	}
	k, err := f.Load("abuseipdb")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n := 5000
	if k != nil {
		n = k.Terms.Limit
	}
	for {
		if err := f.setState("abuseipdb", State{Turn: t0, Failures: n}); err != nil {
			return err
		}
		n++
		k := numbered(n)
		k.Refused = []Reason{{Larger, "for the sake of the test"}}
		if err := f.Keep(k); err != nil {
			return err
		}
		fmt.Printf("refused %d\n", n)
		if _, err := f.Accept("abuseipdb"); err != nil {
			return err
		}
		fmt.Printf("accepted %d\n", n)
	}
}

// TestKill kills a writing process 50 times at random moments. Every file must be the last one that it was told is there, or
// the next one, whole, and nothing may pile up.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for range 50 {
		refused, accepted := killOnce(t, dir)
		f, err := OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		k, err := f.Load("abuseipdb")
		switch {
		case accepted == 0 && errors.Is(err, fs.ErrNotExist): // killed in its first round
		case err != nil:
			t.Fatal(err)
		case k.Terms.Limit < accepted || k.Terms.Limit > max(refused, accepted)+1 || k.Set.Len() != k.Terms.Limit:
			t.Fatalf("the list has %d of %d entries; %d was accepted, %d refused", k.Set.Len(), k.Terms.Limit, accepted, refused)
		}
		k, err = f.LoadRefused("abuseipdb")
		if err == nil && (k.Set.Len() != k.Terms.Limit || k.Terms.Limit < refused) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the refused list: %+v, %v", k, err)
		}
		if s, ok := f.readState("abuseipdb"); accepted > 0 && (!ok || s.Failures < accepted-1) {
			t.Fatalf("the state is %+v, %d was accepted", s, accepted)
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) > 6 {
			t.Fatalf("files have piled up: %v, %v", files, err)
		}
	}
}

func killOnce(t *testing.T, dir string) (refused, accepted int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, text, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			continue // the half line of somebody killed
		}
		if what == "refused" {
			refused = n
		} else {
			accepted = n
		}
		if kill == nil {
			kill = time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait() // always "killed"
	if stderr.Len() > 0 {
		t.Fatal(stderr.String())
	}
	return refused, accepted
}

func folder(t testing.TB) *Folder {
	t.Helper()
	f, err := OpenFolder(filepath.Join(t.TempDir(), "lists"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	f := folder(t)
	if _, err := f.Load("abuseipdb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing: %v", err)
	}
	if _, err := f.Accept("abuseipdb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Accept of nothing: %v", err)
	}
	must(t, f.Keep(kept(set("1.1.1.1 8.8.8.8"))))
	refused := kept(set("9.9.9.9"))
	refused.Refused = []Reason{{Half, "it has 1 entries"}, {Special, "10 are no public addresses"}}
	must(t, f.Keep(refused))
	if k, err := f.Load("abuseipdb"); err != nil || join(k.Set) != "1.1.1.1 8.8.8.8" {
		t.Errorf("Load beside a refused one: %+v, %v", k, err)
	}
	if k, err := f.LoadRefused("abuseipdb"); err != nil || join(k.Set) != "9.9.9.9" || len(k.Refused) != 2 || k.Refused[1] != refused.Refused[1] {
		t.Errorf("LoadRefused: %+v, %v", k, err)
	}
	if names, err := f.Names(); err != nil || strings.Join(names, " ") != "abuseipdb" {
		t.Errorf("Names = %q, %v", names, err)
	}
	if k, err := f.Accept("abuseipdb"); err != nil || join(k.Set) != "9.9.9.9" || k.Refused != nil {
		t.Errorf("Accept: %+v, %v", k, err)
	}
	if _, err := f.LoadRefused("abuseipdb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadRefused behind Accept: %v", err)
	}
	info, err := os.Stat(f.path("abuseipdb", listSuffix))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the list has mode %v", info.Mode())
	}
	must(t, f.Remove("abuseipdb"))
	if left, _ := os.ReadDir(f.dir); len(left) > 0 {
		t.Errorf("Remove leaves %v", left)
	}
	must(t, f.Remove("abuseipdb"))
}

func TestNothingToAccept(t *testing.T) {
	f := folder(t)
	k := kept(&Set{})
	k.Refused = []Reason{{NotList, "it is a web page, not a list"}}
	must(t, f.Keep(k))
	if _, err := f.Accept("abuseipdb"); !errors.Is(err, ErrNothing) {
		t.Errorf("Accept of a page: %v", err)
	}
}

func TestNames(t *testing.T) {
	f := folder(t)
	for _, name := range []string{"", "../x", "a/b", "A", "a.b", strings.Repeat("a", 33), "a\x00"} {
		k := kept(set("1.1.1.1"))
		k.Name = name
		_, errLoad := f.Load(name)
		_, errAccept := f.Accept(name)
		_, errUpdate := f.Update(t.Context(), Order{Name: name}, t0)
		for i, err := range []error{f.Keep(k), f.Remove(name), errLoad, errAccept, errUpdate} {
			if !errors.Is(err, ErrName) {
				t.Errorf("name %q, call %d: %v", name, i, err)
			}
		}
	}
}

// A damaged file must not be used, must not be lost, and must not be in the way.
func TestDamaged(t *testing.T) {
	f := folder(t)
	must(t, f.Keep(kept(set("1.1.1.1 8.8.8.8"))))
	must(t, f.setState("abuseipdb", State{Turn: t0, Good: t0}))
	path := f.path("abuseipdb", listSuffix)
	text, err := os.ReadFile(path)
	must(t, err)
	for _, damaged := range []string{"", string(text[:len(text)/2]), strings.Replace(string(text), "8.8.8.8", "8.8.8.9", 1), strings.Replace(string(text), "name abuseipdb", "name other", 1)} {
		must(t, os.WriteFile(path, []byte(damaged), 0o600))
		_, err := f.Load("abuseipdb")
		moved, ok := errors.AsType[*DamagedError](err)
		if !ok {
			t.Fatalf("Load of a damaged file: %v", err)
		}
		if kept, err := os.ReadFile(moved.Now); err != nil || string(kept) != damaged {
			t.Errorf("the damaged file is now %q, %v", kept, err)
		}
		if _, err := f.Load("abuseipdb"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load behind the damaged file: %v", err)
		}
		if s := f.State("abuseipdb"); !s.Turn.IsZero() {
			t.Errorf("the list is lost and its next turn is still counted from %s", s.Turn)
		}
	}
	if err := os.WriteFile(f.path("abuseipdb", stateSuffix), []byte(`{"version":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := OpenFolder(f.dir)
	must(t, err)
	if s := other.State("abuseipdb"); s.Failures != 0 || !s.Turn.IsZero() {
		t.Errorf("a state of another version is read as %+v", s)
	}
}

// What a writer left unfinished is overwritten, and never read.
func TestUnfinished(t *testing.T) {
	f := folder(t)
	must(t, os.WriteFile(f.path("abuseipdb", listSuffix+".new"), encoded(t, numbered(10_000))[:5000], 0o600))
	if names, err := f.Names(); err != nil || len(names) > 0 {
		t.Errorf("Names = %q, %v", names, err)
	}
	must(t, f.Keep(kept(set("1.1.1.1"))))
	files, err := os.ReadDir(f.dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	if k, err := f.Load("abuseipdb"); err != nil || join(k.Set) != "1.1.1.1" {
		t.Errorf("Load: %+v, %v", k, err)
	}
}

// Several processes use one folder: whoever reads sees a whole list, whoever writes is not disturbed.
func TestSeveralWriters(t *testing.T) {
	dir := t.TempDir()
	must(t, first(OpenFolder(dir)).Keep(numbered(1000)))
	var all sync.WaitGroup
	for range 4 {
		f := first(OpenFolder(dir))
		all.Go(func() {
			for n := range 50 {
				if err := f.Keep(numbered(1000 + n)); err != nil {
					t.Error(err)
				}
				if k, err := f.Load("abuseipdb"); err != nil || k.Set.Len() != k.Terms.Limit {
					t.Errorf("Load: %v", err)
				}
			}
		})
	}
	all.Wait()
}

func first(f *Folder, err error) *Folder {
	if err != nil {
		panic(err)
	}
	return f
}

func TestTidy(t *testing.T) {
	f, err := OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for _, name := range []string{"mine", "theirs", "older"} {
		k := numbered(3)
		k.Name = name
		if err := f.Keep(k); err != nil {
			t.Fatal(err)
		}
	}
	tries := []time.Time{now.Add(-30 * time.Hour), now.Add(-2 * time.Hour)}
	if err := f.setState("theirs", State{Turn: now, Good: now, Tries: tries}); err != nil {
		t.Fatal(err)
	}
	if err := f.setState("older", State{Turn: now, Good: now, Tries: tries[:1]}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path("theirs", ".refused.new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files := func() (names []string) {
		entries, err := os.ReadDir(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for range 2 {
		if err := f.Tidy([]string{"mine"}, now); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(files()); got != "[mine.list theirs.state]" {
			t.Errorf("left: %s", got)
		}
	}
	// It is asked for again: at once, but not more often than before.
	o := Order{Name: "theirs", Budget: 2}
	if next := f.Next(o, now); next.After(now) {
		t.Errorf("next at %s, want at once", next)
	}
	o.Budget = 1
	if next := f.Next(o, now); !next.Equal(now.Add(22 * time.Hour)) {
		t.Errorf("next at %s, want when the try of two hours ago counts no more", next)
	}
	if err := f.Tidy([]string{"mine"}, now.Add(day)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(files()); got != "[mine.list]" {
		t.Errorf("left a day later: %s", got)
	}
}
