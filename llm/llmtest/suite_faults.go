package llmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// faultPromises are about calls that fail, in either way of asking.
var faultPromises = []promise{
	{"EachKindOfErrorIsToldApartAndNotRetried", errorKinds},
	{"ABareStatusIsUnderstood", bareStatuses},
	{"TheProvidersWaitIsPassedOn", waits},
	{"ACutAnswerIsNeverTakenForAWholeOne", cutAnswers},
	{"ACallEndsWithItsContext", contexts},
	{"ADeadlineIsATimeout", deadline},
	{"AnAnswerThatDripsForEverIsATimeout", drip},
	{"AnEndlessAnswerIsRefused", oversize},
	{"AnAnswerThatIsNoneIsAnError", gibberish},
	{"TheKeyIsInNoError", secrecy},
	{"AnUnreachableProviderIsUnavailable", unreachable},
	{"NothingInvalidIsSent", invalid},
	{"AnErrorSurvivesAJournal", errorJournal},
}

func errorKinds(t *testing.T, s *suite, ask asking) {
	retryable := map[llm.Kind]bool{
		llm.RateLimited: true, llm.Overloaded: true, llm.Timeout: true, llm.Truncated: true, llm.Unavailable: true,
		llm.ContextTooLong: false, llm.Refused: false, llm.BadRequest: false, llm.Auth: false, llm.QuotaExceeded: false,
	}
	for kind, again := range retryable {
		h := s.site(t, nil, Rule{Fail: []error{&llm.Error{Kind: kind, Message: "the very words", RequestID: "req-7"}}, Text: "a second call was made"})
		e := mustFail(t, ask, h, kind)
		if e.Retryable() != again || e.Fatal() == again || llm.IsRetryable(fmt.Errorf("wrapped: %w", e)) != again {
			t.Errorf("%s: Retryable, Fatal = %v, %v; want %v, %v", kind, e.Retryable(), e.Fatal(), again, !again)
		}
		if kind != llm.Truncated && (!strings.Contains(e.Error(), "the very words") || e.Status == 0 || e.RequestID != "req-7") {
			t.Errorf("%s: %v lacks the provider's words, the status or the request's id", kind, e)
		}
		if n := h.hits.Load(); n != 1 {
			t.Errorf("%s: %d HTTP calls were made; want 1, as the caller decides about another", kind, n)
		}
	}
}

// bare answers with a status, no JSON, and a Retry-After if it is not empty.
func bare(status int, retryAfter string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		io.WriteString(w, "<html>a proxy said this</html>")
	})
}

func bareStatuses(t *testing.T, s *suite, ask asking) {
	for status, kind := range map[int]llm.Kind{
		400: llm.BadRequest, 401: llm.Auth, 402: llm.QuotaExceeded, 403: llm.Auth, 404: llm.BadRequest, 408: llm.Timeout,
		413: llm.ContextTooLong, 422: llm.BadRequest, 429: llm.RateLimited, 500: llm.Unavailable, 502: llm.Unavailable,
		503: llm.Overloaded, 504: llm.Timeout, 529: llm.Overloaded,
	} {
		h := s.site(t, func(http.Handler) http.Handler { return bare(status, "") })
		if e := mustFail(t, ask, h, kind); e.Status != status {
			t.Errorf("Status = %d; want %d", e.Status, status)
		}
	}
}

