package fail2ban

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tocsin"
)

// Native is what a ban action of fail2ban means to the guard's own firewall.
type Native struct {
	All     bool     // every port and protocol; Ports and Proto are empty then
	Ports   []uint16 // sorted, without doubles
	Proto   tocsin.Proto
	Verdict tocsin.Verdict
}

// maxNativePorts is how many ports a jail may name; with more of them all are meant.
const maxNativePorts = 1024

// Native says what the action means to the guard's own firewall. ok is false if it is no ban action that we know, or not
// any more: the user who changed what iptables-multiport runs wants that to be run. What tags say (port, protocol,
// blocktype, chain, name) may be anything; the commands, with the tags put in, must be those that fail2ban ships, line by
// line. services are the names of ports. The notes say what is not done as it is written, and why a ban action by a known
// name is run as it is.
//
// Not looked at are the commands that stop, check and flush, which the guard has no use for. A ban covers more than
// fail2ban's where that has no own word here: connections that are already open too, and behind -allports every
// protocol, not TCP alone.
func (a *Action) Native(services map[string]uint16) (n Native, notes []Problem, ok bool) {
	known := nativeKindOf(a.Name)
	if known == nil || a.Python {
		return Native{}, nil, false
	}
	asItIs := func(why string) (Native, []Problem, bool) {
		return Native{}, []Problem{{Pos: a.Pos, Msg: "action " + a.Name + " " + why, Instead: "its commands are run as they are, beside our own firewall"}}, false
	}
	commands, odd := a.nativeText(known)
	if odd != "" {
		return asItIs("is not as fail2ban ships it: " + odd)
	}
	if n.Verdict, ok = a.nativeVerdict(known, commands); !ok {
		return asItIs(fmt.Sprintf("has blocktype %q, which is neither a drop nor a reject", a.tag(known.verdict)))
	}
	note := func(msg, instead string) {
		notes = append(notes, Problem{Pos: a.Pos, Msg: msg, Instead: instead})
	}
	n.All, n.Ports, n.Proto = a.nativePorts(commands, services, note)
	if chain := nativeChain(commands, note); chain != "" {
		return asItIs("has its bans in chain " + chain + ", whose packets are not for this host")
	}
	if strings.Contains(commands, "-j LOG") || strings.Contains(commands, "log prefix=") {
		note("action "+a.Name+" has the kernel log packets of the banned", "they are counted, not logged")
	}
	if app := a.tag("application"); a.Name == "ufw" && (app != "" || a.tag("destination") != "any") {
		note(fmt.Sprintf("ufw is told application %q and destination %q", app, a.tag("destination")), "all ports of this host are covered")
	}
	for _, o := range a.Options {
		if slices.Contains([]string{"actionstop", "actionflush", "actioncheck", "actionrepair", "actionprolong", "actionreload"}, o.Name) &&
			strings.TrimSpace(o.Value) != "" && isOverride(o.Pos.File) {
			note(o.Name+" of "+o.Pos.String()+" is the user's own", "it is not run: our own firewall does not need it")
		}
	}
	return n, notes, true
}

// isOverride says whether a file is one that users write and packages do not.
func isOverride(file string) bool {
	dir := path.Base(path.Dir(file))
	return strings.HasSuffix(file, ".local") || dir != "action.d" && strings.HasSuffix(dir, ".d")
}

// tag is what a tag of the action stands for in IPv4.
func (a *Action) tag(name string) string {
	text, _ := a.static(name, "inet4")
	return strings.TrimSpace(text)
}

// A nativeKind is what the commands of some ban actions look like, tags put in.
type nativeKind struct {
	names   string   // of the actions
	verdict string   // the option that says what happens to packets; "" if that stands elsewhere: dropped
	lines   []string // every line of starting, banning and unbanning matches one of these whole
}

// nativeKindOf finds the kind of an action; nil if it is none that we know.
func nativeKindOf(name string) *nativeKind {
	i := slices.IndexFunc(nativeKinds, func(k nativeKind) bool { return slices.Contains(strings.Fields(k.names), name) })
	if i < 0 {
		return nil
	}
	return &nativeKinds[i]
}

// pattern matches one line of the kind's commands.
func (k *nativeKind) pattern() *regexp.Regexp { return nativePatterns()[k.names] }

