package probe

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// postgresqlProbe reads PostgreSQL's statistics over its unix socket, as the user that the program runs as; the server knows
// that user by the socket. Of several clusters on a machine the one with the lowest port is read.
var postgresqlProbe = Probe{
	Name: "postgresql", Timeout: 10 * time.Second, Interval: 30 * time.Second,
	Doubles: []string{"postgres_connections_ALL", "postgres_connections_db", "postgres_users", "postgres_locks_ALL", "postgres_cache_ALL", "postgres_transactions_ALL",
		"postgres_bgwriter", "postgres_checkpoints", "postgres_size_ALL", "postgres_xlog"},
	New: func(h *Host) (Reader, error) {
		sockets, _ := filepath.Glob(h.at("run/postgresql/.s.PGSQL.*"))
		port := 0
		for _, s := range sockets {
			n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(s), ".s.PGSQL."))
			if err == nil && (port == 0 || n < port) {
				port = n
			}
		}
		if port == 0 {
			return nil, &Off{"no PostgreSQL listens here"}
		}
		name := "root"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		return &postgresReader{folder: h.at("run/postgresql"), port: port, user: name}, nil
	},
}

type postgresReader struct {
	folder string
	port   int
	user   string

	conn   *pgconn.PgConn
	sizes  [][3]string // asked once an hour: it opens every file
	sizeAt time.Time
}

// maxNames bounds the databases and users that are told apart.
const maxNames = 200

