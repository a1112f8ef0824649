package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Bounds of the catalogue. What is over is refused with an error; nothing that is known is thrown out for it.
const (
	mostNodes     = 10_000
	mostServices  = 200_000
	maxDescribed  = 256 << 10 // bytes of one description
	maxTokens     = 1_000
	maxWhyUnknown = 1_000 // bytes
)

// KnownNode is a server that was ever asked or imported. It stays known until somebody forgets it, whether it answers or not.
type KnownNode struct {
	Group, Node string
	Address     string    // where it is asked; "" for this machine and for what was imported
	Seen        time.Time // when it answered last; zero: never
	Since       time.Time // unknown since; zero: it answers
	Why         string    // it does not; a stranger's text may be in it
}

// KnownService is a service of a node as it was described last.
type KnownService struct {
	Group, Node, Service string
	Described            []byte    // what a plugin answers to config; means nothing to the store
	Seen                 time.Time // when it was read last
}

// Token lets a program in that asks over the network. Only its hash is kept.
type Token struct {
	Name  string
	Scope string
	Hash  [32]byte
	Made  time.Time
}

// PutKnown keeps nodes and services, each in place of what was known of it.
func (w *Watch) PutKnown(ctx context.Context, nodes []KnownNode, services []KnownService) error {
	for i := range services {
		if n := len(services[i].Described); n > maxDescribed {
			return fmt.Errorf("keep service %s of %s: a description of %d bytes, at most %d are kept", services[i].Service, services[i].Node, n, maxDescribed)
		}
	}
	_, err := w.do(ctx, "keep the catalogue", func() error {
		for i := range nodes {
			n := &nodes[i]
			why := strings.ToValidUTF8(n.Why[:min(len(n.Why), maxWhyUnknown)], "")
			if _, err := w.s.putNode.ExecContext(ctx, n.Group, n.Node, n.Address, maybeMicros(n.Seen), maybeMicros(n.Since), why); err != nil {
				return err
			}
		}
		for i := range services {
			s := &services[i]
			described := append([]byte{}, s.Described...) // nil would be NULL
			if _, err := w.s.putService.ExecContext(ctx, s.Group, s.Node, s.Service, described, micros(s.Seen)); err != nil {
				return err
			}
		}
		return w.boundKnown(ctx)
	})
	return err
}

// boundKnown refuses, by failing the transaction, what makes the catalogue larger than it may be.
func (w *Watch) boundKnown(ctx context.Context) error {
	var nodes, services int
	if err := w.s.countKnown.QueryRowContext(ctx).Scan(&nodes, &services); err != nil {
		return err
	}
	if nodes > mostNodes || services > mostServices {
		return fmt.Errorf("more than %d nodes or %d services", mostNodes, mostServices)
	}
	return nil
}

// Known returns the whole catalogue, by group, node and service.
func (w *Watch) Known(ctx context.Context) (nodes []KnownNode, services []KnownService, err error) {
	_, err = w.do(ctx, "read the catalogue", func() error {
		nodes, services = nil, nil
		err := each(func(scan func(...any) error) error {
			var n KnownNode
			var seen, since int64
			err := scan(&n.Group, &n.Node, &n.Address, &seen, &since, &n.Why)
			n.Seen, n.Since = fromMaybe(seen), fromMaybe(since)
			nodes = append(nodes, n)
			return err
		}, w.s.nodes)
		if err != nil {
			return err
		}
		return each(func(scan func(...any) error) error {
			var s KnownService
			var seen int64
			err := scan(&s.Group, &s.Node, &s.Service, &s.Described, &seen)
			s.Seen = fromMicros(seen)
			services = append(services, s)
			return err
		}, w.s.services)
	})
	return nodes, services, err
}

// ForgetNode takes a node and its services out of the catalogue; ok is false if it was not in it.
func (w *Watch) ForgetNode(ctx context.Context, group, node string) (ok bool, err error) {
	_, err = w.do(ctx, "forget a node", func() error {
		r, err := w.s.dropNode.ExecContext(ctx, group, node)
		if err != nil {
			return err
		}
		if _, err := w.s.dropServices.ExecContext(ctx, group, node); err != nil {
			return err
		}
		if _, err := w.f.conn.ExecContext(ctx, "DELETE FROM repeats WHERE grp = ? AND node = ?", group, node); err != nil {
			return err
		}
		ok, err = changed(r)
		return err
	})
	return ok, err
}

// PutToken keeps a token. ok is false if there is one of that name, which stays, or a thousand in all.
func (w *Watch) PutToken(ctx context.Context, t Token) (ok bool, err error) {
	_, err = w.do(ctx, "keep a token", func() error {
		r, err := w.s.putToken.ExecContext(ctx, t.Name, t.Scope, t.Hash[:], micros(t.Made), maxTokens)
		if err != nil {
			return err
		}
		ok, err = changed(r)
		return err
	})
	return ok, err
}

// DropToken revokes a token; ok is false if there is none of that name.
func (w *Watch) DropToken(ctx context.Context, name string) (ok bool, err error) {
	_, err = w.do(ctx, "revoke a token", func() error {
		r, err := w.s.dropToken.ExecContext(ctx, name)
		if err != nil {
			return err
		}
		ok, err = changed(r)
		return err
	})
	return ok, err
}

// Tokens returns all tokens by name.
func (w *Watch) Tokens(ctx context.Context) (all []Token, err error) {
	_, err = w.do(ctx, "read the tokens", func() error {
		all = nil
		return each(func(scan func(...any) error) error {
			var t Token
			var hash []byte
			var made int64
			if err := scan(&t.Name, &t.Scope, &hash, &made); err != nil {
				return err
			}
			if len(hash) != len(t.Hash) {
				return damage("a token without its hash")
			}
			copy(t.Hash[:], hash)
			t.Made = fromMicros(made)
			all = append(all, t)
			return nil
		}, w.s.tokens)
	})
	return all, err
}

func changed(r sql.Result) (bool, error) {
	n, err := r.RowsAffected()
	return n > 0, err
}
