package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// read reads a stream to its end.
func read(n *node, id, name string, from int64) (out []string) {
	n.t.Helper()
	for c, err := range n.ReadStream(n.ctx, "", id, name, from) {
		if err != nil {
			n.t.Fatalf("read stream %q: %v", name, err)
		}
		out = append(out, string(c.Data))
	}
	return out
}

func TestB1_022_readableStream(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		next := make(chan none)
		w := pawl.Define("digits", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "write", func(ctx context.Context) error {
				s := pawl.StreamOf(ctx, "digits")
				for i := range 10 {
					select {
					case <-next:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					if err := s.Write(fmt.Sprint(i)); err != nil {
						return err
					}
				}
				return s.Close()
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		next <- none{}
		var got []string
		for c, err := range n.ReadStream(n.ctx, "", r.ID(), "digits", 0) { // while the run goes on
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(c.Data))
			equal(t, "index", c.Index, int64(len(got)-1))
			if len(got) < 10 {
				equal(t, "state", n.info(r.ID()).State, pawl.Running)
				next <- none{}
			}
		}
		equal(t, "chunks", strings.Join(got, ""), `"0""1""2""3""4""5""6""7""8""9"`)
		result(n, r)
	})
}

// output writes two chunks to each of two streams, with sleeps between, and closes them.
func output() *pawl.Workflow[none, string] {
	return pawl.Define("output", func(c *pawl.Context, _ none) (string, error) {
		plain, named := c.Stream(""), c.Stream("test")
		for _, write := range []func() error{
			func() error { return plain.Write("Hello, world!") },
			func() error { return named.Write("Hello, named stream!") },
			func() error { _, err := pawl.WaitFor[none](c, "go on"); return err },
			func() error { return plain.Write(map[string]string{"foo": "test"}) },
			func() error { return named.Write(map[string]string{"foo": "bar"}) },
			func() error { return c.Sleep(30 * time.Millisecond) },
			plain.Close, named.Close,
		} {
			if err := write(); err != nil {
				return "", err
			}
		}
		return "done", nil
	})
}

func TestB1_023_outputStream(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := output()
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		var live []string
		for c, err := range n.ReadStream(n.ctx, "", r.ID(), "", 0) {
			n.ok(err)
			if live = append(live, string(c.Data)); len(live) == 1 { // the run has not gone on to the second yet
				n.signal(r.ID(), "go on", none{})
			}
		}
		equal(t, "live", live, []string{`"Hello, world!"`, `{"foo":"test"}`})
		equal(t, "named", read(n, r.ID(), "test", 0), []string{`"Hello, named stream!"`, `{"foo":"bar"}`})
		equal(t, "result", result(n, r), "done")
		for _, from := range []int64{1, -1} {
			equal(t, fmt.Sprint("from ", from), read(n, r.ID(), "", from), []string{`{"foo":"test"}`})
			equal(t, fmt.Sprint("named from ", from), read(n, r.ID(), "test", from), []string{`{"foo":"bar"}`})
		}
	})
}

func TestB1_024_streamTailIndex(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := output()
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.signal(r.ID(), "go on", none{})
		result(n, r)
		all, err := n.Streams(n.ctx, "", r.ID())
		if err != nil {
			t.Fatal(err)
		}
		tails := map[string]int64{}
		for _, s := range all {
			tails[s.Name] = s.Tail
			equal(t, "closed "+s.Name, s.Closed, true)
		}
		equal(t, "tails", tails, map[string]int64{"": 1, "test": 1})
		equal(t, "a stream that nobody wrote", len(read(n, r.ID(), "never", 0)), 0)
		equal(t, "its newest chunk", len(read(n, r.ID(), "never", -1)), 0)
	})
}

// What the HTTP API makes its pages of: the store's.
func TestB1_025_streamPages(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := output()
		store := open()
		n := boot(t, store, nil, w)
		r := start(n, w, none{})
		n.signal(r.ID(), "go on", none{})
		result(n, r)
		whole := read(n, r.ID(), "", 0)
		var got []string
		for next, done := int64(0), false; !done; next++ {
			page, err := store.Chunks(n.ctx, n.info(r.ID()).Key, "", next, 1)
			n.ok(err)
			equal(t, "chunks of a page", len(page), 1)
			equal(t, "index", page[0].Index, next)
			if done = page[0].Closed; !done {
				got = append(got, string(page[0].Data))
			}
		}
		equal(t, "by pages of one", got, whole)
	})
}

