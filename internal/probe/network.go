package probe

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// maxInterfaces bounds the network probe.
const maxInterfaces = 256

var networkProbe = Probe{
	Name: "network", Doubles: []string{"if_", "if_err_"},
	New: func(h *Host) (Reader, error) {
		r := &networkReader{h: h, f: file{path: h.proc("net/dev")}, known: map[string]*netInterface{}}
		_, err := r.f.read()
		return r, err
	},
}

// netCounts are the counters of one line of /proc/net/dev.
type netCounts struct {
	name                                   string
	inBytes, inPackets, inErrs, inDrop     uint64
	outBytes, outPackets, outErrs, outDrop uint64
	collisions                             uint64
}

// parseNetDev reads /proc/net/dev, at most 256 interfaces that keep wants.
func parseNetDev(b []byte, keep func(name []byte) bool) (all []netCounts, ok bool) {
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		name, rest, found := bytes.Cut(line, []byte(":"))
		if !found {
			ok = ok || bytes.Contains(line, []byte("bytes"))
			continue
		}
		name = bytes.TrimLeft(name, " ")
		var n [16]uint64
		if len(name) == 0 || len(name) > 15 || numbers(rest, n[:]) < 16 || !keep(name) {
			continue
		}
		if len(all) == maxInterfaces {
			break
		}
		all = append(all, netCounts{string(name), n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11], n[13]})
	}
	return all, ok
}

// hidden are interfaces that belong to containers and virtual machines, count what another one counts, or lead nowhere.
var hidden = []string{"lo", "veth*", "docker0", "br-*", "virbr*", "vnet*", "tap*", "fwbr*", "fwpr*", "fwln*", "ifb*", "dummy*", "gre*", "gretap*", "erspan*", "sit*",
	"ip6tnl*", "ip6gre*", "ip6_vti*", "ip_vti*", "tunl*", "teql*", "cali*", "cni*", "flannel*", "cilium_*", "lxc*", "lxdbr*", "podman*", "nodelocaldns*", "kube-ipvs*"}

func isHidden(name []byte) bool {
	for _, pattern := range hidden {
		if ok, _ := path.Match(pattern, string(name)); ok {
			return true
		}
	}
	return false
}

// netInterface is what is remembered of one.
type netInterface struct {
	seen     bool
	speed    float64 // Mbit/s that it says it can do; 0 if it does not say
	speedAt  time.Duration
	traffic  *munin.Service
	errors   *munin.Service
	packets  *munin.Service
	capacity capacity
}

// capacity finds the highest mean of five minutes that an interface had, in either direction.
type capacity struct {
	at      time.Duration // begin of the five minutes
	in, out uint64
	most    float64 // bytes per second
}

const capacitySpan = 5 * time.Minute

func (c *capacity) add(now time.Duration, in, out uint64) {
	switch elapsed := now - c.at; {
	case c.at == 0, in < c.in, out < c.out, elapsed < 0:
	case elapsed < capacitySpan:
		return
	default:
		c.most = max(c.most, float64(max(in-c.in, out-c.out))/elapsed.Seconds())
	}
	c.at, c.in, c.out = now, in, out
}

type networkReader struct {
	h        *Host
	f        file
	known    map[string]*netInterface
	shape    string
	capacity *munin.Service
}

func (r *networkReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	counts, ok := parseNetDev(b, func(name []byte) bool {
		_, wanted := r.h.Capacity[string(name)]
		return wanted || !isHidden(name)
	})
	if !ok {
		return nil, strange(r.f.path, "no heading with bytes")
	}
	now := r.h.Boot()
	for _, i := range r.known {
		i.seen = false
	}
	var all []Reading
	most := Reading{}
	for _, c := range counts {
		i := r.describe(c.name, now)
		i.capacity.add(now, c.inBytes, c.outBytes)
		all = append(all,
			Reading{Service: i.traffic, Values: []munin.Value{v("down", float64(c.inBytes)), v("up", float64(c.outBytes))}},
			Reading{Service: i.errors, Values: []munin.Value{v("rcvd", float64(c.inErrs)), v("trans", float64(c.outErrs)),
				v("rxdrop", float64(c.inDrop)), v("txdrop", float64(c.outDrop)), v("collisions", float64(c.collisions))}},
			Reading{Service: i.packets, Values: []munin.Value{v("down", float64(c.inPackets)), v("up", float64(c.outPackets))}})
		if n, _ := r.most(c.name, i); n > 0 {
			most.Values = append(most.Values, v(fieldName(c.name), n))
		}
	}
	for name, i := range r.known {
		if !i.seen {
			delete(r.known, name)
		}
	}
	if len(all) == 0 {
		return nil, &Off{Why: "no network interface but those of containers and virtual machines"}
	}
	if len(most.Values) > 0 {
		most.Service = r.describeMost(counts)
		all = append(all, most)
	}
	return all, nil
}

// most is what an interface can carry, in bytes per second, and from where that is known.
func (r *networkReader) most(name string, i *netInterface) (bytes float64, from string) {
	if n := r.h.Capacity[name]; n > 0 {
		return n, "set"
	}
	if i.speed > 0 {
		return i.speed * 1e6 / 8, "said by the card"
	}
	return i.capacity.most, "observed"
}