// nativePatterns are the patterns of all kinds, compiled when the first jail asks.
var nativePatterns = sync.OnceValue(func() map[string]*regexp.Regexp {
	patterns := map[string]*regexp.Regexp{}
	for _, k := range nativeKinds {
		patterns[k.names] = regexp.MustCompile("^(?:" + nativeParts.Replace(strings.Join(k.lines, "|")) + ")$")
	}
	return patterns
})

// nativeParts are what the patterns of lines have in common: arguments that mean nothing to a shell, and the programs with
// the options that users give them everywhere.
var nativeParts = strings.NewReplacer(
	"ARGS", "(?:[^;|&<>$()\"'`\\\\]|\\$proto\\b)*",
	"IPT", `\S*ip6?tables\S*(?: -[\w-]+(?: \d+)?)*`,
	"NFT", `\S*nft(?: -{1,2}\w*)*`,
	"TIME", `(?:\d+|<bantime>|\$\(\[ "<bantime>" -le \d+ \] && echo "<bantime>" \|\| echo 0\))`,
)

// Lines that open and close a loop over protocols or a condition.
var (
	loopLines = []string{`for proto in \$\(echo '[\w, ]*' \| sed 's/,/ /g'\); do`, `done`}
	iptRules  = []string{`\{ IPT -C ARGS >/dev/null 2>&1; \} \|\| \{ IPT -I ARGS; \}`, `IPT -[NAI] ARGS`}
	ipsetBans = []string{
		`ipset ARGS`, `ipset (?:-\w+ )*(?:add|del) \S+ <ip>(?: timeout TIME)?(?: -exist)?`,
		`ipset --test \S+ <ip> (?:\|\||&&) +ipset --(?:add|del) \S+ <ip>`,
	}
)

var nativeKinds = []nativeKind{
	{"iptables iptables-multiport iptables-allports iptables-new iptables-multiport-log", "blocktype", slices.Concat(loopLines, iptRules, []string{
		`\{ IPT -C ARGS >/dev/null 2>&1; \} \|\| \{ IPT -N \S+ \|\| true; IPT -A ARGS; \}`,
		"IPT -I \\S+ -j LOG [^;|&<>`]*",
		`IPT -I \S+ \d+ -s <ip> -j ARGS`, `IPT -D \S+ -s <ip> -j ARGS`,
	})},
	{"iptables-xt_recent-echo", "blocktype", slices.Concat(iptRules, []string{
		"if \\[ `id -u` -eq 0 \\]; ?then", `fi`, `echo [+-]<ip> > /proc/net/xt_recent/\S+`,
	})},
	{"iptables-ipset iptables-ipset-proto4 iptables-ipset-proto6 iptables-ipset-proto6-allports", "blocktype",
		slices.Concat(loopLines, iptRules, ipsetBans)},
	{"nftables nftables-multiport nftables-allports", "blocktype", slices.Concat(loopLines, []string{
		`NFT add (?:table|chain|set) ARGS`,
		`NFT add rule \S+ \S+ \S+ +(?:(?:\$proto|tcp|udp) dport \{ [\w:, -]* \} |meta l4proto \{ [\w, ]* \} )?ip6? saddr @ARGS`,
		`NFT (?:add|delete) element \S+ \S+ \S+ \{ <ip> \}`,
	})},
	{"firewallcmd-allports firewallcmd-multiport firewallcmd-new firewallcmd-ipset", "blocktype", slices.Concat(ipsetBans, []string{
		`firewall-cmd ARGS`, `firewall-cmd --direct --(?:add|remove)-rule \w+ filter \S+ \d+ -s <ip> -j ARGS`,
		`firewall-cmd --ipset=\S+ --(?:add|remove)-entry=<ip>`,
	})},
	{"firewallcmd-rich-rules firewallcmd-rich-logging", "rich-blocktype", []string{
		`ports="[\w:, -]*"; for p in \$\(echo \$ports \| tr ", " " "\); do firewall-cmd --(?:add|remove)-rich-rule="rule family='\w+' ` +
			"source address='<ip>' port port='\\$p' protocol='\\w+' [^\"$`\\\\]*\"; done",
	}},
	{"ufw", "blocktype", []string{
		"if \\[ -n \"[^\"$`\\\\]*\" \\] && ufw app info \"[^\"$`\\\\]*\"", `then`, `else`, `fi`,
		"ufw [\\w ]+ from <ip> to ARGS(?: ?app \"[^\"$`\\\\]*\")?(?: comment \"[^\"$`\\\\]*\")?",
		`ss -K dst "\[<ip>\]"`, `conntrack -D -s "<ip>"`,
	}},
	{"shorewall", "blocktype", []string{`shorewall6? \w+ <ip>`}},
	{"shorewall-ipset-proto6", "", slices.Concat(ipsetBans, []string{`if ! ipset ARGS >/dev/null;`, `then ipset ARGS;`, `fi`})},
	{"route", "blocktype", []string{`ip route (?:add|del) \w+ <ip>`}},
}

