package api

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/pawlrun/pawl/secret"
)

// Options are a handler's settings. The zero value works.
type Options struct {
	// Hosts are names, without port, under which the server may be addressed beside
	// localhost, 127.0.0.1 and [::1]. A request with another Host is refused: it would
	// be a web page whose name was made to point here.
	Hosts []string
	// MaxPayload is the engine's Options.MaxPayload. 0 means its default, 2 MiB.
	MaxPayload int
	// Heartbeat is how often an idle live view is sent a comment, so that both ends see
	// that the other is there. 0 means 15 s.
	Heartbeat time.Duration
	// Ready tells /readyz of trouble that the handler can't see, such as an engine that
	// does not run. nil: none.
	Ready func(ctx context.Context) error
	// PublicURL is the address under which callers reach the server, as the engine's: the URL of
	// a webhook's request begins with it. "" means what the request says, and
	// with TrustForwarded what the proxy says (X-Forwarded-Proto, X-Forwarded-Host).
	PublicURL string
	// TrustForwarded takes the caller's address from X-Forwarded-For. Set it only where a proxy of
	// yours is in front of the server and writes these headers: anybody can send them.
	TrustForwarded bool
	// MaxWebhookBody is how many bytes the body of a webhook's request may have. 0 means 1 MiB.
	// The engine's MaxPayload must have room for a third more.
	MaxWebhookBody int64
	// WebhookRate is how many requests one webhook takes; 0 means 50 a second, and 200 at once.
	// Beyond that callers get 429.
	WebhookRate Rate
	// ClientRate is how many requests to webhooks, whichever, one address may send; 0 means the
	// same.
	ClientRate Rate
	// MaxQueued is how many runs of a tenant may wait for their beginning, those of a later time
	// too, before more are refused with 429: starts, forks, retries, and events, which may start
	// runs. 0 means 100,000; negative: no limit. It is counted in the store, at most ten times a
	// second; several processes may together go over by what the others let in meanwhile.
	MaxQueued int
	// MaxUnread is how many events and payloads may wait in one run, of hooks, webhooks and
	// signals, before more are refused with 429. 0 means 10,000; negative: no limit.
	MaxUnread int
	// MaxInFlight is how many requests of one tenant are worked on at once, with Auth, before more are
	// refused with 429, so that no tenant takes all that the server can do. 0 means 256; negative: no limit.
	// Live views and waits do not count, Auth.Views bounds those; webhooks have rates of their own.
	// It is counted in each process by itself.
	MaxInFlight int
	// Verify checks the signature of a request to a webhook that is pawl.Signed, by its scheme and
	// with the secret of a name, and returns what names the delivery; "": nothing does. An error
	// that wraps pawl.ErrState or pawl.ErrNotFound is the server's fault, such as a secret that is
	// not there, and answered with 503; any other with 401 and its text. nil: it knows no name.
	Verify func(scheme, secretName string, header http.Header, body []byte, now time.Time) (deliveryID string, err error)
	// Flows has the flows of the store, which each tenant deploys for itself. Refresh it before the engine runs, and let it
	// Watch beside it. nil: there are none, and calls about them answer 404.
	Flows *flow.Registry
	// Drafts has the drafts of the flows. Register its workflow with the engine. nil: there are none, and calls about them answer 404.
	Drafts *draft.Drafts
	// Secrets keeps the secrets of tenants, as /api/secrets sets them. A webhook that is pawl.Signed with a name that Verify
	// does not know (pawl.ErrNotFound) is checked with the secret of that name of the run's tenant, by any scheme but
	// hmac, which needs the settings that Verify has. nil: there are none.
	Secrets *secret.Store
	// Draw returns the Mermaid text of a workflow that is a state machine, as its Mermaid method has
	// it; "": it is none. nil: none is.
	Draw func(workflow string) string
	// Metrics answers GET /metrics, such as a telemetry.Metrics, to keys of the default tenant that
	// may read runs. nil: that is answered with 404.
	Metrics http.Handler
	// Observe is told of each request that was answered: the pattern of its route, with
	// "{token}" and not the token, or "none" where there is no such route, or the request was refused before it was looked up; the status; how long it
	// took. live: it was a view that lasts as long as its reader stays. It must be quick. nil: nobody is.
	Observe func(route, method string, status int, took time.Duration, live bool)
	// Version is shown by /healthz.
	Version string
	// Auth says who may call. nil: nobody is asked for a key, and every caller may do all in
	// the default tenant, which is for a server on loopback that one person uses.
	Auth *Auth
	// Logger is where requests that failed on the server's side are reported. nil means
	// slog.Default().
	Logger *slog.Logger
}

type server struct {
	engine     *pawl.Engine
	opt        Options
	log        *slog.Logger
	hosts      []string
	maxBody    int64
	origins    *http.CrossOriginProtection
	mux        *http.ServeMux
	operations map[string]*operation // by pattern
	api        huma.API
	webhooks   *webhooks
	problems   *huma.Response
	document   func() ([]byte, error)
	door       *doorman // nil: everyone may come in
	fans       fans
	busy       *counts        // requests by tenant; nil: no limit
	queued     *gauge[string] // by tenant
	unread     *gauge[int64]  // by run
}

