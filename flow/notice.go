package flow

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/service"
)

// notice is how a wait tells people that they are asked: a call of a service, which sees the approval too.
type notice struct {
	*call
	at     *node
	name   string // of its branch; tells apart those of a step
	person string // whose link it holds; "": that of its address, or of the only approver
}

// ofNotice are the fields of a notice that are no parameters.
var ofNotice = []string{"service", "action", "params", "approver", "allowModel"}

// noticeFields are what there is below approval in a notice.
var noticeFields = []string{"id", "what", "title", "message", "details", "subject", "text", "link", "button", "approver", "expires"}

// usualNotice are what parameters hold of which a notice says nothing, if the action has them.
var usualNotice = []struct{ param, text string }{
	{"approval", "{{approval.button}}"}, {"subject", "{{approval.subject}}"}, {"message", "{{approval.text}}"}, {"text", "{{approval.text}}"},
}

// buttons is the action that asks with buttons, where a service has it.
const buttons = "requestApproval"

// readNotices reads what notify holds. A notice to several addresses is one for each, as each gets a link of its own.
func readNotices(f *findings, config *node, approvers []string, w World) (all []*notice) {
	list := config.get("notify")
	if !list.is(listKind) {
		return nil
	}
	for _, at := range list.items {
		if !at.is(objectKind) {
			continue
		}
		found := w.Services[at.get("service").str()]
		with := at
		if at.get("action") == nil && found != nil && slices.ContainsFunc(found.Actions(), func(a service.Action) bool { return a.Name == buttons }) {
			with = with.with("action", buttons)
		}
		for _, one := range eachAddress(f, with, approvers, w) {
			n := readNotice(f, one, approvers, w)
			n.name = fmt.Sprintf("notice-%s", n.service)
			for again := 2; slices.ContainsFunc(all, func(o *notice) bool { return o.name == n.name }); again++ {
				n.name = fmt.Sprintf("notice-%s-%d", n.service, again)
			}
			all = append(all, n)
		}
	}
	return all
}

// eachAddress are a notice for each address that it names, or for each approver whose name is one.
func eachAddress(f *findings, at *node, approvers []string, w World) (all []*node) {
	quiet := &findings{schemas: f.schemas}
	action := findAction(quiet, at, w)
	if !properties(f, action)["to"] {
		return []*node{at}
	}
	to := at.get("to")
	if to == nil && at.get("params").get("to") != nil {
		return []*node{at}
	}
	if to.is(listKind) && len(to.items) > 0 && !slices.ContainsFunc(to.items, func(n *node) bool { return !n.is(textKind) }) {
		for _, item := range to.items {
			all = append(all, at.replaced("to", item))
		}
		return all
	}
	if to != nil {
		return []*node{at}
	}
	for _, name := range approvers {
		if person := at.get("approver"); strings.Contains(name, "@") && (person == nil || person.str() == name) {
			all = append(all, at.with("to", name))
		}
	}
	if all == nil {
		return []*node{at} // its schema says what is missing
	}
	return all
}

// properties are the names of an action's parameters.
func properties(f *findings, a service.Action) map[string]bool {
	names := map[string]bool{}
	if a.Name == "" {
		return names
	}
	known := f.schema(a.Params)
	all, _ := known.root["properties"].(map[string]any)
	for name := range all {
		names[name] = true
	}
	return names
}

func readNotice(f *findings, at *node, approvers []string, w World) *notice {
	k := &call{service: at.get("service").str(), allow: at.get("allowModel").strs(), action: findAction(f, at, w)}
	n := &notice{call: k, at: at, person: at.get("approver").str()}
	has := properties(f, k.action)
	said := parametersOf(f, at, ofNotice)
	if own := said.get("approval"); own != nil && has["approval"] {
		f.fault(own, "leave it out", "the buttons of a notice are those of its wait")
	}
	given := func(name string) bool { return said.get(name) != nil }
	for _, usual := range usualNotice {
		same := usual.param == "message" && given("text") || usual.param == "text" && (has["message"] || given("html") || given("body") || given("template"))
		if has[usual.param] && !given(usual.param) && !same {
			said = said.with(usual.param, usual.text)
		}
	}
	k.params = readParams(f, k.service+"."+k.action.Name, k.action, said, true)
	for i, name := range k.allow {
		if _, is := k.params.fields[name]; !is {
			f.fault(at.get("allowModel").items[i], f.did(name, sortedNames(k.params.fields)), "the notice has no parameter %q", name)
		}
	}
	if n.person != "" && len(approvers) > 0 && !slices.Contains(approvers, n.person) {
		f.fault(at.get("approver"), f.did(n.person, approvers), "%q is none of the approvers", n.person)
	}
	if to := said.get("to"); n.person == "" && len(approvers) > 1 && to.is(textKind) && !strings.Contains(to.text, "{{") && !slices.Contains(approvers, to.text) {
		f.warn(at, `name whose it is: "approver"`, "the notice to %s holds no link, as that is none of the approvers", to.text)
	}
	k.params.reads(func(where *node, u use) {
		if u.path[0].Name == "approval" && len(u.path) > 1 && !slices.Contains(noticeFields, u.path[1].Name) {
			f.fault(where, f.did(u.path[1].Name, noticeFields), "{{%s}}: an approval has no %q", u.path, u.path[1].Name)
		}
	})
	return n
}

