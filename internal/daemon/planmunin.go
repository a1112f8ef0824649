package daemon

import (
	"fmt"
	"os"

	"tocsin/internal/config"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
)

// MuninPlan is what Munin's configuration was understood to mean, for `tocsin check`.
type MuninPlan struct {
	File     string
	Nodes    []string // that are asked
	Virtual  []string // services that are drawn of other services' curves
	Contacts []string // who have a command
	Problems []munin.Problem
}

// CheckMunin reads the configuration of Munin that c names, and asks nobody. It returns nil where c names none.
func CheckMunin(c *config.Config) *MuninPlan {
	if !c.Watch.Enabled || c.Watch.MuninConf == "" {
		return nil
	}
	p := &MuninPlan{File: c.Watch.MuninConf}
	m, err := munin.ReadMasterConf(p.File)
	if err != nil {
		p.Problems = []munin.Problem{{Msg: err.Error()}}
		return p
	}
	nodes, problems := probe.NodesOf(m)
	p.Problems = append(m.Problems, problems...)
	host, _ := os.Hostname()
	own := serverKey{c.Watch.Group, nodeName(c.Watch.Name, host)}
	for _, n := range nodes {
		if (serverKey{n.Group, n.Name}) == own {
			p.Problems = append(p.Problems, munin.Problem{Msg: fmt.Sprintf("%s/%s is this machine, which is read without being asked", n.Group, n.Name)})
			continue
		}
		p.Nodes = append(p.Nodes, fmt.Sprintf("%s/%s at %s", n.Group, n.Name, n.Address))
	}
	for _, v := range m.Virtuals() {
		p.Virtual = append(p.Virtual, fmt.Sprintf("%s/%s %s", v.Group, v.Host, v.Service.Name))
	}
	for _, contact := range m.Contacts {
		if contact.Command != "" {
			p.Contacts = append(p.Contacts, contact.Name)
		}
	}
	return p
}
