package pawl_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/trigger"
)

// atWork is an engine that works on a store in memory until stop is called: the setting of the
// examples here. That of the package, Example (Readme), shows a whole program.
func atWork(defs ...pawl.Definition) (engine *pawl.Engine, stop func()) {
	store, err := sqlite.Open(sqlite.Memory, nil)
	check(err)
	engine, rest := atWorkOn(store, defs...)
	return engine, func() {
		rest()
		check(store.Close())
	}
}

func atWorkOn(store pawl.Store, defs ...pawl.Definition) (engine *pawl.Engine, stop func()) {
	engine = pawl.New(store, &pawl.Options{Poll: 20 * time.Millisecond})
	check(engine.Register(defs...))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()
	return engine, func() {
		cancel()
		check(<-done)
	}
}

// post sends a body, as a caller from outside, and prints what is answered.
func post(url, body string, header ...string) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	check(err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	check(err)
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	check(err)
	fmt.Println(strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", string(said))))
}

// A step that fails is tried again, and its key is the same each time.
func ExampleStep() {
	ctx := context.Background()
	charge := pawl.Define("charge", func(c *pawl.Context, cents int) (string, error) {
		return pawl.Step(c, "bank", func(ctx context.Context) (string, error) {
			info := pawl.InfoOf(ctx)
			fmt.Println("attempt", info.Attempt, "with the key", info.StepID[strings.LastIndex(info.StepID, "/"):])
			if info.Attempt == 1 {
				return "", pawl.RetryAfter(errors.New("the bank is busy"), 10*time.Millisecond)
			}
			return fmt.Sprintf("%d cents taken", cents), nil
		}, pawl.MaxAttempts(3))
	})
	engine, stop := atWork(charge)
	defer stop()

	run, err := charge.Start(ctx, engine, 1290, pawl.ID("order-7"))
	check(err)
	fmt.Println(run.Result(ctx))
	// Output:
	// attempt 1 with the key /bank
	// attempt 2 with the key /bank
	// 1290 cents taken <nil>
}

// What is sent before the run waits for it is kept.
func ExampleWaitFor() {
	type Review struct{ Approved bool }
	ctx := context.Background()
	publish := pawl.Define("publish", func(c *pawl.Context, title string) (string, error) {
		review, err := pawl.WaitFor[Review](c, "review", pawl.Timeout(7*24*time.Hour))
		if errors.Is(err, pawl.ErrTimeout) {
			return "nobody has read " + title, nil
		}
		if err != nil || !review.Approved {
			return "rejected", err
		}
		return title + " is out", nil
	})
	engine, stop := atWork(publish)
	defer stop()

	run, err := publish.Start(ctx, engine, "Knots")
	check(err)
	check(engine.Signal(ctx, run.ID(), "review", Review{Approved: true}))
	fmt.Println(run.Result(ctx))
	// Output: Knots is out <nil>
}

// The URL is that of the run. It works when NewWebhook returns, so it can be given away at once.
func ExampleNewWebhook() {
	ctx := context.Background()
	urls := make(chan string, 1)
	order := pawl.Define("order", func(c *pawl.Context, item string) (string, error) {
		paid, err := pawl.NewWebhook(c, pawl.Answering(pawl.Response{Status: 200, Body: []byte("thank you")}))
		if err != nil {
			return "", err
		}
		err = pawl.Do(c, "ask for money", func(context.Context) error {
			urls <- paid.URL() // to the payment provider
			return nil
		})
		if err != nil {
			return "", err
		}
		req, err := paid.Wait(c, pawl.Timeout(time.Hour))
		if err != nil {
			return "", err
		}
		var receipt struct{ Number string }
		return receipt.Number, req.JSON(&receipt)
	})
	engine, stop := atWork(order)
	defer stop()
	server := httptest.NewServer(api.New(engine, api.Options{})) // in a program: api.Serve
	defer server.Close()

	run, err := order.Start(ctx, engine, "rope")
	check(err)
	post(server.URL+<-urls, `{"number": "R-1"}`) // with Options.PublicURL it is a whole URL
	fmt.Println(run.Result(ctx))
	// Output:
	// 200 thank you
	// R-1 <nil>
}

// The workflow names a scheme and a secret; only the server has the secret.
func ExampleSigned() {
	ctx := context.Background()
	urls := make(chan string, 1)
	deploy := pawl.Define("deploy", func(c *pawl.Context, _ struct{}) (string, error) {
		pushed, err := pawl.NewWebhook(c, pawl.Signed("github", "hub"))
		if err != nil {
			return "", err
		}
		urls <- pushed.URL()
		req, err := pushed.Wait(c)
		if err != nil {
			return "", err
		}
		return string(req.Body), nil
	})
	engine, stop := atWork(deploy)
	defer stop()
	verifier, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.GitHub, Secrets: []string{"geheim"}})
	check(err)
	server := httptest.NewServer(api.New(engine, api.Options{
		Verify: func(scheme, secretName string, h http.Header, body []byte, now time.Time) (string, error) {
			if scheme != "github" || secretName != "hub" {
				return "", fmt.Errorf("%w: no secret %q for %s", pawl.ErrNotFound, secretName, scheme)
			}
			signed, err := verifier.Verify(h, body, now)
			return signed.ID, err
		},
	}))
	defer server.Close()

	run, err := deploy.Start(ctx, engine, struct{}{})
	check(err)
	url := server.URL + <-urls
	for _, secret := range []string{"guessed", "geheim", "geheim"} { // the third is a repeat, which the run does not hear of
		post(url, "v2", "X-GitHub-Delivery", "1", "X-Hub-Signature-256", hubSignature(secret, "v2"))
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// 401 signature of scheme github: it does not fit the body
	// 202
	// 202
	// v2 <nil>
}

