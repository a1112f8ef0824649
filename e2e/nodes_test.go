package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

// park is a number of servers that are not there: each answers as its munin-node would, and has a past.
type park struct {
	servers []*parked
}

// parked is one of them. Its values are functions of the time, so that past and present are one curve.
type parked struct {
	group, name string
	port        uint16
	k           float64 // what makes it differ from the others
	services    []parkedService
	silent      bool // its node does not answer
}

// parkedService is one graph: what its plugin says to config, and its curves.
type parkedService struct {
	name, described string
	fields          []parkedField
}

type parkedField struct {
	name string
	at   func(t float64) float64 // of Unix seconds
}

// step is the average, the least and the most of the step that ends at a time.
func (f *parkedField) step(end time.Time, step time.Duration) (row [3]float64) {
	const parts = 12
	sum, least, most := 0.0, math.Inf(1), math.Inf(-1)
	for i := range parts {
		v := f.at(float64(end.Unix()) - step.Seconds()*(float64(i)+0.5)/parts)
		sum, least, most = sum+v, min(least, v), max(most, v)
	}
	return [3]float64{sum / parts, least, most}
}

// daily is a curve that is low at night and high in the afternoon, with some disorder that is the same each time.
func daily(k, low, high float64) func(float64) float64 {
	return func(t float64) float64 {
		day := 0.5 - 0.5*math.Cos(2*math.Pi*(t/86400-0.12))
		_, noise := math.Modf(math.Abs(math.Sin(math.Floor(t/300)*12.9898+k*78.233) * 43758.5453))
		wave := 0.5 + 0.5*math.Sin(t/5000+k)
		return low + (high-low)*(0.62*day+0.2*wave*day+0.18*noise*noise)
	}
}

// add makes a server with what the first page shows; its disk is as full as said.
func (p *park) add(group, name string, port uint16, disk float64) *parked {
	k := float64(len(p.servers) + 1)
	busy, net := 8+4*math.Mod(k*7, 9), 4e5*(1+math.Mod(k*5, 11))
	user, system, wait := daily(k, 1, busy), daily(k+3, 0.5, busy/3), daily(k+5, 0.1, 4)
	down, up := daily(k+1, net/9, net), daily(k+2, net/7, net*1.7)
	s := &parked{group: group, name: name, port: port, k: k}
	s.services = []parkedService{
		{"cpu", "graph_title CPU usage\ngraph_args --base 1000 -r --lower-limit 0 --upper-limit 100\ngraph_vlabel %\ngraph_scale no\ngraph_category system\n" +
			"system.label system\nsystem.draw AREA\nuser.label user\nuser.draw STACK\niowait.label iowait\niowait.draw STACK\nidle.label idle\nidle.draw STACK\n",
			[]parkedField{{"system", system}, {"user", user}, {"iowait", wait}, {"idle", func(t float64) float64 { return 100 - system(t) - user(t) - wait(t) }}}},
		{"memory", "graph_title Memory usage\ngraph_args --base 1024 -l 0\ngraph_vlabel Bytes\ngraph_category system\n" +
			"apps.label apps\napps.draw AREA\ncached.label cache\ncached.draw STACK\nfree.label unused\nfree.draw STACK\n",
			[]parkedField{{"apps", daily(k, 1.2e9, 2.6e9)}, {"cached", daily(k+1, 2e9, 3e9)}, {"free", func(t float64) float64 { return 8e9 - daily(k, 1.2e9, 2.6e9)(t) - daily(k+1, 2e9, 3e9)(t) }}}},
		{"df", "graph_title Disk usage in percent\ngraph_args --upper-limit 100 -l 0\ngraph_vlabel %\ngraph_scale no\ngraph_category disk\n" +
			"_dev_vda1.label /\n_dev_vdb1.label /var\n",
			[]parkedField{{"_dev_vda1", func(t float64) float64 { return 31 + k + daily(k, 0, 1)(t) }}, {"_dev_vdb1", func(t float64) float64 { return disk + daily(k, -1, 0)(t) }}}},
		{"if_ens3", "graph_title ens3 traffic\ngraph_order down up\ngraph_args --base 1000\ngraph_vlabel bits in (-) / out (+) per ${graph_period}\ngraph_category network\n" +
			"down.label received\ndown.graph no\ndown.cdef down,8,*\nup.label bps\nup.cdef up,8,*\nup.negative down\nup.draw LINE1\n",
			[]parkedField{{"down", down}, {"up", up}}},
		{"bans_day", "graph_title Bans per day\ngraph_args --base 1000 -l 0\ngraph_vlabel bans of the last 24 hours\ngraph_category guard\nsshd.label sshd\nsshd.draw AREA\nnginx.label nginx\nnginx.draw STACK\n",
			[]parkedField{{"sshd", func(t float64) float64 { return math.Floor(daily(k, 8, 40)(t)) }}, {"nginx", func(t float64) float64 { return math.Floor(daily(k+4, 0, 9)(t)) }}}},
	}
	p.servers = append(p.servers, s)
	return s
}

