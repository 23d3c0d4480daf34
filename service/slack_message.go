package service

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// body makes what is posted. Nothing in it calls anybody, or loads anything for who reads, but by the options.
func (s *Slack) body(action string, p slackParams, key string) (map[string]any, error) {
	bad := func(format string, args ...any) error {
		return &Error{Code: Invalid, Message: "slack: " + fmt.Sprintf(format, args...)}
	}
	if p.Message != "" && p.Text != "" {
		return nil, bad("message and text are the same: give one of them")
	}
	text := p.Message + p.Text
	switch {
	case strings.TrimSpace(text) == "" && len(p.Blocks) == 0:
		return nil, bad("there is nothing to write: give a message")
	case utf8.RuneCountInString(text) > maxSlackText:
		return nil, bad("the message has over %d signs", maxSlackText)
	case p.ThreadTS != "" && s.opt.Token == "":
		return nil, bad("a webhook answers in no thread: that needs a Token")
	case len(p.Mention) > 0 && !s.opt.Mentions:
		return nil, &Error{Code: Forbidden, Message: "slack: mentions are not allowed here (SlackOptions.Mentions)"}
	}
	called := mentions(p.Mention)
	body := map[string]any{"text": called + s.escape(text), "link_names": false}
	switch {
	case action == "requestApproval":
		body["blocks"] = s.approvalBlocks(called, text, p)
	case len(p.Blocks) > 0:
		blocks, err := s.blocks(p.Blocks)
		if err != nil {
			return nil, err
		}
		body["blocks"] = blocks
	}
	if s.opt.Token == "" {
		return body, nil
	}
	if body["channel"] = p.Channel; p.Channel == "" {
		body["channel"] = s.opt.Channel
	}
	if action == "updateMessage" {
		body["ts"] = p.TS
		return body, nil
	}
	body["unfurl_links"], body["unfurl_media"] = false, false
	if p.ThreadTS != "" {
		body["thread_ts"] = p.ThreadTS
	}
	if key != "" {
		body["client_msg_id"] = messageID(key)
	}
	return body, nil
}

// escape has text stand in mrkdwn as it is: without < there is no link and no mention.
func (s *Slack) escape(text string) string {
	if s.opt.Markup {
		return text
	}
	return slackEscapes.Replace(text)
}

var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// mentions writes whom to call in front of a message.
func mentions(list []string) string {
	var b strings.Builder
	for _, id := range list {
		switch {
		case slices.Contains([]string{"here", "channel", "everyone"}, id):
			fmt.Fprintf(&b, "<!%s> ", id)
		case id[0] == 'S':
			fmt.Fprintf(&b, "<!subteam^%s> ", id)
		default:
			fmt.Fprintf(&b, "<@%s> ", id)
		}
	}
	return b.String()
}

// blocks are a message's, safe as its text is: mrkdwn is escaped, and no element calls anybody.
func (s *Slack) blocks(list []any) ([]any, error) {
	if err := forged(list); err != nil {
		return nil, err
	}
	if s.opt.Markup {
		return list, nil
	}
	var walk func(v any) (any, error)
	walk = func(v any) (any, error) {
		switch v := v.(type) {
		case []any:
			out := make([]any, len(v))
			for i := range v {
				var err error
				if out[i], err = walk(v[i]); err != nil {
					return nil, err
				}
			}
			return out, nil
		case map[string]any:
			kind, _ := v["type"].(string)
			if slices.Contains([]string{"user", "usergroup", "broadcast", "team"}, kind) {
				return nil, &Error{Code: Forbidden, Message: fmt.Sprintf("slack: an element of the type %q in blocks calls people: use the parameter mention", kind)}
			}
			if kind == "markdown" {
				return nil, &Error{Code: Forbidden, Message: "slack: a block of the type \"markdown\" can name a link as another one: use a section with mrkdwn"}
			}
			out := make(map[string]any, len(v))
			for name, field := range v {
				if slices.Contains(fetched, name) {
					return nil, &Error{Code: Forbidden, Message: fmt.Sprintf("slack: Slack would fetch the %s in blocks, from an address that may tell something: name a slack_file", name)}
				}
				var err error
				if out[name], err = walk(field); err != nil {
					return nil, err
				}
			}
			if text, is := v["text"].(string); is && kind == "mrkdwn" {
				out["text"] = s.escape(text)
				if v["verbatim"] == nil {
					out["verbatim"] = true // so that no name of a channel or person becomes a link by itself
				}
			}
			return out, nil
		}
		return v, nil
	}
	out, err := walk(list)
	if err != nil {
		return nil, err
	}
	return out.([]any), nil
}

// fetched are the fields of blocks whose addresses are asked for as soon as there is a message.
var fetched = []string{"image_url", "video_url", "thumbnail_url", "provider_icon_url"}

// forged refuses parts of blocks that would pass for those of requestApproval: their clicks name what is approved.
func forged(v any) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := forged(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, field := range v {
			if id, is := field.(string); is && (name == "block_id" || name == "action_id") && strings.HasPrefix(id, "pawl_") {
				return &Error{Code: Forbidden, Message: fmt.Sprintf("slack: the %s %q in blocks is one of requestApproval: call that action, or choose another", name, id)}
			}
			if err := forged(field); err != nil {
				return err
			}
		}
	}
	return nil
}

// The ids of the blocks and buttons that requestApproval makes.
const (
	approvalBlock = "pawl_approval"
	approveButton = "pawl_approve"
	rejectButton  = "pawl_reject"
)

func (s *Slack) approvalBlocks(called, text string, p slackParams) []any {
	var blocks []any
	for _, part := range s.sections(called, text) {
		blocks = append(blocks, map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": part, "verbatim": !s.opt.Markup}})
	}
	value, _ := json.Marshal(map[string]string{"approval": p.Approval}) // a text always is JSON
	button := func(id, style, label, standard string) map[string]any {
		if label == "" {
			label = standard
		}
		return map[string]any{"type": "button", "action_id": id, "style": style, "value": string(value), "text": map[string]any{"type": "plain_text", "text": label, "emoji": false}}
	}
	return append(blocks, map[string]any{"type": "actions", "block_id": approvalBlock, "elements": []any{
		button(approveButton, "primary", p.Approve, "Approve"), button(rejectButton, "danger", p.Reject, "Reject")}})
}

// sections cuts an escaped text into parts that fit a block each, and no sign apart.
func (s *Slack) sections(called, text string) (parts []string) {
	var b strings.Builder
	b.WriteString(called)
	for _, c := range text {
		sign := s.escape(string(c))
		if b.Len()+len(sign) > maxSection { // in bytes, which are never fewer than signs
			parts = append(parts, b.String())
			b.Reset()
		}
		b.WriteString(sign)
	}
	return append(parts, b.String())
}
