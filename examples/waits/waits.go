// Package waits has two small workflows to see how a run waits and is answered: by a request to
// its webhook, and by a person's decision. They ask no model and need no setting. "pawl dev" has
// them ready.
//
// While a run waits it is a row in the store: kill the server and start it again, the address of the
// webhook stays the same, and the approval is still there to be decided.
package waits

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// Names of the workflows.
const (
	WebhookDemo  = "webhook-demo"
	ApprovalDemo = "approval-demo"
)

// Patience is how long the webhook waits for its request.
const Patience = 24 * time.Hour

// Heard is what came to the webhook.
type Heard struct {
	Method string `json:"method"`
	Body   string `json:"body"`
	Words  int    `json:"words"`
}

// Sender says who calls the webhook. The zero Sender, or no input, is anybody who has the address.
type Sender struct {
	Scheme string `json:"scheme,omitempty"` // github, stripe, slack, standard or hmac: requests that are not signed so are refused
	Secret string `json:"secret,omitempty"` // Scheme: the name under which the server has the secret
}

// Validate refuses a scheme without the name of its secret, and a name without a scheme.
func (s Sender) Validate() error {
	if (s.Scheme == "") != (s.Secret == "") {
		return fmt.Errorf(`a signed request has a scheme, and a secret that the server knows by name: {"scheme":"github","secret":"hub"}`)
	}
	return nil
}

// NewWebhook makes a workflow that waits for one request to an address of its own, and tells what
// was in it. The address is that of its hook: whoever may send to hooks is shown it.
func NewWebhook() *pawl.Workflow[Sender, Heard] {
	return pawl.Define(WebhookDemo, func(c *pawl.Context, in Sender) (Heard, error) {
		opts := []pawl.HookOption{pawl.Answering(pawl.Response{Status: 200, Body: []byte("thank you\n")})}
		if in.Scheme != "" {
			opts = append(opts, pawl.Signed(in.Scheme, in.Secret))
		}
		w, err := pawl.NewWebhook(c, opts...)
		if err != nil {
			return Heard{}, err
		}
		req, err := w.Wait(c, pawl.Timeout(Patience))
		if err != nil {
			return Heard{}, err
		}
		return pawl.Step(c, "count", func(context.Context) (Heard, error) {
			body := string(req.Body)
			return Heard{Method: req.Method, Body: body, Words: len(strings.Fields(body))}, nil
		})
	}, pawl.Doc("Waits for a request to an address of its own, and counts the words in it."))
}

// Poster is what is to be put on the wall.
type Poster struct {
	Text string `json:"text"`
}

// Validate refuses a poster with nothing on it, and one that no wall has room for.
func (p Poster) Validate() error {
	if strings.TrimSpace(p.Text) == "" || len(p.Text) > 200 {
		return fmt.Errorf(`a poster has a text of 1 to 200 bytes: {"text":"Tea at five"}`)
	}
	return nil
}

// Hung is what became of a poster.
type Hung struct {
	Hung  bool   `json:"hung"`
	Text  string `json:"text"`
	Place string `json:"place,omitempty"`
	By    string `json:"by"` // who decided
	Said  string `json:"said,omitempty"`
}

// schema is the form of the approval.
var schema = json.RawMessage(`{
	"type": "object",
	"properties": {"place": {"enum": ["door", "kitchen"], "title": "Place", "description": "Left out: the door."}},
	"additionalProperties": false
}`)

// NewApproval makes a workflow that hangs up a poster if somebody approves it.
func NewApproval() *pawl.Workflow[Poster, Hung] {
	return pawl.Define(ApprovalDemo, func(c *pawl.Context, in Poster) (Hung, error) {
		d, err := approval.Ask(c, "hang", approval.Request{Title: "Hang up this poster?", Message: in.Text, Details: in, Schema: schema})
		if err != nil {
			return Hung{}, err
		}
		out := Hung{Text: in.Text, By: d.By, Said: d.Comment}
		if !d.Approved {
			return out, nil
		}
		form := struct{ Place string }{"door"}
		if len(d.Form) > 0 {
			if err := json.Unmarshal(d.Form, &form); err != nil { // it has passed the schema
				return Hung{}, err
			}
		}
		return pawl.Step(c, "hang up", func(context.Context) (Hung, error) {
			out.Hung, out.Place = true, form.Place
			return out, nil
		})
	}, pawl.Doc("Hangs up a poster if somebody approves it."))
}
