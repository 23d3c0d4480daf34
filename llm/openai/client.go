package openai

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
)

// DefaultBaseURL is the endpoint of OpenAI itself.
const DefaultBaseURL = "https://api.openai.com/v1"

// DefaultMaxAnswerBytes is the largest answer that a Client takes: 16 MiB.
const DefaultMaxAnswerBytes = 16 << 20

// Options says where and as whom to call. The zero value calls OpenAI without a key.
type Options struct {
	// APIKey is sent as a bearer token. Empty sends none, as local servers want it.
	APIKey string

	// BaseURL is the part before /chat/completions, without a query; empty means
	// DefaultBaseURL.
	BaseURL string

	Organization string // sent as OpenAI-Organization; empty sends none
	Project      string // sent as OpenAI-Project; empty sends none

	// Header is added to every request, for endpoints that want more than a bearer
	// token. Its values are kept out of errors, as the key is.
	Header http.Header

	// HTTPClient makes the calls; nil means one of the Client's own, without a time limit
	// and without a proxy. Unless its CheckRedirect says otherwise, redirects are not
	// followed: a redirected POST would lose its body or carry it to another host.
	HTTPClient *http.Client

	// Provider is the name in responses and errors; empty means "openai".
	Provider string

	// MaxTokensField is the name under which llm.Request.MaxTokens is sent. Empty means
	// "max_completion_tokens" for hosts of OpenAI and of Azure, and "max_tokens" for all
	// others, many of which know only that name, and some of which ignore what they do
	// not know.
	MaxTokensField string

	// MaxAnswerBytes is the largest answer taken, a stream's events together; 0 means
	// DefaultMaxAnswerBytes. A larger one ends the call with llm.ErrAnswerTooLarge.
	MaxAnswerBytes int64
}

// Client is an [llm.Model], [llm.Streamer] and [llm.Embedder]. It is safe for concurrent
// use.
type Client struct {
	api            *oai.Client
	provider       string
	maxTokensField string
	maxAnswer      int64
	conceal        func(string) string // a closure, so that printing a Client prints no key
	broken         *llm.Error          // why no call can be made, or nil
}

var (
	_ llm.Streamer = (*Client)(nil)
	_ llm.Embedder = (*Client)(nil)
)

// New returns a client. It calls nobody: a base URL or key that cannot be used at all is
// reported by every call, before anything is sent.
func New(opt Options) *Client {
	c := &Client{
		provider:       cmp.Or(opt.Provider, "openai"),
		maxTokensField: opt.MaxTokensField,
		maxAnswer:      cmp.Or(opt.MaxAnswerBytes, DefaultMaxAnswerBytes),
		conceal:        concealer(opt),
	}
	base, err := url.Parse(cmp.Or(opt.BaseURL, DefaultBaseURL))
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		c.broken = c.errorf(llm.BadRequest, "the base URL is not an http or https URL such as %s", DefaultBaseURL)
		return c
	case base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		c.broken = c.errorf(llm.BadRequest, "the base URL of %s has a query, fragment or user; use Options.Header or APIKey", base.Host)
		return c
	case !sendable(opt.APIKey):
		c.broken = c.errorf(llm.Auth, "the API key has a line break, space or control character in it")
		return c
	}
	if c.maxTokensField == "" {
		c.maxTokensField = maxTokensField(base.Hostname())
	}

	config := oai.DefaultConfig(opt.APIKey)
	config.BaseURL = base.String()
	config.OrgID = opt.Organization
	config.HTTPClient = httpClient(opt)
	c.api = oai.NewClientWithConfig(config)
	return c
}

// Generate asks for the whole answer in one piece. See [llm.Model].
func (c *Client) Generate(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	x, err := c.chat(req)
	if err != nil {
		return nil, err
	}
	answer, err := c.api.CreateChatCompletion(withExchange(ctx, x), chatRequest(req))
	if err != nil || !x.ok() || x.tooLarge { // go-openai reads no further than it must, and takes a redirect for an answer
		return nil, c.failure(ctx, x, err)
	}
	return c.response(x, &answer)
}

// Embed asks for the vectors of all inputs in one call. See [llm.Embedder].
func (c *Client) Embed(ctx context.Context, req *llm.EmbedRequest) (*llm.EmbedResponse, error) {
	x, err := c.exchange(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	answer, err := c.api.CreateEmbeddings(withExchange(ctx, x), oai.EmbeddingRequestStrings{
		Input:          req.Input,
		Model:          oai.EmbeddingModel(req.Model),
		EncodingFormat: oai.EmbeddingEncodingFormatFloat,
		Dimensions:     req.Dimensions,
	})
	if err != nil || !x.ok() || x.tooLarge {
		return nil, c.failure(ctx, x, err)
	}
	return c.embedding(x, &answer, len(req.Input))
}

// exchange prepares a call of model, unless the client or the request cannot be used.
func (c *Client) exchange(model string, invalid error) (*exchange, error) {
	if c.broken != nil {
		e := *c.broken
		e.Model = model
		return nil, &e
	}
	if invalid != nil {
		e := c.errorf(llm.BadRequest, "%s", invalid)
		e.Model = model
		return nil, e
	}
	return &exchange{model: model, limit: c.maxAnswer}, nil
}

// chat prepares a chat completion.
func (c *Client) chat(req *llm.Request) (*exchange, error) {
	x, err := c.exchange(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	x.finish = finishing(req, c.maxTokensField)
	return x, nil
}

func (c *Client) errorf(kind llm.Kind, format string, args ...any) *llm.Error {
	return &llm.Error{Kind: kind, Provider: c.provider, Message: c.conceal(fmt.Sprintf(format, args...))}
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
	hide(opt.APIKey)
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

func maxTokensField(host string) string {
	if host == "openai.com" || strings.HasSuffix(host, ".openai.com") || strings.HasSuffix(host, ".openai.azure.com") {
		return "max_completion_tokens"
	}
	return "max_tokens"
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
	header := opt.Header.Clone()
	if opt.Project != "" {
		if header == nil {
			header = http.Header{}
		}
		header.Set("OpenAI-Project", opt.Project)
	}
	hc.Transport = &recorder{next: cmp.Or[http.RoundTripper](hc.Transport, http.DefaultTransport), header: header}
	if hc.CheckRedirect == nil {
		hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &hc
}
