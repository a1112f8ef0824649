package fail2ban

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// debianAction reads the first action of Debian's jail sshd under a jail.local.
func debianAction(t *testing.T, local string) *Action {
	t.Helper()
	if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
		t.Skip("no /etc/fail2ban/jail.conf: install Debian's package fail2ban to test against it")
	}
	over := fstest.MapFS{"jail.local": {Data: []byte("[DEFAULT]\nbackend = systemd\n[sshd]\nenabled = true\n" + local)}}
	c, err := Load(LoadOptions{Dir: "/etc/fail2ban", FS: overlay{os.DirFS("/etc/fail2ban"), over}})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range c.Jails {
		if j.Name == "sshd" && j.Err == nil && len(j.Actions) > 0 {
			return j.Actions[0]
		}
	}
	t.Fatalf("no jail sshd with an action in %q: %v", local, c.Jails)
	return nil
}

// recorder stands in for the programs that change the firewall and writes down what they are called with. A rule that
// iptables is asked for is never there.
const recorder = `#!/bin/sh
{
printf %s "${0##*/}"
for a; do printf " '%s'" "$a"; done
echo
} >>"$RECORD"
case " $* " in *" -C "*) exit 1;; esac
`

// performer runs the commands of one action the way fail2ban's CommandAction does.
type performer struct {
	t       *testing.T
	a       *Action
	sh, dir string
	started []string
	items   map[string]bool
	bans    []string
}

func newPerformer(t *testing.T, a *Action, sh string) *performer {
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables", "nft", "ipset", "ufw"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(recorder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &performer{t: t, a: a, sh: sh, dir: dir, items: map[string]bool{}}
}

func (p *performer) run(name, family string, v Values) {
	p.t.Helper()
	s, ok, err := p.a.Command(name, family, v)
	if err != nil {
		p.t.Fatal(err)
	}
	if !ok {
		return
	}
	cmd := exec.Command(p.sh, append([]string{"-c", s.Text}, s.Args...)...)
	cmd.Env = []string{"PATH=" + p.dir + ":/usr/bin:/bin", "RECORD=" + filepath.Join(p.dir, "record")}
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Errorf("%s -c %q: %v\n%s", p.sh, s.Text, err, out)
	}
}

// family is that of an id, for an action that tells them apart.
func (p *performer) family(id string) string {
	switch {
	case !p.a.OnDemand():
		return ""
	case strings.Contains(id, ":"):
		return "inet6"
	}
	return "inet4"
}

func (p *performer) ban(ids ...string) {
	for _, id := range ids {
		family := p.family(id)
		if !p.items[family] {
			if !strings.Contains(strings.Join(p.started, " "), family) {
				p.run("actionstart", family, nil)
				p.started = append(p.started, family)
			}
			p.items[family] = true
		}
		p.bans = append(p.bans, id)
		p.run("actionban", family, Values{"ip": id, "failures": "0", "bantime": "600"})
	}
}

func (p *performer) unban(id string) {
	for i, ban := range p.bans {
		if ban == id {
			p.bans = append(p.bans[:i:i], p.bans[i+1:]...)
		}
	}
	p.run("actionunban", p.family(id), Values{"ip": id, "failures": "0"})
}

func (p *performer) flush() {
	if _, ok, _ := p.a.Command("actionflush", "inet4", nil); ok {
		for _, family := range p.started {
			p.run("actionflush", family, nil)
			p.items[family] = false
		}
		p.bans = nil
		return
	}
	for len(p.bans) > 0 {
		p.unban(p.bans[0])
	}
}

func (p *performer) do(event string) {
	words := strings.Fields(event)
	switch words[0] {
	case "banip":
		p.ban(words[1:]...)
	case "unbanip":
		p.unban(words[1])
	case "unban": // --all
		p.flush()
	case "stop":
		p.flush()
		for _, family := range p.started {
			p.run("actionstop", family, nil)
		}
	}
}

// TestArgvAsRecorded runs Debian's ban actions in real shells, with recorders in the place of the firewall's programs, and
// compares every argument with those that fail2ban's own commands had.
func TestArgvAsRecorded(t *testing.T) {
	for _, sh := range shells(t) {
		for _, name := range []string{"iptables-multiport", "iptables-allports", "iptables-ipset", "nftables", "nftables-allports", "ufw"} {
			t.Run(filepath.Base(sh)+"/"+name, func(t *testing.T) {
				golden := recordedArgv(t, name)
				p := newPerformer(t, debianAction(t, "banaction = "+bracketed(name)), sh)
				same, total := 0, 0
				for _, section := range golden {
					record := filepath.Join(p.dir, "record")
					if err := os.WriteFile(record, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					p.do(section.event)
					got, err := os.ReadFile(record)
					if err != nil {
						t.Fatal(err)
					}
					total++
					if string(got) != section.lines {
						t.Errorf("%s:\n%swant:\n%s", section.event, got, section.lines)
						continue
					}
					same++
				}
				t.Logf("%d of %d sections equal", same, total)
			})
		}
	}
}

// bracketed is how a jail names the action that was recorded.
func bracketed(name string) string {
	if name == "nftables-allports" {
		return "nftables[type=allports]"
	}
	return name
}

type argvSection struct{ event, lines string }

// recordedArgv reads the commands that fail2ban ran, by what was asked of it.
func recordedArgv(t *testing.T, action string) (sections []argvSection) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordedDumps(t), "commands."+action+".log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := ""
	for l := range strings.Lines(string(data)) {
		event, ok := strings.CutPrefix(l, "# --- after")
		if !ok {
			lines += l
			continue
		}
		sections = append(sections, argvSection{strings.TrimSpace(strings.TrimPrefix(event, ":")), lines})
		lines = ""
	}
	return sections
}

// TestDebianActionsTakeAnything puts hostile values into every command of every action that Debian ships: none may be
// refused for its text, and no value may become part of a command.
func TestDebianActionsTakeAnything(t *testing.T) {
	files, _ := filepath.Glob("/etc/fail2ban/action.d/*.conf")
	if len(files) == 0 {
		t.Skip("no actions in /etc/fail2ban/action.d: install Debian's package fail2ban to test against them")
	}
	const marker = "zq;zq"
	commands, refused := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".conf")
		if strings.HasSuffix(name, "-common") {
			continue
		}
		a := debianAction(t, fmt.Sprintf("action = %s[name=sshd, port=ssh, protocol=tcp]", name))
		for _, o := range a.Options {
			if !strings.HasPrefix(o.Name, "action") {
				continue
			}
			for _, family := range []string{"inet4", "inet6"} {
				v := Values{"ip": "192.0.2.1", "failures": "3", "time": "1700000000", "bantime": "600"}
				if _, _, err := a.Command(o.Name, family, v); err != nil {
					t.Errorf("plain values: %v", err)
				}
				for _, tag := range []string{"matches", "ipmatches", "ipjailmatches", "ip-host", "fid", "F-USER"} {
					v[tag] = marker
				}
				s, ok, err := a.Command(o.Name, family, v)
				if err != nil {
					t.Errorf("log lines: %v", err)
				}
				if strings.Contains(s.Text, marker) {
					t.Errorf("%s of %s: a value became part of %q", o.Name, a.Name, s.Text)
				}
				v["ip"] = marker
				if s, _, err = a.Command(o.Name, family, v); err != nil {
					refused++
				}
				if strings.Contains(s.Text, marker) {
					t.Errorf("%s of %s: an id became part of %q", o.Name, a.Name, s.Text)
				}
				if ok {
					commands++
				}
			}
		}
	}
	t.Logf("%d commands, %d of them refuse an id that is no address", commands, refused)
}
