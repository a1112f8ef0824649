package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/api"
	runs "tocsin/internal/exec"
	"tocsin/internal/fail2ban"
	"tocsin/internal/fail2bancli"
	"tocsin/internal/firewall"
	"tocsin/internal/host"
	"tocsin/internal/jail"
)

// The second half of the tests that hold the rows of "What differs": the firewall, the actions, the commands.

// client calls fail2ban-client for the guard.
func (w *world) client(dir string, args ...string) (said string, code int) {
	w.t.Helper()
	var out bytes.Buffer
	code = fail2bancli.Client(append([]string{"-c", dir}, args...), fail2bancli.Options{
		Socket: filepath.Join(w.dir, "guard.sock"), Release: "test", By: "tester", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out,
	})
	return out.String(), code
}

// differsSSHSession: a connection to sshd's port from 127.0.0.1 stands for somebody who works there.
func differsSSHSession(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := testCell(t, jail.Options{Name: "sshd", Ports: []uint16{uint16(l.Addr().(*net.TCPAddr).Port)}})
	c.def.Name = "sshd"
	d := newDecider(t, c)
	ban := api.BanRequest{Prefix: "127.0.0.1", Jail: "sshd", Seconds: 60}
	if _, err := d.ban(context.Background(), ban); err == nil || !strings.Contains(err.Error(), "an ssh session from 127.0.0.1 is open") {
		t.Errorf("ban by hand: %v, want that a session is open", err)
	}
	ban.AcceptRisk = "lockout"
	if _, err := d.ban(context.Background(), ban); err != nil {
		t.Errorf("ban at one's own risk: %v", err)
	}
}

// network is a network namespace with a firewall of ours in it.
func network(t *testing.T) (ns *os.File, list func() string) {
	t.Helper()
	if !host.Have(unix.CAP_SYS_ADMIN) {
		t.Skip("needs root: it makes network namespaces")
	}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skipf("cannot make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns, func() string {
		out, err := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), ns.Fd()), "nft", "list", "ruleset").CombinedOutput()
		if err != nil {
			t.Skipf("cannot look into the kernel: %v: %s", err, out)
		}
		return string(out)
	}
}

