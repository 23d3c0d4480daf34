package service

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// SlackOptions say what [NewSlack] makes. It needs a Token, or Webhooks.
type SlackOptions struct {
	// Token is a bot's, "xoxb-…", with the right chat:write.
	Token string
	// Webhooks are addresses of incoming webhooks, by the channel as flows name it; "" is for calls that name none. They are for
	// who has no token: then there is sendMessage only, and its result holds no ts.
	Webhooks map[string]string
	Channel  string // for calls that name none; needs Token
	// Mentions allows the parameter mention, which calls people. Nothing else in a message calls anybody, unless Markup is set.
	Mentions bool
	// Markup lets Slack's own <…> in texts stand: links and mentions, also those in what a template has put in. Without it the signs
	// & < > are escaped everywhere.
	Markup  bool
	BaseURL string      // "": https://slack.com/api/
	HTTP    HTTPOptions // zero is right for slack.com
}

// Slack is the service that writes into Slack's channels. Its first action is "sendMessage", also called "postMessage"; with a token
// there are "updateMessage" and "requestApproval" too, whose clicks [ParseSlackClick] reads.
type Slack struct {
	*actions
	*wire
	opt    SlackOptions
	base   string
	hidden *Redactor
}

// NewSlack makes the service. The error says what is wrong with the options, without the token and the addresses.
func NewSlack(opt SlackOptions) (*Slack, error) {
	switch {
	case (opt.Token == "") == (len(opt.Webhooks) == 0):
		return nil, errors.New("slack: give a Token or Webhooks, one of the two")
	case opt.Token == "" && opt.Channel != "":
		return nil, errors.New("slack: Channel needs a Token; a webhook has its own")
	case strings.ContainsAny(opt.Token, " \r\n\t"):
		return nil, errors.New("slack: the Token holds white space")
	}
	s := &Slack{opt: opt, base: cmp.Or(opt.BaseURL, "https://slack.com/api/")}
	if !strings.HasSuffix(s.base, "/") {
		s.base += "/"
	}
	if err := secureURL(s.base); err != nil {
		return nil, fmt.Errorf("slack: BaseURL: %w", err)
	}
	secrets := []string{opt.Token}
	for _, channel := range slices.Sorted(maps.Keys(opt.Webhooks)) {
		if err := secureURL(opt.Webhooks[channel]); err != nil {
			return nil, fmt.Errorf("slack: the webhook of %q: %w", channel, err)
		}
		u, _ := url.Parse(opt.Webhooks[channel])
		secrets = append(secrets, strings.Trim(u.EscapedPath(), "/"))
	}
	s.hidden = NewRedactor(secrets...)
	var err error
	if s.wire, err = newWire(opt.HTTP); err != nil {
		return nil, err
	}
	s.actions, err = newActions(s.describe()...)
	return s, err
}

// secureURL refuses an address over which a token or a message could be read on its way. Its errors don't tell the address.
func secureURL(text string) error {
	u, err := readURL(text)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("the address is not https")
	}
	return nil
}

const (
	maxSlackText   = 40_000 // signs, beyond which Slack cuts
	maxSlackBlocks = 50
	maxSection     = 3000 // signs of a block's text
)

