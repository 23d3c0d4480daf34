package pawl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

func logTo(o *outside) *slog.Logger {
	return slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// catcher takes requests of one webhook until one has the body "end", and returns their bodies.
// respond, if not nil, answers each in a step.
func catcher(name string, respond func(ctx context.Context, req *pawl.Request) error, opts ...pawl.HookOption) *pawl.Workflow[none, []string] {
	return pawl.Define(name, func(c *pawl.Context, _ none) (out []string, err error) {
		h, err := pawl.NewWebhook(c, opts...)
		if err != nil {
			return nil, err
		}
		for req, err := range h.All(c) {
			if err != nil {
				return nil, err
			}
			if respond != nil {
				if err := pawl.Do(c, "respond", func(ctx context.Context) error { return respond(ctx, req) }); err != nil {
					return nil, err
				}
			}
			if out = append(out, string(req.Body)); string(req.Body) == "end" {
				break
			}
		}
		return out, nil
	})
}

func TestAWebhookTakesEveryMethodAndTheWholeRequest(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		methods := []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"}
		w := pawl.Define("whole", func(c *pawl.Context, _ none) (out []pawl.Request, err error) {
			h, err := pawl.NewWebhook(c)
			for range methods {
				if err == nil {
					var r *pawl.Request
					if r, err = h.Wait(c); err == nil {
						out = append(out, *r)
					}
				}
			}
			return out, err
		})
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, none{})
		to := n.address(f, r.ID(), 1)
		for _, m := range methods {
			got := f.call(m, to+"?a=b&a=c%20d", "\x00\xff body", "X-Mine", "1", "X-Mine", "2", "Connection", "close, X-Hop", "X-Hop", "x",
				"Te", "trailers", "Proxy-Authorization", "p", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Referer", to)
			f.answered(m, got, 202, "")
		}
		for i, req := range result(n, r) {
			equal(t, "method", req.Method, methods[i])
			equal(t, "URL", req.URL, to+"?a=b&a=c%20d")
			equal(t, "header of its own", req.Header.Values("X-Mine"), []string{"1", "2"})
			for _, hop := range []string{"Connection", "X-Hop", "Te", "Proxy-Authorization"} {
				equal(t, hop, req.Header.Get(hop), "")
			}
			equal(t, "body", string(req.Body), "\x00\xff body")
			equal(t, "run", req.Run, r.ID())
			equal(t, "until", req.Until.IsZero(), true)
		}
	})
}

// TestUnknownWebhooksLookTheSame: nobody learns what there is.
func TestUnknownWebhooksLookTheSame(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("hides", func(c *pawl.Context, _ none) (none, error) {
			if _, err := pawl.NewHook[none](c, pawl.Token("named")); err != nil {
				return none{}, err
			}
			return pawl.WaitFor[none](c, "end")
		})
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, none{})
		n.hook("named")
		want := f.call("POST", pawl.WebhookPath+strings.Repeat("0", 39), "x")
		f.answered("a token that nobody has", want, 404, "")
		for _, token := range []string{"named", "short", "$sha256:" + strings.Repeat("0", 64), "a/b", "%00", "%ff", "%2e%2e", strings.Repeat("0", 5000), strings.Repeat("0", 40)} {
			for _, body := range []string{"", "x", strings.Repeat("x", 2<<20)} {
				got := f.call("POST", pawl.WebhookPath+token, body, "Content-Encoding", "gzip")
				if !reflect.DeepEqual(got, want) && !(len(body) > 1<<18 && got.status == 404) { // the server closes a connection that it does not read to its end
					t.Errorf("%.50q: %v %v; want %v %v", token, got, got.header, want, want.header)
				}
			}
		}
		n.signal(r.ID(), "end", none{})
		result(n, r)
	})
}

