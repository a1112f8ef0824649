package probe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os/user"
	"slices"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// mariadbProbe reads the counters of MariaDB or MySQL over its unix socket, as the user that the socket sees: root, who has
// an account from the start, or whom the program runs as. No password is known or needed.
var mariadbProbe = Probe{
	Name: "mariadb", Root: true,
	Doubles: []string{"mysql_bytes", "mysql_queries", "mysql_slowqueries", "mysql_threads", "mysql_commands", "mysql_connections", "mysql_select_types",
		"mysql_table_locks", "mysql_network_traffic", "mysql_slow", "mysql_tmp_tables", "mysql_innodb_bpool", "mysql_innodb_bpool_act", "mysql_innodb_rows", "mysql_sorts"},
	New: func(h *Host) (Reader, error) {
		for _, path := range []string{"run/mysqld/mysqld.sock", "var/lib/mysql/mysql.sock", "var/run/mysqld/mysqld.sock"} {
			if anyThere(h.Root, path) {
				return &mariadbReader{socket: h.at(path)}, nil
			}
		}
		return nil, &Off{"no MariaDB or MySQL listens here"}
	},
}

type mariadbReader struct {
	socket string
	conn   *mysqlConn
	vars   map[string]string
	asked  time.Time // for vars
}

func (r *mariadbReader) Read(ctx context.Context) ([]Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := r.status(ctx)
	if err != nil {
		r.close()
		var refused *mysqlError
		switch {
		case isRefused(err):
			return nil, &Off{"nobody listens at " + r.socket}
		case errors.As(err, &refused) && refused.code == errAccessDenied:
			return nil, &Off{fmt.Sprintf("MariaDB has no account for %s; run: mariadb -e \"CREATE USER %[1]s@localhost IDENTIFIED VIA unix_socket\"", r.user())}
		}
		return nil, fmt.Errorf("MariaDB: %w", err)
	}
	return mariadbReadings(status, r.vars), nil
}

func (r *mariadbReader) user() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

