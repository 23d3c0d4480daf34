package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
	"github.com/pawlrun/pawl/trigger"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// start is one of a flow's triggers, read. What a document has of it becomes rows of package trigger, which belong to the
// flow: see [Registry.Deploy].
type start struct {
	at       *node
	kind     string
	schedule trigger.Schedule
	event    trigger.Subscription
	route    trigger.Route
	change   dbchange.Source
}

// triggerNodes are the triggers of a document, in their order.
func triggerNodes(root *node) []*node {
	if list := root.get("triggers"); list.is(listKind) {
		return list.items
	}
	if one := root.get("trigger"); one != nil {
		return []*node{one}
	}
	return nil
}

// readStarts reads the triggers of a document. Faulty ones are told and left in their places.
func readStarts(f *findings, root *node, w World) (out []start) {
	for _, at := range triggerNodes(root) {
		s := start{at: at, kind: at.get("type").str()}
		switch s.kind {
		case "schedule":
			s.readSchedule(f)
		case "event":
			s.readEvent(f)
		case "webhook":
			s.readWebhook(f)
		case "database-change":
			s.readChange(f, w)
		}
		out = append(out, s)
	}
	return out
}

// overlaps and catchUps are what the words of the format mean.
var (
	overlaps = map[string]trigger.Overlap{"skip": trigger.Skip, "queue": trigger.BufferAll, "cancelPrevious": trigger.CancelOld, "allow": trigger.Allow}
	catchUps = map[string]trigger.CatchUp{"none": trigger.CatchUpNone, "one": trigger.CatchUpLast, "all": trigger.CatchUpAll}
)

func (s *start) readSchedule(f *findings) {
	at := s.at
	sch := trigger.Schedule{Cron: at.get("cron").str(), Zone: at.get("timezone").str(), Overlap: trigger.Skip, CatchUp: trigger.CatchUpNone, CatchUpWindow: milliseconds(at.get("startingDeadlineMs")), Jitter: milliseconds(at.get("jitter"))}
	if o, is := overlaps[at.get("overlap").str()]; is {
		sch.Overlap = o
	}
	if c, is := catchUps[at.get("catchUp").str()]; is {
		sch.CatchUp = c
	}
	sch.Input = json.RawMessage("{}")
	if v := at.get("variables"); v.is(objectKind) {
		var b bytes.Buffer
		v.canonical(&b)
		sch.Input = b.Bytes()
	}
	if _, err := trigger.LoadZone(sch.Zone); err != nil {
		f.fault(at.get("timezone"), "", "%v", err)
	} else if _, err := trigger.ParseCron(sch.Cron, sch.Zone); err != nil && at.get("cron").is(textKind) {
		f.fault(at.get("cron"), "", "%v", err)
	}
	if d := at.get("startingDeadlineMs"); d != nil && sch.CatchUp == trigger.CatchUpNone {
		f.fault(d, `set catchUp to "one" or "all", or leave it out`, "nothing that was missed is caught up")
	}
	if j := at.get("jitter"); j.int(0) > 24*3600_000 {
		f.fault(j, "", "a slot can be delayed by at most 24 hours")
	}
	s.schedule = sch
}

func (s *start) readEvent(f *findings) {
	at := s.at
	s.event = trigger.Subscription{Event: at.get("eventName").str(), Where: at.get("where").str(), Input: places(f, at.get("variables"), "event")}
	s.event.Control = control(f, at)
	if name := at.get("eventName"); strings.HasPrefix(name.str(), "$") {
		f.fault(name, "", "names that begin with $ are not for events of yours")
	}
	if where := at.get("where"); where.is(textKind) && where.text != "" {
		if _, err := trigger.ParseMatch(where.text); err != nil {
			badExpression(f, where, err)
		}
	}
}

