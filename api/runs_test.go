package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestStartAnswersWithTheRunAndItsPlace(t *testing.T) {
	h := open(t, api.Options{})
	var run api.Run
	r := h.ok(202, "POST", "/api/runs", `{"workflow":"echo","input":{"text":"hi"},"id":"one","attributes":{"team":"red","n":7},"priority":3,"timeout":"1h"}`, &run)
	if run.ID != "one" || run.Workflow != "echo" || r.header.Get("Location") != "/api/runs/one" {
		t.Fatalf("%s, Location %s", r.body, r.header.Get("Location"))
	}
	if run.Attrs["team"] != "red" || run.Attrs["n"] != "7" || run.Priority != 3 || run.Deadline.IsZero() {
		t.Errorf("options were lost: %s", r.body)
	}
	if run.Existed {
		t.Error("a new run is said to have been there")
	}
	var again api.Run
	h.ok(200, "POST", "/api/runs?wait=20s", `{"workflow":"echo","input":{"text":"hi"},"id":"one"}`, &again)
	if again.State != pawl.Completed || string(again.Result) != `{"text":"hi"}` || !again.Existed || again.Attrs["team"] != "red" {
		t.Errorf("the same start again, with a wait: %+v", again)
	}
	h.ok(200, "POST", "/api/runs", `{"workflow":"echo","input":{"text":"hi"},"id":"one"}`, &again) // it has ended
	if !again.Existed || again.State != pawl.Completed {
		t.Errorf("the same start again: %+v", again)
	}
	var got api.Run
	h.ok(200, "GET", r.header.Get("Location"), "", &got)
	if got.State != pawl.Completed || string(got.Result) != `{"text":"hi"}` || got.Error != nil {
		t.Errorf("get: %+v", got)
	}
	h.refused(409, "conflict", "POST", "/api/runs", `{"workflow":"echo","input":{"text":"other"},"id":"one"}`)
	h.refused(409, "exists", "POST", "/api/runs", `{"workflow":"echo","input":{"text":"hi"},"id":"one","onConflict":"reject"}`)
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	h := open(t, api.Options{MaxPayload: 1000})
	p := h.refused(404, "unknown_workflow", "POST", "/api/runs", `{"workflow":"ecco"}`)
	if !strings.Contains(p.Hint, `did you mean "echo"?`) {
		t.Errorf("hint %q", p.Hint)
	}
	h.refused(404, "unknown_workflow", "POST", "/api/workflows/no%2Fsuch/runs", ``)
	h.refused(400, "input", "POST", "/api/runs", `{"workflow":"steps","input":{"n":-1}}`)
	h.refused(400, "input", "POST", "/api/runs", `{"workflow":"steps","input":{"m":1}}`)
	h.refused(400, "input", "POST", "/api/runs", `{"workflow":"echo","id":"$mine"}`)
	h.refused(400, "input", "POST", "/api/runs", `{"workflow":"echo","attributes":{"$x":1}}`)
	h.refused(413, "too_large", "POST", "/api/runs", `{"workflow":"echo","input":{"text":"`+strings.Repeat("x", 70_000)+`"}}`)
	for body, want := range map[string]string{
		``:                                `"workflow"`,
		`{}`:                              `"workflow"`,
		`[]`:                              "JSON object",
		`null`:                            "JSON object",
		`{"workflow":"echo"} {}`:          "one JSON value",
		`{"workflow":"echo",}`:            "one JSON value",
		`{"workflow":"echo","Input":{}}`:  `did you mean "input"?`,
		`{"workflow":"echo","delayed":1}`: `did you mean "delay"?`,
		`{"workflow":"a","workflow":"b"}`: "/workflow twice",
		`{"workflow":"echo","input":{"text":"a","text":"b"}}`: "/input/text twice",
		`{"workflow":"echo","input":[[{"a":1,"a":1}]]}`:       "/input/0/0/a twice",
		"{\"workflow\":\"\xff\"}":                             "UTF-8",
		`{"workflow":7}`:                                      `"workflow"`,
		`{"workflow":"echo","delay":"soon"}`:                  "90s",
		`{"workflow":"echo","timeout":"-1s"}`:                 "90s",
		`{"workflow":"echo","onConflict":"x"}`:                "cancel_old",
	} {
		if p := h.refused(400, "bad_request", "POST", "/api/runs", body); !strings.Contains(p.Error(), want) {
			t.Errorf("%s: %q does not say %q", body, p.Error(), want)
		}
	}
	h.refused(400, "bad_request", "POST", "/api/workflows/echo/runs", `{"workflow":"steps"}`)
	h.refused(400, "bad_request", "POST", "/api/runs?wait=soon", `{"workflow":"echo"}`)
	h.refused(400, "bad_request", "POST", "/api/runs?wait=11m", `{"workflow":"echo"}`)
	var page api.RunPage
	if h.ok(200, "GET", "/api/runs", "", &page); len(page.Items) != 0 {
		t.Errorf("a refused start has left a run: %+v", page.Items)
	}
}

