package service_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/servicetest"
)

func TestOurServicesKeepTheirPromises(t *testing.T) {
	var served atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether who asks is still there
		if served.Add(1); strings.HasSuffix(r.URL.Path, "/slow") {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 1}`))
	})
	effects := func() int { return int(served.Load()) }
	pet, err := pets(t, s.URL, "showPet", "pets-replace", "addPet")
	if err != nil {
		t.Fatal(err)
	}
	slow, w := keys(s.URL), openWorkspace(t)
	for name, c := range map[string]struct {
		s   service.Service
		opt servicetest.Options
	}{
		"http": {web(t), servicetest.Options{
			Examples: []servicetest.Example{{Params: fmt.Sprintf(`{"url": %q}`, s.URL)}, {Action: "request", Params: fmt.Sprintf(`{"url": %q, "method": "POST", "body": {"a": 1}, "auth": {"bearer": "s3cret-key"}, "headers": {"Cookie": "s3cret-key"}}`, s.URL)}},
			Slow:     servicetest.Example{Params: fmt.Sprintf(`{"url": "%s/slow"}`, s.URL)},
			Secrets:  []string{"s3cret-key"},
		}},
		"webhook": {sender(t, newSecret, oldSecret), servicetest.Options{
			Examples: []servicetest.Example{{Params: fmt.Sprintf(`{"url": %q, "data": {"a": 1}, "event": "a.b"}`, s.URL)}, {Params: fmt.Sprintf(`{"url": %q, "data": 1, "scheme": "github"}`, s.URL)}},
			Slow:     servicetest.Example{Params: fmt.Sprintf(`{"url": "%s/slow", "data": 1}`, s.URL)},
			Secrets:  []string{oldSecret, newSecret},
		}},
		"described": {described(t, testdata(t, "tickets.yaml")+"  slow: {path: /slow, doc: Waits.}\n", slow), servicetest.Options{
			Examples: []servicetest.Example{{Params: `{"title": "x"}`}, {Action: "show", Params: `{"id": 7}`}},
			Slow:     servicetest.Example{Action: "slow", Params: "{}"},
			Secrets:  []string{"s3cret-of-tickets"},
		}},
		"slack": {w.slack(t), servicetest.Options{
			Examples: []servicetest.Example{{Params: `{"channel": "#billing", "message": "hello"}`}},
			Secrets:  []string{slackToken},
		}},
		"OpenAPI": {pet, servicetest.Options{
			Examples: []servicetest.Example{{Params: `{"petId": 1}`}, {Action: "pets-replace", Params: `{"petId": 1, "body": {"name": "x"}}`}},
			Secrets:  []string{"s3cret-of-pets"},
		}},
	} {
		if c.opt.Effects = effects; name == "slack" {
			c.opt.Effects = func() int { _, calls := w.said(); return calls }
		}
		t.Run(name, func(t *testing.T) { servicetest.Check(t, c.s, c.opt) })
	}
}
