package openai

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// DefaultBaseURL is the endpoint of OpenAI itself.
const DefaultBaseURL = "https://api.openai.com/v1"

// DefaultMaxAnswerBytes is the largest answer that a Client takes: 16 MiB.
const DefaultMaxAnswerBytes = exchange.DefaultMaxAnswerBytes

// Options says where and as whom to call. At OpenAI itself a key is needed.
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
	line           *exchange.Line
	provider       string
	maxTokensField string
}

var (
	_ llm.Streamer = (*Client)(nil)
	_ llm.Embedder = (*Client)(nil)
)

// New returns a client. It calls nobody: a base URL or key that cannot be used at all is
// reported by every call, before anything is sent.
func New(opt Options) *Client {
	provider := cmp.Or(opt.Provider, "openai")
	header := opt.Header.Clone()
	if opt.Project != "" {
		if header == nil {
			header = http.Header{}
		}
		header.Set("OpenAI-Project", opt.Project)
	}
	c := &Client{
		line: exchange.New(exchange.Options{
			Provider: provider, BaseURL: cmp.Or(opt.BaseURL, DefaultBaseURL), OwnURL: DefaultBaseURL, KeyVariable: "OPENAI_API_KEY",
			Key: opt.APIKey, Header: header, HTTPClient: opt.HTTPClient, MaxAnswerBytes: opt.MaxAnswerBytes,
		}),
		provider:       provider,
		maxTokensField: opt.MaxTokensField,
	}
	if !c.line.Usable() {
		return c
	}
	if c.maxTokensField == "" {
		c.maxTokensField = maxTokensField(c.line.Base.Hostname())
	}
	config := oai.DefaultConfig(opt.APIKey)
	config.BaseURL = c.line.Base.String()
	config.OrgID = opt.Organization
	config.HTTPClient = c.line.HTTP
	c.api = oai.NewClientWithConfig(config)
	return c
}

// Generate asks for the whole answer in one piece. See [llm.Model].
func (c *Client) Generate(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	x, err := c.chat(req)
	if err != nil {
		return nil, err
	}
	answer, err := c.api.CreateChatCompletion(x.With(ctx), chatRequest(req))
	if err != nil || !x.OK() { // go-openai reads no further than it must, and takes a redirect for an answer
		return nil, x.Failure(ctx, err)
	}
	return c.response(x, &answer)
}

// Embed asks for the vectors of all inputs in one call. See [llm.Embedder].
func (c *Client) Embed(ctx context.Context, req *llm.EmbedRequest) (*llm.EmbedResponse, error) {
	x, err := c.line.Call(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	answer, err := c.api.CreateEmbeddings(x.With(ctx), oai.EmbeddingRequestStrings{
		Input:          req.Input,
		Model:          oai.EmbeddingModel(req.Model),
		EncodingFormat: oai.EmbeddingEncodingFormatFloat,
		Dimensions:     req.Dimensions,
	})
	if err != nil || !x.OK() {
		return nil, x.Failure(ctx, err)
	}
	return c.embedding(x, &answer, len(req.Input))
}

// chat prepares a chat completion.
func (c *Client) chat(req *llm.Request) (*exchange.Call, error) {
	x, err := c.line.Call(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	x.Finish = finishing(req, c.maxTokensField)
	return x, nil
}

func maxTokensField(host string) string {
	if host == "openai.com" || strings.HasSuffix(host, ".openai.com") || strings.HasSuffix(host, ".openai.azure.com") {
		return "max_completion_tokens"
	}
	return "max_tokens"
}
