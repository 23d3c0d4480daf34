package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/support-agent/support"
	"github.com/pawlrun/pawl/sqlite"
)

// errWaits says that the conversation waits for an approval, and that nobody is here to give it.
var errWaits = errors.New("the conversation waits for an approval")

// desk is one conversation, and the terminal at which it is led. With an id it has many
// messages, each of which is a run that remembers those before it.
type desk struct {
	agent       *agent.Agent
	store       string
	id, message string
	approve     string // the id of the conversation, if it is only to be answered
	by, reason  string
	deny        bool
	interactive bool
	in          io.Reader
	out, err    io.Writer

	asked map[string]bool // ids of approvals that were shown
	lines *bufio.Scanner
}

// serve goes on with the conversation until it has ended, or waits for somebody who is not here.
func (d *desk) serve(ctx context.Context) (err error) {
	store, err := sqlite.Open(d.store, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.NewTextHandler(d.err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err := e.Register(d.agent); err != nil {
		return err
	}
	run, err := d.begin(ctx, e)
	if err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- e.Run(working) }()
	defer func() { stop(); err = errors.Join(err, <-worked) }()

	var shown support.Text
	var reader sync.WaitGroup
	defer func() { stop(); reader.Wait() }()
	read := make(chan error, 1)
	reader.Go(func() {
		_, err := support.Read(working, e, run.ID(), 0, func(delta agent.Delta) error {
			if shown.Add(delta) {
				fmt.Fprintln(d.out)
			}
			_, err := io.WriteString(d.out, delta.Text)
			return err
		})
		read <- err
	})
	if err := d.attend(ctx, e, run.ID(), read); err != nil {
		return err
	}
	result, err := run.Result(ctx)
	fmt.Fprintln(d.out)
	if err == nil && shown.String() != result.Text { // a process died while a piece of it was on its way
		fmt.Fprintln(d.out, result.Text)
	}
	return err
}

// begin finds the conversation, or starts it, and hands on the verdict of the command line.
func (d *desk) begin(ctx context.Context, e *pawl.Engine) (*pawl.Run[agent.Result], error) {
	id, err := d.run(ctx, e)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(d.err, "conversation %s\n", cmp.Or(d.approve, d.id, id))
	if d.message != "" {
		_, err := d.agent.Start(ctx, e, agent.Task{Prompt: d.message, Conversation: d.id}, pawl.ID(id))
		if errors.Is(err, pawl.ErrConflict) {
			return nil, fmt.Errorf("%w; conversation %s has not answered that yet: give the same message again, or approve what it waits for", err, d.id)
		}
		if err != nil {
			return nil, err
		}
	}
	info, err := e.Get(ctx, pawl.Ref{ID: id})
	if err != nil {
		return nil, err
	}
	if info.State == pawl.Failed {
		fmt.Fprintf(d.err, "it failed (%s): trying again\n", info.Reason)
		if _, err := e.Retry(ctx, pawl.Ref{ID: id}); err != nil {
			return nil, err
		}
	}
	if d.approve != "" {
		pending, err := support.PendingOf(ctx, e, id)
		if err == nil && len(pending) == 0 {
			err = fmt.Errorf("conversation %s waits for no approval; it is %s", d.approve, info.State)
		}
		if err != nil {
			return nil, err
		}
		// One at a time: what else waits is shown, and needs a verdict of its own.
		if err := support.Answer(ctx, e, pending[0], !d.deny, d.by, d.reason); err != nil {
			return nil, err
		}
	}
	return pawl.Attach[agent.Result](e, id), nil
}

// run returns the id of the run to go on with. The same command again means the same run; so
// does the last message of a conversation. Another one is a run of its own, named for its place.
func (d *desk) run(ctx context.Context, e *pawl.Engine) (string, error) {
	id := cmp.Or(d.approve, d.id)
	if id == "" { // a message that stands alone
		sum := sha256.Sum256([]byte(d.message))
		return support.Name + "-" + hex.EncodeToString(sum[:4]), nil
	}
	last, err := e.List(ctx, pawl.Filter{Attrs: map[string]string{agent.ConversationAttribute: id}, Limit: 1})
	if err != nil || len(last) == 0 && d.message == "" {
		return id, err
	}
	if len(last) > 0 {
		var task agent.Task
		for entry, err := range e.Journal(ctx, pawl.Ref{ID: last[0].ID}) {
			if err == nil {
				err = json.Unmarshal(entry.Data, &task) // the first entry is the run's input
			}
			if err != nil {
				return "", err
			}
			break
		}
		if d.message == "" || d.message == task.Prompt {
			return last[0].ID, nil
		}
	}
	info, err := agent.Conversations{Engine: e}.Get(ctx, id)
	if errors.Is(err, pawl.ErrNotFound) {
		err = nil
	}
	return fmt.Sprintf("%s.%d", id, info.Messages), err
}

// attend gets approvals until everything is read, which is when the run has ended.
func (d *desk) attend(ctx context.Context, e *pawl.Engine, id string, read <-chan error) error {
	d.asked, d.lines = map[string]bool{}, bufio.NewScanner(d.in)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-read:
			return err
		case <-look.C:
		}
		// A run that has a verdict to read is not Waiting any more: its hook is no question.
		info, err := e.Get(ctx, pawl.Ref{ID: id})
		if err != nil {
			return err
		}
		if info.State == pawl.Blocked || info.State == pawl.Paused {
			return fmt.Errorf("conversation %s is %s: %s", id, info.State, info.Reason)
		}
		if info.State != pawl.Waiting {
			continue
		}
		pending, err := support.PendingOf(ctx, e, id)
		if err != nil {
			return err
		}
		for _, p := range pending {
			if d.asked[p.ID] {
				continue
			}
			d.asked[p.ID] = true
			if err := d.ask(ctx, e, id, p); err != nil {
				return err
			}
		}
	}
}

