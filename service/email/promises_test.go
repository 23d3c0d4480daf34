package email_test

import (
	"testing"
	"testing/fstest"

	"github.com/emersion/go-smtp"

	"github.com/pawlrun/pawl/service/servicetest"
)

func TestTheServiceKeepsItsPromises(t *testing.T) {
	hold := make(chan struct{})
	s := serve(t, &server{onRcpt: func(to string) error {
		if to == "slow@example.org" {
			<-hold
		}
		return nil
	}, onData: func(*smtp.Conn) error { return nil }}, true, false)
	t.Cleanup(func() { close(hold) }) // before the server's own end
	opt := s.options()
	opt.Templates = fstest.MapFS{"hi.txt": {Data: []byte("Hello {{.name}}.")}}
	servicetest.Check(t, open(t, opt), servicetest.Options{
		Examples: []servicetest.Example{{Params: plainParams}, {Action: "send", Params: `{"to": ["a@example.org"], "bcc": "b@example.org", "subject": "s", "template": "hi", "data": {"name": "Ann"}}`}},
		Slow:     servicetest.Example{Params: `{"to": "slow@example.org", "subject": "s", "text": "t"}`},
		Effects:  func() int { return len(s.messages()) },
		Secrets:  []string{password},
	})
}
