package bot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/trigger"
)

const (
	maxBody  = 1 << 20                 // bytes of a request of Slack's
	patience = 2500 * time.Millisecond // Slack gives up after 3 s, and sends an event again
)

type handler struct {
	bot      *Bot
	engine   *pawl.Engine
	verifier *trigger.Verifier // nil: there is no secret
}

// Handler serves what Slack calls:
//
//	POST /slack/events    the Events API: messages in channels, and the check of the URL
//	POST /slack/commands  a slash command: a question, status, or stop
//
// secret is the app's signing secret. Without it everything is refused with 503.
func (b *Bot) Handler(e *pawl.Engine, secret string, log *slog.Logger) (http.Handler, error) {
	h := &handler{bot: b, engine: e}
	if secret != "" {
		var err error
		if h.verifier, err = trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.Slack, Secrets: []string{secret}}); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack/events", demo.Answer(log, h.events))
	mux.HandleFunc("POST /slack/commands", demo.Answer(log, h.command))
	return mux, nil
}

// signed reads a body that Slack has signed, within the last five minutes.
func (h *handler) signed(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if h.verifier == nil {
		return nil, demo.Refuse(http.StatusServiceUnavailable, "SLACK_SIGNING_SECRET is not set, so nothing can be verified; set it and start the server again")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if _, err := h.verifier.Verify(r.Header, body, time.Now()); err != nil {
		return nil, demo.Refuse(http.StatusUnauthorized, "%v", err)
	}
	return body, nil
}

// envelope is what the Events API sends.
type envelope struct {
	Type      string
	Challenge string
	Team      string `json:"team_id"`
	EventID   string `json:"event_id"`
	Event     struct {
		Type, Subtype, Channel, User, Text string
		Bot                                string `json:"bot_id"`
		Thread                             string `json:"thread_ts"`
	}
}

// events takes an event. Its 200 means that the message is durable, and will be answered once,
// however often Slack sends it.
func (h *handler) events(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := h.signed(w, r)
	if err != nil {
		return 0, nil, err
	}
	var in envelope
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, nil, demo.Refuse(http.StatusBadRequest, "the body is not the JSON of an event: %v", err)
	}
	switch ev := &in.Event; {
	case in.Type == "url_verification":
		return http.StatusOK, object{"challenge": in.Challenge}, nil
	case in.Type != "event_callback", ev.Type != "message", ev.Subtype != "", ev.Bot != "", ev.User == "", strings.TrimSpace(ev.Text) == "":
		return http.StatusOK, object{"status": "ignored"}, nil // its own messages too: else it would answer itself
	case in.EventID == "":
		return 0, nil, demo.Refuse(http.StatusBadRequest, "the event has no event_id")
	}
	m := Message{ID: in.EventID, User: in.Event.User, Text: in.Event.Text, Thread: in.Event.Thread}
	receipt, err := h.hand(r.Context(), in.Team, in.Event.Channel, m)
	switch {
	case errors.Is(err, errNobody):
		return http.StatusOK, object{"status": "ignored"}, nil
	case err != nil:
		return 0, nil, err
	case receipt.Repeated:
		return http.StatusOK, object{"status": "repeated"}, nil
	}
	return http.StatusOK, object{"status": "taken", "run": receipt.Run.ID}, nil
}

// command answers a slash command, to the one who has typed it.
func (h *handler) command(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := h.signed(w, r)
	if err != nil {
		return 0, nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("command") == "" || form.Get("trigger_id") == "" {
		return 0, nil, demo.Refuse(http.StatusBadRequest, "the body is not the form of a slash command, with command and trigger_id")
	}
	say := func(text string) (int, any, error) {
		return http.StatusOK, object{"response_type": "ephemeral", "text": text}, nil
	}
	team, channel, text := form.Get("team_id"), form.Get("channel_id"), strings.TrimSpace(form.Get("text"))
	if text == "" || strings.EqualFold(text, "status") {
		hook, err := h.engine.FindHook(r.Context(), "", TokenOf(team, channel))
		if absent(err) {
			return say("I am not listening here. Say anything.")
		}
		if err != nil {
			return 0, nil, err
		}
		run, err := h.engine.Get(r.Context(), pawl.Ref{ID: hook.Run.ID})
		if err != nil {
			return 0, nil, err
		}
		status := "I am listening here, as run " + run.ID + "."
		if trouble := run.Attrs["trouble"]; trouble != "" {
			status += " The last trouble was: " + trouble
		}
		return say(status)
	}
	m := Message{ID: "command:" + form.Get("trigger_id"), User: form.Get("user_id"), Text: text}
	_, err = h.hand(r.Context(), team, channel, m)
	switch {
	case errors.Is(err, errNobody):
		return say("I am not listening here.")
	case err != nil:
		return 0, nil, err
	case m.stops():
		return say("I stop when I have answered what was said before.")
	}
	return say("I think about it.")
}

var (
	slackID   = regexp.MustCompile(`^[A-Z0-9]{1,64}$`)
	errNobody = errors.New("nobody listens in this channel")
)

func absent(err error) bool { return errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrEnded) }

// hand gives a message to the run of a channel, which it starts if there is none. A message with
// the ID of one before is not given again. errNobody: there is none to be stopped.
func (h *handler) hand(ctx context.Context, team, channel string, m Message) (pawl.Receipt, error) {
	if !slackID.MatchString(team) || !slackID.MatchString(channel) {
		return pawl.Receipt{}, demo.Refuse(http.StatusBadRequest, "team %.70q and channel %.70q must be ids of Slack's", team, channel)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	inTime := func(err error) error {
		if ctx.Err() != nil {
			return demo.Refuse(http.StatusServiceUnavailable, "the message could not be stored in time; send it again")
		}
		return err
	}
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		receipt, err := h.engine.Deliver(ctx, pawl.Delivery{Token: TokenOf(team, channel), Data: m, Once: m.ID})
		if !absent(err) {
			return receipt, inTime(err)
		}
		// There is no run, or one that has not come to its hook, or one that is going on as another.
		if m.stops() {
			if there, err := h.there(ctx, team, channel); err != nil || !there {
				return receipt, cmp.Or(inTime(err), errNobody)
			}
		} else if _, err := h.bot.Start(ctx, h.engine, Channel{Team: team, Channel: channel}, pawl.Attributes(map[string]any{attribute: team + "/" + channel})); err != nil {
			return receipt, inTime(err) // a run that is there already is met, by the singleton key
		}
		select {
		case <-ctx.Done():
			return receipt, inTime(nil)
		case <-time.After(pause):
		}
	}
}

// attribute has the channel of a run, and of those that go on in its place.
const attribute = "channel"

// there reports whether a channel has a run that has not ended.
func (h *handler) there(ctx context.Context, team, channel string) (bool, error) {
	newest, err := h.engine.List(ctx, pawl.Filter{Workflow: Name, Attrs: map[string]string{attribute: team + "/" + channel}, Limit: 1})
	return len(newest) > 0 && !newest[0].State.Terminal(), err
}
