package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/store"
)

// tokenSize is how many random bytes a token is made of.
const tokenSize = 32

// tokenName is compiled when it is first needed: it counts so far that it takes 70 KB.
var tokenName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`) })

// tokens are who may ask over the network. Only hashes are kept: what is random in a token cannot be guessed from one.
type tokens struct {
	store  *store.Watch
	scopes atomic.Pointer[map[[32]byte]string]
}

func loadTokens(ctx context.Context, w *store.Watch) (*tokens, error) {
	t := &tokens{store: w}
	return t, t.load(ctx)
}

func (t *tokens) load(ctx context.Context) error {
	all, err := t.store.Tokens(ctx)
	if err != nil {
		return err
	}
	scopes := make(map[[32]byte]string, len(all))
	for _, k := range all {
		scopes[k.Hash] = k.Scope
	}
	t.scopes.Store(&scopes)
	return nil
}

// scope is what a token is good for, "" for nothing.
func (t *tokens) scope(token string) string { return (*t.scopes.Load())[sha256.Sum256([]byte(token))] }

func (t *tokens) add(ctx context.Context, r api.TokenRequest) (api.NewToken, error) {
	if !tokenName().MatchString(r.Name) {
		return api.NewToken{}, api.Errorf(api.ExitUsage, "up to 64 letters, digits, and _ . - behind the first", fmt.Sprintf("%.80q is no name for a token", r.Name))
	}
	if r.Scope != api.ScopeRead && r.Scope != api.ScopeWrite {
		return api.NewToken{}, api.Errorf(api.ExitUsage, "write read or write", fmt.Sprintf("%.80q is no scope", r.Scope))
	}
	secret := make([]byte, tokenSize)
	_, _ = rand.Read(secret) // it never fails (crypto/rand)
	token := "tocsin_" + base64.RawURLEncoding.EncodeToString(secret)
	ok, err := t.store.PutToken(ctx, store.Token{Name: r.Name, Scope: r.Scope, Hash: sha256.Sum256([]byte(token)), Made: time.Now()})
	switch {
	case err != nil:
		return api.NewToken{}, err
	case !ok && len(*t.scopes.Load()) >= 1000:
		return api.NewToken{}, api.Errorf(api.ExitFindings, "revoke one first: tocsin token list", "there are a thousand tokens already")
	case !ok:
		return api.NewToken{}, api.Errorf(api.ExitFindings, "revoke it first: tocsin token revoke "+r.Name, "there is a token "+r.Name+" already")
	}
	return api.NewToken{Schema: api.SchemaToken, Name: r.Name, Scope: r.Scope, Token: token}, t.load(ctx)
}

func (t *tokens) drop(ctx context.Context, r api.TokenRequest) (api.Change, error) {
	ok, err := t.store.DropToken(ctx, r.Name)
	switch {
	case err != nil:
		return api.Change{}, err
	case !ok:
		return api.Change{}, api.Errorf(api.ExitFailed, "tocsin token list shows which there are", fmt.Sprintf("there is no token %.80q", r.Name))
	}
	return api.Change{Schema: api.SchemaChange, Changed: []string{r.Name}, Text: "token " + r.Name + " is good for nothing any more"}, t.load(ctx)
}

func (t *tokens) list(ctx context.Context) (api.Tokens, error) {
	all, err := t.store.Tokens(ctx)
	out := api.Tokens{Schema: api.SchemaTokens, Tokens: []api.Token{}}
	for _, k := range all {
		out.Tokens = append(out.Tokens, api.Token{Name: k.Name, Scope: k.Scope, Made: k.Made.UTC()})
	}
	return out, err
}
