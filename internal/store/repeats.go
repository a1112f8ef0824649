package store

import (
	"context"
	"errors"
	"strings"
	"time"
)

// mostRepeats bounds what is kept of one node.
const mostRepeats = 1_000

// repeatsSchema is what probes repeat.
const repeatsSchema = `
CREATE TABLE repeats (
	grp   TEXT    NOT NULL,
	node  TEXT    NOT NULL,
	at    INTEGER NOT NULL,
	found TEXT    NOT NULL,
	PRIMARY KEY (grp, node)
) STRICT, WITHOUT ROWID;
`

// Repeats are the probes of a node that show nothing that others do not show too, as a comparison found.
type Repeats struct {
	Group, Node string
	At          time.Time   // of the comparison
	Found       [][2]string // a probe, and the one that it repeats; names without tab and line feed
}

// PutRepeats keeps what a comparison found, in place of what the one before did. Of a node that is not in the catalogue
// nothing is kept, and of any at most 1,000.
func (w *Watch) PutRepeats(ctx context.Context, r *Repeats) error {
	var found strings.Builder
	for _, f := range r.Found[:min(len(r.Found), mostRepeats)] {
		if strings.ContainsAny(f[0]+f[1], "\t\n") {
			return errors.New("keep what probes repeat: a name with a tab or a line feed")
		}
		found.WriteString(f[0] + "\t" + f[1] + "\n")
	}
	_, err := w.exec(ctx, "keep what probes repeat",
		`INSERT OR REPLACE INTO repeats (grp, node, at, found) SELECT ?,?,?,? WHERE EXISTS (SELECT 1 FROM node WHERE grp = ? AND node = ?)`,
		r.Group, r.Node, micros(r.At), found.String(), r.Group, r.Node)
	return err
}

// Repeats returns what the last comparison of each node found, by group and node.
func (w *Watch) Repeats(ctx context.Context) ([]Repeats, error) {
	return rows(ctx, w, "read what probes repeat", `SELECT grp, node, at, found FROM repeats ORDER BY grp, node`, func(scan func(...any) error) (r Repeats, err error) {
		var at int64
		var found string
		err = scan(&r.Group, &r.Node, &at, &found)
		r.At = fromMicros(at)
		for line := range strings.Lines(found) {
			probe, of, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			r.Found = append(r.Found, [2]string{probe, of})
		}
		return r, err
	})
}
