package host

// SSHLog is where sshd logs on this machine, as sources of the configuration, and how that was found. Where systemd runs
// and there is a journalctl it is the journal: no file is written on a fresh Debian 12. Otherwise it is the first of the
// usual files that exists, and if none does, the usual one, which the guard then waits for.
//
// Debian's unit is ssh.service, that of other systems sshd.service; a machine has one of them, and a match for the other
// costs nothing. Whoever reads the journal must also ask for _UID=0: sshd logs as root, and anybody may write "sshd" lines
// to syslog.
func SSHLog() (sources []string, how string) { return this().sshLog() }

func (m *machine) sshLog() ([]string, string) {
	files := []string{"/var/log/auth.log", "/var/log/secure"}
	missing := "systemd does not run here"
	if m.exists("/run/systemd/system") {
		if _, err := m.find("journalctl"); err == nil {
			return []string{"journal:_SYSTEMD_UNIT=ssh.service", "journal:_SYSTEMD_UNIT=sshd.service"}, "the journal, because systemd runs"
		}
		missing = "there is no journalctl"
	}
	for _, path := range files {
		if m.exists(path) {
			return []string{"file:" + path}, path + ", because " + missing
		}
	}
	return []string{"file:" + files[0]}, files[0] + ", which does not exist yet; " + missing
}
