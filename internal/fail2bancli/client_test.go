package fail2bancli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
)

// guard is a guard of the test's own: it holds jails and bans as the recorded server did.
type guard struct {
	failed string // what a reload says of jails that cannot run
	jails  []api.JailDetail
	banned map[string][]api.BannedID // in the order of the bans
	now    time.Time
	reason error // why it refuses to ban
}

func (g *guard) jail(name string) (*api.JailDetail, error) {
	for i := range g.jails {
		if g.jails[i].Name == name {
			return &g.jails[i], nil
		}
	}
	return nil, api.NoJail(name, "")
}

func (g *guard) operations() api.Operations {
	return api.Operations{
		Status: func(context.Context) (api.Status, error) {
			var s api.Status
			for _, j := range g.jails {
				s.Jails = append(s.Jails, j.Jail)
			}
			return s, nil
		},
		Jail: func(_ context.Context, name string) (api.JailDetail, error) {
			j, err := g.jail(name)
			if err != nil {
				return api.JailDetail{}, err
			}
			return *j, nil
		},
		Banned: g.listBanned,
		Ban:    g.ban,
		Unban:  g.unban,
		Allow:  g.allow,
		Reload: func(context.Context) (api.Change, error) {
			return api.Change{Text: "reloaded: web" + g.failed}, nil
		},
		Reopen: func(context.Context) (api.Change, error) { return api.Change{}, nil },
	}
}

func (g *guard) listBanned(_ context.Context, name string) (out api.Banned, err error) {
	if _, err := g.jail(name); err != nil && name != "" {
		return out, err
	}
	for _, j := range g.jails {
		if name != "" && name != j.Name {
			continue
		}
		list := slices.Clone(g.banned[j.Name])
		slices.SortStableFunc(list, func(a, b api.BannedID) int { return a.Until.Compare(*b.Until) })
		out.Jails = append(out.Jails, api.BannedJail{Name: j.Name, Banned: list})
	}
	return out, nil
}

func (g *guard) ban(_ context.Context, r api.BanRequest) (api.Change, error) {
	j, err := g.jail(r.Jail)
	if err != nil {
		return api.Change{}, err
	}
	if !isAddress(r.Prefix) {
		return api.Change{}, api.Errorf(api.ExitUsage, "write it like 192.0.2.7", quote(r.Prefix)+" is no address")
	}
	if g.reason != nil {
		return api.Change{}, g.reason
	}
	g.now = g.now.Add(10 * time.Millisecond)
	until := g.now.Add(time.Duration(r.Seconds * float64(time.Second)))
	done := api.Change{Changed: []string{r.Prefix}}
	list := g.banned[r.Jail]
	if i := slices.IndexFunc(list, func(b api.BannedID) bool { return b.ID == r.Prefix }); i >= 0 {
		longer := list[i].Until.Add(2 * time.Second) // the recording banned anew two seconds later
		list[i].Until = &longer
		return done, nil
	}
	j.TotalBanned++
	g.banned[r.Jail] = append(list, api.BannedID{ID: r.Prefix, At: g.now, Until: &until})
	return done, nil
}

func (g *guard) unban(_ context.Context, r api.UnbanRequest) (done api.Change, err error) {
	if !r.All && !isAddress(r.Prefix) {
		return done, api.Errorf(api.ExitUsage, "", quote(r.Prefix)+" is no address")
	}
	for name, list := range g.banned {
		if r.Jail != "" && r.Jail != name {
			continue
		}
		g.banned[name] = slices.DeleteFunc(list, func(b api.BannedID) bool {
			hit := r.All || b.ID == r.Prefix
			if hit {
				done.Changed = append(done.Changed, b.ID)
			}
			return hit
		})
	}
	return done, nil
}

func (g *guard) allow(_ context.Context, r api.AllowRequest) (done api.Change, err error) {
	j, err := g.jail(r.Jail)
	if err != nil {
		return done, err
	}
	name := address(r.Prefix, "")
	j.IgnoreIP = slices.DeleteFunc(j.IgnoreIP, func(s string) bool { return s == name })
	if !r.Remove {
		j.IgnoreIP = append(j.IgnoreIP, name)
	}
	return done, nil
}

// serve answers for the guard on a socket until the test ends.
func (g *guard) serve(t *testing.T) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "f2b") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "guard.sock")
	l, err := api.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, api.Handler(g.operations())) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return socket
}

