package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// What upstream's features and faults ask for beside its numbered tests, asked of a real server.

// A cancel ends the run's streams and hooks: readers are told, and tokens are free.
func TestA4_cancelEndsStreamsAndHooksOverHTTP(t *testing.T) {
	writes := pawl.Define("writes", func(c *pawl.Context, token string) (any, error) {
		if _, err := pawl.NewHook[any](c, pawl.Token(token)); err != nil {
			return nil, err
		}
		if _, err := pawl.NewWebhook(c); err != nil {
			return nil, err
		}
		if err := c.Stream("words").Write("only"); err != nil {
			return nil, err
		}
		return pawl.WaitFor[any](c, "end")
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.startAs("writes", "t-cancel")
		h.until(id, pawl.Waiting)
		hooks, err := h.client.Hooks(t.Context(), id)
		if err != nil || len(hooks.Items) != 2 {
			t.Fatalf("%+v %v", hooks, err)
		}
		v := h.view(api.RunPath(id)+"/streams/words", "")
		v.expect("0 chunk")
		if _, err := h.client.Cancel(t.Context(), id, "enough"); err != nil {
			t.Fatal(err)
		}
		v.expect("0-end end {}")
		same(t, "state", h.failure(id).State, pawl.Cancelled)
		same(t, "who comes later reads", h.chunks(id, "words", 0), []string{`"only"`})
		page, err := h.client.ChunkPage(t.Context(), id, "words", 0, 0)
		if err != nil || !page.Done {
			t.Errorf("%+v %v", page, err)
		}
		h.refused(404, "not_found", "POST", "/api/hooks/t-cancel", "1")
		r := h.send("POST", pawl.WebhookPath+hooks.Items[1].Token, "x")
		same(t, "its webhook", fmt.Sprintf("%d %q", r.status, r.body), `410 "this webhook has ended\n"`)
		next := h.startAs("writes", "t-cancel")
		same(t, "the token is another's", h.hooked("t-cancel").Run, next)
	}, writes)
}

// A payload that does not fit the schema is refused at the door, and says why.
func TestA4_hookSchemaOverHTTP(t *testing.T) {
	checked := pawl.Define("checked", func(c *pawl.Context, token string) (message, error) {
		h, err := pawl.NewHook[message](c, pawl.Token(token), pawl.Schema(json.RawMessage(`{"required":["message"]}`)))
		if err != nil {
			return message{}, err
		}
		return h.Wait(c)
	})
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		logger := slog.New(slog.NewTextHandler(t.Output(), nil))
		engine := pawl.New(store(), &pawl.Options{Logger: logger, Poll: 50 * time.Millisecond, CheckSchema: func(schema, data []byte) error {
			if string(schema) != `{"required":["message"]}` {
				return errors.New("another schema")
			}
			if !bytes.Contains(data, []byte(`"message"`)) {
				return errors.New("message is missing")
			}
			return nil
		}})
		if err := engine.Register(checked); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- engine.Run(ctx) }()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- api.Serve(ctx, l, api.New(engine, api.Options{Logger: logger}), time.Second) }()
		defer func() {
			stop()
			if err := errors.Join(<-served, <-ran); err != nil {
				t.Error(err)
			}
		}()
		h := &house{t: t, url: "http://" + l.Addr().String(), contract: newContract(t)}
		if h.client, err = api.NewClient(h.url, nil); err != nil {
			t.Fatal(err)
		}
		id := h.startAs("checked", "t-schema")
		same(t, "schema", string(h.hooked("t-schema").Schema), `{"required":["message"]}`)
		for _, bad := range []string{`{"other":1}`, `"no object"`} {
			if p := h.refused(400, "input", "POST", "/api/hooks/t-schema", bad); !strings.Contains(p.Detail, "message is missing") {
				t.Errorf("it does not say why: %s", p.Detail)
			}
		}
		same(t, "payloads", len(h.entries(id, pawl.KindPayload)), 0)
		h.sendHook("t-schema", `{"message":"fits"}`)
		same(t, "payload", h.result(id), `{"message":"fits"}`)
	})
}

// A reader whose connection is cut, again and again while chunks come, loses and doubles none.
func TestA4_streamReaderReconnects(t *testing.T) {
	const size = 60
	next := make(chan struct{})
	counts := pawl.Define("counts", func(c *pawl.Context, _ any) (any, error) {
		return nil, pawl.Do(c, "write", func(ctx context.Context) error {
			for i := range size {
				select {
				case <-next:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if err := pawl.StreamOf(ctx, "n").Write(i); err != nil {
					return err
				}
			}
			return nil
		})
	})
	eachHouse(t, func(t *testing.T, h *house) {
		target, err := url.Parse(h.url)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			FlushInterval: -1,
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
			ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
			ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		})
		defer proxy.Close()
		client, err := api.NewClient(proxy.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		id := h.start("counts", "null")
		next <- struct{}{}
		var got, want []string
		for e, err := range client.ReadStream(t.Context(), id, "n", 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != api.EventChunk {
				continue
			}
			got = append(got, fmt.Sprint(e.Chunk.Index, "=", string(e.Chunk.Data)))
			if len(got)%10 == 5 {
				proxy.CloseClientConnections()
			}
			if len(got) < size {
				next <- struct{}{}
			}
		}
		for i := range size {
			want = append(want, fmt.Sprint(i, "=", i))
		}
		same(t, "chunks", got, want)
		h.until(id, pawl.Completed)
	}, counts)
}

// The URL of a webhook works when NewWebhook returns: the next step calls it.
func TestV7_aWebhookWorksWhenItIsMade(t *testing.T) {
	def := pawl.Define("asks", func(c *pawl.Context, base string) (string, error) {
		w, err := pawl.NewWebhook(c)
		if err != nil {
			return "", err
		}
		status, err := pawl.Step(c, "send the link", func(ctx context.Context) (int, error) {
			req, err := http.NewRequestWithContext(ctx, "POST", base+w.URL(), strings.NewReader("clicked"))
			if err != nil {
				return 0, err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return 0, err
			}
			return res.StatusCode, res.Body.Close()
		})
		if err != nil {
			return "", err
		}
		req, err := w.Wait(c)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(status, " ", string(req.Body)), nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		same(t, "result", h.result(h.startAs("asks", h.url)), `"202 clicked"`)
	}, def)
}

// What a negative start comes to is told, also while the stream is written: who goes on from
// the first index and the chunks that came reads each once.
func TestV14_aNegativeStartIsTold(t *testing.T) {
	more := pawl.Define("more", func(c *pawl.Context, _ any) (any, error) {
		for i := 0; ; i++ {
			if err := c.Stream("n").Write(i); err != nil {
				return nil, err
			}
			if i%3 == 2 {
				if _, err := pawl.WaitFor[any](c, "more"); err != nil || i == 8 {
					return nil, err
				}
			}
		}
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("more", "null")
		path := api.RunPath(id) + "/streams/n"
		for _, want := range []string{"1 2", "4 5", "7 8"} { // start and tail, of the same question
			h.until(id, pawl.Waiting)
			h.eventually("a view that begins at "+want, func() bool { return h.heads(path+"?from=-2") == want })
			v := h.view(path+"?from=-2", "")
			v.expect(want[:1] + " chunk")
			v.expect(want[2:] + " chunk")
			v.res.Body.Close()
			h.signal(id, "more")
		}
		h.until(id, pawl.Completed)
	}, more)
}
