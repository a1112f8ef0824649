package reputation

// voucher is what one reporter saw of honest use of a key: logins of its users, its own allow list.
type voucher struct {
	reporter    uint32
	first, last int64
}

const (
	honestSpan = 90 * daySeconds // between the first and the last honest use that makes a key long known
	honestLast = 30 * daySeconds // ago, at most
	mixedLast  = 14 * daySeconds // ago, at most, for an address to be shared
	mostTaken  = 75              // percent of the evidence that vouchers may take
)

// vouch works out what vouchers take from a sum, one voice for each organisation, and says whether the key has long been
// used honestly.
func (x *Explanation) vouch(vs []voucher, p *people, now int64, sum Points) (honest bool) {
	x.Against = 0
	for i := range vs {
		v := &vs[i]
		r := p.reporters[v.reporter]
		if r == nil || r.org.Kind == Feed {
			continue
		}
		if r.trust >= One/2 && v.last-v.first >= honestSpan && now-v.last <= honestLast {
			honest = true
		}
		term := VoucherTerm{Org: r.org.ID, Last: v.last, Takes: voucherAlone.times(r.trust.times(halved(per(max(0, now-v.last), voucherHalf))))}
		if n := len(x.Vouchers); n > 0 && x.Vouchers[n-1].Org == term.Org { // they are kept by organisation
			x.Vouchers[n-1].Takes = max(x.Vouchers[n-1].Takes, term.Takes)
			continue
		}
		x.Vouchers = append(x.Vouchers, term)
	}
	for _, v := range x.Vouchers {
		x.Against += v.Takes
	}
	x.Against = min(x.Against, sum*mostTaken/100)
	return honest
}

// mixed says whether two admitted organisations saw honest use lately: who attacks from there has honest neighbours, and
// the address is treated as one that is shared. One organisation's word is not enough, for it may be taken over.
func mixed(vs []voucher, p *people, now int64) bool {
	var one uint32
	for i := range vs {
		r := p.reporters[vs[i].reporter]
		if r == nil || r.org.Kind != Admitted || r.trust < believed || now-vs[i].last > mixedLast {
			continue
		}
		if one != 0 && one != r.org.ID {
			return true
		}
		one = r.org.ID
	}
	return false
}
