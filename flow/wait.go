package flow

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// wait waits for a person, an event, a request or a time.
type wait struct {
	what      string
	timeout   time.Duration // 0: none; of an approval a week
	onTimeout string
	event     string
	correlate value
	schema    json.RawMessage
	form      *schema // the same, of an event or a request
	title     value
	message   value
	details   value
	remind    time.Duration
	approvers []string
	need      int
	door      []pawl.HookOption // how a webhook takes requests
	notices   []*notice
}

func readWait(f *findings, s *step, config *node, world World) worker {
	w := &wait{
		what: config.get("for").str(), timeout: milliseconds(config.get("timeoutMs")), onTimeout: config.get("onTimeout").str(),
		event: config.get("event").str(), correlate: readValue(f, config.get("correlate")), title: readValue(f, config.get("title")),
		message: readValue(f, config.get("message")), details: readValue(f, config.get("details")),
		remind: milliseconds(config.get("remindMs")), approvers: config.get("approvers").strs(), need: config.get("need").int(0),
	}
	if n := config.get("schema"); n.is(objectKind) {
		if w.schema = schemaOf(f, n); w.schema != nil && w.what == "approval" && n.get("type").str() != "object" {
			f.fault(n, `give it "type": "object"`, "the schema of an approval is that of a form, which is an object")
		}
	}
	only := func(what string, names ...string) {
		for _, name := range names {
			if n := config.get(name); n != nil && w.what != what {
				f.fault(n, "", "%s has no meaning where the wait is for %q", name, w.what)
			}
		}
	}
	if w.schema != nil && w.what != "approval" {
		form, _ := compile(w.schema) // it is one
		w.form = &form
	}
	if n := config.get("schema"); n != nil && w.what == "delay" {
		f.fault(n, "", "schema has no meaning for a delay: nothing comes")
	}
	only("approval", "approvers", "need", "title", "message", "details", "remindMs", "notify")
	only("event", "event", "correlate")
	only("webhook", "scheme", "secret", "respond")
	w.readDoor(f, config)
	if w.what == "approval" {
		w.notices = readNotices(f, config, w.approvers, world)
		w.checkPeople(f, config)
	}
	switch {
	case w.what == "delay" && w.timeout == 0:
		f.fault(config, `give "timeoutMs"`, "a delay needs its length")
	case w.what == "event" && w.event == "":
		f.fault(config, "", `the field "event" is missing`)
	case w.what == "delay" && w.onTimeout != "":
		f.fault(config.get("onTimeout"), "its end is what it waits for: use next", "a delay has no timeout")
	}
	return w
}

// checkPeople tells what would fail each run that comes to an approval, or remind nobody.
func (w *wait) checkPeople(f *findings, config *node) {
	able := map[string]bool{}
	for _, name := range w.approvers {
		able[name] = true
	}
	if n := config.get("need"); n != nil && len(able) > 0 && w.need > len(able) {
		f.fault(n, "name more approvers, or need fewer", "%d must approve, and only %d may", w.need, len(able))
	}
	at := config.get("remindMs")
	if at == nil || w.remind <= 0 {
		return
	}
	ends := cmp.Or(w.timeout, approval.DefaultExpires)
	switch {
	case ends/w.remind > approval.MaxReminders:
		f.fault(at, fmt.Sprintf("remind every %v or more seldom", ends/approval.MaxReminders), "every %v is more than %d reminders until its end after %v", w.remind, approval.MaxReminders, ends)
	case w.remind >= ends:
		f.warn(at, `remind earlier, or give a longer "timeoutMs"`, "nobody is reminded, as it ends after %v", ends)
	case len(w.notices) == 0:
		f.warn(at, `say how: "notify": [{"service": "email", "to": "ann@example.com"}]`, "nobody is reminded, as nobody is told")
	}
}

func (w *wait) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	var r result
	var err error
	if w.what == "approval" {
		r, err = w.ask(x, c, s, in) // which is known by the step's id
	} else {
		event := ""
		if event, err = w.awaited(in); err != nil {
			return result{}, refuse(c, s, err)
		}
		var hook *pawl.Webhook
		if w.what == "webhook" {
			if hook, err = x.webhook(c, s, in); err != nil {
				return result{}, err
			}
			delete(in.callbacks.open, s)
		}
		r, err = under(c, s, func(c *pawl.Context) (result, error) { return w.await(c, event, hook) })
	}
	if errors.Is(err, pawl.ErrTimeout) && w.onTimeout != "" {
		return result{to: w.onTimeout, failed: failureOf(err), status: "timed out"}, nil
	}
	if errors.Is(err, pawl.ErrTimeout) && w.timeout > 0 {
		err = &pawl.StepError{Step: s.id, Attempts: 1, Err: fmt.Errorf("nobody came within %v: %w", w.timeout, err)}
	}
	return r, err
}

// awaited is the name of the event that the run waits for.
func (w *wait) awaited(in *scope) (string, error) {
	if w.correlate.template == nil && w.correlate.constant == nil {
		return w.event, nil
	}
	by, err := w.correlate.fill(newFilling(in.root))
	return w.event + ":" + textOf(by), err
}