// describe makes the actions. What must be named depends on what the options name.
func (s *Slack) describe() []Action {
	message := `"message": {"type": "string", "description": "Slack's mrkdwn: *bold*, _italic_; the signs & < > stand as they are"},
	"text": {"type": "string", "description": "the same as message"}`
	blocks := fmt.Sprintf(`"blocks": {"type": "array", "maxItems": %d, "items": {"type": "object"}, "description": "Block Kit; the message is then what notifications show"}`, maxSlackBlocks)
	channel := `"channel": {"type": "string", "minLength": 1, "maxLength": 200, "description": "#name or an id", "x-pawl-trusted": true}`
	thread := `"threadTs": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+$", "description": "ts of the message to answer"}`
	mention := `"mention": {"type": "array", "maxItems": 50, "items": {"type": "string", "pattern": "^(here|channel|everyone|[UWS][A-Z0-9]{2,30})$"}, "description": "who is called: here, channel, everyone, or ids", "x-pawl-trusted": true}`
	result := json.RawMessage(`{"type": "object", "required": ["channel", "ts"], "properties": {"channel": {"type": "string"}, "ts": {"type": "string"}}}`)
	object := func(required string, properties ...string) json.RawMessage {
		if s.opt.Token != "" && s.opt.Channel == "" {
			required = strings.TrimPrefix(required+`, "channel"`, ", ")
		}
		return json.RawMessage(fmt.Sprintf(`{"type": "object", "required": [%s], "additionalProperties": false, "properties": {%s}}`, required, strings.Join(properties, ", ")))
	}
	send := Action{Name: "sendMessage", Effect: Writes, Params: object("", channel, message, blocks, thread, mention), Result: result,
		Doc: "Writes a message into a channel or a thread. The id of the call goes along; Slack does not promise to know a repeat by it."}
	post := send
	post.Name, post.Doc = "postMessage", "The same as sendMessage."
	if s.opt.Token == "" {
		return []Action{send, post}
	}
	ts := `"ts": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+$", "description": "of the message, as sendMessage gave it"}`
	return []Action{send, post,
		{Name: "updateMessage", Effect: Once, Params: object(`"ts"`, channel, ts, message, blocks, mention), Result: result,
			Doc: "Changes a message. Its channel is the id that sendMessage gave."},
		{Name: "requestApproval", Effect: Writes, Result: result, Doc: "Asks in a channel, with the buttons Approve and Reject. A click comes as an interaction of the Slack app.",
			Params: object(`"approval"`, channel, message, thread, mention,
				`"approval": {"type": "string", "minLength": 1, "maxLength": 1000, "description": "what the click names, as the token of an approval", "x-pawl-trusted": true}`,
				`"approve": {"type": "string", "minLength": 1, "maxLength": 75, "description": "the button's text"}`,
				`"reject": {"type": "string", "minLength": 1, "maxLength": 75}`)}}
}

// SlackMessage is the result of Slack's actions: the message, as updateMessage and threads name it. A webhook tells neither.
type SlackMessage struct {
	Channel string `json:"channel"` // its id
	TS      string `json:"ts"`
}

// slackParams are the parameters of all actions.
type slackParams struct {
	Channel  string   `json:"channel"`
	Message  string   `json:"message"`
	Text     string   `json:"text"`
	Blocks   []any    `json:"blocks"`
	ThreadTS string   `json:"threadTs"`
	TS       string   `json:"ts"`
	Mention  []string `json:"mention"`
	Approval string   `json:"approval"`
	Approve  string   `json:"approve"`
	Reject   string   `json:"reject"`
}

// Call writes or changes a message. The result is a [*SlackMessage].
func (s *Slack) Call(ctx context.Context, c Call) (any, error) {
	action, err := s.check(c)
	if err != nil {
		return nil, err
	}
	var p slackParams
	if err := decodeNumbers(c.Params, &p); err != nil {
		return nil, err
	}
	body, err := s.body(action.Name, p, c.Key)
	if err != nil {
		return nil, err
	}
	x, err := s.post(action.Name, p.Channel, body)
	if err != nil {
		return nil, s.hidden.Error(err)
	}
	if c.DryRun {
		return Plan{Would: fmt.Sprintf("%s to %s at %s", action.Name, cmp.Or(p.Channel, s.opt.Channel, "a webhook's channel"), x.url.Host), Request: body}, nil
	}
	answer, err := x.do(ctx, s.client)
	if err != nil {
		return nil, err
	}
	if s.opt.Token == "" {
		return &SlackMessage{}, nil
	}
	out, err := slackAnswer(answer)
	if err != nil {
		return nil, s.hidden.Error(err) // and no *SlackMessage of nil
	}
	return out, nil
}

