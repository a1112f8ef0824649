package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// apacheProbe reads the page of Apache's mod_status (https://httpd.apache.org/docs/2.4/mod/mod_status.html), at the first
// port that Apache listens on and that shows one. Debian has it switched on.
var apacheProbe = Probe{
	Name: "apache", Doubles: []string{"apache_accesses", "apache_processes", "apache_volume"},
	New: func(h *Host) (Reader, error) {
		if !anyThere(h.Root, "etc/apache2/apache2.conf", "etc/httpd/conf/httpd.conf") {
			return nil, &Off{"no Apache here"}
		}
		return &pageReader{server: "Apache", find: h.findApache, parse: parseApache}, nil
	},
}

func (h *Host) findApache(ctx context.Context) (place, error) {
	var places []place
	for _, text := range confFiles(h.Root, "etc/apache2/ports.conf", "etc/apache2/apache2.conf", "etc/httpd/conf/httpd.conf") {
		for line := range bytes.Lines(text) {
			words := strings.Fields(string(line))
			if len(words) < 2 || !strings.EqualFold(words[0], "Listen") || len(places) == maxPlaces {
				continue
			}
			host, port, ok := local(words[1])
			if !ok {
				continue
			}
			scheme := "http"
			if port == 443 || len(words) > 2 && words[2] == "https" {
				scheme = "https"
			}
			places = append(places, place{pageURL(scheme, host, port, "/server-status") + "?auto", "localhost"})
		}
	}
	if places == nil {
		places = []place{{"http://127.0.0.1/server-status?auto", "localhost"}}
	}
	at, err := findPage(ctx, places, func(body []byte) error {
		_, err := parseApache(body, places[0])
		return err
	})
	switch {
	case ctx.Err() != nil:
		return place{}, ctx.Err()
	case isRefused(err):
		return place{}, &Off{"Apache is installed, but does not listen"}
	case err != nil:
		return place{}, &Off{"Apache shows no numbers (" + err.Error() + "); run: a2enmod status && systemctl reload apache2"}
	}
	return at, nil
}

// parseApache reads "Key: value" lines. Munin's fields have the port in their names.
func parseApache(body []byte, p place) ([]Reading, error) {
	page := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			page[key] = value
		}
	}
	number := func(key string) float64 {
		v, err := strconv.ParseFloat(page[key], 64)
		if err != nil || math.IsInf(v, 0) || v < 0 {
			return math.NaN()
		}
		return v
	}
	board, ok := page["Scoreboard"]
	if busy := number("BusyWorkers"); !ok || math.IsNaN(busy) {
		return nil, errors.New("that is no page of mod_status")
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	values := map[string]float64{
		"accesses" + port: number("Total Accesses"),
		"volume" + port:   1024 * number("Total kBytes"),
		"busy" + port:     number("BusyWorkers"),
		"idle" + port:     number("IdleWorkers"),
		"free" + port:     float64(strings.Count(board, ".")),
		// Milliseconds of work so far: as a rate, requests that are worked on at a time, in thousandths.
		"duration" + port: number("Total Duration"),
	}
	text := func(name, s string) Reading {
		return readingOf(describe(name, strings.ReplaceAll(s, "$P", port)), from(values))
	}
	readings := []Reading{
		text("apache_accesses", `
			graph_title Apache accesses
			graph_args --base 1000
			graph_vlabel accesses / ${graph_period}
			graph_category apache
			accesses$P.label port $P
			accesses$P.type DERIVE
			accesses$P.max 1000000
			accesses$P.min 0
			accesses$P.info The number of accesses (pages and other items served) globally on the Apache server`),
		text("apache_processes", `
			graph_title Apache processes
			graph_args --base 1000 -l 0
			graph_category apache
			graph_order busy$P idle$P free$P
			graph_vlabel processes
			graph_total total
			busy$P.label busy servers $P
			busy$P.draw AREA
			busy$P.colour 33cc00
			idle$P.label idle servers $P
			idle$P.draw STACK
			idle$P.colour 0033ff
			free$P.label free slots $P
			free$P.draw STACK
			free$P.colour ccff00`),
		text("apache_volume", `
			graph_title Apache volume
			graph_args --base 1000
			graph_vlabel bytes per ${graph_period}
			graph_category apache
			volume$P.label port $P
			volume$P.type DERIVE
			volume$P.max 1000000000
			volume$P.min 0`),
	}
	if _, ok := page["Total Duration"]; ok {
		readings = append(readings, text("apache_duration", `
			graph_title Apache time at work
			graph_args --base 1000 -l 0
			graph_vlabel requests at work on average
			graph_category apache
			graph_info Divided by the accesses it is the time that one takes.
			duration$P.label port $P
			duration$P.type DERIVE
			duration$P.cdef duration$P,1000,/
			duration$P.min 0`))
	}
	return readings, nil
}