// hubSignature signs as GitHub does.
func hubSignature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// A step of the run says what the caller gets.
func ExampleRespond() {
	ctx := context.Background()
	urls := make(chan string, 1)
	sum := pawl.Define("sum", func(c *pawl.Context, _ struct{}) (int, error) {
		asked, err := pawl.NewWebhook(c, pawl.RespondManually(10*time.Second, pawl.Response{Status: 202, Body: []byte("later")}))
		if err != nil {
			return 0, err
		}
		urls <- asked.URL()
		req, err := asked.Wait(c)
		if err != nil {
			return 0, err
		}
		var numbers []int
		if err := req.JSON(&numbers); err != nil {
			return 0, err
		}
		total := 0
		for _, n := range numbers {
			total += n
		}
		err = pawl.Do(c, "answer", func(ctx context.Context) error {
			return pawl.Respond(ctx, req, pawl.Response{Body: []byte(fmt.Sprint("it is ", total))})
		})
		if errors.Is(err, pawl.ErrTimeout) { // the caller has got the fallback
			err = nil
		}
		return total, err
	})
	engine, stop := atWork(sum)
	defer stop()
	server := httptest.NewServer(api.New(engine, api.Options{}))
	defer server.Close()

	run, err := sum.Start(ctx, engine, struct{}{})
	check(err)
	post(server.URL+<-urls, "[1, 2, 39]")
	fmt.Println(run.Result(ctx))
	// Output:
	// 200 it is 42
	// 42 <nil>
}

// What a step writes is read while it goes on, and afterwards.
func ExampleStreamOf() {
	ctx := context.Background()
	poem := pawl.Define("poem", func(c *pawl.Context, words []string) (int, error) {
		return pawl.Step(c, "say", func(ctx context.Context) (int, error) {
			said := pawl.StreamOf(ctx, "words")
			for _, word := range words {
				if err := said.Write(word); err != nil {
					return 0, err
				}
			}
			return len(words), nil
		})
	})
	engine, stop := atWork(poem)
	defer stop()

	run, err := poem.Start(ctx, engine, []string{"roses", "are", "red"})
	check(err)
	for chunk, err := range engine.ReadStream(ctx, "", run.ID(), "words", 1) { // from the second on
		check(err)
		var word string
		check(json.Unmarshal(chunk.Data, &word))
		fmt.Println(chunk.Index, word)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// 1 are
	// 2 red
	// 3 <nil>
}

// A run that was under way when the code was changed goes on as it began.
func ExampleContext_Version() {
	ctx := context.Background()
	asked := func(c *pawl.Context, who string) error {
		return pawl.Do(c, "ask "+who, func(context.Context) error { return nil })
	}
	old := pawl.Define("approve", func(c *pawl.Context, _ struct{}) (string, error) {
		if err := asked(c, "boss"); err != nil {
			return "", err
		}
		return pawl.WaitFor[string](c, "answer")
	})
	changed := pawl.Define("approve", func(c *pawl.Context, _ struct{}) (string, error) {
		if c.Version("ask the team first", 1) >= 1 {
			if err := asked(c, "team"); err != nil {
				return "", err
			}
		}
		if err := asked(c, "boss"); err != nil {
			return "", err
		}
		return pawl.WaitFor[string](c, "answer")
	})
	store, err := sqlite.Open(sqlite.Memory, nil)
	check(err)
	defer store.Close()

	engine, stop := atWorkOn(store, old)
	before, err := old.Start(ctx, engine, struct{}{}, pawl.ID("before"))
	check(err)
	for waits := false; !waits; { // until the run has come to its wait
		info, err := engine.Get(ctx, pawl.Ref{ID: before.ID()})
		check(err)
		waits = info.State == pawl.Waiting
	}
	stop() // and the new program is started

	engine, stop = atWorkOn(store, changed)
	defer stop()
	_, err = changed.Start(ctx, engine, struct{}{}, pawl.ID("after"))
	check(err)
	for _, id := range []string{"before", "after"} {
		check(engine.Signal(ctx, id, "answer", "yes"))
		fmt.Println(pawl.Attach[string](engine, id).Result(ctx))
		for e, err := range engine.Journal(ctx, pawl.Ref{ID: id}) {
			check(err)
			if e.Kind == pawl.KindStep {
				fmt.Println("-", e.Key)
			}
		}
	}
	// Output:
	// yes <nil>
	// - ask boss
	// yes <nil>
	// - ask team
	// - ask boss
}
