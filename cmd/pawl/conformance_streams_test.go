package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// Upstream's tests of streams, as the command line sees them.

// follow runs a command that goes on, and returns what it has printed so far and how it ends.
func follow(t *testing.T, url string, args ...string) (stdout *lockedBuffer, ended <-chan result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	var stderr lockedBuffer
	stdout = &lockedBuffer{}
	done := make(chan result, 1)
	go func() {
		code := run(ctx, append([]string{"pawl"}, args...), environment{"PAWL_SERVER": url}.get, strings.NewReader(""), stdout, &stderr)
		done <- result{code, stdout.String(), stderr.String()}
	}()
	return stdout, done
}

// chunks reads what a command has printed as lines of JSON, and checks that they are of one stream, in order.
func (r result) chunks(t *testing.T) (first int64, data []string) {
	t.Helper()
	first = -1
	for line := range strings.Lines(r.stdout) {
		var c pawl.Chunk
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if first < 0 {
			first = c.Index
		}
		if c.Index != first+int64(len(data)) || c.At.IsZero() {
			t.Errorf("chunk %d of those from %d: %s", len(data), first, line)
		}
		data = append(data, string(c.Data))
	}
	return first, data
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

func TestB1_022_streamWhileTheRunGoesOnByCommandLine(t *testing.T) {
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
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "digits", "--id", "r22").want(t, 0)
		seen, ended := follow(t, h.url, "stream", "r22", "digits", "--follow")
		want := ""
		for i := range 10 { // each is read before the next is written
			next <- struct{}{}
			want += fmt.Sprintf("%d\n", i)
			eventually(t, func() bool { return seen.String() == want }, seen)
		}
		same(t, "how it ends", (<-ended).want(t, 0).stdout, want)
		pawlAt(t, h.url, "runs", "result", "r22", "--wait").want(t, 0)
	}, digits)
}

func TestB1_023_026_streamsByCommandLine(t *testing.T) {
	output := pawl.Define("output", func(c *pawl.Context, _ any) (string, error) {
		plain, named := c.Stream(""), c.Stream("test")
		wait := func() error { _, err := pawl.WaitFor[any](c, "go"); return err }
		for _, do := range []func() error{
			wait,
			func() error { return plain.Write("Hello, world!") },
			func() error { return named.Write("Hello, named stream!") },
			wait,
			func() error { return plain.Write(map[string]string{"foo": "test"}) },
			func() error { return named.Write(map[string]string{"foo": "bar"}) },
			plain.Close, named.Close,
		} {
			if err := do(); err != nil {
				return "", err
			}
		}
		return "done", nil
	})
	inside := pawl.Define("inside", func(c *pawl.Context, _ any) (string, error) {
		return "done", pawl.Do(c, "write", func(ctx context.Context) error {
			plain, named := pawl.StreamOf(ctx, ""), pawl.StreamOf(ctx, "step-ns")
			return errors.Join(plain.Write("Hello from step!"), plain.Write("Second message"), plain.Close(),
				named.Write(map[string]string{"message": "Hello from named stream in step!"}), named.Write(map[string]int{"counter": 42}), named.Close())
		})
	})
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "output", "--id", "r23").want(t, 0)
		until(t, h.client, "r23", pawl.Waiting)
		seen, ended := follow(t, h.url, "stream", "r23", "", "--follow", "-o", "jsonl")
		pawlAt(t, h.url, "signal", "r23", "go").want(t, 0)
		eventually(t, func() bool { return strings.Count(seen.String(), "\n") == 1 }, seen)
		pawlAt(t, h.url, "signal", "r23", "go").want(t, 0)
		first, data := (<-ended).want(t, 0).chunks(t)
		same(t, "live", fmt.Sprint(first, data), `0 ["Hello, world!" {"foo":"test"}]`)
		pawlAt(t, h.url, "runs", "result", "r23", "--wait").want(t, 0, "done")
		for _, from := range []string{"1", "-1"} {
			for name, want := range map[string]string{"": `1 [{"foo":"test"}]`, "test": `1 [{"foo":"bar"}]`} {
				first, data := pawlAt(t, h.url, "stream", "r23", name, "--from", from, "-o", "jsonl").want(t, 0).chunks(t)
				same(t, fmt.Sprintf("%q from %s", name, from), fmt.Sprint(first, data), want)
			}
		}
		// B1_024: the newest chunk of each, and none of a stream that nobody wrote.
		r := pawlAt(t, h.url, "stream", "r23", "--jq", `.items[] | [.name, .tail, .closed] | tojson`).want(t, 0)
		same(t, "streams", r.stdout, "[\"\",1,true]\n[\"test\",1,true]\n")
		pawlAt(t, h.url, "stream", "r23", "never").want(t, exitNotFound, `has written no stream "never"`)
		if r := pawlAt(t, h.url, "stream", "r23", "never", "--follow").want(t, 0); r.stdout != "" {
			t.Errorf("what nobody wrote: %q", r.stdout)
		}

		pawlAt(t, h.url, "start", "inside", "--id", "r26", "--wait").want(t, 0)
		first, data = pawlAt(t, h.url, "stream", "r26", "", "-o", "jsonl").want(t, 0).chunks(t)
		same(t, "of a step", fmt.Sprint(first, data), `0 ["Hello from step!" "Second message"]`)
		first, data = pawlAt(t, h.url, "stream", "r26", "step-ns", "-o", "jsonl").want(t, 0).chunks(t)
		same(t, "of a step, named", fmt.Sprint(first, data), `0 [{"message":"Hello from named stream in step!"} {"counter":42}]`)
		same(t, "closed", pawlAt(t, h.url, "stream", "r26", "--jq", ".items[].closed").want(t, 0).stdout, "true\ntrue\n")
	}, output, inside)
}

