package api_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// chunks reads a stream to its end, through the client.
func (h *house) chunks(id, stream string, from int64) (out []string) {
	h.t.Helper()
	for e, err := range h.client.ReadStream(h.t.Context(), id, stream, from) {
		if err != nil {
			h.t.Fatalf("stream %q from %d: %v", stream, from, err)
		}
		if e.Type == api.EventChunk {
			out = append(out, string(e.Chunk.Data))
		}
	}
	return out
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

func TestB1_022_readableStream(t *testing.T) {
	next := make(chan struct{})
	digits := pawl.Define("digits", func(c *pawl.Context, _ any) (any, error) {
		return nil, pawl.Do(c, "write", func(ctx context.Context) error {
			s := pawl.StreamOf(ctx, "digits")
			for i := range 10 {
				select {
				case <-next:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if err := s.Write(fmt.Sprintf("%d\n", i)); err != nil {
					return err
				}
			}
			return s.Close()
		})
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("digits", "null")
		next <- struct{}{}
		got := ""
		for e, err := range h.client.ReadStream(t.Context(), id, "digits", 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != api.EventChunk {
				continue
			}
			var s string
			if err := json.Unmarshal(e.Chunk.Data, &s); err != nil {
				t.Fatal(err)
			}
			if got += s; len(got) < 20 { // readable while the run goes on: the next is not written before
				next <- struct{}{}
			}
		}
		same(t, "bytes", got, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
		h.until(id, pawl.Completed)
	}, digits)
}

// output writes two chunks to each of two streams, waits between them, and closes both.
func output() pawl.Definition {
	return pawl.Define("output", func(c *pawl.Context, _ any) (string, error) {
		plain, named := c.Stream(""), c.Stream("test")
		_, err := pawl.WaitFor[any](c, "go")
		for _, write := range []func() error{
			func() error { return err },
			func() error { return plain.Write([]byte("Hello, world!")) },
			func() error { return named.Write([]byte("Hello, named stream!")) },
			func() error { _, err := pawl.WaitFor[any](c, "go"); return err },
			func() error { return plain.Write(map[string]string{"foo": "test"}) },
			func() error { return named.Write(map[string]string{"foo": "bar"}) },
			plain.Close, named.Close,
		} {
			if err := write(); err != nil {
				return "", err
			}
		}
		return "done", nil
	})
}

func bytesOf(s string) string { return `"` + base64.StdEncoding.EncodeToString([]byte(s)) + `"` }

func (h *house) signal(id, event string) {
	h.t.Helper()
	if _, err := h.client.Signal(h.t.Context(), id, event, nil); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) write(id string) {
	h.t.Helper()
	h.signal(id, "go")
	h.signal(id, "go")
	h.until(id, pawl.Completed)
}

func TestB1_023_outputStream(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("output", "null")
		h.until(id, pawl.Waiting)
		v := h.view(api.RunPath(id)+"/streams/", "") // live
		h.signal(id, "go")
		live := []string{v.expect(`0 chunk {"index":0,`)}
		h.signal(id, "go")
		live = append(live, v.expect(`1 chunk {"index":1,`))
		for i, want := range []string{bytesOf("Hello, world!"), `{"foo":"test"}`} {
			if !strings.HasSuffix(live[i], `,"data":`+want+`}`) {
				t.Errorf("live chunk %d: %s, want %s", i, live[i], want)
			}
		}
		v.expect("1-end end {}")
		run := h.until(id, pawl.Completed)
		same(t, "result", string(run.Result), `"done"`)
		same(t, "all", h.chunks(id, "", 0), []string{bytesOf("Hello, world!"), `{"foo":"test"}`})
		same(t, "named", h.chunks(id, "test", 0), []string{bytesOf("Hello, named stream!"), `{"foo":"bar"}`})
		for _, from := range []int64{1, -1} {
			same(t, fmt.Sprint("from ", from), h.chunks(id, "", from), []string{`{"foo":"test"}`})
			same(t, fmt.Sprint("named from ", from), h.chunks(id, "test", from), []string{`{"foo":"bar"}`})
		}
	}, output())
}

// heads asks for a stream and returns what the headers say of its start and its tail.
func (h *house) heads(path string) string {
	h.t.Helper()
	v := h.view(path, "")
	defer v.res.Body.Close()
	return v.res.Header.Get("Pawl-Start-Index") + " " + v.res.Header.Get("Pawl-Tail-Index")
}

func TestB1_024_streamTailIndex(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("output", "null")
		h.until(id, pawl.Waiting)
		path := api.RunPath(id) + "/streams/"
		same(t, "start and tail of a stream that nobody has written yet", h.heads(path+"?from=-1"), "0 -1")
		h.write(id)
		for query, want := range map[string]string{"": "0 1", "?from=1": "1 1", "?from=-1": "1 1", "?from=-99": "0 1", "?tail=true": "2 1", "?from=7": "7 1"} {
			same(t, "start and tail with "+query, h.heads(path+query), want)
			same(t, "of the named one with "+query, h.heads(path+"test"+query), want)
		}
		same(t, "of one that nobody writes", h.heads(path+"never"), "0 -1")
		h.refused(400, "bad_request", "GET", path+"?tail=true&from=1", "")
		h.refused(400, "bad_request", "GET", path+"?tail=perhaps", "")
		h.refused(404, "not_found", "GET", "/api/runs/nobody/streams/", "")
	}, output())
}

