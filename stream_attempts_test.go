package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// chunksOf reads a stream to its end.
func chunksOf(n *node, id, name string, from int64) (out []pawl.Chunk) {
	n.t.Helper()
	for c, err := range n.ReadStream(n.ctx, "", id, name, from) {
		n.ok(err)
		out = append(out, c)
	}
	return out
}

// textsOf is what a reader has by step that drops what it has where an attempt begins: as
// readTexts, which docs/streams.md shows.
func textsOf(n *node, id, name string) map[string]string {
	n.t.Helper()
	texts, err := readTexts(n.ctx, n.Engine, id, name)
	n.ok(err)
	return texts
}

// by is what chunks say of who wrote them.
func by(chunks []pawl.Chunk) string {
	var all []string
	for _, c := range chunks {
		first := ""
		if c.First {
			first = "!"
		}
		all = append(all, fmt.Sprintf("%s %s:%d.%d%s", c.Data, c.Step, c.Epoch, c.Attempt, first))
	}
	return strings.Join(all, ", ")
}

// The words of a step that was killed while it wrote stay, and those of the attempt after it
// can be told from them: by what each chunk says, and by the first of the new attempt.
func TestStreamTellsAnAttemptThatWasKilledFromTheNext(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		wrote := make(chan pawl.Info, 1)
		killed := make(chan none)
		w := pawl.Define("speaks", func(c *pawl.Context, _ none) (none, error) {
			if err := c.Stream("answer").Write("Q: "); err != nil {
				return none{}, err
			}
			err := pawl.Do(c, "ask", func(ctx context.Context) error {
				info := pawl.InfoOf(ctx)
				for _, word := range []string{"the ", "answer ", "is 42"} {
					if err := pawl.StreamOf(ctx, "answer").Write(word); err != nil {
						return err
					}
					if word == "answer " {
						wrote <- info
						if info.Epoch == 1 {
							<-killed
							return errors.New("nobody hears this")
						}
					}
				}
				return nil
			})
			if err != nil {
				return none{}, err
			}
			return none{}, pawl.Do(c, "sign", func(ctx context.Context) error { return pawl.StreamOf(ctx, "answer").Write("pawl") })
		})
		store := open()
		one := boot(t, store, mayCrash(), w)
		r := start(one, w, none{})
		first := <-wrote
		seen := 0
		for _, err := range one.ReadStream(one.ctx, "", r.ID(), "answer", 0) { // durable before the kill
			one.ok(err)
			if seen++; seen == 3 {
				break
			}
		}
		one.crash()
		two := boot(t, open(), nil, w)
		second := <-wrote
		result(two, r)
		close(killed)
		equal(t, "attempts, of which the one that was cut off does not count", []int{first.Attempt, second.Attempt}, []int{1, 1})
		if second.Epoch <= first.Epoch || first.Epoch != 1 {
			t.Errorf("epochs %d and %d: the second is not the greater", first.Epoch, second.Epoch)
		}
		equal(t, "chunks", by(chunksOf(two, r.ID(), "answer", 0)), fmt.Sprintf(
			`"Q: " :0.0, "the " ask:1.1!, "answer " ask:1.1, "the " ask:%d.1!, "answer " ask:%[1]d.1, "is 42" ask:%[1]d.1, "pawl" sign:%[1]d.1!`, second.Epoch))
		equal(t, "texts", textsOf(two, r.ID(), "answer"), map[string]string{"": "Q: ", "ask": "the answer is 42", "sign": "pawl"})
	})
}

// Attempts that failed, two steps that write at the same time, and one after the other.
func TestStreamTellsWhoWroteIt(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		say := func(c *pawl.Context, name string, fails int) error {
			return pawl.Do(c, name, func(ctx context.Context) error {
				for _, word := range []string{name, "!"} {
					if err := pawl.StreamOf(ctx, "out").Write(word); err != nil {
						return err
					}
				}
				if err := pawl.StreamOf(ctx, "log").Write(pawl.InfoOf(ctx).Attempt); err != nil {
					return err
				}
				if pawl.InfoOf(ctx).Attempt <= fails {
					return errors.New("once more")
				}
				return nil
			}, quick)
		}
		w := pawl.Define("speakers", func(c *pawl.Context, _ none) (none, error) {
			if err := say(c, "a", 2); err != nil {
				return none{}, err
			}
			if err := say(c, "a", 0); err != nil {
				return none{}, err
			}
			_, err := pawl.Map(c, "both", []string{"x", "y"}, func(c *pawl.Context, s string) (none, error) { return none{}, say(c, s, 1) })
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		all := chunksOf(n, r.ID(), "out", 0)
		equal(t, "texts", textsOf(n, r.ID(), "out"), map[string]string{"a": "a!", "a#2": "a!", "both[0]/x": "x!", "both[1]/y": "y!"})
		firsts := 0
		for _, c := range all {
			if c.First {
				firsts++
			}
		}
		equal(t, "attempts", firsts, 8)
		equal(t, "chunks", len(all), 16)
		log := chunksOf(n, r.ID(), "log", 0)
		for _, c := range log {
			equal(t, "attempt that is written", fmt.Sprint(c.Attempt), string(c.Data))
			equal(t, "first of its attempt in this stream", c.First, true)
		}
		page, err := n.Chunks(n.ctx, pawl.Ref{ID: r.ID()}, "out", 0, 1)
		n.ok(err)
		equal(t, "a page", by(page.Items), by(all[:1]))
	})
}

// A body that outlives its attempt says nothing more: its words would be among those of the next.
func TestStreamTakesNothingOfAnAttemptThatHasEnded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		next, late := make(chan none), make(chan error, 1)
		w := pawl.Define("outlives", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "slow", func(ctx context.Context) error {
				s := pawl.StreamOf(ctx, "out")
				if pawl.InfoOf(ctx).Attempt == 1 {
					err := s.Write("one")
					<-next // it does not heed its context
					late <- s.Write("late")
					return err
				}
				err := s.Write("two")
				close(next)
				return errors.Join(err, <-late)
			}, quick, pawl.AttemptTimeout(50*time.Millisecond), pawl.MaxAttempts(2))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		err := failure(n, r)
		if want := `write to stream "out" in step slow: attempt 1 has ended`; !strings.Contains(err.Error(), want) {
			t.Errorf("the late write: %v, want %q", err, want)
		}
		all := chunksOf(n, r.ID(), "out", 0)
		equal(t, "chunks", by(all), `"one" slow:1.1!, "two" slow:1.2!`)
	})
}
