package service_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

// echo answers with what it was asked, backwards, since keys are taken out of answers.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	data, _ := json.Marshal(map[string]any{"method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "header": r.Header, "body": string(body), "host": r.Host})
	_ = json.NewEncoder(w).Encode(backwards(string(data)))
}

func backwards(s string) string {
	runes := []rune(s)
	slices.Reverse(runes)
	return string(runes)
}

// heard reads what an echo says.
func heard(t testing.TB, body any) (e echoed) {
	t.Helper()
	var said string
	if err := json.Unmarshal([]byte(text(body)), &said); err != nil {
		t.Fatalf("%v: %v", body, err)
	}
	if err := json.Unmarshal([]byte(backwards(said)), &e); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	return e
}

type echoed struct {
	Method, Path, Query, Body, Host string
	Header                          http.Header
}

func sent(t testing.TB, s service.Service, pairs ...any) echoed {
	t.Helper()
	return heard(t, asked(t, s, pairs...).Body)
}

func TestARequestIsSentAsItWasAsked(t *testing.T) {
	s := serve(t, echo)
	e := sent(t, web(t), "url", s.URL+"/a%2Fb/c?x=1#frag", "method", "PUT", "query", map[string]any{"q": "a b&c", "n": json.Number("9007199254740993"), "l": []any{1, true, "z"}},
		"headers", map[string]string{"X-Trace": "t\tü", "content-type": "application/vnd.x+json"}, "body", map[string]any{"n": json.Number("9007199254740993"), "t": "<&>"})
	if e.Method != "PUT" || e.Path != "/a%2Fb/c" || e.Query != "x=1&l=1&l=true&l=z&n=9007199254740993&q=a+b%26c" || !strings.Contains(e.Body, `9007199254740993`) {
		t.Errorf("%+v", e)
	}
	if e.Header.Get("X-Trace") != "t\tü" || e.Header.Get("Content-Type") != "application/vnd.x+json" || e.Header.Get("Idempotency-Key") != "step-1" || e.Header.Get("User-Agent") != "pawl" {
		t.Errorf("%v", e.Header)
	}
	for name, c := range map[string]struct {
		pairs []any
		want  func(e echoed) bool
	}{
		"GET has no key": {nil, func(e echoed) bool { return e.Method == "GET" && e.Header.Get("Idempotency-Key") == "" && e.Body == "" }},
		"text": {[]any{"method", "POST", "body", "hello"}, func(e echoed) bool {
			return e.Body == "hello" && e.Header.Get("Content-Type") == "text/plain; charset=utf-8"
		}},
		"a list":  {[]any{"method", "POST", "body", []int{1, 2}}, func(e echoed) bool { return e.Body == "[1,2]" && e.Header.Get("Content-Type") == "application/json" }},
		"no body": {[]any{"method", "POST", "body", nil}, func(e echoed) bool { return e.Body == "" && e.Header.Get("Content-Type") == "" }},
		"an empty text": {[]any{"method", "POST", "body", ""}, func(e echoed) bool {
			return e.Body == "" && e.Header.Get("Content-Length") == "0" || e.Method == "POST"
		}},
		"a form":        {[]any{"method", "POST", "form", map[string]any{"a": "b c", "d": []any{1, 2}}}, func(e echoed) bool { return e.Body == "a=b+c&d=1&d=2" }},
		"bearer":        {[]any{"auth", map[string]any{"bearer": "tok"}}, func(e echoed) bool { return e.Header.Get("Authorization") == "Bearer tok" }},
		"basic":         {[]any{"auth", map[string]any{"basic": map[string]string{"username": "u", "password": "p:ä"}}}, func(e echoed) bool { return e.Header.Get("Authorization") == "Basic dTpwOsOk" }},
		"a header":      {[]any{"auth", map[string]any{"header": map[string]string{"name": "X-Api-Key", "value": "k"}}}, func(e echoed) bool { return e.Header.Get("X-Api-Key") == "k" }},
		"one's own key": {[]any{"method", "POST", "headers", map[string]string{"idempotency-key": "mine"}}, func(e echoed) bool { return e.Header.Get("Idempotency-Key") == "mine" }},
		"a key of another name": {[]any{"method", "DELETE", "idempotencyHeader", "X-Request-Key"}, func(e echoed) bool {
			return e.Header.Get("X-Request-Key") == "step-1" && e.Header.Get("Idempotency-Key") == ""
		}},
		"no key": {[]any{"method", "PATCH", "idempotencyHeader", ""}, func(e echoed) bool { return e.Header.Get("Idempotency-Key") == "" }},
	} {
		if e := sent(t, web(t), append([]any{"url", s.URL}, c.pairs...)...); !c.want(e) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e := sent(t, webOf(t, service.HTTPOptions{Network: loopback, IdempotencyHeader: "X-K", UserAgent: "shop/1"}), "url", s.URL, "method", "POST"); e.Header.Get("X-K") != "step-1" || e.Header.Get("User-Agent") != "shop/1" {
		t.Errorf("%v", e.Header)
	}
	if e := sent(t, webOf(t, service.HTTPOptions{Network: loopback, IdempotencyHeader: "-"}), "url", s.URL, "method", "POST"); e.Header.Get("Idempotency-Key") != "" {
		t.Errorf("%v", e.Header)
	}
}

func TestWhatCanNotBeSentIsRefusedBefore(t *testing.T) {
	var served atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	for words, pairs := range map[string][]any{
		"url":                      {},
		"X-A has a line break":     {"url", s.URL, "headers", map[string]string{"X-A": "a\r\nX-Evil: 1"}},
		"X-B has a line break":     {"url", s.URL, "headers", map[string]string{"X-B": "a\nb"}},
		"X-C has a line break":     {"url", s.URL, "headers", map[string]string{"X-C": "a\x00b"}},
		`"X-D: 1\r\nX" is no name`: {"url", s.URL, "headers", map[string]string{"X-D: 1\r\nX": "b"}},
		`"" is no name`:            {"url", s.URL, "headers", map[string]string{"": "b"}},
		`"Host" is not for`:        {"url", s.URL, "headers", map[string]string{"Host": "internal"}},
		`"transfer-encoding" is`:   {"url", s.URL, "headers", map[string]string{"transfer-encoding": "chunked"}},
		`"Content-Length" is`:      {"url", s.URL, "headers", map[string]string{"Content-Length": "1"}},
		`"proxy-authorization" is`: {"url", s.URL, "headers", map[string]string{"proxy-authorization": "x"}},
		"Authorization has a line": {"url", s.URL, "auth", map[string]any{"bearer": "x\r\nX-Evil: 1"}},
		"Authorization is given":   {"url", s.URL, "auth", map[string]any{"bearer": "x"}, "headers", map[string]string{"authorization": "y"}},
		`"host" can't hold a key`:  {"url", s.URL, "auth", map[string]any{"header": map[string]string{"name": "host", "value": "v"}}},
		"auth":                     {"url", s.URL, "auth", map[string]any{"bearer": "x", "header": map[string]string{"name": "a", "value": "v"}}},
		"can't hold the idempot":   {"url", s.URL, "method", "POST", "idempotencyHeader", "Connection"},
		"a GET has no body":        {"url", s.URL, "body", "x"},
		"a HEAD has no body":       {"url", s.URL, "method", "HEAD", "form", map[string]any{}},
		"not both":                 {"url", s.URL, "method", "POST", "body", "x", "form", map[string]any{}},
		"method":                   {"url", s.URL, "method", "TRACE"},
		"bodi":                     {"url", s.URL, "bodi", "x"},
		"timeoutMs":                {"url", s.URL, "timeoutMs", 0},
		"maxBytes":                 {"url", s.URL, "maxBytes", 1 << 40},
		"expect":                   {"url", s.URL, "expect", []int{}},
		"/query/q":                 {"url", s.URL, "query", map[string]any{"q": map[string]any{}}},
		"the limit is 8388608":     {"url", s.URL, "method", "POST", "body", strings.Repeat("x", 8<<20+1)},
		"the limit is 32768":       {"url", s.URL, "headers", map[string]string{"A": strings.Repeat("x", 32<<10)}},
		"8,192":                    {"url", s.URL + "/" + strings.Repeat("x", 8<<10)},
	} {
		refuses(t, web(t), service.Invalid, words, pairs...)
	}
	if served.Load() != 0 {
		t.Errorf("%d requests were sent", served.Load())
	}
	if _, err := web(t).Call(t.Context(), service.Call{Params: json.RawMessage(`{"url":`)}); err == nil {
		t.Error("what is no JSON was carried out")
	}
	for _, opt := range []service.HTTPOptions{{Timeout: -1}, {Timeout: time.Hour}, {Idle: -1}, {MaxBytes: -1}, {IdempotencyHeader: "a b"}, {IdempotencyHeader: "host"}} {
		if _, err := service.NewHTTP(opt); err == nil {
			t.Errorf("%+v was taken", opt)
		}
	}
}

func TestBodiesAreReadAsTheyAre(t *testing.T) {
	for name, c := range map[string]struct{ kind, body, want string }{
		"JSON":               {"application/json", ` {"n": 9007199254740993, "e":1e3} `, ` {"n": 9007199254740993, "e":1e3} `},
		"a kind of JSON":     {"application/problem+json", `[1]`, `[1]`},
		"JSON with a mark":   {"application/json", "\ufeff[1]", `[1]`},
		"text":               {"text/plain", "hëllo\x00", "hëllo\x00"},
		"text like JSON":     {"text/plain", "[1]", "[1]"},
		"no type":            {"", "plain", "plain"},
		"a broken type":      {"text/;;", "plain", "plain"},
		"latin":              {"text/plain; charset=ISO-8859-1", "h\xebllo", "hëllo"},
		"nothing":            {"text/plain", "", ""},
		"nothing, as JSON":   {"application/json", " ", ""},
		"deep, not too deep": {"application/json", strings.Repeat("[", 200) + strings.Repeat("]", 200), strings.Repeat("[", 200) + strings.Repeat("]", 200)},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			_, _ = w.Write([]byte(c.body))
		})
		if answer := asked(t, web(t), "url", s.URL); text(answer.Body) != c.want || answer.Encoding != "" || c.want == "" && answer.Body != nil {
			t.Errorf("%s: %q", name, answer.Body)
		}
	}
	for body, words := range map[string]string{"{": "is none", "{} x": "is none", "\"\xff\"": "is none", strings.Repeat("[", 201) + strings.Repeat("]", 201): "over 200 values"} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(body))
		})
		refuses(t, web(t), service.BadAnswer, words, "url", s.URL)
	}
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Content-Type": "image/png", "Set-Cookie": "a=b", "X-Request-Id": "r", "X-Mine": "m", "X-Long": strings.Repeat("x", 9000)} {
			w.Header().Set(name, value)
		}
		_, _ = w.Write([]byte("\x89PNG\xff"))
	})
	answer := asked(t, web(t), "url", s.URL, "keepHeaders", []string{"x-mine", "x-long"})
	if answer.Body != "iVBOR/8=" && answer.Body != "iVBOR/8" || answer.Encoding != "base64" {
		t.Errorf("%+v", answer)
	}
	if h := answer.Headers; h["x-mine"] != "m" || h["x-request-id"] != "r" || h["content-type"] != "image/png" || h["set-cookie"] != "" || h["x-long"] != "" {
		t.Errorf("%v", h)
	}
	if answer := asked(t, web(t), "url", s.URL, "method", "HEAD"); answer.Body != nil || answer.Status != 200 {
		t.Errorf("%+v", answer)
	}
}