func TestB1_025_streamPages(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("output", "null")
		h.until(id, pawl.Waiting)
		page, err := h.client.ChunkPage(t.Context(), id, "", 0, 1)
		if err != nil || len(page.Items) != 0 || page.HasMore || page.Done {
			t.Errorf("a page of what is still to come: %+v %v", page, err)
		}
		h.write(id)
		var got []string
		for from, done := int64(0), false; !done; {
			page, err := h.client.ChunkPage(t.Context(), id, "", from, 1)
			if err != nil || len(page.Items) != 1 || page.HasMore == page.Done {
				t.Fatalf("page from %d: %+v %v", from, page, err)
			}
			got = append(got, string(page.Items[0].Data))
			from, done = page.NextFrom, page.Done
		}
		same(t, "by pages of one", got, h.chunks(id, "", 0))
		page, err = h.client.ChunkPage(t.Context(), id, "", -1, 0)
		if err != nil || len(page.Items) != 1 || page.Items[0].Index != 1 || !page.Done || page.HasMore {
			t.Errorf("the newest: %+v %v", page, err)
		}
		h.refused(400, "bad_request", "GET", api.RunPath(id)+"/chunks/?limit=1001", "")
	}, output())
}

func TestB1_026_outputStreamInsideStep(t *testing.T) {
	inside := pawl.Define("inside", func(c *pawl.Context, _ any) (string, error) {
		for i, chunk := range []string{"Hello from step!", "Second message"} {
			err := pawl.Do(c, "write", func(ctx context.Context) error {
				named := any(map[string]string{"message": "Hello from named stream in step!"})
				if i > 0 {
					named = map[string]int{"counter": 42}
				}
				return errors.Join(pawl.StreamOf(ctx, "").Write([]byte(chunk)), pawl.StreamOf(ctx, "step-ns").Write(named))
			})
			if err != nil {
				return "", err
			}
		}
		return "done", pawl.Do(c, "close", func(ctx context.Context) error {
			return errors.Join(pawl.StreamOf(ctx, "").Close(), pawl.StreamOf(ctx, "step-ns").Close())
		})
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("inside", "null")
		same(t, "chunks", h.chunks(id, "", 0), []string{bytesOf("Hello from step!"), bytesOf("Second message")})
		same(t, "named", h.chunks(id, "step-ns", 0), []string{`{"message":"Hello from named stream in step!"}`, `{"counter":42}`})
		same(t, "result", string(h.until(id, pawl.Completed).Result), `"done"`)
	}, inside)
}

