package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/action"
	"tocsin/internal/api"
	"tocsin/internal/exec"
	"tocsin/internal/fail2ban"
	"tocsin/internal/host"
	"tocsin/internal/jail"
)

// TestMain lets the program of the tests be the resolver that a runner starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "resolver" {
		conn, err := exec.Inherited(3)
		if err == nil {
			err = RunResolver(context.Background(), conn)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stage is a guard with jails of a made-up /etc/fail2ban, and a runner for their actions. Its firewall remembers; its
// actions are real, and write what they are told into files of dir.
type stage struct {
	*decider
	dir  string // actions write here
	etc  string
	live context.CancelFunc // of the runner
}

// recording is an action that writes down what it is asked for, with what it is told.
const recording = `
[Definition]
actionstart = echo start >>DIR/<name>
actionstop = echo stop >>DIR/<name>
actionreload = echo reload >>DIR/<name>
actionban = echo ban <ip> restored=<restored> >>DIR/<name>
actionunban = echo unban <ip> >>DIR/<name>
`

// newStage makes jails of one action each: jails is the text of jail.local, actions are files of action.d. DIR in them is
// where they may write.
func newStage(t *testing.T, jails string, actions map[string]string) *stage {
	t.Helper()
	s := &stage{dir: t.TempDir(), etc: t.TempDir()}
	s.put("filter.d/any.conf", "[Definition]\nfailregex = ^failure of <HOST>$\n")
	s.put("jail.local", "[DEFAULT]\nfilter = any\nenabled = true\nlogpath = DIR/log\nbackend = polling\n"+jails)
	s.put("log", "")
	for name, text := range actions {
		s.put("action.d/"+name+".conf", text)
	}
	s.perform(t)
	return s
}

func (s *stage) put(name, text string) {
	path := filepath.Join(s.etc, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", s.dir)), 0o644); err != nil {
		panic(err)
	}
}

// perform makes a guard of what the files say, with a store of its own.
func (s *stage) perform(t *testing.T) {
	t.Helper()
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: s.etc, Glob: noLogs})
	if err != nil {
		t.Fatal(err)
	}
	var cells []*cell
	for _, j := range c.Jails {
		if j.Err != nil {
			t.Fatal(j.Err)
		}
		one := testCell(t, jail.Options{Name: j.Name})
		one.f2b, one.actions = j, j.Actions
		cells = append(cells, one)
	}
	s.decider = newDecider(t, cells...)
	s.in(func() { s.enforces = true })
	s.run(t)
	t.Cleanup(s.killActions) // before the decider ends
}

// run starts a runner and gives it to the guard.
func (s *stage) run(t *testing.T) {
	t.Helper()
	ours, childs, err := exec.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := exec.Inherited(dup(t, childs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.live = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := RunRunner(ctx, RunnerOptions{Dir: s.etc, Conn: fd, Log: slog.New(slog.NewTextHandler(s.said, nil))}); err != nil {
			t.Errorf("RunRunner() = %v", err)
		}
	}()
	s.link.runner = exec.RunnerOn(ours)
	t.Cleanup(func() {
		s.link.runner.Close()
		cancel()
		<-done
	})
}

func (s *stage) begin() { s.in(func() { s.useActions(s.set) }) }

func (s *stage) cell(name string) *cell {
	for _, c := range s.set.cells {
		if c.conf.Name == name {
			return c
		}
	}
	panic("no jail " + name)
}

// read is what an action wrote, with its lines joined.
func (s *stage) read(name string) string {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", ", ")
}

func (s *stage) wrote(name, want string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); s.read(name) != want; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s has %q, want %q", name, s.read(name), want)
		}
	}
}

func (s *stage) stop() {
	s.t.Helper()
	s.in(func() {}) // the decider rests: nothing else is asked of it
	s.stopActions()
}

