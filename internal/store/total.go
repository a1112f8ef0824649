package store

import "time"

// CountBans is how many bans were taken since then. Those that are still queued are not counted.
func (s *Store) CountBans(since time.Time) (n int, err error) {
	err = s.read("count bans", func(f *file) error {
		return f.reader.QueryRow(`SELECT count(*) FROM decision WHERE at >= ? AND action = 0`, micros(since)).Scan(&n)
	})
	return n, err
}