// New returns a handler of the API on engine, of webhooks (pawl.WebhookPath), and of the paths that deployed flows have for
// theirs (trigger.Route). Routes outside those, /api, /healthz, /readyz and /openapi.json are refused with 404: mount others beside it. Serve the handler with
// [Serve], or with a server of your own that has a ReadHeaderTimeout; the handler sets the
// other limits of time itself.
func New(engine *pawl.Engine, opt Options) http.Handler {
	if opt.MaxPayload <= 0 {
		opt.MaxPayload = 2 << 20
	}
	if opt.Heartbeat <= 0 {
		opt.Heartbeat = 15 * time.Second
	}
	s := &server{
		engine: engine, opt: opt, log: opt.Logger, maxBody: int64(opt.MaxPayload) + slack,
		hosts:   append([]string{"localhost", "127.0.0.1", "::1"}, opt.Hosts...),
		origins: http.NewCrossOriginProtection(),
		mux:     http.NewServeMux(), operations: map[string]*operation{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if opt.Auth != nil {
		s.door = newDoorman(s, opt.Auth)
	}
	if opt.MaxInFlight >= 0 {
		s.busy = newCounts(cmp.Or(opt.MaxInFlight, 256))
	}
	s.queued = newGauge(opt.MaxQueued, 100_000, engine.Queued)
	s.unread = newGauge(opt.MaxUnread, 10_000, engine.Unread)
	s.webhooks = newWebhooks(engine, opt, s.log)
	s.webhooks.unread = s.unread
	s.newDocument()
	s.workflowRoutes()
	s.flowRoutes()
	s.draftRoutes()
	s.templateRoutes()
	s.triggerRoutes()
	s.executeRoutes()
	s.executionRoutes()
	s.graphRoutes()
	s.runRoutes()
	s.startRoutes()
	s.orderRoutes()
	s.journalRoutes()
	s.streamRoutes()
	s.streamTokenRoutes()
	s.feedRoutes()
	s.hookRoutes()
	s.approvalRoutes()
	s.costRoutes()
	s.budgetRoutes()
	s.stepRoutes()
	s.promptRoutes()
	s.askedRoutes()
	s.scheduleRoutes()
	s.subscriptionRoutes()
	s.statRoutes()
	s.secretRoutes()
	s.breakerRoutes()
	s.keyRoutes()
	s.sessionRoutes()
	s.healthRoutes()
	s.documentRoutes()
	s.finish()
	return s
}

// ServeHTTP lets a request be answered, and tells who observes.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.opt.Observe == nil {
		s.answer(w, r)
		return
	}
	seen, began := &seen{ResponseWriter: w}, time.Now()
	defer func() {
		s.opt.Observe(cmp.Or(seen.route, noRoute), methodOf(r), seen.code(), time.Since(began), seen.live())
	}()
	s.answer(seen, r)
}

// answer checks the request, finds its route and lets it answer.
func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	expectBody(w, r)
	if strings.HasPrefix(r.URL.Path, pawl.WebhookPath) { // public: none of the checks below is for them
		took(w, pawl.WebhookPath+"{token}")
		s.webhooks.ServeHTTP(w, r)
		return
	}
	defer s.recover(w, r)
	if s.arrived(w, r) {
		return
	}
	s.mark(w, r)
	if err := s.guard(r); err != nil {
		s.refuse(w, r, err)
		return
	}
	// Left to itself the mux would answer an unclean path with a redirect to another one.
	if p := r.URL.EscapedPath(); path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
		s.refuse(w, r, newProblem(http.StatusNotFound, codeNoRoute, "there is no %q here: write . .. and / in names as %%2E %%2E%%2E and %%2F", p))
		return
	}
	_, pattern := s.mux.Handler(r)
	o := s.operations[pattern]
	if o == nil {
		s.refuse(w, r, s.unmatched(w, r))
		return
	}
	took(w, pattern)
	if o.page != "" && wantsPage(r) {
		w.Header().Set("Location", o.page)
		send(w, http.StatusSeeOther, "", nil)
		return
	}
	r, err := s.admit(w, r, o)
	if err == nil {
		defer callerOf(r.Context()).done()
		err = cmp.Or(checkQuery(r, o), refuseOnce(r, o))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// unmatched tells a wrong path from a wrong method.
func (s *server) unmatched(w http.ResponseWriter, r *http.Request) *Problem {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return newProblem(http.StatusNotFound, codeNoRoute, "there is no %s here", r.URL.EscapedPath())
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return newProblem(http.StatusMethodNotAllowed, codeMethod, "%s takes %s, not %s", r.URL.EscapedPath(), strings.Join(allowed, " and "), r.Method)
}

// checkQuery refuses names that the operation does not know: a filter with a typing error
// would otherwise pass for one that restricts nothing.
func checkQuery(r *http.Request, o *operation) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("the query can't be read: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !o.loose && !slices.Contains(o.queries, name) && (o.prefix == "" || !strings.HasPrefix(name, o.prefix)) {
			p := badRequest("this call knows no query parameter %q", name)
			p.Hint = spelling.Choice(name, o.queries)
			return p
		}
	}
	return nil
}

// writeLimit is how long one answer, or one event of a live view, may take to be taken.
const writeLimit = 30 * time.Second

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeLimit)) // not every ResponseWriter has one
	if len(body) > 0 {
		body = append(body, '\n')
		w.Header().Set("Content-Type", contentType)
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body))) // else the flush would make it chunks
	}
	w.WriteHeader(status)
	w.Write(body)
	_ = rc.Flush()                       // who is gone needs no answer
	_ = rc.SetWriteDeadline(time.Time{}) // for the connection's next request, which may be another handler's
}
