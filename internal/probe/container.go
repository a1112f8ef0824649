package probe

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// rescan is how often containers that came or went are looked for. One that ends is noticed at once.
const rescan = 30 * time.Second

// containersProbe reads what each container on this machine uses: processor, memory, disks, processes, how long it had to wait,
// and its network, which is read in its own namespace. It asks no daemon and starts nothing: LXC, Docker, podman,
// systemd-nspawn, Kubernetes and virtual machines are told by the paths of their control groups, of both versions
// (https://docs.kernel.org/admin-guide/cgroup-v2.html).
//
// Root is needed for the names that Docker and podman gave alone; without it short ids stand in for these.
var containersProbe = Probe{
	Name: "containers", Doubles: []string{"docker_cpu", "docker_memory", "docker_net", "lxc_cpu", "lxc_ram", "lxc_net"}, Root: true,
	New: func(h *Host) (Reader, error) {
		return newBoxReader(h, "containers", containerGraphs, func(kind string) bool { return kind != kindService }, true)
	},
}

// servicesProbe reads what each service of systemd uses. Services have no network of their own.
var servicesProbe = Probe{
	Name: "services", Interval: 30 * time.Second,
	New: func(h *Host) (Reader, error) {
		return newBoxReader(h, "services", serviceGraphs, func(kind string) bool { return kind == kindService }, false)
	},
}

// maxField is the longest field that is made of a name.
const maxField = 60

// boxField is one curve of a graph.
type boxField struct {
	suffix string // behind the container's field in the graph of all, "" if it is the only one; "-": not in that graph
	name   string // in the container's own graph, "" if it is not there
	label  string // in the container's own graph
	attrs  string // in both, a line each; $F is the field without its suffix
	one    string // more of them in its own graph
	value  func(*usage) float64
}

// boxGraph is a graph of all containers, and one for each if it has fields with a name.
type boxGraph struct {
	name, all string // name behind that of the probe; attributes of the graph of all
	one       string // attributes of the graph of one
	fields    []boxField
}

const (
	derive = "type DERIVE\nmin 0\n"
	bits   = "cdef $F,8,*\n"
)

