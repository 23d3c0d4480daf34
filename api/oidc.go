package api

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

// OIDC lets people log in with an OpenID Connect provider, by the code flow with PKCE. What a
// person may do follows from the claims of the provider's token and Grants.
type OIDC struct {
	Issuer       string // as the provider writes it in its tokens
	ClientID     string
	ClientSecret string
	RedirectURL  string        // where the provider sends people back to: the server's /login/callback
	Scopes       []string      // what to ask the provider for, beside openid. nil means profile and email
	Grants       []Grant       // what claims are worth; a person whom none fits is refused
	Name         string        // the claim that names a person, who decides approvals in that name. "" means email if it is verified, or else sub
	Lifetime     time.Duration // of a session. 0 means 12 h
	HTTP         *http.Client  // to the provider. nil means one that waits for at most 30 s, reads at most 1 MiB of an answer, and follows no redirect to another host or away from TLS

	mu       sync.Mutex
	provider *oidc.Provider
}

// Grant gives scopes in a tenant to people who have a claim.
type Grant struct {
	Claim  string // such as groups, email or sub
	Value  string // what the claim is, or has among others
	Tenant string
	Scopes []Scope
}

// fits reports whether claims have what the grant asks for. A mail address counts only if the
// provider has verified it.
func (g Grant) fits(claims map[string]any) bool {
	if g.Claim == "email" {
		if verified, _ := claims["email_verified"].(bool); !verified {
			return false
		}
	}
	switch have := claims[g.Claim].(type) {
	case nil:
		return false
	case []any:
		return slices.ContainsFunc(have, func(v any) bool { return v == any(g.Value) })
	default:
		return fmt.Sprint(have) == g.Value
	}
}

// granted sums the grants that fit, those of the first one's tenant.
func (o *OIDC) granted(claims map[string]any) (tenant string, scopes []Scope) {
	for _, g := range o.Grants {
		if !g.fits(claims) || scopes != nil && g.Tenant != tenant {
			continue
		}
		tenant = g.Tenant
		for _, scope := range g.Scopes {
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return tenant, scopes
}

func (o *OIDC) client(ctx context.Context) context.Context {
	c := o.HTTP
	if c == nil {
		c = providerClient
	}
	return oidc.ClientContext(ctx, c)
}

// maxProviderAnswer is how much of an answer of the provider is read.
const maxProviderAnswer = 1 << 20

// providerClient asks providers. Where they are says the operator, who may well have one at a
// private address; where an answer sends it does not.
var providerClient = &http.Client{
	Timeout:   30 * time.Second,
	Transport: bounded{http.DefaultTransport},
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case len(via) >= 5:
			return errors.New("the provider redirects more than 5 times")
		case r.URL.Host != first.Host, r.URL.Scheme != first.Scheme && r.URL.Scheme != "https":
			return fmt.Errorf("the provider redirects from %s://%s to %s://%s, which is not followed", first.Scheme, first.Host, r.URL.Scheme, r.URL.Host)
		}
		return nil
	},
}

// bounded cuts answers off.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxProviderAnswer)
	}
	return res, err
}

// discover asks the provider for its addresses, once it answers.
func (o *OIDC) discover(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider == nil {
		// The provider keeps the context to fetch keys with later.
		p, err := oidc.NewProvider(o.client(context.WithoutCancel(ctx)), o.Issuer)
		if err != nil {
			p := newProblem(http.StatusServiceUnavailable, codeProvider, "the provider to log in with can't be asked: %v", err)
			p.Hint = "try again, or use a key"
			return nil, nil, p
		}
		o.provider = p
	}
	scopes := o.Scopes
	if scopes == nil {
		scopes = []string{"profile", "email"}
	}
	return o.provider, &oauth2.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: o.RedirectURL,
		Endpoint: o.provider.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}, nil
}

// errProvider says that the provider did not vouch for a person.
var errProvider = errors.New("the provider does not vouch for this")

// redeem exchanges a code for a person's claims.
func (o *OIDC) redeem(ctx context.Context, code, verifier, nonce string) (map[string]any, error) {
	provider, config, err := o.discover(ctx)
	if err != nil {
		return nil, err
	}
	ctx = o.client(ctx)
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not take the code: %w", errProvider, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, fmt.Errorf("%w: its answer has no id_token", errProvider)
	}
	id, err := provider.Verifier(&oidc.Config{ClientID: o.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProvider, err)
	}
	if id.Nonce != nonce {
		return nil, fmt.Errorf("%w: its token is an answer to another question", errProvider)
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: %w", errProvider, err)
	}
	return claims, nil
}

// nameIn returns the name in which a person decides: that of the claim that the settings say, or
// else the mail address if the provider has verified it. A claim that people may fill in
// themselves would let one take another's name; sub is the provider's own.
func (o *OIDC) nameIn(claims map[string]any) string {
	name := o.Name
	if name == "" {
		if verified, _ := claims["email_verified"].(bool); verified {
			name = "email"
		}
	}
	for _, claim := range []string{name, "sub"} {
		if text, _ := claims[claim].(string); strings.TrimSpace(text) != "" {
			return text
		}
	}
	return "somebody"
}
