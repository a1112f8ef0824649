package filter

import (
	"maps"
	"slices"
)

// found keeps the named groups of the last line on which a rule fitted.
type found struct{ of map[string]any }

// Groups are the named groups of the last line on which a rule fitted, by name, as fail2ban keeps them with a failure: a
// group that took no part is missing, one that matched nothing is "". Those that only steer (F-NOFAIL and its like) are
// left out. Groups of the earlier lines of a session are among them, and under "users" every user name that it tried, in
// alphabetical order. The values are strings, but for users, which is a []string. Nil unless Options.Groups is set.
func (f *Filter) Groups() map[string]any {
	if f.groups == nil {
		return nil
	}
	return f.groups.of
}

// steering are the groups that say what a line means, and tell nothing else.
var steering = []slot{slotContent, slotNoFail, slotForget, slotGained, slotEnded, slotOnce}

// named are the groups of the match that f.spans describes.
func (f *Filter) named(text []byte) map[string]any {
	of := map[string]any{}
	for i, s := range f.spans {
		if s.From >= 0 && !slices.Contains(steering, i) && !isSkipLines(f.names[i]) {
			of[f.names[i]] = string(text[s.From:s.To])
		}
	}
	return of
}

// follow adds the groups of a line to those of its session.
func (g *found) follow(s *session) {
	users, _ := s.groups["users"].([]string)
	if user, _ := g.of["user"].(string); user != "" && !slices.Contains(users, user) {
		users = append(slices.Clone(users), user)
		slices.Sort(users)
	}
	all := maps.Clone(s.groups)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, g.of)
	if len(users) > 0 {
		all["users"] = users
	}
	s.groups, g.of = all, all
}