func (s *stage) unban(id string) {
	s.in(func() {
		_, err := s.lift(func(k banKey, _ activeBan) bool { return k.id == id }, tocsin.Decision{At: time.Now()})
		if err != nil {
			s.t.Error(err)
		}
	})
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // what f is, it closes itself
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestActionsFollowBans(t *testing.T) {
	s := newStage(t, "[a]\naction = rec[name=one]\n  rec[name=two, actname=second]\n[b]\naction = rec[name=three]\n", map[string]string{"rec": recording})
	s.begin()
	s.fail(s.cell("a"), "192.0.2.1", 3)
	s.fail(s.cell("b"), "2001:db8::1", 3)
	s.fail(s.cell("b"), "no address", 3)
	s.wrote("one", "start, ban 192.0.2.1 restored=0")
	s.wrote("two", "start, ban 192.0.2.1 restored=0")
	s.wrote("three", "start, ban 2001:db8::1 restored=0, ban no address restored=0")
	s.unban("192.0.2.1")
	s.unban("no address")
	s.wrote("one", "start, ban 192.0.2.1 restored=0, unban 192.0.2.1")
	s.wrote("three", "start, ban 2001:db8::1 restored=0, ban no address restored=0, unban no address")
	s.in(func() { // its time is up
		for k, b := range s.active {
			b.until = time.Now().Add(-time.Second)
			s.active[k], s.nextEnd = b, b.until
		}
		s.endBans(time.Now())
	})
	s.wrote("three", "start, ban 2001:db8::1 restored=0, ban no address restored=0, unban no address, unban 2001:db8::1")
	s.stop()
	s.wrote("two", "start, ban 192.0.2.1 restored=0, unban 192.0.2.1, stop")
	var details []api.JailAction
	s.in(func() { details = s.actionDetails(s.cell("a")) })
	if len(details) != 2 || details[1].Name != "second" || details[1].Runs != 4 || details[1].Failures != 0 || details[1].Properties["name"] != "two" {
		t.Errorf("actionDetails() = %+v", details)
	}
}

// A slow action (docs/manual/from-fail2ban.md, actions-apart) holds up nobody: not the decider, not another jail, not another action of its own jail.
func TestSlowActionHoldsUpNobody(t *testing.T) {
	s := newStage(t, "[slow]\naction = sleep\n  rec[name=beside]\n[other]\naction = rec[name=other]\n", map[string]string{
		"rec": recording, "sleep": "[Definition]\nactionban = sleep 1000\n",
	})
	s.begin()
	began := time.Now()
	s.fail(s.cell("slow"), "192.0.2.1", 3)
	s.fail(s.cell("slow"), "192.0.2.2", 3)
	s.fail(s.cell("other"), "192.0.2.3", 3)
	if got, want := s.bansNow(), "other 192.0.2.3, slow 192.0.2.1, slow 192.0.2.2"; got != want { // the firewall has them
		t.Errorf("banned: %s, want %s", got, want)
	}
	s.wrote("beside", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0")
	s.wrote("other", "start, ban 192.0.2.3 restored=0")
	t.Logf("all this beside a slow action took %v", time.Since(began)) // which takes 1000 s
	s.until("the slow action waits behind the one under way", func() (yes bool) {
		s.in(func() {
			st := s.acts.by["slow"][0].queue.Stats()
			yes = st.Waiting == 1 && st.Runs == 0
		})
		return yes
	})
	began = time.Now()
	s.stop()
	s.killActions()
	t.Logf("the stop took %v, of %v at most on a machine that has time", time.Since(began), actStopTime)
}

// What takes too long is killed with everything that it started.
func TestTimedOutActionIsKilledWithItsGroup(t *testing.T) {
	s := newStage(t, "[j]\naction = hang\n", map[string]string{"hang": `
[Definition]
actionban = sh -c 'echo $$ >>DIR/pids; sleep 1000' & echo $$ >>DIR/pids; wait
[Init]
timeout = 3
`})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	var st action.Stats
	for deadline := time.Now().Add(time.Minute); st.Failures == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s.in(func() { st = s.acts.by["j"][0].queue.Stats() })
	}
	if !strings.Contains(st.LastError, "took longer than 3s") {
		t.Errorf("stats %+v, want that it took too long", st)
	}
	pids := strings.Fields(strings.ReplaceAll(s.read("pids"), ",", " "))
	if len(pids) != 2 {
		t.Fatalf("pids %q, want two", pids)
	}
	for _, pid := range pids {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
			state, err := os.ReadFile("/proc/" + pid + "/stat")
			if err != nil || strings.Contains(string(state), ") Z ") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s lives: %s", pid, state)
			}
		}
	}
}

