package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OIDCOptions say which provider is asked who somebody is, and what that makes of them.
type OIDCOptions struct {
	Issuer       string
	ClientID     string
	ClientSecret func() (string, error) // read anew each time; "": a public client
	Redirect     string                 // ours, as the provider knows it
	Claim        string                 // where roles stand, levels with a point between: "realm_access.roles"
	Roles        map[string]Role        // by what stands there; the highest counts. There is no role without one
	Client       *http.Client           // nil: one that waits 10 s at most
}

// OIDC asks an OpenID provider who somebody is: code flow with PKCE, state and nonce
// (https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth, RFC 7636). It may be used by several goroutines.
type OIDC struct {
	o OIDCOptions

	mu     sync.Mutex
	p      *oidc.Provider // once it was found
	asking chan struct{}  // closed when who asks it has its answer; nil: nobody asks
	err    error          // of the last time it was asked
	failed time.Time
}

// errorFor is how long a provider that did not answer is not asked again.
const errorFor = 10 * time.Second

// Round is one login on its way. All of it is secret, and good once.
type Round struct{ State, Nonce, Verifier string }

// Person is who a provider says somebody is.
type Person struct {
	Name    string
	Subject string // what the provider never gives to somebody else
	Role    Role   // Nobody: they have none here
}

// NewOIDC makes a login with a provider. Nobody is asked before the first login.
func NewOIDC(o OIDCOptions) *OIDC {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 10 * time.Second}
	}
	return &OIDC{o: o}
}

// provider is what the provider says of itself. One asks, the others wait for its answer; an error is the answer for a while.
func (c *OIDC) provider(ctx context.Context) (*oidc.Provider, error) {
	for {
		c.mu.Lock()
		switch {
		case c.p != nil:
			c.mu.Unlock()
			return c.p, nil
		case c.err != nil && time.Since(c.failed) < errorFor:
			c.mu.Unlock()
			return nil, c.err
		case c.asking == nil:
			c.asking = make(chan struct{})
			c.mu.Unlock()
			c.ask(ctx)
			continue
		}
		asking := c.asking
		c.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, fmt.Errorf("ask %s how to log in: %w", c.o.Issuer, ctx.Err())
		}
	}
}

// ask asks the provider, for everybody who waits.
func (c *OIDC) ask(ctx context.Context) {
	// The provider keeps this context for the keys that it fetches later: it must not end with one request.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), c.o.Client), c.o.Issuer)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.p = p; err != nil {
		c.p, c.err, c.failed = nil, fmt.Errorf("ask %s how to log in: %w", c.o.Issuer, err), time.Now()
	}
	close(c.asking)
	c.asking = nil
}

func (c *OIDC) config(p *oidc.Provider) (*oauth2.Config, error) {
	conf := &oauth2.Config{ClientID: c.o.ClientID, Endpoint: p.Endpoint(), RedirectURL: c.o.Redirect, Scopes: []string{oidc.ScopeOpenID, "profile", "email"}}
	if c.o.ClientSecret != nil {
		secret, err := c.o.ClientSecret()
		if err != nil {
			return nil, fmt.Errorf("the secret of OpenID Connect: %w", err)
		}
		conf.ClientSecret = secret
	}
	return conf, nil
}

// Begin begins a login: where the browser is sent, and what has to be remembered for Finish.
func (c *OIDC) Begin(ctx context.Context) (to string, round Round, err error) {
	p, err := c.provider(ctx)
	if err != nil {
		return "", Round{}, err
	}
	conf, err := c.config(p)
	if err != nil {
		return "", Round{}, err
	}
	round.State, _ = NewSecret()
	round.Nonce, _ = NewSecret()
	round.Verifier = oauth2.GenerateVerifier()
	return conf.AuthCodeURL(round.State, oidc.Nonce(round.Nonce), oauth2.S256ChallengeOption(round.Verifier)), round, nil
}

// Finish ends the login that round began, with the code that the browser brought. The state was compared already.
func (c *OIDC) Finish(ctx context.Context, round Round, code string) (Person, error) {
	p, err := c.provider(ctx)
	if err != nil {
		return Person{}, err
	}
	conf, err := c.config(p)
	if err != nil {
		return Person{}, err
	}
	ctx = oidc.ClientContext(ctx, c.o.Client)
	tokens, err := conf.Exchange(ctx, code, oauth2.VerifierOption(round.Verifier))
	if err != nil {
		return Person{}, fmt.Errorf("show %s the code: %w", c.o.Issuer, err)
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return Person{}, errors.New("the provider sent no id_token")
	}
	id, err := p.Verifier(&oidc.Config{ClientID: c.o.ClientID}).Verify(ctx, raw)
	if err != nil {
		return Person{}, fmt.Errorf("check the id_token: %w", err)
	}
	if id.Nonce != round.Nonce {
		return Person{}, errors.New("the id_token belongs to another login")
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return Person{}, fmt.Errorf("read the id_token: %w", err)
	}
	who := Person{Subject: id.Subject, Name: id.Subject, Role: c.roleOf(claims)}
	for _, name := range []string{"preferred_username", "email", "name"} {
		if s, ok := claims[name].(string); ok && CheckName(s) == nil {
			who.Name = s
			break
		}
	}
	return who, nil
}

// roleOf is the highest role that the claims give.
func (c *OIDC) roleOf(claims map[string]any) Role {
	var at any = claims
	for _, level := range strings.Split(c.o.Claim, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return Nobody
		}
		at = m[level]
	}
	var names []string
	switch v := at.(type) {
	case string:
		names = []string{v}
	case []any:
		for _, one := range v {
			if s, ok := one.(string); ok {
				names = append(names, s)
			}
		}
	}
	role := Nobody
	for name, r := range c.o.Roles {
		if slices.Contains(names, name) {
			role = max(role, r)
		}
	}
	return role
}
