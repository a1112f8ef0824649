package jail

import (
	"fmt"
	"net/netip"
	"slices"

	"tocsin"
)

// The subnets that are banned whole when too many of their addresses were.
const (
	subnet4 = 120 // a /24, in the bits of a key
	subnet6 = 48
)

// subnet notes that on was banned, and says whether that was one too many in its subnet.
func (j *Jail) subnet(on block, at int64) (net block, enough bool) {
	bits := subnet6
	if on.isIPv4() {
		bits = subnet4
	}
	if j.o.SubnetBans == 0 || int(on.bits) <= bits || on.key.isID() {
		return block{}, false
	}
	net = block{on.mask(bits), uint64(bits)}
	recent := slices.DeleteFunc(j.nets.m[net], func(b banned) bool {
		return b.key == on.key || b.at < at-j.o.SubnetWithin.Microseconds()
	})
	recent = append(recent, banned{on.key, at})
	if len(recent) >= j.o.SubnetBans {
		delete(j.nets.m, net)
		return net, true
	}
	j.nets.put(net, recent)
	return net, false
}

// banSubnet is the ban of a subnet. It rests on the lines of the ban that was one too many.
func (j *Jail) banSubnet(last *tocsin.Decision, net block, at int64) tocsin.Decision {
	bits := subnet6
	if net.isIPv4() {
		bits = subnet4 - 96
	}
	prefix := netip.PrefixFrom(last.Prefix.Addr(), bits).Masked()
	d := j.decision(net, prefix.String(), at)
	d.Prefix = prefix
	d.Failures, d.Evidence, d.Trigger, d.Fields = last.Failures, last.Evidence, last.Trigger, last.Fields
	if !j.o.Bare {
		d.Reason = fmt.Sprintf("%d addresses of %v banned within %s (the limit is %d), the last of them %v%s",
			j.o.SubnetBans, d.Prefix, words(j.o.SubnetWithin), j.o.SubnetBans, last.Prefix, j.growth(&d))
	}
	j.remember(net, &d, true)
	j.stats.Bans++
	j.stats.SubnetBans++
	return d
}
