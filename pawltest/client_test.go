package pawltest_test

import (
	"bufio"
	"context"
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

// door tells of two requests: the first gets an answer that is known beforehand, the second one of a
// step, a minute later.
var door = pawl.Define("door", func(c *pawl.Context, _ struct{}) (string, error) {
	bell, err := pawl.NewWebhook(c, pawl.Answering(pawl.Response{Status: 201, Body: []byte("coming")}))
	if err != nil {
		return "", err
	}
	rung, err := bell.Wait(c)
	if err != nil {
		return "", err
	}
	hatch, err := pawl.NewWebhook(c, pawl.RespondManually(5*time.Minute))
	if err != nil {
		return "", err
	}
	asked, err := hatch.Wait(c)
	if err != nil {
		return "", err
	}
	if err := c.Sleep(time.Minute); err != nil {
		return "", err
	}
	err = pawl.Do(c, "answer", func(ctx context.Context) error {
		return pawl.Respond(ctx, asked, pawl.Response{Body: append([]byte("not "), asked.Body...)})
	})
	return string(rung.Body) + " " + string(asked.Body) + " " + hatch.URL()[:len("http://localhost/.well-known")], err
})

func served(e *pawl.Engine) http.Handler { return api.New(e, api.Options{}) }

// posts sends a body, and says what came back.
func posts(client *http.Client, url, body string) string {
	res, err := client.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(res.StatusCode, " ", string(b))
}

func TestRequestsReachWebhooksInVirtualTime(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		client := h.Client(served)
		run := pawltest.Start(h, door, struct{}{})
		url := h.AwaitWebhook(run.ID())
		h.Crash() // the new worker's server has the webhook too
		if got := posts(client, url, "ring"); got != "201 coming" {
			t.Errorf("the bell: %s", got)
		}
		h.AwaitEntry(run.ID(), pawl.KindHook, "$hook#2")
		began := time.Now()
		hatch := strings.Replace(h.AwaitWebhook(run.ID()), "http://", "https://", 1)
		if got := posts(client, hatch, "today"); got != "200 not today" {
			t.Errorf("the hatch: %s", got)
		}
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("the answer took %v", took)
		}
		if got := pawltest.Result(h, run); got != "ring today http://localhost/.well-known" {
			t.Errorf("the run heard %q", got)
		}
		if got := posts(client, url+"x", "ring"); got != "404 " {
			t.Errorf("a webhook that there is not: %s", got)
		}
	}, door)
}

// A crash cuts who waits for an answer; the run has the request, and answers nobody.
func TestACrashCutsWhoWaits(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		client := h.Client(served)
		run := pawltest.Start(h, door, struct{}{})
		posts(client, h.AwaitWebhook(run.ID()), "ring")
		h.AwaitEntry(run.ID(), pawl.KindHook, "$hook#2")
		got := make(chan string)
		go func() { got <- posts(client, h.AwaitWebhook(run.ID()), "today") }()
		time.Sleep(time.Second)
		h.Crash()
		if said := <-got; !strings.Contains(said, "EOF") {
			t.Errorf("who waited got %q", said)
		}
		pawltest.Result(h, run)
	}, door)
}

func TestADriverSendsRequests(t *testing.T) {
	pawltest.CrashEverywhere(t, door, struct{}{}, pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		client := h.Client(served)
		if got := posts(client, h.AwaitWebhook(id), "ring"); got != "201 coming" {
			t.Errorf("the bell: %s", got)
		}
		h.AwaitEntry(id, pawl.KindHook, "$hook#2")
		if got := posts(client, h.AwaitWebhook(id), "today"); got != "200 not today" {
			t.Errorf("the hatch: %s", got)
		}
	}))
}

// What is not read to its end, or still under way, does not keep the test from ending.
func TestOpenResponsesEndWithTheTest(t *testing.T) {
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		client := h.Client(served)
		run := pawltest.Start(h, nap, time.Hour)
		res, err := client.Get("http://localhost/api/runs/" + run.ID() + "/events") //nolint:bodyclose // that is what is tested
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line == "" {
			t.Errorf("%q, %v", line, err)
		}
	}, nap)
}
