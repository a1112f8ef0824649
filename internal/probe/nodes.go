package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin/internal/munin"
)

// Bounds of polled nodes.
const (
	nodeInterval  = time.Minute
	nodeTime      = 3 * time.Minute  // for one whole poll, as Munin's timeout_fetch_one_node
	configAge     = time.Hour        // after which a description is asked for again
	misfitAge     = 10 * time.Minute // and one that does not fit the values
	maxNodes      = 4096
	maxPolls      = 256    // at a time
	maxReadings   = 5_000  // services of one node
	maxNodeValues = 50_000 // of one poll of a node
	maxTrouble    = 20     // services named in NodeState
)

// Node is a munin-node that is polled.
type Node struct {
	Group, Name string // what its readings are called
	Address     munin.Address
	Ask         string        // the name that it is asked for; "": what it serves under its own
	AskBanner   bool          // ask for the name that it calls itself; Ask does not count then
	Virtual     bool          // take the other names that it serves too, as nodes of the same group
	Interval    time.Duration // 1 s to 1 day; 0: a minute
	Dial        munin.DialOptions
}

// NodeState is how one polled node does. Its FailedAt is since when it is unknown.
type NodeState struct {
	State
	Group, Node string
	Address     string
	Banner      string            // what it calls itself
	Plugins     int               // that it listed last
	Trouble     map[string]string // by plugin: why it gave nothing at the last poll; at most twenty are named
	Troubles    int               // how many there were
}

// NodesOptions are what Nodes needs.
type NodesOptions struct {
	Host    *Host
	Nodes   []Node
	Deliver func([]Reading) // takes what was read, one call at a time
	// Newest is when the newest sample of a node was taken, so that one that keeps history need not tell it twice after a
	// restart; zero if there is none. nil: nobody knows.
	Newest func(group, node string) time.Time
	// Dial opens the conversation; nil: munin.Dial.
	Dial func(context.Context, munin.Address, munin.DialOptions) (*munin.Client, error)
}

// Nodes polls munin-nodes: each on a connection of its own, all at once, up to 256 of them.
type Nodes struct {
	deliver func([]Reading)
	mu      sync.Mutex // held while deliver runs
	polls   []*poll
	turns   []*turns
}

// NewNodes checks the options. It connects to nobody yet.
func NewNodes(o NodesOptions) (*Nodes, error) {
	if o.Host == nil || o.Deliver == nil {
		return nil, errors.New("polling needs a host, and somebody to deliver to")
	}
	if len(o.Nodes) > maxNodes {
		return nil, fmt.Errorf("%d nodes to be polled; %d is the most", len(o.Nodes), maxNodes)
	}
	dial := o.Dial
	if dial == nil {
		dial = munin.Dial
	}
	n := &Nodes{deliver: o.Deliver}
	room := make(chan struct{}, maxPolls)
	seen := map[string]bool{}
	for _, node := range o.Nodes {
		name := nodeName(node.Group, node.Name)
		switch {
		case node.Name == "":
			return nil, errors.New("a node without a name")
		case seen[name]:
			return nil, fmt.Errorf("the node %s is there twice", name)
		case node.Interval < 0 || node.Interval > 24*time.Hour || node.Interval > 0 && node.Interval < time.Second:
			return nil, fmt.Errorf("the interval of the node %s is not within 1s and 24h", name)
		}
		seen[name] = true
		interval := cmp.Or(node.Interval, nodeInterval)
		p := &poll{node: node, h: o.Host, dial: dial, room: room, interval: interval, known: map[string]*known{}, spool: spool{newest: o.Newest}}
		n.polls = append(n.polls, p)
		// A poll waits a thousand times. To hold a thread for it, only to know its processor time, doubles what it takes.
		n.turns = append(n.turns, &turns{name: name, interval: interval, timeout: nodeTime, take: p.take, elsewhere: true, state: State{Name: name, Interval: interval}})
	}
	return n, nil
}

func nodeName(group, name string) string {
	if group == "" {
		return name
	}
	return group + ";" + name
}

// Run polls until ctx ends.
func (n *Nodes) Run(ctx context.Context) { runAll(ctx, n.turns, n.hand) }

func (n *Nodes) hand(rs []Reading) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deliver(rs)
}

// States says how each node does, in the order of the options.
func (n *Nodes) States() []NodeState {
	all := make([]NodeState, len(n.polls))
	for i, p := range n.polls {
		all[i] = p.said()
		all[i].State = n.turns[i].State()
	}
	return all
}

// poll is one node, and what is remembered of it.
type poll struct {
	node     Node
	h        *Host
	dial     func(context.Context, munin.Address, munin.DialOptions) (*munin.Client, error)
	room     chan struct{}
	interval time.Duration
	known    map[string]*known // by the name asked for and the plugin
	spool    spool

	mu    sync.Mutex
	state NodeState
}

// known is what is remembered of one plugin of a node.
type known struct {
	services []*munin.Service
	at       time.Duration // when it was described
	dirty    bool          // its description brings the values
	rate     time.Duration // update_rate; 0 if it has none
	next     time.Duration // when it is to be asked again, if it has one
	seen     bool          // in this poll
	texted   texted
}

