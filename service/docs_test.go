package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/email"
	"github.com/pawlrun/pawl/service/servicetest"
)

// What docs/services.md shows: its Go code stands here word for word.

func servicesOfThePage(secret func(context.Context, string) (string, error), signing func(context.Context, string) ([]string, error)) (service.Set, error) {
	web, err := service.NewHTTP(service.HTTPOptions{})
	if err != nil {
		return nil, err
	}
	description, err := os.ReadFile("tickets.yaml")
	if err != nil {
		return nil, err
	}
	tickets, err := service.Describe(description, service.DescribeOptions{Secret: secret, Env: os.LookupEnv})
	if err != nil {
		return nil, err
	}
	hooks, err := service.NewWebhook(service.WebhookOptions{Secrets: signing})
	if err != nil {
		return nil, err
	}
	return service.Set{"http": web, "tickets": tickets, "webhook": hooks}, nil
}

func insideOfThePage() (*service.HTTP, error) {
	inside := service.Network{
		Allow: []string{"vault.internal:8200", "10.20.0.0/16", "*.corp.example", "[fd00:20::/32]:*"},
		Deny:  []string{"10.20.66.0/24"},
	}
	return service.NewHTTP(service.HTTPOptions{Network: inside})
}

func petsOfThePage(document []byte, secret func(context.Context, string) (string, error)) (*service.Described, error) {
	return service.Describe(document, service.DescribeOptions{
		Actions: []string{"showPet", "addPet"},
		BaseURL: "https://pets.example.com/v1",
		Auth:    map[string]string{"api_key": "{{secrets.pets}}"},
		Secret:  secret,
	})
}

func moreOfThePage(password, token string, mails fs.FS) (service.Set, error) {
	mail, err := email.New(email.Options{Host: "smtp.example.org", User: "mailer", Password: password, From: "Support <support@example.org>", Templates: mails})
	if err != nil {
		return nil, err
	}
	orders, err := database.New(database.Options{Connections: map[string]database.Connection{
		"orders": {DSN: "postgres://pawl@db.example.org/orders", Execute: true, Once: true},
		"stock":  {DSN: "sqlite:/var/lib/stock.db"},
	}})
	if err != nil {
		return nil, err
	}
	chat, err := service.NewSlack(service.SlackOptions{Token: token})
	if err != nil {
		return nil, err
	}
	return service.Set{"email": mail, "database": orders, "slack": chat}, nil
}

type clock struct{}

func (clock) Actions() []service.Action {
	return []service.Action{{
		Name: "now", Doc: "Tells the time of a zone.", Effect: service.Reads,
		Params: json.RawMessage(`{"type": "object", "additionalProperties": false, "properties": {"zone": {"type": "string"}}}`),
		Result: json.RawMessage(`{"type": "object", "required": ["time"]}`),
	}}
}

func (clock) Call(ctx context.Context, c service.Call) (any, error) {
	var p struct{ Zone string }
	in := json.NewDecoder(bytes.NewReader(c.Params))
	in.DisallowUnknownFields()
	if err := in.Decode(&p); err != nil || c.Action != "" && c.Action != "now" {
		return nil, &service.Error{Code: service.Invalid, Message: "now takes a zone, and nothing else"}
	}
	zone, err := time.LoadLocation(p.Zone)
	if err != nil {
		return nil, &service.Error{Code: service.Invalid, Message: err.Error()}
	}
	if c.DryRun {
		return service.Plan{Would: "look at the clock of " + zone.String()}, ctx.Err()
	}
	return map[string]time.Time{"time": time.Now().In(zone)}, ctx.Err()
}

func TestTheClockOfThePageKeepsItsPromises(t *testing.T) {
	servicetest.Check(t, clock{}, servicetest.Options{Examples: []servicetest.Example{{Params: `{"zone": "UTC"}`}}})
}

// blocks are those of the page in one language.
func blocks(t *testing.T, language string) (list []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		list = append(list, m[1])
	}
	return list
}

func TestThePageOfServicesIsTrue(t *testing.T) {
	source, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flush := func(code string) string { return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(code, "") }
	shown := blocks(t, "go")
	for _, block := range shown {
		if !strings.Contains(flush(string(source)), flush(block)) {
			t.Errorf("the page shows code that no test runs:\n%s", block)
		}
	}
	descriptions, flows := blocks(t, "yaml"), blocks(t, "json")
	if len(shown) != 6 || len(descriptions) != 2 || len(flows) != 6 {
		t.Fatalf("the page has %d blocks of Go, %d of YAML and %d of JSON", len(shown), len(descriptions), len(flows))
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("tickets.yaml", []byte(descriptions[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := servicesOfThePage(keys("").Secret, func(context.Context, string) ([]string, error) { return []string{oldSecret}, nil })
	if err != nil {
		t.Fatal(err)
	}
	more, err := moreOfThePage("p", "xoxb-1", fstest.MapFS{"ticket-received.txt": {Data: []byte("Dear {{.name}}")}})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(set, more)
	for _, document := range flows {
		if f, err := flow.Parse([]byte(document), flow.World{Services: set}); err != nil {
			t.Errorf("%s: %v", document, err)
		} else if len(f.Warnings) > 0 {
			t.Errorf("%s: %v", document, f.Warnings)
		}
	}
	if _, err := insideOfThePage(); err != nil {
		t.Error(err)
	}
	const document = `{"openapi": "3.1.0", "security": [{"api_key": []}], "components": {"securitySchemes": {"api_key": {"type": "apiKey", "in": "header", "name": "X-Key"}}},
		"paths": {"/pets/{id}": {"get": {"operationId": "showPet"}}, "/pets": {"post": {"operationId": "addPet"}, "get": {"operationId": "listPets", "parameters": [{"name": "c", "in": "cookie"}]}}}}`
	pet, err := petsOfThePage([]byte(document), keys("").Secret)
	if err != nil || len(pet.Actions()) != 2 {
		t.Error(err)
	}
}

// The page names each parameter of http, and none that there is not.
func TestThePageNamesAllParameters(t *testing.T) {
	text, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "## http")
	part, _, _ = strings.Cut(part, "The result is")
	var named []string
	for _, row := range regexp.MustCompile("(?m)^\\| ((?:`[A-Za-z]+`(?:, )?)+) \\|").FindAllStringSubmatch(part, -1) {
		for _, name := range regexp.MustCompile("[A-Za-z]+").FindAllString(row[1], -1) {
			named = append(named, name)
		}
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(web(t).Actions()[0].Params, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range schema.Properties {
		if !slices.Contains(named, name) {
			t.Errorf("the page does not tell of %s", name)
		}
	}
	for _, name := range named {
		if schema.Properties[name] == nil {
			t.Errorf("the page tells of %s, which is no parameter", name)
		}
	}
}
