package pawl_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/trigger"
)

// What docs/webhooks.md and docs/streams.md show: their Go code stands here word for word, and runs;
// their curl lines are asked of a real server.

// asked is told for which order askForMoney was called, and at which URL the receipt is awaited.
var asked = make(chan [2]string, 10)

func askForMoney(ctx context.Context, id, url string) error {
	asked <- [2]string{id, url}
	return ctx.Err()
}

var order = pawl.Define("order", func(c *pawl.Context, id string) (string, error) {
	paid, err := pawl.NewWebhook(c)
	if err != nil {
		return "", err
	}
	if err := pawl.Do(c, "ask for money", func(ctx context.Context) error {
		return askForMoney(ctx, id, paid.URL())
	}); err != nil {
		return "", err
	}
	req, err := paid.Wait(c, pawl.Timeout(72*time.Hour))
	if err != nil {
		return "", err // pawl.ErrTimeout: nobody called
	}
	var body struct{ Receipt string }
	return body.Receipt, req.JSON(&body)
})

var greeter = pawl.Define("greeter", func(c *pawl.Context, _ none) (string, error) {
	hook, err := pawl.NewWebhook(c, pawl.RespondManually(10*time.Second))
	if err != nil {
		return "", err
	}
	req, err := hook.Wait(c)
	if err != nil {
		return "", err
	}
	return string(req.Body), pawl.Do(c, "answer", func(ctx context.Context) error {
		return pawl.Respond(ctx, req, pawl.Response{Status: 200, Body: []byte("hello")})
	})
})

// Command is what the owner of a device is sent.
type Command struct{ Turn string }

var device = pawl.Define("device", func(c *pawl.Context, wait bool) (string, error) {
	h, err := pawl.NewHook[Command](c, pawl.ClaimToken("device:7"))
	if err != nil {
		return "", err
	}
	if from, ok := h.ClaimedFrom(); ok {
		return "it was that of run " + from.Run, nil
	}
	_, err = h.Wait(c)
	return "", err
})

