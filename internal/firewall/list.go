package firewall

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// foundReason is the reason of a ban that only the kernel knew.
const foundReason = "found in the kernel"

// maxListed is how often a list is read again because the rules changed meanwhile. The last one counts as it is: what it
// may lack came or went in that moment.
const maxListed = 5

// list reads the bans that our table holds, with at least a second left. A table that is not there holds none.
func (s *socket) list(table string, now time.Time) ([]tocsin.Decision, error) {
	sets, err := s.sets(table)
	if err != nil {
		return nil, err
	}
	var held []tocsin.Decision
	for _, set := range sets {
		k, group, ok := parseSet(set.name)
		if !ok {
			continue
		}
		sc, hasPorts, ok := parseScope(group)
		if !ok {
			continue
		}
		if hasPorts {
			if sc.ports, err = s.ports(table, group+dportSuffix); err != nil {
				return nil, err
			}
			if len(sc.ports) == 0 {
				continue // without its ports it would be a ban of all
			}
		}
		elements, err := s.elements(table, set.name)
		if err != nil {
			return nil, err
		}
		held = append(held, decisions(sc, k, elements, now)...)
	}
	return held, nil
}

// parseSet splits the name of a set into its group's name and its kind.
func parseSet(name string) (k kind, group string, ok bool) {
	for k := range kinds {
		if group, ok := strings.CutSuffix(name, k.suffix()); ok {
			return k, group, true
		}
	}
	return 0, "", false
}

// kernelSet is a set as the kernel lists it.
type kernelSet struct {
	name     string
	handle   uint64
	elements int // -1: this kernel does not tell
}

func (s *socket) sets(table string) (sets []kernelSet, err error) {
	err = s.listTable(unix.NFT_MSG_GETSET, table, "", func(m message) {
		set := kernelSet{elements: -1}
		for typ, data := range m.attrs() {
			switch typ {
			case unix.NFTA_SET_NAME:
				set.name = cString(data)
			case nftaSetHandle:
				set.handle = beUint64(data)
			case nftaSetCount:
				set.elements = int(beUint32(data))
			}
		}
		sets = append(sets, set)
	}, func() { sets = nil })
	return sets, err
}

// elements lists a set.
//
// The kernel tells a large set in pieces, and finds where to go on by counting; when it frees timed out elements or
// reorders the hash table meanwhile, some are skipped and others told twice, without a warning (once in a dozen lists of
// 100,000 that were just added, 74,510 different ones, on Linux 6.18). So what comes in pieces is read until a reading
// brings nothing new.
func (s *socket) elements(table, set string) ([]found, error) {
	all := map[string]found{}
	for range maxListed {
		pieces, before := 0, len(all)
		err := s.listTable(unix.NFT_MSG_GETSETELEM, table, set, func(m message) {
			pieces++
			decodeElements(m, func(e found) { all[e.id()] = e })
		}, func() {})
		if err != nil {
			return nil, err
		}
		if pieces <= 1 || len(all) == before {
			break
		}
	}
	return slices.Collect(maps.Values(all)), nil
}

// id tells an element from all others of its set.
func (e found) id() string {
	if e.end {
		return string(e.key) + "e"
	}
	return string(e.key)
}

func (s *socket) ports(table, set string) ([]uint16, error) {
	elements, err := s.elements(table, set)
	if err != nil {
		return nil, err
	}
	var ports []uint16
	for _, e := range elements {
		if len(e.key) == 2 {
			ports = append(ports, uint16(e.key[0])<<8|uint16(e.key[1]))
		}
	}
	return tocsin.SortPorts(ports), nil
}

// listTable lists something of a table, of which object (a set, a chain) is a part. It begins anew, after forget, while the
// rules change under it. What does not exist has an empty list.
func (s *socket) listTable(typ uint16, table, object string, each func(message), forget func()) error {
	attrs := appendText(nil, unix.NFTA_TABLE_NAME, table)
	if object != "" {
		attrs = appendText(attrs, unix.NFTA_SET_ELEM_LIST_SET, object) // 2, as is NFTA_RULE_CHAIN
	}
	for i := 1; ; i++ {
		err := s.dump(typ, attrs, each)
		switch {
		case errors.Is(err, syscall.ENOENT):
			return nil
		case errors.Is(err, errInterrupted) && i < maxListed:
			forget()
		case errors.Is(err, errInterrupted):
			return nil
		default:
			return err
		}
	}
}

// decisions turns the elements of a set into the bans they stand for.
func decisions(sc scope, k kind, elements []found, now time.Time) []tocsin.Decision {
	var ds []tocsin.Decision
	for _, r := range ranges(k, elements) {
		if r.timed && r.left <= time.Second {
			continue
		}
		d := tocsin.Decision{
			Verdict: sc.verdict, Ports: sc.ports, Proto: sc.proto,
			Action: tocsin.Ban, Reason: foundReason, At: now,
		}
		if r.timed {
			d.Until = now.Add(r.left)
		}
		for _, d.Prefix = range r.prefixes {
			d.ID = idOf(d.Prefix)
			for jail := range strings.SplitSeq(r.comment, ",") {
				d.Jail = jail
				ds = append(ds, d)
			}
		}
	}
	return ds
}

// idOf is the id under which jails ban a prefix: its text, of a single address without the length.
func idOf(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// foundRange is an element of a hash set, or two of an interval set, as prefixes.
type foundRange struct {
	found
	prefixes []netip.Prefix
}

// ranges joins the begins and ends of an interval set's elements. The kernel lists them in no order of ours.
func ranges(k kind, elements []found) []foundRange {
	var rs []foundRange
	if k.hash() {
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.key); ok && a.Is4() == (k.family() == v4) {
				rs = append(rs, foundRange{e, []netip.Prefix{netip.PrefixFrom(a, k.bits()).Masked()}})
			}
		}
		return rs
	}
	bounds := sortedBounds(elements)
	for i, b := range bounds {
		if b.end {
			continue
		}
		last := lastAddr(netip.PrefixFrom(b.addr, 0))
		if i+1 < len(bounds) {
			last = bounds[i+1].addr.Prev()
		}
		rs = append(rs, foundRange{b.found, prefixesOf(b.addr, last)})
	}
	return rs
}

// foundBound is one end of a range.
type foundBound struct {
	found
	addr netip.Addr
}

// sortedBounds orders them by address; where one range ends and the next begins, the end comes first.
func sortedBounds(elements []found) []foundBound {
	var bounds []foundBound
	for _, e := range elements {
		if a, ok := netip.AddrFromSlice(e.key); ok {
			bounds = append(bounds, foundBound{e, a})
		}
	}
	slices.SortFunc(bounds, func(a, b foundBound) int {
		if c := a.addr.Compare(b.addr); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1
		}
		return 1
	})
	return bounds
}