func TestStatusesAreErrorsOfTheirKind(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		if after := r.URL.Query().Get("after"); after != "" {
			w.Header().Set("Retry-After", after)
		}
		if date := r.URL.Query().Get("date"); date != "" {
			w.Header().Set("Date", date)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("<b>no\n\tway</b>\x1b[31m"))
	})
	for status, want := range map[int]string{
		400: service.Invalid, 401: service.Denied, 402: service.Invalid, 403: service.Denied, 404: service.NotFound, 405: service.Invalid, 407: service.Denied, 408: service.TimedOut, 409: service.Invalid, 410: service.NotFound,
		413: service.Invalid, 418: service.Invalid, 422: service.Invalid, 423: service.Invalid, 425: service.Unavailable, 429: service.RateLimited, 451: service.Invalid,
		500: service.Unavailable, 501: service.Invalid, 505: service.Invalid, 502: service.Unavailable, 503: service.Unavailable, 504: service.Unavailable, 599: service.Unavailable, 300: service.BadAnswer, 399: service.BadAnswer,
	} {
		err := refuses(t, web(t), want, "it answers: <b>no way</b>[31m", "url", fmt.Sprintf("%s/%d?key=sk", s.URL, status))
		if err.Status != status || strings.Contains(err.Error(), "sk") || err.Fatal() != (want != service.Unavailable && want != service.TimedOut && want != service.RateLimited) {
			t.Errorf("%d: %+v", status, err)
		}
	}
	const date = "Wed, 21 Oct 2015 07:28:00 GMT"
	for _, c := range []struct {
		status      int
		after, date string
		want        time.Duration
	}{
		{429, "7", "", 7 * time.Second}, {503, "120", "", 2 * time.Minute}, {500, "3", "", 3 * time.Second}, {429, "", "", 0}, {429, "0", "", 0}, {429, "-5", "", 0}, {429, "soon", "", 0}, {429, "1.5", "", 0},
		{429, "99999999999999999999999", "", 0}, {429, "9223372036854775807", "", 24 * time.Hour}, {400, "7", "", 0},
		{429, "Wed, 21 Oct 2015 07:29:30 GMT", date, 90 * time.Second}, {503, "Wednesday, 21-Oct-15 07:29:30 GMT", date, 90 * time.Second}, {429, "Wed, 21 Oct 2015 07:27:00 GMT", date, 0}, {429, "Wed, 21 Oct 2099 07:27:00 GMT", date, 24 * time.Hour},
	} {
		_, err := request(t, web(t), "url", fmt.Sprintf("%s/%d", s.URL, c.status), "query", map[string]any{"after": c.after, "date": c.date})
		if after, is := err.RetryAfter(); after != c.want || is != (c.want > 0) {
			t.Errorf("%d %q at %q: %v, want %v", c.status, c.after, c.date, after, c.want)
		}
	}
	refuses(t, web(t), service.BadAnswer, "200", "url", s.URL+"/200", "expect", []int{201, 204})
	if answer := asked(t, web(t), "url", s.URL+"/503", "expect", []int{200, 503}); answer.Status != 503 {
		t.Error(answer.Status)
	}
}

