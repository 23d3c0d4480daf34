package flowtest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl/flow"
)

// document is a flow as cases see it.
type document struct {
	flow  *flow.Flow
	nodes map[string]*node // all steps, those of branches too
	main  []*node
}

type node struct {
	id, kind string
	config   map[string]any
	inMap    bool
}

func (n *node) is(name string) string { text, _ := n.config[name].(string); return text }

func newDocument(f *flow.Flow) (*document, error) {
	d := &document{flow: f, nodes: map[string]*node{}}
	root, err := decode(f.JSON())
	if err != nil {
		return nil, err
	}
	steps, _ := root.(map[string]any)["steps"].([]any)
	for _, s := range steps {
		id, _ := s.(map[string]any)["id"].(string)
		d.main = append(d.main, &node{id: id})
	}
	walk(steps, func(step map[string]any) {
		n := &node{}
		n.id, _ = step["id"].(string)
		n.kind, _ = step["type"].(string)
		n.config, _ = step["config"].(map[string]any)
		d.nodes[n.id] = n
	})
	return d, nil
}

// walk calls f with each step, those of branches and maps too.
func walk(steps []any, f func(step map[string]any)) {
	for _, one := range steps {
		step, is := one.(map[string]any)
		if !is {
			continue
		}
		f(step)
		config, _ := step["config"].(map[string]any)
		inner, _ := config["steps"].([]any)
		walk(inner, f)
		branches, _ := config["branches"].([]any)
		for _, b := range branches {
			branch, _ := b.(map[string]any)
			inner, _ := branch["steps"].([]any)
			walk(inner, f)
		}
	}
}

// hurried is the document with which a case runs: it waits for nothing, does the same each time, and needs no registry of prompts.
func (d *document) hurried(c *Case) ([]byte, error) {
	value, err := decode(d.flow.JSON())
	if err != nil {
		return nil, err
	}
	root := value.(map[string]any)
	delete(root, "trigger")
	delete(root, "triggers")
	steps, _ := root["steps"].([]any)
	walk(steps, func(step map[string]any) {
		config, is := step["config"].(map[string]any)
		if !is {
			config = map[string]any{}
		}
		policy, is := step["retryPolicy"].(map[string]any)
		if !is {
			policy = map[string]any{}
		}
		policy["backoffMs"], policy["maxBackoffMs"] = 1, 1
		step["retryPolicy"] = policy
		switch id, _ := step["id"].(string); step["type"] {
		case "map":
			config["concurrency"] = 1
		case "wait":
			switch {
			case config["for"] == "delay":
				config["timeoutMs"] = 1
			case timesOut(c.Waits[id]):
				config["timeoutMs"] = 1
				delete(config, "remindMs")
			default: // it is answered, however long that takes here
				if _, is := config["timeoutMs"]; is {
					config["timeoutMs"] = 3600_000
				}
				delete(config, "remindMs")
			}
		case "ai-decision":
			if ref, is := config["promptRef"].(string); is {
				config["prompt"] = standInPrompt(ref, config["vars"])
				delete(config, "promptRef")
				delete(config, "vars")
			}
		}
	})
	return json.Marshal(root)
}

// standInPrompt stands for a prompt of the registry: it reads what that is filled with.
func standInPrompt(ref string, vars any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The prompt %s of the registry.\n", ref)
	given, _ := vars.(map[string]any)
	for _, name := range sorted(given) {
		text, is := given[name].(string)
		if !is {
			text = strings.ReplaceAll(words(given[name]), "{{", "{{{{")
		}
		fmt.Fprintf(&b, "%s: %s\n", name, text)
	}
	return b.String()
}

// nodeOf finds the step of a key of the journal: the first part of it that names one which is no parallel and no map.
func (d *document) nodeOf(key string) *node {
	for part := range strings.SplitSeq(key, "/") {
		id := part
		if end := strings.IndexAny(part, "#:"); end >= 0 { // an occurrence; what belongs to a step
			id = part[:end]
		}
		if n := d.nodes[id]; n != nil && n.kind != "parallel" && n.kind != "map" {
			return n
		}
	}
	return nil
}