var containerGraphs = []boxGraph{
	{
		name: "cpu", all: "graph_title Containers: CPU\ngraph_args --base 1000 -r --lower-limit 0\ngraph_vlabel % of one core\ngraph_scale no\n",
		one: "graph_args --base 1000 -r --lower-limit 0\ngraph_vlabel % of one core\ngraph_scale no\n",
		fields: []boxField{
			{attrs: derive, value: func(u *usage) float64 { return u.cpu }},
			{suffix: "-", name: "system", label: "system", attrs: derive + "draw AREA\n", value: func(u *usage) float64 { return u.system }},
			{suffix: "-", name: "user", label: "user", attrs: derive + "draw STACK\n", value: func(u *usage) float64 { return u.user }},
			{suffix: "-", name: "throttled", label: "held back by its limit", attrs: derive, value: func(u *usage) float64 { return u.throttled }},
			{suffix: "-", name: "limit", label: "limit", value: func(u *usage) float64 { return u.cpuLimit }},
		},
	}, {
		name: "memory", all: "graph_title Containers: memory\ngraph_args --base 1024 --lower-limit 0\ngraph_vlabel bytes\ngraph_info In use, without files that could be dropped at once.\n",
		one: "graph_args --base 1024 --lower-limit 0\ngraph_vlabel bytes\n",
		fields: []boxField{
			{attrs: "draw AREASTACK\n", value: func(u *usage) float64 { return u.memory }},
			{suffix: "-", name: "apps", label: "programs", attrs: "draw AREA\n", value: func(u *usage) float64 { return u.anon }},
			{suffix: "-", name: "shmem", label: "shared", attrs: "draw STACK\n", value: func(u *usage) float64 { return u.shmem }},
			{suffix: "-", name: "kernel", label: "kernel", attrs: "draw STACK\n", value: func(u *usage) float64 { return u.kernel }},
			{suffix: "-", name: "cached", label: "files", attrs: "draw STACK\n", value: func(u *usage) float64 { return u.files }},
			{suffix: "-", name: "swap", label: "swap", attrs: "draw STACK\n", value: func(u *usage) float64 { return u.swap }},
			{suffix: "-", name: "used", label: "in use", attrs: "draw LINE2\n", value: func(u *usage) float64 { return u.memory }},
			{suffix: "-", name: "limit", label: "limit", attrs: "draw LINE1\n", value: func(u *usage) float64 { return u.memoryLimit }},
		},
	}, {
		name: "net", all: "graph_title Containers: network\ngraph_args --base 1000\ngraph_vlabel bits in (-) / out (+) per ${graph_period}\n",
		one: "graph_order down up\ngraph_args --base 1000\ngraph_vlabel bits in (-) / out (+) per ${graph_period}\n",
		fields: []boxField{
			{suffix: "_down", name: "down", label: "received", attrs: derive + bits + "graph no\n", value: func(u *usage) float64 { return u.received }},
			{suffix: "_up", name: "up", label: "bps", attrs: derive + bits + "negative $D\n", value: func(u *usage) float64 { return u.sent }},
		},
	}, {
		name: "net_lost", all: "graph_title Containers: packets lost\ngraph_args --base 1000 --lower-limit 0\ngraph_vlabel packets dropped or damaged per ${graph_period}\n",
		fields: []boxField{{attrs: derive, value: func(u *usage) float64 { return u.lost }}},
	}, {
		name: "io", all: "graph_title Containers: disks\ngraph_args --base 1024\ngraph_vlabel bytes read (-) / written (+) per ${graph_period}\n",
		one: "graph_args --base 1024\ngraph_vlabel bytes read (-) / written (+) per ${graph_period}\n",
		fields: []boxField{
			{suffix: "_rdbytes", name: "rdbytes", label: "read", attrs: derive + "graph no\n", value: func(u *usage) float64 { return u.readBytes }},
			{suffix: "_wrbytes", name: "wrbytes", label: "bytes", attrs: derive + "negative $D\n", value: func(u *usage) float64 { return u.writeBytes }},
		},
	}, {
		name: "iops", all: "graph_title Containers: disk operations\ngraph_args --base 1000\ngraph_vlabel operations read (-) / write (+) per ${graph_period}\n",
		fields: []boxField{
			{suffix: "_rdio", attrs: derive + "graph no\n", value: func(u *usage) float64 { return u.readOps }},
			{suffix: "_wrio", attrs: derive + "negative $D\n", value: func(u *usage) float64 { return u.writeOps }},
		},
	}, {
		name: "pids", all: "graph_title Containers: processes\ngraph_args --base 1000 --lower-limit 0\ngraph_vlabel processes and threads\n",
		one: "graph_args --base 1000 --lower-limit 0\ngraph_vlabel processes and threads\n",
		fields: []boxField{
			{name: "pids", label: "processes and threads", value: func(u *usage) float64 { return u.pids }},
			{suffix: "-", name: "limit", label: "limit", value: func(u *usage) float64 { return u.pidsLimit }},
		},
	}, {
		name: "oom", all: "graph_title Containers: killed for lack of memory\ngraph_args --base 1000 --lower-limit 0\ngraph_vlabel processes killed per ${graph_period}\ngraph_period hour\n",
		fields: []boxField{{attrs: derive, value: func(u *usage) float64 { return u.oomKills }}},
	}, {
		name: "pressure_cpu", all: "graph_title Containers: waiting for the CPU\n" + pressureAttrs,
		fields: []boxField{{attrs: derive, value: func(u *usage) float64 { return u.stallCPU }}},
	}, {
		name: "pressure_memory", all: "graph_title Containers: waiting for memory\n" + pressureAttrs, one: pressureAttrs,
		fields: []boxField{
			{name: "some", label: "something waited", attrs: derive, value: func(u *usage) float64 { return u.stallMemory }},
			{suffix: "-", name: "full", label: "everything waited", attrs: derive, value: func(u *usage) float64 { return u.stallMemoryFull }},
		},
	}, {
		name: "pressure_io", all: "graph_title Containers: waiting for disks\n" + pressureAttrs, one: pressureAttrs,
		fields: []boxField{
			{name: "some", label: "something waited", attrs: derive, value: func(u *usage) float64 { return u.stallIO }},
			{suffix: "-", name: "full", label: "everything waited", attrs: derive, value: func(u *usage) float64 { return u.stallIOFull }},
		},
	},
}