// post makes the request.
func (s *Slack) post(action, channel string, body map[string]any) (*exchange, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, &Error{Code: Invalid, Message: "slack: " + err.Error()}
	}
	none, address := "", s.base+"chat.postMessage"
	if action == "updateMessage" {
		address = s.base + "chat.update"
	}
	if s.opt.Token == "" {
		if address = s.opt.Webhooks[channel]; address == "" {
			return nil, &Error{Code: Forbidden, Message: fmt.Sprintf("slack: there is no webhook for the channel %q; there are some for %q", channel, slices.Sorted(maps.Keys(s.opt.Webhooks)))}
		}
	}
	x, err := s.exchange("", requested{URL: address, Method: "POST", Body: data, Auth: auth{Bearer: s.opt.Token}, KeyHeader: &none})
	if err != nil {
		return nil, err
	}
	x.header.Set("Content-Type", "application/json; charset=utf-8") // without the charset Slack warns
	x.hidden = s.hidden
	return x, nil
}

// slackAnswer reads what Slack answers with the status 200, also where it refuses.
func slackAnswer(a *Answer) (*SlackMessage, error) {
	var said struct {
		OK       *bool  `json:"ok"`
		Error    string `json:"error"`
		Needed   string `json:"needed"`
		Channel  string `json:"channel"`
		TS       string `json:"ts"`
		Metadata struct {
			Messages []string `json:"messages"`
		} `json:"response_metadata"`
	}
	body, _ := a.Body.(json.RawMessage)
	if json.Unmarshal(body, &said) != nil || said.OK == nil || *said.OK && said.TS == "" {
		return nil, &Error{Code: BadAnswer, Message: "slack: the answer is not one of Slack's"}
	}
	if *said.OK {
		return &SlackMessage{Channel: said.Channel, TS: said.TS}, nil
	}
	e := &Error{Code: slackCodes[said.Error], Message: "slack: it refuses: " + excerpt([]byte(said.Error))}
	switch {
	case e.Code != "":
	case strings.HasPrefix(said.Error, "restricted_action"), strings.HasPrefix(said.Error, "not_allowed"):
		e.Code = Denied
	default:
		e.Code = Invalid
	}
	if said.Needed != "" {
		e.Message += "; it needs the right " + excerpt([]byte(said.Needed))
	}
	if len(said.Metadata.Messages) > 0 {
		e.Message += ": " + excerpt([]byte(strings.Join(said.Metadata.Messages, " ")))
	}
	if e.Code == RateLimited {
		e.After = retryAfter(http.Header{"Retry-After": {a.Headers["retry-after"]}}, time.Now())
	}
	return nil, e
}

// slackCodes are those of Slack's errors that are not the parameters' fault.
var slackCodes = map[string]string{
	"ratelimited": RateLimited, "rate_limited": RateLimited, "message_limit_exceeded": RateLimited,
	"internal_error": Unavailable, "fatal_error": Unavailable, "service_unavailable": Unavailable, "request_timeout": TimedOut, "team_added_to_org": Unavailable,
	"not_authed": Denied, "invalid_auth": Denied, "account_inactive": Denied, "token_revoked": Denied, "token_expired": Denied, "no_permission": Denied, "missing_scope": Denied,
	"access_denied": Denied, "ekm_access_denied": Denied, "org_login_required": Denied, "enterprise_is_restricted": Denied, "team_access_not_granted": Denied, "two_factor_setup_required": Denied,
	"not_in_channel": Denied, "cant_update_message": Denied, "cant_post_message": Denied,
	"channel_not_found": NotFound, "message_not_found": NotFound, "thread_not_found": NotFound, "user_not_found": NotFound,
}

// messageID is the id of a call in the form in which Slack has those of its own clients: a UUID.
func messageID(key string) string {
	b := sha256.Sum256([]byte("pawl slack " + key))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
