package firewall

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The shape of a table is its chains, rules and sets without their elements, written as text. It names them by handle,
// which the kernel gives to each and never again in the same table: equal shapes are the same objects in the same order.

func (s *socket) hasTable(table string) (bool, error) {
	there := false
	err := s.listTable(unix.NFT_MSG_GETTABLE, table, "", func(m message) {
		there = there || belongs(m, table)
	}, func() {})
	return there, err
}

// belongs says whether a message is about our table; older kernels list those of all tables.
func belongs(m message, table string) bool {
	if len(m.data) < 4 || m.data[0] != unix.NFPROTO_INET {
		return false
	}
	for typ, data := range m.attrs() {
		if typ == unix.NFTA_TABLE_NAME {
			return cString(data) == table
		}
	}
	return false
}

// shapeOf reads the shape and the number of elements in each set, -1 where the kernel does not tell.
func (s *socket) shapeOf(table string) (shape string, counts map[string]int, err error) {
	var b strings.Builder
	for _, typ := range []uint16{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE} {
		var part strings.Builder
		err := s.listTable(typ, table, "", func(m message) {
			if belongs(m, table) {
				describe(&part, m)
			}
		}, part.Reset)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(part.String())
	}
	sets, err := s.sets(table)
	if err != nil {
		return "", nil, err
	}
	counts = map[string]int{}
	for _, set := range sets {
		fmt.Fprintf(&b, "set %d %s\n", set.handle, set.name)
		counts[set.name] = set.elements
	}
	return b.String(), counts, nil
}

// describe writes the lasting facts of a table, a chain or a rule.
func describe(b *strings.Builder, m message) {
	kind, _ := m.kind()
	for typ, data := range m.attrs() {
		switch {
		case kind == unix.NFT_MSG_NEWTABLE && typ == nftaTableHandle,
			kind == unix.NFT_MSG_NEWCHAIN && typ == unix.NFTA_CHAIN_HANDLE:
			fmt.Fprintf(b, "%d: %d\n", kind, beUint64(data))
		case kind == unix.NFT_MSG_NEWTABLE && typ == unix.NFTA_TABLE_FLAGS,
			kind == unix.NFT_MSG_NEWCHAIN && typ == unix.NFTA_CHAIN_POLICY:
			fmt.Fprintf(b, "%d: flags %d\n", kind, beUint32(data))
		case kind == unix.NFT_MSG_NEWRULE && typ == unix.NFTA_RULE_CHAIN:
			fmt.Fprintf(b, "rule in %s\n", cString(data))
		case kind == unix.NFT_MSG_NEWRULE && typ == unix.NFTA_RULE_HANDLE:
			fmt.Fprintf(b, "rule %d\n", beUint64(data))
		}
	}
}

// remember keeps the shape of the table that we just made.
func (f *Firewall) remember() error {
	shape, _, err := f.sock.shapeOf(f.o.Table)
	if err != nil {
		return f.failed("list the table", err)
	}
	f.shape = shape
	return nil
}

// sound says whether the table in the kernel is still ours and its sets hold at least what they should. sure is false if
// the kernel does not tell how many elements there are (before Linux 6.17).
func (f *Firewall) sound(now time.Time) (ok, sure bool, err error) {
	shape, counts, err := f.sock.shapeOf(f.o.Table)
	if err != nil {
		return false, false, f.failed("list the table", err)
	}
	if shape != f.shape {
		return false, true, nil
	}
	sure = true
	for set, least := range f.want.counts(now) {
		if counts[set] < 0 {
			sure = false
		} else if counts[set] < least {
			return false, true, nil
		}
	}
	return true, sure, nil
}

// counts tells how many elements each set has at least: the kernel also counts the ends of ranges and what it has not
// freed yet, and may have dropped what ends in these seconds.
func (w *wanted) counts(now time.Time) map[string]int {
	soon := now.Add(rounding)
	ending := w.ends.before(soon)
	counts := map[string]int{allowV4: len(merged(w.allow, v4)), allowV6: len(merged(w.allow, v6))}
	for _, g := range w.groups {
		for k := range net4 {
			counts[g.sets[k]] = len(g.targets[k]) - ending
		}
		for k := net4; k < kinds; k++ {
			for _, s := range g.spans(k) {
				if !ended(s.until, soon) {
					counts[g.sets[k]]++
				}
			}
		}
	}
	for _, l := range w.lists {
		for k := range kinds {
			if n := l.size(k); n > 0 && l.refused == nil {
				counts[l.set(k)] = n
			}
		}
	}
	return counts
}