// run calls fail2ban-client and returns what it says and its exit code, standard error first.
func runClient(socket, dir, stdin string, args ...string) (said string, code int) {
	var out, errs bytes.Buffer
	code = Client(append([]string{"-c", dir}, args...), Options{
		Socket: socket, Release: "test", By: "tester", Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
	})
	return errs.String() + out.String(), code
}

var logHead = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\S+ +)\[\d+\]`)

// dated makes the beginnings of log lines comparable.
func dated(s string) string { return logHead.ReplaceAllString(s, "DATE $1[PID]") }

// step is one command of the recording.
type step struct {
	args []string
	want string
	code int
}

// transcript reads golden/client_transcript.txt: "$ fail2ban-client ARGS", what it said, "[exit N]".
func transcript(t *testing.T) (steps []step) {
	t.Helper()
	root := os.Getenv("TOCSIN_TESTDATA")
	if root == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recording of fail2ban-client to compare with")
	}
	text, err := os.ReadFile(filepath.Join(root, "fail2ban/golden/client_transcript.txt"))
	if err != nil {
		t.Skipf("no recording of fail2ban-client: %v", err)
	}
	for block := range strings.SplitSeq("\n"+string(text), "\n$ fail2ban-client ") {
		command, said, _ := strings.Cut(block, "\n")
		end := strings.LastIndex(said, "[exit ")
		if end < 0 {
			continue
		}
		s := step{args: strings.Fields(command), want: dated(said[:end])}
		if strings.HasPrefix(said[end:], "[exit 255]") {
			s.code = exitFail
		}
		if command == "set sshd addignoreregex foo <HOST>" {
			s.args = []string{"set", "sshd", "addignoreregex", "foo <HOST>"}
		}
		steps = append(steps, s)
	}
	return steps
}

// onPurpose are the commands of the recording that are answered differently, with the reason. want is a part of what is
// said instead.
var onPurpose = map[string]struct{ want, why string }{
	"set sshd bantime 1h":                    {"set it in section [sshd] of", "settings lie in files"},
	"set sshd maxretry 5":                    {"set it in section [sshd] of", "settings lie in files"},
	"set sshd findtime 20m":                  {"set it in section [sshd] of", "settings lie in files"},
	"set sshd addignoreregex foo <HOST>":     {"set it in section [sshd] of", "settings lie in files"},
	"set sshd addlogpath /nonexist":          {"logpath is not changed while the guard runs", "settings lie in files"},
	"set sshd addlogpath /LIVE/auth.log":     {"logpath is not changed while the guard runs", "settings lie in files"},
	"set sshd addlogpath /etc/hostname tail": {"logpath is not changed while the guard runs", "settings lie in files"},
	"set sshd dellogpath /etc/hostname":      {"logpath is not changed while the guard runs", "settings lie in files"},
	"set loglevel DEBUG":                     {"set it in", "settings lie in files"},
	"set loglevel INFO":                      {"set it in", "settings lie in files"},
	"get sshd actionproperties echoact":      {"actionban, actionstart, actname, name, out, timeout", "only what the configuration says, not the members of a Python class"},
	"get sshd actionmethods echoact":         {"actions have no methods here", "there is no Python class"},
	"set sshd idle on":                       {"a jail does not rest", "no jail can be half off"},
	"set sshd idle off":                      {"a jail does not rest", "no jail can be half off"},
	"set sshd attempt 198.51.100.99 line 1":  {"failures come from logs only", "evidence is never made up"},
	"set sshd banip notanip":                 {"'notanip' is no address", "what is no address is not banned by hand"},
	"status --all":                           {"`- Status for the jails:", "fail2ban 1.1 knows it, 1.0.2 does not"},
	"stop sshd":                              {"enabled = false", "a jail is stopped in files"},
	"unban --all":                            {"1", "sshd was not stopped before, so its ban is still there to be lifted"},
}

