package flow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
	"github.com/pawlrun/pawl/trigger"
)

// triggered is a flow with triggers, whose run says its version and its variables.
func triggered(id, says, triggers string, more ...string) string {
	return fmt.Sprintf(`{"id": %q, "triggers": [%s], %s "steps": [{"id": "say", "type": "transform", "config": {"set": {"version": "version", %q: "variables"}}, "next": "end"}]}`, id, triggers, strings.Join(more, ""), says)
}

const (
	nightly = `{"type": "schedule", "cron": "0 2 * * *", "timezone": "Europe/Berlin", "overlap": "queue", "catchUp": "one", "variables": {"by": "clock"}}`
	onOrder = `{"type": "event", "eventName": "order", "where": "event.data.n > 1", "variables": {"order": "event.data", "which": "event.id"}}`
	hooked  = `{"type": "webhook", "path": "/webhooks/orders", "scheme": "none", "dedupe": "body.id"}`
)

// rows are the triggers that the store has for an owner, one line each.
func rows(t *testing.T, e *pawl.Engine, tenant, id string) []string {
	t.Helper()
	prefix := trigger.OwnedPrefix + id + ":"
	var out []string
	schedules, err := trigger.Schedules{Engine: e}.List(t.Context(), tenant, prefix, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range schedules {
		out = append(out, fmt.Sprintf("%s schedule %s %s", s.ID, s.Cron, s.Workflow))
	}
	events, err := trigger.Subscriptions(t.Context(), e, tenant, prefix, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range events {
		out = append(out, fmt.Sprintf("%s event %s %s", s.ID, s.Event, s.Workflow))
	}
	routes, err := trigger.Routes(t.Context(), e, tenant, prefix, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		at, err := trigger.FindRoute(t.Context(), e, r.Path)
		if err != nil || at.ID != r.ID || at.Tenant != r.Tenant {
			t.Errorf("the path of route %s leads to %+v, %v", r.ID, at, err)
		}
		out = append(out, fmt.Sprintf("%s webhook %s %s", r.ID, r.Path, r.Workflow))
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// The triggers of a flow are those of its active version, whoever deploys, activates or rolls back.
func TestJ45_triggersSwitchWithTheVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		all := trigger.Schedules{Engine: s.Engine}
		s.deploys(t, triggered("f", "one", nightly+","+onOrder+","+hooked))
		one := []string{"flow:f:0 schedule 0 2 * * * f", "flow:f:1 event order f", "flow:f:2 webhook /webhooks/orders f"}
		same(t, "deployed", rows(t, s.Engine, "", "f"), one...)
		before, err := all.Get(t.Context(), "", "flow:f:0")
		if err != nil || before.Owner != "flow:f" || before.Zone != "Europe/Berlin" || before.Overlap != trigger.BufferAll || before.CatchUp != trigger.CatchUpLast || string(before.Input) != `{"by":"clock"}` {
			t.Fatalf("%+v, %v", before, err)
		}
		s.deploys(t, triggered("f", "one", nightly+","+onOrder+","+hooked))
		same(t, "deployed again", rows(t, s.Engine, "", "f"), one...)
		s.deploys(t, triggered("f", "two", nightly+`,{"type": "schedule", "cron": "@hourly"},{"type": "webhook", "path": "/webhooks/other", "scheme": "none"}`))
		two := []string{"flow:f:0 schedule 0 2 * * * f", "flow:f:1 schedule @hourly f", "flow:f:2 webhook /webhooks/other f"}
		same(t, "another version", rows(t, s.Engine, "", "f"), two...)
		if after, err := all.Get(t.Context(), "", "flow:f:0"); err != nil || after.Revision != before.Revision || !after.Next.Equal(before.Next) {
			t.Errorf("a schedule that stays the same was written: %+v, %v; it was %+v", after, err, before)
		}
		if _, err := trigger.FindRoute(t.Context(), s.Engine, "/webhooks/orders"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("the path that was given up: %v", err)
		}
		if _, err := s.Activate(t.Context(), "", "f", 1, 20, "ann", 0); err != nil {
			t.Fatal(err)
		}
		same(t, "a canary", rows(t, s.Engine, "", "f"), two...)
		for range 2 { // the canary, then the version
			if _, err := s.Rollback(t.Context(), "", "f", "ann", 0); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "rolled back", rows(t, s.Engine, "", "f"), one...)
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		same(t, "deactivated", rows(t, s.Engine, "", "f"))
		if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(triggered("f", "three", nightly)), Inactive: true}); err != nil {
			t.Fatal(err)
		}
		same(t, "deployed inactive", rows(t, s.Engine, "", "f"))
		if _, err := s.Activate(t.Context(), "", "f", 2, 100, "ann", 0); err != nil {
			t.Fatal(err)
		}
		same(t, "activated", rows(t, s.Engine, "", "f"), two...)
	})
}

