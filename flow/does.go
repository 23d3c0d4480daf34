package flow

import (
	"fmt"
	"strings"
)

// does says what a step does, in a sentence.
func (s *step) does() string {
	config := s.at.get("config")
	text := ""
	switch w := s.work.(type) {
	case *decision:
		text = w.words(config)
	case *call:
		text = "Calls " + w.words()
	case *transform:
		text = w.words()
	case *parallel:
		text = fmt.Sprintf("Runs %s at the same time; %s", counted(len(w.branches), "branch", "branches"), together(config, "branches"))
	case *each:
		text = fmt.Sprintf("Runs the steps below it for each item of %s, %d at a time; %s", short(config.get("over")), w.limit, together(config, "items"))
	case *wait:
		text = w.words(config)
	case *child:
		text = fmt.Sprintf("Runs the workflow %s and waits for its end", w.name)
		if w.detach {
			text = fmt.Sprintf("Starts the workflow %s and goes on at once", w.name)
		}
	case *agentWork:
		text = w.words()
	default:
		return fmt.Sprintf("Nothing is known of a step of type %q.", clip(s.kind, 60))
	}
	if s.variable != "" {
		text += "; the outcome is kept as variables." + s.variable
	}
	return text + "."
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// together says when a step with several parts has failed.
func together(config *node, what string) string {
	switch config.get("failureMode").str() {
	case "continue":
		return "those that fail stop nothing"
	case "quorum":
		return fmt.Sprintf("%d of the %s must complete", config.get("quorum").int(0), what)
	}
	return "the first that fails ends all"
}

func (d *decision) words(config *node) string {
	who := "the server's model"
	if len(d.models) > 0 {
		who = strings.Join(d.models, ", or ")
	}
	what := short(config.get("prompt"))
	if d.ref != "" {
		what = "the prompt " + short(config.get("promptRef")) + " of the registry"
	}
	return fmt.Sprintf("Asks %s: %s; the answer is %s", who, what, d.answer(config))
}

// answer says what a decision's answer may be.
func (d *decision) answer(config *node) string {
	switch d.format {
	case "enum":
		return "one of " + short(config.get("allowedValues"))
	case "number":
		text := "a number"
		if config.get("integer").yes() {
			text = "a whole number"
		}
		if n := config.get("min"); n != nil {
			text += " from " + short(n)
		}
		if n := config.get("max"); n != nil {
			text += " up to " + short(n)
		}
		return text
	case "boolean":
		return "true or false"
	case "json":
		if d.schema == nil {
			return "any JSON"
		}
		return "JSON with " + short(d.schema.get("properties"))
	}
	return "free text"
}

// words name the action and what says who or what is reached.
func (k *call) words() string {
	name := k.service
	if k.action.Name != "" {
		name += "." + k.action.Name
	}
	text := name
	for _, n := range k.params.naming(k.action) {
		text += fmt.Sprintf(", %s %s", n.name, short(n.value))
	}
	return text
}

func (t *transform) words() string {
	if t.set == nil {
		return "Works out " + short(t.at.get("expression"))
	}
	var all []string
	for _, f := range t.at.get("set").fieldsOf() {
		all = append(all, fmt.Sprintf("%s to %s", f.name, short(f.value)))
	}
	return "Sets " + clip(strings.Join(all, ", "), 400)
}

func (w *wait) words(config *node) string {
	text := ""
	switch w.what {
	case "delay":
		return fmt.Sprintf("Waits %v", w.timeout)
	case "approval":
		who := "a person with the right to approve"
		if len(w.approvers) > 0 {
			who = strings.Join(w.approvers, " or ")
		}
		if w.need > 1 {
			who = fmt.Sprintf("%d of %s", w.need, strings.Join(w.approvers, ", "))
		}
		text = fmt.Sprintf("Waits until %s has decided", who)
		if config.get("title") != nil {
			text += " on " + short(config.get("title"))
		}
		for i, n := range w.notices {
			text += map[bool]string{true: ", who is told by ", false: " and "}[i == 0] + n.words()
		}
	case "event":
		text = fmt.Sprintf("Waits for the event %s", short(config.get("event")))
		if config.get("correlate") != nil {
			text += " of " + short(config.get("correlate"))
		}
	case "webhook":
		text = "Waits for a request to an address that is made for this run"
	default:
		return "Waits for nothing that is known"
	}
	if w.timeout > 0 {
		text += fmt.Sprintf(", at most %v", w.timeout)
	}
	return text
}

func (k *agentWork) words() string {
	model := "the server's model"
	if k.model != "" {
		model = k.model
	}
	turns := 20
	if k.config.MaxTurns > 0 {
		turns = k.config.MaxTurns
	}
	var tools, asks []string
	for _, t := range k.tools {
		tools = append(tools, t.use)
		if t.approve {
			asks = append(asks, t.use)
		}
	}
	text := fmt.Sprintf("Lets %s work by itself", model)
	if len(tools) > 0 {
		text += " with " + clip(strings.Join(tools, ", "), 400)
	}
	text += fmt.Sprintf(", until it has an answer, in at most %d turns", turns)
	if len(asks) > 0 {
		text += "; a person is asked before " + clip(strings.Join(asks, ", "), 400)
	}
	return text
}
