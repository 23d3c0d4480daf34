package llmtest

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl/llm"
)

// streamPromises are about what only a stream can do.
var streamPromises = []promise{
	{"PiecesComeBeforeTheAnswerIsWhole", livePieces},
	{"AnErrorOfTheReaderEndsTheStream", readerStops},
}

// livePieces holds the provider back until the first piece has been seen.
func livePieces(t *testing.T, s *suite, _ asking) {
	seen := make(chan struct{})
	hold := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&flushHook{ResponseWriter: w, after: func(written string) {
				if strings.Contains(written, "first") {
					select {
					case <-seen:
					case <-r.Context().Done():
					}
				}
			}}, r)
		})
	}
	h := s.site(t, hold, Rule{Text: "first second third"})
	var once sync.Once
	res, err := h.model.(llm.Streamer).Stream(within(t), hello(), func(d llm.Delta) error {
		once.Do(func() { close(seen) })
		return nil
	})
	if err != nil || res.Text != "first second third" {
		t.Errorf("the stream gave %+v, %v; it hangs if no piece is handed out before the answer is whole", res, err)
	}
}

// flushHook calls after with what was written since the last flush, once that is out.
type flushHook struct {
	http.ResponseWriter
	written strings.Builder
	after   func(written string)
}

func (f *flushHook) Write(p []byte) (int, error) {
	f.written.Write(p)
	return f.ResponseWriter.Write(p)
}

func (f *flushHook) FlushError() error {
	err := http.NewResponseController(f.ResponseWriter).Flush()
	f.after(f.written.String())
	f.written.Reset()
	return err
}

func readerStops(t *testing.T, s *suite, _ asking) {
	h := s.site(t, nil, Rule{Text: "one two three four"})
	enough := errors.New("enough")
	pieces := 0
	res, err := h.model.(llm.Streamer).Stream(within(t), hello(), func(llm.Delta) error {
		if pieces++; pieces == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || res != nil || pieces != 2 {
		t.Errorf("after %d pieces the stream gave %v, %v; want the reader's error after 2", pieces, res, err)
	}
}

// embedPromises are about an Embedder.
var embedPromises = []promise{
	{"EachInputGetsItsVector", func(t *testing.T, s *suite, _ asking) {
		h := s.site(t, nil)
		in := []string{"the refund policy", "opening hours", "a third text"}
		res, err := h.model.(llm.Embedder).Embed(within(t), &llm.EmbedRequest{Model: "e-1", Input: in, Dimensions: 64})
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range in {
			if i >= len(res.Vectors) || !reflect.DeepEqual(res.Vectors[i], Vector(text, 64)) {
				t.Fatalf("vector %d is not that of %q", i, text)
			}
		}
		if len(res.Vectors) != len(in) || res.Usage.Input != 8 || res.Model != ModelName || res.Provider == "" {
			t.Errorf("got %d vectors, %+v of %q at %q; want %d, 8 words of input, of %q, and a provider", len(res.Vectors), res.Usage, res.Model, res.Provider, len(in), ModelName)
		}
		sameJSON(t, "what reached the provider", h.script.Embeds(), []llm.EmbedRequest{{Model: "e-1", Input: in, Dimensions: 64}})
	}},
	{"NothingInvalidIsSent", func(t *testing.T, s *suite, _ asking) {
		h := s.site(t, nil)
		for _, req := range []llm.EmbedRequest{{}, {Model: "e-1"}, {Input: []string{"a"}}, {Model: "e-1", Input: []string{"a", ""}}} {
			if _, err := h.model.(llm.Embedder).Embed(within(t), &req); llm.KindOf(err) != llm.BadRequest {
				t.Errorf("%+v gave %v; want a bad request", req, err)
			}
		}
		if n := h.hits.Load(); n != 0 {
			t.Errorf("%d HTTP calls were made; want none", n)
		}
	}},
	{"ErrorsAreTyped", func(t *testing.T, s *suite, _ asking) {
		h := s.site(t, func(http.Handler) http.Handler { return bare(http.StatusTooManyRequests, "7") })
		_, err := h.model.(llm.Embedder).Embed(within(t), &llm.EmbedRequest{Model: "e-1", Input: []string{"a"}})
		var e *llm.Error
		if !errors.As(err, &e) || e.Kind != llm.RateLimited || e.Wait.Seconds() != 7 || h.hits.Load() != 1 {
			t.Errorf("after %d calls the error is %v; want one call, rate limited, and 7 seconds to wait", h.hits.Load(), err)
		}
	}},
}
