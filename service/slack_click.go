package service

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// SlackClick is a click on a button of requestApproval.
type SlackClick struct {
	Approval    string // what requestApproval was called with
	Approved    bool
	User        SlackUser // who clicked
	Channel     string    // the id of the message's channel
	TS          string    // of the message, for updateMessage
	ResponseURL string    // takes answers for 30 minutes; always one of Slack's own
}

// SlackUser is a person in Slack.
type SlackUser struct {
	ID   string // unique within Team
	Name string // for people; who has it can change it
	Team string
}

// ParseSlackClick reads the body of a request that Slack sends when somebody clicks: a form with the field payload. The caller
// has verified the request's signature: without it anybody could approve anything. An error is an [*Error] of the code
// Invalid; what is no click on these buttons is one too.
func ParseSlackClick(body []byte) (SlackClick, error) {
	bad := func(format string, args ...any) (SlackClick, error) {
		return SlackClick{}, &Error{Code: Invalid, Message: "a click in Slack: " + fmt.Sprintf(format, args...)}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["payload"]) != 1 {
		return bad("the body is no form with one field payload")
	}
	var p struct {
		Type string `json:"type"`
		User struct {
			ID       string `json:"id"`
			Username string `json:"username"`
			Name     string `json:"name"`
			TeamID   string `json:"team_id"`
		} `json:"user"`
		Team struct {
			ID string `json:"id"`
		} `json:"team"`
		Channel struct {
			ID string `json:"id"`
		} `json:"channel"`
		Message struct {
			TS string `json:"ts"`
		} `json:"message"`
		ResponseURL string `json:"response_url"`
		Actions     []struct {
			ActionID string `json:"action_id"`
			BlockID  string `json:"block_id"`
			Value    string `json:"value"`
		} `json:"actions"`
	}
	if err := json.Unmarshal([]byte(form["payload"][0]), &p); err != nil {
		return bad("the payload is not what Slack sends: %v", err)
	}
	if p.Type != "block_actions" || len(p.Actions) != 1 || p.Actions[0].BlockID != approvalBlock {
		return bad("it is an interaction of the type %.40q, and none with the buttons of requestApproval", p.Type)
	}
	click := SlackClick{Channel: p.Channel.ID, TS: p.Message.TS, ResponseURL: p.ResponseURL, User: SlackUser{ID: p.User.ID, Name: p.User.Username, Team: p.User.TeamID}}
	switch p.Actions[0].ActionID {
	case approveButton:
		click.Approved = true
	case rejectButton:
	default:
		return bad("there is no button %.40q", p.Actions[0].ActionID)
	}
	var value struct {
		Approval string `json:"approval"`
	}
	if err := json.Unmarshal([]byte(p.Actions[0].Value), &value); err != nil || value.Approval == "" {
		return bad("the button holds no approval")
	}
	click.Approval = value.Approval
	if click.User.Name == "" {
		click.User.Name = p.User.Name
	}
	if click.User.Team == "" {
		click.User.Team = p.Team.ID
	}
	if click.User.ID == "" {
		return bad("it does not say who clicked")
	}
	if click.ResponseURL != "" && !ofSlack(click.ResponseURL) {
		return bad("its response_url is none of Slack's")
	}
	return click, nil
}

// ofSlack reports whether an address is one of those at which Slack takes answers.
func ofSlack(text string) bool {
	u, err := readURL(text)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return host == "hooks.slack.com" || host == "hooks.slack-gov.com"
}