func (r *mariadbReader) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// status asks over one lasting connection. One that broke is opened again.
func (r *mariadbReader) status(ctx context.Context) (map[string]string, error) {
	if r.conn != nil {
		if rows, err := r.conn.ask(ctx, "SHOW GLOBAL STATUS"); err == nil {
			return rows, r.variables(ctx)
		}
		r.close()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
	if err != nil {
		return nil, err
	}
	if r.conn, err = newMySQL(ctx, conn, r.user()); err != nil {
		conn.Close()
		r.conn = nil
		return nil, err
	}
	rows, err := r.conn.ask(ctx, "SHOW GLOBAL STATUS")
	if err != nil {
		return nil, err
	}
	return rows, r.variables(ctx)
}

// variables asks for settings once an hour.
func (r *mariadbReader) variables(ctx context.Context) (err error) {
	if r.vars == nil || time.Since(r.asked) > time.Hour {
		r.asked = time.Now()
		r.vars, err = r.conn.ask(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('max_connections', 'table_open_cache')")
	}
	return err
}

// mysqlGraphs are those of Munin's plugin mysql_, with its fields.
var mysqlGraphs = []struct{ name, text, fields string }{
	{"mysql_commands", "graph_title Command Counters\ngraph_args --base 1000\ngraph_total Questions\ngraph_vlabel Commands per ${graph_period}",
		"Com_delete d s Delete|Com_insert d s Insert|Com_insert_select d s Insert select|Com_load d s Load Data|Com_replace d s Replace|Com_replace_select d s Replace select|Com_select d s Select|Com_update d s Update|Com_update_multi d s Update multi"},
	{"mysql_connections", "graph_title Connections\ngraph_args --base 1000\ngraph_vlabel Connections per ${graph_period}",
		"max_connections g A Max connections|Max_used_connections g A Max used|Aborted_clients d L Aborted clients|Aborted_connects d L Aborted connects|Threads_connected g L Threads connected|Threads_running g L Threads running|Connections d L New connections"},
	{"mysql_innodb_bpool", "graph_title InnoDB Buffer Pool\ngraph_args --base 1024\ngraph_vlabel Pages",
		"ib_bpool_size g A Buffer pool size|ib_bpool_dbpages g A Database pages|ib_bpool_free g 2 Free pages|ib_bpool_modpages g 2 Modified pages"},
	{"mysql_innodb_bpool_act", "graph_title InnoDB Buffer Pool Activity\ngraph_args --base 1000\ngraph_total Total\ngraph_vlabel Activity per ${graph_period}",
		"ib_bpool_read d 2 Pages read|ib_bpool_created d 2 Pages created|ib_bpool_written d 2 Pages written"},
	{"mysql_innodb_rows", "graph_title InnoDB Row Operations\ngraph_args --base 1000\ngraph_total Total\ngraph_vlabel Operations per ${graph_period}",
		"Innodb_rows_deleted d s Deletes|Innodb_rows_inserted d s Inserts|Innodb_rows_read d s Reads|Innodb_rows_updated d s Updates"},
	{"mysql_innodb_locks", "graph_title InnoDB row locks\ngraph_args --base 1000 -l 0\ngraph_vlabel waits per ${graph_period}",
		"Innodb_row_lock_waits d 2 Waits|Innodb_deadlocks d 2 Deadlocks|Innodb_row_lock_current_waits g L Waiting now"},
	{"mysql_network_traffic", "graph_title Network Traffic\ngraph_args --base 1024\ngraph_vlabel Bytes received (-) / sent (+) per ${graph_period}",
		"Bytes_received d n Bytes transfered|Bytes_sent d N Bytes transfered"},
	{"mysql_select_types", "graph_title Select types\ngraph_args --base 1000\ngraph_total Total\ngraph_vlabel Commands per ${graph_period}",
		"Select_full_join d s Full join|Select_full_range_join d s Full range|Select_range d s Range|Select_range_check d s Range check|Select_scan d s Scan"},
	{"mysql_slow", "graph_title Slow Queries\ngraph_args --base 1000\ngraph_vlabel Slow queries per ${graph_period}", "Slow_queries d 2 Slow queries"},
	{"mysql_sorts", "graph_title Sorts\ngraph_args --base 1000\ngraph_vlabel Sorts / ${graph_period}",
		"Sort_rows d 2 Rows sorted|Sort_range d 2 Range|Sort_merge_passes d 2 Merge passes|Sort_scan d 2 Scan"},
	{"mysql_table_locks", "graph_title Table locks\ngraph_args --base 1000\ngraph_vlabel locks per ${graph_period}",
		"Table_locks_immediate d 2 Table locks immed|Table_locks_waited d 2 Table locks waited"},
	{"mysql_tmp_tables", "graph_title Temporary objects\ngraph_args --base 1000\ngraph_vlabel Objects per ${graph_period}",
		"Created_tmp_disk_tables d 2 Temp disk tables|Created_tmp_tables d 2 Temp tables|Created_tmp_files d 2 Temp files"},
	{"mysql_files_tables", "graph_title Files and tables\ngraph_args --base 1000\ngraph_vlabel Tables",
		"table_open_cache g A Table cache|Open_files g 2 Open files|Open_tables g 2 Open tables|Opened_tables d 2 Opened tables"},
}

// mysqlNames are fields whose number has another name.
var mysqlNames = map[string]string{
	"ib_bpool_size": "Innodb_buffer_pool_pages_total", "ib_bpool_dbpages": "Innodb_buffer_pool_pages_data", "ib_bpool_free": "Innodb_buffer_pool_pages_free",
	"ib_bpool_modpages": "Innodb_buffer_pool_pages_dirty", "ib_bpool_read": "Innodb_pages_read", "ib_bpool_created": "Innodb_pages_created",
	"ib_bpool_written": "Innodb_pages_written",
}

// describeMySQL makes the descriptions of the table: name, kind, drawing, label.
func describeMySQL() []*munin.Service {
	draws := map[string]string{"s": "draw AREASTACK", "A": "draw AREA", "L": "draw LINE1", "2": "draw LINE2", "n": "graph no", "N": "negative Bytes_received"}
	var all []*munin.Service
	for _, g := range mysqlGraphs {
		var text strings.Builder
		fmt.Fprintf(&text, "%s\ngraph_category mysql2\n", g.text)
		for f := range strings.SplitSeq(g.fields, "|") {
			w := strings.SplitN(f, " ", 4)
			kind := "GAUGE"
			if w[1] == "d" {
				kind = "DERIVE"
			}
			fmt.Fprintf(&text, "%[1]s.label %[2]s\n%[1]s.type %[3]s\n%[1]s.min 0\n%[1]s.%[4]s\n", w[0], w[3], kind, draws[w[2]])
		}
		all = append(all, describe(g.name, text.String()))
	}
	return all
}

var mysqlServices = describeMySQL()

func mariadbReadings(status, vars map[string]string) []Reading {
	var out []Reading
	for _, s := range mysqlServices {
		r := readingOf(s, func(field string) float64 {
			name := field
			if n, ok := mysqlNames[field]; ok {
				name = n
			}
			text, ok := status[name]
			if !ok {
				text = vars[name]
			}
			v, err := parseDecimal([]byte(text))
			if err != nil {
				return math.NaN()
			}
			return v
		})
		// What this version does not count is not drawn.
		if slices.ContainsFunc(r.Values, func(v munin.Value) bool { return !math.IsNaN(v.V) }) {
			out = append(out, r)
		}
	}
	return out
}

// Bounds of what a server may say, and the numbers of its protocol that are needed
// (https://mariadb.com/docs/server/reference/clientserver-protocol).
const (
	maxMySQLPacket  = 1 << 20
	maxMySQLRows    = 5000
	errAccessDenied = 1045

	mysqlCaps = 0x1 | 0x200 | 0x8000 | 0x80000 // long password, protocol 4.1, its authentication, plugins of it
)

// mysqlConn is a connection that asks questions with answers of two columns, and nothing else.
type mysqlConn struct {
	conn net.Conn
	in   *bufio.Reader
	seq  byte
}

// mysqlError is an error that the server told.
type mysqlError struct {
	code uint16
	text string
}

func (e *mysqlError) Error() string { return plain(e.text) }

func (c *mysqlConn) Close() error { return c.conn.Close() }

func (c *mysqlConn) deadline(ctx context.Context) {
	if d, ok := ctx.Deadline(); ok {
		c.conn.SetDeadline(d)
	}
}

// newMySQL answers the server's greeting. The socket tells it who we are: whatever method it asks for is answered with
// nothing.
func newMySQL(ctx context.Context, conn net.Conn, user string) (*mysqlConn, error) {
	c := &mysqlConn{conn: conn, in: bufio.NewReader(conn)}
	c.deadline(ctx)
	greeting, err := c.packet()
	if err != nil {
		return nil, err
	}
	if err := mysqlErrorOf(greeting); err != nil {
		return nil, err
	}
	if greeting[0] != 10 {
		return nil, fmt.Errorf("it speaks protocol %d, not 10", greeting[0])
	}
	answer := binary.LittleEndian.AppendUint32(nil, mysqlCaps)
	answer = binary.LittleEndian.AppendUint32(answer, maxMySQLPacket)
	answer = append(answer, 33) // utf8
	answer = append(answer, make([]byte, 23)...)
	answer = append(append(answer, user...), 0)
	answer = append(answer, 0) // no password
	answer = append(append(answer, "mysql_native_password"...), 0)
	if err := c.send(answer); err != nil {
		return nil, err
	}
	for range 4 {
		p, err := c.packet()
		if err != nil {
			return nil, err
		}
		switch p[0] {
		case 0x00:
			return c, nil
		case 0xfe, 0x01: // another method, or more of it
			if err := c.send(nil); err != nil {
				return nil, err
			}
		default:
			if err := mysqlErrorOf(p); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("an answer that begins with %#x", p[0])
		}
	}
	return nil, errors.New("it does not stop asking who we are")
}

func mysqlErrorOf(p []byte) error {
	if p[0] != 0xff || len(p) < 3 {
		return nil
	}
	text := p[3:]
	if len(text) > 6 && text[0] == '#' {
		text = text[6:] // the SQL state
	}
	return &mysqlError{binary.LittleEndian.Uint16(p[1:]), string(text)}
}

// packet reads one packet, which is never empty.
func (c *mysqlConn) packet() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n == 0 || n > maxMySQLPacket {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	c.seq = head[3] + 1
	p := make([]byte, n)
	_, err := io.ReadFull(c.in, p)
	return p, err
}

func (c *mysqlConn) send(p []byte) error {
	n := len(p)
	_, err := c.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), c.seq}, p...))
	return err
}

