package email_test

import (
	"testing"

	"github.com/pawlrun/pawl/service/servicetest"
)

func TestTheServiceKeepsItsPromises(t *testing.T) {
	s := serve(t, &server{}, true, false)
	servicetest.Check(t, open(t, s.options()), servicetest.Options{
		Examples: []servicetest.Example{{Params: plainParams}}, Effects: func() int { return len(s.messages()) }, Secrets: []string{password},
	})
}