const pressureAttrs = "graph_args --base 1000 --lower-limit 0\ngraph_vlabel % of the time\ngraph_scale no\n"

var serviceGraphs = []boxGraph{
	{
		name: "cpu", all: "graph_title Services: CPU\ngraph_args --base 1000 --lower-limit 0\ngraph_vlabel % of one core\ngraph_scale no\n",
		fields: []boxField{{attrs: derive + "draw AREASTACK\n", value: func(u *usage) float64 { return u.cpu }}},
	}, {
		name: "memory", all: "graph_title Services: memory\ngraph_args --base 1024 --lower-limit 0\ngraph_vlabel bytes\n",
		fields: []boxField{{attrs: "draw AREASTACK\n", value: func(u *usage) float64 { return u.memory }}},
	}, {
		name: "io", all: "graph_title Services: disks\ngraph_args --base 1024\ngraph_vlabel bytes read (-) / written (+) per ${graph_period}\n",
		fields: []boxField{
			{suffix: "_rdbytes", attrs: derive + "graph no\n", value: func(u *usage) float64 { return u.readBytes }},
			{suffix: "_wrbytes", attrs: derive + "negative $D\n", value: func(u *usage) float64 { return u.writeBytes }},
		},
	}, {
		name: "pids", all: "graph_title Services: processes\ngraph_args --base 1000 --lower-limit 0\ngraph_vlabel processes and threads\n",
		fields: []boxField{{value: func(u *usage) float64 { return u.pids }}},
	},
}

// box is one container, virtual machine or service.
type box struct {
	*found
	field string // its name in graphs
	label string
	pid   string // has its network; "" if none was found
	with  string // others that share its network
	known uint64 // which fields ever had a value, a bit each
	u     usage

	graphs []*munin.Service // its own, one for each of the probe's graphs; nil where it has none
}

// boxReader reads all containers.
type boxReader struct {
	h      *Host
	name   string
	graphs []boxGraph
	want   func(kind string) bool
	net    bool

	trees  []tree
	space  namespaces
	disks  disks
	file   kernelFile
	last   time.Duration // of the last walk
	walked bool
	gone   bool // something vanished since
	boxes  []*box
	beyond error            // what the walk could not do
	shape  string           // what the graphs of all were described by
	all    []*munin.Service // one for each of graphs
}

func newBoxReader(h *Host, name string, graphs []boxGraph, want func(kind string) bool, net bool) (*boxReader, error) {
	trees, err := cgroupTrees(h.Sys)
	if err != nil {
		return nil, err
	}
	r := &boxReader{h: h, name: name, graphs: graphs, want: want, net: net, trees: trees, disks: disks{sys: h.Sys}}
	if net {
		r.space = newNamespaces(h.Proc)
	}
	if r.walk(); len(r.boxes) == 0 {
		return nil, r.none()
	}
	return r, nil
}

func (r *boxReader) none() error {
	return &Off{"no " + r.name + " run here, or none in a control group of their own"}
}

// walk finds out what there is now. What was known of those that stay is kept.
func (r *boxReader) walk() {
	r.last, r.walked, r.gone, r.beyond = r.h.Boot(), true, false, nil
	all, err := findGroups(r.trees, r.want)
	if len(all) > maxContainers {
		err = errors.Join(err, fmt.Errorf("%d %s run here, %d of them are read", len(all), r.name, maxContainers))
		all = all[:maxContainers]
	}
	r.beyond = err
	r.disks.holders = nil

	old := map[group]*box{}
	for _, b := range r.boxes {
		old[b.group] = b
	}
	look := names{root: r.h.Root}
	taken := map[string]bool{}
	boxes := make([]*box, 0, len(all))
	for _, f := range all {
		name, label := look.of(f.group)
		if f.kind == kindKubernetes && len(look.kubes) > 0 && look.kubes[f.id] == "" {
			continue // what holds a pod's namespaces and does nothing
		}
		field := fieldName(f.kind + "_" + name)
		if f.kind == kindService {
			field = fieldName(name)
		}
		// Two names may become one, and a user without root may call a container as root does.
		if f.user != "" || taken[field] || len(field) > maxField {
			sum := fnv.New32a()
			fmt.Fprintf(sum, "%s\x00%s", f.user, name)
			field = fmt.Sprintf("%s_%08x", field[:min(maxField-9, len(field))], sum.Sum32())
		}
		if taken[field] {
			continue // two of one user with one name: the second is being made, or the first taken away
		}
		taken[field] = true
		b := &box{found: f, field: field, label: plain(label)}
		if o := old[f.group]; o != nil && o.field == field && o.label == b.label && slices.Equal(o.paths, f.paths) {
			b = o
		}
		boxes = append(boxes, b)
	}
	r.boxes = boxes
}

