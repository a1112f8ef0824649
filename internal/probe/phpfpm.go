package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"

	"tocsin/internal/munin"
)

// maxPools bounds the pools of PHP-FPM that are read.
const maxPools = 200

// phpfpmProbe asks each pool of PHP-FPM for its status, over its own socket, without a web server. The sockets belong to the
// web server, so root asks.
var phpfpmProbe = Probe{
	Name: "phpfpm", Doubles: []string{"php_fpm_status", "phpfpm_status", "phpfpm_processes", "phpfpm_connections"}, Root: true,
	New: func(h *Host) (Reader, error) {
		pools := fpmPools(confFiles(h.Root, "etc/php/*/fpm/pool.d/*.conf", "etc/php-fpm.d/*.conf"))
		if len(pools) == 0 {
			return nil, &Off{"no PHP-FPM here"}
		}
		r := &fpmReader{h: h, pools: slices.DeleteFunc(slices.Clone(pools), func(p fpmPool) bool { return p.status == "" })}
		if len(r.pools) == 0 {
			return nil, &Off{fmt.Sprintf("no pool of PHP-FPM shows its status; add to that of %s: pm.status_path = /status", plain(pools[0].name))}
		}
		return r, nil
	},
}

// fpmPool is what a pool's file says.
type fpmPool struct {
	name, network, address, status string
	service                        *munin.Service
}

// fpmPools reads pool.d (https://www.php.net/manual/en/install.fpm.configuration.php).
func fpmPools(files [][]byte) []fpmPool {
	var all []fpmPool
	for _, text := range files {
		var p *fpmPool
		for line := range bytes.Lines(text) {
			s := strings.TrimSpace(string(line))
			if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
				p = nil
				if name := s[1 : len(s)-1]; name != "global" && name != "" && len(all) < maxPools {
					all = append(all, fpmPool{name: name})
					p = &all[len(all)-1]
				}
				continue
			}
			key, value, ok := strings.Cut(s, "=")
			if !ok || p == nil || strings.HasPrefix(s, ";") {
				continue
			}
			value, _, _ = strings.Cut(value, ";")
			value = strings.Trim(strings.TrimSpace(value), `"'`)
			value = strings.ReplaceAll(value, "$pool", p.name)
			switch strings.TrimSpace(key) {
			case "listen":
				if p.network == "" {
					p.network, p.address = fpmAddress(value)
				}
			case "pm.status_listen":
				p.network, p.address = fpmAddress(value)
			case "pm.status_path":
				p.status = value
			}
		}
	}
	return slices.DeleteFunc(all, func(p fpmPool) bool { return p.network == "" })
}

func fpmAddress(listen string) (network, address string) {
	if strings.HasPrefix(listen, "/") {
		return "unix", listen
	}
	if host, port, ok := local(listen); ok {
		return "tcp", net.JoinHostPort(host, fmt.Sprint(port))
	}
	return "", ""
}

type fpmReader struct {
	h     *Host
	pools []fpmPool
}

// fpmStatus is the answer in JSON.
type fpmStatus struct {
	Pool       string  `json:"pool"`
	Accepted   float64 `json:"accepted conn"`
	Queue      float64 `json:"listen queue"`
	MaxQueue   float64 `json:"max listen queue"`
	Idle       float64 `json:"idle processes"`
	Active     float64 `json:"active processes"`
	Total      float64 `json:"total processes"`
	MaxReached float64 `json:"max children reached"`
	Slow       float64 `json:"slow requests"`
}

func (r *fpmReader) Read(ctx context.Context) ([]Reading, error) {
	var out []Reading
	var failed error
	sum := map[string]float64{}
	accepted := newTally("phpfpm_connections", "graph_title php-fpm requests\ngraph_args --base 1000 -l 0\ngraph_vlabel requests per ${graph_period}\ngraph_category webserver\n", derive+"draw AREASTACK\n")
	queue := newTally("phpfpm_queue", "graph_title php-fpm waiting requests\ngraph_args --base 1000 -l 0\ngraph_vlabel requests that wait for a process\ngraph_category webserver\n", "")
	full := newTally("phpfpm_full", "graph_title php-fpm out of processes\ngraph_args --base 1000 -l 0\ngraph_vlabel times per ${graph_period}\ngraph_period hour\ngraph_category webserver\ngraph_info How often pm.max_children was too low.\n", derive)
	slow := newTally("phpfpm_slow", "graph_title php-fpm slow requests\ngraph_args --base 1000 -l 0\ngraph_vlabel requests per ${graph_period}\ngraph_period hour\ngraph_category webserver\n", derive)
	names := ""
	for i := range r.pools {
		p := &r.pools[i]
		s, err := r.ask(ctx, p)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("pool %s: %w", plain(p.name), err))
			continue
		}
		values := map[string]float64{"idle": s.Idle, "active": s.Active, "total": s.Total}
		for k, v := range values {
			sum[k] += v
		}
		field, label := fieldName(p.name), plain(p.name)
		names += " " + label
		accepted.add(field, label, s.Accepted)
		queue.add(field, label, s.Queue)
		full.add(field, label, s.MaxReached)
		slow.add(field, label, s.Slow)
		if len(r.pools) > 1 {
			if p.service == nil {
				p.service = describe("php_fpm_status."+field, fpmText(label))
			}
			out = append(out, readingOf(p.service, from(values)))
		}
	}
	if names == "" {
		return nil, &Off{fmt.Sprintf("no pool of PHP-FPM answers: %v", failed)}
	}
	out = append(out, readingOf(describe("php_fpm_status", fpmText(strings.TrimSpace(plain(names)))), from(sum)))
	for _, t := range []*tally{accepted, queue, full, slow} {
		out = append(out, readingOf(describe(t.service, t.describe()), from(t.values)))
	}
	return out, failed
}