// hostileTexts are what attackers write into logs (the texts of fail2ban's and sshguard's advisories among them).
var hostileTexts = []string{
	"`touch DIR/pwned`", "$(touch DIR/pwned)", "'; touch DIR/pwned; '", `"; touch DIR/pwned; "`, "| touch DIR/pwned", "& touch DIR/pwned &",
	"\n touch DIR/pwned\n", "~! touch DIR/pwned", "${IFS}touch${IFS}DIR/pwned", `\`, `'`, `"`, "\\'\"", "*", "?", "~root", "$0 $1 $f2bV_matches", "<matches>", "<ip>",
	"-f /etc/passwd", "%s%n", "äöü €", "a\tb", "\x00", "\x1b]0;title\x07", "\xff\xfe", "\u202e",
}

// Log text reaches the user's programs as it is, but for control characters (docs/manual/from-fail2ban.md, control), and
// nothing of it is run.
func TestHostileLogText(t *testing.T) {
	s := newStage(t, "[j]\naction = mail[name=one]\n", map[string]string{"mail": `
[Definition]
actionban = printf '%%s\n' "<matches>" | cat >"DIR/double"
            printf '%%s\n' <matches> >DIR/bare
            printf '%%s\n' '<matches>' >DIR/single
            printf '%%s\n' "<F-USER>" "<F-WEIRD>" >DIR/fields
            cat >DIR/here <<END
            <matches>
            END
            echo done >>DIR/done
`})
	s.begin()
	c := s.cell("j")
	for i, text := range hostileTexts {
		text = strings.ReplaceAll(text, "DIR", s.dir)
		d := tocsin.Decision{
			Jail: "j", ID: fmt.Sprintf("192.0.2.%d", i+1), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 32),
			At: time.Now(), Until: time.Now().Add(time.Hour), Failures: 1,
			Evidence: []tocsin.Evidence{{Line: tocsin.Line{Text: "first"}}, {Line: tocsin.Line{Text: text}}},
			Fields:   []tocsin.Field{{Name: "user", Value: text}, {Name: "weird", Value: text + "x"}},
		}
		s.in(func() { s.carryOut(c, d) })
		s.wrote("done", strings.TrimSuffix(strings.Repeat("done, ", i+1), ", "))
		shownAs := tocsin.Printable(text)
		for _, file := range []string{"double", "single", "bare"} {
			got, _ := os.ReadFile(filepath.Join(s.dir, file))
			if want := "first\n" + shownAs + "\n"; string(got) != want {
				t.Errorf("%q: %s has %q, want %q", text, file, got, want)
			}
		}
		got, _ := os.ReadFile(filepath.Join(s.dir, "fields"))
		if want := shown(text) + "\n" + shown(text+"x") + "\n"; string(got) != want {
			t.Errorf("%q: fields have %q, want %q", text, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
		t.Error("text of a log was run")
	}
}

// Where an action cannot flush, its bans stay at a stop (docs/manual/from-fail2ban.md, stop-keeps).
// After a restart bans in force are told as restored, not to those that do not want that, and what ended meanwhile is lifted.
func TestActionsAfterARestart(t *testing.T) {
	actions := map[string]string{"rec": recording, "mail": "[Definition]\nnorestored = 1\nactionban = echo mail <ip> >>DIR/<name>\n"}
	s := newStage(t, "[j]\naction = rec[name=rec]\n mail[name=mail]\n", actions)
	s.begin()
	for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
		s.fail(s.cell("j"), ip, 3)
	}
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0")
	s.wrote("mail", "mail 192.0.2.1, mail 192.0.2.2")
	s.stop()
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0, stop")
	if err := os.Remove(filepath.Join(s.dir, "rec")); err != nil {
		t.Fatal(err)
	}

	// Another guard: 192.0.2.2 ended while none ran.
	s.killActions()
	s.in(func() {
		s.acts = newActing(s.life)
		k := banKey{"j", "192.0.2.2"}
		delete(s.active, k)
	})
	if err := s.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ended192(t)
	s.begin()
	s.wrote("rec", "start, ban 192.0.2.1 restored=1, unban 192.0.2.2")
	s.fail(s.cell("j"), "192.0.2.3", 3)
	s.wrote("mail", "mail 192.0.2.1, mail 192.0.2.2, mail 192.0.2.3")
	s.killActions()
}