func TestAWebhookThatIsOverIsGone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("closes", func(c *pawl.Context, _ none) (none, error) {
			h, err := pawl.NewWebhook(c)
			if err == nil {
				_, err = h.Wait(c)
			}
			if err == nil {
				err = h.Close(c)
			}
			if err != nil {
				return none{}, err
			}
			return pawl.WaitFor[none](c, "end")
		})
		ends := catcher("ends", nil)
		n := boot(t, open(), nil, w, ends)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r, e := start(n, w, none{}), start(n, ends, none{})
		closed, ended := n.address(f, r.ID(), 1), n.address(f, e.ID(), 1)
		f.answered("the last request", f.call("POST", closed, ""), 202, "")
		f.answered("the last request of the other", f.call("POST", ended, "end"), 202, "")
		n.sees(r.ID(), pawl.KindHookClosed, n.keys(r.ID(), pawl.KindHook)[0]+".closed")
		result(n, e)
		f.answered("a closed one", f.call("POST", closed, ""), 410, "this webhook has ended\n")
		f.answered("one whose run has ended", f.call("POST", ended, ""), 410, "this webhook has ended\n")
		if err := n.Delete(n.ctx, pawl.Ref{ID: e.ID()}); err != nil {
			t.Fatal(err)
		}
		f.answered("one that is forgotten", f.call("POST", ended, ""), 404, "")
	})
}

func TestManualAnswers(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var late atomic.Pointer[error]
		slow := func(ctx context.Context, req *pawl.Request) error {
			if string(req.Body) == "late" {
				time.Sleep(time.Until(req.Until) + time.Millisecond)
			}
			err := pawl.Respond(ctx, req, pawl.Response{Status: 201, Header: http.Header{"X-Mine": {"1"}, "Connection": {"x"}}, Body: []byte("made " + string(req.Body))})
			if string(req.Body) == "late" {
				late.Store(&err)
				return nil
			}
			return err
		}
		answers, falls := catcher("answers", slow, pawl.RespondManually(time.Minute)), catcher("falls", slow, pawl.RespondManually(100*time.Millisecond, pawl.Response{Status: 299, Body: []byte("later")}))
		never, ends := catcher("never", nil, pawl.RespondManually(100*time.Millisecond)), catcher("unanswered", nil, pawl.RespondManually(time.Hour))
		n := boot(t, open(), nil, answers, falls, never, ends)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		got := f.call("PUT", n.address(f, start(n, answers, none{}).ID(), 1), "it")
		f.answered("a step's answer", got, 201, "made it")
		equal(t, "header", got.header.Get("X-Mine"), "1")
		f.answered("nobody answers in time", f.call("PUT", n.address(f, start(n, never, none{}).ID(), 1), "it"), 504, "nobody has answered in time\n")
		f.answered("the fallback", f.call("PUT", n.address(f, start(n, falls, none{}).ID(), 1), "late"), 299, "later")
		n.until("the late answer", func() bool { return late.Load() != nil })
		err := *late.Load()
		is(t, err, pawl.ErrTimeout)
		if !pawl.IsFatal(err) || !strings.Contains(err.Error(), "299") {
			t.Errorf("the late answer's error is %v; want one that is fatal and says what the caller got", err)
		}
		// The run ends: nobody waits for an hour.
		f.answered("the run ends without an answer", f.call("PUT", n.address(f, start(n, ends, none{}).ID(), 1), "end"), 504, "nobody has answered in time\n")
	})
}

// TestARepeatIsAnsweredAsTheFirst: it reaches the run once, whether its answer is fixed, a step's, or under way.
func TestARepeatIsAnsweredAsTheFirst(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		door := newGate()
		var asked counts
		fixed := catcher("fixed", nil, pawl.Dedupe("x-delivery"), pawl.Answering(pawl.Response{Status: 207, Body: []byte("fixed")}))
		manual := catcher("manual", func(ctx context.Context, req *pawl.Request) error {
			n := asked.add("n")
			if string(req.Body) == "gate" {
				if err := door.pass(ctx); err != nil {
					return err
				}
			}
			return pawl.Respond(ctx, req, pawl.Response{Body: fmt.Append(nil, "answer ", n)})
		}, pawl.Dedupe("X-Delivery"), pawl.RespondManually(time.Minute))
		n := boot(t, open(), nil, fixed, manual)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		a, b := start(n, fixed, none{}), start(n, manual, none{})
		toFixed, toManual := n.address(f, a.ID(), 1), n.address(f, b.ID(), 1)
		f.answered("without a name", f.call("POST", toFixed, "x"), 400, "the header X-Delivery, which names the delivery, must be there once\n")
		for range 2 {
			f.answered("fixed", f.call("POST", toFixed, "x", "X-Delivery", "1"), 207, "fixed")
			f.answered("manual", f.call("POST", toManual, "x", "X-Delivery", "1"), 200, "answer 1")
		}
		answers := make(chan told, 2)
		ask := func() {
			got, err := f.try("POST", toManual, "gate", "X-Delivery", "2")
			if err != nil {
				got.body = err.Error()
			}
			answers <- got
		}
		go ask()
		door.wait(t)
		go ask() // of one under way: it waits for its answer
		select {
		case got := <-answers:
			t.Fatalf("somebody was answered before the step: %v", got)
		case <-time.After(100 * time.Millisecond):
		}
		door.open()
		for range 2 {
			f.answered("under way", <-answers, 200, "answer 2")
		}
		f.answered("end", f.call("POST", toFixed, "end", "X-Delivery", "e"), 207, "fixed")
		f.answered("end", f.call("POST", toManual, "end", "X-Delivery", "e"), 200, "answer 3")
		equal(t, "fixed", result(n, a), []string{"x", "end"})
		equal(t, "manual", result(n, b), []string{"x", "gate", "end"})
		// The runs have ended: repeats have their answers, what is new has none.
		f.answered("fixed, ended", f.call("POST", toFixed, "end", "X-Delivery", "e"), 207, "fixed")
		f.answered("manual, ended", f.call("POST", toManual, "end", "X-Delivery", "e"), 200, "answer 3")
		f.answered("new", f.call("POST", toManual, "end", "X-Delivery", "f"), 410, "this webhook has ended\n")
	})
}

