package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
)

// unboundProbe asks Unbound for its counters over its control socket, in a way that does not set them back
// (unbound-control(8), stats_noreset). The socket, and the keys where it is one of TCP, are root's.
var unboundProbe = Probe{
	Name: "unbound", Doubles: []string{"unbound_munin_hits", "unbound_munin_queue", "unbound_munin_memory", "unbound_munin_by_type", "unbound_munin_by_rcode"}, Root: true,
	New: func(h *Host) (Reader, error) {
		c, ok := h.unboundControl()
		switch {
		case !ok:
			return nil, &Off{"no Unbound here"}
		case !c.enabled:
			return nil, &Off{"Unbound listens to nobody; add to its configuration: remote-control: control-enable: yes"}
		}
		return &unboundReader{h: h, control: c}, nil
	},
}

// unboundControl is the remote-control clause of unbound.conf(5).
type unboundControl struct {
	enabled bool
	socket  string // "": TCP
	address string
	plain   bool // without certificates
	keys    map[string]string
}

func (h *Host) unboundControl() (unboundControl, bool) {
	files := confFiles(h.Root, "etc/unbound/unbound.conf", "etc/unbound/unbound.conf.d/*.conf")
	if len(files) == 0 {
		return unboundControl{}, false
	}
	return parseUnboundConf(files), true
}

func parseUnboundConf(files [][]byte) unboundControl {
	c := unboundControl{keys: map[string]string{
		"server-cert-file": "/etc/unbound/unbound_server.pem", "control-key-file": "/etc/unbound/unbound_control.key", "control-cert-file": "/etc/unbound/unbound_control.pem",
	}}
	host, port := "127.0.0.1", "8953"
	for _, text := range files {
		for line := range bytes.Lines(text) {
			s, _, _ := strings.Cut(string(line), "#")
			// Several may stand in a line.
			words := strings.Fields(s)
			for i := 0; i+1 < len(words); i++ {
				key, is := strings.CutSuffix(words[i], ":")
				value := strings.Trim(words[i+1], `"`)
				if !is {
					continue
				}
				switch key {
				case "control-enable":
					c.enabled = value == "yes"
				case "control-interface":
					if strings.HasPrefix(value, "/") {
						c.socket = value
					} else if ip, _, _ := strings.Cut(value, "@"); net.ParseIP(ip) != nil {
						host = ip
					}
				case "control-port":
					port = value
				case "control-use-cert":
					c.plain = value == "no"
				case "server-cert-file", "control-key-file", "control-cert-file":
					c.keys[key] = value
				}
			}
		}
	}
	if host == "0.0.0.0" {
		host = "127.0.0.1"
	} else if host == "::" || host == "::0" {
		host = "::1"
	}
	c.address = net.JoinHostPort(host, port)
	return c
}

type unboundReader struct {
	h       *Host
	control unboundControl
}

func (r *unboundReader) Read(ctx context.Context) ([]Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		if isRefused(err) {
			return nil, &Off{"Unbound is installed, but nobody listens at its control socket"}
		}
		return nil, fmt.Errorf("control socket of Unbound: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "UBCT1 stats_noreset\n"); err != nil {
		return nil, fmt.Errorf("control socket of Unbound: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(conn, maxStatusPage))
	if err != nil && len(text) == 0 {
		return nil, fmt.Errorf("control socket of Unbound: %w", err)
	}
	return parseUnbound(text)
}

func (r *unboundReader) dial(ctx context.Context) (net.Conn, error) {
	c := r.control
	if c.socket != "" {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.h.at(c.socket))
	}
	if c.plain {
		return (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	}
	pair, err := tls.LoadX509KeyPair(r.h.at(c.keys["control-cert-file"]), r.h.at(c.keys["control-key-file"]))
	if err != nil {
		return nil, err
	}
	server, err := os.ReadFile(r.h.at(c.keys["server-cert-file"]))
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		// Its certificate has no name of a host; it is compared with the one on disk instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if own := pemBlocks(server); len(own) == 0 || !bytes.Equal(own[0], s.PeerCertificates[0].Raw) {
				return errors.New("somebody else than Unbound listens there: its certificate is not that of " + c.keys["server-cert-file"])
			}
			return nil
		},
	}
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", c.address)
}

// maxUnboundTypes bounds the kinds of records that questions were asked for: strangers choose them.
const maxUnboundTypes = 60

