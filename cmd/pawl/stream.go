package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
)

func streamRow(s pawl.StreamInfo) []any {
	ended := "no"
	if s.Closed {
		ended = "yes"
	}
	return []any{s.Name, s.Tail + 1, ended}
}

// readStream prints the chunks of a stream: those that are there, and with follow those
// that come.
func (a *app) readStream(ctx context.Context, id, name string, from int64, follow bool) error {
	last := int64(-1)
	if !follow {
		list, err := a.client.Streams(ctx, id)
		if err != nil {
			return err
		}
		there := false
		for _, s := range list.Items {
			if s.Name == name {
				there, last = true, s.Tail
			}
		}
		if !there {
			return &exitError{exitNotFound, fmt.Errorf("run %s has written no stream %q", id, name), []string{
				"see which there are: " + a.hint("stream %s", id), "or wait for it: " + a.hint("stream %s %s --follow", id, name)}}
		}
		if last < 0 || from > last {
			return nil
		}
	}
	a.waits = follow
	t := prose{a: a}
	defer t.end()
	for event, err := range a.client.ReadStream(ctx, id, name, from) {
		switch {
		case ctx.Err() != nil:
			t.end()
			return a.detached(ctx, id)
		case err != nil:
			return err
		case event.Type != api.EventChunk:
			continue
		case !a.people():
			if err := a.stream(event.Data, *event.Chunk, "index"); err != nil {
				return err
			}
		default:
			t.chunk(event.Chunk)
		}
		if !follow && event.Chunk.Index >= last {
			break
		}
	}
	return nil
}

// prose prints chunks so that a person can read them: a model's words run on as they come.
type prose struct {
	a     *app
	call  string
	begun bool // the line is not ended
}

func (t *prose) chunk(c *pawl.Chunk) {
	var delta agent.Delta
	var plain string
	switch {
	case c.Closed:
	case json.Unmarshal(c.Data, &plain) == nil:
		t.write(plain)
	case json.Unmarshal(c.Data, &delta) == nil && delta.Step != "":
		if t.call != "" && t.call != delta.Step || delta.Restart { // what stands there was cut off
			t.end()
		}
		t.call = delta.Step
		t.write(delta.Text)
	default:
		t.end()
		t.a.out.line("%s", readable(string(oneLineJSON(c.Data))))
	}
}

func (t *prose) write(s string) {
	if s = clean(s); s != "" {
		fmt.Fprint(t.a.stdout, s)
		t.begun = s[len(s)-1] != '\n'
	}
}

func (t *prose) end() {
	if t.begun {
		fmt.Fprintln(t.a.stdout)
		t.begun = false
	}
}
