package web

import (
	"context"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/store"
)

// linkSecret is what the key of links is kept by.
const linkSecret = "links"

// signer signs links to pictures with the key that the store keeps.
type signer struct {
	now atomic.Pointer[account.Signer]
}

func (k *signer) load(ctx context.Context, w *store.Watch) error {
	_, made := account.NewSecret()
	key, err := w.Secret(ctx, linkSecret, made)
	k.now.Store(&account.Signer{Key: key})
	return err
}

// sign is a path with what makes it good until a time; zero: without end.
func (k *signer) sign(path string, until time.Time) string {
	return path + "?" + k.now.Load().Sign(path, until)
}

func (k *signer) good(path string, q url.Values) bool { return k.now.Load().Good(path, q, time.Now()) }

// revokeLinks takes another key: every link that was given is good for nothing any more.
func (s *Server) revokeLinks(w http.ResponseWriter, r *http.Request, v *visitor) {
	_, key := account.NewSecret()
	if err := s.o.Store.NewSecret(r.Context(), linkSecret, key); err != nil {
		s.broken(w, r, err)
		return
	}
	s.signer.now.Store(&account.Signer{Key: key})
	s.note(r, v, "links-revoke", "", "")
	s.done(w, r, "/users", "revoked")
}