func TestSignedWebhooks(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catcher("signed", nil, pawl.Signed("github", "hub"))
		lost := catcher("lost", nil, pawl.Signed("github", "nobody"))
		n := boot(t, open(), nil, w, lost)
		verify := func(scheme, secretName string, header http.Header, body []byte, now time.Time) (string, error) {
			switch {
			case secretName != "hub":
				return "", fmt.Errorf("%w: secret %q", pawl.ErrNotFound, secretName)
			case scheme != "github" || header.Get("X-Sign") != "of "+string(body) || time.Since(now) > time.Minute:
				return "", errors.New("the signature does not fit")
			}
			return header.Get("X-Id"), nil
		}
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{Verify: verify})
		l2, _ := listen(t)
		blind := serve(t, l2, n.Engine, api.Options{})
		r := start(n, w, none{})
		to := n.address(f, r.ID(), 1)
		f.answered("unsigned", f.call("POST", to, "x"), 401, "the signature does not fit\n")
		f.answered("edited", f.call("POST", to, "y", "X-Sign", "of x"), 401, "the signature does not fit\n")
		for range 2 {
			f.answered("signed", f.call("POST", to, "x", "X-Sign", "of x", "X-Id", "1"), 202, "")
		}
		f.answered("signed, without a name", f.call("POST", to, "x", "X-Sign", "of x"), 202, "")
		got := f.call("POST", n.address(f, start(n, lost, none{}).ID(), 1), "x", "X-Sign", "of x")
		f.answered("a secret that is not there", got, 503, "try again\n")
		if !strings.Contains(f.log.String(), "nobody") {
			t.Errorf("the log does not name the secret: %s", f.log)
		}
		got = blind.call("POST", n.address(blind, r.ID(), 1), "x", "X-Sign", "of x")
		f.answered("a server that can't check", got, 503, "try again\n")
		if got.header.Get("Retry-After") == "" || !strings.Contains(blind.log.String(), "Options.Verify") {
			t.Errorf("%v, log %s", got.header, blind.log)
		}
		f.answered("end", f.call("POST", to, "end", "X-Sign", "of end"), 202, "")
		equal(t, "bodies", result(n, r), []string{"x", "x", "end"})
	})
}

func TestWebhooksHaveLimits(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catcher("limited", nil)
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{MaxWebhookBody: 1000, WebhookRate: api.Rate{PerSecond: 0.01, Burst: 3}, ClientRate: api.Rate{PerSecond: 0.01, Burst: 12}})
		r, other := start(n, w, none{}), start(n, w, none{})
		to := n.address(f, r.ID(), 1)
		f.answered("1000 bytes", f.call("POST", to, strings.Repeat("x", 1000)), 202, "")
		f.answered("1001 bytes", f.call("POST", to, strings.Repeat("x", 1001)), 413, "the body is over 1000 bytes\n")
		f.answered("gzip", f.call("POST", to, "x", "Content-Encoding", "gzip"), 415, "send the body without Content-Encoding\n")
		got := f.call("POST", to, "x")
		f.answered("a fourth", got, 429, "too many requests to this webhook\n")
		if s, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || s < 90 || s > 100 {
			t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
		}
		f.answered("another webhook", f.call("POST", n.address(f, other.ID(), 1), "x", "Content-Encoding", "identity"), 202, "")
		for range 7 {
			f.answered("an unknown one", f.call("POST", pawl.WebhookPath+"unknown", "x"), 404, "")
		}
		got = f.call("POST", pawl.WebhookPath+"unknown", "x")
		f.answered("too many of one address", got, 429, "too many requests from this address\n")
		equal(t, "Retry-After", got.header.Get("Retry-After") != "", true)
	})
}