// ask shows what is to be approved, and gets a verdict if somebody is here.
func (d *desk) ask(ctx context.Context, e *pawl.Engine, id string, p support.Pending) error {
	fmt.Fprintf(d.err, "\n%s\n%s may approve it, until %s.\n", p, p.Who(), p.Expires.Local().Format(time.DateTime))
	if !d.interactive {
		return d.leave(cmp.Or(d.approve, d.id, id), p)
	}
	by := d.by
	if by == "" {
		fmt.Fprint(d.err, "Your name: ")
		if !d.line(ctx, &by) {
			return d.leave(cmp.Or(d.approve, d.id, id), p)
		}
	}
	for {
		var yes string
		fmt.Fprintf(d.err, "Approve it as %s? y/n: ", by)
		if !d.line(ctx, &yes) {
			return d.leave(cmp.Or(d.approve, d.id, id), p)
		}
		switch strings.ToLower(yes) {
		case "y", "yes":
			return support.Answer(ctx, e, p, true, by, "")
		case "n", "no":
			return support.Answer(ctx, e, p, false, by, "")
		}
	}
}

// leave says how the conversation can be taken up again.
func (d *desk) leave(id string, p support.Pending) error {
	by := "NAME"
	if len(p.Approvers) > 0 {
		by = p.Approvers[0]
	}
	fmt.Fprintf(d.err, "It waits, and costs nothing. To go on:\n  go run ./examples/support-agent --store %s --approve %s --by %s\nwith --deny --reason \"...\" to deny it.\n", d.store, id, by)
	return errWaits
}

// line reads a line; false: there is none, or ctx has ended.
func (d *desk) line(ctx context.Context, into *string) bool {
	got := make(chan bool, 1)
	go func() { got <- d.lines.Scan() }() // a terminal can't be told to stop reading; the process ends with it
	select {
	case ok := <-got:
		*into = strings.TrimSpace(d.lines.Text())
		return ok
	case <-ctx.Done():
		return false
	}
}