func waits(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Fail: []error{&llm.Error{Kind: llm.RateLimited, Wait: 1500 * time.Millisecond}}})
	e := mustFail(t, ask, h, llm.RateLimited)
	// A wire format that knows whole seconds only may round up, but never down.
	if d, ok := e.RetryAfter(); !ok || d < 1500*time.Millisecond || d > 2*time.Second {
		t.Errorf("RetryAfter = %v, %v; want 1.5s to 2s", d, ok)
	}

	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	h = s.site(t, func(http.Handler) http.Handler { return bare(http.StatusServiceUnavailable, date) })
	if d, ok := mustFail(t, ask, h, llm.Overloaded).RetryAfter(); !ok || d < 60*time.Second || d > 91*time.Second {
		t.Errorf("RetryAfter of a date in 90 s = %v, %v", d, ok)
	}

	for _, none := range []string{"", "0", "-5", "soon", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)} {
		h = s.site(t, func(http.Handler) http.Handler { return bare(http.StatusTooManyRequests, none) })
		if d, ok := mustFail(t, ask, h, llm.RateLimited).RetryAfter(); ok {
			t.Errorf("RetryAfter of %q = %v; want none", none, d)
		}
	}
	for _, absurd := range []string{"1e300", "99999999999", time.Now().AddDate(50, 0, 0).UTC().Format(http.TimeFormat)} {
		h = s.site(t, func(http.Handler) http.Handler { return bare(http.StatusTooManyRequests, absurd) })
		if d, ok := mustFail(t, ask, h, llm.RateLimited).RetryAfter(); !ok || d > 24*time.Hour {
			t.Errorf("RetryAfter of %q = %v, %v; want at most a day", absurd, d, ok)
		}
	}
}

// cutAnswers ends an answer at many points, with a broken connection and in good order.
// Wherever it is cut, the call is truncated or has the whole answer.
func cutAnswers(t *testing.T, s *suite, ask asking) {
	rule := Rule{Text: "one two three", ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: `{"a":"b"}`}}}
	whole := mustAnswer(t, ask, s.site(t, nil, rule), hello())
	const points = 16
	cut := 0
	for i := range points {
		for _, abort := range []bool{true, false} {
			h := s.site(t, func(next http.Handler) http.Handler { return cutting(next, i, points, abort) }, rule)
			res, err := ask(t, within(t), h.model, hello())
			if err == nil && res.Text == whole.Text && res.Finish == whole.Finish && reflect.DeepEqual(res.ToolCalls, whole.ToolCalls) {
				continue
			}
			_ = mustBe(t, res, err, llm.Truncated)
			cut++
		}
	}
	if cut < points { // the second half may hold the usage only; the first half cannot be an answer
		t.Errorf("%d of %d cut answers were noticed", cut, 2*points)
	}
}

// cutting lets the first i/n of an answer's bytes through.
func cutting(next http.Handler, i, n int, abort bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes()[:rec.Body.Len()*i/n])
		http.NewResponseController(w).Flush()
		if abort {
			panic(http.ErrAbortHandler)
		}
	})
}

func contexts(t *testing.T, s *suite, ask asking) {
	asked := make(chan struct{}, 1)
	h := s.site(t, nil, Rule{When: func(*llm.Request) bool { asked <- struct{}{}; return true }, Delay: time.Hour})
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-asked
		cancel()
	}()
	check := func(what string, res *llm.Response, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) || res != nil || llm.IsRetryable(err) || llm.KindOf(err) != "" {
			t.Errorf("%s: got %v, %v; want an error that is context.Canceled and no *llm.Error", what, res, err)
		}
	}
	res, err := ask(t, ctx, h.model, hello())
	check("cancelled during the call", res, err)
	res, err = ask(t, ctx, h.model, hello())
	check("cancelled before the call", res, err)
	if n := h.hits.Load(); n != 1 {
		t.Errorf("%d HTTP calls were made; want 1, as the second had no time", n)
	}
}

func deadline(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	res, err := ask(t, ctx, h.model, hello())
	e := mustBe(t, res, err, llm.Timeout)
	if !errors.Is(e, context.DeadlineExceeded) || !e.Retryable() {
		t.Errorf("%v is not context.DeadlineExceeded, or is not retryable", e)
	}
}

// drip keeps the connection alive and never says anything.
func drip(t *testing.T, s *suite, ask asking) {
	h := s.site(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server notices that a client has gone only when it has read all
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				fmt.Fprint(w, ":\n\n")
				if http.NewResponseController(w).Flush() != nil {
					return
				}
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		})
	})
	ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
	defer cancel()
	res, err := ask(t, ctx, h.model, hello())
	if e := mustBe(t, res, err, llm.Timeout); !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("%v is not context.DeadlineExceeded", e)
	}
}