// ended192 puts a ban of 192.0.2.2 into the store that ended just now.
func (s *stage) ended192(t *testing.T) {
	t.Helper()
	now := time.Now()
	d := tocsin.Decision{
		Jail: "j", ID: "192.0.2.2", Prefix: netip.MustParsePrefix("192.0.2.2/32"), Origin: tocsin.ByOperator,
		At: now.Add(-time.Minute), Until: now.Add(-time.Millisecond),
	}
	if err := s.store.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// While the emergency exit is open the actions let everybody in too.
func TestActionsAtTheExit(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n flush[name=flush]\n", map[string]string{"rec": recording, "flush": recording + "actionflush = echo flush >>DIR/<name>\n"})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.wrote("flush", "start, ban 192.0.2.1 restored=0")
	s.wrote("rec", "start, ban 192.0.2.1 restored=0")
	s.in(func() { s.exit.held.Store(true); s.moveExit(time.Now()) })
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, unban 192.0.2.1, stop")
	s.wrote("flush", "start, ban 192.0.2.1 restored=0, flush, stop")
	s.fail(s.cell("j"), "192.0.2.2", 3)
	s.in(func() {})
	s.in(func() { s.exit.held.Store(false); s.moveExit(time.Now()) })
	s.until("all are told", func() bool {
		got := strings.Split(strings.TrimPrefix(s.read("flush"), "start, ban 192.0.2.1 restored=0, flush, stop, "), ", ")
		slices.Sort(got)
		return strings.Join(got, ", ") == "ban 192.0.2.1 restored=1, ban 192.0.2.2 restored=1, start"
	})
}

func (s *stage) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain: %s\n%s", what, s.said)
		}
	}
}

// Nothing is run while the guard only observes.
func TestObservingRunsNoAction(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording})
	s.in(func() { s.enforces = false })
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	if got := s.bansNow(); got != "j 192.0.2.1" {
		t.Errorf("would ban %q", got)
	}
	if got := s.read("rec"); got != "" {
		t.Errorf("the action ran: %s", got)
	}
}

// A jail whose bans are all lifted at once is flushed with one command.
func TestUnbanAllFlushes(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording + "actionflush = echo flush >>DIR/<name>\n"})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.fail(s.cell("j"), "192.0.2.2", 3)
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0")
	s.in(func() {
		if _, err := s.lift(func(banKey, activeBan) bool { return true }, tocsin.Decision{At: time.Now()}); err != nil {
			t.Error(err)
		}
	})
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0, flush")
}

// A reload leaves an action alone that did not change (docs/manual/from-fail2ban.md, actionreload), and stops one that did by the commands that it was started with.
func TestReloadOfActions(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=stays]\n rec[name=goes, actname=goes]\n", map[string]string{"rec": recording})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.wrote("stays", "start, ban 192.0.2.1 restored=0")
	s.wrote("goes", "start, ban 192.0.2.1 restored=0")
	s.put("jail.local", "[DEFAULT]\nfilter = any\nenabled = true\nlogpath = DIR/log\nbackend = polling\n[j]\naction = rec[name=stays]\n rec[name=comes, actname=comes]\n")
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: s.etc, Glob: noLogs})
	if err != nil {
		t.Fatal(err)
	}
	s.in(func() {
		s.cell("j").f2b, s.cell("j").actions = c.Jails[0], c.Jails[0].Actions
		s.useActions(s.set)
	})
	s.wrote("goes", "start, ban 192.0.2.1 restored=0, unban 192.0.2.1, stop")
	s.wrote("comes", "start, ban 192.0.2.1 restored=1")
	s.fail(s.cell("j"), "192.0.2.2", 3)
	s.wrote("stays", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0")
}