func fpmText(pools string) string {
	return strings.ReplaceAll(`
		graph_title php-fpm status $P
		graph_args --base 1000 -l 0
		graph_vlabel Processes
		graph_scale yes
		graph_category webserver
		graph_info This graph shows the php-fpm process manager status from pool: $P
		active.label Active processes
		active.type GAUGE
		active.draw AREA
		active.info The number of active processes
		idle.label Idle processes
		idle.type GAUGE
		idle.draw STACK
		idle.info The number of idle processes
		total.label Total processes
		total.type GAUGE
		total.draw LINE2
		total.info The number of idle + active processes`, "$P", pools)
}

func (r *fpmReader) ask(ctx context.Context, p *fpmPool) (fpmStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	address := p.address
	if p.network == "unix" {
		address = r.h.at(address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, p.network, address)
	if err != nil {
		return fpmStatus{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	body, err := askFastCGI(conn, p.status, "json")
	if err != nil {
		return fpmStatus{}, err
	}
	return parseFPM(body)
}

func parseFPM(answer []byte) (fpmStatus, error) {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return fpmStatus{}, errors.New("its answer has no head")
	}
	for line := range bytes.Lines(head) {
		if status, is := bytes.CutPrefix(line, []byte("Status: ")); is && !bytes.HasPrefix(status, []byte("200")) {
			return fpmStatus{}, fmt.Errorf("it answers %s", plain(string(bytes.TrimSpace(status))))
		}
	}
	s := fpmStatus{Idle: math.NaN(), Active: math.NaN()}
	if err := json.Unmarshal(body, &s); err != nil {
		return fpmStatus{}, fmt.Errorf("its answer is no status: %w", err)
	}
	if math.IsNaN(s.Idle) || math.IsNaN(s.Active) {
		return fpmStatus{}, errors.New("its answer is no status")
	}
	return s, nil
}

// Records of FastCGI (https://fastcgi-archives.github.io/FastCGI_Specification.html).
const (
	fcgiBegin, fcgiEnd, fcgiParams, fcgiStdin, fcgiStdout, fcgiStderr = 1, 3, 4, 5, 6, 7

	fcgiRecordHead = 8
)

// askFastCGI sends one request for a page and returns the answer: head, an empty line, body.
func askFastCGI(conn net.Conn, page, query string) ([]byte, error) {
	var params []byte
	for _, p := range [][2]string{
		{"REQUEST_METHOD", "GET"}, {"SCRIPT_NAME", page}, {"SCRIPT_FILENAME", page}, {"REQUEST_URI", page + "?" + query}, {"QUERY_STRING", query},
		{"SERVER_PROTOCOL", "HTTP/1.1"}, {"GATEWAY_INTERFACE", "CGI/1.1"}, {"REMOTE_ADDR", "127.0.0.1"}, {"SERVER_NAME", "localhost"},
	} {
		for _, s := range p {
			if len(s) > 127 {
				return nil, errors.New("the path of its status is too long")
			}
			params = append(params, byte(len(s)))
		}
		params = append(append(params, p[0]...), p[1]...)
	}
	var b []byte
	record := func(kind byte, content []byte) {
		b = append(b, 1, kind, 0, 1)
		b = binary.BigEndian.AppendUint16(b, uint16(len(content)))
		b = append(append(b, 0, 0), content...)
	}
	record(fcgiBegin, []byte{0, 1, 0, 0, 0, 0, 0, 0}) // a responder; close when done
	record(fcgiParams, params)
	record(fcgiParams, nil)
	record(fcgiStdin, nil)
	if _, err := conn.Write(b); err != nil {
		return nil, err
	}
	var out []byte
	in := bufio.NewReader(conn)
	for total := 0; total < maxStatusPage; {
		var head [fcgiRecordHead]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return nil, fmt.Errorf("its answer is torn: %w", err)
		}
		n, padding := int(binary.BigEndian.Uint16(head[4:])), int(head[6])
		content := make([]byte, n+padding)
		if _, err := io.ReadFull(in, content); err != nil {
			return nil, fmt.Errorf("its answer is torn: %w", err)
		}
		total += fcgiRecordHead + n + padding
		switch head[1] {
		case fcgiStdout:
			out = append(out, content[:n]...)
		case fcgiEnd:
			return out, nil
		case fcgiStderr: // its own log has it too
		}
	}
	return nil, errors.New("its answer does not end")
}
