package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// callLimit is how long the engine may take over an ordinary request.
const callLimit = 30 * time.Second

// maxWait is the longest ?wait.
const maxWait = 10 * time.Minute

// limited returns the context in which an ordinary request is answered.
func limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), callLimit)
}

func ref(r *http.Request) pawl.Ref { return pawl.Ref{ID: r.PathValue("id")} }

// RunPath is the path of a run's resource: ids may hold any character, dots and slashes
// too, which are escaped so that nothing on the way takes them for structure.
func RunPath(id string) string { return "/api/runs/" + segment(id) }

func segment(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), ".", "%2E")
}

func (s *server) workflows(w http.ResponseWriter, _ *http.Request) error {
	list := WorkflowList{Items: []Workflow{}}
	for _, name := range s.engine.Workflows() {
		list.Items = append(list.Items, Workflow{Name: name})
	}
	return answer(w, http.StatusOK, list)
}

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	wait, err := waitOf(r)
	if err != nil {
		return err
	}
	var q StartRequest
	if err := s.object(w, r, &q); err != nil {
		return err
	}
	if name := r.PathValue("name"); name != "" {
		if q.Workflow != "" && q.Workflow != name {
			return badRequest("the path names the workflow %q, the body %q", name, q.Workflow)
		}
		q.Workflow = name
	}
	if q.Workflow == "" {
		return badRequest("the body has no field \"workflow\" to say what to start")
	}
	opts, err := q.options()
	if err != nil {
		return err
	}
	if trace := r.Header.Get("Traceparent"); len(trace) == 55 {
		opts = append(opts, pawl.Traceparent(trace))
	}
	ctx, cancel := limited(r)
	defer cancel()
	info, err := s.engine.StartRun(ctx, q.Workflow, q.Input, opts...)
	if errors.Is(err, pawl.ErrUnknown) {
		p := problemOf(err)
		p.Detail = fmt.Sprintf("no workflow is called %q here", q.Workflow)
		p.Hint = suggest(q.Workflow, s.engine.Workflows())
		return p
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", RunPath(info.ID))
	return s.tell(w, r, info, wait, http.StatusAccepted)
}

// options are the start's options as the engine takes them.
func (q *StartRequest) options() ([]pawl.StartOption, error) {
	var opts []pawl.StartOption
	if q.ID != "" {
		opts = append(opts, pawl.ID(q.ID))
	}
	if len(q.Attributes) > 0 {
		opts = append(opts, pawl.Attributes(q.Attributes))
	}
	if q.Priority != nil {
		opts = append(opts, pawl.Priority(*q.Priority))
	}
	if q.Delay != "" {
		d, err := duration("field delay", q.Delay)
		if err != nil {
			return nil, err
		}
		opts = append(opts, pawl.Delay(d))
	}
	if q.Timeout != "" {
		d, err := duration("field timeout", q.Timeout)
		if err != nil {
			return nil, err
		}
		opts = append(opts, pawl.Timeout(d))
	}
	if q.BudgetUSD != nil {
		opts = append(opts, pawl.BudgetUSD(*q.BudgetUSD))
	}
	if !q.Deadline.IsZero() {
		opts = append(opts, pawl.Deadline(q.Deadline))
	}
	if q.OnConflict != "" {
		p, ok := policies[q.OnConflict]
		if !ok {
			return nil, badRequest("field onConflict is %q; it is one of existing, reject, cancel_old, queue", q.OnConflict)
		}
		opts = append(opts, pawl.OnConflict(p))
	}
	return opts, nil
}

func duration(what, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, badRequest("%s is %q; write a duration such as 90s or 1h30m", what, text)
	}
	return d, nil
}

// waitOf reads ?wait.
func waitOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := duration("wait", text)
	if err == nil && d > maxWait {
		err = badRequest("wait is %s, the most is %s: ask again", d, maxWait)
	}
	return d, err
}

func (s *server) get(w http.ResponseWriter, r *http.Request) error {
	wait, err := waitOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	info, err := s.engine.Get(ctx, ref(r))
	if err != nil {
		return err
	}
	return s.tell(w, r, info, wait, http.StatusOK)
}

// tell answers with a run. With a wait it does so when the run has ended or the wait is
// over, whichever comes first: 200 if it has ended, else 202.
func (s *server) tell(w http.ResponseWriter, r *http.Request, info pawl.RunInfo, wait time.Duration, status int) error {
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		defer context.AfterFunc(stopping(r.Context()), cancel)()
		existed := info.Existed
		ended, _, err := s.engine.Wait(ctx, info.Tenant, info.ID)
		if err == nil {
			info = ended
		} else if ctx.Err() == nil {
			return err
		} else if info, err = s.engine.Get(r.Context(), pawl.Ref{Tenant: info.Tenant, ID: info.ID}); err != nil {
			return err
		}
		status, info.Existed = http.StatusAccepted, existed
	}
	if info.State.Terminal() {
		status = http.StatusOK
	}
	ctx, cancel := limited(r)
	defer cancel()
	run, err := s.full(ctx, info)
	if err != nil {
		return err
	}
	return answer(w, status, run)
}

// full adds to a run that has ended how it ended.
func (s *server) full(ctx context.Context, info pawl.RunInfo) (Run, error) {
	run := Run{RunInfo: info}
	if !info.State.Terminal() || info.Next != "" { // Wait would follow to the next run
		return run, nil
	}
	_, end, err := s.engine.Wait(ctx, info.Tenant, info.ID)
	switch {
	case err != nil || end == nil:
		return run, err
	case end.Failed:
		run.Error = end.Failure()
	case info.State == pawl.Completed:
		run.Result = end.Data
	}
	return run, nil
}