func TestB1_027_utf8Stream(t *testing.T) {
	texts := []string{"Hello, world!", "Café — naïve résumé", "你好，世界！🌍✨", "مرحبا بالعالم", "NUL \x00, a\nline and \u2028 another"}
	greeting := map[string]string{"greeting": "안녕하세요", "emoji": "🎉"}
	utf8 := pawl.Define("utf8", func(c *pawl.Context, _ any) (any, error) {
		for _, s := range texts {
			if err := c.Stream("ü/ 🌍").Write([]byte(s)); err != nil {
				return nil, err
			}
		}
		return nil, c.Stream("ü/ 🌍").Write(greeting)
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("utf8", "null")
		chunks := h.chunks(id, "ü/ 🌍", 0)
		if len(chunks) != len(texts)+1 {
			t.Fatalf("chunks: %q", chunks)
		}
		for i, want := range texts {
			var got []byte
			if err := json.Unmarshal([]byte(chunks[i]), &got); err != nil || string(got) != want {
				t.Errorf("chunk %d: %q %v, want %q", i, got, err, want)
			}
		}
		var last map[string]string
		if err := json.Unmarshal([]byte(chunks[len(texts)]), &last); err != nil {
			t.Fatal(err)
		}
		same(t, "the last", last, greeting)
	}, utf8)
}

// forwarded is a child that writes one chunk, and a parent that passes it on, as a run writes
// to its own streams only. How the child is started is begin's.
func forwarded(t *testing.T, begin func(c *pawl.Context, child *pawl.Workflow[string, any], payload string) (string, error)) {
	child := pawl.Define("child", func(c *pawl.Context, payload string) (any, error) {
		return nil, pawl.Do(c, "write", func(ctx context.Context) error { return pawl.StreamOf(ctx, "").Write([]byte(payload)) })
	})
	parent := pawl.Define("parent", func(c *pawl.Context, payload string) (map[string]string, error) {
		id, err := begin(c, child, payload)
		if err != nil {
			return nil, err
		}
		return map[string]string{"childRunId": id}, pawl.Do(c, "relay", func(ctx context.Context) error {
			for chunk, err := range pawl.EngineOf(ctx).ReadStream(ctx, "", id, "", 0) {
				if err != nil {
					return err
				}
				if err := pawl.StreamOf(ctx, "").Write(chunk.Data); err != nil {
					return err
				}
			}
			return pawl.StreamOf(ctx, "").Close()
		})
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("parent", `"payload"`)
		same(t, "the parent's chunks", h.chunks(id, "", 0), []string{bytesOf("payload")})
		var out struct{ ChildRunID string }
		if err := json.Unmarshal(h.until(id, pawl.Completed).Result, &out); err != nil {
			t.Fatal(err)
		}
		same(t, "the child", h.until(out.ChildRunID, pawl.Completed).Workflow, "child")
	}, child, parent)
}

func TestB1_028_childsStreamThroughItsParent(t *testing.T) {
	forwarded(t, func(c *pawl.Context, child *pawl.Workflow[string, any], payload string) (string, error) {
		ch, err := child.Spawn(c, payload, pawl.Detach())
		if err != nil {
			return "", err
		}
		return ch.ID(), nil
	})
}

func TestB1_029_streamOfARunStartedInAStep(t *testing.T) {
	forwarded(t, func(c *pawl.Context, child *pawl.Workflow[string, any], payload string) (string, error) {
		return pawl.Step(c, "start", func(ctx context.Context) (string, error) {
			r, err := child.Start(ctx, pawl.EngineOf(ctx), payload, pawl.ID(pawl.InfoOf(ctx).StepID))
			if err != nil {
				return "", err
			}
			return r.ID(), nil
		})
	})
}

