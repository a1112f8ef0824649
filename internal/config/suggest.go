package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// aliases are keys of fail2ban's jail.conf that people type from habit, with ours.
var aliases = map[string]string{
	"backend":           "sources",
	"bantime.factor":    "bantime_factor",
	"bantime.increment": "bantime_factor",
	"bantime.maxtime":   "bantime_max",
	"ignoreip":          "allow",
	"journalmatch":      "sources",
	"logpath":           "sources",
	"port":              "ports",
}

// suggest answers what to do about key, which the table does not have: the key that was meant, the table it belongs to,
// or "" if nothing comes near.
func suggest(table, key string) string {
	if name := aliases[key]; name != "" && find(table, name) != nil {
		return "here it is called " + name
	}
	if k := nearest(key, func(k *Key) bool { return k.Table == table }); k != nil {
		return "did you mean " + k.Name + "?"
	}
	k := nearest(key, func(k *Key) bool { return k.Table != table })
	switch {
	case k == nil:
		return ""
	case k.Name == key:
		return "it belongs " + place(k.Table)
	}
	return fmt.Sprintf("did you mean %s? It belongs %s", k.Name, place(k.Table))
}

// nearest is the key among those that could be meant by a slip of at most two letters, nil if none is as near.
func nearest(key string, among func(*Key) bool) *Key {
	var best *Key
	bestDist := 3
	for i := range keys {
		if k := &keys[i]; among(k) {
			if d := distance(key, k.Name); d < bestDist && d < len(k.Name)/2 {
				best, bestDist = k, d
			}
		}
	}
	return best
}

// place says where the keys of a table stand.
func place(table string) string {
	switch {
	case table == "":
		return "to the top of the file, before the first [table]"
	case several(table):
		return "under a [[" + table + "]]"
	}
	return "under [" + table + "]"
}

// distance is how many letters must be added, dropped or replaced to make b out of a (Levenshtein). Texts so long that
// they cannot be slips of one of our keys are just far away.
func distance(a, b string) int {
	const far = 64
	if len(a) > far || len(b) > far {
		return far
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// clip shortens a foreign text for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut]) + "..."
}
