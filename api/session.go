package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"golang.org/x/oauth2"
)

// The cookies. The prefix __Host- makes browsers take them only from this host, by HTTPS or
// on loopback, for all paths: nobody else can set one.
const (
	sessionCookie = "__Host-pawl"
	loginCookie   = "__Host-pawl-login"
)

const (
	sessionSpace = "api.sessions"
	loginSpace   = "api.logins"
	loginLimit   = 10 * time.Minute // to log in at the provider
)

// sessionID begins the id of a caller that has a session.
const sessionID = "session "

// storedSession is the record of a session, under the hash of what the cookie holds.
type storedSession struct {
	Subject string    `json:"subject"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant,omitempty"`
	Scopes  []Scope   `json:"scopes"`
	Expires time.Time `json:"expires"`
}

// storedLogin is the record of a login under way, under the hash of its state.
type storedLogin struct {
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	Return   string `json:"return"`
}

func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// isJSON reports whether a request says that its body is JSON, which a page of another origin
// can't send without being asked back.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// isYAML reports whether a body was sent as YAML, which like JSON a form of another page can't be.
func isYAML(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (kind == "application/yaml" || kind == "application/x-yaml")
}

// session returns who has a session.
func (s *server) session(w http.ResponseWriter, r *http.Request, token string) (*caller, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	stored, err := s.findSession(ctx, hashed(token))
	if errors.Is(err, ErrKey) {
		return nil, unauthorized(w, err)
	}
	if err != nil {
		return nil, err
	}
	id := hashed(token)
	return &caller{
		id: sessionID + id, name: stored.Name, tenant: stored.Tenant, scopes: stored.Scopes, expires: stored.Expires, person: true,
		valid: func(ctx context.Context) error { _, err := s.findSession(ctx, id); return err },
	}, nil
}

func (s *server) findSession(ctx context.Context, id string) (stored storedSession, err error) {
	r, err := s.door.Keys.Engine.Record(ctx, sessionSpace, id)
	if err == nil {
		err = json.Unmarshal(r.Data, &stored)
	}
	if errors.Is(err, pawl.ErrNotFound) { // a record is gone when its time is over
		err = fmt.Errorf("%w: the session is over: log in again", ErrKey)
	}
	return stored, err
}

type loginInput struct {
	Return string `query:"return" doc:"The path on this server to go to afterwards."`
}

type callbackInput struct {
	Code  string `query:"code"`
	State string `query:"state"`
	Error string `query:"error"`
	Login string `cookie:"__Host-pawl-login"`
}

type logoutInput struct {
	Session string `cookie:"__Host-pawl"`
	Body    Empty
}

type redirect struct {
	Location string   `header:"Location"`
	Cookies  []string `header:"Set-Cookie"`
}

func (s *server) sessionRoutes() {
	add(s, route{id: "login", method: http.MethodGet, path: "/login", scope: public, status: http.StatusFound, summary: "Send a person to the provider to log in"}, s.login)
	add(s, route{id: "loginCallback", method: http.MethodGet, path: "/login/callback", scope: public, status: http.StatusFound, loose: true,
		summary: "Take a person back from the provider"}, s.callback)
	add(s, route{id: "logout", method: http.MethodPost, path: "/logout", scope: public, status: http.StatusNoContent, summary: "End a session"}, s.logout)
}

func (s *server) provider() (*OIDC, error) {
	if s.door == nil || s.door.OIDC == nil {
		p := newProblem(http.StatusNotFound, "not_found", "nobody can log in here: the server has no provider")
		p.Hint = "use a key"
		return nil, p
	}
	return s.door.OIDC, nil
}

func (s *server) login(ctx context.Context, in *loginInput) (*redirect, error) {
	o, err := s.provider()
	if err != nil {
		return nil, err
	}
	to := cmp.Or(in.Return, "/")
	if !local(to) {
		return nil, badRequest("return is %q; it must be a path on this server", to)
	}
	_, config, err := o.discover(ctx)
	if err != nil {
		return nil, err
	}
	state, login := rand.Text(), storedLogin{Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Return: to}
	data, err := json.Marshal(login)
	if err != nil {
		return nil, err
	}
	if _, err := s.door.Keys.Engine.Write(ctx, pawl.Put{Space: loginSpace, Key: hashed(state), Data: data, Until: time.Now().Add(loginLimit)}); err != nil {
		return nil, err
	}
	return &redirect{
		Location: config.AuthCodeURL(state, oauth2.SetAuthURLParam("nonce", login.Nonce), oauth2.S256ChallengeOption(login.Verifier)),
		Cookies:  []string{cookie(loginCookie, state, loginLimit)},
	}, nil
}

