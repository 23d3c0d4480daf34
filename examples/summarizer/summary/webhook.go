package summary

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
)

// webhook takes what GitHub tells of issues, pull requests and comments. Its 202 means that
// the run is durable. A delivery that comes again, with the same id, is the same run.
func (h *handler) webhook(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if h.opt.WebhookSecret == "" {
		return 0, nil, demo.Refuse(http.StatusServiceUnavailable, "GITHUB_WEBHOOK_SECRET is not set, so no webhook can be verified; set it and start the server again")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		return 0, nil, err
	}
	if !signed(body, r.Header.Get("x-hub-signature-256"), h.opt.WebhookSecret) {
		return 0, nil, demo.Refuse(http.StatusUnauthorized, "Invalid signature")
	}
	if r.Header.Get("X-GitHub-Event") == "ping" {
		return http.StatusOK, object{"status": "pong"}, nil
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return 0, nil, demo.Refuse(http.StatusBadRequest, "the payload is not the JSON of a GitHub event (the webhook's content type must be application/json): %v", err)
	}
	if p.Action != "" && !p.fresh() {
		return http.StatusOK, object{"status": "ignored", "action": p.Action}, nil
	}
	text := strings.TrimSpace(p.text())
	switch {
	case text == "":
		return 0, nil, demo.Refuse(http.StatusBadRequest, "No text content in webhook payload")
	case p.Action == "":
		return 0, nil, demo.Refuse(http.StatusBadRequest, "No action in webhook payload")
	}
	delivery := r.Header.Get("X-GitHub-Delivery")
	if !deliveryID.MatchString(delivery) {
		return 0, nil, demo.Refuse(http.StatusBadRequest, "the header X-GitHub-Delivery is %.120q; it must be the delivery's id", delivery)
	}
	run, err := h.machine.Start(r.Context(), h.engine, Summary{Text: text, Source: "github"}, pawl.ID("github-"+delivery))
	if errors.Is(err, pawl.ErrConflict) {
		return 0, nil, demo.Refuse(http.StatusConflict, "delivery %s came before with another text", delivery)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, object{"status": "processing", "workflowId": run.ID()}, nil
}

var deliveryID = regexp.MustCompile(`^[A-Za-z0-9-]{1,100}$`)

// signed reports whether the header is the signature of the raw body.
func signed(body []byte, header, secret string) bool {
	text, ok := strings.CutPrefix(header, "sha256=")
	got, err := hex.DecodeString(text)
	if !ok || err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(got, mac.Sum(nil)) // in constant time; another length is not equal
}

// payload is what a summary needs of an event.
type payload struct {
	Action      string
	Comment     *entry
	Issue       *entry
	PullRequest *entry `json:"pull_request"`
}

type entry struct{ Body string }

// fresh reports whether there is a new text: a label or a close brings none.
func (p *payload) fresh() bool {
	return p.Action == "opened" || p.Action == "edited" || p.Action == "created"
}

// text is the comment's where it is one: such an event has the issue's text too.
func (p *payload) text() string {
	for _, e := range []*entry{p.Comment, p.Issue, p.PullRequest} {
		if e != nil {
			return e.Body
		}
	}
	return ""
}