// Streamer cases: empty and binary chunks, a stream that is closed without one, several streams
// at once, and nothing lost or doubled when chunks come while what is there is being read.
func TestB2_streamer(t *testing.T) {
	const size = 600
	reached, goOn := make(chan int64), make(chan struct{})
	mixed := pawl.Define("mixed", func(c *pawl.Context, _ any) (any, error) {
		return nil, pawl.Do(c, "write", func(ctx context.Context) error {
			for _, v := range []any{[]byte{}, []byte{0, 255, 10, 13}, "", "text", nil} {
				if err := pawl.StreamOf(ctx, "odd").Write(v); err != nil {
					return err
				}
			}
			errs := []error{pawl.StreamOf(ctx, "odd").Close(), pawl.StreamOf(ctx, "empty").Close()}
			for i := range size {
				errs = append(errs, pawl.StreamOf(ctx, "a").Write(i), pawl.StreamOf(ctx, "b").Write(-i))
				if i%100 == 99 {
					reached <- int64(i)
					<-goOn
				}
			}
			return errors.Join(errs...)
		})
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("mixed", "null")
		seen := make(chan int64, size) // what the first reader of a has
		var readers sync.WaitGroup
		for range size / 100 { // readers that begin while it is written, each at another place
			at := <-reached
			for name, sign := range map[string]int64{"a": 1, "b": -1} {
				readers.Go(func() {
					var got, want []string
					for e, err := range h.client.ReadStream(t.Context(), id, name, 0) {
						if err != nil {
							t.Errorf("stream %s: %v", name, err)
							return
						}
						if e.Type != api.EventChunk {
							continue
						}
						if got = append(got, string(e.Chunk.Data)); name == "a" && at == 99 {
							seen <- e.Chunk.Index
						}
					}
					for i := range int64(size) {
						want = append(want, fmt.Sprint(sign*i))
					}
					if !slices.Equal(got, want) {
						t.Errorf("stream %s: %d chunks, want %d in order: %.200q", name, len(got), size, got)
					}
				})
			}
			for last := int64(-1); last < at; { // one reader at least has come to the end of what is there
				select {
				case last = <-seen:
				case <-time.After(20 * time.Second):
					t.Fatalf("chunk %d does not arrive; %d did", at, last)
				}
			}
			goOn <- struct{}{}
		}
		readers.Wait()
		page, err := h.client.ChunkPage(t.Context(), id, "a", 0, 0)
		if err != nil || len(page.Items) != 100 || !page.HasMore || page.Done || page.NextFrom != 100 {
			t.Errorf("a page of the size that nobody has asked for: %d chunks, %d %v %v %v", len(page.Items), page.NextFrom, page.HasMore, page.Done, err)
		}
		page, err = h.client.ChunkPage(t.Context(), id, "a", 0, 1000)
		if err != nil || len(page.Items) != size || page.HasMore {
			t.Errorf("the largest page: %d chunks, %v %v", len(page.Items), page.HasMore, err)
		}
		same(t, "odd ones", h.chunks(id, "odd", 0), []string{`""`, `"AP8KDQ=="`, `""`, `"text"`, `null`})
		same(t, "of an empty stream", len(h.chunks(id, "empty", 0)), 0)
		list, err := h.client.Streams(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "streams", list.Items, fmt.Sprintf("[{a %d false} {b %d false} {empty -1 true} {odd 4 true}]", size-1, size-1))
	}, mixed)
}

