package fail2ban

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"tocsin"
)

func (n Native) String() string {
	if n.All {
		return "all " + n.Verdict.String()
	}
	return fmt.Sprintf("%s %s %s", tocsin.PortsString(n.Ports), n.Proto, n.Verdict)
}

// TestNativeDebian reads Debian's ban actions with what people write behind them.
func TestNativeDebian(t *testing.T) {
	tests := []struct{ action, want, note string }{
		{"iptables", "22 tcp reject", ""},
		{"iptables-multiport[port=\"ssh,2200,8000:8002\"]", "22,2200,8000,8001,8002 tcp reject", ""},
		{"iptables-multiport[port=\"http,https\", protocol=\"tcp,udp\"]", "80,443 tcp,udp reject", ""},
		{"iptables-multiport[port=\"domain\", protocol=udp, blocktype=DROP]", "53 udp drop", ""},
		{"iptables-multiport[port=\"0:65535\"]", "all reject", ""},
		{"iptables-multiport[port=\"1:2000\"]", "all reject", "2000 ports are more than 1024"},
		{"iptables-multiport[port=\"ssh,nosuch\"]", "22 tcp reject", "no port has the name nosuch"},
		{"iptables-multiport[port=\"nosuch\"]", "all reject", "none of the ports nosuch is known"},
		{"iptables-multiport[port=sip, protocol=\"udp,sctp\"]", "5060 udp reject", "others than tcp and udp"},
		{"iptables-multiport[lockingopt=\"-w 5\"]", "22 tcp reject", ""},
		{"iptables-multiport[iptables=\"/usr/sbin/iptables-legacy <lockingopt>\"]", "22 tcp reject", ""},
		{"iptables-multiport[chain=DOCKER-USER, port=8080]", "8080 tcp reject", "before Docker does"},
		{"iptables-multiport[chain=LIMIT]", "22 tcp reject", "chain LIMIT"},
		{"iptables-multiport[chain=FORWARD]", "", "chain FORWARD, whose packets are not for this host"},
		{"iptables-multiport[blocktype=TARPIT]", "", "blocktype \"TARPIT\""},
		{"iptables-allports", "all reject", ""},
		{"iptables-allports[blocktype=\"REJECT --reject-with tcp-reset\"]", "all reject", ""},
		{"iptables-new", "22 tcp reject", ""},
		{"iptables-multiport-log[blocktype=DROP]", "22 tcp drop", "counted, not logged"},
		{"iptables-xt_recent-echo", "all reject", ""},
		{"iptables-ipset", "22 tcp reject", ""},
		{"iptables-ipset[type=multiport, ipsettime=<timeout-bantime>]", "22 tcp reject", ""},
		{"iptables-ipset-proto4", "22 tcp reject", ""},
		{"iptables-ipset-proto6", "22 tcp reject", ""},
		{"iptables-ipset-proto6-allports", "all reject", ""},
		{"nftables", "22 tcp reject", ""},
		{"nftables[port=\"10000:10002\", protocol=\"tcp,udp\", blocktype=drop]", "10000,10001,10002 tcp,udp drop", ""},
		{"nftables[type=allports]", "all reject", ""},
		{"nftables[type=custom]", "all reject", ""},
		{"nftables[type=custom, rule_match-custom=\"tcp dport { 80 }\"]", "80 tcp reject", ""},
		{"nftables[type=custom, rule_match-custom=\"ct state new\"]", "", "is not as fail2ban ships it"},
		{"nftables[chain_hook=forward]", "", "chain forward"},
		{"nftables-multiport", "22 tcp reject", ""},
		{"nftables-allports", "all reject", ""},
		{"firewallcmd-ipset", "all reject", ""},
		{"firewallcmd-ipset[port=ssh, ipsettype=firewalld]", "22 tcp reject", ""},
		{"firewallcmd-ipset[actiontype=<allports>]", "all reject", ""},
		{"firewallcmd-multiport[port=\"25,465\"]", "25,465 tcp reject", ""},
		{"firewallcmd-new[port=ssh]", "22 tcp reject", ""},
		{"firewallcmd-allports", "all reject", ""},
		{"firewallcmd-rich-rules[port=\"ssh,80\"]", "22,80 tcp reject", ""},
		{"firewallcmd-rich-logging[port=ssh, rich-blocktype=drop]", "22 tcp drop", "counted, not logged"},
		{"ufw", "all reject", ""},
		{"ufw[blocktype=deny]", "all drop", ""},
		{"ufw[kill-mode=ss]", "all reject", ""},
		{"ufw[application=OpenSSH]", "all reject", "application \"OpenSSH\""},
		{"ufw[blocktype=allow]", "", "neither a drop nor a reject"},
		{"shorewall", "all reject", ""},
		{"shorewall[blocktype=drop]", "all drop", ""},
		{"shorewall-ipset-proto6", "all drop", ""},
		{"route", "all reject", ""},
		{"route[blocktype=blackhole]", "all drop", ""},
		{"hostsdeny", "", ""},
		{"sendmail", "", ""},
	}
	for _, tt := range tests {
		n, notes, ok := debianAction(t, "action = "+tt.action).Native(Services(ServicesFile))
		got := ""
		if ok {
			got = n.String()
		}
		if got != tt.want || (len(notes) > 0) != (tt.note != "") || tt.note != "" && !strings.Contains(notes[0].Msg+": "+notes[0].Instead, tt.note) {
			t.Errorf("%s: %q, %v, want %q, %q", tt.action, got, notes, tt.want, tt.note)
		}
	}
}

