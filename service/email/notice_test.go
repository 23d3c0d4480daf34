package email_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
)

// Approvers get a mail each, by a real mail server, with a link of their own that decides; a line of the title can't add headers.
func TestJ51_approversGetMailsWithLinks(t *testing.T) {
	post := serve(t, &server{}, true, false)
	services := service.Set{"email": open(t, post.options())}
	f, err := flow.Parse([]byte(`{"id": "pay", "steps": [{"id": "ask", "type": "wait", "config": {"for": "approval", "title": "Pay {{variables.who}}?", "message": "It is\nlate.",
		"approvers": ["ann@example.org", "bob@example.org", "carl"], "notify": [{"service": "email"}]}, "next": {"approved": "end", "rejected": "fail"}}]}`), flow.World{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	engine := pawl.New(store, &pawl.Options{Poll: 20 * time.Millisecond, Secret: []byte("a secret that is kept for the test only")})
	w := flow.Define(f, flow.Options{Services: services, BaseURL: "https://pawl.example.org"})
	if err := engine.Register(w); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	run, err := w.Start(ctx, engine, flow.Variables{"who": "Ann\r\nBcc: eve@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	for len(post.messages()) < 2 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	got := post.messages()
	links := map[string]string{}
	for _, one := range got {
		m := parsed(t, one.text)
		equal(t, "subject", m.Header.Get("Subject"), "Pay Ann Bcc: eve@example.org?")
		text := leaves(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)[0]
		if !strings.Contains(text, "It is\r\nlate.") && !strings.Contains(text, "It is\nlate.") {
			t.Errorf("the text is %q", text)
		}
		_, link, _ := strings.Cut(text, "https://pawl.example.org"+approval.LinkPath)
		links[strings.Join(one.to, " ")] = strings.Fields(link)[0]
	}
	if len(links) != 2 {
		t.Fatalf("mails went to %v", links)
	}
	a, err := (approval.Links{Engine: engine}).Decide(ctx, links["bob@example.org"], approval.Answer{Approved: true})
	if err != nil || a.Decision == nil && a.State != approval.Pending {
		t.Fatalf("%+v, %v", a, err)
	}
	out, err := run.Result(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ By string }
	if err := json.Unmarshal(out, &d); err != nil || d.By != "bob@example.org" {
		t.Errorf("it was decided by %q: %s", d.By, out)
	}
	equal(t, "mails", len(post.messages()), 2)
}
