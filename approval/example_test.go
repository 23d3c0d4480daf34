package approval_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/sqlite"
)

// Who is asked is told by Notify; who decides is given to Decide by code that knows who that is:
// a page behind a login, the HTTP API, or the signed links of [approval.Links].
func ExampleAsk() {
	type Expense struct {
		Cents int `json:"cents"`
	}
	asked := make(chan string, 2)
	pay := pawl.Define("pay", func(c *pawl.Context, in Expense) (string, error) {
		d, err := approval.Ask(c, "boss", approval.Request{
			Title:     "Pay this expense?",
			Details:   in,
			Approvers: []string{"ann", "bob"},
			Schema:    json.RawMessage(`{"type": "object", "properties": {"account": {"enum": ["travel", "office"]}}, "required": ["account"]}`),
			Notify: func(_ context.Context, n approval.Notice) error {
				if n.What == approval.Asked {
					asked <- n.Approval.Run // to those in n.To, by mail
				}
				return nil
			},
		})
		if err != nil {
			return "", err
		}
		if !d.Approved {
			return d.By + " said no: " + d.Comment, nil
		}
		return fmt.Sprintf("%d cents, says %s, with %s", in.Cents, d.By, d.Form), nil // and the step that pays
	})

	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(pay); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()

	run, err := pay.Start(ctx, engine, Expense{1290}, pawl.ID("expense-1"))
	if err != nil {
		panic(err)
	}
	ref := pawl.Ref{ID: <-asked + "/boss"}
	a, err := approval.Get(ctx, engine, ref)
	fmt.Println(a.Title, string(a.Details), err)
	for _, by := range []string{"eve", "bob", "ann"} {
		_, err := approval.Decide(ctx, engine, ref, approval.Answer{Approved: true, By: by, Shown: a.Shown, Form: json.RawMessage(`{"account": "travel"}`)})
		var decided *approval.DecidedError
		if errors.As(err, &decided) { // its text says when
			err = errors.New("it was decided by " + decided.First.By)
		}
		fmt.Println(by, err)
	}
	fmt.Println(run.Result(ctx))
	stop()
	if err := <-done; err != nil {
		panic(err)
	}
	// Output:
	// Pay this expense? {"cents":1290} <nil>
	// eve "eve" may not decide approval expense-1/boss: only ann, bob may
	// bob <nil>
	// ann it was decided by bob
	// 1290 cents, says bob, with {"account":"travel"} <nil>
}
