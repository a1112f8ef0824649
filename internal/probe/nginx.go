package probe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// nginxProbe reads the page of nginx's stub_status module
// (https://nginx.org/en/docs/http/ngx_http_stub_status_module.html). Where nobody says so, it is looked for where
// nginx's configuration puts it, and at the usual places.
var nginxProbe = Probe{
	Name: "nginx", Doubles: []string{"nginx_request", "nginx_status"},
	New: func(h *Host) (Reader, error) {
		if !anyThere(h.Root, "etc/nginx", "usr/sbin/nginx", "run/nginx.pid") {
			return nil, &Off{"no nginx here"}
		}
		return &pageReader{server: "nginx", find: h.findNginx, parse: parseNginx}, nil
	},
}

func (h *Host) findNginx(ctx context.Context) (place, error) {
	places := nginxPlaces(confFiles(h.Root, "etc/nginx/nginx.conf", "etc/nginx/conf.d/*", "etc/nginx/sites-enabled/*", "etc/nginx/snippets/*"))
	for _, path := range []string{"/nginx_status", "/stub_status", "/basic_status"} {
		places = append(places, place{url: "http://127.0.0.1" + path, host: "localhost"})
	}
	at, err := findPage(ctx, places, func(body []byte) error {
		_, err := parseNginx(body, place{})
		return err
	})
	switch {
	case ctx.Err() != nil:
		return place{}, ctx.Err()
	case isRefused(err):
		return place{}, &Off{"nginx is installed, but nobody listens at " + places[len(places)-1].url[:len("http://127.0.0.1")]}
	case err != nil:
		return place{}, &Off{"nginx shows no numbers (" + err.Error() + "); add to a server { } of its configuration: location = /nginx_status { stub_status; allow 127.0.0.1; deny all; }"}
	}
	return at, nil
}

// maxPlaces is how many places of a configuration are tried.
const maxPlaces = 20

// nginxPlaces finds where the configuration has a stub_status: the path of its location, at each address of its server.
func nginxPlaces(files [][]byte) []place {
	type block struct {
		kind   string
		name   string   // of a location
		listen []string // of a server
		sites  []string
		pages  []string
		ssl    bool
	}
	var found []place
	for _, text := range files {
		var open []block
		var line []string
		for _, w := range words(text, false) {
			switch w {
			case "{":
				b := block{}
				if len(line) > 0 {
					b.kind, b.name = line[0], line[len(line)-1]
				}
				if len(open) > 64 {
					return found
				}
				open, line = append(open, b), nil
			case "}":
				line = nil
				if len(open) == 0 {
					continue
				}
				b := open[len(open)-1]
				open = open[:len(open)-1]
				if b.kind != "server" {
					continue
				}
				if len(b.listen) == 0 {
					b.listen = []string{"80"}
				}
				for _, page := range b.pages {
					for _, l := range b.listen {
						host, port, ok := local(l)
						if !ok || len(found) == maxPlaces {
							continue
						}
						scheme := "http"
						if b.ssl && port != 80 {
							scheme = "https"
						}
						site := ""
						if len(b.sites) > 0 && !strings.ContainsAny(b.sites[0], "*~_ ") {
							site = b.sites[0]
						}
						found = append(found, place{pageURL(scheme, host, port, page), site})
					}
				}
			case ";":
				server := -1
				for i := range open {
					if open[i].kind == "server" {
						server = i
					}
				}
				if len(line) == 0 || server < 0 {
					line = nil
					continue
				}
				s := &open[server]
				switch line[0] {
				case "listen":
					if len(line) > 1 {
						s.listen = append(s.listen, line[1])
						s.ssl = s.ssl || strings.Contains(strings.Join(line[2:], " "), "ssl")
					}
				case "server_name":
					s.sites = append(s.sites, line[1:]...)
				case "stub_status":
					if b := open[len(open)-1]; b.kind == "location" && strings.HasPrefix(b.name, "/") {
						s.pages = append(s.pages, b.name)
					}
				}
				line = nil
			default:
				if len(line) < 32 {
					line = append(line, w)
				}
			}
		}
	}
	return found
}

var (
	nginxRequest = describe("nginx_request", `
		graph_title Nginx requests
		graph_args --base 1000
		graph_category nginx
		graph_vlabel Requests per ${graph_period}
		request.type DERIVE
		request.min 0
		request.label requests
		request.draw LINE`)
	nginxStatus = describe("nginx_status", `
		graph_title Nginx status
		graph_args --base 1000
		graph_category nginx
		graph_vlabel Connections
		total.label Active connections
		total.info Active connections
		total.draw LINE
		reading.label Reading
		reading.info Reading
		reading.draw LINE
		writing.label Writing
		writing.info Writing
		writing.draw LINE
		waiting.label Waiting
		waiting.info Waiting
		waiting.draw LINE`)
	nginxConnections = describe("nginx_connections", `
		graph_title Nginx connections
		graph_args --base 1000 -l 0
		graph_category nginx
		graph_vlabel Connections per ${graph_period}
		accepted.label accepted
		accepted.type DERIVE
		accepted.min 0
		dropped.label dropped for lack of resources
		dropped.type DERIVE
		dropped.min 0`)
)

// parseNginx reads four lines:
//
//	Active connections: 291
//	server accepts handled requests
//	 16630948 16630948 31070465
//	Reading: 6 Writing: 179 Waiting: 106
func parseNginx(body []byte, _ place) ([]Reading, error) {
	words := strings.Fields(string(body[:min(len(body), 4096)]))
	at := func(i int, before ...string) (float64, bool) {
		for j, w := range before {
			if k := i - len(before) + j; k < 0 || k >= len(words) || words[k] != w {
				return 0, false
			}
		}
		if i >= len(words) {
			return 0, false
		}
		n, err := strconv.ParseUint(words[i], 10, 64)
		return float64(n), err == nil
	}
	values := map[string]float64{}
	for _, f := range []struct {
		name   string
		at     int
		before []string
	}{
		{"total", 2, []string{"Active", "connections:"}}, {"accepted", 7, []string{"server", "accepts", "handled", "requests"}},
		{"handled", 8, nil}, {"request", 9, nil}, {"reading", 11, []string{"Reading:"}}, {"writing", 13, []string{"Writing:"}}, {"waiting", 15, []string{"Waiting:"}},
	} {
		n, ok := at(f.at, f.before...)
		if !ok {
			return nil, errors.New("that is no page of stub_status")
		}
		values[f.name] = n
	}
	if len(words) > 16 {
		return nil, fmt.Errorf("%d words where stub_status has 16", len(words))
	}
	values["dropped"] = max(0, values["accepted"]-values["handled"])
	return []Reading{
		readingOf(nginxRequest, from(values)), readingOf(nginxStatus, from(values)), readingOf(nginxConnections, from(values)),
	}, nil
}