// ask sends a question and returns the first two columns of the answer.
func (c *mysqlConn) ask(ctx context.Context, question string) (map[string]string, error) {
	c.deadline(ctx)
	c.seq = 0
	if err := c.send(append([]byte{3}, question...)); err != nil {
		return nil, err
	}
	p, err := c.packet()
	if err != nil {
		return nil, err
	}
	if err := mysqlErrorOf(p); err != nil {
		return nil, err
	}
	if p[0] != 2 || len(p) != 1 {
		return nil, errors.New("an answer that has not two columns")
	}
	for range 3 { // the two columns, and their end
		if p, err = c.packet(); err != nil {
			return nil, err
		}
	}
	if !isMySQLEnd(p) {
		return nil, errors.New("an answer whose columns do not end")
	}
	rows := map[string]string{}
	for {
		if p, err = c.packet(); err != nil {
			return nil, err
		}
		if isMySQLEnd(p) {
			return rows, nil
		}
		if err := mysqlErrorOf(p); err != nil {
			return nil, err
		}
		name, rest, ok := mysqlText(p)
		value, _, ok2 := mysqlText(rest)
		if !ok || !ok2 {
			return nil, errors.New("a torn row")
		}
		if len(rows) == maxMySQLRows {
			return nil, fmt.Errorf("an answer of more than %d rows", maxMySQLRows)
		}
		rows[name] = value
	}
}

func isMySQLEnd(p []byte) bool { return p[0] == 0xfe && len(p) < 9 }

// mysqlText cuts a text with its length before it off p.
func mysqlText(p []byte) (text string, rest []byte, ok bool) {
	if len(p) == 0 {
		return "", nil, false
	}
	n, head := uint64(p[0]), 1
	switch p[0] {
	case 0xfb: // NULL
		return "", p[1:], true
	case 0xfc:
		head = 3
	case 0xfd:
		head = 4
	case 0xfe, 0xff:
		return "", nil, false
	}
	if len(p) < head {
		return "", nil, false
	}
	if head > 1 {
		n = 0
		for i := head - 1; i > 0; i-- {
			n = n<<8 | uint64(p[i])
		}
	}
	if uint64(len(p)-head) < n {
		return "", nil, false
	}
	return string(p[head : head+int(n)]), p[head+int(n):], true
}