// parseUnbound reads "name=value" lines. Munin's fields have short names for these.
func parseUnbound(text []byte) ([]Reading, error) {
	stats := map[string]float64{}
	var types, threads []string
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("="))
		v, err := parseDecimal(value)
		if !ok || err != nil || len(stats) > 5000 {
			continue
		}
		k := string(key)
		stats[k] = v
		if kind, is := strings.CutPrefix(k, "num.query.type."); is {
			types = append(types, kind)
		}
		if thread, is := strings.CutSuffix(k, ".num.queries"); is && strings.HasPrefix(thread, "thread") {
			threads = append(threads, thread)
		}
	}
	if _, ok := stats["total.num.queries"]; !ok {
		first, _, _ := bytes.Cut(text, newline)
		return nil, fmt.Errorf("the control socket of Unbound tells no counters, but %q", plain(string(first)))
	}
	slices.Sort(types)
	count := func(field, label, key string) string {
		if _, ok := stats[key]; !ok {
			return ""
		}
		stats[field] = stats[key]
		return fmt.Sprintf("%[1]s.label %[2]s\n%[1]s.min 0\n%[1]s.type DERIVE\n", field, label)
	}
	gauge := func(field, label, key string) string {
		return strings.Replace(count(field, label, key), "DERIVE", "GAUGE", 1)
	}
	const dns = "graph_category dns\ngraph_args --base 1000 -l 0\n"
	hits := ""
	for _, t := range threads[:min(len(threads), 64)] {
		field := "t" + fieldName("_" + strings.TrimPrefix(t, "thread"))[1:] + "_n_queries"
		hits += count(field, "queries handled by "+plain(t), t+".num.queries")
	}
	byType := ""
	for _, kind := range types[:min(len(types), maxUnboundTypes)] {
		byType += count("n_q_t_"+fieldName("_" + kind)[1:], plain(kind), "num.query.type."+kind)
	}
	byCode := ""
	for _, code := range []string{"FORMERR", "NOERROR", "NOTIMPL", "NXDOMAIN", "REFUSED", "SERVFAIL"} {
		byCode += count("n_a_r_"+code, code, "num.answer.rcode."+code)
	}
	var out []Reading
	add := func(name, graph, fields string) {
		if fields != "" {
			out = append(out, readingOf(describe(name, graph+fields), from(stats)))
		}
	}
	add("unbound_munin_hits", "graph_title Unbound DNS traffic and cache hits\ngraph_vlabel queries / ${graph_period}\ngraph_scale no\n"+dns,
		hits+count("t_n_queries", "total queries from clients", "total.num.queries")+
			count("t_n_chits", "cache hits", "total.num.cachehits")+
			count("t_n_prefetch", "cache prefetch", "total.num.prefetch")+
			count("n_q_tcp", "TCP queries", "num.query.tcp")+
			count("n_q_tcpout", "TCP out queries", "num.query.tcpout")+
			count("n_q_udpout", "UDP out queries", "num.query.udpout")+
			count("n_q_tls", "TLS queries", "num.query.tls")+
			count("n_q_tls_resume", "TLS resumes", "num.query.tls.resume")+
			count("n_q_ipv6", "IPv6 queries", "num.query.ipv6")+
			count("u_queries", "queries that failed acl", "unwanted.queries")+
			count("u_replies", "unwanted or unsolicited replies", "unwanted.replies")+
			"u_replies.warning 1000\nu_replies.critical 100000\n")
	add("unbound_munin_queue", "graph_title Unbound requestlist size\ngraph_vlabel number of queries\ngraph_scale no\n"+dns,
		gauge("t_ql_avg", "Average size of queue on insert", "total.requestlist.avg")+
			gauge("t_ql_max", "Max size of queue (since the start)", "total.requestlist.max")+
			gauge("t_ql_overwritten", "Number of queries replaced by new ones", "total.requestlist.overwritten")+
			gauge("t_ql_exceeded", "Number of queries dropped due to lack of space", "total.requestlist.exceeded"))
	add("unbound_munin_memory", "graph_title Unbound memory usage\ngraph_vlabel memory used in bytes\ngraph_category dns\ngraph_args --base 1024 -l 0\n",
		gauge("m_c_rrset", "RRset cache memory", "mem.cache.rrset")+
			gauge("m_c_message", "Message cache memory", "mem.cache.message")+
			gauge("m_m_iterator", "Iterator module memory", "mem.mod.iterator")+
			gauge("m_m_validator", "Validator module and key cache memory", "mem.mod.validator")+
			gauge("msg_c_count", "msg cache count", "msg.cache.count")+
			gauge("rrset_c_count", "rrset cache count", "rrset.cache.count")+
			gauge("infra_c_count", "infra cache count", "infra.cache.count")+
			gauge("key_c_count", "key cache count", "key.cache.count"))
	add("unbound_munin_by_type", "graph_title Unbound DNS queries by type\ngraph_vlabel queries / ${graph_period}\ngraph_scale no\n"+dns, byType)
	add("unbound_munin_by_rcode", "graph_title Unbound DNS answers by return code\ngraph_vlabel answer packets / ${graph_period}\ngraph_scale no\n"+dns,
		byCode+count("n_a_secure", "answer secure", "num.answer.secure")+
			count("n_a_bogus", "answer bogus", "num.answer.bogus")+
			count("n_rrset_bogus", "num rrsets marked bogus", "num.rrset.bogus"))
	return out, nil
}
