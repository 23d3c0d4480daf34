package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
)

// keeps is a world whose tenant has the secrets stripe and hub, and whose settings have two for webhooks.
func keeps(looks *[]string) flow.World {
	w := world()
	have := []string{"hub", "stripe"}
	w.Signers = map[string]string{"door": "hmac", "shop": "stripe"}
	w.Secret = func(name string) ([]string, bool) {
		*looks = append(*looks, name)
		return have, !slices.Contains(have, name)
	}
	return w
}

func opened(trigger string, steps ...string) string {
	return `{"id": "f", "trigger": {"type": "webhook", "path": "/x", ` + trigger + `}, "steps": [` + strings.Join(steps, ",\n") + `]}`
}

func awaits(config string) string {
	return `{"id": "w", "type": "wait", "config": {"for": "webhook", ` + config + `}, "next": "end"}`
}

// A secret that is not there is warned of where it is named, with the one that was meant and how to set it.
func TestSecretsThatAreNotThereAreWarnedOf(t *testing.T) {
	const mail = `, "approvers": ["ann@example.com"], "notify": [{"service": "desk", "to": "ann@example.com", "text": "{{secrets.stirpe}}"}]`
	for name, test := range map[string]struct {
		doc  string
		want []string
	}{
		"there":                     {opened(`"scheme": "github", "secret": "hub"`, send("a", end, `, "text": "{{secrets.stripe}}"`)), nil},
		"in the settings":           {opened(`"scheme": "stripe", "secret": "shop"`, step("a", end)), nil},
		"of the other scheme":       {opened(`"scheme": "github", "secret": "shop"`, step("a", end)), []string{`1:88: /trigger/secret: the secret "shop" of the server's settings is for signatures of stripe: requests are refused; name another secret, or mend the settings`}},
		"a trigger":                 {opened(`"scheme": "github", "secret": "hubb"`, step("a", end)), []string{`1:88: /trigger/secret: there is no secret "hubb": until it is set, requests are refused; did you mean "hub"? Or set it: pawl secrets set hubb`}},
		"near one of the settings":  {opened(`"scheme": "stripe", "secret": "shpo"`, step("a", end)), []string{`1:88: /trigger/secret: there is no secret "shpo": until it is set, requests are refused; did you mean "shop"? Or set it: pawl secrets set shpo`}},
		"no name":                   {opened(`"scheme": "stripe", "secret": "my; rm"`, step("a", end)), []string{`1:88: /trigger/secret: there is no secret "my; rm": until it is set, requests are refused; name one that can be set: letters, digits, _, - and .`}},
		"hmac of a trigger":         {opened(`"scheme": "hmac", "header": "X-Sig", "secret": "hub"`, step("a", end)), nil},
		"nothing is signed":         {opened(`"scheme": "none"`, step("a", end)), nil},
		"a wait":                    {of(awaits(`"scheme": "github", "secret": "other"`)), []string{`/steps/0/config/secret: there is no secret "other": until it is set, requests are refused; set it: pawl secrets set other`}},
		"a wait within":             {of(branches("p", end, "", awaits(`"scheme": "github", "secret": "other"`))), []string{`/steps/0/config/branches/0/steps/0/config/secret: there is no secret "other"`}},
		"hmac of a wait":            {of(awaits(`"scheme": "hmac", "secret": "hub"`)), []string{`/steps/0/config/secret: the server's settings have no secret "hub": until they do, requests are refused; give it under webhooks`}},
		"hmac of the settings":      {of(awaits(`"scheme": "hmac", "secret": "door"`)), nil},
		"a step":                    {of(send("a", end, `, "text": "{{secrets.stirpe}}"`)), []string{`/steps/0/config/text: there is no secret "stirpe": until it is set, calls with it fail; did you mean "stripe"? Or set it: pawl secrets set stirpe`}},
		"settings are no services":  {of(send("a", end, `, "text": "{{secrets.shop}}"`)), []string{`/steps/0/config/text: there is no secret "shop"`}},
		"once":                      {opened(`"scheme": "github", "secret": "other"`, send("a", `"b"`, `, "text": "{{secrets.other}}"`), send("b", end, `, "text": "{{secrets.other}}"`)), []string{`1:88: /trigger/secret: there is no secret "other"`}},
		"who is told":               {of(`{"id": "w", "type": "wait", "config": {"for": "approval"` + mail + `}, "next": "end"}`), []string{`/steps/0/config/notify/0/text: there is no secret "stirpe"`}},
		"that a service signs with": {of(send("a", end, `, "key": "stirpe"`)), []string{`/steps/0/config/key: there is no secret "stirpe": until it is set, calls with it fail; did you mean "stripe"?`}},
		"that a run chooses":        {of(send("a", end, `, "key": "{{variables.x}}"`)), nil},
		"it can't stand there":      {of(ask("a", end, `, "system": "{{secrets.other}}"`)), nil}, // which is a fault, of another kind
	} {
		t.Run(name, func(t *testing.T) {
			var looks []string
			f, err := flow.Parse([]byte(test.doc), keeps(&looks))
			if err != nil && name != "it can't stand there" {
				t.Fatal(err)
			}
			var told []string
			if f != nil {
				for _, p := range f.Warnings {
					if strings.Contains(p.Message, "secret ") {
						told = append(told, p.String())
					}
				}
			}
			if !slices.EqualFunc(told, test.want, strings.Contains) {
				t.Errorf("told %q, want %q", told, test.want)
			}
			// Where nothing is known of secrets, nothing is said.
			w := world()
			w.Signers = map[string]string{"shop": "stripe"}
			if f, _ := flow.Parse([]byte(test.doc), w); f != nil && slices.ContainsFunc(f.Warnings, func(p flow.Problem) bool { return strings.Contains(p.Message, "secret ") }) {
				t.Errorf("told %q, and nothing is known", f.Warnings)
			}
		})
	}
}