// Read asks over one lasting connection.
func (r *postgresReader) Read(ctx context.Context) ([]Reading, error) {
	rows, err := r.ask(ctx)
	if err == nil {
		return postgresReadings(append(rows, r.sizes...))
	}
	if r.conn != nil {
		r.conn.Close(ctx)
		r.conn = nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var refused *pgconn.PgError
	switch {
	case isRefused(err):
		return nil, &Off{fmt.Sprintf("nobody listens at %s/.s.PGSQL.%d", r.folder, r.port)}
	case errors.As(err, &refused) && slices.Contains([]string{"28000", "28P01", "42501", "42704"}, refused.Code):
		return nil, &Off{fmt.Sprintf(`PostgreSQL does not let %s look (%s); run: sudo -u postgres psql -p %d -c 'CREATE ROLE "%[1]s" LOGIN' -c 'GRANT pg_monitor TO "%[1]s"'`, r.user, plain(refused.Message), r.port)}
	}
	return nil, fmt.Errorf("PostgreSQL: %s", told(err))
}

func (r *postgresReader) ask(ctx context.Context) ([][3]string, error) {
	if r.conn == nil || r.conn.IsClosed() {
		c, err := pgconn.ParseConfig(fmt.Sprintf("host='%s' port=%d user='%s' dbname=postgres sslmode=disable connect_timeout=5 passfile=/dev/null", r.folder, r.port, r.user))
		if err != nil {
			return nil, err
		}
		c.Fallbacks = nil
		c.RuntimeParams = map[string]string{"application_name": "tocsin", "statement_timeout": "5000", "lock_timeout": "1000", "default_transaction_read_only": "on"}
		if r.conn, err = pgconn.ConnectConfig(ctx, c); err != nil {
			return nil, err
		}
	}
	if time.Since(r.sizeAt) > time.Hour {
		sizes, err := r.rows(ctx, postgresSizes)
		if err != nil {
			return nil, err
		}
		r.sizes, r.sizeAt = sizes, time.Now()
	}
	written := postgresWritten
	if major, _, _ := strings.Cut(r.conn.ParameterStatus("server_version"), "."); len(major) == 2 && major >= "17" {
		written = postgresWritten17
	}
	return r.rows(ctx, postgresAsk+written)
}

// rows asks questions with answers of three columns.
func (r *postgresReader) rows(ctx context.Context, sql string) ([][3]string, error) {
	results, err := r.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var all [][3]string
	for _, res := range results {
		for _, row := range res.Rows {
			if len(row) == 3 {
				all = append(all, [3]string{string(row[0]), string(row[1]), string(row[2])})
			}
		}
	}
	return all, nil
}

// The questions: each answers with rows of service, field and value. They are those of Munin's plugins, and a few more.
const (
	postgresAsk = `
SELECT 'connections_ALL', CASE
    WHEN a.wait_event_type IS NOT NULL AND a.locked AND state NOT LIKE 'idle in transaction%' THEN 'waiting'
    WHEN state = 'idle' THEN 'idle' WHEN state LIKE 'idle in transaction%' THEN 'idletransaction'
    WHEN state = 'disabled' OR query = '<insufficient privilege>' THEN 'unknown' ELSE 'active' END, count(*)
  FROM (SELECT act.state, act.wait_event_type, EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = act.pid) AS locked, act.query
    FROM pg_stat_activity AS act WHERE act.pid <> pg_backend_pid() AND act.backend_type = 'client backend') AS a GROUP BY 2;
SELECT 'connections_db', d.datname, count(a.pid) FROM pg_database d
  LEFT JOIN pg_stat_activity a ON a.datname = d.datname AND a.pid <> pg_backend_pid() WHERE d.datallowconn GROUP BY 2 ORDER BY 2 LIMIT 200;
SELECT 'users', usename, count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename IS NOT NULL GROUP BY 2 ORDER BY 2 LIMIT 200;
SELECT 'locks_ALL', lower(mode), count(*) FROM pg_locks WHERE database IS NOT NULL AND pid <> pg_backend_pid() GROUP BY 2;
SELECT 'cache_ALL', 'blks_read', sum(blks_read) FROM pg_stat_database UNION ALL SELECT 'cache_ALL', 'blks_hit', sum(blks_hit) FROM pg_stat_database;
SELECT 'transactions_ALL', 'commit', sum(xact_commit) FROM pg_stat_database UNION ALL SELECT 'transactions_ALL', 'rollback', sum(xact_rollback) FROM pg_stat_database;
SELECT s, f, v FROM (SELECT sum(tup_fetched) AS fetched, sum(tup_inserted) AS inserted, sum(tup_updated) AS updated, sum(tup_deleted) AS deleted,
    sum(deadlocks) AS deadlocks, sum(temp_bytes) AS temp FROM pg_stat_database) AS d, LATERAL (VALUES
    ('rows', 'fetched', d.fetched), ('rows', 'inserted', d.inserted), ('rows', 'updated', d.updated), ('rows', 'deleted', d.deleted),
    ('deadlocks', 'deadlocks', d.deadlocks), ('temp', 'temp', d.temp)) AS t(s, f, v);
SELECT 'oldest', 'transaction', COALESCE(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend';
SELECT 'freeze', 'age', max(age(datfrozenxid)) FROM pg_database;
SELECT 'xlog', 'segments', count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$';
SELECT 'replication', COALESCE(NULLIF(application_name, ''), 'standby'), max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication
  WHERE NOT pg_is_in_recovery() AND replay_lsn IS NOT NULL GROUP BY 2 ORDER BY 2 LIMIT 200;
`
	postgresWritten = `
SELECT t.* FROM pg_stat_bgwriter AS b, LATERAL (VALUES ('bgwriter', 'buffers_checkpoint', buffers_checkpoint), ('bgwriter', 'buffers_clean', buffers_clean),
  ('bgwriter', 'buffers_backend', buffers_backend), ('bgwriter', 'buffers_alloc', buffers_alloc),
  ('checkpoints', 'checkpoints_timed', checkpoints_timed), ('checkpoints', 'checkpoints_req', checkpoints_req)) AS t;
`
	// Version 17 keeps them elsewhere (https://www.postgresql.org/docs/17/release-17.html).
	postgresWritten17 = `
SELECT t.* FROM pg_stat_checkpointer AS b, LATERAL (VALUES ('bgwriter', 'buffers_checkpoint', buffers_written),
  ('checkpoints', 'checkpoints_timed', num_timed), ('checkpoints', 'checkpoints_req', num_requested)) AS t;
SELECT t.* FROM pg_stat_bgwriter AS b, LATERAL (VALUES ('bgwriter', 'buffers_clean', buffers_clean), ('bgwriter', 'buffers_alloc', buffers_alloc)) AS t;
SELECT 'bgwriter', 'buffers_backend', COALESCE(sum(writes), 0) FROM pg_stat_io WHERE backend_type = 'client backend' AND object = 'relation';
`
	postgresSizes = `SELECT 'size_ALL', datname, pg_database_size(oid) FROM pg_database ORDER BY 2 LIMIT 200;`
)

// postgresGraphs describes each service. Fields that stand here are there always, as zero where nothing was said of them.
var postgresGraphs = []struct{ name, text, attrs, fields string }{
	{"connections_ALL", "graph_title PostgreSQL connections\ngraph_vlabel Connections\ngraph_info Number of connections\ngraph_args --base 1000\n", "type GAUGE\ndraw AREASTACK\n",
		"active Active|waiting Waiting for lock|idle Idle|idletransaction Idle in transaction|unknown Unknown"},
	{"connections_db", "graph_title PostgreSQL connections per database\ngraph_vlabel Connections\ngraph_info Number of connections per database\ngraph_args --base 1000\n", "type GAUGE\ndraw LINE1\n", ""},
	{"users", "graph_title PostgreSQL connections per user\ngraph_vlabel Connections\ngraph_info Number of connections per user\ngraph_args --base 1000\n", "type GAUGE\ndraw LINE1\n", ""},
	{"locks_ALL", "graph_title PostgreSQL locks\ngraph_vlabel Locks\ngraph_info PostgreSQL locks\ngraph_args --base 1000\n", "type GAUGE\ndraw AREASTACK\n",
		"accesssharelock AccessShareLock|rowsharelock RowShareLock|rowexclusivelock RowExclusiveLock|shareupdateexclusivelock ShareUpdateExclusiveLock|sharelock ShareLock|sharerowexclusivelock ShareRowExclusiveLock|exclusivelock ExclusiveLock|accessexclusivelock AccessExclusiveLock"},
	{"cache_ALL", "graph_title PostgreSQL buffer cache\ngraph_vlabel Buffers / second\ngraph_info Buffer cache activity\ngraph_args --base 1000 -l 0\n", derive + "draw LINE1\n",
		"blks_read Buffers read|blks_hit Buffers hit"},
	{"transactions_ALL", "graph_title PostgreSQL transactions\ngraph_vlabel Trans / sec\ngraph_info Transactions per second\ngraph_args --base 1000 -l 0\n", derive + "draw AREASTACK\n",
		"commit Committed transactions|rollback Rolled back transactions"},
	{"rows", "graph_title PostgreSQL rows\ngraph_vlabel rows / second\ngraph_args --base 1000 -l 0\n", derive + "draw LINE1\n", "fetched fetched|inserted inserted|updated updated|deleted deleted"},
	{"deadlocks", "graph_title PostgreSQL deadlocks\ngraph_vlabel deadlocks per ${graph_period}\ngraph_period hour\ngraph_args --base 1000 -l 0\n", derive, "deadlocks deadlocks"},
	{"temp", "graph_title PostgreSQL temporary files\ngraph_vlabel bytes per ${graph_period}\ngraph_args --base 1024 -l 0\n", derive, "temp written"},
	{"oldest", "graph_title PostgreSQL oldest transaction\ngraph_vlabel seconds\ngraph_args --base 1000 -l 0\n", "type GAUGE\n", "transaction age"},
	{"freeze", "graph_title PostgreSQL age of the oldest row\ngraph_vlabel transactions\ngraph_info The server stops to write when it comes near to two billion.\ngraph_args --base 1000 -l 0\n", "type GAUGE\nwarning 1000000000\ncritical 1800000000\n", "age age"},
	{"bgwriter", "graph_title PostgreSQL bgwriter\ngraph_vlabel buffers / second\ngraph_info bgwriter buffer statistics\ngraph_args --base 1000 -l 0\n", derive + "draw LINE1\n",
		"buffers_checkpoint Buffers at checkpoint|buffers_clean Buffers cleaned|buffers_backend Buffers by backend|buffers_alloc Buffers allocated"},
	{"checkpoints", "graph_title PostgreSQL checkpoints\ngraph_vlabel Checkpoints / minute\ngraph_info Number of checkpoints per minute\ngraph_args --base 1000 -l 0\ngraph_period minute\n", derive + "draw AREASTACK\n",
		"checkpoints_timed Timed checkpoints|checkpoints_req Requested checkpoints"},
	{"xlog", "graph_title PostgreSQL transaction log\ngraph_vlabel Log segments\ngraph_info PostgreSQL transaction log\ngraph_args --base 1000\n", "type GAUGE\ndraw LINE1\n", "segments WAL segments"},
	{"replication", "graph_title PostgreSQL standbys behind\ngraph_vlabel bytes\ngraph_args --base 1024 -l 0\n", "type GAUGE\n", ""},
	{"size_ALL", "graph_title PostgreSQL database size\ngraph_vlabel Size\ngraph_info Size of database\ngraph_args --base 1024 -l 0\n", "type GAUGE\ndraw AREASTACK\nmin 0\n", ""},
}

func postgresReadings(rows [][3]string) ([]Reading, error) {
	var out []Reading
	for _, g := range postgresGraphs {
		t := newTally("postgres_"+g.name, g.text+"graph_category PostgreSQL\n", g.attrs)
		for f := range strings.SplitSeq(g.fields, "|") {
			if name, label, ok := strings.Cut(f, " "); ok {
				t.add(name, label, 0)
			}
		}
		for _, row := range rows {
			if row[0] != g.name {
				continue
			}
			v, err := parseDecimal([]byte(row[2]))
			if err != nil || len(t.order) > maxNames {
				continue
			}
			t.add(fieldName(row[1]), plain(row[1]), v)
		}
		if len(t.order) > 0 {
			out = append(out, readingOf(describe(t.service, t.describe()), from(t.values)))
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("PostgreSQL answers nothing")
	}
	return out, nil
}
