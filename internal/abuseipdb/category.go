package abuseipdb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxCategories is how many categories a report may name.
const MaxCategories = 30

type category struct {
	name   string
	severe bool
}

// categories are the kinds of abuse that AbuseIPDB knows, by id (https://www.abuseipdb.com/categories). Severe are those
// of harm done or a machine taken over; the others are attempts and nuisances, of which there are many.
var categories = [...]category{
	1:  {"DNS Compromise", true},
	2:  {"DNS Poisoning", true},
	3:  {"Fraud Orders", true},
	4:  {"DDoS Attack", true},
	5:  {"FTP Brute-Force", false},
	6:  {"Ping of Death", true},
	7:  {"Phishing", true},
	8:  {"Fraud VoIP", true},
	9:  {"Open Proxy", false},
	10: {"Web Spam", false},
	11: {"Email Spam", false},
	12: {"Blog Spam", false},
	13: {"VPN IP", false},
	14: {"Port Scan", false},
	15: {"Hacking", true},
	16: {"SQL Injection", true},
	17: {"Spoofing", false},
	18: {"Brute-Force", false},
	19: {"Bad Web Bot", false},
	20: {"Exploited Host", true},
	21: {"Web App Attack", false},
	22: {"SSH", false},
	23: {"IoT Targeted", true},
}

func known(id int) bool { return id >= 1 && id < len(categories) }

// CategoryName is the name that AbuseIPDB shows for a category, or "category N" for an id it did not have when this was
// written; old reports hold some.
func CategoryName(id int) string {
	if !known(id) {
		return "category " + strconv.Itoa(id)
	}
	return categories[id].name
}

// Severe says whether one of the categories is worth the part of a day's quota that is kept back for what matters most.
func Severe(ids []int) bool {
	return slices.ContainsFunc(ids, func(id int) bool { return known(id) && categories[id].severe })
}

// CheckCategories says what is wrong with the categories of a report; nil if it can be sent with them.
func CheckCategories(ids []int) error {
	if len(ids) == 0 {
		return errors.New("a report needs a category, such as 18 (Brute-Force)")
	}
	if len(ids) > MaxCategories {
		return fmt.Errorf("%d categories: a report names at most %d", len(ids), MaxCategories)
	}
	for _, id := range ids {
		if !known(id) {
			return fmt.Errorf("AbuseIPDB has no category %d: they go from 1 to %d (https://www.abuseipdb.com/categories)", id, len(categories)-1)
		}
	}
	return nil
}

// ParseCategories reads categories as people write them: ids or names with commas between, "18,22" or "Brute-Force, SSH".
// They come sorted, each once.
func ParseCategories(text string) ([]int, error) {
	const most = 1000 // bytes; more than all names together
	if len(text) > most {
		return nil, fmt.Errorf("the categories have %d bytes: at most %d are read", len(text), most)
	}
	var ids []int
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		id := slices.IndexFunc(categories[:], func(c category) bool { return strings.EqualFold(c.name, word) })
		if id < 0 {
			n, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("AbuseIPDB has no category %q: write its number or its name (https://www.abuseipdb.com/categories)", printable(word))
			}
			id = n
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids, CheckCategories(ids)
}

// joinCategories writes ids as the server takes them.
func joinCategories(ids []int) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(id)
	}
	return strings.Join(words, ",")
}
