package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Victim is the host that is attacked: it runs a real sshd, which logs through a real rsyslogd to /var/log/auth.log.
type Victim struct {
	*Host

	log *Proc // who takes what sshd says: rsyslogd or journald
}

// The account that exists on the victim besides root, and the password of both. In the shadow file stands its
// sha512crypt with few rounds, so that the attacks are bound by sshd and not by hashing.
const (
	User     = "marie"
	Password = "correct horse"

	hashed = "$6$rounds=1000$tocsinlab$/WB3YUan91Q5NYLzWU4UX6amnZsClmyoxxgXxOixG2UIoOqMkasT8v1k48qvLQQMlJ3pz3ERMTH91mbzBHt441"
)

// AuthLog is the file into which the victim's rsyslogd writes what sshd says.
const AuthLog = "/var/log/auth.log"

// LogExtra is a file with more lines of rsyslogd's configuration, read by StartLog if it is there.
const LogExtra = "/run/lab/rsyslog-extra.conf"

// ports and PAM are what a default Debian does, without the two seconds of delay after a wrong password: an attack
// with delay is the easier one to stop.
const (
	sshdConfig = `Port 22
Port 2222
Port 2200
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
UseDNS no
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
MaxStartups 200
Subsystem sftp internal-sftp
`
	pamConfig = `auth     required pam_unix.so nodelay
account  required pam_unix.so
session  required pam_permit.so
`
	nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
)

// LogFormat is how rsyslogd writes a line.
type LogFormat string

// The formats: Debian's until 11 ("Nov 22 17:30:05 victim ...") and since 12 ("2026-11-22T17:30:05.123456+00:00 victim ...").
const (
	Classic LogFormat = "RSYSLOG_TraditionalFileFormat"
	ISO     LogFormat = "RSYSLOG_FileFormat"
)

// victimPrivate gives the victim its own /dev, because /dev/log is a socket that the machine has too.
const victimPrivate = `
mkdir /run/lab/dev
mount -t tmpfs -o mode=755 dev /run/lab/dev
cd /run/lab/dev
for node in null zero full random urandom tty loop-control loop0 loop1 loop2 loop3 loop4 loop5 loop6 loop7; do
	[ -e /dev/$node ] || continue
	touch $node
	mount --bind /dev/$node $node
done
mkdir pts
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts pts
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
ln -s fd/0 stdin
ln -s fd/1 stdout
ln -s fd/2 stderr
mount --move /run/lab/dev /dev
mkdir -p /run/sshd /run/lab/home
rm -rf /etc/ssh/sshd_config.d /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
install -d -m 700 -o 4242 -g 4242 /run/lab/home/` + User + `
`

func (v *Victim) setUp(ctx context.Context) error {
	if _, err := v.Script(ctx, victimPrivate); err != nil {
		return fmt.Errorf("set up the victim: %w", err)
	}
	if err := v.accounts(); err != nil {
		return fmt.Errorf("make the victim's accounts: %w", err)
	}
	for _, f := range []struct{ name, text string }{
		{"/etc/ssh/sshd_config", sshdConfig},
		{"/etc/pam.d/sshd", pamConfig},
		{"/etc/nsswitch.conf", nsswitch},
		{"/etc/resolv.conf", ""},
	} {
		if err := v.Write(f.name, f.text, 0o644); err != nil {
			return fmt.Errorf("set up the victim: %w", err)
		}
	}
	if err := v.StartLog(ctx, ISO); err != nil {
		return err
	}
	return v.startSSHD(ctx)
}

// accounts gives root a password, and makes an account and the group whose members may speak to a guard.
func (v *Victim) accounts() error {
	for _, f := range []struct {
		name, drop, add string
		mode            uint32
	}{
		{"/etc/passwd", User, User + ":x:4242:4242::/run/lab/home/" + User + ":/bin/sh\n", 0o644},
		{"/etc/group", "tocsin|" + User, User + ":x:4242:\ntocsin:x:4243:\n", 0o644},
		{"/etc/shadow", "root|" + User, "root:" + hashed + ":20000:0:99999:7:::\n" + User + ":" + hashed + ":20000:0:99999:7:::\n", 0o600},
	} {
		text, err := v.Read(f.name)
		if err != nil {
			return err
		}
		others := regexp.MustCompile(`(?m)^(`+f.drop+`):.*\n`).ReplaceAllString(text, "")
		if err := v.Write(f.name, strings.TrimRight(others, "\n")+"\n"+f.add, 0o600); err != nil {
			return err
		}
		if err := syscall.Chmod(v.Path(f.name), f.mode); err != nil {
			return err
		}
	}
	return nil
}