func TestTranscript(t *testing.T) {
	steps := transcript(t)
	g := recorded(t)
	socket, dir := g.serve(t), recordedFiles(t)
	same, differ := 0, 0
	stopped := false
	for _, s := range steps {
		name := strings.Join(s.args, " ")
		said, code := runClient(socket, dir, "", s.args...)
		said = dated(said)
		expected, ok := onPurpose[name]
		switch {
		case stopped && name == "status":
			expected.want, ok = "|- Number of jail:\t2\n`- Jail list:\trecidive, sshd\n", true // sshd was not stopped
		case name == "stop sshd":
			stopped = true
		}
		if ok {
			differ++
			if !strings.Contains(said, expected.want) {
				t.Errorf("%s says\n%s\nwant %q in it (%s)", name, said, expected.want, expected.why)
			}
			continue
		}
		want := strings.ReplaceAll(s.want, "DATE fail2ban.configreader   [PID]: WARNING 'allowipv6' not defined in 'Definition'. Using default one: 'auto'\n", "")
		if said != want || code != s.code {
			t.Errorf("%s says, with exit code %d:\n%s\nwant %d:\n%s", name, code, said, s.code, want)
			continue
		}
		same++
	}
	t.Logf("%d commands: %d say the same, %d differ on purpose", len(steps), same, differ)
}