func TestStreamsAsLinesOfJSON(t *testing.T) {
	h := open(t, api.Options{Heartbeat: 20 * time.Millisecond}, output())
	id := h.start("output", "null")
	h.until(id, pawl.Waiting)
	lines := func(r *http.Request) { r.Header.Set("Accept", "application/x-ndjson, */*") }
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+api.RunPath(id)+"/streams/", nil)
	if err != nil {
		t.Fatal(err)
	}
	lines(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	same(t, "type", res.Header.Get("Content-Type"), "application/x-ndjson")
	same(t, "start", res.Header.Get("Pawl-Start-Index"), "0")
	in := bufio.NewScanner(res.Body)
	for beats := 0; beats < 2 && in.Scan(); beats++ {
		same(t, "a heartbeat", in.Text(), "")
	}
	h.write(id)
	var got []pawl.Chunk
	for in.Scan() {
		if in.Text() == "" {
			continue
		}
		var c pawl.Chunk
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			t.Fatalf("%q: %v", in.Text(), err)
		}
		got = append(got, c)
	}
	if err := in.Err(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if len(got) != 2 || got[1].Index != 1 || string(got[1].Data) != `{"foo":"test"}` || got[0].At.IsZero() {
		t.Errorf("chunks: %+v", got)
	}
	r := h.send("GET", api.RunPath(id)+"/streams/?from=-1", "", lines)
	same(t, "from -1", strings.Count(strings.TrimSpace(string(r.body)), "\n")+1, 1)
}

// A view that is cut off by the server's end breaks off, where one that is whole ends.
func TestLinesThatAreCutOffAreNoEnd(t *testing.T) {
	h := open(t, api.Options{}, output())
	id := h.start("output", "null")
	h.until(id, pawl.Waiting)
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+api.RunPath(id)+"/streams/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	h.stop()
	if n, err := res.Body.Read(make([]byte, 1)); err == nil || err.Error() == "EOF" {
		t.Errorf("a view that the server has cut off ends in order: %d bytes, %v", n, err)
	}
}

// Who wrote a chunk is told in each form alike, and that of a workflow function, who has no
// attempts, not at all.
func TestStreamsTellWhichAttemptWroteAChunk(t *testing.T) {
	again := pawl.Define("again", func(c *pawl.Context, _ any) (any, error) {
		if err := c.Stream("out").Write("Q"); err != nil {
			return nil, err
		}
		return nil, pawl.Do(c, "ask", func(ctx context.Context) error {
			s := pawl.StreamOf(ctx, "out")
			err := errors.Join(s.Write("a"), s.Write("b"))
			if pawl.InfoOf(ctx).Attempt == 1 {
				err = errors.New("once more")
			}
			return err
		}, pawl.Backoff(time.Millisecond, time.Millisecond))
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("again", "null")
		h.until(id, pawl.Completed)
		page, err := h.client.ChunkPage(t.Context(), id, "out", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		who := ""
		for _, c := range page.Items {
			who += fmt.Sprintf("%s %q %d.%d %v\n", c.Data, c.Step, c.Epoch, c.Attempt, c.First)
		}
		epoch := page.Items[3].Epoch // which the wait for the second attempt may have raised
		same(t, "page", who, fmt.Sprintf("\"Q\" \"\" 0.0 false\n\"a\" \"ask\" 1.1 true\n\"b\" \"ask\" 1.1 false\n\"a\" \"ask\" %d.2 true\n\"b\" \"ask\" %[1]d.2 false\n", epoch))
		var events []pawl.Chunk
		for e, err := range h.client.ReadStream(t.Context(), id, "out", 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == api.EventChunk {
				events = append(events, *e.Chunk)
			}
		}
		same(t, "events", events, page.Items)
		answer := h.send("GET", api.RunPath(id)+"/streams/out", "", func(r *http.Request) { r.Header.Set("Accept", "application/x-ndjson") })
		var lines []pawl.Chunk
		for line := range strings.Lines(string(answer.body)) {
			var c pawl.Chunk
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			lines = append(lines, c)
		}
		same(t, "lines", lines, page.Items)
		if !strings.Contains(string(answer.body), `"data":"b","step":"ask","attempt":1,"epoch":1}`) {
			t.Errorf("lines: %s", answer.body)
		}
	}, again)
}
