package approval

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Kind is the kind of the hooks that approvals wait on.
const Kind = "approval"

// Defaults and limits.
const (
	DefaultExpires = 7 * 24 * time.Hour
	DefaultKeep    = 90 * 24 * time.Hour
	// MaxShown is how many bytes of JSON an approval may show: a person is to read it.
	MaxShown = 48 << 10
	// MaxComment is how many bytes a comment may have.
	MaxComment = 8 << 10
	// MaxReminders is how often an approval may remind until its end.
	MaxReminders = 1000

	maxNeed      = 100
	maxApprovers = 1000
)

// Request is what is asked.
type Request struct {
	// Title says in a line what is to be decided. "" means the name of the approval.
	Title string
	// Message says more, in plain text; line ends count.
	Message string
	// Details is what exactly is decided on, as JSON: the values with which the run goes on.
	Details any
	// Schema is a JSON Schema of an object that the approver fills in: an amount, a reason.
	// A form that does not fit it is refused. An approval needs one that fits, a rejection may
	// do without. nil: there is no form.
	Schema json.RawMessage

	// Approvers are those who may decide, as Answer.By names them. None: anybody.
	Approvers []string
	// Need is how many of them must approve; 0 means 1, at most 100. One rejection rejects.
	Need int
	// Starter, if not "", names an attribute of the run which holds who started it: that one
	// may not decide. A run without the attribute is an error.
	Starter string

	// Remind are the times, from the asking on, at which those who have not answered are
	// reminded; Every reminds again and again.
	Remind []time.Duration
	Every  time.Duration
	// Escalate asks more people when nobody has decided for a while.
	Escalate *Escalation
	// Expires is how long the decision is waited for. 0 means a week.
	Expires time.Duration
	// OnExpire is the decision when nobody has decided by then. nil: Ask returns ErrExpired.
	OnExpire *Decision
	// Keep is how long what was decided can be listed, and links say what came of it. 0 means
	// 90 days. The run's journal has it for as long as there is the run.
	Keep time.Duration

	// Notify tells people: that they are asked, reminded, asked in place of others, that it
	// has expired, that it was decided. It is called in a step of the run, so it is tried again
	// when it fails, and may then be called twice for one notice: InfoOf(ctx).StepID is the
	// same. If it fails to ask, Ask fails; what else can't be said is in the journal, and the
	// run goes on. nil: nobody is told.
	Notify func(ctx context.Context, n Notice) error
	// NotifyOptions are those of the step. By default each attempt has a minute.
	NotifyOptions []pawl.StepOption
	// Notifiers tell people too, each by itself, when they are asked, reminded, and asked in place of others. They are done before
	// votes are looked at, side by side; a vote that comes meanwhile is kept.
	Notifiers []Notifier
	// BaseURL is where package api answers, such as https://pawl.example.org: a Notice then
	// has a link for each approver. It needs Options.Secret. "": notices have no links.
	BaseURL string
}

// Escalation asks others too, when an approval was not decided for After.
type Escalation struct {
	After     time.Duration `json:"after"`
	Approvers []string      `json:"approvers"`
}

// State is what has become of an approval.
type State string

// The states.
const (
	Pending State = "pending" // it waits
	Decided State = "decided"
	Expired State = "expired" // nobody decided in time
	Ended   State = "ended"   // its run ended, or went on, without it
)

// Approval is one question to people and what has become of it.
type Approval struct {
	ID       string `json:"id"` // the run's id, a slash, and the name; within the tenant
	Tenant   string `json:"tenant,omitempty"`
	Run      string `json:"run"`
	Workflow string `json:"workflow"`
	Name     string `json:"name"`
	State    State  `json:"state"`

	Title   string          `json:"title"`
	Message string          `json:"message,omitempty"`
	Details json.RawMessage `json:"details,omitempty"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Shown   string          `json:"shown"` // names all four of them: an Answer repeats it

	Approvers []string    `json:"approvers,omitempty"` // none: anybody
	Not       []string    `json:"not,omitempty"`       // who may not: the run's starter
	Need      int         `json:"need"`
	Escalate  *Escalation `json:"escalate,omitempty"`
	Asked     time.Time   `json:"asked"`
	Expires   time.Time   `json:"expires"`

	Votes    []Decision `json:"votes,omitempty"` // so far, where more than one is needed
	Decision *Decision  `json:"decision,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of Ended
}

