package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/examples/slack-bot/bot"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(pgtest.Main(m))
}

// eachStore runs f on a file, and on a database, at the same time: they wait most of it.
func eachStore(t *testing.T, f func(t *testing.T, program, store string)) {
	t.Parallel()
	program := demotest.Program(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, program, filepath.Join(t.TempDir(), "s.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, program, pgtest.URL(t))
	})
}

func launch(t *testing.T, program, store string, s *slack, more ...string) *demotest.Server {
	t.Helper()
	env := []string{"SLACK_SIGNING_SECRET=" + secret}
	if s != nil {
		env = append(env, "SLACK_BOT_TOKEN="+token, "SLACK_API_URL="+s.url)
	}
	return demotest.Launch(t, program, t.TempDir(), env, append([]string{"-store", store, "-lease", "3s"}, more...)...)
}

const answered = "[scripted: no model was asked] message %d was U1: %s"

// posts waits until so many texts were posted to a channel, and returns them.
func posts(t *testing.T, p *demotest.Server, s *slack, channel string, n int) (out []string) {
	t.Helper()
	demotest.Await(t, fmt.Sprintf("%d posts to %s", n, channel), func() bool {
		out = s.texts(channel)
		return len(out) >= n
	}, func() string { return fmt.Sprint(out, "\n", p.Said()) })
	return out
}

func TestOnlyWhatSlackSignsIsTaken(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		s := play(t)
		p := launch(t, program, store, s)
		body, now := event("E1", "C1", "hello"), time.Now().Unix()
		for name, header := range map[string][]string{
			"unsigned":     nil,
			"other secret": signature(body, "other", now),
			"other body":   signature(body+" ", secret, now),
			"replayed":     signature(body, secret, now-301),
			"early":        signature(body, secret, now+310),
			"not v0":       {"X-Slack-Request-Timestamp", fmt.Sprint(now), "X-Slack-Signature", "v1=" + strings.Repeat("0", 64)},
			"no time":      signature(body, secret, now)[2:],
		} {
			for _, path := range []string{"/slack/events", "/slack/commands"} {
				if r := p.Call(t, "POST", path, body, header...); r.Status != http.StatusUnauthorized {
					t.Errorf("%s: %d %s", name, r.Status, r.Text)
				}
			}
		}
		if r := send(t, p, "/slack/events", `{"type": "url_verification", "challenge": "c-1"}`); r.Status != 200 || r.Object["challenge"] != "c-1" {
			t.Errorf("the URL is not verified: %d %s", r.Status, r.Text)
		}
		for name, body := range map[string]string{
			"its own":  strings.Replace(body, `"type":"message"`, `"type":"message","bot_id":"B1"`, 1),
			"edited":   strings.Replace(body, `"type":"message"`, `"type":"message","subtype":"message_changed"`, 1),
			"reaction": strings.Replace(body, `"type":"message"`, `"type":"reaction_added"`, 1),
			"empty":    event("E2", "C1", " "),
			"stop":     event("E3", "C1", "stop"), // nobody is there to be stopped
		} {
			if r := send(t, p, "/slack/events", body); r.Status != 200 || r.Object["status"] != "ignored" {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		for name, body := range map[string]string{"no JSON": "{", "no id": event("", "C1", "x"), "a path": event("E4", "../C1", "x")} {
			if r := send(t, p, "/slack/events", body); r.Status != 400 {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		// The token of the channel's hook can be guessed, and there is no way to use it.
		if r := p.Call(t, "POST", "/.well-known/workflow/v1/webhook/"+bot.TokenOf("T1", "C1"), body); r.Status != 404 {
			t.Errorf("the hook is public: %d", r.Status)
		}
		if n := len(s.texts("C1")); n != 0 {
			t.Errorf("%d posts", n)
		}
	})
}

// Slack repeats what it got no answer to, some of it at the same time: one answer.
func TestAnEventIsAnsweredOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		s := play(t)
		p := launch(t, program, store, s)
		var all sync.WaitGroup
		taken := make(chan string, 20)
		for i := range 20 {
			body := event(fmt.Sprint("E", i%5), "C1", fmt.Sprint("word ", i%5))
			all.Go(func() {
				r, err := demotest.Request(t.Context(), "POST", p.URL+"/slack/events", body, signature(body, secret, time.Now().Unix())...)
				if err != nil || r.Status != 200 {
					t.Errorf("%d %s, %v", r.Status, r.Text, err)
				}
				taken <- fmt.Sprint(r.Object["status"])
			})
		}
		all.Wait()
		close(taken)
		count := map[string]int{}
		for status := range taken {
			count[status]++
		}
		if count["taken"] != 5 || count["repeated"] != 15 {
			t.Errorf("of 20 requests with 5 events: %v", count)
		}
		posts(t, p, s, "C1", 5)
		// The same after a restart, and after all have been answered: nothing more.
		p.Kill(t)
		p = launch(t, program, store, s)
		for i := range 5 {
			if r := send(t, p, "/slack/events", event(fmt.Sprint("E", i), "C1", fmt.Sprint("word ", i))); r.Object["status"] != "repeated" {
				t.Errorf("E%d again: %d %s", i, r.Status, r.Text)
			}
		}
		send(t, p, "/slack/events", event("E9", "C1", "last"))
		got := posts(t, p, s, "C1", 6)
		if len(got) != 6 || got[5] != fmt.Sprintf(answered, 6, "last") {
			t.Errorf("posted is %q", got)
		}
		words := strings.Join(got, "\n")
		for i := range 5 {
			if strings.Count(words, fmt.Sprint("word ", i)) != 1 {
				t.Errorf("word %d is not answered once:\n%s", i, words)
			}
		}
	})
}