func TestABodyIsLimited(t *testing.T) {
	h := open(t, api.Options{})
	large := `{"workflow":"echo","input":{"text":"` + strings.Repeat("x", 2<<20+70_000) + `"}}`
	h.refused(413, "too_large", "POST", "/api/runs", large)
	h.refused(413, "too_large", "POST", "/api/runs", large, func(r *http.Request) { r.ContentLength = -1 })
	// Within the slack the engine judges the payload itself.
	h.refused(413, "too_large", "POST", "/api/runs", `{"workflow":"echo","input":{"text":"`+strings.Repeat("x", 2<<20)+`"}}`)
}

func TestWaitEndsWhenTheTimeIsOver(t *testing.T) {
	h := open(t, api.Options{})
	var run api.Run
	h.ok(202, "POST", "/api/runs?wait=10ms", `{"workflow":"waits","id":"w"}`, &run)
	if run.State.Terminal() {
		t.Fatalf("%+v", run)
	}
	h.ok(202, "GET", "/api/runs/w?wait=10ms", "", &run)
	done := make(chan api.Run)
	go func() {
		run, err := h.client.Run(t.Context(), "w", 20e9)
		if err != nil {
			t.Error(err)
		}
		done <- run
	}()
	if _, err := h.client.Signal(t.Context(), "w", "go/now", json.RawMessage(`[1,"<&>"]`)); err != nil {
		t.Fatal(err)
	}
	if run := <-done; run.State != pawl.Completed || string(run.Result) != `[1,"\u003c\u0026\u003e"]` {
		t.Errorf("%+v %s", run, run.Result)
	}
}

func TestARunTellsHowItEnded(t *testing.T) {
	h := open(t, api.Options{})
	id := h.start("fails", "null")
	run := h.until(id, pawl.Failed)
	if run.Error == nil || run.Error.Step != "charge" || !strings.Contains(run.Error.Message, "card declined") || run.Result != nil {
		t.Errorf("%+v", run)
	}
	id = h.start("chain", `{"left":1}`)
	first := h.until(id, pawl.Completed)
	if first.Next == "" || first.Result != nil {
		t.Errorf("a run that went on as another: %+v", first)
	}
	var last api.Run
	h.ok(200, "GET", api.RunPath(id)+"?wait=20s", "", &last)
	if last.ID != first.Next || string(last.Result) != `"end of the chain"` {
		t.Errorf("wait follows the chain: %+v", last)
	}
}