func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f := pawl.Filter{Workflow: query.Get("workflow"), Limit: 50}
	for _, names := range query["state"] {
		for name := range strings.SplitSeq(names, ",") {
			state, err := pawl.ParseState(name)
			if err != nil {
				return badRequest("%s", plain(err))
			}
			f.States = append(f.States, state)
		}
	}
	for name, values := range query {
		if attr, ok := strings.CutPrefix(name, "attr."); ok {
			if attr == "" || len(values) != 1 {
				return badRequest("%s: an attribute is asked for once, as attr.name=value", name)
			}
			if f.Attrs == nil {
				f.Attrs = map[string]string{}
			}
			f.Attrs[attr] = values[0]
		}
	}
	var err error
	if f.Limit, err = number(query, "limit", 50, 1, maxPage); err != nil {
		return err
	}
	if c := query.Get("cursor"); c != "" {
		if f.Cursor, err = readCursor(c); err != nil {
			return err
		}
	}
	ctx, cancel := limited(r)
	defer cancel()
	f.Limit++ // one more, to know whether there is a next page
	runs, err := s.engine.List(ctx, f)
	if err != nil {
		return err
	}
	page := RunPage{Items: runs}
	if len(runs) == f.Limit {
		page.Items = runs[:f.Limit-1]
		page.NextCursor = cursorOf(page.Items[len(page.Items)-1])
	}
	if page.Items == nil {
		page.Items = []pawl.RunInfo{}
	}
	return answer(w, http.StatusOK, page)
}

// maxPage is the most items that a page has.
const maxPage = 500

// number reads a whole number of the query.
func number[T int | int64](query url.Values, name string, otherwise, least, most T) (T, error) {
	text := query.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < int64(least) || n > int64(most) {
		return 0, badRequest("%s is %q; it is a number from %d to %d", name, text, least, most)
	}
	return T(n), nil
}

// A cursor is opaque so that what is in it can change.
func cursorOf(last pawl.RunInfo) string {
	return base64.RawURLEncoding.EncodeToString([]byte("before:" + strconv.FormatInt(last.Key, 10)))
}

func readCursor(text string) (int64, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	digits, ok := strings.CutPrefix(string(raw), "before:")
	key, nerr := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || nerr != nil || key <= 0 {
		return 0, badRequest("cursor is %q, which is no cursor of this server: take nextCursor of the page before, as it is", text)
	}
	return key, nil
}

// maxPageBytes is about how large a page of a journal may become.
const maxPageBytes = 4 << 20

func (s *server) journal(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	after, err := number[int64](query, "after", -1, -1, 1<<62)
	if err != nil {
		return err
	}
	limit, err := number(query, "limit", maxPage, 1, maxPage)
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	info, err := s.engine.Get(ctx, ref(r))
	if err != nil {
		return err
	}
	entries := s.engine.Journal(ctx, ref(r))
	if info.State.Terminal() {
		// Journal begins at the first entry, Follow after any; so the pages of a long run
		// that has ended cost no more the further on they are. Should the run be retried
		// just now, Follow waits: then the page ends, and asks to be gone on from.
		wait, done := context.WithTimeout(ctx, 5*time.Second)
		defer done()
		entries = s.engine.Follow(wait, ref(r), after)
	}
	page := EntryPage{Items: []pawl.Entry{}}
	size := 0
	for entry, err := range entries {
		if err != nil && info.State.Terminal() && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			page.NextAfter = &after
			if n := len(page.Items); n > 0 {
				page.NextAfter = &page.Items[n-1].Seq
			}
			break
		}
		if err != nil {
			return err
		}
		if entry.Seq <= after {
			continue
		}
		if len(page.Items) == limit || size > maxPageBytes {
			page.NextAfter = &page.Items[len(page.Items)-1].Seq
			break
		}
		page.Items = append(page.Items, entry)
		size += len(entry.Data)
	}
	return answer(w, http.StatusOK, page)
}

func (s *server) why(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	info, err := s.engine.Get(ctx, ref(r))
	if err != nil {
		return err
	}
	why, err := s.engine.Why(ctx, ref(r))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, Why{State: info.State, Why: why})
}

func (s *server) streams(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	infos, err := s.engine.Streams(ctx, "", r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("run %s: %w", r.PathValue("id"), err)
	}
	return answer(w, http.StatusOK, StreamList{Items: append([]pawl.StreamInfo{}, infos...)})
}

func (s *server) hooks(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	infos, err := s.engine.Hooks(ctx, ref(r))
	if err != nil {
		return fmt.Errorf("run %s: %w", r.PathValue("id"), err)
	}
	list := HookList{Items: []Hook{}}
	for _, h := range infos {
		list.Items = append(list.Items, Hook{Key: h.Key, Token: h.Token, Meta: h.Meta, Schema: h.Schema, Public: h.Public, At: h.At})
	}
	return answer(w, http.StatusOK, list)
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, Health{Status: "ok", Name: "pawl", Version: s.opt.Version})
}

// ready asks the store for something, so that one that does not answer shows.
func (s *server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	_, err := s.engine.List(ctx, pawl.Filter{Limit: 1})
	if err == nil && s.opt.Ready != nil {
		err = s.opt.Ready(ctx)
	}
	if err == nil && stopping(r.Context()).Err() != nil {
		err = errors.New("the server is shutting down")
	}
	if err != nil {
		return newProblem(http.StatusServiceUnavailable, codeNotReady, "not ready: %v", plain(err))
	}
	return s.health(w, r)
}
