package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
)

// bindProbe reads the counters of BIND's statistics channel
// (https://bind9.readthedocs.io/en/latest/reference.html#statistics-channels), where named.conf has one for this machine.
var bindProbe = Probe{
	Name: "bind", Doubles: []string{"bind9", "bind9_rndc"},
	New: func(h *Host) (Reader, error) {
		files := confFiles(h.Root, "etc/bind/named.conf", "etc/bind/named.conf.*", "etc/named.conf")
		if len(files) == 0 {
			return nil, &Off{"no BIND here"}
		}
		places := bindPlaces(files)
		if len(places) == 0 {
			return nil, &Off{"BIND shows no numbers; add to its configuration: statistics-channels { inet 127.0.0.1 port 8053 allow { 127.0.0.1; }; };"}
		}
		find := func(ctx context.Context) (place, error) {
			at, err := findPage(ctx, places, func(body []byte) error { _, err := parseBind(body, place{}); return err })
			if err != nil && ctx.Err() == nil {
				err = &Off{"the statistics channel of BIND does not answer: " + err.Error()}
			}
			return at, err
		}
		return &pageReader{server: "BIND", find: find, parse: parseBind}, nil
	},
}

// bindPlaces finds statistics-channels { inet ADDRESS [port N] [allow ...]; };
func bindPlaces(files [][]byte) []place {
	var all []place
	for _, text := range files {
		all = append(all, bindPlacesOf(words(text, true))...)
	}
	return all[:min(len(all), maxPlaces)]
}

func bindPlacesOf(w []string) []place {
	var all []place
	for i := 0; i < len(w); i++ {
		if w[i] != "statistics-channels" {
			continue
		}
		for depth := 0; i < len(w); i++ {
			switch w[i] {
			case "{":
				depth++
			case "}":
				depth--
			case "inet":
				if i+1 == len(w) || depth != 1 {
					continue
				}
				port := "80"
				if i+3 < len(w) && w[i+2] == "port" {
					port = w[i+3]
				}
				if host, n, ok := local(net.JoinHostPort(w[i+1], port)); ok {
					all = append(all, place{url: pageURL("http", host, n, "/json/v1/server")})
				}
			}
			if depth == 0 && w[i] == "}" {
				break
			}
		}
	}
	return all
}

var (
	// The fields are those of Munin's bind9_rndc.
	bindQueries = describe("bind9_rndc", `
		graph_title DNS Queries by status
		graph_vlabel queries / ${graph_period}
		graph_category dns
		graph_info Queries by what became of them.
		query_requests.label requests
		query_requests.type DERIVE
		query_requests.min 0
		query_responses.label responses
		query_responses.type DERIVE
		query_responses.min 0
		query_success.label success
		query_success.type DERIVE
		query_success.min 0
		query_auth_answer.label auth_answer
		query_auth_answer.type DERIVE
		query_auth_answer.min 0
		query_nonauth_answer.label nonauth_answer
		query_nonauth_answer.type DERIVE
		query_nonauth_answer.min 0
		query_nxrrset.label nxrrset
		query_nxrrset.type DERIVE
		query_nxrrset.min 0
		query_nxdomain.label nxdomain
		query_nxdomain.type DERIVE
		query_nxdomain.min 0
		query_failure.label failure
		query_failure.type DERIVE
		query_failure.min 0
		query_recursion.label recursion
		query_recursion.type DERIVE
		query_recursion.min 0
		query_duplicates.label duplicates
		query_duplicates.type DERIVE
		query_duplicates.min 0
		query_transfers.label transfers
		query_transfers.type DERIVE
		query_transfers.min 0
		query_rejections.label rejections
		query_rejections.type DERIVE
		query_rejections.min 0`)
	bindCache = describe("bind_cache", `
		graph_title DNS cache
		graph_args --base 1000 -l 0
		graph_vlabel lookups / ${graph_period}
		graph_category dns
		hits.label answered
		hits.type DERIVE
		hits.min 0
		hits.draw AREA
		misses.label not in it
		misses.type DERIVE
		misses.min 0
		misses.draw STACK`)
)

// parseBind reads the JSON of /json/v1/server. A counter that is zero so far is left out of it.
func parseBind(body []byte, _ place) ([]Reading, error) {
	var page struct {
		Boot    string             `json:"boot-time"`
		Codes   map[string]float64 `json:"rcodes"`
		Types   map[string]float64 `json:"qtypes"`
		Counts  map[string]float64 `json:"nsstats"`
		Opcodes map[string]float64 `json:"opcodes"`
		Views   map[string]struct {
			Resolver struct {
				Cache map[string]float64 `json:"cachestats"`
			} `json:"resolver"`
		} `json:"views"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, errors.New("that is no page of BIND's statistics")
	}
	if page.Boot == "" || page.Opcodes == nil {
		return nil, errors.New("that is no page of BIND's statistics")
	}
	n := page.Counts
	values := map[string]float64{
		"query_requests":  n["Requestv4"] + n["Requestv6"],
		"query_responses": n["Response"], "query_success": n["QrySuccess"], "query_auth_answer": n["QryAuthAns"], "query_nonauth_answer": n["QryNoauthAns"],
		"query_nxrrset": n["QryNxrrset"], "query_nxdomain": n["QryNXDOMAIN"], "query_failure": n["QrySERVFAIL"] + n["QryFailure"], "query_recursion": n["QryRecursion"],
		"query_duplicates": n["QryDuplicate"], "query_transfers": n["XfrReqDone"], "query_rejections": n["RecQryRej"],
	}
	for _, v := range page.Views {
		for field, key := range map[string]string{"hits": "QueryHits", "misses": "QueryMisses"} {
			values[field] += v.Resolver.Cache[key]
		}
	}
	for k, v := range values {
		if v < 0 || math.IsInf(v, 0) {
			values[k] = math.NaN()
		}
	}
	out := []Reading{readingOf(bindQueries, from(values)), readingOf(bindCache, from(values))}
	for _, g := range []struct {
		name, title, vlabel, prefix string
		counts                      map[string]float64
	}{
		{"bind_rcodes", "DNS answers by return code", "answers", "rcode_", page.Codes}, {"bind_qtypes", "DNS queries by type", "queries", "type_", page.Types},
	} {
		t := newTally(g.name, fmt.Sprintf("graph_title %s\ngraph_args --base 1000 -l 0\ngraph_vlabel %s / ${graph_period}\ngraph_category dns\n", g.title, g.vlabel), derive)
		for name, v := range g.counts {
			// Numbers without a name are reserved.
			if _, err := strconv.Atoi(name); err == nil || strings.HasPrefix(name, "RESERVED") || v < 0 || len(t.order) == maxUnboundTypes {
				continue
			}
			t.add(g.prefix+fieldName(name), plain(name), v)
		}
		slices.Sort(t.order)
		if len(t.order) > 0 {
			out = append(out, readingOf(describe(t.service, t.describe()), from(t.values)))
		}
	}
	return out, nil
}
