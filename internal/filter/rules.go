package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tocsin/internal/fail2ban"
	"tocsin/internal/regex"
)

// slot is the place of a named group among all named groups of a filter.
type slot = int

// The slots of the groups that the engine itself understands. Those that only a user's filter names come behind them.
const (
	slotIP4     slot = iota
	slotIP6          // with slotCIDR a network
	slotCIDR         //
	slotDNS          // a host name
	slotID           // <F-ID>: what is banned in place of the address
	slotUser         //
	slotPort         // <F-PORT/>
	slotContent      // of prefregex: the part of the line that failregex sees
	slotSession      // <F-MLFID>: lines with the same text here belong together
	slotNoFail       // <F-NOFAIL>: the line counts as nothing, it only helps
	slotForget       // <F-MLFFORGET>: the session ends with this line
	slotGained       // <F-MLFGAINED>: somebody logged in
	slotEnded        // <F-MLFENDED>: their session ended; fail2ban does not know it
	slotOnce         // <F-MLFONCE>: a failure only if the session has had none; fail2ban does not know it
	firstOwnSlot
)

// tells says whether a session remembers the text of a slot. Of the others it matters only that they took part.
func tells(i slot) bool { return i <= slotPort || i >= firstOwnSlot }

// wellKnown names the groups of the slots above.
var wellKnown = [firstOwnSlot]string{"ip4", "ip6", "cidr", "dns", "fid", "user", "fport", "content",
	"mlfid", "nofail", "mlfforget", "mlfgained", "mlfended", "mlfonce"}

// anyID are the groups of which a filter needs one: without them nobody could be blamed.
var anyID = []slot{slotID, slotIP4, slotIP6, slotDNS, slotSession}

// groups is the layout of one expression's named groups.
type groups struct {
	slots []regex.Capture // every named group, in the order of the pattern
	alts  []altGroup      // alt_user, alt_user1, ..: sorted by name
}

// altGroup fills the slot into if that is empty: <F-ALT_USER> fills user.
type altGroup struct{ from, into slot }

// parts is what a line tells, or a session with all its lines: the texts of the groups, by slot; empty where there is none.
type parts [][]byte

// span is a part of the line without its date, which is short.
type span = regex.Span

var unset = span{From: -1, To: -1}

func empty(s span) bool { return s.To <= s.From }

// rules is a compiled list of expressions, with the layout of each. It is immutable.
type rules struct {
	set      *regex.Set
	groups   []groups
	required [][]regex.Clause // by rule
}

// matching is rules at work for one source.
type matching struct {
	*rules
	matcher *regex.Matcher // nil until a text is matched: most filters of a large set never see one
}

// work puts rules to work; nil if there are none.
func (r *rules) work() *matching {
	if r == nil {
		return nil
	}
	return &matching{rules: r}
}

// match finds the first rule that matches in text, or -1.
func (m *matching) match(text []byte) int {
	if m.matcher == nil {
		m.matcher = m.set.NewMatcher()
	}
	return m.matcher.Match(text)
}

// stats are those of the matcher; zero if there are no rules.
func (m *matching) stats() regex.Stats {
	if m == nil || m.matcher == nil {
		return regex.Stats{}
	}
	return m.matcher.Stats()
}

// compiler turns the lines of a filter into rules and collects every mistake.
type compiler struct {
	names     []string      // by slot
	used      map[slot]bool // slots that some expression fills
	hostNames bool          // <HOST> takes names
	errs      []error
}

func newCompiler(def fail2ban.Filter) *compiler {
	return &compiler{names: slices.Clone(wellKnown[:]), used: map[slot]bool{}, hostNames: def.Usedns != "no"}
}

func (c *compiler) fail(re fail2ban.Regex, kind, msg, hint string) {
	c.errs = append(c.errs, &fail2ban.Error{Pos: re.Pos, Msg: kind + ": " + msg, Hint: hint})
}

