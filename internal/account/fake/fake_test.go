package fake

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestProvider goes through the code flow by hand: what is right is answered, what is not is refused.
func TestProvider(t *testing.T) {
	p := New("client", "secret")
	defer p.Close()
	p.Redirect = "https://client.example/back"
	p.Claims = map[string]any{"groups": "x"}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	good := url.Values{"client_id": {"client"}, "redirect_uri": {p.Redirect}, "response_type": {"code"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "state": {strings.Repeat("s", 43)}, "nonce": {strings.Repeat("n", 43)}}
	begin := func(q url.Values) url.Values {
		t.Helper()
		resp, err := client.Get(p.URL + "/authorize?" + q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		back, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return back.Query()
	}
	redeem := func(code, secret, verifier string) (int, map[string]any) {
		t.Helper()
		resp, err := client.PostForm(p.URL+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.Redirect}, "client_id": {"client"}, "client_secret": {secret}, "code_verifier": {verifier}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, v
	}
	code := begin(good).Get("code")
	if got, v := redeem(code, "secret", verifier); got != http.StatusOK || strings.Count(v["id_token"].(string), ".") != 2 {
		t.Errorf("a good code: %d %v", got, v)
	}
	for name, want := range map[string]int{"a code for the second time": 400, "a wrong secret": 401, "a wrong verifier": 400} {
		c, s, v := code, "secret", verifier
		switch name {
		case "a wrong secret":
			c, s = begin(good).Get("code"), "wrong"
		case "a wrong verifier":
			c, v = begin(good).Get("code"), strings.Repeat("w", 43)
		}
		if got, _ := redeem(c, s, v); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if len(p.Mistakes()) > 0 {
		t.Errorf("mistakes where there are none: %q", p.Mistakes())
	}
	p.Refuses = "access_denied"
	if back := begin(good); back.Get("error") != "access_denied" || back.Get("code") != "" {
		t.Errorf("a refusal: %v", back)
	}
	begin(url.Values{"client_id": {"other"}})
	if n := len(p.Mistakes()); n != 7 {
		t.Errorf("%d mistakes were seen of 7: %q", n, p.Mistakes())
	}
	for _, path := range []string{"/keys", "/.well-known/openid-configuration"} {
		resp, err := client.Get(p.URL + path)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %v, %v", path, resp, err)
		}
		resp.Body.Close()
	}
	p.Stolen, p.Nonce = true, "other"
	if got, _ := redeem(begin(good).Get("code"), "secret", verifier); got != http.StatusOK {
		t.Errorf("a stolen key: %d", got)
	}
}
