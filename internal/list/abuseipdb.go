package list

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tocsin/internal/abuseipdb"
)

// AbuseIPDB fetches the list of AbuseIPDB, or of a hub that answers like it.
type AbuseIPDB struct {
	Client *abuseipdb.Client
}

// defaultLimit is how many addresses are asked for where the terms do not say: what a free account is given.
const defaultLimit = 10_000

// Fetch asks once. The plan is told by how many lists a day it grants.
func (a *AbuseIPDB) Fetch(ctx context.Context, t Terms, p Previous) (*Fetched, error) {
	limit := defaultLimit
	if t.Limit > 0 {
		limit = limitOf(t.Limit)
	}
	q := abuseipdb.BlacklistQuery{Limit: limit, Confidence: t.Confidence, Plain: true, ETag: p.ETag, LastModified: p.Modified}
	in := parser{Parsed: &Parsed{Set: &Set{}}}
	answer, meta, err := a.Client.Blacklist(ctx, q, func(l abuseipdb.Listed) error {
		in.line++
		in.addr(l.Addr)
		return nil
	})
	if wrong, ok := errors.AsType[*abuseipdb.EntryError](err); ok {
		if in.More = in.line == limit && wrong.Line == 0 && wrong.Item == 0; !in.More {
			in.NoList = wrong.Error()
		}
	} else if err != nil {
		return nil, a.classify(err)
	}
	got := &Fetched{Unchanged: answer.NotModified, Generated: answer.GeneratedAt, ETag: answer.ETag, Modified: answer.LastModified}
	if meta.Quota.Known {
		got.Plan = fmt.Sprintf("%d lists a day", meta.Quota.Limit)
	}
	if !got.Unchanged {
		if got.Parsed, err = in.end(nil); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// addr takes an address that somebody else has read.
func (p *parser) addr(a netip.Addr) {
	prefix := netip.PrefixFrom(a, a.BitLen())
	if isSpecial(prefix) {
		p.Special.add(p.line, []byte(a.String()))
		return
	}
	p.Set.add(prefix)
}

// classify tells a fetch that may come later, or that never left, from others.
func (a *AbuseIPDB) classify(err error) error {
	if quota, ok := errors.AsType[*abuseipdb.QuotaError](err); ok {
		now := time.Now()
		return &RestError{err, quota.Until(now).Sub(now)}
	}
	if lost, ok := errors.AsType[*abuseipdb.NetworkError](err); ok && !lost.Sent {
		return &UnsentError{err}
	}
	return err
}
