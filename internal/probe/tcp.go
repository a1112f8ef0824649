package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"tocsin/internal/munin"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var tcpProbe = Probe{
	Name: "tcp", Doubles: []string{"netstat", "netstat_multi"},
	New: func(h *Host) (Reader, error) {
		r := &tcpReader{snmp: file{path: h.proc("net/snmp")}, netstat: file{path: h.proc("net/netstat")}, sockstat: file{path: h.proc("net/sockstat")},
			t: newTable(snmpNames()...)}
		_, err := r.snmp.read()
		return r, err
	},
}

// snmpServices are made of /proc/net/snmp and /proc/net/netstat: the field, and "PROTOCOL.NAME" of its counter.
var snmpServices = []struct {
	service *munin.Service
	fields  [][2]string
}{
	{netstatService, [][2]string{{"active", "Tcp.ActiveOpens"}, {"passive", "Tcp.PassiveOpens"}, {"failed", "Tcp.AttemptFails"}, {"resets", "Tcp.EstabResets"}, {"established", "Tcp.CurrEstab"}}},
	{establishedService, [][2]string{{"established", "Tcp.CurrEstab"}}},
	{retransService, [][2]string{{"sent", "Tcp.OutSegs"}, {"retrans", "Tcp.RetransSegs"}, {"timeouts", "TcpExt.TCPTimeouts"}, {"synretrans", "TcpExt.TCPSynRetrans"}, {"errors", "Tcp.InErrs"}, {"rsts", "Tcp.OutRsts"}}},
	{listenService, [][2]string{{"overflows", "TcpExt.ListenOverflows"}, {"drops", "TcpExt.ListenDrops"}, {"cookies", "TcpExt.SyncookiesSent"}}},
	{udpService, [][2]string{{"in", "Udp.InDatagrams"}, {"out", "Udp.OutDatagrams"}, {"errors", "Udp.InErrors"}, {"rcvbuf", "Udp.RcvbufErrors"}, {"sndbuf", "Udp.SndbufErrors"}, {"noport", "Udp.NoPorts"}}},
}

func snmpNames() []string {
	var names []string
	for _, s := range snmpServices {
		for _, f := range s.fields {
			names = append(names, f[1])
		}
	}
	return names
}

// readPairs reads a file of pairs of lines, "Tcp: NAME NAME" and "Tcp: 1 2", into a table that it does not clear first. A number
// may be negative (MaxConn): that one is passed over.
func (t *table) readPairs(b []byte) (found int) {
	for len(b) > 0 {
		var head, line []byte
		head, b = nextLine(b)
		line, b = nextLine(b)
		key, names := nextWord(head)
		other, values := nextWord(line)
		if len(key) < 2 || string(key) != string(other) || key[len(key)-1] != ':' {
			continue
		}
		prefix := append(append(make([]byte, 0, 64), key[:len(key)-1]...), '.')
		for {
			var name, value []byte
			name, names = nextWord(names)
			value, values = nextWord(values)
			if name == nil || value == nil {
				break
			}
			i, ok := t.index[string(append(prefix, name...))]
			if !ok {
				continue
			}
			if t.value[i], t.has[i] = number(value); t.has[i] {
				found++
			}
		}
	}
	return found
}

type tcpReader struct {
	snmp, netstat, sockstat file
	t                       *table
}

func (r *tcpReader) Read(context.Context) ([]Reading, error) {
	b, err := r.snmp.read()
	if err != nil {
		return nil, err
	}
	clear(r.t.has)
	if r.t.readPairs(b) == 0 {
		return nil, strange(r.snmp.path, "no counters of TCP")
	}
	if b, err := r.netstat.read(); err == nil {
		r.t.readPairs(b)
	}
	var all []Reading
	for _, s := range snmpServices {
		var values []munin.Value
		for _, f := range s.fields {
			if n, ok := r.t.get(f[1]); ok {
				values = append(values, v(f[0], n))
			}
		}
		if len(values) > 0 {
			all = append(all, Reading{Service: s.service, Values: values})
		}
	}
	if b, err := r.sockstat.read(); err == nil {
		if values := parseSockstat(b); len(values) > 0 {
			all = append(all, Reading{Service: socketsService, Values: values})
		}
	}
	return all, nil
}

// parseSockstat reads "TCP: inuse 2 orphan 18 ..." for the fields of sockets.
func parseSockstat(b []byte) []munin.Value {
	var values []munin.Value
	for len(b) > 0 {
		var line, name, value []byte
		line, b = nextLine(b)
		key, rest := nextWord(line)
		proto := strings.ToLower(strings.TrimSuffix(string(key), ":"))
		for {
			name, rest = nextWord(rest)
			value, rest = nextWord(rest)
			if value == nil {
				break
			}
			field := proto + "_" + string(name)
			if n, ok := number(value); ok && socketsService.Field(field) != nil && len(values) < 16 {
				values = append(values, v(field, float64(n)))
			}
		}
	}
	return values
}

