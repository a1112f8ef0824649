package host

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// unitFolders are where systemd looks for units, the strongest first (systemd.unit(5)). The generator is where Ubuntu's
// sshd-socket-generator writes the ports of sshd_config as a drop-in.
var unitFolders = []string{
	"/etc/systemd/system",
	"/run/systemd/system",
	"/run/systemd/generator",
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// socketClaims are the ports of the socket units that start sshd, as far as files tell that they are switched on: some
// target or service wants them.
func (m *machine) socketClaims() []claim {
	var claims []claim
	for _, unit := range []string{"ssh.socket", "sshd.socket"} {
		if !m.wanted(unit) {
			continue
		}
		for _, line := range m.unitValues(unit, "Socket", "ListenStream") {
			if strings.HasPrefix(line, "/") || strings.HasPrefix(line, "@") || strings.HasPrefix(line, "vsock:") {
				continue // not TCP
			}
			if !strings.ContainsAny(line, ":.") {
				line = "[::]:" + line // a port alone: every address
			}
			if _, p, ok := splitListen(line); ok && p != 0 {
				claims = append(claims, claim{port: p, by: unit})
			}
		}
	}
	return claims
}

// wanted tells whether something pulls a unit in at boot.
func (m *machine) wanted(unit string) bool {
	for _, folder := range unitFolders {
		for _, by := range []string{"*.wants", "*.requires"} {
			if len(m.glob(path.Join(folder, by, unit))) > 0 {
				return true
			}
		}
	}
	return false
}

// unitValues are the values of a key that may stand several times in a unit, its drop-ins read after it in the order of
// their names. An empty value forgets those before it.
func (m *machine) unitValues(unit, section, key string) []string {
	var values []string
	for _, file := range m.unitFiles(unit) {
		text, err := m.read(file)
		if err != nil {
			continue
		}
		for _, v := range unitLines(string(text), section, key) {
			if v == "" {
				values = nil
			} else {
				values = append(values, v)
			}
		}
	}
	return values
}

// unitFiles is the unit's own file and its drop-ins in the order in which they count. Of two files of the same name that
// of the stronger folder hides the other; a unit that is a link to /dev/null is masked, which reads as empty.
func (m *machine) unitFiles(unit string) []string {
	var files []string
	for _, folder := range unitFolders {
		if own := path.Join(folder, unit); m.exists(own) {
			files = append(files, own)
			break
		}
	}
	dropIns := map[string]string{}
	for _, folder := range unitFolders {
		for _, file := range m.glob(path.Join(folder, unit+".d", "*.conf")) {
			dropIns[path.Base(file)] = cmp.Or(dropIns[path.Base(file)], file)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dropIns)) {
		files = append(files, dropIns[name])
	}
	return files
}

// unitLines are the values of key in one section of a unit file, in order. A backslash at the end joins a line with the
// next.
func unitLines(text, section, key string) []string {
	var values []string
	in := false
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			in = line == "["+section+"]"
		case in:
			if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == key {
				values = append(values, strings.TrimSpace(value))
			}
		}
	}
	return values
}

// sshdUnit is a service that runs sshd, with the arguments of one of its command lines.
type sshdUnit struct {
	name string
	args []string
}

// sshdUnits are the services that run sshd, sorted by folder and name. Templates are left out: their names are no units.
func (m *machine) sshdUnits() []sshdUnit {
	var found []sshdUnit
	seen := map[string]bool{}
	for _, folder := range unitFolders {
		for _, file := range m.glob(path.Join(folder, "*.service")) {
			unit := path.Base(file)
			if seen[unit] || strings.HasSuffix(unit, "@.service") {
				continue
			}
			seen[unit] = true
			for _, command := range m.unitValues(unit, "Service", "ExecStart") {
				args := words(strings.TrimLeft(command, "-+!@:|"))
				if len(args) > 0 && path.Base(args[0]) == "sshd" {
					found = append(found, sshdUnit{unit, args[1:]})
				}
			}
		}
	}
	return found
}

// instanceClaims are the ports of further sshds, such as one for members on 2200: services that run sshd with a
// configuration (-f) or a port (-p, -o Port=) of its own. They count only where somebody listens.
func (m *machine) instanceClaims() []claim {
	var claims []claim
	for _, u := range m.sshdUnits() {
		for _, p := range m.argumentPorts(u.args) {
			claims = append(claims, claim{port: p, by: u.name, weak: true})
		}
	}
	return claims
}

// argumentPorts are the ports that arguments give to sshd, none if they give none.
func (m *machine) argumentPorts(args []string) []uint16 {
	var ports []uint16
	file := ""
	for i := 0; i < len(args); i++ {
		flag, value := args[i], ""
		if len(flag) < 2 || flag[0] != '-' || !strings.Contains("fpo", flag[1:2]) {
			continue
		}
		if value = flag[2:]; value == "" && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch flag[1] {
		case 'f':
			file = value
		case 'p':
			if p, ok := parsePort(value); ok {
				ports = append(ports, p)
			}
		case 'o':
			if keyword, args := sshdLine(value); keyword == "port" && len(args) == 1 {
				if p, ok := parsePort(args[0]); ok {
					ports = append(ports, p)
				}
			}
		}
	}
	if len(ports) == 0 && file != "" { // ports on the command line hide those of the file (sshd(8))
		ports = m.configuredPorts(file)
	}
	return ports
}