func TestB1_027_utf8StreamByCommandLine(t *testing.T) {
	texts := []string{"Hello, world!", "Café — naïve résumé", "你好，世界！🌍✨", "مرحبا بالعالم", "NUL \x00 inside"}
	utf8 := pawl.Define("utf8", func(c *pawl.Context, _ any) (any, error) {
		for _, s := range texts {
			if err := c.Stream("ü/ 🌍").Write(s); err != nil {
				return nil, err
			}
		}
		return nil, c.Stream("ü/ 🌍").Write(map[string]string{"greeting": "안녕하세요", "emoji": "🎉"})
	})
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "utf8", "--id", "r27", "--wait").want(t, 0)
		_, data := pawlAt(t, h.url, "stream", "r27", "ü/ 🌍", "-o", "jsonl").want(t, 0).chunks(t)
		var got []string
		for _, raw := range data[:max(0, len(data)-1)] {
			var s string
			if err := json.Unmarshal([]byte(raw), &s); err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if !slices.Equal(got, texts) || data[len(data)-1] != `{"emoji":"🎉","greeting":"안녕하세요"}` {
			t.Errorf("%q, then %s", got, data[len(data)-1])
		}
		r := pawlAt(t, h.url, "stream", "r27", "ü/ 🌍").want(t, 0)
		same(t, "for people, without what drives a terminal", r.stdout, strings.Join(texts[:4], "")+"NUL  inside\n"+data[5]+"\n")
	}, utf8)
}

// B1_028 and B1_029: the parent's reader sees the one chunk of its child, and the end.
func TestB1_028_029_childsStreamByCommandLine(t *testing.T) {
	child := pawl.Define("child", func(c *pawl.Context, payload string) (any, error) {
		return nil, pawl.Do(c, "write", func(ctx context.Context) error { return pawl.StreamOf(ctx, "").Write(payload) })
	})
	relay := func(c *pawl.Context, id string) (map[string]string, error) {
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
	}
	spawns := pawl.Define("spawns", func(c *pawl.Context, payload string) (map[string]string, error) {
		ch, err := child.Spawn(c, payload, pawl.Detach())
		if err != nil {
			return nil, err
		}
		return relay(c, ch.ID())
	})
	starts := pawl.Define("starts", func(c *pawl.Context, payload string) (map[string]string, error) {
		id, err := pawl.Step(c, "start", func(ctx context.Context) (string, error) {
			r, err := child.Start(ctx, pawl.EngineOf(ctx), payload, pawl.ID(pawl.InfoOf(ctx).StepID))
			if err != nil {
				return "", err
			}
			return r.ID(), nil
		})
		if err != nil {
			return nil, err
		}
		return relay(c, id)
	})
	eachStore(t, func(t *testing.T, h *house) {
		for _, workflow := range []string{"spawns", "starts"} {
			pawlAt(t, h.url, "start", workflow, "--id", workflow, "--input", `"payload"`).want(t, 0)
			first, data := pawlAt(t, h.url, "stream", workflow, "", "--follow", "-o", "jsonl").want(t, 0).chunks(t)
			same(t, workflow, fmt.Sprint(first, data), `0 ["payload"]`)
			id := strings.TrimSpace(pawlAt(t, h.url, "runs", "result", workflow, "--wait", "--jq", ".result.childRunId").want(t, 0).stdout)
			same(t, "the child", strings.TrimSpace(pawlAt(t, h.url, "runs", "show", id, "--jq", ".workflow").want(t, 0).stdout), "child")
		}
	}, child, spawns, starts)
}
