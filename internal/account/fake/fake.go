// Package fake is a strict OpenID provider for tests: it checks what a client sends, and can be told to misbehave.
//
// It knows one client and one person. The code flow is OpenID Connect Core 1.0, 3.1; PKCE is RFC 7636, asked for always.
package fake

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Provider is a running provider. Its exported fields may be changed between two logins.
type Provider struct {
	*httptest.Server
	ClientID, Secret, Redirect string

	Claims  map[string]any // of the next id_token, over those that belong in it
	Nonce   string         // in the place of the client's; "": the client's
	Stolen  bool           // the next id_token is signed by somebody else
	Refuses string         // the error of the next login; "": none

	mu       sync.Mutex
	key      *rsa.PrivateKey
	codes    map[string]grant
	mistakes []string
}

type grant struct{ challenge, nonce string }

// New starts a provider for one client. It panics where there is no randomness.
func New(clientID, secret string) *Provider {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	p := &Provider{ClientID: clientID, Secret: secret, key: key, codes: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	return p
}

// Mistakes are what a client did that it may not.
func (p *Provider) Mistakes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mistakes
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		"code_challenge_methods_supported": []string{"S256"},
	})
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
}

// authorize lets the person in at once, and sends the browser back.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	for name, want := range map[string]string{"client_id": p.ClientID, "redirect_uri": p.Redirect, "response_type": "code", "code_challenge_method": "S256"} {
		if q.Get(name) != want {
			p.mistakes = append(p.mistakes, name+" is "+q.Get(name))
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(q.Get(name)) < 43 {
			p.mistakes = append(p.mistakes, name+" is too short: "+q.Get(name))
		}
	}
	back := url.Values{"state": {q.Get("state")}}
	if p.Refuses != "" {
		back.Set("error", p.Refuses)
		p.Refuses = ""
	} else {
		code := random()
		p.codes[code] = grant{q.Get("code_challenge"), q.Get("nonce")}
		back.Set("code", code)
	}
	http.Redirect(w, r, p.Redirect+"?"+back.Encode(), http.StatusFound)
}

// token gives an id_token for a code, once, to whoever began the login.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	g, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case id != p.ClientID || secret != p.Secret:
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	case !ok, base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge, r.PostFormValue("redirect_uri") != p.Redirect, r.PostFormValue("grant_type") != "authorization_code":
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	claims := map[string]any{"iss": p.URL, "sub": "248289761001", "aud": p.ClientID, "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "nonce": g.nonce}
	if p.Nonce != "" {
		claims["nonce"] = p.Nonce
	}
	for name, v := range p.Claims {
		claims[name] = v
	}
	answer(w, http.StatusOK, map[string]any{"access_token": random(), "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(claims)})
}

func (p *Provider) sign(claims map[string]any) string {
	key := crypto.Signer(p.key)
	if p.Stolen {
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		key = other
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	signed, err := signer.Sign(text)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return out
}

func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // it never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // to a client that is gone
}
