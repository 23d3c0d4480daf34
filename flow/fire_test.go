package flow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/trigger"
)

// A trigger can be tried: what it makes of a sample is told, and a run is started only if that is asked for.
func TestTriggersCanBeTried(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, triggered("f", "in", nightly+","+onOrder+`, {"type": "webhook", "path": "/x", "scheme": "github", "secret": "hub", "dedupe": "header:X-Id", "variables": {"by": "headers.x-by", "n": "body.n"}, "batch": {"maxSize": 9, "timeoutMs": 1000}}, {"type": "manual"}`))
		all, err := s.Triggers(t.Context(), "", "f")
		if err != nil || len(all) != 4 || all[0].Next.IsZero() || all[0].Words == "" || all[1].ID != "flow:f:1" || all[2].Type != "webhook" || !all[3].Active || !strings.Contains(string(all[2].Config), `"path":"/x"`) {
			t.Errorf("%+v, %v", all, err)
		}
		fire := func(n int, sample trigger.Sample, dry bool) string {
			t.Helper()
			f, err := s.Fire(t.Context(), "", "f", n, sample, dry)
			if err != nil {
				t.Fatal(err)
			}
			if f.Run != "" {
				s.result(t, "", f.Run)
				f.Run = "started"
			}
			return fmt.Sprintf("%s %t v%d %s %s %s", f.Type, f.Matched, f.Version, f.Variables, f.Run, f.Problem)
		}
		data := func(s string) trigger.Sample { return trigger.Sample{Data: json.RawMessage(s)} }
		request := trigger.Sample{Data: json.RawMessage(`{"n": 3}`), Headers: map[string]string{"x-by": "ann", "x-id": "7"}}
		for _, test := range []struct {
			n      int
			sample trigger.Sample
			want   string
		}{
			{0, data(``), `schedule true v1 {"by":"clock"}  `},
			{1, data(`{"n": 2}`), `event true v1 {"order":{"n":2},"which":"sample"}  `},
			{1, data(`{"n": 1}`), `event false v0   the event does not fit where`},
			{1, data(`{}`), `event false v0   1:12: event.data has no field "n"`},
			{2, request, `webhook true v1 {"events":[{"by":"ann","n":3}]}  `},
			{2, data(`{"n": 3}`), `webhook false v0   the header X-Id, which names the delivery, must be there once`},
			{3, data(`{"a": 1}`), `manual true v1 {"a": 1}  `},
			{3, data(`[1]`), `manual true v0 [1]  input of f: the variables are a list and must be an object`},
		} {
			if got := fire(test.n, test.sample, true); got != test.want {
				t.Errorf("trigger %d with %s: got %q, want %q", test.n, test.sample.Data, got, test.want)
			}
		}
		equal(t, "runs", len(s.runs(t, "", "f")), 0)
		equal(t, "started", fire(2, request, false), `webhook true v1 {"events":[{"by":"ann","n":3}]} started `)
		runs := s.runs(t, "", "f")
		if len(runs) != 1 || runs[0].Attrs["test"] != "true" || runs[0].Attrs["trigger"] != "flow:f:2" {
			t.Errorf("%+v", runs)
		}
		if _, err := s.Fire(t.Context(), "", "f", 4, trigger.Sample{}, true); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("no such trigger: %v", err)
		}
		if _, err := s.Fire(t.Context(), "acme", "f", 0, trigger.Sample{}, true); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another tenant's flow: %v", err)
		}
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		equal(t, "inactive", fire(0, data(``), false), `schedule true v1 {"by":"clock"} started `)
	})
}

// What a document says of debounce, batch, rateLimit and singleton is what its triggers do, and is checked.
func TestControlsOfTriggers(t *testing.T) {
	event := func(more string) string { return `{"type": "event", "eventName": "e", ` + more + `}` }
	for more, want := range map[string]string{
		`"debounce": {}`: `the field "periodMs" is missing`,
		`"debounce": {"periodMs": 10, "timeoutMs": 5}`:                          "/triggers/0/debounce/timeoutMs: it is shorter than periodMs",
		`"debounce": {"periodMs": 10}, "batch": {"maxSize": 1, "timeoutMs": 1}`: "/triggers/0/batch: debounce keeps the newest and batch keeps all; choose one",
		`"batch": {"maxSize": 1, "timeoutMs": 1}, "singleton": {}`:              "a batch that singleton skips would be lost",
		`"batch": {"maxSize": 1001, "timeoutMs": 1}`:                            "1001 is above 1000",
		`"rateLimit": {"limit": 0, "periodMs": 1}`:                              "0 is below 1",
		`"singleton": {"mode": "queue"}`:                                        `"queue" is not known here`,
		`"singleton": {"key": "event.data."}`:                                   "/triggers/0/singleton/key: ",
		`"rateLimit": {"limit": 1, "periodMs": 1, "key": "event.dta"}`:          "did you mean data?",
		`"debounce": {"periodMs": 10, "every": 1}`:                              `there is no field "every"`,
	} {
		if got := strings.Join(problems(t, triggered("f", "x", event(more)), flow.World{}), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", more, got, want)
		}
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.fires(t)
		s.deploys(t, triggered("f", "in", event(`"batch": {"maxSize": 2, "timeoutMs": 3600000, "key": "event.data.of"}`)+","+event(`"debounce": {"periodMs": 300, "timeoutMs": 2000}, "rateLimit": {"limit": 5, "periodMs": 1000}, "singleton": {"mode": "cancel"}`)))
		subs, err := trigger.Subscriptions(t.Context(), s.Engine, "", "flow:f:", "", 10)
		if err != nil || len(subs) != 2 {
			t.Fatalf("%+v, %v", subs, err)
		}
		if c := subs[1].Control; *c.Debounce != (trigger.Debounce{Period: 300 * time.Millisecond, Timeout: 2 * time.Second}) || *c.RateLimit != (trigger.RateLimit{Limit: 5, Period: time.Second}) || !c.Singleton.Cancel {
			t.Errorf("%+v", c)
		}
		for _, data := range []string{`{"of": "a", "n": 1}`, `{"of": "b", "n": 2}`, `{"of": "a", "n": 3}`} {
			p, err := trigger.Publish(t.Context(), s.Engine, trigger.Event{Name: "e", Data: json.RawMessage(data)})
			if err != nil || len(p.Errors) > 0 || p.Pending {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		eventually(t, "both runs are there", func() bool { return len(s.runs(t, "", "f")) == 2 })
		got := map[string]string{}
		for _, run := range s.runs(t, "", "f") {
			got[run.Attrs["trigger"]] = s.result(t, "", run.ID)
		}
		equal(t, "batch", got["flow:f:0"], `{"in":{"events":[{"n":1,"of":"a"},{"n":3,"of":"a"}]},"version":1}`)
		equal(t, "debounce", got["flow:f:1"], `{"in":{"n":3,"of":"a"},"version":1}`)
	})
}