// Decision is what a person decided.
type Decision struct {
	Approved bool            `json:"approved"`
	By       string          `json:"by,omitempty"` // "": nobody did, it is that of OnExpire
	At       time.Time       `json:"at,omitzero"`
	Comment  string          `json:"comment,omitempty"`
	Form     json.RawMessage `json:"form,omitempty"`
	Shown    string          `json:"shown,omitempty"` // names what the decider was shown
	Via      string          `json:"via,omitempty"`   // the way on which it came: link, api
	// Actor is what the decider was known by: key:ID or person:NAME; "": nobody was asked for a key, or Via says it. Who
	// has a key may decide in the name of another: By is what was claimed, Actor who did it.
	Actor string `json:"actor,omitempty"`
	// Votes are all that count, in order, where more than one was needed.
	Votes []Decision `json:"votes,omitempty"`
}

// Notice is what people are told.
type Notice struct {
	What     What
	Approval Approval
	Links    []Link // for those who may decide and have not; see Request.BaseURL

	links Links
}

// Notifier tells people in one way: a channel, a mail. Each notice is a step of its own: it is tried again when it fails, as
// Options say, and not because another has failed. What can't be said is in the journal, and the run waits nevertheless.
type Notifier struct {
	Name    string // of the branch in which its steps are; tells apart those of one Request
	Tell    func(ctx context.Context, n Notice) error
	Options []pawl.StepOption // by default each attempt has a minute
}

// Link makes the address at which somebody decides. "" if Request.BaseURL is. ErrNotAllowed: that one may never decide.
func (n *Notice) Link(approver string) (string, error) {
	if n.links.BaseURL == "" {
		return "", nil
	}
	return n.links.For(n.Approval, approver)
}

// Button makes what a button in a chat holds; see [Links.Button].
func (n *Notice) Button() (string, error) { return n.links.Button(n.Approval) }

// What says what a Notice is about.
type What string

// The notices.
const (
	Asked      What = "asked"
	Reminder   What = "reminder"
	Escalated  What = "escalated"
	HasExpired What = "expired"
	WasDecided What = "decided"
)

// Link is an address at which one approver decides one approval.
type Link struct {
	Approver string `json:"approver"`
	URL      string `json:"url"`
}

// May reports whether somebody may decide at a time, and if not, why.
func (a *Approval) May(by string, at time.Time) (bool, string) {
	switch {
	case by == "":
		return false, "it does not say by whom"
	case slices.Contains(a.Not, by):
		return false, "who started the run may not decide on it"
	case len(a.Approvers) == 0 || slices.Contains(a.Deciders(at), by):
		return true, ""
	}
	return false, "only " + strings.Join(a.Deciders(at), ", ") + " may"
}

// Deciders are those who may decide at a time. None where anybody may.
func (a *Approval) Deciders(at time.Time) []string {
	all := slices.Clone(a.Approvers)
	if e := a.Escalate; e != nil && len(all) > 0 && !at.Before(a.Asked.Add(e.After)) {
		all = append(all, e.Approvers...)
	}
	var out []string
	for _, name := range all {
		if !slices.Contains(a.Not, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Voted returns the vote that somebody has given.
func (a *Approval) Voted(by string) *Decision {
	for i := range a.Votes {
		if a.Votes[i].By == by {
			return &a.Votes[i]
		}
	}
	if a.Decision != nil && a.Decision.By == by {
		return a.Decision
	}
	return nil
}

// shownParts are what Shown is made of, in its order.
var shownParts = []string{"title", "message", "details", "form"}

// shownOf names what is shown: a digest of all of it, and short ones of its parts, by which
// can be said what has changed.
func shownOf(title, message string, details, schema json.RawMessage) string {
	all := sha256.New()
	var short []byte
	for _, part := range []string{title, message, string(details), string(schema)} {
		fmt.Fprintf(all, "%d:%s", len(part), part)
		sum := sha256.Sum256([]byte(part))
		short = append(short, sum[:4]...)
	}
	return base64.RawURLEncoding.EncodeToString(all.Sum(nil)) + "." + hex.EncodeToString(short)
}

// changed says which parts of what was shown are others now.
func changed(now, seen string) []string {
	_, a, _ := strings.Cut(now, ".")
	_, b, _ := strings.Cut(seen, ".")
	if len(a) != len(b) || len(a) != 8*len(shownParts) {
		return nil
	}
	var out []string
	for i, part := range shownParts {
		if a[8*i:8*i+8] != b[8*i:8*i+8] {
			out = append(out, part)
		}
	}
	return out
}