// banIn bans somebody in that network and takes the firewall's hand away, as at the end of the guard.
func banIn(t *testing.T, ns *os.File) {
	t.Helper()
	fw, err := firewall.Open(firewall.Options{NetNS: int(ns.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fw.Restore(nil, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := fw.Ban(tocsin.Decision{
		Jail: "sshd", ID: "203.0.113.9", Prefix: netip.MustParsePrefix("203.0.113.9/32"), Action: tocsin.Ban, At: now, Until: now.Add(time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	if err := fw.Close(); err != nil {
		t.Fatal(err)
	}
}

func differsStop(t *testing.T) {
	ns, list := network(t)
	banIn(t, ns)
	if got := list(); !strings.Contains(got, "203.0.113.9") || !strings.Contains(got, "expires") {
		t.Errorf("after the end the kernel holds\n%s\nwant the ban, with the kernel's own timer", got)
	}
}

func differsOwnTable(t *testing.T) {
	ns, list := network(t)
	banIn(t, ns)
	got := list()
	if !strings.Contains(got, "table inet tocsin") || !strings.Contains(got, "hook prerouting") || strings.Contains(got, "f2b") {
		t.Errorf("the kernel holds\n%s\nwant a table of our own, before all chains of others", got)
	}
}

func differsOpen(t *testing.T) {
	cells := debianActions(t, "iptables-new[port=ssh]")
	if c := cells["login"]; len(c.native) != 1 || len(c.actions) != 0 {
		t.Errorf("iptables-new: %d by our firewall, %d run", len(c.native), len(c.actions))
	}
	ns, list := network(t)
	banIn(t, ns)
	if got := list(); strings.Contains(got, "ct state new") {
		t.Errorf("the kernel holds\n%s\nwant nothing that spares connections that are open", got)
	}
}

// Answers are what the other side of a connection sends that this host began.
func differsAnswers(t *testing.T) {
	ns, list := network(t)
	banIn(t, ns)
	if got := list(); !strings.Contains(got, "ct direction original jump all_ports") {
		t.Errorf("the kernel holds\n%s\nwant that answers pass", got)
	}
}

// debianActions are the jails of a folder with Debian's actions, of which login has these.
func debianActions(t *testing.T, actions string) map[string]*cell {
	t.Helper()
	const debian = "/etc/fail2ban/action.d"
	if _, err := os.Stat(debian); err != nil {
		t.Skipf("Debian's fail2ban is not installed: %v", err)
	}
	dir, log := etc(t, loginJail+"action = "+actions+"\n")
	appendTo(t, log, "")
	for _, name := range []string{"iptables", "iptables-allports", "iptables-new", "iptables-multiport", "iptables-multiport-log", "iptables-common"} {
		text, err := os.ReadFile(filepath.Join(debian, name+".conf"))
		if err == nil {
			put(t, dir, "action.d/"+name+".conf", string(text))
		}
	}
	cells, failed := cellsOf(t, dir)
	if cells["login"] == nil {
		t.Fatalf("the jail cannot run: %v", failed)
	}
	return cells
}

func differsAllPorts(t *testing.T) {
	c := debianActions(t, "iptables-allports[protocol=tcp]")["login"]
	if o := c.options; len(c.native) != 1 || len(o.Ports) != 0 || o.Verdict != tocsin.Reject {
		t.Errorf("iptables-allports is %+v, want every port and protocol", o)
	}
	ns, list := network(t)
	banIn(t, ns) // on all ports
	if got := list(); !strings.Contains(got, "ip saddr @all_ports_v4 goto banned_drop\n") {
		t.Errorf("the kernel holds\n%s\nwant a rule that asks for no protocol", got)
	}
}

func differsSeveralWalls(t *testing.T) {
	c := debianActions(t, "iptables-multiport[actname=a, port=\"22,80\"]\n  iptables-multiport[actname=b, port=53, protocol=udp]")["login"]
	if o := c.options; len(c.native) != 2 || fmt.Sprint(o.Ports, o.Proto) != "[22 53 80] tcp,udp" {
		t.Errorf("the jail bans on %v, %v", o.Ports, o.Proto)
	}
}

func differsLogPackets(t *testing.T) {
	c := debianActions(t, "iptables-multiport-log[port=ssh]")["login"]
	tells(t, c, "has the kernel log packets", "counted, not logged")
	if len(c.native) != 1 {
		t.Error("it is not done by our firewall")
	}
	ns, list := network(t)
	banIn(t, ns)
	if got := list(); !strings.Contains(got, "counter packets 0") || strings.Contains(got, "log prefix") {
		t.Errorf("the kernel holds\n%s\nwant that packets are counted and not logged", got)
	}
}

// runAsWritten checks that a ban action of Debian's is run instead of done by our firewall.
func runAsWritten(t *testing.T, action, why string) {
	t.Helper()
	c := debianActions(t, action)["login"]
	if len(c.native) != 0 || len(c.actions) != 1 {
		t.Errorf("%s: %d by our firewall, %d run, want that it is run", action, len(c.native), len(c.actions))
	}
	tells(t, c, why, "its commands are run as they are")
}

func differsChain(t *testing.T) {
	runAsWritten(t, "iptables-multiport[port=ssh, chain=FORWARD]", "chain FORWARD")
}

func differsBlocktype(t *testing.T) {
	runAsWritten(t, "iptables-multiport[port=ssh, blocktype=RETURN]", `blocktype "RETURN"`)
}

// Actions.

// does runs the command of an action that is banning, and returns what it prints.
func does(t *testing.T, command string, v fail2ban.Values) (string, error) {
	t.Helper()
	dir, _ := etc(t, loginJail+"action = own\n")
	put(t, dir, "action.d/own.conf", "[Definition]\nactionban = "+command+"\n")
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir})
	if err != nil || c.Jails[0].Err != nil {
		t.Fatal(err, c.Jails[0].Err)
	}
	s, _, err := c.Jails[0].Actions[0].Command("actionban", "inet4", v)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", s.Text}, s.Args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// theirsDoes is what fail2ban makes of the same command: user is the one value.
func theirsDoes(t *testing.T, command, user, want string) {
	t.Helper()
	theirs(t, fmt.Sprintf(`import subprocess
from fail2ban.server.action import CommandAction
r = CommandAction.replaceDynamicTags(%q, {'F-USER': %q})
print(subprocess.run(['sh', '-c'] + (r if isinstance(r, list) else [r]), capture_output=True, text=True).stdout)`, command, user), want)
}

func differsSingleQuotes(t *testing.T) {
	const command, user = "printf '%s|' '<F-USER>'", "a b; c"
	if got, err := does(t, strings.ReplaceAll(command, "%", "%%"), fail2ban.Values{"F-USER": user}); err != nil || got != user+"|" {
		t.Errorf("prints %q, %v, want the value", got, err)
	}
	theirsDoes(t, command, user, "$f2bV_F_USER|")
}

func differsBlanks(t *testing.T) {
	const command, user = "printf '%s|' <F-USER>", "a b; *"
	if got, err := does(t, strings.ReplaceAll(command, "%", "%%"), fail2ban.Values{"F-USER": user}); err != nil || got != user+"|" {
		t.Errorf("prints %q, %v, want one argument", got, err)
	}
	theirsDoes(t, command, user, "a|b;|")
}

func differsPrograms(t *testing.T) {
	const command = `awk 'BEGIN { print "<F-USER>" }'`
	if got, err := does(t, command, fail2ban.Values{"F-USER": "eve-1.2_x"}); err != nil || got != "eve-1.2_x\n" {
		t.Errorf("a plain word prints %q, %v", got, err)
	}
	for _, command := range []string{command, `sh -c "echo <F-USER>"`, "eval echo <F-USER>", "sed s/x/<F-USER>/", "echo $((<F-USER> + 1))", "echo x > /tmp/<F-USER>"} {
		if got, err := does(t, command, fail2ban.Values{"F-USER": `x" ; system("id") ; "`}); err == nil || !strings.Contains(err.Error(), "own.conf:2") {
			t.Errorf("%s prints %q, %v, want that it is not run, with its place", command, got, err)
		}
	}
}

func differsMail(t *testing.T) {
	got, err := does(t, `mail() { cat; }; printf '%%s' "<matches>" | mail root`, fail2ban.Values{"matches": "a\n~! id"})
	if err != nil || got != "a\n ~! id" {
		t.Errorf("mail is given %q, %v, want a blank before the tilde", got, err)
	}
}

func differsRawTicket(t *testing.T) {
	if got, err := does(t, `echo "[<raw-ticket>]"`, fail2ban.Values{}); err != nil || got != "[]\n" {
		t.Errorf("prints %q, %v, want nothing", got, err)
	}
	theirs(t, `from fail2ban.server.actions import Actions
print('raw-ticket' in Actions.ActionInfo.AI_DICT)`, "True")
}

func differsStopActions(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=keeps]\n flush[name=flushes]\n", map[string]string{"rec": recording, "flush": recording + "actionflush = echo flush >>DIR/<name>\n"})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.wrote("keeps", "start, ban 192.0.2.1 restored=0")
	s.wrote("flushes", "start, ban 192.0.2.1 restored=0")
	s.stop()
	s.wrote("keeps", "start, ban 192.0.2.1 restored=0, stop")
	s.wrote("flushes", "start, ban 192.0.2.1 restored=0, flush, stop")
}

func differsRepaired(t *testing.T) {
	s := newStage(t, "[j]\naction = frail[name=frail]\n", map[string]string{"frail": `
[Definition]
actionstart = rm -f DIR/broken; echo start >>DIR/<name>
actionstop = echo stop >>DIR/<name>
actioncheck = test ! -e DIR/broken
actionban = test ! -e DIR/broken && echo ban <ip> >>DIR/<name>
`})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.wrote("frail", "start, ban 192.0.2.1")
	if err := os.WriteFile(filepath.Join(s.dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fail(s.cell("j"), "192.0.2.2", 3)
	s.wrote("frail", "start, ban 192.0.2.1, stop, start, ban 192.0.2.2, ban 192.0.2.1")
}

func differsActionreload(t *testing.T) {
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording})
	s.begin()
	s.fail(s.cell("j"), "192.0.2.1", 3)
	s.wrote("rec", "start, ban 192.0.2.1 restored=0")
	s.in(func() { s.useActions(s.set) })
	s.fail(s.cell("j"), "192.0.2.2", 3)
	s.wrote("rec", "start, ban 192.0.2.1 restored=0, ban 192.0.2.2 restored=0")
}

func differsControl(t *testing.T) {
	s := newStage(t, "[j]\naction = show[name=show]\n", map[string]string{"show": "[Definition]\nactionban = printf '%%s\\n' \"<matches>\" >DIR/<name>\n"})
	s.begin()
	now := time.Now()
	d := tocsin.Decision{
		Jail: "j", ID: "192.0.2.1", Prefix: netip.MustParsePrefix("192.0.2.1/32"), At: now, Until: now.Add(time.Hour), Failures: 1,
		Evidence: []tocsin.Evidence{{Line: tocsin.Line{Text: "first"}}, {Line: tocsin.Line{Text: "a\x1b[2J\x00b"}}},
	}
	s.in(func() { s.carryOut(s.cell("j"), d) })
	s.wrote("show", `first, a\x1b[2J\x00b`)
}

func differsParallel(t *testing.T) {
	s := newStage(t, "[slow]\naction = sleep\n[other]\naction = rec[name=other]\n", map[string]string{
		"rec": recording, "sleep": "[Definition]\nactionban = sleep 1000\n",
	})
	s.begin()
	s.fail(s.cell("slow"), "192.0.2.1", 3)
	s.fail(s.cell("other"), "192.0.2.3", 3)
	s.wrote("other", "start, ban 192.0.2.3 restored=0") // while the other sleeps
	s.in(func() {
		if st := s.acts.by["slow"][0].queue.Stats(); st.Runs != 0 {
			t.Errorf("the slow action is through: %+v", st)
		}
	})
	s.killActions()
}

func differsWritable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only a runner of root distrusts others")
	}
	needsRoot(t, unix.CAP_CHOWN)
	s := newStage(t, "[j]\naction = rec[name=rec]\n", map[string]string{"rec": recording})
	if err := os.Chmod(s.etc+"/action.d/rec.conf", 0o666); err != nil {
		t.Fatal(err)
	}
	r := &runner{o: RunnerOptions{Dir: s.etc, Log: slog.New(slog.DiscardHandler)}, root: true, slots: make(chan struct{}, 1), entries: map[string][]*entry{}}
	r.look()
	got := r.do(t.Context(), runs.Job{Entry: "j/rec-rec", Version: fingerprint(s.cell("j").actions[0]), Do: "actionstart"})
	if got.Ran || !strings.Contains(got.Problem, "rec.conf can be written by everybody") {
		t.Errorf("the runner answers %+v", got)
	}
}

// Commands.

func differsClientSettings(t *testing.T) {
	dir, _ := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	for _, args := range []string{"bantime 1h", "maxretry 9", "addfailregex x<HOST>", "addlogpath /x", "addaction x", "idle on"} {
		said, code := w.client(dir, append([]string{"set", "login"}, strings.Fields(args)...)...)
		if code != 255 || !strings.Contains(said, "jail.local") {
			t.Errorf("set login %s: %d, %s", args, code, said)
		}
	}
	if j, err := w.Jail(t.Context(), "login"); err != nil || j.MaxRetry != 3 || len(j.Failregex) != 1 {
		t.Errorf("the jail is %+v, %v", j, err)
	}
}

func differsClientStop(t *testing.T) {
	dir, _ := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	for args, want := range map[string]string{"stop": "systemctl stop tocsin-guard", "stop login": "enabled = false", "start login": "enabled = true", "add x auto": "jail.local"} {
		if said, code := w.client(dir, strings.Fields(args)...); code != 255 || !strings.Contains(said, want) {
			t.Errorf("%s: %d, %s, want %q", args, code, said, want)
		}
	}
	if said, code := w.client(dir, "ping"); code != 0 {
		t.Errorf("ping: %d, %s", code, said)
	}
}

func differsClientAttempt(t *testing.T) {
	dir, _ := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	if said, code := w.client(dir, "set", "login", "attempt", attacker); code != 255 || !strings.Contains(said, "failures come from logs only") {
		t.Errorf("attempt: %d, %s", code, said)
	}
	if y := w.why(attacker); len(y.Standing) != 0 {
		t.Errorf("%+v is counted", y.Standing)
	}
}

func differsClientMethods(t *testing.T) {
	dir, _ := etc(t, loginJail+"action = mail\n")
	w := guardFail2ban(t, dir)
	if said, _ := w.client(dir, "get", "login", "actionmethods", "mail"); !strings.Contains(said, "actions have no methods here") {
		t.Errorf("actionmethods: %s", said)
	}
	if said, code := w.client(dir, "get", "login", "actionproperties", "mail"); code != 0 || !strings.Contains(said, "actionban") || strings.Contains(said, "norestored") {
		t.Errorf("actionproperties: %d, %s", code, said)
	}
}

func differsClientReload(t *testing.T) {
	second := "[second]\nenabled = true\nfilter = login\nlogpath = LOG\nmaxretry = "
	dir, log := etc(t, loginJail+second+"3\n")
	w := guardFail2ban(t, dir)
	put(t, dir, "jail.conf", strings.ReplaceAll(loginJail+second+"7\n", "LOG", log))
	if said, code := w.client(dir, "reload", "login"); code != 0 {
		t.Fatalf("reload: %d, %s", code, said)
	}
	w.until("the other jail is read anew", func() bool { j, err := w.Jail(t.Context(), "second"); return err == nil && j.MaxRetry == 7 })
}

func differsReloadBans(t *testing.T) {
	second := "[second]\nenabled = true\nfilter = login\nlogpath = LOG\n"
	dir, log := etc(t, loginJail+second)
	w := guardFail2ban(t, dir)
	if said, code := w.client(dir, "set", "second", "banip", attacker); code != 0 || said != "1\n" {
		t.Fatalf("banip: %d, %s", code, said)
	}
	put(t, dir, "jail.conf", strings.ReplaceAll(loginJail, "LOG", log))
	if said, code := w.client(dir, "reload"); code != 0 {
		t.Fatalf("reload: %d, %s", code, said)
	}
	w.until("the jail is gone", func() bool { _, err := w.Jail(t.Context(), "second"); return err != nil })
	if !w.why(attacker).Banned {
		t.Error("the ban of the jail that is gone was lifted")
	}
	if said, _ := w.client(dir, "unban", attacker); said != "1\n" || w.why(attacker).Banned {
		t.Errorf("unban said %q", said)
	}
}

func differsSocket(t *testing.T) {
	dir, _ := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	conn, err := net.Dial("unix", filepath.Join(w.dir, "guard.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94\x8c\x04ping\x94a.<F2B_END_COMMAND>\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn) // it hangs up
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) {
		t.Errorf("a pickle is answered with %q", answer)
	}
}
