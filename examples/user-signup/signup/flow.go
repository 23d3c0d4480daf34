// Package signup lets people sign up: a mail with a link, a reminder if the link is not used, and
// a welcome once it is.
//
// It never takes a visit of the link for a yes, as programs that look through mail follow links:
// the page behind it has a button, and that counts.
package signup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// Name is that of the workflow.
const Name = "user-signup"

// Signup is somebody who wants an account.
type Signup struct {
	Email string `json:"email"`
}

// Outcome is what has become of it.
type Outcome struct {
	Status   string `json:"status"` // Confirmed or Expired
	Reminded bool   `json:"reminded"`
}

// What a signup can be.
const (
	Waiting   = "waiting"
	Confirmed = "confirmed"
	Expired   = "expired"
)

// Config says when what happens.
type Config struct {
	Mailer Mailer
	Remind time.Duration // after which a reminder is sent; 0 means 5 s
	Expiry time.Duration // after which the link is of no use any more; 0 means 24 h
}

// Flow is the workflow. It is safe for concurrent use.
type Flow struct {
	*pawl.Workflow[Signup, Outcome]
	cfg Config
}

// New makes a Flow. One address has one signup at a time.
func New(cfg Config) *Flow {
	if cfg.Remind == 0 {
		cfg.Remind = 5 * time.Second
	}
	if cfg.Expiry == 0 {
		cfg.Expiry = 24 * time.Hour
	}
	f := &Flow{cfg: cfg}
	f.Workflow = pawl.Define(Name, f.run,
		pawl.Singleton(pawl.KeyOf(func(in Signup) string { return in.Email })),
		pawl.Retention(30*24*time.Hour))
	return f
}

// patience is how long a browser is held until the run has answered it. The run gets what it has
// asked for in any case: when a process was killed, another takes its runs over within a minute.
const patience = 10 * time.Second

// slow is what the browser gets then.
var slow = page(http.StatusAccepted, `<h1>This takes longer than usual</h1><p>Nothing is lost. Please look again in a minute.</p>`)

func (f *Flow) run(c *pawl.Context, in Signup) (out Outcome, err error) {
	hook, err := pawl.NewWebhook(c, pawl.RespondManually(patience, slow))
	if err != nil {
		return out, err
	}
	mail := func(step, subject, text string) error {
		return pawl.Do(c, step, func(ctx context.Context) error {
			return f.cfg.Mailer.Send(ctx, Mail{Key: pawl.InfoOf(ctx).StepID, To: in.Email, Subject: subject, Text: text})
		}, pawl.MaxAttempts(10))
	}
	begun := c.Now()
	if err := mail("mail", "Please confirm your address", "Open this page and press the button to confirm your address:\n\n"+hook.URL()+"\n\nIf you did not sign up, do nothing."); err != nil {
		return out, err
	}
	if err := c.SetAttributes(map[string]any{"status": Waiting}); err != nil {
		return out, err
	}
	for out.Status == "" {
		next := begun.Add(f.cfg.Expiry)
		if !out.Reminded {
			next = begun.Add(f.cfg.Remind)
		}
		req, err := hook.Wait(c, pawl.Timeout(next.Sub(c.Now())))
		switch {
		case errors.Is(err, pawl.ErrTimeout) && !out.Reminded:
			out.Reminded = true
			err = mail("reminder", "Your address is not confirmed yet", "The page with the button is still there:\n\n"+hook.URL())
		case errors.Is(err, pawl.ErrTimeout):
			out.Status, err = Expired, nil
		case err == nil:
			if req.Method == http.MethodPost {
				out.Status = Confirmed
				if err := pawl.Do(c, "account", func(ctx context.Context) error { return open(ctx, in) }); err != nil {
					return out, err
				}
			}
			err = pawl.Do(c, "respond", func(ctx context.Context) error { return pawl.Respond(ctx, req, pageFor(req.Method)) })
			if errors.Is(err, pawl.ErrTimeout) {
				err = nil // whoever asked is gone
			}
		}
		if err != nil {
			return out, err
		}
	}
	if err := hook.Close(c); err != nil { // from here on the link says that it is over
		return out, err
	}
	if out.Status == Confirmed {
		if err := mail("welcome", "Welcome", "Your address is confirmed, and your account is open."); err != nil {
			return out, err
		}
	}
	return out, c.SetAttributes(map[string]any{"status": out.Status})
}

// accounts has a record for each address that was confirmed.
const accounts = "signup.accounts"

func open(ctx context.Context, in Signup) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = pawl.EngineOf(ctx).Write(ctx, pawl.Put{Space: accounts, Key: in.Email, Data: data}) // If is 0: only where none is
	if errors.Is(err, pawl.ErrConflict) {
		return nil // an attempt that was cut off has opened it
	}
	return err
}

// pageFor answers a browser. Only POST does something.
func pageFor(method string) pawl.Response {
	switch method {
	case http.MethodGet, http.MethodHead:
		return page(http.StatusOK, `<h1>Is this your address?</h1><form method="post"><button>Yes, confirm it</button></form>`)
	case http.MethodPost:
		return page(http.StatusOK, `<h1>Thank you</h1><p>Your address is confirmed.</p>`)
	}
	return page(http.StatusMethodNotAllowed, `<h1>That is not possible here</h1>`)
}

func page(status int, main string) pawl.Response {
	return pawl.Response{
		Status: status,
		Header: http.Header{
			"Content-Type":            {"text/html; charset=utf-8"},
			"Content-Security-Policy": {"default-src 'none'; form-action 'self'; frame-ancestors 'none'"}, // nobody can put a page of his own over the button
			"Referrer-Policy":         {"no-referrer"},                                                    // the address is a secret
			"Cache-Control":           {"no-store"},
			"Allow":                   {"GET, HEAD, POST"},
		},
		Body: fmt.Appendf(nil, `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Sign up</title></head><body><main>%s</main></body></html>`, main),
	}
}