// recorded is a guard in the state that the recording began with.
func recorded(t *testing.T) *guard {
	t.Helper()
	def, err := fail2ban.LoadFilter(os.DirFS("/etc/fail2ban/filter.d"), "sshd", nil, "file")
	if err != nil {
		t.Skipf("Debian's filters are not here: %v", err)
	}
	start := time.Date(2026, 11, 22, 14, 53, 47, 0, time.Local)
	end := start.Add(600 * time.Second)
	sshd := api.JailDetail{
		Jail:        api.Jail{Name: "sshd", MaxRetry: 3, Addresses: 2, Failures: 5},
		TotalBanned: 1, FindSeconds: 600, BanSeconds: 600, MaxMatches: 3, MaxLines: 1, UseDNS: "no", IgnoreSelf: true,
		Files: []string{"/LIVE/auth.log"}, LogEncoding: "auto", Datepattern: "{^LN-BEG}",
		Actions: []api.JailAction{{Name: "echoact", Properties: map[string]string{
			"actname": "echoact", "name": "sshd", "timeout": "60", "out": "/LIVE/act.log", "actionstart": "",
			"actionban": `echo "BAN ip=<ip> fid=<fid> fam=<family> failures=<failures> time=<time> bantime=<bantime> bancount=<bancount> restored=<restored> rev=<ip-rev> user=<F-USER> ipf=<ipfailures> ipjf=<ipjailfailures> jb=<jail.banned> jbt=<jail.banned_total> jf=<jail.found> jft=<jail.found_total> matches=<matches>" >> /LIVE/act.log`,
		}}},
	}
	expand := func(text string) string {
		text, err := filter.Expand(text, "no")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	sshd.Prefregex = expand(def.Prefregex.Text)
	for _, re := range def.Failregex {
		sshd.Failregex = append(sshd.Failregex, expand(re.Text))
	}
	return &guard{
		jails:  []api.JailDetail{sshd, {Jail: api.Jail{Name: "recidive"}, Growing: true}},
		banned: map[string][]api.BannedID{"sshd": {{ID: "192.0.2.10", At: start, Until: &end}}},
		now:    start.Add(4 * time.Second),
	}
}

// recordedFiles is a folder with the settings of the recorded server.
func recordedFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"fail2ban.conf": "[Definition]\nloglevel = INFO\nlogtarget = /LIVE/fail2ban.log\nsyslogsocket = auto\ndbfile = /LIVE/f2b.sqlite3\ndbpurgeage = 1d\ndbmaxmatches = 10\n",
		"jail.conf":     "[DEFAULT]\nbantime = 10m\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestClientAsks(t *testing.T) {
	until := time.Date(2026, 11, 22, 15, 0, 0, 0, time.Local)
	g := &guard{
		jails: []api.JailDetail{
			{Jail: api.Jail{Name: "web", Failures: 7}, BanSeconds: 0, Journalmatch: []string{"_SYSTEMD_UNIT=a.service", "_COMM=b"}},
			{Jail: api.Jail{Name: "mail"}, BanSeconds: 90.5, IgnoreIP: []string{"evil\x1b[2J"}, Datepattern: "%Y-%m-%d", Files: []string{"/a", "/b"}},
		},
		banned: map[string][]api.BannedID{"web": {{ID: "a\x1b]0;b", At: until.Add(-time.Hour), Until: &until}}},
	}
	socket, dir := g.serve(t), recordedFiles(t)
	tests := []struct {
		name, args string
		want       string
		code       int
	}{
		{"an id with control characters", "get web banip", `a\x1b]0;b` + "\n", 0},
		{"the same as Python writes it", "banned", `[{'web': ['a\x1b]0;b']}, {'mail': []}]` + "\n", 0},
		{"a journal", "status web short", "Status for the jail: web\n|- Filter\n|  |- Currently failed:\t0\n|  |- Total failed:\t7\n|  `- Journal matches:\t_SYSTEMD_UNIT=a.service + _COMM=b\n`- Actions\n   |- Currently banned:\t1\n   `- Total banned:\t0\n", 0},
		{"an ignore list", "get mail ignoreip", "These IP addresses/networks are ignored:\n`- " + `evil\x1b[2J` + "\n", 0},
		{"a pattern of dates", "get mail datepattern", "Current date pattern set to: %Y-%m-%d (Year-Month-Day)\n", 0},
		{"no dates", "get web datepattern", "Current date pattern set to: Not set/required\n", 0},
		{"several files", "get mail logpath", "Current monitored log file(s):\n|- /a\n`- /b\n", 0},
		{"a ban without end", "get web bantime", "-1\n", 0},
		{"part of a second", "get mail bantime", "90.5\n", 0},
		{"no word behind get", "get", "DATE fail2ban                [PID]: ERROR   NOK: ('list index out of range',)\nSorry but the command is invalid\n", 255},
		{"no address behind banip", "set web banip", "DATE fail2ban                [PID]: ERROR   NOK: ('list index out of range',)\nSorry but the command is invalid\n", 255},
		{"an unknown jail", "set nosuch banip 192.0.2.1", "DATE fail2ban                [PID]: ERROR   NOK: ('nosuch',)\nSorry but the jail 'nosuch' does not exist\n", 255},
		{"an unknown setting", "set web colour red", "DATE fail2ban                [PID]: ERROR   NOK: (\"Invalid command 'colour' (no set action or not yet implemented)\",)\nInvalid command 'colour' (no set action or not yet implemented)\n", 255},
		{"an unknown jail is reloaded", "reload nosuch", "DATE fail2ban                [PID]: ERROR   NOK: ('nosuch',)\nSorry but the jail 'nosuch' does not exist\n", 255},
		{"if it exists", "reload --if-exists nosuch", "OK\n", 0},
		{"a name is not banned", "set web unbanip host.example", "0\n", 0},
		{"a running server", "start", "DATE fail2ban                [PID]: ERROR   Server already running\n", 255},
		{"time in seconds", "--str2sec 1d12h", "129600\n", 0},
		{"a year is a float", "--str2sec 1y", "31557600.0\n", 0},
		{"version", "-V", "1.0.2\n", 0},
		{"all of 1.1", "status --all", "Status\n|- Number of jail:\t2\n|- Jail list:\tmail, web\n`- Status for the jails:\n" +
			"   |- Jail: mail\n   |  |- Filter\n   |  |  |- Currently failed:\t0\n   |  |  |- Total failed:\t0\n   |  |  `- File list:\t/a /b\n   |  `- Actions\n   |     |- Currently banned:\t0\n   |     |- Total banned:\t0\n   |     `- Banned IP list:\t\n" +
			"   `- Jail: web\n      |- Filter\n      |  |- Currently failed:\t0\n      |  |- Total failed:\t7\n      |  `- Journal matches:\t_SYSTEMD_UNIT=a.service + _COMM=b\n      `- Actions\n         |- Currently banned:\t1\n         |- Total banned:\t0\n         `- Banned IP list:\t" + `a\x1b]0;b` + "\n", 0},
		{"table of 1.1", "stats", "Jail     | Backend  | Filter    | Actions  \n" +
			"         |          | cur | tot | cur | tot\n---------x----------x-----x-----x-----x----\n" +
			"mail     | files    |   0 |   0 |   0 |   0\nweb      | systemd  |   0 |   7 |   1 |   0\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said, code := runClient(socket, dir, "", strings.Fields(tt.args)...)
			if said = dated(said); said != tt.want || code != tt.code {
				t.Errorf("%s says, with exit code %d:\n%s\nwant %d:\n%s", tt.args, code, said, tt.code, tt.want)
			}
		})
	}
}

