package approval

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// LinkPath is where a server that mounts package api answers links: the path is this and the
// token.
const LinkPath = "/approve/"

// purpose is what the key is for that signs links.
const purpose = "approval link"

// ErrLink reports a link that was not made by this engine, or not for anything that is here.
var ErrLink = errors.New("approval: no such link")

// Links makes and reads addresses at which people decide who have no account: who has the
// link is taken for the approver that it was made for, so it must be sent to nobody else.
//
// A link is for one approval and one approver, and says so itself, signed by a key that is
// derived of Options.Secret. Nothing is kept of it. It works until the approval is decided, or
// by its approver voted on, has expired or ended; and only while what is to be decided is what
// it was when the link was made.
type Links struct {
	Engine  *pawl.Engine
	BaseURL string // of the server that answers them, such as https://pawl.example.org
}

// ticket is what a link says.
type ticket struct {
	Tenant   string `json:"t,omitempty"`
	ID       string `json:"i"`
	Approver string `json:"a"`
	Shown    string `json:"s"`
	Asked    int64  `json:"n"` // microseconds; the run may come again under its id
	Expires  int64  `json:"e"` // seconds
}

// For makes the link of an approver. pawl.ErrState: the engine has no Options.Secret.
// ErrNotAllowed: that one may never decide.
func (l Links) For(a Approval, approver string) (string, error) {
	base, err := url.Parse(l.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return "", fmt.Errorf("%w: links begin with an address such as https://pawl.example.org, not %q", pawl.ErrInput, l.BaseURL)
	}
	if ok, why := a.May(approver, a.Expires); !ok { // by then all may that ever may
		return "", &NotAllowedError{ID: a.ID, By: approver, Why: why}
	}
	data, err := json.Marshal(ticket{a.Tenant, a.ID, approver, a.Shown, a.Asked.UnixMicro(), a.Expires.Unix()})
	if err != nil {
		return "", err
	}
	mac, err := l.Engine.Sign(purpose, data)
	if err != nil {
		return "", fmt.Errorf("links to approvals are signed: %w", err)
	}
	enc := base64.RawURLEncoding.Strict()
	return strings.TrimRight(l.BaseURL, "/") + LinkPath + enc.EncodeToString(data) + "." + enc.EncodeToString(mac), nil
}

// Opened is what a link leads to.
type Opened struct {
	Approval Approval
	Approver string
	shown    string
}

// Open reads a link by its token, the last part of its address, and changes nothing. ErrLink:
// it is forged, or what it was for is forgotten. ErrChanged: what it was made for is not what
// there is to be decided now. What has become of the approval is in its State.
func (l Links) Open(ctx context.Context, token string) (Opened, error) {
	t, err := l.readSigned(purpose, token)
	if err != nil {
		return Opened{}, err
	}
	return l.opened(ctx, t)
}

// opened is what a ticket leads to.
func (l Links) opened(ctx context.Context, t ticket) (Opened, error) {
	a, err := Get(ctx, l.Engine, pawl.Ref{Tenant: t.Tenant, ID: t.ID})
	if errors.Is(err, pawl.ErrNotFound) {
		if !time.Now().Before(time.Unix(t.Expires, 0)) {
			return Opened{}, &ExpiredError{ID: t.ID, At: time.Unix(t.Expires, 0)}
		}
		return Opened{}, fmt.Errorf("%w: approval %s is gone", pawl.ErrEnded, t.ID)
	}
	if err != nil {
		return Opened{}, err
	}
	if a.Shown != t.Shown || a.Asked.UnixMicro() != t.Asked && a.State != Ended { // the journal has the time of an ended one less exactly
		return Opened{}, &ChangedError{ID: a.ID, Parts: changed(a.Shown, t.Shown), Seen: t.Shown, Now: a.Shown}
	}
	return Opened{a, t.Approver, t.Shown}, nil
}

// Decide decides by a link. The By and the Shown of the answer are those of the link. Errors
// are those of Open and of the function Decide.
func (l Links) Decide(ctx context.Context, token string, in Answer) (Approval, error) {
	o, err := l.Open(ctx, token)
	if err != nil {
		return o.Approval, err
	}
	in.By, in.Shown, in.Via = o.Approver, o.shown, "link"
	return Decide(ctx, l.Engine, pawl.Ref{Tenant: o.Approval.Tenant, ID: o.Approval.ID}, in)
}

// readSigned reads a ticket that was signed for a purpose.
func (l Links) readSigned(purpose, token string) (ticket, error) {
	var t ticket
	enc := base64.RawURLEncoding.Strict()
	payload, signed, ok := strings.Cut(token, ".")
	data, err := enc.DecodeString(payload)
	mac, merr := enc.DecodeString(signed)
	if !ok || err != nil || merr != nil || len(token) > 4096 || !l.Engine.Verify(purpose, data, mac) || json.Unmarshal(data, &t) != nil {
		return t, ErrLink
	}
	return t, nil
}
