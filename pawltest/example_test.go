package pawltest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
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

// passes runs a test as go test would.
func passes(name string, test func(t *testing.T)) bool {
	return testing.RunTests(func(pat, str string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: name, F: test}})
}