// A document asks the store for a bounded number of secrets, each once.
func TestSecretsAreLookedForOnceAndNotWithoutEnd(t *testing.T) {
	var steps, looks []string
	for i := range 300 {
		steps = append(steps, send(fmt.Sprint("a", i), fmt.Sprintf(`"b%d"`, i), fmt.Sprintf(`, "text": "{{secrets.s%d}}"`, i)), send(fmt.Sprint("b", i), fmt.Sprintf(`"a%d"`, i+1), fmt.Sprintf(`, "text": "{{secrets.s%d}}"`, i)))
	}
	if _, err := flow.Parse([]byte(of(append(steps, step("a300", end))...)), keeps(&looks)); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(looks); len(looks) != 100 || len(slices.Compact(looks)) != 100 {
		t.Errorf("%d looks: %v", len(looks), looks)
	}
}

// A service that is described by data is given secrets that no flow names; they are warned of in the steps that call it.
func TestSecretsOfServicesAreWarnedOf(t *testing.T) {
	tickets, err := service.Describe([]byte(`{"name": "tickets", "baseURL": "https://tickets.example", "auth": {"bearer": "{{secrets.tickets}}"}, "actions": {
	  "open": {"path": "/open", "method": "POST"}, "look": {"path": "/look", "auth": {"bearer": "{{secrets.stripe}}"}}, "free": {"path": "/free", "auth": null}}}`),
		service.DescribeOptions{Secret: func(context.Context, string) (string, error) { return "", errors.New("nobody looks") }})
	if err != nil {
		t.Fatal(err)
	}
	const told = `: there is no secret "tickets": until it is set, calls of the service fail; set it: pawl secrets set tickets`
	calls := func(action string) string {
		return `{"id": "a", "type": "service", "config": {"service": "tickets", "action": "` + action + `"}, "next": "end"}`
	}
	for name, test := range map[string]struct{ step, at string }{
		"a step":       {calls("open"), "/steps/0/config/service"},
		"within":       {branches("p", end, "", calls("open")), "/steps/0/config/branches/0/steps/0/config/service"},
		"is there":     {calls("look"), ""},
		"needs none":   {calls("free"), ""},
		"a tool":       {agentStep(`"instructions": "Help.", "tools": ["tickets.look", "tickets.open"]`), "/steps/0/config/tools/1"},
		"who is told":  {`{"id": "w", "type": "wait", "config": {"for": "approval", "notify": [{"service": "tickets", "action": "open"}]}, "next": "end"}`, "/steps/0/config/notify/0/service"},
		"who asks not": {step("a", end), ""},
	} {
		var looks []string
		w := keeps(&looks)
		w.Services["tickets"] = tickets
		f, err := flow.Parse([]byte(of(test.step)), w)
		if err != nil {
			t.Fatal(name, err)
		}
		found := slices.ContainsFunc(f.Warnings, func(p flow.Problem) bool { return strings.HasSuffix(p.String(), test.at+told) })
		if some := slices.ContainsFunc(f.Warnings, func(p flow.Problem) bool { return strings.Contains(p.Message, "secret ") }); found != (test.at != "") || some != found {
			t.Errorf("%s: told %q", name, f.Warnings)
		}
	}
}
