package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// The measurement of readers: a run that streams as models do, 50 chunks a second from each
// of its steps, without readers and with 1,000 of them, in turn. The readers are another
// process, with a connection each; each counts what it sees and that it comes in order.
//
//	go test ./api -run '^$' -bench Readers -benchtime 3x -timeout 20m
const (
	readerSteps  = 20
	readerChunks = 25
	chunkPause   = 20 * time.Millisecond
)

var (
	readers   = flag.Int("readers", 1000, "how many readers BenchmarkReaders has")
	readURL   = flag.String("read-url", "", "what TestReadersProcess reads; for BenchmarkReaders' own use")
	readEvery = flag.Int("read-want", 0, "how many events each of them waits for")
)

// benchTalks says a word of 20 bytes every chunkPause, and is done with a step after readerChunks.
var benchTalks = pawl.Define("talks", func(c *pawl.Context, _ any) (time.Duration, error) {
	if _, err := pawl.WaitFor[any](c, "go"); err != nil {
		return 0, err
	}
	var began time.Time
	for i := range readerSteps {
		err := pawl.Do(c, "say", func(ctx context.Context) error {
			if i == 0 {
				began = time.Now()
			}
			tick := time.NewTicker(chunkPause)
			defer tick.Stop()
			for range readerChunks {
				<-tick.C
				if err := pawl.StreamOf(ctx, "said").Write("a word or two, of it"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
})

// benchWorks takes steps one after the other, without a pause: what the readers cost shows whole.
var benchWorks = pawl.Define("works", func(c *pawl.Context, steps int) (time.Duration, error) {
	if _, err := pawl.WaitFor[any](c, "go"); err != nil {
		return 0, err
	}
	began := time.Now()
	for range steps {
		if err := pawl.Do(c, "step", func(context.Context) error { return nil }); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
})

func BenchmarkReaders(b *testing.B) {
	steps := 5000
	for _, c := range []struct {
		name, workflow, input, path string
		want                        int
	}{
		{"stream", "talks", "null", "/api/runs/%s/streams/said", readerSteps * readerChunks},
		{"feed", "talks", "null", "/api/feed?type=step&kind=step&run=%s", readerSteps},
		{"feed of a run without a pause", "works", strconv.Itoa(steps), "/api/feed?type=step&kind=result&run=%s", 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := open(b, api.Options{}, benchTalks, benchWorks)
			once := func(n int) time.Duration {
				id := h.start(c.workflow, c.input)
				h.until(id, pawl.Waiting)
				done := func() int { return n }
				if n > 0 {
					done = spawnReaders(b, h.url+fmt.Sprintf(c.path, id), n, c.want)
				}
				h.signal(id, "go")
				var took time.Duration
				if err := json.Unmarshal(h.until(id, pawl.Completed).Result, &took); err != nil {
					b.Fatal(err)
				}
				if saw := done(); saw != n {
					b.Fatalf("%d of %d readers saw all, in order", saw, n)
				}
				return took
			}
			var without, with []time.Duration
			for b.Loop() {
				without, with = append(without, once(0)), append(with, once(*readers))
			}
			slices.Sort(without)
			slices.Sort(with)
			alone, read := without[len(without)/2], with[len(with)/2]
			b.ReportMetric(alone.Seconds(), "s-alone")
			b.ReportMetric(read.Seconds(), "s-read")
			b.ReportMetric(100*alone.Seconds()/read.Seconds(), "%speed")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// spawnReaders starts the readers and returns when all are connected; done tells how many saw
// all in order.
func spawnReaders(t testing.TB, url string, n, want int) (done func() int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestReadersProcess$", "-read-url", url, "-readers", strconv.Itoa(n), "-read-want", strconv.Itoa(want))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the readers say %q: %v", lines.Text(), cmd.Wait())
	}
	return func() int {
		lines.Scan()
		saw, err := strconv.Atoi(lines.Text())
		_, rest := io.Copy(io.Discard, out)
		if err := errors.Join(err, rest, cmd.Wait()); err != nil {
			t.Fatal(err)
		}
		return saw
	}
}

// TestReadersProcess is the other process. By itself it reads the short form of a stream.
func TestReadersProcess(t *testing.T) {
	if *readURL == "" {
		h := open(t, api.Options{}, benchTalks, benchWorks)
		id := h.start("works", "3")
		h.until(id, pawl.Waiting)
		done := spawnReaders(t, h.url+"/api/feed?type=step&kind=step&run="+id, 20, 3)
		h.signal(id, "go")
		same(t, "readers that saw all", done(), 20)
		return
	}
	var ready, all sync.WaitGroup
	var saw atomic.Int64
	ready.Add(*readers)
	for range *readers {
		all.Go(func() {
			res, err := http.Get(*readURL)
			ready.Done()
			if err == nil {
				defer res.Body.Close()
				err = readEvents(res.Body, *readEvery)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			saw.Add(1)
		})
	}
	ready.Wait()
	fmt.Println("ready")
	all.Wait()
	fmt.Println(saw.Load())
}

func readEvents(body io.Reader, want int) error {
	in := bufio.NewReader(body)
	last := int64(-1)
	for events := 0; events < want; {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("after %d events: %w", events, err)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e struct{ Index, Seq *int64 }
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return err
		}
		switch {
		case e.Index != nil && *e.Index != last+1:
			return fmt.Errorf("chunk %d comes after %d", *e.Index, last)
		case e.Index != nil:
			last = *e.Index
		case e.Seq != nil && *e.Seq <= last:
			return fmt.Errorf("entry %d comes after %d", *e.Seq, last)
		case e.Seq != nil:
			last = *e.Seq
		default:
			return fmt.Errorf("the event %q", data)
		}
		events++
	}
	return nil
}
