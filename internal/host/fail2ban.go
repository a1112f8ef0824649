package host

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Running is a program that was found running.
type Running struct {
	PID int    // 0 if it is not known
	How string // how it was found
}

const (
	fail2banServer = "fail2ban-server"
	answerWithin   = time.Second
	maxPidfile     = 64
)

// Fail2ban finds a fail2ban that runs beside us: by its socket, its pid file, or as a process that bears its name. The paths
// are those of its fail2ban.conf; "" leaves one out. One whose network namespace is another, such as a container's, bans
// in another firewall and does not count.
func Fail2ban(socket, pidfile string) (r Running, ok bool) { return this().fail2ban(socket, pidfile) }

func (m *machine) fail2ban(socket, pidfile string) (r Running, ok bool) {
	if pid, ok := m.answers(socket); ok && m.beside(pid) {
		return Running{pid, "its socket " + socket + " answers"}, true
	}
	if pid, ok := m.noted(pidfile); ok && m.beside(pid) {
		return Running{pid, "its pid file " + pidfile + " names a running process"}, true
	}
	if pid, ok := m.process(fail2banServer); ok {
		return Running{pid, "a process is named " + fail2banServer}, true
	}
	return Running{}, false
}

// answers says whether somebody listens on a unix socket, and who: the kernel knows which process began to listen.
func (m *machine) answers(socket string) (pid int, ok bool) {
	if !filepath.IsAbs(socket) {
		return 0, false
	}
	conn, err := net.DialTimeout("unix", filepath.Join(m.root, socket), answerWithin)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, true
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid, true
}

// noted reads a pid file. It is not ok if the process is gone, or another has its number by now.
func (m *machine) noted(pidfile string) (pid int, ok bool) {
	if !filepath.IsAbs(pidfile) {
		return 0, false
	}
	text, err := m.read(pidfile)
	if err != nil || len(text) > maxPidfile {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return 0, false
	}
	line, err := m.read(fmt.Sprintf("/proc/%d/cmdline", pid))
	return pid, err == nil && bytes.Contains(line, []byte("fail2ban"))
}

// process finds a process by its name, in our own network namespace.
func (m *machine) process(name string) (pid int, ok bool) {
	entries, err := os.ReadDir(filepath.Join(m.root, "proc"))
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		comm, err := m.read(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && strings.TrimSpace(string(comm)) == name && m.namespace(pid) == m.namespace(0) {
			return pid, true
		}
	}
	return 0, false
}

// beside says whether a process may share our firewall: all but those of which another network namespace is known.
func (m *machine) beside(pid int) bool {
	theirs := m.namespace(pid)
	return pid == 0 || theirs == "" || theirs == m.namespace(0)
}

// namespace names the network namespace of a process, 0 being ourselves; "" if it may not be asked.
func (m *machine) namespace(pid int) string {
	of := "self"
	if pid > 0 {
		of = strconv.Itoa(pid)
	}
	name, err := os.Readlink(filepath.Join(m.root, "proc", of, "ns/net"))
	if err != nil {
		return ""
	}
	return name
}