func (p *poll) said() NodeState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	s.Group, s.Node, s.Address = p.node.Group, p.node.Name, p.node.Address.String()
	return s
}

// take polls the node once. What was read before an error counts.
func (p *poll) take(ctx context.Context) ([]Reading, error) {
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%d nodes were being polled all the time", maxPolls)
	}
	c, err := p.dial(ctx, p.node.Address, p.node.Dial)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	can, err := c.Cap(ctx)
	if err != nil {
		return nil, err
	}
	round := &round{poll: p, c: c}
	for _, k := range p.known {
		k.seen = false
	}
	if slices.Contains(can, "spool") {
		err = round.kept(ctx)
	}
	// A node that began a moment ago has kept nothing yet, and may have plugins that can be asked.
	if !slices.Contains(can, "spool") || errors.Is(err, errKeptNothing) && slices.Contains(can, "multigraph") {
		err = round.all(ctx)
	}
	for key, k := range p.known {
		if err == nil && !k.seen {
			delete(p.known, key)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Banner, p.state.Plugins, p.state.Trouble, p.state.Troubles = c.Name(), round.plugins, round.trouble, round.troubles
	return round.rs, err
}

// round is one poll.
type round struct {
	*poll
	c        *munin.Client
	rs       []Reading
	kinds    []*spooled // of rs, where the node keeps history
	values   int
	plugins  int
	trouble  map[string]string
	troubles int
}

// all asks for everything of the names that are wanted.
func (r *round) all(ctx context.Context) error {
	ask := r.node.Ask
	if r.node.AskBanner {
		ask = r.c.Name()
	}
	n, err := r.one(ctx, ask, r.node.Name)
	if err != nil {
		return err
	}
	if r.node.Virtual {
		names, err := r.c.Nodes(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.EqualFold(name, r.c.Name()) || strings.EqualFold(name, ask) {
				continue
			}
			m, err := r.one(ctx, name, name)
			if err != nil {
				return err
			}
			n += m
		}
	}
	if n == 0 {
		return errors.New("it answers, and has no plugins" + under(ask))
	}
	return nil
}

func under(ask string) string {
	if ask == "" {
		return ""
	}
	return fmt.Sprintf(" under the name %.100q", ask)
}

// one asks for all plugins of one name and says how many there are.
func (r *round) one(ctx context.Context, ask, name string) (plugins int, err error) {
	list, err := r.c.List(ctx, ask)
	if err != nil {
		return 0, err
	}
	r.plugins += len(list)
	for _, plugin := range list {
		key := ask + " " + plugin
		k := r.known[key]
		if k == nil {
			k = &known{}
			r.known[key] = k
		}
		if k.seen {
			continue // listed twice
		}
		k.seen = true
		if err := r.plugin(ctx, k, plugin, name); err != nil {
			if e := (*munin.ServiceError)(nil); !errors.As(err, &e) {
				return len(list), err
			}
			r.bad(plugin, err)
			k.services = nil // it may describe itself otherwise when it works again
		}
	}
	return len(list), nil
}

// bad notes that a plugin gave nothing.
func (r *round) bad(plugin string, err error) {
	r.troubles++
	if len(r.trouble) >= maxTrouble {
		return
	}
	if r.trouble == nil {
		r.trouble = map[string]string{}
	}
	r.trouble[plugin] = err.Error()
}

// plugin asks one plugin for its description, if that is old, and its values.
func (r *round) plugin(ctx context.Context, k *known, plugin, name string) error {
	now := r.h.Boot()
	if k.services != nil && k.rate > r.interval && now < k.next {
		return nil
	}
	var values []munin.Value
	var texts []munin.Extinfo
	got := false
	if k.services == nil || k.dirty || now-k.at > configAge+phase(plugin, configAge/4) {
		a, err := r.c.Config(ctx, plugin)
		if err != nil {
			return err
		}
		k.described(a, now)
		values, got = a.Values, k.dirty
	}
	if !got && updates(k.services) {
		a, err := r.c.Fetch(ctx, plugin)
		if err != nil {
			return err
		}
		values, texts = a.Values, a.Extinfo
	}
	// A little early, or every second turn would be passed over.
	k.next = now + k.rate - r.interval/2
	r.add(k, name, values, texts)
	return nil
}

// described remembers a description; services that stayed the same stay the same in memory.
func (k *known) described(a munin.Answer, now time.Duration) {
	old := k.services
	k.services, k.at, k.dirty, k.rate = nil, now, len(a.Values) > 0, 0
	for i := range a.Services {
		s := &a.Services[i]
		s.Host = "" // it is listed under that name, which is the node's
		if text, ok := s.Get("update_rate"); ok {
			k.rate = max(k.rate, updateRate(text))
		}
		if i := slices.IndexFunc(old, func(o *munin.Service) bool { return o.Name == s.Name && o.Same(s) }); i >= 0 {
			s = old[i]
		}
		k.services = append(k.services, s)
	}
}

// updates says whether there is anything to fetch: a service with "update no" is drawn of others.
func updates(services []*munin.Service) bool {
	return slices.ContainsFunc(services, func(s *munin.Service) bool {
		text, _ := s.Get("update")
		return text != "no" && len(s.Fields) > 0
	})
}

// add makes readings of the values. What no description names makes the description old.
func (r *round) add(k *known, name string, values []munin.Value, texts []munin.Extinfo) {
	at, since := r.h.Now(), r.h.Boot()
	first := len(r.rs)
	index := make(map[string]int, len(k.services))
	for _, s := range k.services {
		if _, ok := index[s.Name]; ok || len(r.rs) >= maxReadings {
			continue
		}
		index[s.Name] = len(r.rs)
		r.rs = append(r.rs, Reading{Group: r.node.Group, Node: name, Service: k.texted.with(s, texts), At: at, Since: since})
	}
	for _, value := range values {
		i, ok := index[value.Service]
		if !ok || r.rs[i].Service.Field(value.Field) == nil {
			if since-k.at > misfitAge {
				k.at = -2 * configAge // ask again at the next turn
			}
			continue
		}
		if r.values++; r.values > maxNodeValues {
			break
		}
		value.Service = ""
		r.rs[i].Values = append(r.rs[i].Values, value)
	}
	kept := slices.DeleteFunc(r.rs[first:], func(rd Reading) bool { return len(rd.Values) == 0 })
	r.rs = r.rs[:first+len(kept)]
}

// NodesOf are the nodes that munin.conf says to poll, with its settings, and what stands in the way of others.
func NodesOf(conf *munin.MasterConf) (nodes []Node, problems []munin.Problem) {
	for _, h := range conf.Hosts {
		if h.Address == "" || !h.Update {
			continue
		}
		bad := func(err error) {
			problems = append(problems, munin.Problem{File: h.File, Line: h.Line, Msg: fmt.Sprintf("%s is not polled: %v", nodeName(h.Group, h.Name), err)})
		}
		address, err := munin.ParseAddress(h.Address)
		if err != nil {
			bad(err)
			continue
		}
		if address.Port == 0 && address.Scheme == "munin" {
			address.Port = uint16(h.Port)
		}
		n := Node{Group: h.Group, Name: h.Name, Address: address, AskBanner: h.UseNodeName}
		if !h.UseNodeName && !h.UseDefaultNode {
			n.Ask = h.Name
		}
		if n.Dial, err = dialOptions(conf, h); err != nil {
			bad(err)
			continue
		}
		nodes = append(nodes, n)
	}
	return nodes, problems
}

// dialOptions are the settings of munin.conf that concern the connection to one host.
func dialOptions(conf *munin.MasterConf, h *munin.ConfHost) (o munin.DialOptions, err error) {
	get := func(name string) string {
		s, _ := conf.Get(h.Group, h.Name, "", name)
		return s.Value
	}
	seconds := func(name string) time.Duration {
		if get(name) == "" || err != nil {
			return 0
		}
		n, e := strconv.Atoi(get(name))
		if e != nil || n < 1 || n > 3600 {
			err = fmt.Errorf("%s %.50q is no number of seconds from 1 to 3600", name, get(name))
		}
		return time.Duration(n) * time.Second
	}
	o.ConnectTimeout, o.Timeout = seconds("timeout"), seconds("timeout_fetch_one_node")
	if err != nil {
		return o, err
	}
	if text := get("local_address"); text != "" {
		if o.Local, err = netip.ParseAddr(text); err != nil {
			return o, fmt.Errorf("local_address %.50q is no IP address", text)
		}
	}
	if command, options := get("ssh_command"), get("ssh_options"); command != "" || options != "" {
		o.SSH = append(strings.Fields(cmp.Or(command, "ssh -T -o BatchMode=yes")), strings.Fields(options)...)
	}
	o.TLS, err = tlsOptions(get)
	return o, err
}

// tlsOptions reads the settings whose names begin with tls, and the files that they name.
func tlsOptions(get func(string) string) (o munin.TLS, err error) {
	o.Mode = munin.TLSMode(get("tls"))
	if o.Mode == "" || o.Mode == munin.TLSDisabled {
		return o, nil
	}
	key, certificate := get("tls_private_key"), get("tls_certificate")
	if pem := get("tls_pem"); pem != "" {
		key, certificate = cmp.Or(key, pem), cmp.Or(certificate, pem)
	}
	if key != "" && certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return o, fmt.Errorf("tls_private_key and tls_certificate: %w", err)
		}
		o.Certificate = &pair
	}
	if path := get("tls_ca_certificate"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return o, fmt.Errorf("tls_ca_certificate: %w", err)
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(text) {
			return o, fmt.Errorf("tls_ca_certificate: no certificate in %s", path)
		}
	}
	o.Verify = get("tls_verify_certificate") == "yes"
	if text := get("tls_verify_depth"); text != "" {
		if o.Depth, err = strconv.Atoi(text); err != nil {
			return o, fmt.Errorf("tls_verify_depth %.50q is no number", text)
		}
	}
	if text := get("tls_match"); text != "" {
		if o.Match, err = regexp.Compile(text); err != nil {
			return o, fmt.Errorf("tls_match: %w", err)
		}
	}
	return o, nil
}
