package api_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger"
)

// A webhook that names a secret which the server's settings do not know is checked with that of its run's tenant, while it is being
// changed with the old one and the new.
func TestAWebhookIsCheckedWithASecretOfItsTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		signed := func(name, scheme string) pawl.Definition {
			return pawl.Define(name, func(c *pawl.Context, _ any) (n int, err error) {
				hook, err := pawl.NewWebhook(c, pawl.Signed(scheme, name))
				if err != nil {
					return 0, err
				}
				for req, err := range hook.All(c) {
					if err != nil {
						return n, err
					}
					if n++; string(req.Body) == "end" {
						break
					}
				}
				return n, nil
			})
		}
		known, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.GitHub, Secrets: []string{"of the settings"}})
		if err != nil {
			t.Fatal(err)
		}
		h := openOn(t, store(), api.Options{Auth: unlimited(), Verify: trigger.VerifyFunc(map[string]*trigger.Verifier{"known": known})}, signed("hub", "github"), signed("known", "github"), signed("plain", "hmac"), signed("open", "none"))
		n := 0
		sends := func(token, key, body string, want int) {
			t.Helper()
			n++
			r := h.send("POST", pawl.WebhookPath+token, body, func(r *http.Request) {
				r.Header.Set("X-Hub-Signature-256", "sha256="+macOf(key, body))
				r.Header.Set("X-GitHub-Delivery", fmt.Sprint("d", n))
			})
			if r.status != want {
				t.Errorf("signed with %q: %d %s, want %d", key, r.status, r.body, want)
			}
		}
		client, token := map[string]*api.Client{}, map[string]string{}
		for _, tenant := range []string{"", "a", "b"} {
			_, key := h.key(tenant, api.Admin)
			client[tenant] = h.as(key)
			for _, workflow := range []string{"hub", "known", "plain", "open"} {
				id := workflow + "-of-" + tenant
				if _, err := client[tenant].Start(t.Context(), api.StartRequest{Workflow: workflow, ID: id}, 0); err != nil {
					t.Fatal(err)
				}
				h.eventually("the webhook of "+id, func() bool {
					list, err := client[tenant].Hooks(t.Context(), id)
					if err == nil && len(list.Items) == 1 {
						token[workflow+tenant] = list.Items[0].Token
					}
					return token[workflow+tenant] != ""
				})
			}
		}
		put := func(tenant, name, value string, until time.Time) {
			t.Helper()
			if _, err := client[tenant].PutSecret(t.Context(), name, api.SecretRequest{Value: value, PreviousUntil: until}); err != nil {
				t.Fatal(err)
			}
		}
		sends(token["huba"], "x", "1", 503) // nobody has set it
		put("a", "hub", "of a", time.Time{})
		put("b", "hub", "of b", time.Time{})
		sends(token["huba"], "of a", "1", 202)
		sends(token["hubb"], "of b", "1", 202)
		sends(token["huba"], "of b", "1", 401)
		sends(token["hub"], "of a", "1", 503)
		put("a", "hub", "new", time.Now().Add(time.Hour))
		sends(token["huba"], "of a", "2", 202)
		sends(token["huba"], "new", "2", 202)
		sends(token["huba"], "other", "2", 401)
		put("a", "hub", "newest", time.Time{}) // the next request sees it
		sends(token["huba"], "new", "3", 401)
		sends(token["huba"], "of a", "3", 401)
		sends(token["huba"], "newest", "end", 202)
		// What the settings know goes before.
		put("a", "known", "of a", time.Time{})
		sends(token["knowna"], "of a", "1", 401)
		sends(token["knowna"], "of the settings", "1", 202)
		// A secret does not let pass what asks for no signature, or for one whose header nobody has said.
		put("a", "open", "of a", time.Time{})
		put("a", "plain", "of a", time.Time{})
		sends(token["opena"], "of a", "1", 503)
		sends(token["plaina"], "of a", "1", 503)
		if run, err := client["a"].Run(t.Context(), "hub-of-a", 20*time.Second); err != nil || string(run.Result) != "4" {
			t.Errorf("the run got %s requests, %v", run.Result, err)
		}
		if !strings.Contains(h.log.String(), `secret \"hub\"`) || strings.Contains(h.log.String(), "newest") {
			t.Error(h.log)
		}
	})
}

func TestAServerWithoutSecretsSaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		e := pawl.New(store(), nil)
		defer e.Close()
		ask := func(opt api.Options, method, path, body string) (int, string) {
			rec := httptest.NewRecorder()
			api.New(e, opt).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body)))
			return rec.Code, rec.Body.String()
		}
		tried := 0
		for _, d := range newContract(t).operations {
			if !strings.HasPrefix(d.path, "/api/secret") {
				continue
			}
			tried++
			if code, text := ask(api.Options{}, d.method, pathOf(d, nowhere), bodies[d.OperationID]); code != 409 || !strings.Contains(text, "keeps no secrets") {
				t.Errorf("%s: %d %s", d.OperationID, code, text)
			}
		}
		if tried != 6 {
			t.Errorf("%d operations were tried", tried)
		}
		// One that has no key tells how to give it one.
		code, text := ask(api.Options{Secrets: &secret.Store{Engine: e}}, "PUT", "/api/secrets/a", `{"value":"hush-hush"}`)
		if code != 409 || !strings.Contains(text, "PAWL_ENCRYPTION_KEYS") || strings.Contains(text, "hush-hush") {
			t.Errorf("%d %s", code, text)
		}
	})
}

// guard is a service that wants a secret, and says whether it was the right one.
type guard struct{ want func(tenant string) string }

func (g guard) Actions() []service.Action {
	return []service.Action{{Name: "enter", Effect: service.Reads, Params: json.RawMessage(`{"type":"object"}`)}}
}

func (g guard) Call(ctx context.Context, c service.Call) (any, error) {
	var params struct{ Key string }
	if err := json.Unmarshal(c.Params, &params); err != nil {
		return nil, err
	}
	if params.Key != g.want(pawl.InfoOf(ctx).Tenant) {
		return nil, pawl.Fatal(errors.New("the door stays closed"))
	}
	return "the door opens", nil
}

// parrot is a service that says again what it was given, in an answer, an error or a panic, as other sides do.
type parrot struct{}

func (parrot) Actions() []service.Action {
	params := json.RawMessage(`{"type":"object"}`)
	return []service.Action{{Name: "answers", Effect: service.Reads, Params: params}, {Name: "fails", Effect: service.Reads, Params: params}, {Name: "panics", Effect: service.Reads, Params: params}}
}

func (parrot) Call(_ context.Context, c service.Call) (any, error) {
	var params struct{ Key string }
	if err := json.Unmarshal(c.Params, &params); err != nil {
		return nil, err
	}
	said := "the key " + params.Key + " is " + base64.StdEncoding.EncodeToString([]byte("user:"+params.Key)) + " and " + hex.EncodeToString([]byte(params.Key))
	switch c.Action {
	case "fails":
		return nil, &service.Error{Code: service.Denied, Message: said, Err: fmt.Errorf("GET https://example.org/?key=%s: 401", url.QueryEscape(params.Key))}
	case "panics":
		panic(said)
	}
	return map[string]any{"said": said, params.Key: true}, nil
}

// parrots are flows that give the secret door to each action of a parrot.
func parrots(t testing.TB, secrets func(ctx context.Context, tenant, name string) (string, error)) (defs []pawl.Definition) {
	t.Helper()
	services := service.Set{"parrot": parrot{}}
	for _, action := range (parrot{}).Actions() {
		f, err := flow.Parse(fmt.Appendf(nil, `{"id": "parrot-%[1]s", "steps": [{"id": "say", "type": "service", "config": {"service": "parrot", "action": %[1]q, "key": "{{secrets.door}}"}, "next": "end"}]}`, action.Name), flow.World{Services: services})
		if err != nil {
			t.Fatal(err)
		}
		defs = append(defs, flow.Define(f, flow.Options{Services: services, Secret: secrets}))
	}
	return defs
}