func oversize(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Times: 1, Text: strings.Repeat("x", 17<<20)}, Rule{Text: strings.Repeat("w", 500_000)})
	e := mustFail(t, ask, h, llm.BadRequest)
	if !errors.Is(e, llm.ErrAnswerTooLarge) || e.Retryable() {
		t.Errorf("%v does not wrap ErrAnswerTooLarge, or is retryable", e)
	}
	if res := mustAnswer(t, ask, h, hello()); len(res.Text) != 500_000 {
		t.Errorf("an answer of 500,000 bytes came as %d", len(res.Text))
	}
}

func gibberish(t *testing.T, s *suite, ask asking) {
	for _, body := range []string{"", "null", "[]", "{}", "<html>Welcome!</html>", `{"choices":"none"}`, `{"choices":[]}`, "data: {}\n\n", "data: <\n\n", `{"choices":[{"message":{"content":"x"}}]}`,
		`{"type":"message","content":[{"type":"text","text":"x"}]}`, "data: {\"type\":\"message_delta\"\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"} {
		h := s.site(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		})
		res, err := ask(t, within(t), h.model, hello())
		if _, ok := err.(*llm.Error); !ok || res != nil {
			t.Errorf("an answer of %q gave %+v, %v; want an *llm.Error", body, res, err)
		}
	}
}

// secrecy has the provider say the key back, as providers do.
func secrecy(t *testing.T, s *suite, ask asking) {
	var h *site
	var keys []string
	h = s.site(t, nil, Rule{Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
		for name, values := range h.header.Load().(http.Header) {
			if n := strings.ToLower(name); strings.Contains(n, "auth") || strings.Contains(n, "key") {
				keys = append(keys, strings.TrimPrefix(values[0], "Bearer "))
			}
		}
		echo := strings.Join(keys, " or ")
		return nil, &llm.Error{Kind: llm.Auth, Message: "the key " + echo + " is wrong", Code: echo, RequestID: "req-" + echo}
	}})
	e := mustFail(t, ask, h, llm.Auth)
	if len(keys) == 0 || len(keys[0]) < 8 {
		t.Fatalf("the provider saw the keys %q; connect must use one of at least 8 characters", keys)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", e, e, *e, b, e.Err, h.model, h.model)
	for _, key := range keys {
		if strings.Contains(said, key) {
			t.Errorf("the key %s is in what the error or the client say of themselves: %s", key, said)
		}
	}
}

func unreachable(t *testing.T, s *suite, ask asking) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	res, err := ask(t, within(t), s.connect(t, server.URL), hello())
	if e := mustBe(t, res, err, llm.Unavailable); e.Status != 0 {
		t.Errorf("Status = %d; want 0, as no answer came", e.Status)
	}
	h := s.site(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	_ = mustFail(t, ask, h, llm.Unavailable)
	if n := h.hits.Load(); n != 1 {
		t.Errorf("%d HTTP calls were made when the connection was dropped; want 1", n)
	}
}

func invalid(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Text: "what did you say?"})
	for _, req := range []llm.Request{
		{Messages: hello().Messages},
		{Model: "m-1"},
		{Model: "m-1", Messages: []llm.Message{{Role: "narrator", Content: "Once"}}},
		{Model: "m-1", Messages: hello().Messages, MaxTokens: -1},
	} {
		res, err := ask(t, within(t), h.model, &req)
		if llm.KindOf(err) != llm.BadRequest || res != nil {
			t.Errorf("%+v gave %v, %v; want a bad request", req, res, err)
		}
	}
	if n := h.hits.Load(); n != 0 {
		t.Errorf("%d HTTP calls were made; want none", n)
	}
}

func errorJournal(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Fail: []error{&llm.Error{Kind: llm.RateLimited, Message: "slowly", Wait: 2 * time.Second, RequestID: "req-7"}}})
	e := mustFail(t, ask, h, llm.RateLimited)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back llm.Error
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	back.Err = e.Err
	if !reflect.DeepEqual(&back, e) || back.Error() != e.Error() {
		t.Errorf("after the journal the error is %+v; want %+v", &back, e)
	}
}