func (s *start) readWebhook(f *findings) {
	at := s.at
	r := trigger.Route{
		Path: at.get("path").str(), Scheme: trigger.Scheme(at.get("scheme").str()), Secret: at.get("secret").str(), Header: at.get("header").str(), Prefix: at.get("prefix").str(), Form: at.get("form").yes(),
		Input: places(f, at.get("variables"), "body", "headers", "query", "id", "method", "path"),
	}
	for _, m := range at.get("methods").strs() {
		if !slices.Contains(r.Methods, m) {
			r.Methods = append(r.Methods, m)
		}
	}
	r.Control = control(f, at)
	if p := at.get("path"); p.is(textKind) {
		if err := trigger.CheckPath(r.Path); err != nil {
			f.fault(p, "", "%s", why(err))
		}
	}
	scheme, secret := at.get("scheme"), at.get("secret")
	switch {
	case scheme == nil && secret != nil:
		f.fault(secret, `give "scheme", such as github, stripe, slack, standard or hmac`, "the scheme that the secret is for is missing")
	case scheme == nil:
		r.Scheme = trigger.None
		f.warn(at.get("path"), `give "scheme" and "secret"; or write "scheme": "none" if that is meant`, "whoever knows the path can start runs, as nothing says how requests are signed")
	case r.Scheme == trigger.None && secret != nil:
		f.fault(secret, "leave it out, or name the scheme that it is for", "nothing is signed with the scheme none")
	case r.Scheme != trigger.HMAC && at.get("header") != nil:
		f.fault(at.get("header"), "leave it out", "the scheme %s has a header of its own", r.Scheme)
	case r.Scheme != trigger.HMAC && at.get("prefix") != nil:
		f.fault(at.get("prefix"), "leave it out", "the scheme %s has no prefix to choose", r.Scheme)
	case r.Scheme != trigger.None && r.Secret == "":
		f.fault(scheme, `give "secret"`, "requests signed by %s need the name of a secret", r.Scheme)
	}
	if r.Scheme != trigger.None && slices.Contains(r.Methods, http.MethodGet) {
		f.fault(at.get("methods"), `leave GET out, or write "scheme": "none"`, "a GET has no body, and %s signs nothing else", r.Scheme)
	}
	if d := at.get("dedupe"); d.is(textKind) {
		r.Dedupe = dedupe(f, d)
	}
	if answer := at.get("respond"); answer.is(objectKind) {
		r.Response = response(answer)
		if check := r; check.Response != nil { // what is wrong elsewhere was told
			check.ID, check.Workflow, check.Path, check.Scheme, check.Header, check.Prefix, check.Secret, check.Dedupe, check.Input, check.Methods, check.Control = "x", "x", "/x", trigger.None, "", "", "", "", nil, nil, nil
			if err := trigger.CheckRoute(check); err != nil {
				f.fault(answer, "", "%s", why(err))
			}
		}
	}
	s.route = r
}

func (s *start) readChange(f *findings, w World) {
	at := s.at
	src := dbchange.Source{
		ID: "x", Workflow: "x", Connection: at.get("dsn").str(), Query: at.get("query").str(), Cursor: at.get("cursor").str(), Key: at.get("key").strs(),
		Existing: at.get("existing").yes(), Settle: milliseconds(at.get("settleMs")), Table: at.get("table").str(), Interval: milliseconds(at.get("pollIntervalMs")),
	}
	if ms := at.get("settleMs"); ms != nil && src.Settle == 0 {
		src.Settle = -1
	}
	for _, op := range at.get("operations").strs() {
		src.Operations = append(src.Operations, dbchange.Operation(op))
	}
	dsn := at.get("dsn")
	switch {
	case !dsn.is(textKind): // told
	case strings.Contains(dsn.text, ":"):
		f.fault(dsn, "name the database in the settings of the server (databases), and write that name", "an address of a database does not stand in a flow, where many can read it")
	default:
		if err := src.Check(); err != nil {
			_, text, _ := strings.Cut(why(err), `"x": `)
			f.fault(at, "", "%s", text)
		} else if w.Watch != nil {
			src.ID = dsn.text // as which errors name it
			switch err := w.Watch(src); {
			case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrNotFound):
				f.fault(at, "", "%s", why(err))
			case err != nil:
				f.warn(at, "look at the database: until it answers, nothing starts", "whether its changes can be watched could not be seen: %v", err)
			}
			src.ID = "x"
		}
	}
	s.change = src
}

