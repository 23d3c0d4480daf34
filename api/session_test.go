package api_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// provider is an OpenID Connect provider with one key, at which anybody is the person of claims.
type provider struct {
	t      *testing.T
	url    string
	signer *rsa.PrivateKey

	mu     sync.Mutex
	claims map[string]any       // of the next token
	lie    func(map[string]any) // changes a token's claims before they are signed
	forge  bool                 // signs with a key that is not published
	asked  map[string]url.Values
}

func newProvider(t *testing.T) *provider {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, signer: key, asked: map[string]url.Values{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": p.url, "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token",
			"jwks_uri": p.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
			"n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}}})
	})
	mux.HandleFunc("POST /token", p.token)
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	p.url = front.URL
	return p
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// authorize is what the provider does when a browser comes: it asks the person, and sends it back.
func (p *provider) authorize(location string) (code, state string) {
	p.t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, p.url+"/authorize?") {
		p.t.Fatalf("the browser is sent to %s", location)
	}
	q := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": "pawl", "code_challenge_method": "S256", "redirect_uri": "https://pawl.test/login/callback"} {
		if q.Get(name) != want {
			p.t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if !strings.Contains(q.Get("scope"), "openid") || q.Get("state") == "" || q.Get("nonce") == "" || q.Get("code_challenge") == "" {
		p.t.Errorf("asked with %v", q)
	}
	code = rand.Text()
	p.mu.Lock()
	p.asked[code] = q
	p.mu.Unlock()
	return code, q.Get("state")
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	asked, ok := p.asked[r.PostFormValue("code")]
	delete(p.asked, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || id != "pawl" || secret != "hush" || b64(challenge[:]) != asked.Get("code_challenge") {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	claims := map[string]any{"iss": p.url, "aud": "pawl", "sub": "u1", "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	for name, v := range p.claims {
		claims[name] = v
	}
	if p.lie != nil {
		p.lie(claims)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		p.t.Error(err)
	}
	text := b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(body)
	signer := p.signer
	if p.forge {
		if signer, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			p.t.Error(err)
		}
	}
	sum := sha256.Sum256([]byte(text))
	mac, err := rsa.SignPKCS1v15(rand.Reader, signer, crypto.SHA256, sum[:])
	if err != nil {
		p.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":"x","token_type":"Bearer","id_token":%q}`, text+"."+b64(mac))
}

// cookieOf returns the cookie that an answer sets.
func cookieOf(r reply, name string) *http.Cookie {
	for _, c := range (&http.Response{Header: r.header}).Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func with(cookies ...*http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		for _, c := range cookies {
			if c != nil {
				r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
			}
		}
	}
}

func withJSON(r *http.Request) { r.Header.Set("Content-Type", "application/json") }

func TestPeopleLogIn(t *testing.T) {
	p := newProvider(t)
	grants := []api.Grant{
		{Claim: "groups", Value: "ops", Tenant: "a", Scopes: []api.Scope{api.RunsRead, api.RunsOperate}},
		{Claim: "groups", Value: "starters", Tenant: "a", Scopes: []api.Scope{api.RunsStart}},
		{Claim: "groups", Value: "others", Tenant: "b", Scopes: []api.Scope{api.Admin}},
		{Claim: "email", Value: "boss@example.org", Scopes: []api.Scope{api.Admin}},
	}
	auth := func() *api.Auth {
		a := unlimited()
		a.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Grants: grants, Lifetime: time.Hour}
		return a
	}
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: auth(), Hosts: []string{"pawl.test"}})
		back := func(cookies []*http.Cookie, code, state string) reply {
			return h.send("GET", "/login/callback?session_state=1&code="+code+"&state="+state, "", with(cookies...))
		}
		login := func(claims map[string]any) reply {
			t.Helper()
			p.mu.Lock()
			p.claims = claims
			p.mu.Unlock()
			r := h.send("GET", "/login?return=/ui/runs", "")
			c := cookieOf(r, "__Host-pawl-login")
			if r.status != 302 || c == nil || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 600 {
				t.Fatalf("%d %v", r.status, r.header)
			}
			code, state := p.authorize(r.header.Get("Location"))
			return back([]*http.Cookie{c}, code, state)
		}
		r := login(map[string]any{"groups": []string{"all", "ops", "starters", "others"}, "email": "boss@example.org", "name": "boss", "preferred_username": "boss"})
		session := cookieOf(r, "__Host-pawl")
		if r.status != 302 || r.header.Get("Location") != "/ui/runs" || session == nil || !session.HttpOnly || !session.Secure || session.SameSite != http.SameSiteLaxMode || session.MaxAge != 3600 {
			t.Fatalf("%d %s %v", r.status, r.body, r.header)
		}
		var who api.Whoami
		h.send("GET", "/api/whoami", "", with(session)).into(t, &who)
		if who.Name != "u1" || who.Tenant != "a" || !who.Session || fmt.Sprint(who.Scopes) != "[runs:read runs:operate runs:start]" {
			t.Errorf("%+v", who)
		}
		records, err := h.engine.Records(t.Context(), "api.sessions", "", "", 10)
		if err != nil || len(records) != 1 || strings.Contains(string(records[0].Data)+records[0].Key, session.Value) {
			t.Errorf("the store has %v %v", records, err)
		}

		// What changes something is JSON, and from this origin.
		h.refused(415, "media_type", "POST", "/api/runs", `{"workflow":"waits"}`, with(session))
		h.refused(415, "media_type", "POST", "/api/runs", `{"workflow":"waits"}`, with(session), func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") })
		h.refused(403, "cross_origin", "POST", "/api/runs", `{"workflow":"waits"}`, with(session), withJSON, func(r *http.Request) { r.Header.Set("Origin", "https://evil.com") })
		h.refused(403, "cross_origin", "POST", "/logout", `{}`, with(session), withJSON, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
		if r := h.send("POST", "/api/runs", `{"workflow":"waits","id":"w"}`, with(session), withJSON); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
		h.refused(403, "scope", "GET", "/api/keys", "", with(session))
		h.refused(401, "unauthorized", "GET", "/api/whoami", "", with(&http.Cookie{Name: "__Host-pawl", Value: session.Value[1:]}))

		// A view ends with its session.
		v, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/runs/w/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		with(session)(v)
		res, err := http.DefaultClient.Do(v)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		defer res.Body.Close()
		h.refused(415, "media_type", "POST", "/logout", "", with(session))
		if r := h.send("POST", "/logout", `{}`, with(session), withJSON); r.status != 204 || cookieOf(r, "__Host-pawl").MaxAge != -1 {
			t.Errorf("logout: %d %v", r.status, r.header)
		}
		out := time.Now()
		for buf := make([]byte, 4096); err == nil; {
			_, err = res.Body.Read(buf)
		}
		if late := time.Since(out); late > time.Second {
			t.Errorf("the view ended %v after its session", late)
		}
		h.refused(401, "unauthorized", "GET", "/api/whoami", "", with(session))

		// Who has nothing here, or a mail address that nobody has verified, is refused.
		for _, claims := range []map[string]any{nil, {"groups": "op"}, {"groups": []string{"op"}}, {"email": "boss@example.org"}, {"email": "boss@example.org", "email_verified": "true"}} {
			if r := login(claims); r.status != 403 || cookieOf(r, "__Host-pawl") != nil {
				t.Errorf("%v: %d %s", claims, r.status, r.body)
			}
		}
		boss := map[string]any{"email": "boss@example.org", "email_verified": true}
		if r := login(boss); r.status != 302 {
			t.Errorf("%d %s", r.status, r.body)
		}

		// Tokens that are not for this.
		lies := map[string]func(map[string]any){
			"for another":     func(c map[string]any) { c["aud"] = "other" },
			"of another":      func(c map[string]any) { c["iss"] = "https://evil.com" },
			"too old":         func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
			"another's nonce": func(c map[string]any) { c["nonce"] = "x" },
			"without a nonce": func(c map[string]any) { delete(c, "nonce") },
		}
		for name, lie := range lies {
			p.mu.Lock()
			p.lie = lie
			p.mu.Unlock()
			if r := login(boss); r.status != 403 || cookieOf(r, "__Host-pawl") != nil {
				t.Errorf("a token %s: %d %s", name, r.status, r.body)
			}
		}
		p.mu.Lock()
		p.lie, p.forge = nil, true
		p.mu.Unlock()
		if r := login(boss); r.status != 403 {
			t.Errorf("a forged token: %d %s", r.status, r.body)
		}
		p.mu.Lock()
		p.forge = false
		p.mu.Unlock()

		// A login belongs to the browser that began it, once.
		begin := func() (*http.Cookie, string, string) {
			r := h.send("GET", "/login", "")
			code, state := p.authorize(r.header.Get("Location"))
			return cookieOf(r, "__Host-pawl-login"), code, state
		}
		mine, code, state := begin()
		other, _, _ := begin()
		for name, cookies := range map[string][]*http.Cookie{"no": nil, "another": {other}} {
			if r := back(cookies, code, state); r.status != 403 {
				t.Errorf("with %s cookie: %d %s", name, r.status, r.body)
			}
		}
		if r := back([]*http.Cookie{mine}, code, state); r.status != 302 || r.header.Get("Location") != "/" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r := back([]*http.Cookie{mine}, code, state); r.status != 403 {
			t.Errorf("a second time: %d %s", r.status, r.body)
		}
		mine, _, state = begin()
		if r := back([]*http.Cookie{mine}, "stolen", state); r.status != 403 {
			t.Errorf("a code that the provider did not give: %d %s", r.status, r.body)
		}
		for _, to := range []string{"https://evil.com", "//evil.com", "/\\evil.com", "\\\\evil.com", "evil", "/\tx", "javascript:alert(1)"} {
			h.refused(400, "bad_request", "GET", "/login?return="+url.QueryEscape(to), "")
		}
	})
}

func TestASessionExpires(t *testing.T) {
	p := newProvider(t)
	p.claims = map[string]any{"sub": "me"}
	a := unlimited()
	a.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: 300 * time.Millisecond,
		Grants: []api.Grant{{Claim: "sub", Value: "me", Scopes: []api.Scope{api.Admin}}}}
	h := open(t, api.Options{Auth: a})
	r := h.send("GET", "/login", "")
	code, state := p.authorize(r.header.Get("Location"))
	r = h.send("GET", "/login/callback?code="+code+"&state="+state, "", with(cookieOf(r, "__Host-pawl-login")))
	token := cookieOf(r, "__Host-pawl")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r := h.send("GET", "/api/whoami", "", with(token)); r.status == 401 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a session that has expired opens")
		}
	}
	without := open(t, api.Options{Auth: unlimited()})
	without.refused(404, "not_found", "GET", "/login", "")
	without.refused(404, "not_found", "GET", "/login/callback?code=x&state=y", "")
}