// TestAWebhookOfAStoreThatFailsIsNotUnknown: senders try again; and nothing is acknowledged that is not durable.
func TestAWebhookOfAStoreThatFailsIsNotUnknown(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := catcher("safe", nil, pawl.Dedupe("X-Id"))
		n := boot(t, open(), nil, w)
		var method atomic.Pointer[string]
		var fault atomic.Pointer[storetest.Fault]
		method.Store(new(string))
		faulty := storetest.Faulty(open(), func(m string, _ int) storetest.Fault {
			if m == *method.Load() {
				return *fault.Load()
			}
			return storetest.Fault{}
		})
		l, _ := listen(t)
		f := serve(t, l, client(t, faulty, nil).Engine, api.Options{})
		r := start(n, w, none{})
		to := n.address(f, r.ID(), 1)
		for _, c := range []struct {
			method string
			fault  storetest.Fault
		}{{"FindHook", storetest.Fault{Err: errors.New("the disk is gone")}}, {"Commit", storetest.Fault{Err: errors.New("the disk is gone")}}, {"Commit", storetest.Fault{Lose: true}}} {
			fault.Store(&c.fault)
			method.Store(&c.method)
			got := f.call("POST", to, "x", "X-Id", "1")
			f.answered(c.method, got, 503, "try again\n")
			equal(t, "Retry-After", got.header.Get("Retry-After"), "5")
			if c.fault.Err != nil {
				equal(t, "payloads", len(n.journal(r.ID(), pawl.KindPayload)), 0)
			}
		}
		method.Store(new(string))
		f.answered("again", f.call("POST", to, "x", "X-Id", "1"), 202, "")
		f.answered("end", f.call("POST", to, "end", "X-Id", "2"), 202, "")
		equal(t, "bodies", result(n, r), []string{"x", "end"})
		token := to[strings.LastIndex(to, "/")+1:]
		if strings.Contains(f.log.String(), token) || !strings.Contains(f.log.String(), "the disk is gone") {
			t.Errorf("the log has the token, or lacks the cause: %s", f.log)
		}
	})
}

// TestAWebhooksTokenIsNeitherStoredNorLogged: not by the requests either.
func TestAWebhooksTokenIsNeitherStoredNorLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	store, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := catcher("web", func(ctx context.Context, req *pawl.Request) error { return pawl.Respond(ctx, req, pawl.Response{}) }, pawl.RespondManually(0))
	o := keeps(secret)
	var log outside
	o.Logger = logTo(&log)
	n := boot(t, store, o, w)
	l, _ := listen(t)
	f := serve(t, l, n.Engine, api.Options{})
	r, failed := start(n, w, none{}), start(n, w, none{})
	to := n.address(f, r.ID(), 1)
	for _, body := range []string{"sentinel of the test", "end"} {
		f.answered(body, f.call("POST", to+"?from="+to, body, "Referer", to, "X-Original-Url", to), 200, "")
	}
	result(n, r)
	f.answered("ended", f.call("POST", to, ""), 410, "this webhook has ended\n")
	n.cancel(failed.ID(), "enough")
	var all []byte
	for _, file := range []string{path, path + "-wal"} {
		data, err := os.ReadFile(file)
		n.ok(err)
		all = append(all, data...)
	}
	token := []byte(to[strings.LastIndex(to, "/")+1:])
	if !bytes.Contains(all, []byte(r.ID())) || bytes.Contains(all, token) {
		t.Error("the token is in the store")
	}
	if bytes.Contains([]byte(log.String()+f.log.String()), token) {
		t.Error("the token is in the log")
	}
	n.stop()
	n.ok(store.Close())
}

