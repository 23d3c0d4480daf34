package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// hostilePayloads are what somebody sends who means no good; where the text is "", it is taken.
func hostilePayloads() map[string]struct{ data, refused string } {
	rep := strings.Repeat
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d": %d, `, i, i)
		}
		return b.String()
	}
	return map[string]struct{ data, refused string }{
		"many fields":               {`{` + fields(60_000) + `"id": "1", "text": "a", "list": [1], "n": 1}`, ""},
		"a deep value":              {`{"id": "1", "text": "a", "list": [1], "n": 1, "deep": ` + rep("[", 990) + rep("]", 990) + `}`, ""},
		"too deep a value":          {`{"id": "1", "text": "a", "list": [1], "n": 1, "deep": ` + rep("[", 10_000) + rep("]", 10_000) + `}`, "deep"},
		"a depth without an end":    {rep(`{"a":`, 100_000), "deep"},
		"a long list":               {`{"id": "1", "text": "a", "n": 1, "list": [` + rep("1,", 400_000) + `1]}`, "limit"},
		"a long text":               {`{"id": "1", "list": [1], "n": 1, "text": "` + rep("a", 1_500_000) + `"}`, "limit"},
		"a text of eight MiB":       {`{"id": "1", "list": [1], "n": 1, "text": "` + rep("a", 8<<20) + `"}`, "limit"},
		"signs that grow":           {`{"id": "1", "list": [1], "n": 1, "text": "` + rep("<", 900_000) + `"}`, "limit"},
		"a number that there isn't": {`{"id": "1", "text": "a", "list": [1], "n": 1e400}`, "too large"},
		"a number of many digits":   {`{"id": "1", "text": "a", "list": [1], "n": ` + rep("9", 500_000) + `}`, "too large"},
		"a number of many zeros":    {`{"id": "1", "text": "a", "list": [1], "n": 0.` + rep("0", 500_000) + `1}`, ""},
		"a long id":                 {`{"id": "` + rep("i", 1_000_000) + `", "text": "a", "list": [1], "n": 1}`, ""},
		"names of prototypes":       {`{"id": "1", "text": "a", "list": [1], "n": 1, "__proto__": {"n": 7}, "constructor": {"prototype": {}}, "": {}}`, ""},
		"names twice":               {`{"id": "0", "id": "1", "text": {}, "text": "a", "list": [1], "n": {}, "n": 1}`, ""},
		"no text":                   {"{\"id\": \"1\", \"text\": \"\xff\xfe\", \"list\": [1], \"n\": 1}", "UTF-8"},
		"a NUL":                     {`{"id": "1", "text": "\u0000", "list": [1], "n": 1}`, ""},
		"half a character":          {`{"id": "1", "text": "\ud800", "list": [1], "n": 1}`, ""},
		"two values":                {`{"id": "1"} {"id": "2"}`, "not JSON"},
		"a bracket too many":        {`{"id": "1", "text": "a", "list": [1], "n": 1}}`, "not JSON"},
		"another bracket too many":  {`{"id": "1", "text": "a", "list": [1], "n": 1}]`, "not JSON"},
		"nothing":                   {``, "not JSON"},
		"no object":                 {`[[[]]]`, "id of the delivery"},
		"fields of other kinds":     {`{"id": {}, "text": [], "list": "a", "n": "n"}`, "id of the delivery"},
	}
}

// costly are expressions over event whose work grows with what comes.
var costly = []string{
	"event.data.list.exists(x, event.data.list.exists(y, x + y == 7))",
	"event.data.text.replace('a', 'aaaaaaaaaaaaaaaa').size() > 1 && event.data.text.matches('^(a|b|<)*c$')",
	"[event.data, event.data, event.data].map(x, json(x)).join('').size() > 7",
	"event.data.n > 5 || event.data.n * 2 > 5",
	"has(event.data.__proto__) && event.data.constructor == {}",
}

// isBounded looks whether something took long.
func isBounded(t *testing.T, name string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > time.Minute {
		t.Errorf("%s: it took %v", name, took)
	}
}

// refusal reports whether an error is one that tells who sent what came that it is not taken.
func refusal(err error) bool {
	return errors.Is(err, pawl.ErrInput) || errors.Is(err, pawl.ErrTooLarge) || errors.Is(err, pawl.ErrEncoding)
}