// Read reads all of them.
func (r *boxReader) Read(ctx context.Context) ([]Reading, error) {
	if r.gone || !r.walked || r.h.Boot()-r.last >= rescan {
		r.walk()
	}
	if len(r.boxes) == 0 {
		return nil, r.none()
	}
	for _, b := range r.boxes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.u = unknownUsage()
		if !r.readGroups(b) {
			r.gone = true
		}
	}
	err := r.beyond
	if r.net {
		if netErr := r.readNet(); netErr != nil {
			err = errors.Join(err, netErr)
		}
	}
	return r.readings(), err
}

// readGroups reads the control groups of one. ok is false if none is left.
func (r *boxReader) readGroups(b *box) (ok bool) {
	for i, t := range r.trees {
		if b.paths[i] == "" {
			continue
		}
		dir := filepath.Join(t.dir, b.paths[i])
		switch {
		case t.v2 && r.file.readV2(&b.u, dir, r.disks.top):
			ok = true
		case !t.v2:
			r.file.readV1(&b.u, t.name, dir, r.disks.top)
			ok = ok || r.file.read(dir+"/cgroup.procs") != nil
		}
	}
	return ok
}

// readNet reads the networks. Containers that have none of their own, but the host's, have none here: the host's traffic is
// told once, by the host.
func (r *boxReader) readNet() error {
	owners := map[string]*box{} // by namespace
	var pairs *veths
	defer func() {
		if pairs != nil {
			pairs.Close()
		}
	}()
	var failed error
	for _, b := range r.boxes {
		b.with = ""
		space, ok := r.readNetOf(b)
		if !ok && b.pid != "" && r.h.hides(b.pid) {
			var err error
			if pairs == nil {
				if pairs, err = openVeths(); err != nil {
					return fmt.Errorf("ask the kernel for its cards: %w", err)
				}
			}
			var nsid int32
			if nsid, b.u.received, b.u.sent, b.u.lost, err = pairs.of(b.pid); err != nil {
				b.u.received, b.u.sent, b.u.lost = math.NaN(), math.NaN(), math.NaN()
				if !errors.Is(err, errNoVeths) {
					failed = fmt.Errorf("network of %s: %w", b.label, err)
				}
				continue
			}
			space, ok = fmt.Sprint("nsid ", nsid), true
		}
		if !ok {
			continue
		}
		if o := owners[space]; o != nil {
			o.with += ", " + b.label
			b.u.received, b.u.sent, b.u.lost = math.NaN(), math.NaN(), math.NaN()
			continue
		}
		owners[space] = b
	}
	return failed
}

// hides says whether /proc does not show a process (hidepid of proc(5)).
func (h *Host) hides(pid string) bool {
	k := kernelFile{}
	return k.read(filepath.Join(h.Proc, pid, "stat")) == nil
}

// readNetOf reads the network of one through /proc. The process is looked for anew if it is not the container's any more.
func (r *boxReader) readNetOf(b *box) (space string, ok bool) {
	for range 2 {
		if b.pid != "" {
			space = r.space.of(b.pid)
			text := r.file.read(filepath.Join(r.h.Proc, b.pid, "net/dev"))
			received, sent, lost, err := traffic(text)
			switch {
			case !isMember(&r.file, r.h.Proc, b.pid, b.paths): // asked last: what was read before is its
			case space == "" || err != nil:
				return "", false
			case space == r.space.host:
				return "", false
			default:
				b.u.received, b.u.sent, b.u.lost = received, sent, lost
				return space, true
			}
		}
		b.pid = ""
		for i, t := range r.trees {
			if b.paths[i] == "" {
				continue
			}
			if b.pid, _ = findPid(&r.file, r.h.Proc, filepath.Join(t.dir, b.paths[i])); b.pid != "" {
				break
			}
		}
		if b.pid == "" {
			return "", false
		}
	}
	return "", false
}

