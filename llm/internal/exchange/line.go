package exchange

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// DefaultMaxAnswerBytes is the largest answer that a Line takes unless told otherwise.
const DefaultMaxAnswerBytes = 16 << 20

// Options says where a Line leads.
type Options struct {
	Provider       string       // the name in errors
	BaseURL        string       // http or https, without query, fragment and user
	OwnURL         string       // the base URL of the provider itself, which answers nobody without a key
	Key            string       // kept out of errors; the SDK sends it
	KeyVariable    string       // where programs have the key from, for the error about none
	Header         http.Header  // added to every request, its values kept out of errors
	HTTPClient     *http.Client // nil means one of the Line's own
	MaxAnswerBytes int64        // 0 means DefaultMaxAnswerBytes
}

// Line leads to a provider. It is safe for concurrent use.
type Line struct {
	HTTP *http.Client // what an SDK is to make its calls with
	Base *url.URL     // nil if the Line cannot be used

	provider  string
	maxAnswer int64
	conceal   func(string) string // a closure, so that printing a Line prints no key
	broken    *llm.Error          // why no call can be made, or nil
}

// New returns a line. It calls nobody: options that cannot be used at all are reported by
// every call, before anything is sent.
func New(opt Options) *Line {
	l := &Line{
		HTTP:      httpClient(opt),
		provider:  opt.Provider,
		maxAnswer: cmp.Or(opt.MaxAnswerBytes, DefaultMaxAnswerBytes),
		conceal:   concealer(opt),
	}
	base, err := url.Parse(opt.BaseURL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		l.broken = l.errorf(llm.BadRequest, "the base URL is not an http or https URL such as %s", opt.OwnURL)
	case base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		l.broken = l.errorf(llm.BadRequest, "the base URL of %s has a query, fragment or user; use Options.Header or APIKey", base.Host)
	case !sendable(opt.Key):
		l.broken = l.errorf(llm.Auth, "the API key has a line break, space or control character in it")
	case opt.BaseURL == opt.OwnURL && opt.Key == "" && len(opt.Header) == 0 && opt.HTTPClient == nil:
		l.broken = l.errorf(llm.Auth, "there is no API key: set Options.APIKey, as from %s; without one, ask a server of your own (Options.BaseURL) or a script (llmtest.Script)", opt.KeyVariable)
	default:
		l.Base = base
	}
	return l
}

// Usable reports whether calls can be made.
func (l *Line) Usable() bool { return l.broken == nil }

// Call prepares a call of model, unless the line or the request, of which invalid says
// what is wrong, cannot be used.
func (l *Line) Call(model string, invalid error) (*Call, error) {
	if l.broken != nil {
		e := *l.broken
		e.Model = model
		return nil, &e
	}
	if invalid != nil {
		e := l.errorf(llm.BadRequest, "%s", invalid)
		e.Model = model
		return nil, e
	}
	return &Call{Model: model, line: l, limit: l.maxAnswer}, nil
}

func (l *Line) errorf(kind llm.Kind, format string, args ...any) *llm.Error {
	return &llm.Error{Kind: kind, Provider: l.provider, Message: l.conceal(fmt.Sprintf(format, args...))}
}

// concealer returns a function that takes the secrets of opt out of a text. Very short
// ones are dummies such as "x" and would tear holes into innocent words.
func concealer(opt Options) func(string) string {
	const shortest = 4
	var pairs []string
	hide := func(secret string) {
		if len(secret) >= shortest {
			pairs = append(pairs, secret, "[concealed]")
		}
	}
	hide(opt.Key)
	for _, values := range opt.Header {
		for _, v := range values {
			hide(v)
			if _, token, ok := strings.Cut(v, " "); ok { // the scheme of an Authorization is no secret, the rest is
				hide(token)
			}
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// sendable reports whether net/http would take s as part of a header.
func sendable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func httpClient(opt Options) *http.Client {
	var hc http.Client
	if opt.HTTPClient != nil {
		hc = *opt.HTTPClient
	} else {
		hc.Transport = &http.Transport{
			// No Proxy: ProxyFromEnvironment would read the environment.
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 64, // all calls go to one host; the default of 2 would close most connections
			IdleConnTimeout:     90 * time.Second,
		}
	}
	hc.Transport = &recorder{next: cmp.Or[http.RoundTripper](hc.Transport, http.DefaultTransport), header: opt.Header.Clone()}
	if hc.CheckRedirect == nil {
		hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &hc
}