// A schedule that was deployed again, changed and rolled back fires each of its times once, with the version that is active then.
func TestJ45_eachTimeStartsOneRunOfTheActiveVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		s := serve(t, store, options(t, &desk{}))
		s.fires(t)
		deploys := func(says, overlap string) {
			s.deploys(t, triggered("f", says, `{"type": "schedule", "cron": "* * * * *", "overlap": "`+overlap+`"}`))
		}
		time.Sleep(30 * time.Second)
		deploys("one", "allow")
		time.Sleep(2 * time.Minute)
		deploys("two", "queue")
		deploys("two", "queue")
		time.Sleep(2 * time.Minute)
		if _, err := s.Rollback(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		var got []string
		for _, run := range s.runs(t, "", "f") {
			got = append(got, strings.TrimPrefix(run.Attrs["slot"], "2000-01-01T")+" v"+run.Version)
		}
		slices.Sort(got)
		same(t, "runs", got, "00:01:00Z v1", "00:02:00Z v1", "00:03:00Z v2", "00:04:00Z v2", "00:05:00Z v1", "00:06:00Z v1")
	})
}

// What belongs to a flow is changed by the flow alone.
func TestNobodyElseChangesAFlowsTriggers(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, triggered("f", "one", nightly+","+onOrder))
		all := trigger.Schedules{Engine: s.Engine}
		_, paused := all.Pause(t.Context(), "", "flow:f:0", "no")
		_, resumed := all.Resume(t.Context(), "", "flow:f:0")
		_, put := all.Put(t.Context(), trigger.Schedule{ID: "flow:f:0", Workflow: "f", Cron: "@hourly", Revision: trigger.AnyRevision})
		_, fresh := all.Put(t.Context(), trigger.Schedule{ID: "flow:g:0", Workflow: "f", Cron: "@hourly"})
		_, owned := all.Put(t.Context(), trigger.Schedule{ID: "mine", Owner: "flow:f", Workflow: "f", Cron: "@hourly"})
		_, subscribed := trigger.Subscribe(t.Context(), s.Engine, trigger.Subscription{ID: "flow:f:1", Event: "x", Workflow: "f"})
		for what, err := range map[string]error{"pause": paused, "resume": resumed, "put": put, "a new one": fresh, "an owner": owned, "subscribe": subscribed,
			"delete": all.Delete(t.Context(), "", "flow:f:0"), "unsubscribe": trigger.Unsubscribe(t.Context(), s.Engine, "", "flow:f:1")} {
			if !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "flow") {
				t.Errorf("%s: %v", what, err)
			}
		}
		same(t, "all are there", rows(t, s.Engine, "", "f"), "flow:f:0 schedule 0 2 * * * f", "flow:f:1 event order f")
	})
}