// A user's own file by a known name is run, not replaced, once it does anything else.
func TestNativeOverridden(t *testing.T) {
	tests := []struct{ name, local, want, note string }{
		{"a tag", "[Init]\nblocktype = DROP\n[Init?family=inet6]\nblocktype = DROP\n", "22 tcp drop", ""},
		{"the ban", "[Definition]\nactionban = <iptables> -I f2b-<name> 1 -s <ip> -j <blocktype>\n            logger banned <ip>\n", "", `actionban runs "logger banned <ip>"`},
		{"the ban, joined", "[Definition]\nactionban = <iptables> -I f2b-<name> 1 -s <ip> -j <blocktype>; logger banned <ip>\n", "", "is not as fail2ban ships it"},
		{"the ban, empty", "[Definition]\nactionban =\n", "", "actionban has no <ip>"},
		{"the same ban", "[Definition]\nactionban = <iptables> -I f2b-<name> 1 -s <ip> -j <blocktype>\n", "22 tcp reject", ""},
		{"another block in the ban", "[Definition]\nactionban = <iptables> -I f2b-<name> 1 -s <ip> -j DROP\n", "", "blocktype"},
		{"the start", "[Definition]\nactionstart = touch /tmp/x\n", "", `actionstart runs "touch /tmp/x"`},
		{"an expansion", "[Init]\nport = $(cat /etc/ports)\n[Definition]\nactionstart = <iptables> -I INPUT -p tcp --dport $(id) -j f2b\n", "", "is not as"},
		{"the check", "[Definition]\nactioncheck = true\n", "22 tcp reject", "actioncheck of"},
		{"the stop", "[Definition]\nactionstop = logger stopped\n", "22 tcp reject", "actionstop of"},
	}
	for _, tt := range tests {
		if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
			t.Skip("no /etc/fail2ban/jail.conf: install Debian's package fail2ban to test against it")
		}
		over := fstest.MapFS{
			"jail.local":                        {Data: []byte("[DEFAULT]\nbackend = systemd\n[sshd]\nenabled = true\naction = iptables-multiport\n")},
			"action.d/iptables-multiport.local": {Data: []byte(tt.local)},
		}
		c, err := Load(LoadOptions{Dir: "/etc/fail2ban", FS: overlay{os.DirFS("/etc/fail2ban"), over}})
		if err != nil || len(c.Jails) == 0 || len(c.Jails[0].Actions) == 0 {
			t.Fatalf("%s: %v", tt.name, err)
		}
		n, notes, ok := c.Jails[0].Actions[0].Native(Services(ServicesFile))
		got := ""
		if ok {
			got = n.String()
		}
		if got != tt.want || (len(notes) > 0) != (tt.note != "") || tt.note != "" && !strings.Contains(notes[0].Msg, tt.note) {
			t.Errorf("%s: %q, %v, want %q, %q", tt.name, got, notes, tt.want, tt.note)
		}
	}
}

func TestPorts(t *testing.T) {
	services := Services("/nonexistent")
	tests := []struct {
		text string
		want []uint16
		bad  []string
	}{
		{"", nil, nil},
		{"22", []uint16{22}, nil},
		{"SSH, http\thttps,,22", []uint16{22, 80, 443}, nil},
		{"ftp-data-ftp", nil, []string{"ftp-data-ftp"}},
		{"20-22 30:31", []uint16{20, 21, 22, 30, 31}, nil},
		{"ftp:ssh", []uint16{21, 22}, nil},
		{"65536 22:20 -1 1: 0", nil, []string{"65536", "22:20", "-1", "1:"}},
	}
	for _, tt := range tests {
		got, bad := Ports(tt.text, services)
		if !slices.Equal(got, tt.want) || !slices.Equal(bad, tt.bad) {
			t.Errorf("Ports(%q) = %v, bad %q, want %v, %q", tt.text, got, bad, tt.want, tt.bad)
		}
	}
	if all, _ := Ports("0:65535", nil); len(all) != 65535 {
		t.Errorf("0:65535 are %d ports", len(all))
	}
}

func TestServices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "services")
	text := "# comment\nssh\t2022/tcp\nmine 4000/udp alias other # x\nmine 5000/tcp\nbad x/tcp\nlonely\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	names := Services(file)
	got := map[string]uint16{"ssh": names["ssh"], "mine": names["mine"], "alias": names["alias"], "http": names["http"], "bad": names["bad"]}
	if want := (map[string]uint16{"ssh": 2022, "mine": 4000, "alias": 4000, "http": 80, "bad": 0}); !reflect.DeepEqual(got, want) {
		t.Errorf("Services: %v, want %v", got, want)
	}
}