// compiled is an expression that is compiled when it is first needed: most processes of the program never need it.
func compiled(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// listCommand is how nftables.conf turns a list of ports into one of its own.
var listCommand = compiled(`\$\(echo '([\w:, -]*)' \| sed s/:/-/g\)`)

// nativeText is what the action does for IPv4, the backslashes of nft's brackets and such gone; odd is a line that is not
// like those of fail2ban, "" if there is none.
func (a *Action) nativeText(known *nativeKind) (commands, odd string) {
	line := known.pattern()
	for _, name := range []string{"actionstart", "actionban", "actionunban"} {
		for _, family := range []string{"inet4", "inet6"} {
			text, err := a.static(name, family)
			if err != nil {
				return "", err.Error()
			}
			text = strings.NewReplacer(`\{`, "{", `\}`, "}", ` \;`, "", `\;`, "").Replace(listCommand().ReplaceAllString(text, "$1"))
			if name != "actionstart" && !strings.Contains(text, "<ip>") {
				return "", name + " has no <ip>"
			}
			for l := range strings.Lines(text) {
				l = strings.TrimSpace(l)
				if l != "" && !line.MatchString(l) {
					return "", fmt.Sprintf("%s runs %.60q", name, l)
				}
			}
			if family == "inet4" && name != "actionunban" {
				commands += text + "\n"
			}
		}
	}
	return commands, ""
}

// nativeVerdict reads what happens to the packets of the banned. It must be what the commands say, and not only an option.
func (a *Action) nativeVerdict(known *nativeKind, commands string) (tocsin.Verdict, bool) {
	if known.verdict == "" {
		return tocsin.Drop, true
	}
	block := a.tag(known.verdict)
	if block == "" || !strings.Contains(commands, block) {
		return 0, false
	}
	switch word := strings.ToLower(strings.Fields(block)[0]); word {
	case "drop", "deny", "blackhole", "logdrop":
		return tocsin.Drop, true
	case "reject", "unreachable", "prohibit", "logreject":
		return tocsin.Reject, true
	}
	return 0, false
}

var (
	portsWords = compiled(`--dports? (\S+)|dport \{ ([^}]*) \}|ports="([^"]*)"`)
	protoWords = compiled(`for proto in \$\(echo '([^']*)'|-p (\w[\w,]*)|(tcp|udp) dport|protocol='(\w+)'`)
)

// nativePorts reads the ports and the protocol of the action's rules.
func (a *Action) nativePorts(commands string, services map[string]uint16, note func(msg, instead string)) (all bool, ports []uint16, proto tocsin.Proto) {
	text, ok := firstGroup(portsWords(), commands)
	if !ok {
		return true, nil, 0
	}
	ports, bad := Ports(text, services)
	if len(bad) > 0 && len(ports) > 0 {
		note(fmt.Sprintf("no port has the name %s", strings.Join(bad, ", ")), "the others are covered")
	}
	switch {
	case len(ports) == 65535, len(ports) == 0 && len(bad) == 0:
		return true, nil, 0
	case len(ports) == 0:
		note("none of the ports "+text+" is known", "all ports are covered")
		return true, nil, 0
	case len(ports) > maxNativePorts:
		note(fmt.Sprintf("%d ports are more than %d", len(ports), maxNativePorts), "all ports are covered")
		return true, nil, 0
	}
	words, _ := firstGroup(protoWords(), commands)
	var tcp, udp, other bool
	for _, w := range strings.FieldsFunc(strings.ToLower(words), isListBreak) {
		tcp, udp, other = tcp || w == "tcp" || w == "all", udp || w == "udp" || w == "all", other || w != "tcp" && w != "udp" && w != "all"
	}
	if other {
		note("protocol "+words+" has others than tcp and udp", "ports of those two are covered, of others none")
	}
	switch {
	case tcp && udp, !tcp && !udp:
		return false, ports, tocsin.TCPAndUDP
	case udp:
		return false, ports, tocsin.UDP
	}
	return false, ports, tocsin.TCP
}

// firstGroup is the first group that holds something in the first match.
func firstGroup(re *regexp.Regexp, text string) (string, bool) {
	m := re.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	for _, g := range m[1:] {
		if g != "" {
			return g, true
		}
	}
	return "", true
}

var chainWords = compiled(`tables\S*(?: -[\w-]+(?: \d+)?)*? -I (\S+) (?:\d+ )?-[mp]|--add-rule \w+ filter (\S+) \d+ -[mp]|hook (\w+)`)

// nativeChain tells where our rules stand instead, if the user chose a place. passing is a chain of packets that are not
// for this host, "" if it is none: our own firewall lets those be.
func nativeChain(commands string, note func(msg, instead string)) (passing string) {
	chain, ok := firstGroup(chainWords(), commands)
	switch {
	case !ok || slices.Contains([]string{"INPUT", "INPUT_direct", "input", "prerouting"}, chain):
	case slices.Contains([]string{"FORWARD", "FORWARD_direct", "forward", "OUTPUT", "OUTPUT_direct", "output", "postrouting"}, chain):
		return chain
	case strings.HasPrefix(chain, "DOCKER"):
		note("the bans stand in chain "+chain, "our own rules see packets before Docker does: name the ports that clients ask for, not those inside of containers")
	default:
		note("the bans stand in chain "+chain, "our own rules stand before every chain of iptables, and are about packets to this host")
	}
	return ""
}

func isListBreak(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

// Ports reads a list of ports as jails write it: names, numbers, ranges like 1000:2000 or 1000-2000, with commas or blanks
// between them. The ports are sorted and without doubles; bad are the words that are none.
func Ports(text string, services map[string]uint16) (ports []uint16, bad []string) {
	var set [1 << 16]bool
	for _, word := range strings.FieldsFunc(text, isListBreak) {
		first, last, ok := portRange(word, services)
		if !ok {
			bad = append(bad, word)
			continue
		}
		for p := int(first); p <= int(last); p++ {
			set[p] = true
		}
	}
	for p := 1; p < len(set); p++ { // there is no port 0
		if set[p] {
			ports = append(ports, uint16(p))
		}
	}
	return ports, bad
}

// portRange reads a port or a range of them. The name of a service may have a minus in it.
func portRange(word string, services map[string]uint16) (first, last uint16, ok bool) {
	if p, ok := port(word, services); ok {
		return p, p, true
	}
	from, to, ok := strings.Cut(word, ":")
	if !ok {
		from, to, ok = strings.Cut(word, "-")
	}
	if !ok {
		return 0, 0, false
	}
	first, ok1 := port(from, services)
	last, ok2 := port(to, services)
	return first, last, ok1 && ok2 && first <= last
}

func port(word string, services map[string]uint16) (uint16, bool) {
	if n, err := strconv.ParseUint(word, 10, 16); err == nil {
		return uint16(n), true
	}
	p, ok := services[strings.ToLower(word)]
	return p, ok
}

// ServicesFile is where a system keeps the names of ports (services(5)).
const ServicesFile = "/etc/services"

// maxServices is how much of that file is read.
const maxServices = 4 << 20

// Services are the names of ports: those of the file, and those that fail2ban's own jails use where it does not have them.
// A file that cannot be read is as good as an empty one; a name has one number for all protocols.
func Services(file string) map[string]uint16 {
	names := map[string]uint16{
		"ssh": 22, "ftp": 21, "ftp-data": 20, "ftps": 990, "ftps-data": 989, "telnet": 23, "smtp": 25, "ssmtp": 465, "smtps": 465,
		"submission": 587, "submissions": 465, "domain": 53, "http": 80, "https": 443, "pop3": 110, "pop3s": 995, "imap": 143,
		"imap2": 143, "imap3": 220, "imaps": 993, "sieve": 4190, "ldap": 389, "ldaps": 636, "socks": 1080, "mysql": 3306,
		"postgresql": 5432, "sip": 5060, "sip-tls": 5061, "xmpp-client": 5222, "webmin": 10000,
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > maxServices || !info.Mode().IsRegular() {
		return names
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return names
	}
	seen := map[string]bool{}
	for l := range strings.Lines(string(data)) {
		l, _, _ = strings.Cut(l, "#")
		words := strings.Fields(l)
		if len(words) < 2 {
			continue
		}
		number, _, _ := strings.Cut(words[1], "/")
		p, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		for _, name := range append(words[:1:1], words[2:]...) {
			if name = strings.ToLower(name); !seen[name] {
				seen[name] = true
				names[name] = uint16(p)
			}
		}
	}
	return names
}