// The process is killed before Slack has the post, and after: in both cases it is posted once.
func TestAKilledAnswerIsPostedOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		for i, when := range []string{"before", "after"} {
			s, channel := play(t), fmt.Sprint("C", i)
			p := launch(t, program, store, s)
			send(t, p, "/slack/events", event("A"+channel, channel, "one"))
			posts(t, p, s, channel, 1)
			if n := s.looks(); n != 0 {
				t.Errorf("%s: undisturbed it looked %d times for what it had posted", when, n)
			}
			held := s.Hold(when)
			send(t, p, "/slack/events", event("B"+channel, channel, "two"))
			select {
			case <-held:
			case <-time.After(time.Minute):
				t.Fatalf("nothing is posted\n%s", p.Said())
			}
			p.Kill(t)
			p = launch(t, program, store, s)
			send(t, p, "/slack/events", event("C"+channel, channel, "three"))
			got := posts(t, p, s, channel, 3)
			if want := []string{fmt.Sprintf(answered, 1, "one"), fmt.Sprintf(answered, 2, "two"), fmt.Sprintf(answered, 3, "three")}; !slices.Equal(got, want) {
				t.Errorf("%s: posted is %q", when, got)
			}
			if s.looks() == 0 {
				t.Errorf("%s: it did not look for what it might have posted", when)
			}
			if code := p.End(t, syscall.SIGTERM); code != 0 {
				t.Errorf("after SIGTERM it ended with code %d\n%s", code, p.Said())
			}
		}
	})
}

// A run goes on as another every two messages, while messages come: none is lost or answered
// twice, and what was said is remembered.
func TestTheHistoryStaysFlat(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		s := play(t)
		p := launch(t, program, store, s, "-go-on", "2")
		const all = 24
		var sent sync.WaitGroup
		for i := range all {
			body := event(fmt.Sprint("E", i), "C1", fmt.Sprintf("word-%d.", i))
			sent.Go(func() {
				for {
					r, err := demotest.Request(t.Context(), "POST", p.URL+"/slack/events", body, signature(body, secret, time.Now().Unix())...)
					if err != nil || r.Status == 200 {
						return // what is lost is missed below
					}
				}
			})
		}
		sent.Wait()
		got := posts(t, p, s, "C1", all)
		words := strings.Join(got, "\n")
		for i := range all {
			if strings.Count(words, fmt.Sprintf("word-%d.", i)) != 1 {
				t.Errorf("word %d is not answered once", i)
			}
		}
		for i, text := range got { // the model is shown the last messages, 20 of which are theirs
			if n := min(i+1, bot.Remembered/2); !strings.Contains(text, fmt.Sprintf("message %d was", n)) && !strings.Contains(text, fmt.Sprintf("message %d was", n+1)) {
				t.Errorf("answer %d: %s", i+1, text)
			}
		}
	})
}