func TestBombsEndAtTheLimit(t *testing.T) {
	zeros := make([]byte, 1<<20)
	packed := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for range 200 {
			if _, err := z.Write(zeros); err != nil {
				return
			}
		}
		_ = z.Close()
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	}
	longHeader := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 10<<20)) }
	manyHeaders := func(w http.ResponseWriter, _ *http.Request) {
		for i := range 20_000 {
			w.Header().Set(fmt.Sprintf("X-%d", i), "some value of it")
		}
	}
	announced := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1099511627776")
		_, _ = w.Write(zeros)
	}
	failing := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); endless(w, r) }
	for name, handler := range map[string]http.HandlerFunc{"gzip": packed, "endless": endless, "a long header": longHeader, "many headers": manyHeaders, "announced": announced, "of an error": failing} {
		for _, h2 := range []bool{false, true} {
			code := service.TooLarge
			if h2 && strings.Contains(name, "header") {
				code = service.BadAnswer // the client cuts the connection
			}
			server := httptest.NewUnstartedServer(handler)
			server.EnableHTTP2 = h2
			server.Config.ErrorLog = quiet
			server.StartTLS()
			s := webOf(t, service.HTTPOptions{Network: trusting(server)})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if name == "of an error" {
				code = service.Unavailable
			}
			_, err := request(t, s, "url", server.URL)
			runtime.ReadMemStats(&after)
			if err == nil || err.Code != code || err.Fatal() != (code != service.Unavailable) {
				t.Errorf("%s, HTTP/2 %v: %v", name, h2, err)
			}
			server.CloseClientConnections()
			server.Close()
			if grown := after.HeapSys - before.HeapSys; after.HeapSys > before.HeapSys && grown > 128<<20 { // with the server's own
				t.Errorf("%s, HTTP/2 %v: the heap grew by %d MiB", name, h2, grown>>20)
			}
		}
	}
	exact := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(zeros[:1000]) })
	asked(t, web(t), "url", exact.URL, "maxBytes", 1000)
	refuses(t, web(t), service.TooLarge, "over 999 bytes", "url", exact.URL, "maxBytes", 999)
	strange := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		_, _ = w.Write([]byte("x"))
	})
	refuses(t, web(t), service.BadAnswer, `packed as "br"`, "url", strange.URL)
}

