package alert

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"tocsin"
)

// snapshotVersion is that of the form in which the state is kept.
const snapshotVersion = 1

// snapshot is what a restart must not forget. Times are nanoseconds that passed.
type snapshot struct {
	Version   int             `json:"version"`
	Passed    time.Duration   `json:"passed"`
	Next      int64           `json:"next"`
	Checks    []savedCheck    `json:"checks"`
	Incidents []savedIncident `json:"incidents"`
	Nodes     []savedNode     `json:"nodes"`
	Groups    []savedGroup    `json:"groups"`
}

type savedLatch struct {
	On    bool          `json:"on"`
	Raw   bool          `json:"raw"`
	Since time.Duration `json:"since"`
}

type savedCheck struct {
	Key      string       `json:"key"`
	Group    string       `json:"group"`
	Node     string       `json:"node"`
	Service  string       `json:"service"`
	Warning  savedLatch   `json:"warning"`
	Critical savedLatch   `json:"critical"`
	Level    tocsin.Level `json:"level"`
	Unknowns int          `json:"unknowns"`
	Began    time.Time    `json:"began"`
}

type savedIncident struct {
	tocsin.Incident
	Value    *float64        // instead of Incident's, which may be no number
	Contacts []string        `json:"contacts"`
	Alias    string          `json:"alias"`
	Judged   tocsin.Level    `json:"judged"`
	Most     tocsin.Level    `json:"most"`
	Turns    []time.Duration `json:"turns"`
	Last     time.Duration   `json:"last"`
	Mute     bool            `json:"mute"`
}

type savedNode struct {
	Group  string                `json:"group"`
	Node   string                `json:"node"`
	Asked  bool                  `json:"asked"`
	Silent bool                  `json:"silent"`
	Since  time.Time             `json:"since"`
	Out    savedLatch            `json:"out"`
	Rules  map[string]savedLatch `json:"rules"`
}

type savedGroup struct {
	Key   string     `json:"key"`
	Rule  string     `json:"rule"`
	Group string     `json:"group"`
	Latch savedLatch `json:"latch"`
	Began time.Time  `json:"began"`
	Named []string   `json:"named"`
}

func (l latch) saved() savedLatch { return savedLatch{l.on, l.raw, l.since} }

func (s savedLatch) latch() latch { return latch{s.On, s.Raw, s.Since} }

// Snapshot is what Restore needs to go on, as text. It holds only what is not as it should be, and the servers.
func (e *Engine) Snapshot() ([]byte, error) {
	s := snapshot{Version: snapshotVersion, Passed: e.passed, Next: e.next}
	for _, svc := range e.services {
		for _, c := range svc.checks {
			if c.level != tocsin.Fine || c.raisedW.raw || c.raisedC.raw || c.raisedW.on || c.raisedC.on || c.unknowns > 0 {
				s.Checks = append(s.Checks, savedCheck{c.key, svc.key.group, svc.key.node, svc.key.service, c.raisedW.saved(), c.raisedC.saved(), c.level, c.unknowns, c.began})
			}
		}
	}
	for _, of := range e.restored {
		for _, c := range of {
			s.Checks = append(s.Checks, c)
		}
	}
	for _, in := range e.open {
		si := savedIncident{Incident: in.copied(), Contacts: in.contacts, Alias: in.alias, Judged: in.level, Most: in.most, Turns: in.turns, Last: in.last, Mute: in.mute}
		si.Incident.Value = 0
		if v := in.Incident.Value; !math.IsNaN(v) && !math.IsInf(v, 0) {
			si.Value = &v
		}
		s.Incidents = append(s.Incidents, si)
	}
	for _, n := range e.nodes {
		sn := savedNode{Group: n.key.Group, Node: n.key.Name, Asked: n.wasAsked, Silent: n.failing, Since: n.since, Out: n.out.saved(), Rules: map[string]savedLatch{}}
		for i := range n.quiets {
			sn.Rules[n.quiets[i].key] = n.quiets[i].latch.saved()
		}
		s.Nodes = append(s.Nodes, sn)
	}
	for _, t := range e.groups {
		if !t.latch.on && !t.latch.raw {
			continue
		}
		sg := savedGroup{Key: t.key, Rule: t.rule.Name, Group: t.group, Latch: t.latch.saved(), Began: t.began}
		for name := range t.named {
			sg.Named = append(sg.Named, name)
		}
		s.Groups = append(s.Groups, sg)
	}
	return json.Marshal(s)
}