// A deployment is refused with all that is wrong with its triggers.
func TestTriggersAreCheckedWhenAFlowIsDeployed(t *testing.T) {
	for name, test := range map[string]struct{ trigger, want string }{
		"cron":          {`{"type": "schedule", "cron": "0 9 * * 8"}`, "/triggers/0/cron: cron expression \"0 9 * * 8\", day of week at position 9: 8 is not from 0 to 7"},
		"never":         {`{"type": "schedule", "cron": "0 0 30 2 *"}`, "/triggers/0/cron: "},
		"zone":          {`{"type": "schedule", "cron": "@daily", "timezone": "Europe/Berlim"}`, `/triggers/0/timezone: time zone "Europe/Berlim"`},
		"jitter":        {`{"type": "schedule", "cron": "@daily", "jitter": 86400001}`, "/triggers/0/jitter: "},
		"schedule in":   {`{"type": "schedule", "cron": "@daily"}`, "its variables are not what inputs asks for"},
		"where":         {`{"type": "event", "eventName": "e", "where": "event.data.x >"}`, "/triggers/0/where: the expression ends too early"},
		"where caret":   {`{"type": "event", "eventName": "e", "where": "event.data.x >"}`, "event.data.x >\n                  ^"},
		"where field":   {`{"type": "event", "eventName": "e", "where": "event.dta == 1"}`, "did you mean data?"},
		"event name":    {`{"type": "event", "eventName": "$x"}`, "/triggers/0/eventName: names that begin with $"},
		"event place":   {`{"type": "event", "eventName": "e", "variables": {"x": "body.x"}}`, `/triggers/0/variables/x: there is no "body" in what starts a run`},
		"no path":       {`{"type": "event", "eventName": "e", "variables": {"x": "a b"}}`, `/triggers/0/variables/x: " b" can't follow the path "a"`},
		"reserved":      {`{"type": "webhook", "path": "/api/x", "scheme": "none"}`, "/triggers/0/path: path \"/api/x\" of a webhook is reserved"},
		"reserved case": {`{"type": "webhook", "path": "/API", "scheme": "none"}`, "is reserved"},
		"dashboard":     {`{"type": "webhook", "path": "/dashboard/x", "scheme": "none"}`, "is reserved"},
		"dots":          {`{"type": "webhook", "path": "/a/../api", "scheme": "none"}`, "must be a plain path"},
		"no scheme":     {`{"type": "webhook", "path": "/x", "secret": "s"}`, "/triggers/0/secret: the scheme that the secret is for is missing"},
		"no secret":     {`{"type": "webhook", "path": "/x", "scheme": "github"}`, "/triggers/0/scheme: requests signed by github need the name of a secret"},
		"secret":        {`{"type": "webhook", "path": "/x", "scheme": "none", "secret": "s"}`, "/triggers/0/secret: nothing is signed with the scheme none"},
		"signed GET":    {`{"type": "webhook", "path": "/x", "scheme": "hmac", "secret": "s", "methods": ["POST", "GET"]}`, "/triggers/0/methods: a GET has no body, and hmac signs nothing else"},
		"dedupe":        {`{"type": "webhook", "path": "/x", "scheme": "none", "dedupe": "id"}`, "a delivery is named by a header or by something in the body"},
		"dedupe header": {`{"type": "webhook", "path": "/x", "scheme": "none", "dedupe": "header:a b"}`, "this names no header"},
		"status":        {`{"type": "webhook", "path": "/x", "scheme": "none", "respond": {"status": 404}}`, "/triggers/0/respond/status: 404 is above 299"},
		"header":        {`{"type": "webhook", "path": "/x", "scheme": "none", "respond": {"headers": {"X-A": "a\nb"}}}`, "can't be sent"},
		"twice":         {`{"type": "webhook", "path": "/x", "scheme": "none"}, {"type": "webhook", "path": "/x", "scheme": "none"}`, "/triggers/1/path: two webhooks have the path /x; the other one is at /triggers/0/path"},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, triggered("f", "x", test.trigger, `"inputs": {"type": "object", "required": ["ticket"]},`), flow.World{})
			if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, test.want) }) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// caller sends requests to a server of the API.
type caller struct {
	t   *testing.T
	url string
}

func (s *server) calls(t *testing.T, opt api.Options) caller {
	t.Helper()
	opt.ClientRate, opt.WebhookRate = api.Rate{PerSecond: -1}, api.Rate{PerSecond: -1}
	srv := httptest.NewServer(api.New(s.Engine, opt))
	t.Cleanup(srv.Close)
	return caller{t, srv.URL}
}

type answered struct {
	status    int
	body      string
	execution string
	header    http.Header
}

func (c caller) send(method, path, body string, header ...string) answered {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var got struct{ ExecutionID string }
	_ = json.Unmarshal(data, &got) // it may be a text
	return answered{res.StatusCode, strings.TrimSpace(string(data)), got.ExecutionID, res.Header}
}