// settings are the lines of tocsin.toml that ask all of them.
func (p *park) settings() string {
	var b strings.Builder
	for _, s := range p.servers {
		fmt.Fprintf(&b, "[[watch.node]]\nname = %q\ngroup = %q\naddress = \"munin://127.0.0.1:%d\"\ninterval = \"10s\"\n", s.name, s.group, s.port)
	}
	return b.String()
}

// answer lets those of the servers that do not answer yet answer on the host. stop ends them all.
func (p *park) answer(h *lab.Host, some []*parked) (stop func(), err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []io.Closer
	keep := func(c io.Closer) { mu.Lock(); open = append(open, c); mu.Unlock() }
	stop = func() {
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	}
	for _, s := range some {
		if s.silent {
			continue
		}
		var l net.Listener
		if err := h.Do(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
			return err
		}); err != nil {
			stop()
			return nil, err
		}
		keep(l)
		all.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // closed
				}
				keep(conn)
				all.Go(func() { s.talk(conn); conn.Close() })
			}
		})
	}
	return stop, nil
}

// talk is a conversation with a master.
func (s *parked) talk(conn net.Conn) {
	fmt.Fprintf(conn, "# munin node at %s\n", s.name)
	for in := bufio.NewScanner(conn); in.Scan(); {
		word, what, _ := strings.Cut(in.Text(), " ")
		var said strings.Builder
		switch word {
		case "cap":
			said.WriteString("cap multigraph\n")
		case "nodes":
			said.WriteString(s.name + "\n.\n")
		case "list":
			for _, one := range s.services {
				said.WriteString(one.name + " ")
			}
			said.WriteString("\n")
		case "config", "fetch":
			for _, one := range s.services {
				if one.name != what {
					continue
				}
				if word == "config" {
					said.WriteString(one.described)
					break
				}
				now := float64(time.Now().Unix())
				for _, f := range one.fields {
					fmt.Fprintf(&said, "%s.value %.6g\n", f.name, f.at(now))
				}
			}
			said.WriteString(".\n")
		case "quit":
			return
		default:
			said.WriteString("# Unknown command. Try cap, list, nodes, config, fetch, version or quit\n")
		}
		if _, err := io.WriteString(conn, said.String()); err != nil {
			return
		}
	}
}

// table is one consolidation of a past.
type table struct {
	step  time.Duration
	reach time.Duration
}

// tables are those that Munin keeps, and those of a single day.
var (
	allTables = []table{{5 * time.Minute, 42 * time.Hour}, {30 * time.Minute, 9 * 24 * time.Hour}, {2 * time.Hour, 45 * 24 * time.Hour}, {24 * time.Hour, 450 * 24 * time.Hour}}
	dayTables = []table{{15 * time.Minute, 25 * time.Hour}}
)

// remember hands the past of some servers to the watch process, as `tocsin import` does.
func (p *park) remember(ctx context.Context, watch *api.WatchClient, some []*parked, tables []table, now time.Time) (api.History, error) {
	return watch.ImportHistory(ctx, func(to io.Writer) error {
		for _, s := range some {
			for _, service := range s.services {
				for _, f := range service.fields {
					h := &api.HistorySeries{Group: s.group, Node: s.name, Service: service.name, Field: f.name, Described: service.described}
					for _, t := range tables {
						var all [3]api.HistoryArchive
						for i, of := range []string{"average", "min", "max"} {
							all[i] = api.HistoryArchive{Step: int64(t.step.Seconds()), Of: of}
						}
						end := now.Truncate(t.step)
						for at := end.Add(-t.reach); !at.After(end); at = at.Add(t.step) {
							for i, v := range f.step(at, t.step) {
								all[i].Rows = append(all[i].Rows, api.HistoryRow{T: at.UnixMilli(), V: v})
							}
						}
						h.Archives = append(h.Archives, all[:]...)
					}
					if err := api.WriteHistory(to, h); err != nil {
						return err
					}
				}
			}
		}
		return api.EndHistory(to)
	})
}