// readings makes one for each graph of all, and for each graph of one.
func (r *boxReader) readings() []Reading {
	r.describe()
	var out []Reading
	for i, g := range r.graphs {
		if r.all[i] == nil {
			continue
		}
		values := map[string]float64{}
		for _, b := range r.boxes {
			for _, f := range g.fields {
				if f.suffix != "-" {
					values[b.field+f.suffix] = f.value(&b.u)
				}
			}
		}
		out = append(out, readingOf(r.all[i], from(values)))
	}
	for _, b := range r.boxes {
		for i, g := range r.graphs {
			if b.graphs[i] == nil {
				continue
			}
			values := map[string]float64{}
			for _, f := range g.fields {
				if f.name != "" {
					values[f.name] = f.value(&b.u)
				}
			}
			out = append(out, readingOf(b.graphs[i], from(values)))
		}
	}
	return out
}

// describe brings the descriptions up to date. A curve that never had a value is not described.
func (r *boxReader) describe() {
	var shape strings.Builder
	for _, b := range r.boxes {
		bit, known := 0, b.known
		for _, g := range r.graphs {
			for _, f := range g.fields {
				if !math.IsNaN(f.value(&b.u)) {
					known |= 1 << bit
				}
				bit++
			}
		}
		if known != b.known || b.graphs == nil {
			b.known = known
			b.graphs = r.describeOne(b)
		}
		fmt.Fprintf(&shape, "%s\x00%s\x00%s\x00%x\n", b.field, b.label, b.with, b.known)
	}
	if s := shape.String(); r.all == nil || s != r.shape {
		r.shape, r.all = s, r.describeAll()
	}
}

func (r *boxReader) category() string {
	if r.net {
		return "graph_category virtualization\n"
	}
	return "graph_category processes\n"
}

// describeAll describes the graphs of all, nil for one without curves.
func (r *boxReader) describeAll() []*munin.Service {
	all := make([]*munin.Service, len(r.graphs))
	bit := 0
	for i, g := range r.graphs {
		var text strings.Builder
		for _, b := range r.boxes {
			for j, f := range g.fields {
				if f.suffix == "-" || b.known&(1<<(bit+j)) == 0 {
					continue
				}
				name := b.field + f.suffix
				fmt.Fprintf(&text, "%s.label %s\n", name, b.label)
				if g.name == "net" && b.with != "" {
					fmt.Fprintf(&text, "%s.info It shares its network with%s.\n", name, strings.TrimPrefix(b.with, ","))
				}
				fieldAttrs(&text, name, b.field+g.fields[0].suffix, f.attrs)
			}
		}
		bit += len(g.fields)
		if text.Len() > 0 {
			all[i] = describe(r.name+"_"+g.name, g.all+r.category()+text.String())
		}
	}
	return all
}

// describeOne describes the graphs of one.
func (r *boxReader) describeOne(b *box) []*munin.Service {
	one := make([]*munin.Service, len(r.graphs))
	bit := 0
	for i, g := range r.graphs {
		var text strings.Builder
		for j, f := range g.fields {
			if f.name != "" && b.known&(1<<(bit+j)) != 0 {
				fmt.Fprintf(&text, "%s.label %s\n", f.name, f.label)
				fieldAttrs(&text, f.name, g.fields[0].name, f.attrs+f.one)
			}
		}
		bit += len(g.fields)
		if text.Len() > 0 {
			_, title, _ := strings.Cut(strings.SplitN(g.all, "\n", 2)[0], ": ")
			one[i] = describe(r.name+"_"+g.name+"."+b.field, fmt.Sprintf("graph_title %s: %s\n", b.label, title)+g.one+r.category()+text.String())
		}
	}
	return one
}

// fieldAttrs writes the attributes of a field; $F is its name, $D that of the one that is drawn downwards from it.
func fieldAttrs(text *strings.Builder, name, down, attrs string) {
	for line := range strings.Lines(strings.NewReplacer("$F", name, "$D", down).Replace(attrs)) {
		fmt.Fprintf(text, "%s.%s", name, line)
	}
}