// The tags, as fail2ban fills them in, but for raw-ticket (docs/manual/from-fail2ban.md).
func TestValues(t *testing.T) {
	tags := "raw-ticket ip fid family ip-rev time bantime bancount failures restored F-USER F-PORT F-NONE jail.found_total jail.banned ipfailures ipjailfailures ipmatches"
	var echo strings.Builder
	for tag := range strings.FieldsSeq(tags) {
		fmt.Fprintf(&echo, " %s=\"<%s>\"", tag, tag)
	}
	s := newStage(t, "[j]\naction = all[name=all]\n[k]\naction = all[name=k]\n", map[string]string{"all": "[Definition]\nactionban = echo" + echo.String() + " >>DIR/<name>\n"})
	s.begin()
	at := time.Unix(1_800_000_000, 0)
	old := tocsin.Decision{Jail: "k", ID: "192.0.2.7", Prefix: netip.MustParsePrefix("192.0.2.7/32"), At: at.Add(-time.Hour), Until: at.Add(-time.Minute), Failures: 2,
		Evidence: []tocsin.Evidence{{Line: tocsin.Line{Text: "old"}}}}
	if err := s.store.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	d := tocsin.Decision{Jail: "j", ID: "192.0.2.7", Prefix: netip.MustParsePrefix("192.0.2.7/32"), At: at, Until: at.Add(24 * time.Hour * 365 * 20), Failures: 3, Former: 2,
		Evidence: []tocsin.Evidence{{Line: tocsin.Line{Text: "one"}}, {Line: tocsin.Line{Text: "two"}}},
		Fields:   []tocsin.Field{{Name: "user", Value: "root"}, {Name: "fport", Value: "22"}}}
	s.in(func() { s.carryOut(s.cell("j"), d) })
	s.wrote("all", "raw-ticket= ip=192.0.2.7 fid=192.0.2.7 family=inet4 ip-rev=7.2.0.192. time=1800000000 bantime=630720000 bancount=3 failures=3 restored=0 F-USER=root F-PORT=22 F-NONE= jail.found_total=0 jail.banned=1 ipfailures=5 ipjailfailures=3 ipmatches=old, one, two")
}

func TestReversed(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "1.2.0.192.", "2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.",
	} {
		if got := reversed(netip.MustParseAddr(in)); got != want {
			t.Errorf("reversed(%s) = %q, want %q", in, got, want)
		}
	}
	if got := reversed(netip.Addr{}); got != "" {
		t.Errorf("reversed of nothing = %q", got)
	}
}

func TestFullName(t *testing.T) {
	for hosts, want := range map[string]string{
		"":                                     "web1",
		"127.0.1.1 web1.example.org web1\n":    "web1.example.org",
		"127.0.1.1\tweb1 web1.example.org # x": "web1.example.org",
		"# 127.0.1.1 web1.example.org web1\n":  "web1",
		"127.0.1.1 web10.example.org web10\n":  "web1",
		"127.0.0.1 localhost.localdomain web1": "web1",
	} {
		if got := fullName("web1", hosts); got != want {
			t.Errorf("with %q: %q, want %q", hosts, got, want)
		}
	}
	if got := fullName("web1.example.org", ""); got != "web1.example.org" {
		t.Errorf("a full name: %q", got)
	}
}

// An answer that nobody could give is remembered too.
func TestHosts(t *testing.T) {
	var h hosts
	asked := 0
	ask := func() (string, error) { asked++; return fmt.Sprint("name", asked), nil }
	for range 3 {
		if got := h.get("a", ask); got != "name1" {
			t.Errorf("got %q", got)
		}
	}
	for i := range 3 * maxNames {
		h.get(fmt.Sprint(i), func() (string, error) { return "", context.DeadlineExceeded })
	}
	if len(h.known) > maxNames {
		t.Errorf("%d names are remembered", len(h.known))
	}
}

// ignorecommand is asked through the runner, with the values of the ban.
func TestIgnoreCommandRuns(t *testing.T) {
	s := newStage(t, "[j]\naction =\nignorecommand = test <ip> = 192.0.2.1 -a <F-USER> = admin\n", nil)
	d := tocsin.Decision{Jail: "j", ID: "192.0.2.1", Prefix: netip.MustParsePrefix("192.0.2.1/32"), At: time.Now(), Fields: []tocsin.Field{{Name: "user", Value: "admin"}}}
	if ignore, err := s.askCommand(t.Context(), "j", &d); !ignore || err != nil {
		t.Errorf("askCommand(192.0.2.1) = %v, %v; want that it is ignored", ignore, err)
	}
	d.Fields[0].Value = "x' -o 1 = 1 -a '"
	if ignore, err := s.askCommand(t.Context(), "j", &d); ignore || err != nil {
		t.Errorf("askCommand as a stranger = %v, %v; want that it is not ignored", ignore, err)
	}
}

