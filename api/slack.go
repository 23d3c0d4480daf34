package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger"
)

// SlackPath is where Slack posts presses of the buttons of approvals: the Request URL under Interactivity of a Slack app.
const SlackPath = "/slack/interactions"

// SlackOptions say who is who in Slack.
type SlackOptions struct {
	// Secrets are signing secrets of the app: a new one beside the old while it is changed.
	Secrets []string
	// People are the names under which approvals know people, by their ids in Slack: "U024BE7LH". Who is not here is slack: and the
	// id, which may be among the approvers too.
	People map[string]string
	// Client posts what came of a press to Slack. nil: http.DefaultClient.
	Client *http.Client
	Logger *slog.Logger // nil: slog.Default()
}

const (
	maxPress    = 256 << 10        // bytes of a request
	pressWithin = 2 * time.Second  // Slack waits for three
	answerIn    = 10 * time.Second // for what is shown then
	maxAnswers  = 32               // at a time
)

// presses takes the presses of buttons.
type presses struct {
	SlackOptions
	engine   *pawl.Engine
	verifier *trigger.Verifier
	answers  chan struct{}
}

// NewSlack makes the handler of presses of the buttons that approvals have in Slack (requestApproval of service.Slack, with a
// [approval.Links.Button]). Mount it at SlackPath, beside [New]. A press is taken only with Slack's signature, for the approval
// that the button was made for, and from who may decide it. The error says what is wrong with the secrets.
func NewSlack(engine *pawl.Engine, opt SlackOptions) (http.Handler, error) {
	v, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.Slack, Secrets: opt.Secrets})
	if err != nil {
		return nil, fmt.Errorf("the signing secret of Slack: %w", err)
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	return &presses{opt, engine, v, make(chan struct{}, maxAnswers)}, nil
}

// ServeHTTP answers Slack, and afterwards the person.
func (p *presses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, format string, args ...any) {
		p.Logger.Warn("pawl: a press of a button in Slack was refused", "status", status, "why", fmt.Sprintf(format, args...))
		http.Error(w, http.StatusText(status), status)
	}
	expectBody(w, r)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, "its method is %.20q", r.Method)
		return
	}
	body, err := readBody(w, r, maxPress)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(http.StatusRequestEntityTooLarge, "the body is over %d bytes", large.Limit)
		return
	case err != nil:
		refuse(http.StatusBadRequest, "the body broke off: %v", err)
		return
	}
	if _, err := p.verifier.Verify(r.Header, body, time.Now()); err != nil {
		refuse(http.StatusUnauthorized, "%v", err)
		return
	}
	click, err := service.ParseSlackClick(body)
	if err != nil {
		refuse(http.StatusBadRequest, "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pressWithin)
	defer cancel()
	by := cmp.Or(p.People[click.User.ID], "slack:"+click.User.ID)
	a, err := approval.Links{Engine: p.engine}.Press(ctx, click.Approval, approval.Answer{
		Approved: click.Approved, By: by, Via: "slack", Actor: "slack:" + click.User.Team + "/" + click.User.ID,
	})
	said := p.said(a, by, err)
	w.WriteHeader(http.StatusOK)
	if click.ResponseURL == "" {
		return
	}
	select {
	case p.answers <- struct{}{}:
		go func() {
			defer func() { <-p.answers }()
			p.answer(click.ResponseURL, said)
		}()
	default: // Slack is slow: the buttons stay, and say at the next press what has been decided
	}
}

// told is what people read in Slack.
type told struct {
	Text    string `json:"text"`
	Replace bool   `json:"replace_original"` // else it is shown to who pressed, and to nobody else
}

// said is what came of a press.
func (p *presses) said(a approval.Approval, by string, err error) told {
	var form *approval.FormError
	var decided *approval.DecidedError
	over := func(text string) told { return told{strings.TrimSpace(a.Title + "\n\n" + text), true} }
	what := func(d *approval.Decision) string {
		if d.Approved {
			return "Approved by " + d.By + "."
		}
		return "Rejected by " + d.By + "."
	}
	switch {
	case err == nil && a.Decision != nil:
		return over(what(a.Decision))
	case err == nil && a.State == approval.Decided:
		return over("It is decided.")
	case err == nil:
		return told{Text: fmt.Sprintf("Your vote counts. %d of %d are there.", len(a.Votes), a.Need)}
	case errors.As(err, &decided) && a.State == approval.Pending:
		return told{Text: "You have voted already; others are asked too."}
	case errors.As(err, &decided):
		return over(what(&decided.First))
	case errors.Is(err, approval.ErrNotAllowed):
		return told{Text: "You may not decide on this. The server knows you as " + by + "; " + plain(err)}
	case errors.As(err, &form):
		return told{Text: "To approve this a form is to be filled in: use the address that you were sent, or pawl approve " + a.Run + "."}
	case errors.Is(err, approval.ErrExpired):
		return over("Nobody decided in time.")
	case errors.Is(err, approval.ErrChanged):
		return over("What is to be decided has changed. Nothing was decided by this button.")
	case errors.Is(err, approval.ErrLink), errors.Is(err, pawl.ErrEnded), errors.Is(err, pawl.ErrNotFound):
		return told{Text: "There is nothing more to decide here."}
	}
	p.Logger.Error("pawl: a press of a button in Slack failed", "approval", a.ID, "error", err)
	return told{Text: "This did not work. Press again in a while: if it was decided, it says so."}
}

var inSlack = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// answer shows people what came of a press.
func (p *presses) answer(url string, said told) {
	said.Text = inSlack.Replace(said.Text)
	data, err := json.Marshal(said)
	if err != nil {
		return // it is a text and a truth
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerIn)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err == nil {
		r.Header.Set("Content-Type", "application/json")
		var res *http.Response
		if res, err = cmp.Or(p.Client, http.DefaultClient).Do(r); err == nil {
			err = res.Body.Close()
		}
	}
	if err != nil { // its text holds the address, which is a secret for half an hour
		p.Logger.Warn("pawl: what came of a press of a button could not be shown in Slack")
	}
}
