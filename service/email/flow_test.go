package email_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
)

// TestJ16_mailsAreMadeOfTemplates: a flow sends what a template of the server makes, escaped; one that there is not, a field that
// is missing, or nobody to write to, stops it before anything is sent.
func TestJ16_mailsAreMadeOfTemplates(t *testing.T) {
	post := serve(t, &server{}, true, false)
	opt := post.options()
	opt.Templates = fstest.MapFS{
		"ticket-acknowledged.html": {Data: []byte(`<p title="{{.name}}">Dear {{.name}}</p>`)}, "ticket-acknowledged.txt": {Data: []byte(`Dear {{.name}}`)},
	}
	services := service.Set{"email": open(t, opt)}
	doc := func(id, config string) []byte {
		return []byte(`{"id": "` + id + `", "steps": [{"id": "a", "type": "service", "config": {"service": "email", ` + config + `}, "retryPolicy": {"maxAttempts": 1}, "next": "end"}]}`)
	}
	for config, word := range map[string]string{
		`"to": "a@example.org", "subject": "s", "template": "ticket-acknowleged"`:             "ticket-acknowledged",
		`"to": "a@example.org", "subject": "s", "template": "{{variables.t}}"`:                "template takes no templates",
		`"subject": "s", "template": "ticket-acknowledged", "data": {"name": "x"}`:            `needs the parameter "to"`,
		`"to": "a@example.org", "text": "x"`:                                                  `needs the parameter "subject"`,
		`"to": {"a": 1}, "subject": "s", "text": "x"`:                                         "/steps/0/config/to",
		`"to": "a@example.org", "subject": "s", "template": "ticket-acknowledged", "x": 1`:    `no parameter "x"`,
		`"to": "a@example.org", "subject": "s", "template": "ticket-acknowledged", "data": 1`: "/steps/0/config/data",
	} {
		if _, err := flow.Parse(doc("f", config), flow.World{Services: services}); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v, want %q", config, err, word)
		}
	}
	opt.Templates = nil
	if _, err := flow.Parse(doc("f", `"to": "a@example.org", "subject": "s", "template": "ticket-acknowledged"`), flow.World{Services: service.Set{"email": open(t, opt)}}); err == nil || !strings.Contains(err.Error(), `no parameter "template"`) {
		t.Errorf("without templates: %v", err)
	}

	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	engine := pawl.New(store, &pawl.Options{Poll: 20 * time.Millisecond})
	flows := map[string]*pawl.Workflow[flow.Variables, json.RawMessage]{}
	for id, config := range map[string]string{
		"template": `"to": "{{variables.to}}", "subject": "For {{variables.name}}", "template": "ticket-acknowledged", "data": {"name": "{{variables.name}}"}`,
		"field":    `"to": "{{variables.to}}", "subject": "s", "template": "ticket-acknowledged", "data": {"nam": "{{variables.name}}"}`,
		"html":     `"to": "{{variables.to}}", "subject": "s", "html": "<p>{{variables.name}}</p>"`,
	} {
		f, err := flow.Parse(doc(id, config), flow.World{Services: services})
		if err != nil {
			t.Fatal(err)
		}
		flows[id] = flow.Define(f, flow.Options{Services: services})
		if err := engine.Register(flows[id]); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	run := func(id string, in flow.Variables) error {
		r, err := flows[id].Start(ctx, engine, in)
		if err == nil {
			_, err = r.Result(ctx)
		}
		return err
	}
	name := `<b>"Ann" & Co</b> {{.n}}`
	if err := errors.Join(run("template", flow.Variables{"to": "a@example.org", "name": name}), run("html", flow.Variables{"to": "a@example.org", "name": name})); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]error{
		"field": run("field", flow.Variables{"to": "a@example.org", "name": "x"}), "no address": run("template", flow.Variables{"to": "ann", "name": "x"}),
		"unresolved": run("template", flow.Variables{"name": "x"}), "null": run("template", flow.Variables{"to": nil, "name": "x"}), "two": run("template", flow.Variables{"to": "a@example.org, b@example.org", "name": "x"}),
	} {
		if want == nil {
			t.Errorf("%s: it was sent", in)
		}
	}
	got := post.messages()
	if len(got) != 2 {
		t.Fatalf("%d messages were sent, want 2", len(got))
	}
	m := parsed(t, got[0].text)
	parts := leaves(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
	equal(t, "text", parts[0], "text/plain  Dear "+name)
	if !strings.Contains(parts[1], `<p title="&lt;b&gt;&#34;Ann&#34; &amp; Co&lt;/b&gt; {{.n}}">Dear &lt;b&gt;&#34;Ann&#34; &amp; Co&lt;/b&gt; {{.n}}</p>`) {
		t.Errorf("the HTML is %s", parts[1])
	}
	m = parsed(t, got[1].text)
	if html := leaves(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)[0]; !strings.Contains(html, `<p>&lt;b&gt;&#34;Ann&#34; &amp; Co&lt;/b&gt; {{.n}}</p>`) {
		t.Errorf("the HTML is %s", html)
	}
}