// Restore goes on where a snapshot was taken. Time in which nothing ran does not count as having lasted. It must be called
// before anything else.
func (e *Engine) Restore(text []byte) error {
	var s snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("restore the state of warnings: %w", err)
	}
	if s.Version != snapshotVersion || s.Passed < 0 {
		return fmt.Errorf("restore the state of warnings: it has version %d, not %d", s.Version, snapshotVersion)
	}
	e.passed, e.started, e.swept = s.Passed, s.Passed, s.Passed
	e.next = max(e.next, s.Next)
	for _, c := range s.Checks {
		key := serviceKey{c.Group, c.Node, c.Service}
		if e.restored[key] == nil {
			e.restored[key] = map[string]savedCheck{}
		}
		e.restored[key][c.Key] = c
	}
	for _, si := range s.Incidents {
		if len(e.open) >= maxIncidents {
			break
		}
		in := &incident{Incident: si.Incident, contacts: si.Contacts, alias: si.Alias, level: si.Judged, most: si.Most, turns: si.Turns, last: si.Last, mute: si.Mute}
		in.Value = math.NaN()
		if si.Value != nil {
			in.Value = *si.Value
		}
		if f := e.o.Rules.byName[in.Rule]; f != nil {
			in.rule = f.variants[0]
		}
		e.open[in.Key] = in
		if in.ID != 0 {
			e.byID[in.ID] = in
			e.next = max(e.next, in.ID+1)
		}
	}
	for _, sn := range s.Nodes {
		n := e.node(Node{sn.Group, sn.Node})
		if n == nil {
			break
		}
		n.wasAsked, n.failing, n.since, n.out = sn.Asked, sn.Silent || sn.Out.Raw, sn.Since, sn.Out.latch()
		for i := range n.quiets {
			if l, ok := sn.Rules[n.quiets[i].key]; ok {
				n.quiets[i].latch = l.latch()
			}
		}
	}
	e.restoreGroups(s.Groups)
	e.endUnruled()
	return nil
}

func (e *Engine) restoreGroups(saved []savedGroup) {
	for _, sg := range saved {
		for _, t := range e.groups {
			if t.key == sg.Key {
				t.latch, t.began = sg.Latch.latch(), sg.Began
				for _, name := range sg.Named {
					t.named[name] = true
				}
			}
		}
	}
}

// endUnruled ends what no rule stands behind any more: the configuration has changed.
func (e *Engine) endUnruled() {
	alive := map[string]bool{}
	for _, n := range e.nodes {
		for i := range n.quiets {
			alive[n.quiets[i].key] = true
		}
	}
	for _, t := range e.groups {
		alive[t.key] = true
	}
	for key, in := range e.open {
		f := e.o.Rules.byName[in.Rule]
		if f == nil || f.variants[0].kind >= silences && !alive[key] {
			e.gone(key) // what is about a curve is ended when its service is read
		}
	}
}

// adopt gives a new check what was known of it before the restart, or has its history asked for.
func (e *Engine) adopt(c *check) {
	if s, ok := e.restored[c.svc.key][c.key]; ok {
		c.raisedW, c.raisedC, c.level, c.unknowns, c.began = s.Warning.latch(), s.Critical.latch(), s.Level, s.Unknowns, s.Began
		delete(e.restored[c.svc.key], c.key)
	}
	if c.line != nil {
		e.wantLine(c)
	}
}