// Whatever comes to a webhook, it is taken or refused, soon and with little memory, and what comes behind it is taken.
func TestHostileRequestsAreTakenOrRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), takes)
		key := strings.Join([]string{"(" + costly[0] + ")", "(" + costly[1] + ")", "event.data.n > 5"}, " || ")
		most := Places{}
		for i := range 1000 {
			most["p"+strconv.Itoa(i)] = "/body"
		}
		routes := map[string]Route{
			"plain":    {},
			"by id":    {Dedupe: "/id"},
			"by body":  {Dedupe: DedupeBody},
			"batch":    {Dedupe: "/id", Control: &Control{Batch: &Batch{MaxSize: 1000, Timeout: time.Hour, Key: key}}},
			"debounce": {Control: &Control{Debounce: &Debounce{Period: time.Hour, Key: "event.data.text"}, RateLimit: &RateLimit{Limit: 1000, Period: time.Hour, Key: costly[2]}}},
			"single":   {Control: &Control{Singleton: &Singleton{Key: key}}},
			"places":   {Input: most},
		}
		for what, r := range routes {
			r.ID, r.Path, r.Workflow, r.Scheme = "w:"+strings.ReplaceAll(what, " ", "-"), "/w", "takes", None
			for name, p := range hostilePayloads() {
				isBounded(t, what+": "+name, func() {
					got, err := r.Accept(t.Context(), e, Arrival{Method: http.MethodPost, Header: http.Header{}, Body: []byte(p.data)})
					switch {
					case err != nil && (!refusal(err) || len(err.Error()) > 2000):
						t.Errorf("%s: %s: %T %.300v", what, name, err, err)
					case err == nil && got.Run == "":
						t.Errorf("%s: %s: no run", what, name)
					case err == nil && (what == "batch" || what == "single") && p.refused != "", err != nil && p.refused == "" && what == "by id":
						t.Errorf("%s: %s: %+v, %v, want %q", what, name, got, err, p.refused)
					case err != nil && (what == "batch") && !strings.Contains(err.Error(), p.refused):
						t.Errorf("%s: %s: %.300v, want %q", what, name, err, p.refused)
					}
				})
			}
			good := fmt.Sprintf(`{"id": "good %s", "text": "a", "list": [1], "n": 1}`, what)
			if got, err := r.Accept(t.Context(), e, Arrival{Method: http.MethodPost, Header: http.Header{}, Body: []byte(good)}); err != nil || got.Run == "" {
				t.Errorf("%s: what is well meant is not taken: %+v, %v", what, got, err)
			}
		}
	})
}

// Whatever an event has in it, those subscriptions that can't look at it say so, and the others start their runs.
func TestHostileEventsStopNobodyElse(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), takes)
		subscribe := func(s Subscription) {
			t.Helper()
			s.Event, s.Workflow = "order", "takes"
			if _, err := Subscribe(t.Context(), e, s); err != nil {
				t.Fatal(err)
			}
		}
		for i, where := range costly {
			subscribe(Subscription{ID: fmt.Sprintf("costly%d", i), Where: where})
			subscribe(Subscription{ID: fmt.Sprintf("batch%d", i), Control: &Control{Batch: &Batch{MaxSize: 10, Timeout: time.Hour, Key: where}}})
		}
		subscribe(Subscription{ID: "places", Input: Places{"a": "/event/data/id", "b": "/event/data/n"}})
		subscribe(Subscription{ID: "good"})
		for name, p := range hostilePayloads() {
			isBounded(t, name, func() {
				got, err := Publish(t.Context(), e, Event{Name: "order", Data: json.RawMessage(p.data)})
				if err != nil {
					if !refusal(err) {
						t.Errorf("%s: %.300v", name, err)
					}
					return
				}
				started := false
				for _, m := range got.Matches {
					started = started || m.Subscription == "good" && m.Done
				}
				if size := len(strings.Join(got.Errors, "")); got.Pending || !started || size > 2*mostErrors {
					t.Errorf("%s: pending %v, started %v, and errors of %d bytes: %.300v", name, got.Pending, started, size, got.Errors)
				}
			})
		}
	})
}

