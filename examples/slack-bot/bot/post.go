package bot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Post is a message for Slack.
type Post struct {
	Channel string
	Thread  string // "": the channel itself
	Text    string
}

// Poster brings messages to Slack, each once: Post is called in the body of a step, and again with
// the same step if a process died in it.
type Poster interface {
	Post(ctx context.Context, p Post) error
}

// Slack is Slack itself, by its Web API.
type Slack struct {
	BaseURL string // "" means https://slack.com/api
	Token   string // of the bot, xoxb-…, with the scopes chat:write, channels:history and im:history
}

// stepEvent is the type of the metadata by which a message is known again.
const stepEvent = "pawl_step"

// Post posts with chat.postMessage. Slack knows no idempotency key. So each message carries its
// step in its metadata, and a step that may have posted before looks for that first.
func (s *Slack) Post(ctx context.Context, p Post) error {
	step := pawl.InfoOf(ctx).StepID
	since, err := begun(ctx, step)
	if err != nil {
		return err
	}
	if !since.IsZero() {
		if there, err := s.find(ctx, p, step, since); there || err != nil {
			return err
		}
	}
	body, err := json.Marshal(object{
		"channel": p.Channel, "text": p.Text, "thread_ts": p.Thread, "unfurl_links": false,
		"metadata": object{"event_type": stepEvent, "event_payload": object{"step": step}},
	})
	if err != nil {
		return err
	}
	return s.call(ctx, http.MethodPost, "chat.postMessage", nil, body, nil)
}

type object = map[string]any

// postSpace has a record for each step that has begun to post, so that one which begins again is
// known: the number of its attempt does not tell, as a process that died has recorded none.
const postSpace = "slack-bot.posts"

// begun notes that the step begins to post; if it has begun before, it returns when.
func begun(ctx context.Context, step string) (time.Time, error) {
	e, now := pawl.EngineOf(ctx), time.Now().UTC()
	data, err := json.Marshal(now)
	if err != nil {
		return time.Time{}, err
	}
	_, err = e.Write(ctx, pawl.Put{Space: postSpace, Key: step, Data: data, Until: now.Add(Idle)}) // If is 0: only where none is
	if !errors.Is(err, pawl.ErrConflict) {
		return time.Time{}, err
	}
	r, err := e.Record(ctx, postSpace, step)
	if err != nil {
		return time.Time{}, err
	}
	return now, json.Unmarshal(r.Data, &now)
}

// find looks among the messages since the step has begun for one that is the step's.
func (s *Slack) find(ctx context.Context, p Post, step string, since time.Time) (bool, error) {
	method := "conversations.history"
	oldest := since.Add(-time.Minute) // clocks differ
	query := url.Values{
		"channel": {p.Channel}, "include_all_metadata": {"true"}, "limit": {"200"},
		"oldest": {strconv.FormatInt(oldest.Unix(), 10)},
	}
	if p.Thread != "" {
		method = "conversations.replies"
		query.Set("ts", p.Thread)
	}
	for {
		var page struct {
			Messages []struct {
				Metadata struct {
					Type    string                `json:"event_type"`
					Payload struct{ Step string } `json:"event_payload"`
				}
			}
			Meta struct {
				Next string `json:"next_cursor"`
			} `json:"response_metadata"`
		}
		if err := s.call(ctx, http.MethodGet, method, query, nil, &page); err != nil {
			return false, err
		}
		for _, m := range page.Messages {
			if m.Metadata.Type == stepEvent && m.Metadata.Payload.Step == step {
				return true, nil
			}
		}
		if page.Meta.Next == "" {
			return false, nil
		}
		query.Set("cursor", page.Meta.Next)
	}
}

// passing are errors of Slack's that are over by themselves. All others stay.
var passing = []string{"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}

var client = &http.Client{Timeout: 20 * time.Second}

func (s *Slack) call(ctx context.Context, verb, method string, query url.Values, body []byte, into any) error {
	address := strings.TrimSuffix(cmp.Or(s.BaseURL, "https://slack.com/api"), "/") + "/" + method
	if query != nil {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, verb, address, bytes.NewReader(body))
	if err != nil {
		return pawl.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		return err
	}
	var said struct {
		OK    bool
		Error string
	}
	if err := json.Unmarshal(data, &said); err != nil || !said.OK {
		err := fmt.Errorf("%s of Slack: %s %s", method, res.Status, said.Error)
		if wait, werr := strconv.Atoi(res.Header.Get("Retry-After")); werr == nil {
			return pawl.RetryAfter(err, time.Duration(wait)*time.Second)
		}
		if res.StatusCode < 500 && said.Error != "" && !slices.Contains(passing, said.Error) {
			return pawl.Fatal(err)
		}
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

// Played is no Slack: it prints what it would post.
type Played struct{ Out io.Writer }

// Post prints a message, unless the same step has begun to print it before.
func (s *Played) Post(ctx context.Context, p Post) error {
	since, err := begun(ctx, pawl.InfoOf(ctx).StepID)
	if err == nil && since.IsZero() {
		_, err = fmt.Fprintf(s.Out, "[played: Slack was not asked] to %s: %s\n", p.Channel, p.Text)
	}
	return err
}