// result waits for a run and returns what it said.
func (s *server) result(t *testing.T, tenant, id string) string {
	t.Helper()
	out, err := pawl.Attach[json.RawMessage](s.Engine, id, pawl.Tenant(tenant)).Result(t.Context())
	if err != nil {
		t.Fatalf("run %q: %v", id, err)
	}
	return string(out)
}

func (s *server) runs(t *testing.T, tenant, workflow string) (out []pawl.RunInfo) {
	t.Helper()
	out, err := s.Engine.List(t.Context(), pawl.Filter{Tenant: tenant, Workflow: workflow, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A request to the path of a deployed flow starts a run, once for each delivery, and is answered when the run is stored.
func TestJ47_aRequestStartsAFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		hub, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.HMAC, Header: "X-Sig", Secrets: []string{"k"}})
		if err != nil {
			t.Fatal(err)
		}
		c := s.calls(t, api.Options{Verify: trigger.VerifyFunc(map[string]*trigger.Verifier{"hub": hub})})
		equal(t, "nobody has the path", c.send("POST", "/webhooks/orders", `{}`).status, 404)
		s.deploys(t, triggered("f", "in", hooked+`,
			{"type": "webhook", "path": "/signed", "scheme": "hmac", "secret": "hub", "dedupe": "header:X-Id", "respond": {"status": 201, "headers": {"X-Made": "yes"}, "body": {"ok": true}}, "variables": {"n": "body.list[1].n", "of": "headers['X-Of']", "q": "query.q"}},
			{"type": "webhook", "path": "/asked", "scheme": "none", "methods": ["GET"], "respond": {"body": "thanks"}},
			{"type": "webhook", "path": "/form", "scheme": "none", "form": true},
			{"type": "webhook", "path": "/elsewhere", "scheme": "hmac", "secret": "unknown"}`, `"inputs": {"type": "object", "properties": {"n": {"type": "integer"}}},`))

		// Whatever the host and the origin are: it is public.
		first := c.send("POST", "/webhooks/orders", `{"id": "o-1", "n": 12345678901234567}`, "Host", "flows.example.com", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		equal(t, "taken", first.status, 202)
		equal(t, "answer", first.body, fmt.Sprintf(`{"executionId":%q,"status":"started"}`, first.execution))
		equal(t, "result", s.result(t, "", first.execution), `{"in":{"id":"o-1","n":12345678901234567},"version":1}`)
		again := c.send("POST", "/webhooks/orders", `{"id": "o-1", "n": 2}`)
		equal(t, "a repeat", [3]string{fmt.Sprint(again.status), again.body, again.header.Get("Idempotency-Replayed")}, [3]string{"202", first.body, "true"})
		for what, test := range map[string]struct {
			got    answered
			status int
			detail string
		}{
			"GET":         {c.send("GET", "/webhooks/orders", ""), 405, "takes POST"},
			"no id":       {c.send("POST", "/webhooks/orders", `{"n": 1}`), 400, "no id of the delivery"},
			"no JSON":     {c.send("POST", "/webhooks/orders", `{`), 400, "not JSON"},
			"two values":  {c.send("POST", "/webhooks/orders", `{} {}`), 400, "not JSON"},
			"refused":     {c.send("POST", "/webhooks/orders", `{"id": "o-2", "n": "x"}`), 422, "n"},
			"no object":   {c.send("GET", "/asked", `[1]`), 422, "must be an object"},
			"type":        {c.send("POST", "/webhooks/orders", `{"id": "o-2"}`, "Content-Type", "text/plain"), 415, "application/json"},
			"packed":      {c.send("POST", "/webhooks/orders", `{"id": "o-2"}`, "Content-Encoding", "gzip"), 415, "Content-Encoding"},
			"large":       {c.send("POST", "/webhooks/orders", strings.Repeat(" ", 1<<20+1)), 413, "over 1048576 bytes"},
			"unsigned":    {c.send("POST", "/signed?q=1", `{}`, "X-Id", "1"), 401, "X-Sig"},
			"no such key": {c.send("POST", "/elsewhere", `{}`, "X-Sig", "00"), 503, "send it again"},
			"below":       {c.send("POST", "/webhooks/orders/x", `{}`), 404, ""},
			"encoded":     {c.send("POST", "/webhooks/%6frders", `{"id": "o-2"}`), 404, ""},
		} {
			if test.got.status != test.status || !strings.Contains(test.got.body, test.detail) || test.got.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %d %s, want %d with %q", what, test.got.status, test.got.body, test.status, test.detail)
			}
		}
		body := `{"list": [{}, {"n": 7}]}`
		signed := []string{"X-Sig", hmacOf("k", body), "X-Id", "d-1", "X-Of", "hub"}
		one := c.send("POST", "/signed?q=now", body, signed...)
		equal(t, "signed", [3]string{fmt.Sprint(one.status), one.body, one.header.Get("X-Made")}, [3]string{"201", `{"ok":true}`, "yes"})
		equal(t, "signed again", c.send("POST", "/signed?q=now", body, signed...).header.Get("Idempotency-Replayed"), "true")
		if got := c.send("POST", "/signed?q=now", `{"list": []}`, "X-Sig", hmacOf("k", `{"list": []}`), "X-Id", "d-2", "X-Of", "hub"); got.status != 400 || !strings.Contains(got.body, "/body/list/1/n") {
			t.Errorf("nothing is there: %+v", got)
		}
		equal(t, "GET", c.send("GET", "/asked?a=b&a=c", "").body, "thanks")
		form := c.send("POST", "/form", "a=b+c&d=%C3%A9", "Content-Type", "application/x-www-form-urlencoded")
		equal(t, "form", s.result(t, "", form.execution), `{"in":{"a":"b c","d":"é"},"version":1}`)

		var results []string
		for _, run := range s.runs(t, "", "f") {
			results = append(results, run.Attrs["trigger"]+" "+s.result(t, "", run.ID))
		}
		slices.Sort(results)
		same(t, "runs", results, `flow:f:0 {"in":{"id":"o-1","n":12345678901234567},"version":1}`, `flow:f:1 {"in":{"n":7,"of":"hub","q":"now"},"version":1}`,
			`flow:f:2 {"in":{"a":"b"},"version":1}`, `flow:f:3 {"in":{"a":"b c","d":"é"},"version":1}`)

		s.deploys(t, triggered("g", "in", `{"type": "webhook", "path": "/any", "scheme": "none"}`))
		equal(t, "no object, where inputs asks for nothing", c.send("POST", "/any", `[1]`).status, 422)

		// A repeat is one whatever was deployed meanwhile, and also when its version is not active any more.
		s.deploys(t, triggered("f", "strict", hooked, `"inputs": {"type": "object", "required": ["more"]},`))
		equal(t, "a repeat at another version", c.send("POST", "/webhooks/orders", `{"id": "o-1"}`).body, first.body)
		equal(t, "no more", c.send("GET", "/asked", "").status, 404)
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		equal(t, "inactive", c.send("POST", "/webhooks/orders", `{"id": "o-3"}`).status, 404)
	})
}

