package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tocsin/e2e/lab"
)

const unit = "../packaging/tocsin-guard.service"

// need skips the test where a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitIsWellFormed(t *testing.T) {
	need(t, "systemd-analyze")
	for _, unit := range []string{unit, "../packaging/tocsin-restore.service", "../packaging/tocsin-runner.service", "../packaging/tocsin-watch.service"} {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// systemd-analyze wants the program to exist; ours is not installed where tests run.
		there := strings.ReplaceAll(string(text), "/usr/bin/tocsin", "/bin/true")
		path := filepath.Join(t.TempDir(), filepath.Base(unit))
		if err := os.WriteFile(path, []byte(there), 0o644); err != nil {
			t.Fatal(err)
		}
		if said := output(t, "systemd-analyze", "verify", "--recursive-errors=no", path); strings.Contains(said, filepath.Base(unit)) {
			t.Errorf("systemd-analyze verify: %s", said)
		}
	}
}

// The exposure that systemd computes, 0 to 10, may only sink. What is left of it is what a guard needs: NET_ADMIN, the
// host's network, the host's users.
func TestUnitIsTight(t *testing.T) {
	need(t, "systemd-analyze")
	const most = 2.6
	said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
	if err != nil {
		t.Skipf("systemd-analyze cannot judge a unit offline here: %v: %s", err, said)
	}
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(said)
	if m == nil {
		t.Fatalf("no exposure level in %s", said)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > most {
		t.Errorf("exposure %s (%v), want at most %.1f", m[1], err, most)
	}
}

// What the unit takes away from the guard it does not need, and what systemd wants to hear it says.
func TestAsTheUnitRunsIt(t *testing.T) {
	s := newScene(t, time.Minute)
	need(t, "setpriv")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.Victim.Path("/run/lab/notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	s.env = []string{"NOTIFY_SOCKET=/run/lab/notify", "WATCHDOG_USEC=30000000"}
	s.under = []string{"setpriv", "--bounding-set", "-all,+net_admin,+dac_read_search", "--inh-caps", "-all", "--no-new-privs",
		"--regid", "4243", "--clear-groups"}
	s.configure(sshd)
	s.run("--config", configFile)
	hear := func(want string) {
		t.Helper()
		told.SetReadDeadline(time.Now().Add(answer))
		buf := make([]byte, 256)
		for {
			n, err := told.Read(buf)
			if err != nil {
				t.Fatalf("systemd does not hear %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.guard.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		// Bit 12 is CAP_NET_ADMIN, bit 2 is CAP_DAC_READ_SEARCH.
		if want := set + ":\t0000000000001004\n"; !strings.Contains(string(status), want) {
			t.Errorf("%q is not in\n%s", want, status)
		}
	}
	if fi, err := os.Stat(s.Victim.Path(socket)); err != nil {
		t.Error(err)
	} else if gid := fi.Sys().(*syscall.Stat_t).Gid; gid != 4243 || fi.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v and group %d, want -rw-rw---- and tocsin", fi.Mode(), gid)
	}
	s.stop()
	hear("STOPPING=1")
}

// Started by hand as root it gives up what it does not need by itself.
func TestDropsPrivilegesByItself(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.guard.Pid()))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
			if want := set + ":\t0000000000001004\n"; !strings.Contains(string(status), want) {
				t.Errorf("%s: %q is not in\n%s", thread, want, status)
			}
		}
	}
}

func TestDefaultConfigurationIsTheBuiltIn(t *testing.T) {
	if noReason != "" {
		t.Skip(noReason)
	}
	commented, err := os.ReadFile("../packaging/tocsin.toml")
	if err != nil {
		t.Fatal(err)
	}
	// Its text says that the lines in it are what happens without them: so they must be valid too.
	plain := regexp.MustCompile(`(?m)^# (\[.*\]|[a-z_0-9]+ = .*)$`).ReplaceAllString(string(commented), "$1")
	if plain == string(commented) {
		t.Fatal("nothing was commented out")
	}
	for name, text := range map[string]string{"as it is": string(commented), "with every line in force": plain} {
		path := filepath.Join(t.TempDir(), "tocsin.toml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, "check", path).CombinedOutput(); err != nil {
			t.Errorf("tocsin check, %s: %v\n%s", name, err, out)
		}
	}
}

func TestPackageIsWhole(t *testing.T) {
	need(t, "dpkg-deb")
	if noReason != "" {
		t.Skip(noReason)
	}
	deb := filepath.Join(t.TempDir(), "tocsin.deb")
	output(t, "../packaging/deb.sh", binary, deb)
	list := output(t, "dpkg-deb", "--contents", deb)
	for _, want := range []string{
		"-rwxr-xr-x root/root .* ./usr/bin/tocsin\n",
		"lrwxrwxrwx root/root .* ./usr/lib/tocsin/bin/fail2ban-client -> ../../../bin/tocsin\n",
		"lrwxrwxrwx root/root .* ./usr/lib/tocsin/bin/fail2ban-regex -> ../../../bin/tocsin\n",
		"-rw-r--r-- root/root .* ./etc/tocsin/tocsin.toml\n",
		"-rw-r--r-- root/root .* ./lib/systemd/system/tocsin-guard.service\n",
		"-rw-r--r-- root/root .* ./lib/systemd/system/tocsin-restore.service\n",
		"-rw-r--r-- root/root .* ./lib/systemd/system/tocsin-runner.service\n",
		"-rw-r--r-- root/root .* ./lib/systemd/system/tocsin-watch.service\n",
		"-rw-r--r-- root/root .* ./usr/lib/sysusers.d/tocsin.conf\n",
	} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("%q is not in the package:\n%s", want, list)
		}
	}
	if info := output(t, "dpkg-deb", "--info", deb); !strings.Contains(info, "postinst") || !strings.Contains(info, "conffiles") {
		t.Errorf("the package has no postinst or no conffiles:\n%s", info)
	}
}