// one compiles a single line; nil if it is mistaken.
func (c *compiler) one(re fail2ban.Regex, kind string, flags regex.Flags) *regex.Regexp {
	e, err := expand(re.Text, c.hostNames)
	if err != nil {
		c.fail(re, kind, err.Error(), "")
		return nil
	}
	compiled, err := regex.Compile(e.text, flags)
	if err != nil {
		var syntax *regex.SyntaxError
		if !errors.As(err, &syntax) {
			c.fail(re, kind, err.Error(), "")
			return nil
		}
		at := min(e.source(syntax.Offset), len(re.Text))
		c.fail(re, kind, fmt.Sprintf("%s at character %d, at %q", syntax.Msg, at+1, excerpt(re.Text[at:])), syntax.Hint)
		return nil
	}
	if slices.Contains(compiled.GroupNames(), "host") {
		c.fail(re, kind, "the group (?P<host>..) is of old; nothing reads it", "write <HOST>")
		return nil
	}
	return compiled
}

// excerpt is the beginning of a text, for an error.
func excerpt(s string) string {
	const most = 30
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + ".."
}

// list compiles a list of lines into rules; nil if the list is empty or holds a mistake.
func (c *compiler) list(kind string, list []fail2ban.Regex, flags regex.Flags) *rules {
	var all []*regex.Regexp
	r := &rules{}
	for _, re := range list {
		if compiled := c.one(re, kind, flags); compiled != nil {
			all = append(all, compiled)
			r.groups = append(r.groups, c.layout(compiled.GroupNames()))
			r.required = append(r.required, compiled.Required())
		}
	}
	if len(all) == 0 || len(all) < len(list) {
		return nil
	}
	var err error
	if r.set, err = regex.NewSet(all, regex.Options{}); err != nil {
		c.fail(list[0], kind, err.Error(), "")
		return nil
	}
	return r
}

func (c *compiler) slot(name string) slot {
	if i := slices.Index(c.names, name); i >= 0 {
		return i
	}
	c.names = append(c.names, name)
	return len(c.names) - 1
}

func (c *compiler) layout(names []string) groups {
	var g groups
	for group, name := range names {
		if name != "" {
			g.slots = append(g.slots, regex.Capture{Group: group, Slot: c.slot(name)})
			c.used[c.slot(name)] = true
		}
	}
	alts := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, "alt_") })
	slices.Sort(alts)
	for _, name := range alts {
		into := strings.TrimRight(strings.TrimPrefix(name, "alt_"), "_0123456789")
		g.alts = append(g.alts, altGroup{c.slot(name), c.slot(into)})
		c.used[c.slot(into)] = true
	}
	return g
}

// identifies says whether one of the groups could name somebody.
func (g groups) identifies() bool {
	return slices.ContainsFunc(g.slots, func(s regex.Capture) bool { return slices.Contains(anyID, s.Slot) })
}

// group is the number of the group in a slot, 0 if there is none.
func (g groups) group(in slot) int {
	for _, s := range g.slots {
		if s.Slot == in {
			return s.Group
		}
	}
	return 0
}

// fills are the slots that a match may fill, a few of many.
type fills struct {
	slots []slot
	told  []slot // those of Program.told among them
}

// fillsOf lists what prefregex and one failregex fill.
func (p *Program) fillsOf(rule int) (all fills) {
	groups := []groups{p.rules.fail.groups[rule]}
	if p.rules.prefix != nil {
		groups = append(groups, p.rules.prefix.groups...)
	}
	for _, g := range groups {
		for _, s := range g.slots {
			all.slots = append(all.slots, s.Slot)
		}
		for _, a := range g.alts {
			all.slots = append(all.slots, a.into)
		}
	}
	slices.Sort(all.slots)
	all.slots = slices.Compact(all.slots)
	for _, i := range all.slots {
		if slices.Contains(p.told, i) {
			all.told = append(all.told, i)
		}
	}
	return all
}

// overlay copies the groups of the rule that matched into spans. text began at byte offset of the line. A group that
// took no part erases what an earlier expression put there, as in fail2ban.
func (r *matching) overlay(rule, offset int, spans []span) {
	g := &r.groups[rule]
	r.matcher.Spans(spans, g.slots, offset)
	for _, a := range g.alts {
		if empty(spans[a.into]) && !empty(spans[a.from]) {
			spans[a.into] = spans[a.from]
		}
	}
}