// StartLog starts rsyslogd, and returns when it takes what sshd says.
func (v *Victim) StartLog(ctx context.Context, format LogFormat) error {
	conf := `global(workDirectory="/run/lab")
module(load="imuxsock" SysSock.RateLimit.Interval="0")
auth,authpriv.* action(type="omfile" file="` + AuthLog + `" fileCreateMode="0640" template="` + string(format) + `")
include(file="` + LogExtra + `" mode="optional")
`
	if err := v.Write("/etc/rsyslog.conf", conf, 0o644); err != nil {
		return err
	}
	rsyslogd, err := Look("rsyslogd")
	if err != nil {
		return err
	}
	v.log, err = v.Start(exec.Command(rsyslogd, "-n", "-i", "/run/rsyslogd.pid"))
	if err != nil {
		return err
	}
	return v.log.until(ctx, "take messages", func() bool { return v.Log(ctx, "lab", "rsyslogd is there") == nil })
}

const journald = "/lib/systemd/systemd-journald"

// StartJournal starts a real journald in the place of rsyslogd, which must have been stopped. There is no systemd, so
// entries name no unit. It is an error if journald is not installed.
func (v *Victim) StartJournal(ctx context.Context) error {
	_, err := v.Script(ctx, `
mkdir -p /run/systemd/journal /run/log/journal
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
rm -f /etc/systemd/journald.conf
ln -sf /run/systemd/journal/dev-log /dev/log`)
	if err != nil {
		return err
	}
	if v.log, err = v.Start(exec.Command(journald)); err != nil {
		return err
	}
	return v.log.until(ctx, "keep messages", func() bool {
		if v.Log(ctx, "lab", "journald is there") != nil {
			return false
		}
		said, err := v.Run(ctx, "journalctl", "--quiet", "--output=cat", "--identifier=lab")
		return err == nil && strings.Contains(said, "journald is there")
	})
}

// StopLog ends rsyslogd or journald; what sshd says meanwhile is lost.
func (v *Victim) StopLog() error { return v.log.Stop(30 * time.Second) }

// ReopenLog tells rsyslogd that its file was renamed, as Debian's logrotate does.
func (v *Victim) ReopenLog() error { return v.log.Signal(syscall.SIGHUP) }

// Log writes a line as another program of the victim would.
func (v *Victim) Log(ctx context.Context, tag, text string) error {
	_, err := v.Run(ctx, "logger", "--tag", tag, "--priority", "authpriv.info", "--", text)
	return err
}

// startSSHD starts sshd and returns when it answers on every port.
func (v *Victim) startSSHD(ctx context.Context) error {
	sshd, err := Look("sshd") // by its whole path: it starts itself again for each connection
	if err != nil {
		return err
	}
	p, err := v.Start(exec.Command(path.Clean(sshd), "-D"))
	if err != nil {
		return err
	}
	return p.until(ctx, "listen", func() bool {
		for _, port := range Ports {
			if v.Connect(At(VictimAttacker, port), time.Second) != nil {
				return false
			}
		}
		return true
	})
}

// until waits up to a minute for ready; it is an error if the program ends first.
func (p *Proc) until(ctx context.Context, what string, ready func() bool) error {
	err := Poll(ctx, time.Minute, func() (bool, error) {
		select {
		case <-p.Done():
			return false, fmt.Errorf("it ended: %w", p.err)
		default:
			return ready(), nil
		}
	})
	if err != nil {
		return fmt.Errorf("wait for %s to %s: %w: %s", p.cmd.Path, what, err, p.Output())
	}
	return nil
}