// Names are asked for by a process that is nobody; /etc/hosts answers for localhost everywhere.
func TestResolver(t *testing.T) {
	needsRoot(t, unix.CAP_SETUID)
	s := newStage(t, "[j]\naction =\n", nil)
	addrs, err := s.addresses(t.Context(), "localhost")
	if err != nil || !slices.ContainsFunc(addrs, netip.Addr.IsLoopback) {
		t.Errorf("addresses(localhost) = %v, %v", addrs, err)
	}
	if name, err := s.hostOf(t.Context(), netip.MustParseAddr("127.0.0.1")); err != nil || !strings.HasPrefix(name, "localhost") {
		t.Errorf("hostOf(127.0.0.1) = %q, %v", name, err)
	}
	for _, name := range []string{"", "a b", "$(id)", "ä.example.org"} {
		if addrs, err := s.addresses(t.Context(), name); err == nil {
			t.Errorf("addresses(%q) = %v, want an error", name, addrs)
		}
	}
}

func TestHostName(t *testing.T) {
	for in, want := range map[string]string{
		"mail.example.org": "mail.example.org", "$(id).example.org": "id.example.org", "a b\nc": "abc", strings.Repeat("a", 300): strings.Repeat("a", 253),
		"x_1-2.example": "x_1-2.example", "ümlaut": "mlaut",
	} {
		if got := hostName(in); got != want {
			t.Errorf("hostName(%q) = %q, want %q", in, got, want)
		}
	}
}

// Whoever else than root may write what root would run could be root (docs/manual/from-fail2ban.md, root-only).
func TestRunnerTrustsRootOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only a runner of root distrusts others")
	}
	needsRoot(t, unix.CAP_CHOWN)
	tests := []struct {
		name string
		do   func(etc string) error
		want string // in the problem; "": it runs
	}{
		{"as it should be", func(string) error { return nil }, ""},
		{"action writable by all", func(etc string) error { return os.Chmod(etc+"/action.d/rec.conf", 0o666) }, "action.d/rec.conf can be written by everybody"},
		{"folder of actions writable by all", func(etc string) error { return os.Chmod(etc+"/action.d", 0o777) }, "action.d can be written by everybody"},
		{"jail.local of somebody", func(etc string) error { return os.Chown(etc+"/jail.local", 1000, 0) }, "jail.local belongs to user 1000"},
		{"jail.local writable by a group", func(etc string) error {
			return firstErr(os.Chown(etc+"/jail.local", 0, 100), os.Chmod(etc+"/jail.local", 0o664))
		}, "jail.local can be written by group 100"},
		{"another action does not matter", func(etc string) error {
			return firstErr(os.WriteFile(etc+"/action.d/other.conf", nil, 0o666), os.Chmod(etc+"/action.d/other.conf", 0o666))
		}, ""},
		{"a link into somebody's folder", func(etc string) error {
			dir := filepath.Join(filepath.Dir(etc), "theirs")
			return firstErr(os.Mkdir(dir, 0o755), os.Rename(etc+"/action.d/rec.conf", dir+"/rec.conf"), os.Symlink(dir+"/rec.conf", etc+"/action.d/rec.conf"), os.Chown(dir, 1000, 1000))
		}, "theirs belongs to user 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording})
			if err := tt.do(s.etc); err != nil {
				t.Fatal(err)
			}
			r := &runner{o: RunnerOptions{Dir: s.etc, Log: slog.New(slog.DiscardHandler)}, root: true, slots: make(chan struct{}, 1), entries: map[string][]*entry{}}
			r.look()
			got := r.do(t.Context(), exec.Job{Entry: "j/rec-rec", Version: fingerprint(s.cell("j").actions[0]), Do: "actionstart"})
			switch {
			case tt.want == "" && !got.OK():
				t.Errorf("%+v, want that it runs", got)
			case tt.want != "" && (got.Ran || !strings.Contains(got.Problem, tt.want)):
				t.Errorf("%+v, want that %s", got, tt.want)
			}
		})
	}
}

