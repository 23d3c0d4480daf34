package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// outline has a rule that no schema says.
type outline struct {
	Points []string `json:"points"`
}

func (o outline) Validate() error {
	if len(o.Points) != 2 {
		return fmt.Errorf("it has %d points, and must have 2", len(o.Points))
	}
	return nil
}

func TestAnAnswerThatIsRefusedIsMended(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{Contains: "must have 2", Text: `{"points": ["a", "b"]}`},
			llmtest.Rule{Contains: "mentions b", Text: `{"points": ["a", "c"]}`},
			llmtest.Rule{Text: `{"points": ["a"]}`},
		)
		check := CheckOf(func(o outline) error {
			if len(o.Points) > 1 && o.Points[1] == "b" {
				return errors.New("it mentions b")
			}
			return nil
		})
		w := pawl.Define("outlines", func(c *pawl.Context, _ struct{}) (outline, error) {
			return Generate[outline](c, m, "ask", Call{Prompt: "outline it", Check: check})
		})
		e := work(t, open(), w)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := w.Start(ctx, e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.Result(ctx)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "points", out.Points, []string{"a", "c"})
		// Refused by the type, then by the call, then right.
		equal(t, "calls", len(s.Calls()), 3)
	})
}

func TestACheckWithoutAShapeIsOfText(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(llmtest.Rule{Contains: "too short", Text: "a whole sentence"}, llmtest.Rule{Text: "no"})
		a, whys, err := answer(t, open(), once(m, Call{Prompt: "write", Check: func(v json.RawMessage) error {
			if len(v) < 10 {
				return errors.New("it is too short")
			}
			return nil
		}}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "value", string(a.Value), `"a whole sentence"`)
		equal(t, "requests", whys, []string{"ask scripted/m", "repair scripted/m"})
	})
}

func TestAnEmptyTextIsNoAnswer(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Text: " \n"})
		w := pawl.Define("writes", func(c *pawl.Context, _ struct{}) (string, error) {
			return Generate[string](c, m, "ask", Call{Prompt: "write"})
		})
		e := work(t, open(), w)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := w.Start(ctx, e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Result(ctx); err == nil || !strings.Contains(err.Error(), "empty") {
			t.Errorf("got %v", err)
		}
		equal(t, "calls", len(s.Calls()), 3) // it may be mended twice
	})
}