// describe returns the interface, described anew if its speed changed.
func (r *networkReader) describe(name string, now time.Duration) *netInterface {
	i := r.known[name]
	if i == nil {
		i = &netInterface{speed: -1}
		r.known[name] = i
	}
	i.seen = true
	if i.traffic != nil && now-i.speedAt < capacitySpan && now >= i.speedAt {
		return i
	}
	i.speedAt = now
	speed := 0.0
	f := file{path: r.h.sys("class/net/" + name + "/speed")}
	// -1, or no answer while the cable is out, of virtio; what a veth says is made up, but these are hidden.
	if n, err := f.oneNumber(); err == nil && n > 0 && n < 1e7 {
		speed = n
	}
	if speed == i.speed {
		return i
	}
	i.speed = speed
	if i.errors == nil {
		i.errors, i.packets = describeErrors(name), describePackets(name)
	}
	i.traffic = r.describeTraffic(name, i)
	return i
}

func (r *networkReader) describeTraffic(name string, i *netInterface) *munin.Service {
	about := "The card does not say how fast it is, as is usual for virtual ones: set capacity, or see if_capacity for what it carried at most."
	switch n, from := r.most(name, i); from {
	case "set":
		about = fmt.Sprintf("Its capacity is set to %sbit/s.", si(n*8))
	case "said by the card":
		about = fmt.Sprintf("The card says that it can do %sbit/s.", si(n*8))
	}
	s := describe("if_"+fieldTail(name), fmt.Sprintf(`
		graph_order down up
		graph_title %s traffic
		graph_args --base 1000
		graph_vlabel bits in (-) / out (+) per ${graph_period}
		graph_category network
		graph_info What %[1]s received and sent. Bits are shown, bytes are stored and compared with limits.
		down.label received
		down.type DERIVE
		down.graph no
		down.cdef down,8,*
		down.min 0
		up.label bps
		up.type DERIVE
		up.negative down
		up.cdef up,8,*
		up.min 0
		up.info %s`, name, about))
	if i.speed > 0 { // bits as a bound for bytes, as Munin has it: far enough from what is possible
		for _, field := range []string{"down", "up"} {
			f := s.Field(field)
			f.Attrs = append(f.Attrs, munin.Attr{Name: "max", Value: strconv.FormatFloat(i.speed*1e6, 'f', 0, 64)})
		}
	}
	return s
}

func describeErrors(name string) *munin.Service {
	return describe("if_err_"+fieldTail(name), fmt.Sprintf(`
		graph_order rcvd trans
		graph_title %s errors
		graph_args --base 1000
		graph_vlabel packets in (-) / out (+) per ${graph_period}
		graph_category network
		rcvd.label errors
		rcvd.type COUNTER
		rcvd.graph no
		rcvd.warning 1
		trans.label errors
		trans.type COUNTER
		trans.negative rcvd
		trans.warning 1
		rxdrop.label drops
		rxdrop.type COUNTER
		rxdrop.graph no
		txdrop.label drops
		txdrop.type COUNTER
		txdrop.negative rxdrop
		collisions.label collisions
		collisions.type COUNTER`, name))
}

func describePackets(name string) *munin.Service {
	return describe("if_packets_"+fieldTail(name), fmt.Sprintf(`
		graph_order down up
		graph_title %s packets
		graph_args --base 1000
		graph_vlabel packets in (-) / out (+) per ${graph_period}
		graph_category network
		graph_info As the kernel counts them: the card may have joined several into one.
		down.label received
		down.type DERIVE
		down.graph no
		down.min 0
		up.label packets
		up.type DERIVE
		up.negative down
		up.min 0`, name))
}

// describeMost says of each interface from where its capacity is known.
func (r *networkReader) describeMost(counts []netCounts) *munin.Service {
	var labels []string
	for _, c := range counts {
		if n, from := r.most(c.name, r.known[c.name]); n > 0 {
			labels = append(labels, c.name+" "+from)
		}
	}
	if shape := strings.Join(labels, ";"); r.shape != shape || r.capacity == nil {
		r.shape = shape
		s := describe("if_capacity", `graph_title What the network interfaces can carry
			graph_args --base 1000 -l 0
			graph_vlabel bits per second
			graph_category network
			graph_info As it is set or said by the card; else the highest mean of five minutes since the program was started.`)
		for _, l := range labels {
			name, from, _ := strings.Cut(l, " ")
			add(s, fieldName(name), name+" ("+from+")", "cdef "+fieldName(name)+",8,*")
		}
		r.capacity = s
	}
	return r.capacity
}

// fieldTail makes a name fit for the end of a service's name.
func fieldTail(s string) string {
	return string(bytes.Map(func(c rune) rune {
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, []byte(s)))
}

// si writes a large number in thousands.
func si(n float64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if math.Abs(n) < 1000 {
			return strconv.FormatFloat(n, 'f', -1, 64) + " " + unit
		}
		n /= 1000
	}
	return strconv.FormatFloat(n, 'f', -1, 64) + " T"
}