// control is what holds the starts of a trigger together, or apart; nil: nothing does.
func control(f *findings, at *node) *trigger.Control {
	key := func(of *node) string {
		k := of.get("key")
		if k.is(textKind) && k.text != "" {
			if _, err := trigger.ParseKey(k.text); err != nil {
				badExpression(f, k, err)
			}
		}
		return k.str()
	}
	c := &trigger.Control{}
	if d := at.get("debounce"); d.is(objectKind) {
		c.Debounce = &trigger.Debounce{Period: milliseconds(d.get("periodMs")), Timeout: milliseconds(d.get("timeoutMs")), Key: key(d)}
		if c.Debounce.Timeout > 0 && c.Debounce.Timeout < c.Debounce.Period {
			f.fault(d.get("timeoutMs"), "", "it is shorter than periodMs: nothing would ever wait so long")
		}
	}
	if b := at.get("batch"); b.is(objectKind) {
		c.Batch = &trigger.Batch{MaxSize: b.get("maxSize").int(1), Timeout: milliseconds(b.get("timeoutMs")), Key: key(b)}
		if c.Debounce != nil {
			f.fault(b, "choose one", "debounce keeps the newest and batch keeps all")
		}
		if at.get("singleton") != nil {
			f.fault(b, "choose one", "a batch that singleton skips would be lost")
		}
	}
	if r := at.get("rateLimit"); r.is(objectKind) {
		c.RateLimit = &trigger.RateLimit{Limit: r.get("limit").int(1), Period: milliseconds(r.get("periodMs")), Key: key(r)}
	}
	if o := at.get("singleton"); o.is(objectKind) {
		c.Singleton = &trigger.Singleton{Key: key(o), Cancel: o.get("mode").str() == "cancel"}
	}
	if *c == (trigger.Control{}) {
		return nil
	}
	return c
}

// dedupe is where a delivery's id is, as a route has it.
func dedupe(f *findings, at *node) string {
	if strings.HasPrefix(at.text, "header:") {
		probe := trigger.Route{ID: "x", Workflow: "x", Path: "/x", Scheme: trigger.None, Dedupe: at.text}
		if err := trigger.CheckRoute(probe); err != nil {
			f.fault(at, "write header:X-Delivery-Id", "this names no header")
		}
		return at.text
	}
	if at.text == trigger.DedupeBody {
		return at.text
	}
	path, err := ParsePath(at.text)
	switch {
	case err != nil:
		f.fault(at, "write header:X-Delivery-Id, or a path into the body: body.id", "%v", err)
		return ""
	case path[0].Name != "body" || len(path) == 1:
		f.fault(at, "write header:X-Delivery-Id, or a path into the body: body.id", "a delivery is named by a header or by something in the body")
		return ""
	}
	return placeOf(path[1:])
}

func response(at *node) *trigger.Response {
	if !at.is(objectKind) {
		return nil
	}
	r := &trigger.Response{Status: at.get("status").int(0)}
	for _, h := range at.get("headers").fieldsOf() {
		if r.Headers == nil {
			r.Headers = map[string]string{}
		}
		r.Headers[h.name] = h.value.str()
	}
	if body := at.get("body"); body != nil {
		var b bytes.Buffer
		body.canonical(&b)
		r.Body = b.Bytes()
	}
	return r
}

// places are the variables of a trigger, and the paths they come from; nil: there are none.
func places(f *findings, at *node, roots ...string) trigger.Places {
	if !at.is(objectKind) {
		return nil
	}
	out := trigger.Places{}
	for _, field := range at.fields {
		path, err := ParsePath(field.value.str())
		switch {
		case !field.value.is(textKind): // told
		case err != nil:
			f.fault(field.value, "", "%v", err)
		case !slices.Contains(roots, path[0].Name):
			hint := f.did(path[0].Name, roots)
			if hint == "" {
				hint = "it begins with " + strings.Join(roots, ", ")
			}
			f.fault(field.value, hint, "there is no %q in what starts a run", path[0].Name)
		default:
			if path[0].Name == "headers" && len(path) > 1 {
				path[1].Name = strings.ToLower(path[1].Name)
			}
			out[field.name] = placeOf(path)
		}
	}
	return out
}

// placeOf is a path as a JSON pointer.
func placeOf(path Path) string {
	out := ""
	for _, s := range path {
		name := s.Name
		if s.IsIndex {
			name = strconv.Itoa(s.Index)
		}
		out = pointer(out, name)
	}
	return out
}