// trusting are rules that open this machine, and take a server's certificate for good.
func trusting(s *httptest.Server) service.Network {
	n := loopback
	n.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return n
}

func TestSlowServersEndInTime(t *testing.T) {
	drip := func(pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(pause):
				}
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s := webOf(t, service.HTTPOptions{Network: loopback, Idle: 300 * time.Millisecond})
	for name, c := range map[string]struct {
		h       http.HandlerFunc
		timeout int
		words   string
	}{
		"drips too slowly": {drip(time.Hour), 600_000, "stopped coming"},
		"drips for ever":   {drip(20 * time.Millisecond), 1500, "no whole answer in time"},
		"answers nothing":  {silent, 500, "no whole answer in time"},
		"reads for ever":   {silent, 500, "may have been carried out"},
	} {
		server := serve(t, c.h)
		begun := time.Now()
		err := refuses(t, s, service.TimedOut, c.words, "url", server.URL, "timeoutMs", c.timeout)
		if took := time.Since(begun); took > 30*time.Second || err.Fatal() {
			t.Errorf("%s: it took %v, fatal %v", name, took, err.Fatal())
		}
	}
}

// What a status says holds, also where the text behind it stops coming.
func TestAStatusCountsWithoutItsBody(t *testing.T) {
	stalls := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
		_, _ = w.Write([]byte("so it"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s := webOf(t, service.HTTPOptions{Network: loopback, Idle: 100 * time.Millisecond})
	for status, code := range map[int]string{400: service.Invalid, 404: service.NotFound, 429: service.RateLimited, 503: service.Unavailable} {
		for _, timeout := range []int{300, 600_000} {
			err := refuses(t, s, code, "so it", "url", fmt.Sprintf("%s/?status=%d", stalls.URL, status), "timeoutMs", timeout)
			if after, is := err.RetryAfter(); is != (status >= 429) || is && after != 7*time.Second {
				t.Errorf("%d: again after %v", status, after)
			}
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	why := errors.New("the run was cancelled")
	for _, path := range []string{"/", "/body"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		if _, err := web(t).Call(ctx, service.Call{Params: params(t, "url", server.URL+path)}); !errors.Is(err, why) {
			t.Errorf("%s: %v", path, err)
		}
		limited, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := web(t).Call(limited, service.Call{Params: params(t, "url", server.URL+path)})
		var known *service.Error
		if end(); !errors.As(err, &known) || known.Code != service.TimedOut || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBrokenConnectionsAreTriedAgainAndNonsenseIsNot(t *testing.T) {
	raw := func(answer string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		done.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		})
		t.Cleanup(func() { _ = listener.Close(); done.Wait() })
		return "http://" + listener.Addr().String()
	}
	for answer, code := range map[string]string{
		"": service.Unavailable,
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf":                       service.Unavailable,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel":            service.Unavailable,
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip":                 service.Unavailable,
		"SSH-2.0-OpenSSH_9.6\r\n":                                                  service.BadAnswer,
		"HTTP/1.1 abc\r\n\r\n":                                                     service.BadAnswer,
		"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n":                                 service.BadAnswer,
		"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nConnection: close\r\n\r\n": service.BadAnswer,
	} {
		if _, err := request(t, web(t), "url", raw(answer)); err == nil || err.Code != code {
			t.Errorf("%q: %v, want %s", answer, err, code)
		}
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	refuses(t, web(t), service.Unavailable, "refused", "url", closed.URL)
	plain := serve(t, echo)
	refuses(t, web(t), service.BadAnswer, "not HTTP", "url", strings.Replace(plain.URL, "http:", "https:", 1))
}

func TestADryRunSendsNothingAndShowsNoKey(t *testing.T) {
	var served atomic.Int64
	server := serve(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	dry := func(pairs ...any) (service.Plan, error) {
		out, err := web(t).Call(t.Context(), service.Call{Params: params(t, pairs...), Key: "k-1", DryRun: true})
		plan, _ := out.(service.Plan)
		return plan, err
	}
	plan, err := dry("url", server.URL+"/fix?api_key=sk-hidden-1&q=x", "method", "POST", "auth", map[string]any{"bearer": "sk-hidden-2"}, "headers", map[string]string{"X-Api-Key": "sk-hidden-3", "X-Plain": "seen"},
		"body", map[string]any{"text": "hi", "again": "sk-hidden-2"})
	if err != nil {
		t.Fatal(err)
	}
	data, _ := json.Marshal(plan)
	for _, word := range []string{`"would":"POST ` + server.URL + `/fix"`, "seen", "k-1", `"text":"hi"`, "q=x"} {
		if !strings.Contains(string(data), word) {
			t.Errorf("%s is not in %s", word, data)
		}
	}
	if strings.Contains(string(data), "sk-hidden") {
		t.Errorf("a key is in %s", data)
	}
	for code, pairs := range map[string][]any{
		service.Invalid:   {"url", server.URL, "body", "x"},
		service.Forbidden: {"url", "http://169.254.169.254/"},
	} {
		var known *service.Error
		if _, err := dry(pairs...); !errors.As(err, &known) || known.Code != code {
			t.Errorf("%v: %v", pairs, err)
		}
	}
	if served.Load() != 0 {
		t.Errorf("%d requests were sent", served.Load())
	}
}

func TestNoErrorTellsAKey(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		_, _ = fmt.Fprintf(w, "bad key %s", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	})
	err := refuses(t, web(t), service.Denied, "bad key [secret]", "url", s.URL, "auth", map[string]any{"bearer": "sk-hidden-2"})
	if strings.Contains(fmt.Sprintf("%+v", err), "hidden") {
		t.Errorf("%+v", err)
	}
}

// What an error shows of an answer has no part of a key at its end, however little of an answer the call takes.
func TestAnExcerptHasNoPartOfAKey(t *testing.T) {
	key := "sk-hidden_0123456789abcdefghijklmnopqrstuvwxyz"
	for _, before := range []int{280, 1180, 4080} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = fmt.Fprintf(w, "%s%s\"}", strings.Repeat(map[bool]string{true: "x ", false: "\r\n"}[before < 1000], before/2), key)
		})
		for _, most := range []int{20 + before, 1 << 20} {
			err := refuses(t, web(t), service.Invalid, "", "url", s.URL, "auth", map[string]any{"bearer": key}, "maxBytes", most)
			if strings.Contains(err.Error(), "sk-") {
				t.Errorf("behind %d bytes: %s", before, err)
			}
		}
	}
}

func TestNoAnswerTellsAKey(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.URL.Query().Get("key")
		w.Header().Set("X-Request-Id", "of "+key)
		if r.URL.Path == "/json" {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = fmt.Fprintf(w, `{"key": "%s"}`, key)
	})
	d := described(t, `{"name": "x", "baseURL": "`+s.URL+`", "auth": {"query": {"name": "key", "value": "{{secrets.k}}"}}, "actions": {"a": {"path": "/json", "answer": "whole"}}}`, keys(""))
	out, err := d.Call(t.Context(), service.Call{})
	whole, is := out.(*service.Answer)
	if err != nil || !is {
		t.Fatal(out, err)
	}
	for _, answer := range []*service.Answer{whole, asked(t, web(t), "url", s.URL, "auth", map[string]any{"bearer": "s3cret-of-k"}), asked(t, web(t), "url", s.URL+"/json", "auth", map[string]any{"bearer": "s3cret-of-k"})} {
		data, err := json.Marshal(answer)
		if err != nil || strings.Contains(string(data), "s3cret") || text(answer.Body) != `{"key": "[secret]"}` {
			t.Errorf("%s %v", data, err)
		}
	}
}

// One attempt sends what has an effect once, also if the connection is one that was kept and breaks: the engine decides whether there
// is another attempt. (Package net/http repeats requests that have an Idempotency-Key.)
func TestOneAttemptSendsOnce(t *testing.T) {
	var posts atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _ = io.Copy(io.Discard, r.Body); r.Method == "POST" && posts.Add(1) == 2 {
			if r.Header.Get("Idempotency-Key") == "" && r.Header.Get("X-Idempotency-Key") == "" {
				t.Error("the key is missing")
			}
			panic(http.ErrAbortHandler)
		}
	})
	s.Config.ErrorLog = quiet
	for _, more := range [][]any{nil, {"idempotencyHeader", "X-Idempotency-Key"}, {"idempotencyHeader", "", "headers", map[string]any{"idempotency-key": "mine"}}} {
		posts.Store(0)
		pairs := append([]any{"url", s.URL, "method", "POST", "body", "x"}, more...)
		asked(t, web(t), pairs...)
		service := web(t)
		posts.Store(0)
		asked(t, service, pairs...)
		_, err := request(t, service, pairs...)
		if err == nil || err.Code != "unavailable" || posts.Load() != 2 {
			t.Errorf("%v: %d requests, %v", more, posts.Load(), err)
		}
	}
}

func TestCallsShareConnections(t *testing.T) {
	hooks := sender(t, oldSecret)
	var conns atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := web(t)
	for range 20 {
		asked(t, s, "url", server.URL)
	}
	for range 20 {
		if _, err := hooks.Call(t.Context(), service.Call{Params: params(t, "url", server.URL, "data", 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if conns.Load() != 2 { // one of each service
		t.Errorf("%d connections were made", conns.Load())
	}
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() { asked(t, s, "url", server.URL, "method", "POST", "body", "x") })
	}
	wait.Wait()
}
