package service_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/servicetest"
)

func TestSlackKeepsItsPromises(t *testing.T) {
	w := openWorkspace(t)
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that its caller has gone when it waits for no more of it
		<-r.Context().Done()
	})
	options := servicetest.Options{
		Examples: []servicetest.Example{{Params: `{"channel": "#billing", "text": "t"}`}, {Action: "postMessage", Params: `{"channel": "C1", "message": "t", "threadTs": "1.2"}`},
			{Action: "requestApproval", Params: `{"channel": "C1", "message": "t", "approval": "a"}`}, {Action: "updateMessage", Params: `{"channel": "C1", "ts": "1700000000.000001", "text": "u"}`}},
		Effects: func() int { _, n := w.said(); return n },
		Secrets: []string{slackToken},
	}
	if _, err := slack(t, w.slack(t), "", "k", "channel", "C1", "text", "to be changed"); err != nil {
		t.Fatal(err)
	}
	servicetest.Check(t, w.slack(t), options)
	hooks := func(o *service.SlackOptions) {
		o.Token, o.Webhooks = "", map[string]string{"": w.url + "/services/T1/hush-hush-path", "slow": slow.URL + "/services/T1/hush-hush-path"}
	}
	options.Examples = []servicetest.Example{{Params: `{"text": "t"}`}}
	options.Slow = servicetest.Example{Params: `{"channel": "slow", "text": "t"}`}
	options.Secrets = []string{"hush"}
	servicetest.Check(t, w.slack(t, hooks), options)
}