func TestB1_026_outputStreamInsideStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("inside", func(c *pawl.Context, _ none) (string, error) {
			for i, chunk := range []any{"Hello from step!", "Second message"} {
				err := pawl.Do(c, "write", func(ctx context.Context) error {
					if err := pawl.StreamOf(ctx, "step-ns").Write(map[string]int{"counter": i}); err != nil {
						return err
					}
					return pawl.StreamOf(ctx, "").Write(chunk)
				})
				if err != nil {
					return "", err
				}
				if err := c.Sleep(20 * time.Millisecond); err != nil {
					return "", err
				}
			}
			return "done", pawl.Do(c, "close", func(ctx context.Context) error {
				if err := pawl.StreamOf(ctx, "step-ns").Close(); err != nil {
					return err
				}
				return pawl.StreamOf(ctx, "").Close()
			})
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "chunks", read(n, r.ID(), "", 0), []string{`"Hello from step!"`, `"Second message"`})
		equal(t, "named", read(n, r.ID(), "step-ns", 0), []string{`{"counter":0}`, `{"counter":1}`})
		equal(t, "result", result(n, r), "done")
		all, err := n.Streams(n.ctx, "", r.ID())
		n.ok(err)
		equal(t, "streams", len(all), 2)
		for _, s := range all {
			equal(t, "closed "+s.Name, s.Closed, true)
		}
	})
}

func TestB1_027_utf8Stream(t *testing.T) {
	greeting := map[string]string{"greeting": "안녕하세요", "emoji": "🎉"}
	texts := []string{"Hello, world!", "Café — naïve résumé", "你好，世界！🌍✨", "مرحبا بالعالم", "NUL \x00 inside"}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("utf8", func(c *pawl.Context, _ none) (none, error) {
			for _, s := range texts {
				if err := c.Stream("text").Write(s); err != nil {
					return none{}, err
				}
			}
			return none{}, c.Stream("text").Write(greeting)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		chunks := read(n, r.ID(), "text", 0)
		equal(t, "chunks", len(chunks), len(texts)+1)
		var got []string
		for _, raw := range chunks[:len(texts)] {
			var s string
			mustDecode(t, raw, &s)
			got = append(got, s)
		}
		equal(t, "texts", got, texts)
		var last map[string]string
		mustDecode(t, chunks[len(texts)], &last)
		equal(t, "the last", last, greeting)
	})
}

// relayed is a child that writes one chunk, and a parent that passes its child's chunks on
// to its own readers, as it can't hand over its stream. How the child is started is begin's.
func relayed(n **node, begin func(c *pawl.Context, child *pawl.Workflow[string, none], payload string) (string, error)) []pawl.Definition {
	child := pawl.Define("child", func(c *pawl.Context, payload string) (none, error) {
		return none{}, pawl.Do(c, "write", func(ctx context.Context) error {
			return errors.Join(pawl.StreamOf(ctx, "").Write(payload), pawl.StreamOf(ctx, "").Close())
		})
	})
	return []pawl.Definition{child, pawl.Define("parent", func(c *pawl.Context, payload string) (string, error) {
		id, err := begin(c, child, payload)
		if err != nil {
			return "", err
		}
		return id, pawl.Do(c, "relay", func(ctx context.Context) error {
			for chunk, err := range (*n).ReadStream(ctx, "", id, "", 0) {
				if err != nil {
					return err
				}
				if err := pawl.StreamOf(ctx, "").Write(chunk.Data); err != nil {
					return err
				}
			}
			return pawl.StreamOf(ctx, "").Close()
		})
	})}
}

func relays(t *testing.T, begin func(n *node) func(*pawl.Context, *pawl.Workflow[string, none], string) (string, error)) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		n = boot(t, open(), nil, relayed(&n, func(c *pawl.Context, child *pawl.Workflow[string, none], payload string) (string, error) {
			return begin(n)(c, child, payload)
		})...)
		info, err := n.StartRun(n.ctx, "parent", json.RawMessage(`"from the child"`))
		n.ok(err)
		equal(t, "the parent's chunks", read(n, info.ID, "", 0), []string{`"from the child"`})
		child := result(n, pawl.Attach[string](n.Engine, info.ID))
		equal(t, "the child's workflow", n.info(child).Workflow, "child")
		n.reaches(child, pawl.Completed)
	})
}

func TestB1_028_childsStreamThroughItsParent(t *testing.T) {
	relays(t, func(*node) func(*pawl.Context, *pawl.Workflow[string, none], string) (string, error) {
		return func(c *pawl.Context, child *pawl.Workflow[string, none], payload string) (string, error) {
			ch, err := child.Spawn(c, payload, pawl.Detach())
			if err != nil {
				return "", err
			}
			return ch.ID(), nil
		}
	})
}

func TestB1_029_streamOfARunStartedInAStep(t *testing.T) {
	relays(t, func(n *node) func(*pawl.Context, *pawl.Workflow[string, none], string) (string, error) {
		return func(c *pawl.Context, child *pawl.Workflow[string, none], payload string) (string, error) {
			return pawl.Step(c, "start", func(ctx context.Context) (string, error) {
				r, err := child.Start(ctx, n.Engine, payload, pawl.ID(pawl.InfoOf(ctx).StepID))
				if err != nil {
					return "", err
				}
				return r.ID(), nil
			})
		}
	})
}