var softnetProbe = Probe{
	Name: "softnet",
	New: func(h *Host) (Reader, error) {
		r := &softnetReader{f: file{path: h.proc("net/softnet_stat")}}
		_, err := r.f.read()
		return r, err
	},
}

type softnetReader struct{ f file }

func (r *softnetReader) Read(context.Context) ([]Reading, error) {
	b, err := r.f.read()
	if err != nil {
		return nil, err
	}
	sum, ok := sumHex(b, 3)
	if !ok {
		return nil, strange(r.f.path, "no line of three hexadecimal numbers")
	}
	return []Reading{{Service: softnetService, Values: []munin.Value{v("processed", float64(sum[0])), v("dropped", float64(sum[1])), v("squeezed", float64(sum[2]))}}}, nil
}

// sumHex adds up the columns of lines of hexadecimal numbers, one line for each processor. Lines with fewer columns do not count.
// The counters have 32 bits each: the sum of several goes on where one of them begins anew.
func sumHex(b []byte, columns int) (sum []uint64, ok bool) {
	sum = make([]uint64, columns)
	row := make([]uint64, columns)
	for len(b) > 0 {
		var line, word []byte
		line, b = nextLine(b)
		i := 0
		for ; i < columns; i++ {
			word, line = nextWord(line)
			n, err := strconv.ParseUint(string(word), 16, 64)
			if err != nil {
				break
			}
			row[i] = n
		}
		if i < columns {
			continue
		}
		ok = true
		for i, n := range row {
			sum[i] += n
		}
	}
	return sum, ok
}

var softnetService = describe("softnet", `
	graph_title Packets on their way from the card
	graph_args --base 1000 -l 0
	graph_vlabel packets / ${graph_period}
	graph_category network
	graph_info Packets are lost here when the processor does not come to them in time, for instance because the hypervisor gave it to another machine.
	processed.label processed
	processed.type DERIVE
	processed.min 0
	processed.graph no
	dropped.label dropped
	dropped.type DERIVE
	dropped.min 0
	squeezed.label put off
	squeezed.type DERIVE
	squeezed.min 0
	squeezed.info Work was left for later because it had taken too long.`)

var conntrackProbe = Probe{
	Name: "conntrack", Doubles: []string{"fw_conntrack"},
	New: func(h *Host) (Reader, error) {
		r := &conntrackReader{count: file{path: h.proc("sys/net/netfilter/nf_conntrack_count")}, most: file{path: h.proc("sys/net/netfilter/nf_conntrack_max")},
			stat: file{path: h.proc("net/stat/nf_conntrack")}}
		_, err := r.count.read()
		if _, off := IsOff(err); off {
			return nil, &Off{Why: "no connections are tracked: nothing needs the module nf_conntrack"}
		}
		return r, err
	},
}

type conntrackReader struct {
	count, most, stat file
	max               float64
	desc              *munin.Service
}

func (r *conntrackReader) Read(context.Context) ([]Reading, error) {
	n, err := r.count.oneNumber()
	if err != nil {
		return nil, err
	}
	if most, err := r.most.oneNumber(); err == nil && (most != r.max || r.desc == nil) {
		r.max = most
		r.desc = describeConntrack(most)
	} else if r.desc == nil {
		r.desc = describeConntrack(0)
	}
	all := []Reading{{Service: r.desc, Values: []munin.Value{v("total", n)}}}
	if b, err := r.stat.read(); err == nil {
		head, rest := nextLine(b)
		var values []munin.Value
		columns := strings.Fields(string(head))
		if sum, ok := sumHex(rest, len(columns)); ok && len(columns) < 64 {
			for _, name := range []string{"insert_failed", "drop", "early_drop", "search_restart"} {
				if i := slices.Index(columns, name); i >= 0 {
					values = append(values, v(name, float64(sum[i])))
				}
			}
		}
		if len(values) > 0 {
			all = append(all, Reading{Service: conntrackService, Values: values})
		}
	}
	return all, nil
}

func describeConntrack(most float64) *munin.Service {
	text := `
		graph_title Connections through firewall
		graph_vlabel Connections
		graph_category network
		graph_args -l 0
		total.label Total
		total.type GAUGE`
	if most > 0 {
		text += fmt.Sprintf("\ntotal.warning %v\ntotal.critical %v", most*8/10, most*9/10)
	}
	return describe("fw_conntrack", text)
}

var conntrackService = describe("conntrack_errors", `
	graph_title Connections that could not be tracked
	graph_vlabel packets / ${graph_period}
	graph_category network
	graph_args --base 1000 -l 0
	insert_failed.label two at the same time
	insert_failed.type DERIVE
	insert_failed.min 0
	drop.label dropped
	drop.type DERIVE
	drop.min 0
	drop.info The table was full, or there was no memory.
	early_drop.label forgotten to make room
	early_drop.type DERIVE
	early_drop.min 0
	search_restart.label searches begun anew
	search_restart.type DERIVE
	search_restart.min 0`)