// Ids are any text without NUL: nothing on the way may take them for structure.
func TestRunIDsSurviveThePath(t *testing.T) {
	h := open(t, api.Options{})
	for _, id := range []string{"a/b", "..", ".", "../../healthz", "a//b", "100%", "%2F", "a b", "ä☃\u202e", "?x=1#y", "a\nb", "why", "x/why", `"<>\`, "+", "a:b;c,d=e&f"} {
		run, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: id}, 0)
		if err != nil || run.ID != id {
			t.Errorf("start %q: %v, %q", id, err, run.ID)
			continue
		}
		var got api.Run
		h.ok(200, "GET", api.RunPath(id), "", &got)
		if got.ID != id {
			t.Errorf("%q: got %q", id, got.ID)
		}
		if why, err := h.client.Why(t.Context(), id); err != nil || why.Why == "" {
			t.Errorf("why %q: %+v %v", id, why, err)
		}
		if run, err := h.client.Cancel(t.Context(), id, ""); err != nil || run.ID != id {
			t.Errorf("cancel %q: %v", id, err)
		}
	}
	// As it is written in a Location, so it is found.
	r := h.send("POST", "/api/runs", `{"workflow":"echo","id":"x/../y"}`)
	if at := r.header.Get("Location"); at != "/api/runs/x%2F%2E%2E%2Fy" {
		t.Errorf("Location %q", at)
	}
}

func TestListIsPagedAndFiltered(t *testing.T) {
	h := open(t, api.Options{})
	var empty map[string]json.RawMessage
	if h.ok(200, "GET", "/api/runs", "", &empty); string(empty["items"]) != "[]" {
		t.Fatalf("items of an empty list: %s", empty["items"])
	}
	var want []string
	for i := range 5 {
		id := fmt.Sprintf("r%d", i)
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: id, Attributes: map[string]any{"odd": fmt.Sprint(i % 2), "a b": "x&y"}}, 0); err != nil {
			t.Fatal(err)
		}
		want = append([]string{id}, want...)
	}
	h.until(h.start("echo", "{}"), pawl.Completed)

	var got []string
	q := api.RunQuery{Workflow: "waits", Limit: 2}
	for pages := 1; ; pages++ {
		page, err := h.client.Runs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range page.Items {
			got = append(got, run.ID)
		}
		if page.NextCursor == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		q.Cursor = page.NextCursor
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages hold %v, want %v", got, want)
	}

	ids := func(q api.RunQuery) (ids []string) {
		page, err := h.client.Runs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range page.Items {
			ids = append(ids, run.ID)
		}
		return ids
	}
	if got := ids(api.RunQuery{Attrs: map[string]string{"odd": "1", "a b": "x&y"}}); !slices.Equal(got, []string{"r3", "r1"}) {
		t.Errorf("by attribute: %v", got)
	}
	if got := ids(api.RunQuery{States: []pawl.State{pawl.Completed, pawl.Failed}}); len(got) != 1 {
		t.Errorf("by state: %v", got)
	}
	var page api.RunPage
	if h.ok(200, "GET", "/api/runs?state=failed,completed", "", &page); len(page.Items) != 1 {
		t.Errorf("states in one parameter: %v", page.Items)
	}
	if h.ok(200, "GET", "/api/runs?limit=6", "", &page); len(page.Items) != 6 || page.NextCursor != "" {
		t.Errorf("a page that holds just all: %d, next %q", len(page.Items), page.NextCursor)
	}

	for query, want := range map[string]string{
		"limit=0": "limit", "limit=501": "limit", "limit=x": "limit", "state=done": "done",
		"cursor=42": "nextCursor", "cursor=!!": "nextCursor",
		"status=failed": `did you mean "state"?`, "attr.=1": "attr.", "attr.a=1&attr.a=2": "once", "a=%zz": "query",
	} {
		if p := h.refused(400, "bad_request", "GET", "/api/runs?"+query, ""); !strings.Contains(p.Error(), want) {
			t.Errorf("%s: %q does not say %q", query, p.Error(), want)
		}
	}
}

func TestJournalIsReadInPages(t *testing.T) {
	h := open(t, api.Options{})
	id := h.start("steps", `{"n":600}`)
	h.until(id, pawl.Completed)
	var seqs []int64
	for entry, err := range h.client.Journal(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, entry.Seq)
	}
	if len(seqs) != 602 { // input, steps, result
		t.Fatalf("%d entries, want 602", len(seqs))
	}
	for i, seq := range seqs {
		if seq != int64(i) {
			t.Fatalf("entry %d has seq %d", i, seq)
		}
	}
	var page api.EntryPage
	if h.ok(200, "GET", api.RunPath(id)+"/journal?after=599&limit=1", "", &page); len(page.Items) != 1 || page.Items[0].Seq != 600 || page.NextAfter == nil || *page.NextAfter != 600 {
		t.Errorf("%+v", page)
	}
	var last map[string]json.RawMessage
	if h.ok(200, "GET", api.RunPath(id)+"/journal?after=601", "", &last); string(last["items"]) != "[]" || last["nextAfter"] != nil {
		t.Errorf("after the last: %s", last)
	}
	h.refused(400, "bad_request", "GET", api.RunPath(id)+"/journal?after=-2", "")
}

func TestOrders(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	h := open(t, api.Options{}, workflows(func() error {
		if broken.Load() {
			return errors.New("out of order")
		}
		return nil
	})...)
	ctx := t.Context()

	id := h.start("sleeps", "null")
	h.until(id, pawl.Waiting)
	if _, err := h.client.Pause(ctx, id, "lunch"); err != nil {
		t.Fatal(err)
	}
	if run := h.until(id, pawl.Paused); run.ID != id {
		t.Fatal(run)
	}
	h.refused(409, "state", "POST", api.RunPath(id)+"/pause", "")
	h.refused(409, "state", "POST", api.RunPath(id)+"/retry", "{}")
	if _, err := h.client.Resume(ctx, id); err != nil {
		t.Fatal(err)
	}
	h.until(id, pawl.Waiting)
	h.refused(409, "state", "POST", api.RunPath(id)+"/resume", "")
	if _, err := h.client.Wake(ctx, id, api.WakeRequest{}); err != nil {
		t.Fatal(err)
	}
	if run := h.until(id, pawl.Completed); string(run.Result) != `"woken"` {
		t.Errorf("result %s", run.Result)
	}

	id = h.start("flaky", "null")
	h.until(id, pawl.Failed)
	broken.Store(false)
	if run, err := h.client.Retry(ctx, id); err != nil || run.State == pawl.Failed {
		t.Fatalf("retry: %+v %v", run, err)
	}
	h.until(id, pawl.Completed)

	fork, err := h.client.Fork(ctx, id, api.ForkRequest{From: "second", ID: "fork/1"})
	if err != nil || fork.ID != "fork/1" || fork.Forked != id {
		t.Fatalf("fork: %+v %v", fork, err)
	}
	h.until("fork/1", pawl.Completed)
	h.refused(404, "not_found", "POST", api.RunPath(id)+"/fork", `{"from":"third"}`)
	h.refused(400, "input", "POST", api.RunPath(id)+"/fork", `{"from":"second","input":1}`)
	h.refused(400, "bad_request", "POST", api.RunPath(id)+"/fork", `{"form":"second"}`)

	id = h.start("waits", "null")
	run, err := h.client.Cancel(ctx, id, "no longer needed")
	if err != nil {
		t.Fatal(err)
	}
	if run = h.until(id, pawl.Cancelled); run.Error == nil || !strings.Contains(run.Error.Message, "no longer needed") {
		t.Errorf("cancelled: %+v", run)
	}
	h.refused(410, "ended", "POST", api.RunPath(id)+"/cancel", "")
	h.refused(410, "ended", "POST", api.RunPath(id)+"/pause", "")
	h.refused(410, "ended", "POST", api.RunPath(id)+"/signal/go", "1")
}

func TestEveryRunRouteSaysThatThereIsNoSuchRun(t *testing.T) {
	h := open(t, api.Options{})
	for _, route := range []string{"GET ", "GET /journal", "GET /events", "GET /streams", "GET /streams/x", "GET /hooks", "GET /why",
		"POST /cancel", "POST /pause", "POST /resume", "POST /retry", "POST /wake", "POST /fork", "POST /signal/x"} {
		method, path, _ := strings.Cut(route, " ")
		if p := h.refused(404, "not_found", method, "/api/runs/nobody"+path, ""); !strings.Contains(p.Detail, "nobody") {
			t.Errorf("%s: %q does not name the run", route, p.Detail)
		}
	}
	if _, err := h.client.Run(t.Context(), "nobody", 0); !errors.Is(err, pawl.ErrNotFound) {
		t.Errorf("the client's error is %v", err)
	}
}

func TestSignalsEventsAndHooks(t *testing.T) {
	h := open(t, api.Options{})
	ctx := t.Context()
	id := h.start("waits", "null")
	h.ok(200, "POST", api.RunPath(id)+"/signal/go%2Fnow", `{"x":1}`, &api.Run{})
	if run := h.until(id, pawl.Completed); string(run.Result) != `{"x":1}` {
		t.Errorf("result %s", run.Result)
	}
	a, b := h.start("waits", "null"), h.start("waits", "null")
	h.until(a, pawl.Waiting)
	h.until(b, pawl.Waiting)
	if p, err := h.client.Publish(ctx, "go/now", json.RawMessage(`"all"`)); err != nil || p.Event != "go/now" {
		t.Fatal(p, err)
	}
	for _, id := range []string{a, b} {
		if run := h.until(id, pawl.Completed); string(run.Result) != `"all"` {
			t.Errorf("result %s", run.Result)
		}
	}
	id = h.start("hooks", "null")
	h.until(id, pawl.Waiting)
	hooks, err := h.client.Hooks(ctx, id)
	if err != nil || len(hooks.Items) != 1 || string(hooks.Items[0].Meta) != `{"for":"you"}` {
		t.Fatalf("hooks: %+v %v", hooks, err)
	}
	r := h.send("POST", "/api/hooks/"+hooks.Items[0].Token, `{"ok":true}`)
	if r.status != 202 || string(r.body) != fmt.Sprintf("{\"run\":%q}\n", id) {
		t.Errorf("hook: %d %s", r.status, r.body)
	}
	if run := h.until(id, pawl.Completed); string(run.Result) != `{"ok":true}` {
		t.Errorf("result %s", run.Result)
	}
	h.refused(404, "not_found", "POST", "/api/hooks/"+url.PathEscape("no/such"), "1")
	if _, err := h.client.SendHook(ctx, "no/such", nil); !errors.Is(err, pawl.ErrNotFound) {
		t.Errorf("hook: %v", err)
	}
	h.refused(400, "bad_request", "POST", "/api/hooks/x", "{'a':1}")
	h.refused(400, "input", "POST", "/api/events/$x", "")
	if hooks, err := h.client.Hooks(ctx, id); err != nil || hooks.Items == nil || len(hooks.Items) != 0 {
		t.Errorf("hooks of an ended run: %+v %v", hooks, err)
	}
}

func TestWorkflowsAreListed(t *testing.T) {
	h := open(t, api.Options{})
	list, err := h.client.Workflows(t.Context(), "", 0)
	if err != nil || len(list.Items) != 12 || list.Items[0].Name != "approves" {
		t.Errorf("%+v %v", list, err)
	}
}
