// Package lab builds small networks of real hosts on one machine, for the end-to-end tests and the demonstration.
//
// It owns the hosts (network, mount, process and name spaces, tied to the life of this program), the links between
// them, the victim's real sshd and rsyslogd, and the real OpenSSH clients of the others. It knows nothing about what
// guards the victim.
//
// The one thing to know: nothing here touches the machine. Every host has its own /etc, /run, /var/log and network,
// all addresses are from the documentation ranges (RFC 5737, RFC 3849) but for some of the tests of lists, which hold none
// of those; no host has a default route, and all of it is
// gone when the program is, even after kill -9.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// The addresses of a lab. The IPv6 networks of attacker and honest hold no address of the victim: a guard that bans a
// whole /64 would rightly refuse to ban its own.
var (
	VictimAttacker  = netip.MustParseAddr("192.0.2.1") // the victim's address on the attacker's link
	Attacker        = netip.MustParseAddr("192.0.2.66")
	VictimHonest    = netip.MustParseAddr("198.51.100.1") // the victim's address on the honest host's link
	Honest          = netip.MustParseAddr("198.51.100.10")
	VictimAttacker6 = netip.MustParseAddr("2001:db8:1::1")
	Attacker6       = netip.MustParseAddr("2001:db8:66::66")
	VictimHonest6   = netip.MustParseAddr("2001:db8:2::1")
	Honest6         = netip.MustParseAddr("2001:db8:10::10")
)

// Ports are those on which the victim's sshd listens.
var Ports = []uint16{22, 2222, 2200}

// Lab is a network of three hosts: attacker and honest, each with its own link to the victim.
type Lab struct {
	Attacker, Honest *Host
	Victim           *Victim

	hosts []*Host
}

// programs are what a lab runs; scripts/setup.sh installs them.
var programs = []string{
	"cat", "cp", "ip", "mount", "sh", "ssh", "sshd", "ssh-keygen", "sshpass", "sftp", "rsyslogd", "nft", "logrotate", "logger", "pgrep",
}

// Missing is the reason why no lab can be built here, "" if one can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "not root: network namespaces need it"
	}
	var missing []string
	for _, p := range programs {
		if _, err := Look(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Sprintf("not installed: %s (scripts/setup.sh installs them)", strings.Join(missing, ", "))
	}
	h, err := newHost(context.Background(), "trial")
	if err != nil {
		return fmt.Sprintf("no namespaces here: %v", err)
	}
	defer h.close()
	if _, err := h.Script(context.Background(), "ip link add name left type veth peer name right; nft add table inet trial"); err != nil {
		return fmt.Sprintf("no veth or no nf_tables here: %v", err)
	}
	return ""
}

// Look finds a program, also where only root's PATH looks.
func Look(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// New builds the three hosts, links them and starts rsyslogd and sshd on the victim. Close ends it.
func New(ctx context.Context) (*Lab, error) {
	l := &Lab{}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	var err error
	if l.Attacker, err = l.Add(ctx, "attacker"); err != nil {
		return err
	}
	if l.Honest, err = l.Add(ctx, "honest"); err != nil {
		return err
	}
	victim, err := l.Add(ctx, "victim")
	if err != nil {
		return err
	}
	l.Victim = &Victim{Host: victim}
	if err := l.Link(ctx, l.Attacker, victim, Ends{
		From: []netip.Addr{Attacker, Attacker6}, To: []netip.Addr{VictimAttacker, VictimAttacker6},
	}); err != nil {
		return err
	}
	if err := l.Link(ctx, l.Honest, victim, Ends{
		From: []netip.Addr{Honest, Honest6}, To: []netip.Addr{VictimHonest, VictimHonest6},
	}); err != nil {
		return err
	}
	for _, h := range []*Host{l.Attacker, l.Honest} {
		if err := h.Write(askpass, askpassScript, 0o755); err != nil {
			return err
		}
	}
	return l.Victim.setUp(ctx)
}

// Close ends every host and every process on them.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range slices.Backward(l.hosts) {
		errs = append(errs, h.close())
	}
	l.hosts = nil
	return errors.Join(errs...)
}

// Add makes one more host, without any link.
func (l *Lab) Add(ctx context.Context, name string) (*Host, error) {
	h, err := newHost(ctx, name)
	if err != nil {
		return nil, err
	}
	l.hosts = append(l.hosts, h)
	return h, nil
}

// Ends are the addresses at the two ends of a link.
type Ends struct{ From, To []netip.Addr }

// Link lays a cable between two hosts. Its ends are called after the host at the other end, and each host gets a
// route to the other's networks (/24 and /64), so that they need not be in the same one.
func (l *Lab) Link(ctx context.Context, from, to *Host, ends Ends) error {
	out, err := exec.CommandContext(ctx, "ip", "link", "add", "name", to.Name, "netns", fmt.Sprint(from.init.Process.Pid),
		"type", "veth", "peer", "name", from.Name, "netns", fmt.Sprint(to.init.Process.Pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("link %s to %s: %w: %s", from.Name, to.Name, err, out)
	}
	if err := from.plug(ctx, to.Name, ends.From, ends.To); err != nil {
		return err
	}
	return to.plug(ctx, from.Name, ends.To, ends.From)
}

// plug gives the host's end of a link its addresses and its routes to the peers.
func (h *Host) plug(ctx context.Context, dev string, own, peers []netip.Addr) error {
	var b strings.Builder
	fmt.Fprintf(&b, "ip link set %s up\n", dev)
	for _, a := range own {
		if a.Is6() { // an address under duplicate detection could not be used for a second
			fmt.Fprintf(&b, "ip addr add %s dev %s nodad\n", Network(a), dev)
		} else {
			fmt.Fprintf(&b, "ip addr add %s dev %s\n", Network(a), dev)
		}
	}
	for _, a := range peers {
		fmt.Fprintf(&b, "ip route replace %s dev %s\n", Network(a).Masked(), dev)
	}
	if _, err := h.Script(ctx, b.String()); err != nil {
		return fmt.Errorf("plug %s into %s: %w", dev, h.Name, err)
	}
	return nil
}

// Network is an address with the length of its network in a lab: /24 or /64.
func Network(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}