var netstatService = describe("netstat", `
	graph_title Netstat, combined
	graph_args --units=si -l 1 --base 1000 --logarithmic
	graph_vlabel TCP connections
	graph_category network
	graph_period second
	graph_info What TCP did, over all interfaces.
	active.label active
	active.type DERIVE
	active.min 0
	active.max 50000
	active.info Connections that this machine opened.
	passive.label passive
	passive.type DERIVE
	passive.min 0
	passive.max 50000
	passive.info Connections that others opened to this machine.
	failed.label failed
	failed.type DERIVE
	failed.min 0
	failed.max 50000
	failed.info Connections that did not come about.
	resets.label resets
	resets.type DERIVE
	resets.min 0
	resets.max 50000
	resets.info Connections that were broken off.
	established.label established
	established.type GAUGE
	established.info Connections that are open now.`)

var establishedService = describe("netstat_established", `
	graph_title Netstat, established only
	graph_args --lower-limit 0
	graph_vlabel TCP connections
	graph_category network
	graph_period second
	established.label established
	established.type GAUGE
	established.info Connections that are open now.`)

var retransService = describe("tcp_retrans", `
	graph_title TCP segments sent again
	graph_args --base 1000 -l 0
	graph_vlabel segments / ${graph_period}
	graph_category network
	graph_info What was lost on the way, here or in the net of the provider.
	sent.label sent
	sent.type DERIVE
	sent.min 0
	sent.graph no
	retrans.label sent again
	retrans.type DERIVE
	retrans.min 0
	timeouts.label not answered in time
	timeouts.type DERIVE
	timeouts.min 0
	synretrans.label first ones sent again
	synretrans.type DERIVE
	synretrans.min 0
	synretrans.info The other side did not answer when a connection was opened.
	errors.label damaged
	errors.type DERIVE
	errors.min 0
	rsts.label resets sent
	rsts.type DERIVE
	rsts.min 0`)

var listenService = describe("tcp_listen", `
	graph_title Connections that a server did not take
	graph_args --base 1000 -l 0
	graph_vlabel connections / ${graph_period}
	graph_category network
	overflows.label queue was full
	overflows.type DERIVE
	overflows.min 0
	overflows.info A server on this machine did not accept fast enough.
	drops.label dropped
	drops.type DERIVE
	drops.min 0
	cookies.label syncookies
	cookies.type DERIVE
	cookies.min 0
	cookies.info Sent while more connections are begun than can be remembered, as in an attack.`)

var udpService = describe("udp", `
	graph_title UDP
	graph_args --base 1000 -l 0
	graph_vlabel datagrams / ${graph_period}
	graph_category network
	in.label received
	in.type DERIVE
	in.min 0
	out.label sent
	out.type DERIVE
	out.min 0
	errors.label errors
	errors.type DERIVE
	errors.min 0
	rcvbuf.label not read in time
	rcvbuf.type DERIVE
	rcvbuf.min 0
	sndbuf.label not sent in time
	sndbuf.type DERIVE
	sndbuf.min 0
	noport.label nobody listens
	noport.type DERIVE
	noport.min 0`)

var socketsService = describe("sockets", `
	graph_title Sockets
	graph_args --base 1000 -l 0
	graph_vlabel sockets
	graph_category network
	sockets_used.label all
	tcp_inuse.label TCP
	tcp_orphan.label TCP that no process holds any more
	tcp_tw.label TCP that was closed a short time ago
	tcp_alloc.label TCP in memory
	udp_inuse.label UDP
	raw_inuse.label raw`)

var tcpStatesProbe = Probe{
	Name: "tcp_states", Doubles: []string{"tcp"}, Interval: time.Minute, Timeout: 10 * time.Second,
	New: func(*Host) (Reader, error) { return tcpStatesReader{}, nil },
}

// tcpStates are the kernel's numbers of states (include/net/tcp_states.h); 12 is a connection that is asked for.
var tcpStates = [...]string{1: "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait", "last_ack", "listen", "closing", "syn_recv"}

type tcpStatesReader struct{}

func (tcpStatesReader) Read(ctx context.Context) ([]Reading, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, missing("netlink socket for sock_diag(7)", err)
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return nil, fmt.Errorf("ask for TCP sockets: %w", err)
		}
	}
	var n [len(tcpStates)]int
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// struct inet_diag_req_v2: family, protocol, what else to tell, padding, states, and a socket of which all is open.
		req := make([]byte, 56)
		req[0], req[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(req[4:], 1<<32-1)
		msgs, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump}, Data: req})
		if err != nil {
			return nil, fmt.Errorf("ask for TCP sockets: %w", err)
		}
		for _, m := range msgs { // struct inet_diag_msg: family, state
			if len(m.Data) >= 2 && int(m.Data[1]) < len(n) {
				n[m.Data[1]]++
			}
		}
	}
	rd := Reading{Service: tcpStatesService}
	for i, f := range tcpStatesService.Fields {
		count := 0
		for state, name := range tcpStates {
			if name == f.Name {
				count += n[state]
			}
		}
		rd.Values = append(rd.Values, v(tcpStatesService.Fields[i].Name, float64(count)))
	}
	return []Reading{rd}, nil
}

var tcpStatesService = func() *munin.Service {
	s := describe("tcp", "graph_title TCP\ngraph_vlabel TCP Sockets\ngraph_category network\ngraph_args -l 0\ngraph_info What TCP sockets are doing.")
	for _, name := range tcpStates[1:] {
		add(s, name, name)
	}
	return s
}()