func TestStopAndCommands(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		s := play(t)
		p := launch(t, program, store, s)
		says := func(id, text, want string) {
			t.Helper()
			if r := send(t, p, "/slack/commands", command(id, "C1", text)); r.Status != 200 || !strings.Contains(fmt.Sprint(r.Object["text"]), want) || r.Object["response_type"] != "ephemeral" {
				t.Errorf("/pawl %s: %d %s, want %q", text, r.Status, r.Text, want)
			}
		}
		says("1", "", "not listening")
		says("2", "stop", "not listening")
		says("3", "what is a pawl?", "think")
		says("3", "what is a pawl?", "think") // the same again is the same
		posts(t, p, s, "C1", 1)
		says("4", "status", "listening here")
		send(t, p, "/slack/events", event("E1", "C1", " STOP "))
		posts(t, p, s, "C1", 2)
		demotest.Await(t, "it stops", func() bool {
			return strings.Contains(send(t, p, "/slack/commands", command("5", "C1", "")).Text, "not listening")
		}, p.Said)
		send(t, p, "/slack/events", event("E2", "C1", "anew"))
		got := posts(t, p, s, "C1", 3)
		if want := []string{"[scripted: no model was asked] message 1 was U2: what is a pawl?", "I stop listening here. Say anything to begin anew.", fmt.Sprintf(answered, 1, "anew")}; !slices.Equal(got, want) {
			t.Errorf("posted is %q", got)
		}
	})
}

// A stop that comes while a run goes on as another stops that one.
func TestStopBetweenTwoRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		s := play(t)
		p := launch(t, program, store, s, "-go-on", "1")
		for i := range 30 {
			channel := fmt.Sprint("C", i)
			send(t, p, "/slack/events", event("A"+channel, channel, "hello"))
			time.Sleep(time.Duration(i) * time.Millisecond / 2) // at another moment each time
			if r := send(t, p, "/slack/events", event("B"+channel, channel, "stop")); r.Status != 200 || r.Object["status"] != "taken" {
				t.Errorf("stop after %d half milliseconds: %d %s", i, r.Status, r.Text)
			}
			if got := posts(t, p, s, channel, 2); len(got) != 2 || !strings.HasPrefix(got[1], "I stop") {
				t.Errorf("posted is %q", got)
			}
		}
	})
}

// What Slack refuses for now is posted later; what it refuses for good ends nothing.
func TestWhatSlackRefuses(t *testing.T) {
	s := play(t)
	p := launch(t, demotest.Program(t), filepath.Join(t.TempDir(), "s.db"), s)
	s.fail = []func(http.ResponseWriter){
		func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"ok": false, "error": "ratelimited"}`)
		},
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
	}
	send(t, p, "/slack/events", event("E1", "C1", "one"))
	posts(t, p, s, "C1", 1)
	s.mu.Lock()
	s.fail = append(s.fail, func(w http.ResponseWriter) { fmt.Fprint(w, `{"ok": false, "error": "not_in_channel"}`) })
	s.mu.Unlock()
	send(t, p, "/slack/events", event("E2", "C1", "two"))
	send(t, p, "/slack/events", event("E3", "C1", "three"))
	if got := posts(t, p, s, "C1", 2); got[1] != fmt.Sprintf(answered, 3, "three") {
		t.Errorf("posted is %q", got)
	}
	if r := send(t, p, "/slack/commands", command("1", "C1", "")); !strings.Contains(r.Text, "not_in_channel") {
		t.Errorf("the trouble is not told: %s", r.Text)
	}
}

func TestWithoutATokenItPlaysSlack(t *testing.T) {
	p := launch(t, demotest.Program(t), filepath.Join(t.TempDir(), "s.db"), nil)
	send(t, p, "/slack/events", event("E1", "C1", "hello"))
	want := "[played: Slack was not asked] to C1: " + fmt.Sprintf(answered, 1, "hello") + "\n"
	demotest.Await(t, want, func() bool { return strings.Contains(p.Said(), want) }, p.Said)
	for _, text := range []string{"SLACK_BOT_TOKEN", "NOWHERE", "SCRIPT"} {
		if !strings.Contains(p.Said(), text) {
			t.Errorf("it does not say %s:\n%s", text, p.Said())
		}
	}
	p = demotest.Launch(t, demotest.Program(t), t.TempDir(), nil)
	if r := send(t, p, "/slack/events", event("E1", "C1", "hello")); r.Status != 503 || !strings.Contains(r.Text, "SLACK_SIGNING_SECRET") {
		t.Errorf("without a secret: %d %s", r.Status, r.Text)
	}
}
