package anthropic

import (
	"cmp"
	"context"
	"net/http"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// DefaultBaseURL is the endpoint of Anthropic itself.
const DefaultBaseURL = "https://api.anthropic.com"

// DefaultMaxAnswerBytes is the largest answer that a Client takes: 16 MiB.
const DefaultMaxAnswerBytes = exchange.DefaultMaxAnswerBytes

// DefaultMaxTokens is the limit of a request that has none: as much as every model of
// Anthropic's may write.
const DefaultMaxTokens = 4096

// Options says where and as whom to call. At Anthropic itself a key is needed.
type Options struct {
	// APIKey is sent as X-Api-Key. Empty sends none, as local servers want it.
	APIKey string

	// BaseURL is the part before /v1/messages, without a query; empty means
	// DefaultBaseURL.
	BaseURL string

	// Header is added to every request, for instance Anthropic-Beta, or Authorization for
	// gateways that want a bearer token. Its values are kept out of errors, as the key is.
	Header http.Header

	// HTTPClient makes the calls; nil means one of the Client's own, without a time limit
	// and without a proxy. Unless its CheckRedirect says otherwise, redirects are not
	// followed: a redirected POST would lose its body or carry it to another host.
	HTTPClient *http.Client

	// Provider is the name in responses and errors; empty means "anthropic".
	Provider string

	// MaxTokens is sent for requests that do not say theirs; 0 means DefaultMaxTokens.
	MaxTokens int

	// MaxAnswerBytes is the largest answer taken, a stream's events together; 0 means
	// DefaultMaxAnswerBytes. A larger one ends the call with llm.ErrAnswerTooLarge.
	MaxAnswerBytes int64
}

// Client is an [llm.Model] and [llm.Streamer]. It is safe for concurrent use.
type Client struct {
	api       sdk.Client
	line      *exchange.Line
	provider  string
	maxTokens int
}

var _ llm.Streamer = (*Client)(nil)

// New returns a client. It calls nobody: a base URL or key that cannot be used at all is
// reported by every call, before anything is sent.
func New(opt Options) *Client {
	c := &Client{provider: cmp.Or(opt.Provider, "anthropic"), maxTokens: cmp.Or(opt.MaxTokens, DefaultMaxTokens)}
	c.line = exchange.New(exchange.Options{
		Provider: c.provider, BaseURL: cmp.Or(opt.BaseURL, DefaultBaseURL), OwnURL: DefaultBaseURL, KeyVariable: "ANTHROPIC_API_KEY",
		Key: opt.APIKey, Header: opt.Header, HTTPClient: opt.HTTPClient, MaxAnswerBytes: opt.MaxAnswerBytes,
	})
	if !c.line.Usable() {
		return c
	}
	options := []option.RequestOption{
		option.WithoutEnvironmentDefaults(),
		option.WithoutOpenTelemetry(), // which the environment could turn on otherwise
		option.WithBaseURL(c.line.Base.String()),
		option.WithHTTPClient(c.line.HTTP),
		option.WithMaxRetries(0),
	}
	if opt.APIKey != "" {
		options = append(options, option.WithAPIKey(opt.APIKey))
	}
	c.api = sdk.NewClient(options...)
	return c
}

// Generate asks for the whole answer in one piece. See [llm.Model].
func (c *Client) Generate(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	x, err := c.line.Call(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	if err := c.post(ctx, x, req); err != nil {
		return nil, err
	}
	var answer sdk.Message
	if err := x.Decode(&answer); err != nil {
		return nil, x.Failure(ctx, err)
	}
	return c.response(x, &answer)
}

// post sends req. The SDK's own method for this would refuse limits of tokens that it
// thinks take long, and put a time limit on the others; so the answer is asked for raw.
func (c *Client) post(ctx context.Context, x *exchange.Call, req *llm.Request, opts ...option.RequestOption) error {
	var raw *http.Response
	err := c.api.Post(x.With(ctx), "v1/messages", c.params(req), &raw, opts...)
	if err == nil && x.OK() {
		x.Answer = raw.Body
		return nil
	}
	if raw != nil {
		raw.Body.Close()
	}
	return x.Failure(ctx, err)
}