func TestInteractive(t *testing.T) {
	g := &guard{jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}}}}
	said, code := runClient(g.serve(t), t.TempDir(), "ping\nget 'web' \"maxlines\"\nget \"web\nquit\n", "-i")
	want := "DATE fail2ban                [PID]: ERROR   no closing quotation\nFail2Ban v1.0.2 (Tocsin test) reads log file that contains password failure report\nand bans the corresponding IP addresses using firewall rules.\n\n" +
		"fail2ban> Server replied: pong\nfail2ban> 0\nfail2ban> fail2ban> "
	if said = dated(said); said != want || code != exitOK {
		t.Errorf("says, with exit code %d:\n%s\nwant:\n%s", code, said, want)
	}
}

func TestNoGuard(t *testing.T) {
	said, code := runClient(filepath.Join(t.TempDir(), "none"), t.TempDir(), "", "ping")
	if code != exitFail || !strings.Contains(said, "no guard is running") {
		t.Errorf("ping says, with exit code %d: %s", code, said)
	}
}

func TestLockout(t *testing.T) {
	g := &guard{jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}}}, reason: api.Errorf(api.ExitFindings, "to ban it all the same: --accept-risk=lockout", "a session is open")}
	said, code := runClient(g.serve(t), t.TempDir(), "", "set", "web", "banip", "192.0.2.1")
	want := "DATE fail2ban                [PID]: ERROR   NOK: ('a session is open',)\n0\na session is open; to ban it all the same: tocsin ban 192.0.2.1 --jail web --accept-risk=lockout\n"
	if dated(said) != want || code != exitFail {
		t.Errorf("banip of one's own address says, with exit code %d:\n%s\nwant:\n%s", code, dated(said), want)
	}
}

// Who is banned for longer already stays so: fail2ban does not make a ban shorter by banning again.
func TestBanipOfSomebodyBanned(t *testing.T) {
	now := time.Now().UTC()
	long, short := now.Add(time.Hour), now.Add(time.Minute)
	g := &guard{now: now, jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}, BanSeconds: 600}}, banned: map[string][]api.BannedID{
		"web": {{ID: "192.0.2.1", At: now, Until: &long}, {ID: "192.0.2.3", At: now, Until: &short}}}}
	if said, code := runClient(g.serve(t), t.TempDir(), "", "set", "web", "banip", "192.0.2.1", "192.0.2.3"); said != "0\n" || code != 0 {
		t.Errorf("banip says %q, with exit code %d; want 0", said, code)
	}
	for _, b := range g.banned["web"] {
		if stays := b.Until.Equal(long) || b.Until.Equal(short); stays != (b.ID == "192.0.2.1") {
			t.Errorf("%s is banned until %v", b.ID, b.Until)
		}
	}
}

func TestGetopt(t *testing.T) {
	known := []option{{'a', "all", false}, {'o', "out", true}, {0, "print-all-matched", false}, {0, "print-all-missed", false}}
	tests := []struct {
		args, want string
		mixed      bool
	}{
		{"-a x -o y", "all= / x -o y", false},
		{"-a x -o y", "all= out=y / x", true},
		{"-aoy x", "all= out=y / x", false},
		{"--out=y --print-all-ma -- -a", "out=y print-all-matched= / -a", false},
		{"--print-all", "ambiguous option: --print-all", false},
		{"--out", "--out option requires 1 argument", false},
		{"--all=1", "--all option does not take a value", false},
		{"-z", "no such option: -z", false},
		{"- x", " / - x", true},
	}
	for _, tt := range tests {
		opts, rest, err := getopt(strings.Fields(tt.args), known, tt.mixed)
		var got []string
		for _, o := range opts {
			got = append(got, o.name+"="+o.value)
		}
		said := strings.Join(got, " ") + " / " + strings.Join(rest, " ")
		if err != nil {
			said = err.Error()
		}
		if said != tt.want {
			t.Errorf("getopt(%q, mixed %v) = %q, want %q", tt.args, tt.mixed, said, tt.want)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{`a 'b c' "d\"e" f\ g`, `'`, `\`, "a\tb\nc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		w, err := words(line)
		if n := len(strings.Join(w, "")); err == nil && n > len(line) {
			t.Errorf("words(%q) = %q, which is longer", line, w)
		}
	})
}