// A path is one of the whole server, and is that of whoever had it first.
func TestJ47_nobodyCapturesAPath(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, triggered("f", "one", hooked))
		refused := func(tenant, id, words, but string) {
			t.Helper()
			_, err := s.Deploy(t.Context(), flow.Deployment{Tenant: tenant, Document: []byte(triggered(id, "x", hooked))})
			var found flow.Problems
			if !errors.As(err, &found) || found[0].Pointer != "/triggers/0/path" || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), but) {
				t.Errorf("%s of tenant %q: %v", id, tenant, err)
			}
		}
		refused("", "g", "is that of flow f", "nothing")
		var tried flow.Problems
		if _, err := s.Try(t.Context(), flow.Deployment{Document: []byte(triggered("g", "x", hooked))}); !errors.As(err, &tried) || tried[0].Pointer != "/triggers/0/path" {
			t.Errorf("tried: %v", err)
		}
		refused("acme", "g", "is taken already", "flow f")
		refused("acme", "f", "is taken already", "flow f")
		if _, err := s.Registry.Get(t.Context(), "acme", "f"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("what was refused is there: %v", err)
		}
		if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(triggered("g", "x", hooked)), Inactive: true}); err != nil {
			t.Fatal(err)
		}
		var taken *trigger.PathError
		if _, err := s.Activate(t.Context(), "", "g", 1, 100, "ann", 0); !errors.As(err, &taken) || !errors.Is(err, pawl.ErrConflict) || taken.Owner != "flow:f" {
			t.Errorf("activated: %v", err)
		}
		s.deploys(t, triggered("f", "two", onOrder)) // it gives the path up
		if _, err := s.Activate(t.Context(), "", "g", 1, 100, "ann", 0); err != nil {
			t.Error(err)
		}
		if r, err := trigger.FindRoute(t.Context(), s.Engine, "/webhooks/orders"); err != nil || r.Workflow != "g" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// An event starts the flows that ask for it, with the variables that they make of it.
func TestAnEventStartsAFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, triggered("f", "in", onOrder+`, {"type": "event", "eventName": "order", "where": "event.data.n == 3"}, {"type": "event", "eventName": "order", "where": "event.data.n == 4", "variables": {"x": "event.data.missing"}}`))
		for n := 1; n <= 4; n++ {
			p, err := trigger.Publish(t.Context(), s.Engine, trigger.Event{ID: fmt.Sprint("e", n), Name: "order", Data: map[string]int{"n": n}})
			if err != nil || p.Pending || len(p.Runs) != []int{0, 1, 2, 2}[n-1] || (n == 4) != strings.Contains(strings.Join(p.Errors, ""), "/event/data/missing") {
				t.Errorf("event %d: %+v, %v", n, p, err)
			}
		}
		var got []string
		for _, run := range s.runs(t, "", "f") {
			got = append(got, run.Attrs["trigger"]+" "+s.result(t, "", run.ID))
		}
		slices.Sort(got)
		same(t, "runs", got, `flow:f:0 {"in":{"order":{"n":2},"which":"e2"},"version":1}`, `flow:f:0 {"in":{"order":{"n":3},"which":"e3"},"version":1}`, `flow:f:0 {"in":{"order":{"n":4},"which":"e4"},"version":1}`, `flow:f:1 {"in":{"n":3},"version":1}`)
	})
}

