package host

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin/internal/exec"
)

// defaultSSHPort is where sshd listens if nobody says otherwise.
const defaultSSHPort = 22

// SSHPorts is every TCP port on which this machine's sshd listens or is configured to, sorted, and for each how that was
// found, in words: "2200: sshd -T, listening". It asks sshd itself, or reads its configuration if sshd does not answer, the
// socket units of systemd that start it, and other instances with a configuration or a port of their own. What is
// configured is compared with the kernel's list of listening sockets; nobody looks into other processes.
//
// There is always an answer: if nothing is found it is 22. The error is that of ctx, or says that the kernel did not list
// its sockets; then the ports are there, unconfirmed.
func SSHPorts(ctx context.Context) (ports []uint16, how []string, err error) {
	return this().sshPorts(ctx)
}

// claim is a port that something says sshd has.
type claim struct {
	port uint16
	by   string // who says so: "sshd -T", "ssh.socket", "/etc/ssh/sshd_config"
	weak bool   // counts only if somebody listens there: the file may be an old one
}

func (m *machine) sshPorts(ctx context.Context) ([]uint16, []string, error) {
	claims := m.sshdClaims(ctx)
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	claims = append(claims, m.socketClaims()...)
	claims = append(claims, m.instanceClaims()...)
	listening, err := m.listen()

	by := map[uint16][]string{}
	for _, c := range claims {
		if c.weak && !listening[c.port] {
			continue
		}
		if !slices.Contains(by[c.port], c.by) {
			by[c.port] = append(by[c.port], c.by)
		}
	}
	if len(by) == 0 {
		by[defaultSSHPort] = []string{"no sshd was found, so its usual port"}
	}
	var ports []uint16
	for p := range by {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	var how []string
	for _, p := range ports {
		state := "listening"
		switch {
		case err != nil:
			state = "not confirmed"
		case !listening[p]:
			state = "nobody listens there now"
		}
		how = append(how, fmt.Sprintf("%d: %s, %s", p, strings.Join(by[p], " and "), state))
	}
	return ports, how, err
}

// runSSHD asks sshd for its configuration as it understands it, with Include and Match resolved. It needs root, who alone
// can read the host keys that sshd wants to see first.
func runSSHD(ctx context.Context) ([]byte, error) {
	path, err := exec.Find("sshd")
	if err != nil {
		return nil, err
	}
	out, err := exec.Run(ctx, exec.Command{Path: path, Args: []string{"-T"}, Timeout: 5 * time.Second})
	return out.Stdout, err
}

// sshdClaims are the ports of the main sshd: its own answer, or else what its configuration says.
func (m *machine) sshdClaims(ctx context.Context) []claim {
	text, err := m.sshd(ctx)
	var ports []uint16
	by := "sshd -T"
	if err == nil {
		ports = effectivePorts(text)
	}
	if len(ports) == 0 && m.exists(sshdConfig) {
		by = sshdConfig
		ports = m.configuredPorts(sshdConfig)
	}
	var claims []claim
	for _, p := range ports {
		claims = append(claims, claim{port: p, by: by})
	}
	return claims
}

// effectivePorts reads the ports from what sshd -T writes. Its listenaddress lines are the sockets it opens; its port lines
// only fill in for those that name no port, so they count where there is no listenaddress.
func effectivePorts(text []byte) []uint16 {
	var listen, port []uint16
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		words := strings.Fields(scan.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "listenaddress":
			if _, p, ok := splitListen(words[1]); ok && p != 0 {
				listen = append(listen, p)
			}
		case "port":
			if p, ok := parsePort(words[1]); ok {
				port = append(port, p)
			}
		}
	}
	if len(listen) > 0 {
		return listen
	}
	return port
}

// splitListen reads what follows ListenAddress: HOST, HOST:PORT, [HOST]:PORT or a bare IPv6 address. The port is 0 where
// there is none.
func splitListen(s string) (host string, port uint16, ok bool) {
	if rest, found := strings.CutPrefix(s, "["); found {
		inner, after, closed := strings.Cut(rest, "]")
		if !closed {
			return "", 0, false
		}
		if after == "" {
			return inner, 0, true
		}
		port, ok = parsePort(strings.TrimPrefix(after, ":"))
		return inner, port, ok && after[0] == ':'
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s, 0, true
	}
	host, text, found := strings.Cut(s, ":")
	if !found {
		return host, 0, true
	}
	port, ok = parsePort(text)
	return host, port, ok
}

// parsePort reads a port number. 0 is none.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n != 0
}