// badExpression tells of an expression over event that is none.
func badExpression(f *findings, at *node, err error) {
	var e *expr.Error
	if !errors.As(err, &e) {
		f.fault(at, "", "%s", why(err))
		return
	}
	f.faultIn(at, e)
}

// why is an error's text without what it was wrapped in for programs.
func why(err error) string {
	var match *trigger.MatchError
	if errors.As(err, &match) {
		err = match.Err
	}
	text := err.Error()
	for before := ""; before != text; { // it may be wrapped as several
		before = text
		for _, kind := range []error{pawl.ErrInput, pawl.ErrState, pawl.ErrNotFound} {
			text = strings.TrimPrefix(text, kind.Error()+": ")
		}
	}
	return text
}

// checkStarts looks at what a flow's triggers have to do with the flow and with each other.
func (made *Flow) checkStarts(f *findings) {
	paths := map[string]*node{}
	for _, s := range made.starts {
		switch s.kind {
		case "schedule":
			if made.Inputs != nil {
				if err := made.checkInput(s.schedule.Input); err != nil {
					f.fault(s.at, "give them in variables", "its variables are not what inputs asks for: %s", why(err))
				}
			}
		case "event":
			s.event.Workflow = made.ID
			if s.event.ByItself(context.Background()) {
				at := s.at.get("where")
				if at == nil {
					at = s.at.get("eventName")
				}
				f.fault(at, `say in where whose: event.data.workflowId == "another"`, "the end of a run of this flow would start the next")
			}
		case "webhook":
			if at := s.at.get("path"); paths[s.route.Path] != nil {
				f.fault(at, fmt.Sprintf("the other one is at %s", paths[s.route.Path].pointer()), "two webhooks have the path %s", s.route.Path)
			} else if at != nil {
				paths[s.route.Path] = at
			}
		}
	}
}

// owner is what a flow's triggers belong to.
func owner(id string) string { return trigger.OwnedPrefix + id }

// triggerID names the trigger of a flow with a number.
func triggerID(id string, n int) string { return owner(id) + ":" + strconv.Itoa(n) }

// owned are the rows of the flow's triggers. nil: those of no flow.
func (made *Flow) owned(tenant string) (out trigger.Owned) {
	if made == nil {
		return out
	}
	for n, s := range made.starts {
		id := triggerID(made.ID, n)
		switch s.kind {
		case "schedule":
			s.schedule.ID, s.schedule.Tenant, s.schedule.Owner, s.schedule.Workflow = id, tenant, owner(made.ID), made.ID
			out.Schedules = append(out.Schedules, s.schedule)
		case "event":
			s.event.ID, s.event.Tenant, s.event.Owner, s.event.Workflow = id, tenant, owner(made.ID), made.ID
			out.Events = append(out.Events, s.event)
		case "webhook":
			s.route.ID, s.route.Tenant, s.route.Owner, s.route.Workflow = id, tenant, owner(made.ID), made.ID
			out.Routes = append(out.Routes, s.route)
		}
	}
	return out
}

// changes are the rows of the flow's triggers that watch databases. nil: those of no flow.
func (made *Flow) changes(tenant string) (out []dbchange.Source) {
	if made == nil {
		return nil
	}
	for n, s := range made.starts {
		if s.kind == "database-change" {
			s.change.ID, s.change.Tenant, s.change.Owner, s.change.Workflow = triggerID(made.ID, n), tenant, owner(made.ID), made.ID
			out = append(out, s.change)
		}
	}
	return out
}

// switchTriggers returns what is to be written so that a flow has these triggers and no others.
func switchTriggers(ctx context.Context, e *pawl.Engine, tenant, id string, f *Flow) ([]pawl.Put, error) {
	puts, err := trigger.Replace(ctx, e, tenant, owner(id), f.owned(tenant))
	if err != nil {
		return nil, err
	}
	more, err := dbchange.Replace(ctx, e, tenant, owner(id), f.changes(tenant))
	return append(puts, more...), err
}

// taken words a path that somebody else has as a problem of the document.
func (made *Flow) taken(err error) error {
	var path *trigger.PathError
	if !errors.As(err, &path) {
		return err
	}
	f := &findings{}
	for _, s := range made.starts {
		if s.kind == "webhook" && s.route.Path == path.Path {
			f.fault(s.at.get("path"), "", "%v", path)
		}
	}
	return f.sorted()
}