func (w *wait) await(c *pawl.Context, event string, hook *pawl.Webhook) (result, error) {
	var opts []pawl.WaitOption
	if w.timeout > 0 {
		opts = append(opts, pawl.Timeout(w.timeout))
	}
	switch w.what {
	case "delay":
		return result{}, c.Sleep(w.timeout)
	case "event":
		data, err := pawl.WaitFor[json.RawMessage](c, event, opts...)
		if err != nil {
			return result{}, err
		}
		v, err := decode(data)
		if err != nil {
			return result{}, err
		}
		return w.came(c, "the data of event "+w.event, v, v)
	default: // a webhook
		request, err := hook.Wait(c, opts...)
		if err == nil || errors.Is(err, pawl.ErrTimeout) { // who comes later is told that it is over
			err = cmp.Or(hook.Close(c), err)
		}
		if err != nil {
			return result{}, err
		}
		request.URL = strings.ReplaceAll(request.URL, hook.Token(), pawl.HiddenToken)
		v := requestValue(request)
		return w.came(c, "the body of the request", v["body"], v)
	}
}

// came makes what came the output, if it is what the schema says.
func (w *wait) came(c *pawl.Context, what string, body, output any) (result, error) {
	if w.form != nil {
		data, err := json.Marshal(body)
		if err == nil {
			err = w.form.check(what, data)
		}
		if err != nil {
			return result{}, pawl.Do(c, "schema", func(context.Context) error { return pawl.Fatal(err) })
		}
	}
	return result{output: output}, nil
}

// ask asks a person.
func (w *wait) ask(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	q := approval.Request{Schema: w.schema, Approvers: w.approvers, Need: w.need, Every: w.remind, Expires: w.timeout, BaseURL: x.opt.BaseURL}
	for _, n := range w.notices {
		q.Notifiers = append(q.Notifiers, n.notifier(x, s, in, w.schema != nil))
	}
	var err error
	filled := newFilling(in.root)
	fill := func(v value) string {
		if err != nil || v.template == nil {
			s, _ := v.constant.(string)
			return s
		}
		var text string
		text, err = v.template.text(filled, nil)
		return text
	}
	if q.Title, q.Message = fill(w.title), fill(w.message); err == nil {
		q.Details, err = w.details.fill(filled)
	}
	if err != nil {
		return result{}, refuse(c, s, err)
	}
	d, err := approval.Ask(c, s.id, q)
	if err != nil {
		return result{}, err
	}
	out := map[string]any{"approved": d.Approved, "by": d.By, "comment": d.Comment, "at": at(d.At)}
	if d.Form != nil {
		if out["form"], err = decode(d.Form); err != nil {
			return result{}, err
		}
	}
	by := "rejected"
	if d.Approved {
		by = "approved"
	}
	return result{output: out, by: by}, nil
}

// readDoor reads how a webhook takes requests.
func (w *wait) readDoor(f *findings, config *node) {
	if w.what != "webhook" {
		return
	}
	scheme, secret := config.get("scheme").str(), config.get("secret").str()
	switch {
	case scheme != "" && secret == "":
		f.fault(config.get("scheme"), `give "secret"`, "requests signed by %s need the name of a secret", scheme)
	case scheme == "" && secret != "":
		f.fault(config.get("secret"), `give "scheme"`, "nothing says how requests are signed with it")
	case scheme != "":
		w.door = append(w.door, pawl.Signed(scheme, secret))
	}
	if w.schema != nil {
		w.door = append(w.door, pawl.BodySchema(w.schema))
	}
	if answer := response(config.get("respond")); answer != nil {
		if err := answer.Check(); err != nil {
			f.fault(config.get("respond"), "", "%s", why(err))
		}
		header := http.Header{}
		for name, value := range answer.Headers {
			header.Set(name, value)
		}
		body := []byte(answer.Body)
		if text := config.get("respond").get("body"); text.is(textKind) {
			body = []byte(text.text)
		} else if body != nil && header.Get("Content-Type") == "" {
			header.Set("Content-Type", "application/json")
		}
		w.door = append(w.door, pawl.Answering(pawl.Response{Status: answer.Status, Header: header, Body: body}))
	}
}

// credentials are headers that go into no journal.
var credentials = []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key"}

// requestValue is a request as templates see it: its body is JSON where it can be read as such.
func requestValue(r *pawl.Request) map[string]any {
	headers := map[string]any{}
	for name := range r.Header {
		if !slices.Contains(credentials, name) {
			headers[name] = r.Header.Get(name)
		}
	}
	out := map[string]any{"method": r.Method, "url": r.URL, "headers": headers}
	if body, err := decode(r.Body); err == nil {
		out["body"] = body
	} else if utf8.Valid(r.Body) {
		out["body"] = string(r.Body)
	} else {
		out["body"] = base64.StdEncoding.EncodeToString(r.Body)
	}
	return out
}

func (w *wait) reads(f func(at *node, u use)) {
	for _, v := range []value{w.correlate, w.title, w.message, w.details} {
		v.reads(f)
	}
	for _, n := range w.notices {
		n.params.reads(func(at *node, u use) {
			if u.path[0].Name != "approval" { // its own, which is looked at when it is read
				f(at, u)
			}
		})
	}
}
