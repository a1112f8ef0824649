package store

import (
	"database/sql"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// BanTally counts the bans of one jail on the same ports.
type BanTally struct {
	Jail   string
	Ports  []uint16 // empty: all
	Active int      // in force
	Taken  int      // taken since then
}

// TalliedAddr is whom one of these bans is about.
type TalliedAddr struct {
	Addr          netip.Addr // the first of its prefix
	Active, Taken bool
}

// tallied are the bans that TallyBans counts, with columns to be chosen.
const tallied = `(SELECT jail, ports, prefix, 1 AS taken, ended IS NULL AND until > ?2 AS active FROM decision WHERE action = 0 AND at >= ?1
	UNION ALL SELECT jail, ports, prefix, 0, 1 FROM decision WHERE action = 0 AND ended IS NULL AND until > ?2 AND at < ?1)`

// TallyBans counts the bans that are in force at now, and those that were taken since then, by jail and ports, and says of at
// most so many whom they are about; of more it takes no memory. Those that are still queued are not counted.
func (s *Store) TallyBans(since, now time.Time, most int) (all []BanTally, addrs []TalliedAddr, err error) {
	err = s.read("count bans", func(f *file) error {
		all, addrs = nil, nil
		rows, err := f.reader.Query(`SELECT jail, ports, sum(active), sum(taken) FROM `+tallied+` GROUP BY jail, ports`, micros(since), micros(now))
		if err != nil {
			return err
		}
		err = eachRow(rows, func(scan func(...any) error) error {
			var t BanTally
			var ports string
			err := scan(&t.Jail, &ports, &t.Active, &t.Taken)
			if err == nil {
				t.Ports, err = parsePorts(ports)
			}
			all = append(all, t)
			return err
		})
		if err != nil || most == 0 {
			return err
		}
		rows, err = f.reader.Query(`SELECT prefix, taken, active FROM `+tallied+` WHERE prefix IS NOT NULL LIMIT ?3`, micros(since), micros(now), most)
		if err != nil {
			return err
		}
		var prefix sql.RawBytes
		return eachRow(rows, func(scan func(...any) error) error {
			var a TalliedAddr
			if err := scan(&prefix, &a.Taken, &a.Active); err != nil {
				return err
			}
			p, err := parsePrefix(prefix)
			a.Addr = p.Addr()
			addrs = append(addrs, a)
			return err
		})
	})
	return all, addrs, err
}

// parsePorts reads the column ports.
func parsePorts(text string) (ports []uint16, err error) {
	if text == "" {
		return nil, nil
	}
	for p := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, err
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}
