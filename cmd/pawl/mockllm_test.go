package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

// mockLLM runs "pawl mock-llm" in this process until the test ends, and returns its
// address and a function that stops it and returns how it ended.
func mockLLM(t *testing.T, args ...string) (url string, stop func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var stdout, stderr lockedBuffer
	ended := make(chan struct{})
	var code int
	go func() {
		defer close(ended)
		code = run(ctx, append([]string{"pawl", "mock-llm", "--listen", "127.0.0.1:0"}, args...), environment{}.get, strings.NewReader(""), &stdout, &stderr)
	}()
	stop = func() result {
		cancel()
		<-ended
		return result{code, stdout.String(), stderr.String()}
	}
	t.Cleanup(func() { stop() })
	line := regexp.MustCompile(`ANTHROPIC_BASE_URL=(http://\S+)|"url":\s*"([^"]+)"`)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if m := line.FindStringSubmatch(stdout.String()); m != nil {
			return m[1] + m[2], stop
		}
		select {
		case <-ended:
			t.Fatalf("pawl mock-llm has ended: %s%s", stdout.String(), stderr.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatalf("pawl mock-llm did not say where it is: %s%s", stdout.String(), stderr.String())
	return "", nil
}

func billOf(t *testing.T, url string) (bill llmtest.Bill) {
	t.Helper()
	res, err := http.Get(url + "/bill")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&bill); err != nil {
		t.Fatal(err)
	}
	return bill
}

func TestMockLLMSpeaksBothFormatsAndKeepsABill(t *testing.T) {
	dir := t.TempDir()
	script, prices := filepath.Join(dir, "script.json"), filepath.Join(dir, "prices.json")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(script, `[{"contains": "hello", "text": "Hi.", "usage": {"input": 1000, "output": 100}}, {"fail": {"status": 402}}]`)
	write(prices, `{"prices": [{"provider": "openai", "model": "house-model", "input": 2000000, "output": 8000000}]}`)
	url, stop := mockLLM(t, "--script", script, "--prices", prices)
	hello := func(model string) *llm.Request {
		return &llm.Request{Model: model, Messages: []llm.Message{llm.User("hello")}}
	}
	for model, client := range map[string]llm.Model{
		"house-model":     openai.New(openai.Options{BaseURL: url + "/v1"}),
		"claude-opus-4-5": anthropic.New(anthropic.Options{BaseURL: url}),
	} {
		res, err := client.Generate(t.Context(), hello(model))
		if err != nil || res.Text != "Hi." || !strings.Contains(res.Model, "no model was asked") {
			t.Errorf("%s: got %+v, %v; want Hi., and that it is a script", model, res, err)
		}
		_, err = client.Generate(t.Context(), &llm.Request{Model: model, Messages: []llm.Message{llm.User("else")}})
		if llm.KindOf(err) != llm.QuotaExceeded {
			t.Errorf("%s: got %v; want the failure of the script", model, err)
		}
	}
	bill := billOf(t, url)
	// 1000 tokens at $2 and 100 at $8 a million are 2,800; at $5 and $25 they are 7,500.
	if bill.Answered != 2 || bill.Failed != 2 || bill.MicroUSD != 10_300 || bill.Unpriced != 0 || len(bill.Models) != 2 || bill.Models[0].MicroUSD != 7_500 {
		t.Errorf("the bill is %+v", bill)
	}
	stop().want(t, 0, "NO MODEL IS ASKED", "by the 2 rules of", "stopped after 4 calls: 2 answered, 0 refused, 2 failed")
}

func TestMockLLMRefusesByRateAndEchoes(t *testing.T) {
	url, stop := mockLLM(t, "--rate", "0.5", "-o", "json")
	client := openai.New(openai.Options{BaseURL: url + "/v1"})
	req := &llm.Request{Model: "any", Messages: []llm.Message{llm.User("What time is it?")}}
	res, err := client.Generate(t.Context(), req)
	if err != nil || res.Text != "This is a script, no model was asked. You said: What time is it?" {
		t.Errorf("got %+v, %v; want an echo", res, err)
	}
	var e *llm.Error
	if _, err = client.Generate(t.Context(), req); !errors.As(err, &e) || e.Kind != llm.RateLimited || e.Wait <= 0 || e.Wait > 2*time.Second || e.Limits.Requests.Limit != 1 {
		t.Errorf("got %+v; want a refusal with a wait of up to two seconds, and the limit", err)
	}
	_, _ = client.Generate(t.Context(), req) // at once, which is too early
	if bill := billOf(t, url); bill.Refused != 2 || bill.RetriedEarly != 1 || !bill.Refusals[0].Early || bill.Unpriced != 1 {
		t.Errorf("the bill is %+v; want two refusals, of which one was tried again too early, and a price that is not known", bill)
	}
	stop().want(t, 0, `"openaiBaseURL"`, "1 tried again too early")
}

func TestMockLLMRefusesWhatMeansNothing(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("[\n {\"contain\": \"a\"}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, says string }{
		{"--rate -1", "the rate is -1"},
		{"--fail-rate 2", "the fail rate is 2"},
		{"--latency -1s", "negative"},
		{"--listen here", "not host:port"},
		{"--script " + dir + "/none", "no such file"},
		{"--script " + bad, "bad.json:2: rule 1"},
		{"--prices " + bad, "prices are an object"},
		{"extra", "takes no argument"},
	} {
		r := pawlWith(t, environment{}, "", append([]string{"mock-llm"}, strings.Fields(c.args)...)...)
		r.want(t, 2, c.says)
	}
}
