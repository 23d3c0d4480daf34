package pawltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/pawltest"
)

// Reminder reminds a customer until he answers, three times at most.
var Reminder = pawl.Define("reminder", func(c *pawl.Context, customer string) (string, error) {
	for n := range 3 {
		err := pawl.Do(c, "mail", func(ctx context.Context) error {
			return sendMail(pawl.InfoOf(ctx).StepID, customer, n)
		})
		if err != nil {
			return "", err
		}
		answer, err := pawl.WaitFor[string](c, "answer", pawl.Timeout(7*24*time.Hour))
		if err == nil {
			return answer, nil
		}
	}
	return "no answer", nil
})

func sendMail(key, to string, n int) error { return fmt.Errorf("no mail server: %s %s %d", key, to, n) }

// In a program the body of this function stands in a TestXxx function of a _test.go file.
func Example() {
	test := func(t *testing.T) {
		pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
			h.MockStep("mail", func(context.Context) (any, error) { return nil, nil })
			run := pawltest.Start(h, Reminder, "ann")
			h.AwaitEvent(run.ID(), "answer")
			time.Sleep(10 * 24 * time.Hour) // takes no time
			h.Signal(run.ID(), "answer", "I will")
			if got := pawltest.Result(h, run); got != "I will" {
				t.Errorf("got %q", got)
			}
			if n := h.Calls("mail"); n != 2 {
				t.Errorf("%d mails were sent, want 2", n)
			}
		}, Reminder)
	}
	fmt.Println(passes("TestReminder", test))
	// Output: true
}

func ExampleCrashEverywhere() {
	var mails pawltest.Effects
	test := func(t *testing.T) {
		pawltest.CrashEverywhere(t, Reminder, "ann",
			pawltest.WithEffects(&mails),
			pawltest.WithSetup(func(h *pawltest.Harness) {
				h.MockStep("mail", func(ctx context.Context) (any, error) {
					mails.Do(ctx, "mail")
					return nil, nil
				})
			}),
			pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
				h.AwaitEntry(runID, pawl.KindStep, "mail#2")
				h.Signal(runID, "answer", "I will")
			}))
	}
	fmt.Println(passes("TestReminderSurvivesCrashes", test))
	// Output: true
}

// Order waits until it is paid, and answers who tells it.
var Order = pawl.Define("order", func(c *pawl.Context, item string) (string, error) {
	paid, err := pawl.NewWebhook(c, pawl.Answering(pawl.Response{Status: 200, Body: []byte("thank you")}))
	if err != nil {
		return "", err
	}
	req, err := paid.Wait(c, pawl.Timeout(24*time.Hour))
	if errors.Is(err, pawl.ErrTimeout) {
		return "cancelled", nil
	}
	if err != nil {
		return "", err
	}
	return item + " for " + string(req.Body), nil
})

func ExampleHarness_Client() {
	test := func(t *testing.T) {
		pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
			client := h.Client(func(e *pawl.Engine) http.Handler { return api.New(e, api.Options{}) })
			run := pawltest.Start(h, Order, "rope")
			url := h.AwaitWebhook(run.ID())
			h.Crash() // the address stays good
			time.Sleep(23 * time.Hour)
			res, err := client.Post(url, "text/plain", strings.NewReader("12.90"))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if answer, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(answer) != "thank you" || err != nil {
				t.Errorf("the provider is told %d %q, %v", res.StatusCode, answer, err)
			}
			if got := pawltest.Result(h, run); got != "rope for 12.90" {
				t.Errorf("got %q", got)
			}
		}, Order)
	}
	fmt.Println(passes("TestAPaidOrder", test))
	// Output: true
}

// passes runs a test as go test would.
func passes(name string, test func(t *testing.T)) bool {
	return testing.RunTests(func(pat, str string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: name, F: test}})
}