// with is an object with one more text, whose place is that of the object.
func (n *node) with(name, text string) *node {
	return n.replaced(name, &node{kind: textKind, text: text, in: n.in, name: n.name, index: n.index, line: n.line, column: n.column})
}

// replaced is an object in which a field has another value.
func (n *node) replaced(name string, value *node) *node {
	out := *n
	out.fields = slices.DeleteFunc(slices.Clone(n.fields), func(f field) bool { return f.name == name })
	out.fields = append(out.fields, field{name: name, at: value, value: value})
	return &out
}

// notifier tells people in a run.
func (n *notice) notifier(x *run, s *step, in *scope, form bool) approval.Notifier {
	return approval.Notifier{
		Name:    n.name,
		Options: []pawl.StepOption{pawl.MaxAttempts(s.attempts), pawl.Backoff(s.backoff, s.maxBackoff)},
		Tell: func(ctx context.Context, told approval.Notice) error {
			root, secrets, err := x.withSecrets(ctx, n.params.reads, in)
			if err != nil {
				return err
			}
			root = maps.Clone(root)
			if root["approval"], err = n.shown(&told, root, form); err != nil {
				return pawl.Fatal(err)
			}
			data, err := n.params.fill(root)
			if err != nil {
				return service.NewRedactor(secrets...).Error(err)
			}
			_, err = x.call(ctx, n.service, service.Call{Action: n.action.Name, Params: data}, secrets)
			return err
		},
	}
}

// shown is what a notice sees of the approval.
func (n *notice) shown(told *approval.Notice, root map[string]any, form bool) (map[string]any, error) {
	a := &told.Approval
	out := map[string]any{
		"id": a.ID, "what": string(told.What), "title": a.Title, "message": a.Message, "details": nil, "link": "", "button": "",
		"subject": strings.Join(strings.Fields(a.Title), " "), "expires": at(a.Expires), "approver": n.reader(a, root),
	}
	if told.What != approval.Asked {
		out["subject"] = "Reminder: " + out["subject"].(string)
	}
	var err error
	if who := out["approver"].(string); who != "" && a.Voted(who) == nil {
		if out["link"], err = told.Link(who); err != nil {
			return nil, err
		}
	}
	if a.Details != nil {
		if out["details"], err = decode(a.Details); err != nil {
			return nil, err
		}
	}
	if n.action.Name == buttons {
		if out["button"], err = told.Button(); err != nil {
			return nil, err
		}
	}
	out["text"] = n.text(told, out, form)
	return out, nil
}

// reader is whose link the notice holds: a link is a secret of its approver. "": nobody's.
func (n *notice) reader(a *approval.Approval, root map[string]any) string {
	may := func(name string) bool {
		ok, _ := a.May(name, a.Expires)
		return ok
	}
	to := ""
	if v, is := n.params.fields["to"]; is && n.person == "" {
		filled, err := v.fill(newFilling(root))
		if list, several := filled.([]any); several && len(list) == 1 {
			filled = list[0]
		}
		if text, is := filled.(string); err == nil && is {
			to = text
		}
	}
	switch {
	case n.person != "" && may(n.person):
		return n.person
	case n.person == "" && to != "" && may(to):
		return to
	case n.person == "" && len(a.Approvers) == 1 && may(a.Approvers[0]):
		return a.Approvers[0]
	}
	return ""
}

// maxDetails bounds what the usual text shows of the details, in bytes.
const maxDetails = 4000

// text is the usual text of a notice.
func (n *notice) text(told *approval.Notice, shown map[string]any, form bool) string {
	a := &told.Approval
	var b strings.Builder
	say := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		fmt.Fprintf(&b, format, args...)
	}
	if told.What != approval.Asked {
		say("Reminder: this still waits for a decision.")
	}
	if n.params.fields["subject"].template == nil { // nothing else has the title
		say("%s", a.Title)
	}
	if a.Message != "" {
		say("%s", a.Message)
	}
	if a.Details != nil {
		text := ""
		if object, is := shown["details"].(map[string]any); is {
			var lines []string
			for _, name := range sortedNames(object) {
				lines = append(lines, name+": "+textOf(object[name]))
			}
			text = strings.Join(lines, "\n")
		} else {
			text = textOf(shown["details"])
		}
		if len(text) > maxDetails {
			text = strings.ToValidUTF8(text[:maxDetails], "") + "…"
		}
		say("%s", text)
	}
	link, _ := shown["link"].(string)
	until := a.Expires.UTC().Format("2 January 2006, 15:04 MST")
	switch {
	case n.action.Name == buttons && !form:
		say("Until %s.", until)
		if len(a.Approvers) > 0 {
			b.WriteString(" It is for " + strings.Join(a.Approvers, ", ") + " to decide.")
		}
	case link != "":
		say("Look at it and decide, until %s: %s\nThe address is for %s alone.", until, link, shown["approver"])
	default:
		say("Decide it until %s: pawl approve %s", until, a.Run)
	}
	return b.String()
}

// sends is how often notices are sent at most, each.
func (w *wait) sends() int64 {
	times := int64(1)
	if w.remind > 0 {
		expires := w.timeout
		if expires == 0 {
			expires = approval.DefaultExpires
		}
		times += int64(expires / w.remind)
	}
	return min(times, maxNoticesOfOne) * int64(len(w.notices))
}

// maxNoticesOfOne is how many reminders package approval sends at most, and the first notice.
const maxNoticesOfOne = 1001
