package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
)

// child runs another workflow.
type child struct {
	name   string
	input  *value // nil: the variables
	detach bool
}

func readChild(f *findings, config *node, w World) worker {
	k := &child{name: config.get("workflow").str(), detach: config.get("detach").yes()}
	if input := config.get("input"); input != nil {
		v := readValue(f, input)
		k.input = &v
	}
	if at := config.get("workflow"); at.is(textKind) {
		w.calls(f, at, k.name)
	}
	return k
}

// calls checks that there is a workflow.
func (w *World) calls(f *findings, at *node, name string) {
	document := at
	for document.in != nil {
		document = document.in
	}
	switch {
	case document.get("id").str() == name: // it will be there
	case w.Workflows != nil && !w.Workflows(name):
		f.fault(at, "deploy it first, or mend its name", "there is no workflow %q", name)
	case w.Workflows == nil && w.Others != nil:
		if others, missing := w.Others(name); missing {
			hint := f.did(name, others)
			if hint == "" {
				hint = "deploy it before a run comes here"
			}
			f.warn(at, hint, "there is no workflow %q yet", name)
		}
	}
}

func (k *child) reads(f func(at *node, u use)) {
	if k.input != nil {
		k.input.reads(f)
	}
}

func (k *child) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	var input any = in.variables
	if k.input != nil {
		var err error
		if input, err = k.input.fill(newFilling(in.root)); err != nil {
			return result{}, refuse(c, s, err)
		}
	}
	if over(input, maxMade) {
		return result{}, refuse(c, s, fmt.Errorf("the input of workflow %s would be over %d bytes of JSON", k.name, maxMade))
	}
	data, err := json.Marshal(input)
	if err != nil {
		return result{}, refuse(c, s, err)
	}
	var opts []pawl.StartOption
	if k.detach {
		opts = append(opts, pawl.Detach())
	}
	return under(c, s, func(c *pawl.Context) (result, error) {
		below, err := x.descend(c, s)
		if err != nil {
			return result{}, err
		}
		key := c.Key("$child:" + k.name) // as Spawn calls it
		run, err := pawl.SpawnNamed(c, k.name, data, append(opts, below)...)
		switch {
		case errors.Is(err, pawl.ErrUnknown):
			return result{}, pawl.Do(c, "start", func(context.Context) error { return &codedError{"unknown_workflow", err} })
		case errors.Is(err, pawl.ErrInput):
			return result{}, pawl.Do(c, "start", func(context.Context) error { return &codedError{"input", err} })
		case err != nil:
			return result{}, err
		case k.detach:
			return result{output: map[string]any{"run": run.ID()}}, nil
		}
		out, err := run.Wait(c)
		if err != nil {
			return result{child: key}, err
		}
		v, err := decode(out)
		return result{output: v}, err
	})
}