func TestTheAddressOfAWebhooksRequest(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("address", func(c *pawl.Context, _ none) (string, error) {
			h, err := pawl.NewWebhook(c)
			if err != nil {
				return "", err
			}
			r, err := h.Wait(c)
			if err != nil {
				return "", err
			}
			base, _ := strings.CutSuffix(r.URL, pawl.WebhookPath+h.Token())
			return base, nil
		})
		n := boot(t, open(), nil, w)
		forwarded := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "proxy.example"}
		for _, c := range []struct {
			opt  api.Options
			want string
		}{
			{api.Options{}, "http://127.0.0.1"},
			{api.Options{TrustForwarded: true}, "https://proxy.example"},
			{api.Options{PublicURL: "https://public.example/at/", TrustForwarded: true}, "https://public.example/at"},
		} {
			l, _ := listen(t)
			f := serve(t, l, n.Engine, c.opt)
			r := start(n, w, none{})
			f.answered(c.want, f.call("POST", n.address(f, r.ID(), 1), "", forwarded...), 202, "")
			if got := result(n, r); !strings.HasPrefix(got, c.want) {
				t.Errorf("%+v: %s; want %s", c.opt, got, c.want)
			}
		}
	})
}

func TestFormsOfWebhooks(t *testing.T) {
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	if err := m.WriteField("name", "value"); err != nil {
		t.Fatal(err)
	}
	part, err := m.CreateFormFile("file", "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(part, "content")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	req := func(kind, body string) *pawl.Request {
		return &pawl.Request{Header: http.Header{"Content-Type": {kind}}, Body: []byte(body)}
	}
	form, err := req(m.FormDataContentType(), body.String()).Form()
	if err != nil || form.Value["name"][0] != "value" || form.File["file"][0].Filename != "a.txt" {
		t.Errorf("a form of several parts: %+v, %v", form, err)
	}
	form, err = req("application/x-www-form-urlencoded; charset=utf-8", "a=1&a=2&b=%20").Form()
	if err != nil || !reflect.DeepEqual(form.Value, map[string][]string{"a": {"1", "2"}, "b": {" "}}) {
		t.Errorf("a form of one part: %+v, %v", form, err)
	}
	for _, r := range []*pawl.Request{req("application/json", `{"files":[{"path":"/etc/passwd"}]}`), req("", "a=1"), req("application/x-www-form-urlencoded", "%zz"),
		req("multipart/form-data", "x"), req("multipart/form-data; boundary=x", "nothing")} {
		if _, err := r.Form(); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("%s %q: %v", r.Header.Get("Content-Type"), r.Body, err)
		}
	}
}

// TestOptionsOfWebhooksThatMakeNoSense: are refused where they are given.
func TestOptionsOfWebhooksThatMakeNoSense(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		bad := [][]pawl.HookOption{
			{pawl.Token("mine")}, {pawl.Answering(pawl.Response{Status: 99})}, {pawl.Answering(pawl.Response{Status: 600})},
			{pawl.RespondManually(0, pawl.Response{Status: 101})}, {pawl.Signed("github", "")}, {pawl.Signed("", "x")}, {pawl.Dedupe("")},
		}
		w := pawl.Define("bad", func(c *pawl.Context, _ none) (int, error) {
			refused := 0
			for _, opts := range bad {
				if _, err := pawl.NewWebhook(c, opts...); errors.Is(err, pawl.ErrMisuse) {
					refused++
				}
			}
			if _, err := pawl.NewHook[none](c, pawl.Answering(pawl.Response{})); errors.Is(err, pawl.ErrMisuse) {
				refused++
			}
			// Those that go together keep each other, and what was given to Meta.
			if _, err := pawl.NewWebhook(c, pawl.Signed("github", "hub"), pawl.Meta("mine"), pawl.RespondManually(time.Second), pawl.Dedupe("x-id")); err != nil {
				return 0, err
			}
			_, err := pawl.WaitFor[none](c, "end")
			return refused, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		equal(t, "hooks", len(hooks), 1)
		var a pawl.Answer
		mustDecode(t, string(hooks[0].Meta), &a)
		equal(t, "answer", a, pawl.Answer{Manual: true, Wait: time.Second, Scheme: "github", Secret: "hub", Dedupe: "X-Id", Meta: []byte(`"mine"`)})
		n.signal(r.ID(), "end", none{})
		equal(t, "refused", result(n, r), len(bad)+1)
	})
}
