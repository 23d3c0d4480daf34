package approval

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// spec is an approval as it was asked for: the result of the first step of Ask, and the Meta
// of its hook. It holds no times, only how long after the asking: the asking is when the hook
// was made, and a fork makes its own.
type spec struct {
	Name      string          `json:"name"`
	Title     string          `json:"title"`
	Message   string          `json:"message,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"`
	Schema    json.RawMessage `json:"schema,omitempty"`
	Shown     string          `json:"shown"`
	Approvers []string        `json:"approvers,omitempty"`
	Not       []string        `json:"not,omitempty"`
	Need      int             `json:"need"`
	Remind    []time.Duration `json:"remind,omitempty"`
	Escalate  *Escalation     `json:"escalate,omitempty"`
	Expires   time.Duration   `json:"expires"`
	Keep      time.Duration   `json:"keep"`
}

// specOf checks a request, in the body of a step.
func specOf(ctx context.Context, name string, q *Request) (spec, error) {
	s := spec{
		Name: name, Title: q.Title, Message: q.Message, Schema: q.Schema, Approvers: q.Approvers, Need: max(q.Need, 1),
		Escalate: q.Escalate, Expires: q.Expires, Keep: q.Keep,
	}
	bad := func(format string, args ...any) (spec, error) {
		return s, pawl.Fatal(fmt.Errorf("%w: approval %s: %w", pawl.ErrInput, name, fmt.Errorf(format, args...)))
	}
	if s.Title == "" {
		s.Title = name
	}
	if s.Expires <= 0 {
		s.Expires = DefaultExpires
	}
	if s.Keep <= 0 {
		s.Keep = DefaultKeep
	}
	if q.Details != nil {
		data, err := json.Marshal(q.Details)
		if err != nil {
			return bad("its Details have no JSON form: %w", err)
		}
		s.Details = data
	}
	if !utf8.ValidString(s.Title) || !utf8.ValidString(s.Message) || strings.ContainsRune(s.Title+s.Message, 0) {
		return bad("its Title or Message is not UTF-8 without NUL")
	}
	for _, name := range s.all() { // before JSON makes text of what is none
		if err := checkPerson(name); err != nil {
			return bad("%w", err)
		}
	}
	if n := len(s.Title) + len(s.Message) + len(s.Details) + len(s.Schema); n > MaxShown {
		return bad("it would show %d bytes, the limit is %d: a person is to read it; show a summary and an address", n, MaxShown)
	}
	if s.Schema != nil {
		if _, err := compile(s.Schema); err != nil {
			return bad("its Schema: %w", err)
		}
	}
	// As the store gives it back: the same bytes, so the same name. And nothing that the
	// request, which other runs have too, could change or have changed.
	data, err := json.Marshal(s)
	if err != nil {
		return bad("it has no JSON form: %w", err)
	}
	s = spec{}
	if err := json.Unmarshal(data, &s); err != nil {
		return bad("it has no JSON form: %w", err)
	}
	s.Shown = shownOf(s.Title, s.Message, s.Details, s.Schema)
	if q.Starter != "" {
		info, err := pawl.EngineOf(ctx).Get(ctx, pawl.Ref{Tenant: pawl.InfoOf(ctx).Tenant, ID: pawl.InfoOf(ctx).RunID})
		if err != nil {
			return s, err
		}
		starter := info.Attrs[q.Starter]
		if starter == "" {
			return bad("the run has no attribute %q, so who started it can't be kept from deciding: start it with pawl.Attributes", q.Starter)
		}
		s.Not = []string{starter}
	}
	if err := s.people(); err != nil {
		return bad("%w", err)
	}
	if err := s.remind(q); err != nil {
		return bad("%w", err)
	}
	return s, nil
}

// all are the approvers, and those who are asked later.
func (s *spec) all() []string {
	if s.Escalate == nil {
		return s.Approvers
	}
	return slices.Concat(s.Approvers, s.Escalate.Approvers)
}

