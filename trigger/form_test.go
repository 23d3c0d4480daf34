package trigger

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// A command of Slack is a form. It is signed as it came over the wire, starts a run with its fields, once, and
// nothing else starts one.
func TestFormsStartRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		command := pawl.Define("command", func(_ *pawl.Context, in map[string]string) (map[string]string, error) { return in, nil })
		e := client(t, open(), command)
		background(t, e.Run)
		set := NewSet(e)
		signed := SignatureOptions{Scheme: Slack, Secrets: []string{"k"}}
		for _, w := range []Webhook{
			{ID: "command", Path: "/slack/command", Workflow: "command", Signature: signed, Form: true, Dedupe: "/trigger_id", MaxBody: 1000},
			{ID: "all", Path: "/slack/all", Workflow: "command", Signature: signed, Form: true, Input: func(d Delivery) (any, error) {
				return map[string]string{"picked": strings.Join(d.Form["pick"], "+"), "body": string(d.Body)}, nil
			}},
		} {
			if err := set.OnWebhook(w); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(set)
		defer server.Close()
		now := fmt.Sprint(time.Now().Unix())
		send := func(path, body, signedBody, kind string) answered {
			t.Helper()
			return call(t, server.URL, path, "POST", body, "Content-Type", kind,
				"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+hex.EncodeToString(macOf("k", "v0:"+now+":"+signedBody)))
		}
		const form = "application/x-www-form-urlencoded"
		const body = "command=%2Fdeploy&text=two+words%20%c3%A4%26%3D&empty=&user_name=ada&trigger_id=13.37"
		first := send("/slack/command", body, body, form+"; charset=utf-8")
		if first.status != 202 || first.replayed {
			t.Fatalf("%+v", first)
		}
		got, err := pawl.Attach[map[string]string](e, first.run).Result(t.Context())
		if want := "map[command:/deploy empty: text:two words ä&= trigger_id:13.37 user_name:ada]"; err != nil || fmt.Sprint(got) != want {
			t.Errorf("the run's input is %v, %v; want %s", got, err, want)
		}
		if again := send("/slack/command", body, body, form); again.status != 202 || again.run != first.run || !again.replayed {
			t.Errorf("the same command: %+v", again)
		}
		if changed := send("/slack/command", body+"&more=1", body+"&more=1", form); changed.status != 409 {
			t.Errorf("another command under the same id: %+v", changed)
		}
		second := strings.Replace(body, "13.37", "13.38", 1)
		if other := send("/slack/command", second, second, form); other.status != 202 || other.run == first.run {
			t.Errorf("another command: %+v", other)
		}
		for what, c := range map[string]struct {
			body, signed, kind string
			status             int
			detail             string
		}{
			"signed in another encoding": {body, strings.Replace(body, "+", "%20", 1), form, 401, "signature"},
			"JSON":                       {`{"command":"x"}`, `{"command":"x"}`, "application/json", 415, form},
			"a form that is none":        {"a=%zz", "a=%zz", form, 400, "no form"},
			"no text":                    {"trigger_id=7&a=%ff", "trigger_id=7&a=%ff", form, 400, `"a" of the form is not UTF-8`},
			"no id":                      {"command=x", "command=x", form, 400, "/trigger_id"},
			"too long":                   {strings.Repeat("a", 1001), "", form, 413, "1000"},
		} {
			if got := send("/slack/command", c.body, c.signed, c.kind); got.status != c.status || !strings.Contains(got.detail, c.detail) {
				t.Errorf("%s: %+v; want %d and %q", what, got, c.status, c.detail)
			}
		}
		all := send("/slack/all", "pick=b&pick=a", "pick=b&pick=a", form)
		got, err = pawl.Attach[map[string]string](e, all.run).Result(t.Context())
		if err != nil || got["picked"] != "b+a" || !json.Valid([]byte(got["body"])) || got["body"] != `{"pick":"b"}` {
			t.Errorf("of all values: %v, %v", got, err)
		}
		if runs, err := e.List(t.Context(), pawl.Filter{Workflow: "command"}); err != nil || len(runs) != 3 {
			t.Errorf("%d runs, %v; want 3", len(runs), err)
		}
	})
}

// A form that carries JSON in a field, as Slack's buttons do, is taken apart by Input.
func TestAFieldOfAFormMayHoldJSON(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker)
		background(t, e.Run)
		set := NewSet(e)
		if err := set.OnWebhook(Webhook{ID: "buttons", Path: "/slack/buttons", Workflow: "taker", Signature: SignatureOptions{Scheme: None}, Form: true,
			Input: func(d Delivery) (any, error) {
				var in order
				err := json.Unmarshal([]byte(d.Form.Get("payload")), &in)
				return in, err
			}}); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(set)
		defer server.Close()
		got := call(t, server.URL, "/slack/buttons", "POST", `payload=%7B%22n%22%3A+7%7D`, "Content-Type", "application/x-www-form-urlencoded")
		if n, err := pawl.Attach[int](e, got.run).Result(t.Context()); err != nil || n != 7 {
			t.Errorf("%+v: the run took %d, %v", got, n, err)
		}
		if got := call(t, server.URL, "/slack/buttons", "POST", `payload=no`, "Content-Type", "application/x-www-form-urlencoded"); got.status != 422 {
			t.Errorf("a payload that is no JSON: %+v", got)
		}
	})
}