// local reports whether a browser that is sent to a path stays on this server.
func local(path string) bool {
	u, err := url.Parse(path)
	return err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") &&
		!strings.ContainsAny(path, "\\\t\r\n")
}

// callback makes a session of what the provider says. The state must be the one that this
// browser was sent away with, and is used up by it.
func (s *server) callback(ctx context.Context, in *callbackInput) (*redirect, error) {
	o, err := s.provider()
	if err != nil {
		return nil, err
	}
	if in.State == "" || subtle.ConstantTimeCompare([]byte(in.State), []byte(in.Login)) != 1 {
		return nil, newProblem(http.StatusForbidden, codeLogin, "this login was not begun in this browser: begin at /login")
	}
	engine := s.door.Keys.Engine
	r, err := engine.Record(ctx, loginSpace, hashed(in.State))
	if err == nil {
		_, err = engine.Write(ctx, pawl.Put{Space: loginSpace, Key: r.Key, If: r.Version}) // used up
	}
	if errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrConflict) {
		return nil, newProblem(http.StatusForbidden, codeLogin, "this login took too long, or was finished before: begin at /login")
	}
	if err != nil {
		return nil, err
	}
	if in.Error != "" {
		return nil, newProblem(http.StatusForbidden, codeLogin, "the provider has refused the login: %q", in.Error)
	}
	var login storedLogin
	if err := json.Unmarshal(r.Data, &login); err != nil {
		return nil, err
	}
	claims, err := o.redeem(ctx, in.Code, login.Verifier, login.Nonce)
	if errors.Is(err, errProvider) {
		s.log.Warn("pawl: a login failed", "error", err)
		return nil, newProblem(http.StatusForbidden, codeLogin, "the provider does not vouch for this login: begin at /login; the server's log says more")
	}
	if err != nil {
		return nil, err
	}
	tenant, scopes := o.granted(claims)
	if len(scopes) == 0 {
		return nil, newProblem(http.StatusForbidden, codeLogin, "%s may do nothing here: no grant of the server fits what the provider says", o.nameIn(claims))
	}
	life := cmp.Or(o.Lifetime, 12*time.Hour)
	token, subject := rand.Text()+rand.Text(), claims["sub"]
	stored := storedSession{Subject: fmt.Sprint(subject), Name: o.nameIn(claims), Tenant: tenant, Scopes: scopes, Expires: time.Now().Add(life).UTC()}
	data, err := json.Marshal(stored)
	if err != nil {
		return nil, err
	}
	if _, err := engine.Write(ctx, pawl.Put{Space: sessionSpace, Key: hashed(token), Data: data, Until: stored.Expires}); err != nil {
		return nil, err
	}
	return &redirect{Location: login.Return, Cookies: []string{cookie(sessionCookie, token, life), cookie(loginCookie, "", -1)}}, nil
}

func (s *server) logout(ctx context.Context, in *logoutInput) (*redirect, error) {
	if in.Session != "" && s.door != nil {
		if !isJSON(exchangeOf(ctx).r) {
			return nil, newProblem(http.StatusUnsupportedMediaType, codeMedia, "send this with Content-Type: application/json, which a form of another page can't be")
		}
		if _, err := s.door.Keys.Engine.Write(ctx, pawl.Put{Space: sessionSpace, Key: hashed(in.Session), If: pawl.AnyVersion}); err != nil {
			return nil, err
		}
	}
	return &redirect{Cookies: []string{cookie(sessionCookie, "", -1)}}, nil
}

// cookie writes a Set-Cookie header. A life that is not positive takes the cookie away.
func cookie(name, value string, life time.Duration) string {
	c := http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode, MaxAge: -1}
	if life > 0 {
		c.MaxAge = int(life / time.Second)
	}
	return c.String()
}