// needsRoot skips where root has lost a capability: a guard of an earlier test gives up what it does not need.
func needsRoot(t *testing.T, capability int) {
	t.Helper()
	if os.Geteuid() == 0 && !host.Have(capability) {
		t.Skipf("a guard of an earlier test gave up capability %d", capability)
	}
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A runner takes names, and only of what the guard read as well.
func TestRunnerRefuses(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording})
	r := &runner{o: RunnerOptions{Dir: s.etc, Log: slog.New(slog.DiscardHandler)}, slots: make(chan struct{}, 1), entries: map[string][]*entry{}}
	r.look()
	version := fingerprint(s.cell("j").actions[0])
	tests := []struct {
		name string
		job  exec.Job
		want string
	}{
		{"a jail that is not there", exec.Job{Entry: "x/rec", Version: version, Do: "actionstart"}, "there is none"},
		{"an action that is not there", exec.Job{Entry: "j/x", Version: version, Do: "actionstart"}, "there is none"},
		{"another version", exec.Job{Entry: "j/rec-rec", Version: "0", Do: "actionstart"}, "not those that the guard read"},
		{"an option that is no command", exec.Job{Entry: "j/rec-rec", Version: version, Do: "name"}, "no command"},
		{"what only jails have", exec.Job{Entry: "j/rec-rec", Version: version, Do: askIgnore}, "no command"},
		{"a command that it lacks", exec.Job{Entry: "j/rec-rec", Version: version, Do: "actionflush"}, ""},
	}
	for _, tt := range tests {
		got := r.do(t.Context(), tt.job)
		if got.Ran || tt.want == "" && got.Problem != "" || !strings.Contains(got.Problem, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.name, got, tt.want)
		}
	}
	if got := s.read("rec"); got != "" {
		t.Errorf("something ran: %s", got)
	}
}

// One entry runs one command at a time, and all of them so many.
func TestRunnerTakesTurns(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{
		"rec": "[Definition]\nactionban = mkdir DIR/in || echo both >>DIR/both; sleep 0.02; rmdir DIR/in\n",
	})
	r := &runner{o: RunnerOptions{Dir: s.etc, Log: slog.New(slog.DiscardHandler)}, slots: make(chan struct{}, maxCommands), entries: map[string][]*entry{}}
	r.look()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got := r.do(t.Context(), exec.Job{Entry: "j/rec-rec", Version: fingerprint(s.cell("j").actions[0]), Do: "actionban"}); !got.OK() {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if got := s.read("both"); got != "" {
		t.Errorf("two at once: %s", got)
	}
}

func TestRunnerTellsWhatWentWrong(t *testing.T) {
	for script, want := range map[string]exec.Result{
		"echo out; echo err >&2; exit 3":    {Ran: true, Code: 3, Out: "out\n", Err: "err\n"},
		"kill -KILL $$":                     {Ran: true, Code: -1, Problem: "was ended by signal: killed"},
		"yes | head -c 100000":              {Ran: true, Out: strings.Repeat("y\n", maxSaid/2)},
		"echo $HOME $LC_ALL; echo $PATH":    {Ran: true, Out: home() + " C.UTF-8\n" + exec.Path + "\n"},
		"exit 127":                          {Ran: true, Code: 127, Problem: "a command was not found (exit code 127): are all programs of the action installed, and in " + exec.Path + "?"},
		"(sleep 0.1; echo late) >&2 & :":    {Ran: true},
		"printf 'a\\0b'; printf '\\377\\n'": {Ran: true, Out: "a\x00b\xff\n"},
	} {
		r := &runner{slots: make(chan struct{}, 1)}
		got := r.run(t.Context(), &entry{turn: make(chan struct{}, 1), timeout: time.Minute}, fail2ban.Script{Text: script})
		if got.Err == "late\n" {
			got.Err = "" // it may have been in time
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
}