// guarded is a flow that gives a service a secret.
func guarded(t testing.TB, id string, g guard, secrets func(ctx context.Context, tenant, name string) (string, error)) pawl.Definition {
	t.Helper()
	services := service.Set{"guard": g}
	f, err := flow.Parse(fmt.Appendf(nil, `{"id": %q, "steps": [{"id": "door", "type": "service", "config": {"service": "guard", "key": "{{secrets.door}}"}, "next": "end"}]}`, id), flow.World{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	return flow.Define(f, flow.Options{Services: services, Secret: secrets})
}

// A flow's services get the secrets of the tenant whose run it is.
func TestAFlowHasTheSecretsOfItsTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		keys := encryptionKeys(t, secret.NewKey())
		s := store()
		secrets := secret.Store{Engine: pawl.New(s, nil), Keys: keys}
		t.Cleanup(func() { secrets.Engine.Close() })
		h := openOn(t, s, api.Options{Auth: unlimited(), Secrets: &secrets}, guarded(t, "guarded", guard{func(tenant string) string { return "door of " + tenant }}, secrets.Value))
		for _, tenant := range []string{"", "a", "b"} {
			_, key := h.key(tenant, api.Admin)
			c := h.as(key)
			if tenant == "b" { // which has it wrong
				tenant = "a"
			}
			if _, err := c.PutSecret(t.Context(), "door", api.SecretRequest{Value: "door of " + tenant}); err != nil {
				t.Fatal(err)
			}
		}
		for tenant, want := range map[string]pawl.State{"": pawl.Completed, "a": pawl.Completed, "b": pawl.Failed} {
			_, key := h.key(tenant, api.Admin)
			run, err := h.as(key).Start(t.Context(), api.StartRequest{Workflow: "guarded", Input: json.RawMessage(`{}`)}, 20*time.Second)
			if err != nil || run.State != want || strings.Contains(fmt.Sprint(run), "door of") {
				t.Errorf("tenant %q: %+v %v, want %s", tenant, run, err, want)
			}
		}
	})
}

// Who deploys a flow is told of secrets that its tenant does not have, with names of the tenant's alone; who may only look is not.
func TestADeploymentTellsOfSecretsThatAreNotThere(t *testing.T) {
	const doc = `{"id":"paid","trigger":{"type":"webhook","path":"/paid","scheme":"github","secret":"strpe"},"steps":[
{"id":"say","type":"service","config":{"service":"desk","text":"{{secrets.dor}}"},"next":"end"}]}`
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, other := h.key("b", api.Admin)
		_, key := h.key("a", api.WorkflowsRead, api.WorkflowsWrite, api.SecretsWrite)
		_, looks := h.key("a", api.WorkflowsRead)
		_, lists := h.key("a", api.WorkflowsRead, api.SecretsRead)
		c := h.as(key)
		for c, name := range map[*api.Client]string{c: "stripe", h.as(other): "door"} {
			if _, err := c.PutSecret(t.Context(), name, api.SecretRequest{Value: "SENTINEL-5e1f"}); err != nil {
				t.Fatal(err)
			}
		}
		told := func(all []api.Finding) (out []string) {
			for _, p := range all {
				if out = append(out, fmt.Sprintf("%d %s %s; %s", p.Line, p.Pointer, p.Message, p.Hint)); strings.Contains(fmt.Sprint(p), "SENTINEL") {
					t.Errorf("%+v has a value", p)
				}
			}
			return out
		}
		want := []string{`1 /trigger/secret there is no secret "strpe": until it is set, requests are refused; did you mean "stripe"? Or set it: pawl secrets set strpe`,
			`2 /steps/0/config/text there is no secret "dor": until it is set, calls with it fail; set it: pawl secrets set dor`}
		for _, dry := range []bool{true, false} {
			d, err := c.Deploy(t.Context(), []byte(doc), api.DeployOptions{DryRun: dry})
			if got := told(d.Warnings); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q %v, want %q", got, err, want)
			}
		}
		for secret, want := range map[string][]string{looks: nil, lists: want, key: want} {
			for _, body := range []string{doc, ""} {
				r := h.send("POST", "/api/workflows/paid/validate", body, bearer(secret))
				var v api.Validation
				r.into(t, &v)
				got := told(v.Warnings)
				if body == "" { // as it is stored: on one line, sorted by names
					slices.Reverse(got)
					for i := range got {
						got[i] = strconv.Itoa(i+1) + got[i][1:]
					}
				}
				if r.status != 200 || !v.Valid || !slices.Equal(got, want) {
					t.Errorf("%d %s, want %q", r.status, r.body, want)
				}
			}
		}
		for _, name := range []string{"strpe", "dor"} {
			if _, err := c.PutSecret(t.Context(), name, api.SecretRequest{Value: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if d, err := c.Deploy(t.Context(), []byte(doc), api.DeployOptions{}); err != nil || len(d.Warnings) > 0 {
			t.Errorf("%+v %v", d, err)
		}
	})
}