// An event that could be published comes to its end, however near to the limit it is and however many can't look at it.
func TestAnEventNearItsLimitComesToItsEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const limit = 32 << 10
		waiter := pawl.Define("waiter", func(c *pawl.Context, _ any) (string, error) {
			o, err := WaitFor[struct{ Pad string }](c, "order", Where("event.data.amount > 100"))
			return o.Pad, err
		})
		e := pawl.New(open(), &pawl.Options{MaxPayload: limit})
		if err := e.Register(takes, waiter); err != nil {
			t.Fatal(err)
		}
		background(t, e.Run)
		for i := range 40 {
			s := Subscription{ID: fmt.Sprintf("s%d", i), Event: "order", Workflow: "takes", Input: Places{"a": "/event/data/amount"}} // it fails when it is started
			if _, err := Subscribe(t.Context(), e, s); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 60 {
			if _, err := e.StartRun(t.Context(), "waiter", nil, pawl.ID(fmt.Sprintf("w%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all wait", func() bool {
			hooks, err := e.ListHooks(t.Context(), pawl.HookFilter{Kind: waitKind("order"), Limit: 1000})
			return err == nil && len(hooks) == 60
		})
		taken := 0
		for size := limit; taken < 12; size -= 400 {
			event := Event{ID: strconv.Itoa(size), Name: "order", Data: map[string]string{"pad": strings.Repeat("x", size)}}
			_, err := Publish(t.Context(), e, event)
			if errors.Is(err, pawl.ErrTooLarge) && size > 0 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			taken++
			p, err := Publish(t.Context(), e, event) // as it is kept
			if err != nil {
				t.Fatal(err)
			}
			if p.Pending || len(p.Errors) < 2 {
				t.Errorf("%d bytes: pending %v, %d errors", size, p.Pending, len(p.Errors))
			}
		}
	})
}

// An event that many look at is decoded once.
func TestAnEventIsDecodedOnce(t *testing.T) { // not beside others: it counts what is allocated
	row := &eventRow{ID: "1", Name: "order", Data: json.RawMessage(`{"list": [` + strings.Repeat("1,", 100_000) + `1], "n": 1}`)}
	allocated := func(times int) uint64 {
		var before, after runtime.MemStats
		row.seen = nil
		runtime.ReadMemStats(&before)
		for range times {
			if fits, err := row.fits(t.Context(), "event.data.n == 1"); err != nil || !fits {
				t.Fatal(fits, err)
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	allocated(1)
	if one, many := allocated(1), allocated(200); many > 3*one {
		t.Errorf("one look takes %d bytes, 200 looks %d", one, many)
	}
}

// A handler of a program answers whatever comes, and takes what comes behind it.
func TestAHandlerAnswersHostileRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), takes)
		h, err := NewWebhookHandler(e, Webhook{ID: "w", Path: "/w", Workflow: "takes", Signature: SignatureOptions{Scheme: None}, Dedupe: "/id", MaxBody: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		send := func(body string) *httptest.ResponseRecorder {
			req := httptest.NewRequest(http.MethodPost, "/w", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			return w
		}
		for name, p := range hostilePayloads() {
			isBounded(t, name, func() {
				if w := send(p.data); w.Code != http.StatusAccepted && (w.Code < 400 || w.Code > 422) || w.Body.Len() > 2000 {
					t.Errorf("%s: %d %.300s", name, w.Code, w.Body)
				}
			})
		}
		if w := send(`{"id": "good"}`); w.Code != http.StatusAccepted {
			t.Errorf("what is well meant: %d %s", w.Code, w.Body)
		}
	})
}

// An input that is made of places that all lead to what is large is not made.
func TestPlacesMakeNoMoreThanARunTakes(t *testing.T) {
	t.Parallel()
	places := Places{}
	for i := range 1000 {
		places["p"+strconv.Itoa(i)] = "/body"
	}
	document := map[string]any{"body": strings.Repeat("x", 100_000)}
	if data, err := places.fill(document); !errors.Is(err, pawl.ErrTooLarge) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	document["body"] = strings.Repeat("x", 8000)
	if data, err := places.fill(document); err != nil || len(data) < 8_000_000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