// people checks that there can be as many votes as are needed.
func (s *spec) people() error {
	all := s.all()
	if len(all) > maxApprovers {
		return fmt.Errorf("it has %d approvers, the limit is %d", len(all), maxApprovers)
	}
	if s.Need > maxNeed {
		return fmt.Errorf("it needs %d, the limit is %d", s.Need, maxNeed)
	}
	if s.Escalate != nil && (s.Escalate.After <= 0 || s.Escalate.After >= s.Expires) {
		return fmt.Errorf("it would escalate after %v, which is not between the asking and its end after %v", s.Escalate.After, s.Expires)
	}
	if len(s.Approvers) == 0 {
		return nil
	}
	able := map[string]bool{}
	for _, name := range all {
		if !slices.Contains(s.Not, name) {
			able[name] = true
		}
	}
	if len(able) < s.Need {
		return fmt.Errorf("it needs %d, and only %d may approve", s.Need, len(able))
	}
	return nil
}

func checkPerson(name string) error {
	if name == "" || len(name) > 256 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf("%.40q is no name of a person: 1 to 256 bytes of text on one line", name)
	}
	return nil
}

// remind works out when to remind.
func (s *spec) remind(q *Request) error {
	at := slices.Clone(q.Remind)
	if q.Every > 0 {
		if s.Expires/q.Every > MaxReminders {
			return fmt.Errorf("every %v is more than %d reminders until its end after %v", q.Every, MaxReminders, s.Expires)
		}
		for d := q.Every; d < s.Expires; d += q.Every {
			at = append(at, d)
		}
	}
	slices.Sort(at)
	for _, d := range slices.Compact(at) {
		if d <= 0 {
			return fmt.Errorf("it would remind after %v", d)
		}
		if d < s.Expires {
			s.Remind = append(s.Remind, d)
		}
	}
	if len(s.Remind) > MaxReminders {
		return fmt.Errorf("it has %d reminders, the limit is %d", len(s.Remind), MaxReminders)
	}
	return nil
}

// moment is when something is to be done while nobody has decided.
type moment struct {
	after time.Duration // the asking
	what  What          // Reminder, Escalated, HasExpired
}

// moments are in order; the last is the end.
func (s *spec) moments() []moment {
	var out []moment
	for _, d := range s.Remind {
		out = append(out, moment{d, Reminder})
	}
	if s.Escalate != nil {
		out = append(out, moment{s.Escalate.After, Escalated})
	}
	slices.SortStableFunc(out, func(a, b moment) int { return int(min(max(a.after-b.after, -1), 1)) })
	return append(out, moment{s.Expires, HasExpired})
}

// hookSuffix ends the key of the hook; before it is the path of the branch.
const hookSuffix = "/$hook"

// approvalOf is the approval of a hook.
func approvalOf(run pawl.RunInfo, hook string, at time.Time, meta json.RawMessage) (Approval, *spec, error) {
	var s spec
	if err := json.Unmarshal(meta, &s); err != nil || s.Shown == "" {
		return Approval{}, nil, fmt.Errorf("%w: hook %s of run %s is no approval", pawl.ErrNotFound, hook, run.ID)
	}
	return Approval{
		ID: idOf(run.ID, hook), Tenant: run.Tenant, Run: run.ID, Workflow: run.Workflow, Name: s.Name, State: Pending,
		Title: s.Title, Message: s.Message, Details: s.Details, Schema: s.Schema, Shown: s.Shown,
		Approvers: s.Approvers, Not: s.Not, Need: s.Need, Escalate: s.Escalate, Asked: at.UTC(), Expires: at.Add(s.Expires).UTC(),
	}, &s, nil
}

var escapeRun = strings.NewReplacer("%", "%25", "/", "%2F")
var unescapeRun = strings.NewReplacer("%25", "%", "%2F", "/")

// idOf names an approval: the id of its run, in which a slash is %2F, and the path of its hook.
func idOf(run, hook string) string {
	return escapeRun.Replace(run) + "/" + strings.TrimSuffix(hook, hookSuffix)
}

// hookOf takes an id apart.
func hookOf(id string) (run, hook string, err error) {
	run, path, ok := strings.Cut(id, "/")
	if !ok || run == "" || path == "" {
		return "", "", fmt.Errorf("%w: approval %q; an id is that of a run, a slash, and a name", pawl.ErrNotFound, id)
	}
	return unescapeRun.Replace(run), path + hookSuffix, nil
}

// pathOf is the path under which a step of Ask lies.
func pathOf(step string) string { return step[:max(strings.LastIndexByte(step, '/'), 0)] }