var poem = pawl.Define("poem", func(c *pawl.Context, words []string) (int, error) {
	answer := c.Stream("answer")
	if err := answer.Write("a poem:"); err != nil { // in a workflow function: durable, written once
		return 0, err
	}
	err := pawl.Do(c, "write", func(ctx context.Context) error {
		for _, word := range words {
			if err := pawl.StreamOf(ctx, "answer").Write(word); err != nil { // in a step: returns at once
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(words), answer.Close()
})

func readPoem(ctx context.Context, engine *pawl.Engine, run *pawl.Run[int]) error {
	for chunk, err := range engine.ReadStream(ctx, "", run.ID(), "answer", -2) {
		if err != nil {
			return err
		}
		fmt.Println(chunk.Index, string(chunk.Data))
	}
	return nil
}

// readTexts reads what the steps of a run write, by step.
func readTexts(ctx context.Context, engine *pawl.Engine, run, stream string) (map[string]string, error) {
	texts := map[string]string{}
	for chunk, err := range engine.ReadStream(ctx, "", run, stream, 0) {
		if err != nil {
			return nil, err
		}
		if chunk.First { // an attempt begins: what one before it wrote was cut off, or has failed
			texts[chunk.Step] = ""
		}
		var text string
		if err := json.Unmarshal(chunk.Data, &text); err != nil {
			return nil, err
		}
		texts[chunk.Step] += text
	}
	return texts, nil
}

func readFeed(ctx context.Context, engine *pawl.Engine) error {
	for item, err := range engine.Feed(ctx, pawl.FeedFilter{Workflow: "poem"}, "") {
		if err != nil {
			return err
		}
		fmt.Println(item.Type, item.Run, item.State, item.Key)
	}
	return nil
}

func newPublic(store pawl.Store, secret []byte) (*pawl.Engine, http.Handler) {
	engine := pawl.New(store, &pawl.Options{PublicURL: "https://flows.example.com", Secret: secret})
	handler := api.New(engine, api.Options{PublicURL: "https://flows.example.com"})
	return engine, handler
}

func checking(engine *pawl.Engine) (http.Handler, error) {
	hub, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.GitHub, Secrets: []string{os.Getenv("HUB_SECRET")}})
	if err != nil {
		return nil, err
	}
	verify := trigger.VerifyFunc(map[string]*trigger.Verifier{"hub": hub})
	return api.New(engine, api.Options{Verify: verify}), nil
}

// page returns the blocks of code of a document.
func page(t *testing.T, name, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// flush takes the indentation off, which differs.
func flush(code string) string { return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(code, "") }

func TestPagesShowCodeThatRuns(t *testing.T) {
	source, err := os.ReadFile("pages_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"webhooks.md": 5, "streams.md": 4} {
		blocks := page(t, name, "go")
		if len(blocks) != n {
			t.Errorf("docs/%s has %d blocks of Go, and this test knows of %d", name, len(blocks), n)
		}
		for _, b := range blocks {
			if !strings.Contains(flush(string(source)), flush(b)) {
				t.Errorf("docs/%s shows code that no test runs:\n%s", name, b)
			}
		}
	}
}

// curls finds what a document tells to ask, and what it says is answered.
var curls = regexp.MustCompile(`(?m)^\$ curl (.*)\n((?:[^$\n].*\n)*)`)

// curl asks what a line says, with names put in for those of the document, of the server on l.
// The body of a view that does not end is read by who calls.
func curl(t *testing.T, l net.Listener, line string, names ...string) *http.Response {
	t.Helper()
	method, body, header, to := "GET", "", http.Header{}, ""
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(strings.NewReplacer(names...).Replace(line), -1)
	for i := 0; i < len(words); i++ {
		word := strings.Trim(words[i], "'")
		switch word {
		case "-d", "-H":
			i++
			value := strings.Trim(words[i], "'")
			if name, v, _ := strings.Cut(value, ": "); word == "-H" {
				header.Add(name, v)
			} else {
				method, body = "POST", value
			}
		case "-i", "-s", "-sN":
		default:
			to = word
		}
	}
	to = strings.Replace(strings.TrimPrefix(strings.TrimPrefix(to, "https://"), "http://"), "localhost:8420", l.Addr().String(), 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// lines of a document that are to be asked.
func asks(t *testing.T, name string) (lines, answers []string) {
	t.Helper()
	for _, block := range page(t, name, "console") {
		for _, m := range curls.FindAllStringSubmatch(block, -1) {
			lines, answers = append(lines, m[1]), append(answers, m[2])
		}
	}
	return lines, answers
}

// up works the runs of engine and serves handler until the test ends.
func up(t *testing.T, engine *pawl.Engine, handler http.Handler) net.Listener {
	t.Helper()
	l, _ := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- engine.Run(ctx) }()
	go func() { ended <- api.Serve(ctx, l, handler, time.Second) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

func TestThePageOfWebhooksIsTrue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		engine, handler := newPublic(open(), secret)
		if err := engine.Register(order, greeter, device); err != nil {
			t.Fatal(err)
		}
		l := up(t, engine, handler)
		n := &node{Engine: engine, t: t, ctx: t.Context()}
		lines, answers := asks(t, "webhooks.md")
		equal(t, "curl lines", len(lines), 1)
		id := t.Name()
		run := start(n, order, id)
		var url string
		for url == "" {
			if a := <-asked; a[0] == id {
				url = a[1]
			} else {
				asked <- a // of the other store's test
			}
		}
		token, ok := strings.CutPrefix(url, "https://flows.example.com"+pawl.WebhookPath)
		equal(t, url+" is where the page says", ok, true)
		res := curl(t, l, lines[0], "8K…", token)
		body, err := io.ReadAll(res.Body)
		equal(t, "answer", fmt.Sprint(res.Proto, " ", res.Status, "\n", string(body), err), answers[0]+"<nil>")
		equal(t, "receipt", result(n, run), "R-1")

		manual := start(n, greeter, none{})
		n.reaches(manual.ID(), pawl.Waiting)
		hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: manual.ID()})
		n.ok(err)
		res = curl(t, l, "-d hi https://flows.example.com"+pawl.WebhookPath+hooks[0].Token)
		body, err = io.ReadAll(res.Body)
		equal(t, "a step's answer", fmt.Sprint(res.StatusCode, " ", string(body), err), "200 hello<nil>")
		equal(t, "its result", result(n, manual), "hi")

		_, err = checking(n.Engine)
		equal(t, "a server without the sender's secret is made", err == nil, false)
		first := start(n, device, true)
		n.reaches(first.ID(), pawl.Waiting)
		equal(t, "who takes the token over", complete(n, device, false), "it was that of run "+first.ID())
		var claimed *pawl.HookClaimedError
		if err := failure(n, first); !errors.As(err, &claimed) {
			t.Errorf("who had it: %v", err)
		}
	})
}

func TestThePageOfStreamsIsTrue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		engine := pawl.New(open(), &pawl.Options{Poll: 50 * time.Millisecond, Secret: secret})
		if err := engine.Register(poem); err != nil {
			t.Fatal(err)
		}
		l := up(t, engine, api.New(engine, api.Options{}))
		n := &node{Engine: engine, t: t, ctx: t.Context()}
		lines, _ := asks(t, "streams.md")
		equal(t, "curl lines", len(lines), 7)
		feed := bufio.NewScanner(curl(t, l, lines[6]).Body) // which does not end
		run := start(n, poem, []string{"roses", "are"})
		var got []string
		for _, line := range lines[:5] {
			res := curl(t, l, line, "RUN", run.ID())
			equal(t, line, res.StatusCode, 200)
			body, err := io.ReadAll(res.Body)
			n.ok(err)
			var found []string
			for _, m := range regexp.MustCompile(`"index":(\d+),"at":"[^"]*","data":("[^"]*")`).FindAllStringSubmatch(string(body), -1) {
				found = append(found, m[1]+m[2])
			}
			got = append(got, strings.Join(found, " "))
			if line == lines[4] {
				equal(t, "the list", strings.TrimSpace(string(body)), `{"items":[{"name":"answer","tail":2,"closed":true}]}`)
			}
		}
		equal(t, "chunks", got, []string{`0"a poem:" 1"roses" 2"are"`, `1"roses" 2"are"`, `1"roses" 2"are"`, `1"roses" 2"are"`, ""})
		var minted api.StreamToken
		n.ok(json.NewDecoder(curl(t, l, lines[5], "RUN", run.ID()).Body).Decode(&minted))
		equal(t, "with a token", curl(t, l, "localhost:8420/api/runs/"+run.ID()+"/streams/answer?token="+minted.Token).StatusCode, 200)
		equal(t, "result", result(n, run), 2)
		n.ok(readPoem(n.ctx, engine, run))
		texts, err := readTexts(n.ctx, engine, run.ID(), "answer")
		n.ok(err)
		equal(t, "texts by step", texts, map[string]string{"": "a poem:", "write": "rosesare"})
		var types []string
		for feed.Scan() && !strings.Contains(feed.Text(), `"state":"completed"`) {
			if name, ok := strings.CutPrefix(feed.Text(), "event: "); ok && !slices.Contains(types, name) {
				types = append(types, name)
			}
		}
		equal(t, "types of the feed's events", types, []string{"run"})
		ctx, stop := context.WithTimeout(n.ctx, 50*time.Millisecond)
		defer stop()
		if err := readFeed(ctx, engine); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}