// Two servers that deploy at the same time leave the triggers of the version that is active, and no others.
func TestTwoServersDeployTriggersAlternately(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		a, b := serve(t, open(), opt), serve(t, open(), opt)
		document := func(server, n int) string {
			return triggered("f", fmt.Sprint("s", server, n), fmt.Sprintf(`%s, {"type": "webhook", "path": "/s%d/n%d", "scheme": "none"}, {"type": "event", "eventName": "e%d"}`, nightly, server, n, server))
		}
		var both sync.WaitGroup
		for i, s := range []*server{a, b} {
			both.Go(func() {
				for n := range 10 {
					if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(document(i, n))}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		both.Wait()
		head, err := a.Registry.Get(t.Context(), "", "f")
		if err != nil {
			t.Fatal(err)
		}
		active, err := a.Version(t.Context(), "", "f", head.Active)
		if err != nil {
			t.Fatal(err)
		}
		got := rows(t, b.Engine, "", "f")
		if len(got) != 3 || !bytes.Contains(active.Document, []byte(strings.Fields(got[2])[2])) || !bytes.Contains(active.Document, []byte(`"`+strings.Fields(got[1])[2]+`"`)) && !strings.Contains(got[1], "webhook") {
			t.Errorf("version %d is active, and there are %q; its document is %s", head.Active, got, active.Document)
		}
		for server := range 2 {
			for n := range 10 {
				path := fmt.Sprintf("/s%d/n%d", server, n)
				_, err := trigger.FindRoute(t.Context(), a.Engine, path)
				if is := bytes.Contains(active.Document, []byte(`"`+path+`"`)); is != (err == nil) {
					t.Errorf("%s leads somewhere: %v; it is the active version's: %t", path, err, is)
				}
			}
		}
	})
}

// A process that is killed at any of its commits leaves the triggers of the active version, and no run is lost or comes twice.
func TestDeployingAndFiringSurviveCrashes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		background(t, (&trigger.Runner{Engine: s.Engine, Poll: 50 * time.Millisecond}).Run)
		dead := errors.New("the process is dead")
		for _, lose := range []bool{false, true} {
			for at := 1; ; at++ {
				id := fmt.Sprintf("f%d%t", at, lose)
				path := "/crash/" + id
				one := triggered(id, "one", fmt.Sprintf(`{"type": "webhook", "path": %q, "scheme": "none", "dedupe": "body.id"}`, path))
				two := triggered(id, "two", fmt.Sprintf(`{"type": "event", "eventName": "e%s"}, {"type": "webhook", "path": %q, "scheme": "none", "dedupe": "body.id"}`, id, path))
				s.deploys(t, one)
				died := false
				victim := pawl.New(storetest.Faulty(open(), func(method string, n int) storetest.Fault {
					switch {
					case method != "Commit" || n < at:
						return storetest.Fault{}
					case n == at && lose:
						died = true
						return storetest.Fault{Lose: true}
					}
					died = true
					return storetest.Fault{Err: dead}
				}), nil)
				work := func(e *pawl.Engine, deploy func(context.Context, flow.Deployment) (flow.Deployed, error)) error {
					if _, err := deploy(t.Context(), flow.Deployment{Document: []byte(two)}); err != nil {
						return err
					}
					if _, err := trigger.Publish(t.Context(), e, trigger.Event{ID: "1" + id, Name: "e" + id, Data: map[string]int{}}); err != nil {
						return err
					}
					route, err := trigger.FindRoute(t.Context(), e, path)
					if err == nil {
						_, err = route.Accept(t.Context(), e, trigger.Arrival{Method: "POST", Body: []byte(`{"id": "d"}`)})
					}
					return err
				}
				_ = work(victim, flow.NewRegistry(victim, options(t, &desk{})).Deploy)
				head, err := s.Registry.Get(t.Context(), "", id)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "triggers at commit "+fmt.Sprint(at), len(rows(t, s.Engine, "", id)), head.Active)
				if err := work(s.Engine, s.Deploy); err != nil {
					t.Fatal(err)
				}
				equal(t, "triggers after commit "+fmt.Sprint(at), len(rows(t, s.Engine, "", id)), 2)
				eventually(t, "both runs are there", func() bool { return len(s.runs(t, "", id)) == 2 })
				for _, run := range s.runs(t, "", id) {
					s.result(t, "", run.ID)
				}
				if !died {
					if at < 4 {
						t.Errorf("there were %d commits, which can't be all", at-1)
					}
					break
				}
			}
		}
		for _, run := range s.runs(t, "", "") { // what came late
			if all := s.runs(t, "", run.Workflow); len(all) != 2 {
				t.Errorf("%d runs of %s", len(all), run.Workflow)
			}
		}
	})
}

// The scheme hmac works with a secret of the store: its header is X-Signature, or what the trigger says.
func TestARequestIsSignedWithASecretOfTheStore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		keys, err := secret.ParseKeys(secret.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		store := &secret.Store{Engine: s.Engine, Keys: keys}
		if _, err := store.Set(t.Context(), secret.Spec{Name: "shop", Value: "a long enough key of a shop"}); err != nil {
			t.Fatal(err)
		}
		c := s.calls(t, api.Options{Secrets: store})
		s.deploys(t, triggered("f", "in", `{"type": "webhook", "path": "/plain", "scheme": "hmac", "secret": "shop"}, {"type": "webhook", "path": "/own", "scheme": "hmac", "secret": "shop", "header": "X-Shop", "prefix": "sha256="}`))
		body := `{"n": 1}`
		sum := hmacOf("a long enough key of a shop", body)
		equal(t, "usual header", c.send("POST", "/plain", body, "X-Signature", sum).status, 202)
		equal(t, "own header", c.send("POST", "/own", body, "X-Shop", "sha256="+sum).status, 202)
		equal(t, "no prefix", c.send("POST", "/own", body, "X-Shop", sum).status, 401)
		equal(t, "another body", c.send("POST", "/plain", `{"n": 2}`, "X-Signature", sum).status, 401)
	})
}
