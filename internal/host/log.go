package host

import (
	"slices"
	"strings"
)

// SSHLog is where sshd logs on this machine, as sources of the configuration, and how that was found. Where systemd runs
// and keeps a journal it is the journal: a fresh Debian 12 writes no file. Otherwise it is the first of the usual files
// that exists, and if none does, the usual one, which the guard then waits for.
//
// The journal is asked for the units that run sshd: ssh.service as Debian calls it, sshd.service as others do, and further
// instances on this machine; a unit that does not exist costs nothing. It is one source, whose matches journalctl takes as
// alternatives because they name one field. Whoever reads it must also ask for _UID=0: sshd logs as root, and what a
// unit's other users log is not to be believed.
func SSHLog() (sources []string, how string) { return this().sshLog() }

func (m *machine) sshLog() ([]string, string) {
	missing := m.noJournal()
	if missing == "" {
		units := []string{"ssh.service", "sshd.service"}
		for _, u := range m.sshdUnits() {
			if !slices.Contains(units, u.name) && !strings.ContainsAny(u.name, " \t") {
				units = append(units, u.name)
			}
		}
		return []string{"journal:_SYSTEMD_UNIT=" + strings.Join(units, " _SYSTEMD_UNIT=")}, "the journal, because systemd runs"
	}
	files := []string{"/var/log/auth.log", "/var/log/secure"} // Debian's and Red Hat's
	for _, path := range files {
		if m.exists(path) {
			return []string{"file:" + path}, path + ", because " + missing
		}
	}
	return []string{"file:" + files[0]}, files[0] + ", which does not exist yet; " + missing
}

// NoJournal says why this machine has no journal that could be read, "" if it has one.
func NoJournal() string { return this().noJournal() }

// noJournal says why there is no journal to read, "" if there is one.
func (m *machine) noJournal() string {
	if !m.exists("/run/systemd/system") { // sd_booted(3)
		return "systemd does not run here"
	}
	if _, err := m.find("journalctl"); err != nil {
		return "there is no journalctl"
	}
	if m.journalStorage() == "none" {
		return "the journal keeps nothing (Storage=none)"
	}
	return ""
}

// journalStorage is the setting Storage of journald.conf(5), whose drop-ins count after it; "" if nothing sets it.
func (m *machine) journalStorage() string {
	storage := ""
	for _, pattern := range []string{
		"/etc/systemd/journald.conf",
		"/usr/lib/systemd/journald.conf.d/*.conf",
		"/run/systemd/journald.conf.d/*.conf",
		"/etc/systemd/journald.conf.d/*.conf",
	} {
		for _, file := range m.glob(pattern) {
			text, err := m.read(file)
			if err != nil {
				continue
			}
			for _, value := range unitLines(string(text), "Journal", "Storage") {
				storage = strings.ToLower(value)
			}
		}
	}
	return storage
}
