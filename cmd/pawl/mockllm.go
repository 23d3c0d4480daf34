package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/spf13/cobra"
)

const defaultMockListen = "127.0.0.1:8422"

type mockOptions struct {
	listen string
	script string
	prices string
	mock   llmtest.MockOptions
}

func (a *app) mockLLMCommand() *cobra.Command {
	var o mockOptions
	cmd := &cobra.Command{
		Use:   "mock-llm",
		Short: "Serve a scripted model in the wire formats of OpenAI and Anthropic",
		Long: `Serve a model provider that asks no model: it answers by a script, or says back what it
was told, in the wire formats of OpenAI (/v1/chat/completions, /v1/embeddings) and of
Anthropic (/v1/messages). Any key is accepted. It can limit its rate, fail at random and be
slow, so that a program can be seen to cope.

GET /bill is the provider's own account as JSON: calls, tokens and money by model, and for
each refused call whether it was tried again before the wait that it was given was over.

A script is a JSON list of rules, of which the first that fits answers:

  [{"contains": "refund", "json": {"queue": "billing"}, "usage": {"input": 120, "output": 8}},
   {"contains": "busy", "fail": [{"status": 429, "retryAfter": "2s"}], "text": "Now."},
   {"text": "Anything else.", "delay": "300ms"}]

docs/models.md has all that a rule can say.`,
		Example: fmt.Sprintf("  %[1]s mock-llm --rate 5 --fail-rate 0.2 --latency 300ms\n  OPENAI_BASE_URL=http://%[2]s/v1 %[1]s dev\n  curl http://%[2]s/bill", a.self, defaultMockListen),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.mockLLM(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", defaultMockListen, "address to serve on")
	flags.StringVar(&o.script, "script", "", "file with the rules, JSON (default say back what was said)")
	flags.Float64Var(&o.mock.Rate, "rate", 0, "calls a second; others get status 429 with a wait (default no limit)")
	flags.Float64Var(&o.mock.FailRate, "fail-rate", 0, "share of calls, 0 to 1, that get status 429 at random")
	flags.DurationVar(&o.mock.FailWait, "retry-after", llmtest.DefaultFailWait, "wait that random refusals name")
	flags.DurationVar(&o.mock.Latency, "latency", 0, "how long every call takes")
	flags.Uint64Var(&o.mock.Seed, "seed", 1, "of the chance: the same seed refuses the same calls, counted as they come")
	flags.StringVar(&o.prices, "prices", "", "file with prices that go before the built-in ones, for the bill")
	return cmd
}

func (a *app) mockLLM(ctx context.Context, o mockOptions) error {
	rules := []llmtest.Rule{llmtest.Echo()}
	answers := "what it was told, since there is no --script"
	if o.script != "" {
		data, err := os.ReadFile(o.script)
		if err != nil {
			return a.usage("--script: %w", err)
		}
		if rules, err = llmtest.ReadScript(o.script, data); err != nil {
			return a.usage("--script: %w", err)
		}
		answers = fmt.Sprintf("by the %d rules of %s", len(rules), o.script)
	}
	o.mock.Prices = llm.DefaultPrices()
	if o.prices != "" {
		var err error
		if o.mock.Prices, err = llm.LoadPrices(o.prices); err != nil {
			return a.usage("--prices: %w", err)
		}
	}
	mock, err := llmtest.NewMock(llmtest.Script(rules...), o.mock)
	if err != nil {
		return a.usage("%w", err)
	}
	l, err := a.listenMock(o.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := a.mockBanner("http://"+l.Addr().String(), answers); err != nil {
		return err
	}
	if err := api.Serve(ctx, l, mock, drain); err != nil {
		return err
	}
	bill := mock.Bill()
	a.note("stopped after %d calls: %d answered, %d refused, %d failed, %d tried again too early",
		bill.Calls, bill.Answered, bill.Refused, bill.Failed, bill.RetriedEarly)
	return nil
}

// listenMock takes any address: what a script says is no secret, and a mock may be another
// machine's provider.
func (a *app) listenMock(address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, a.usage("--listen %q is not host:port, such as %s", address, defaultMockListen)
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &exitError{exitFailure, fmt.Errorf("%s is in use, perhaps by another pawl mock-llm", address),
			[]string{"serve elsewhere: " + a.self + " mock-llm --listen 127.0.0.1:0"}}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// mockBanner says where it is; with -o json in a line for programs.
func (a *app) mockBanner(url, answers string) error {
	if !a.people() {
		body, err := json.Marshal(map[string]string{"url": url, "openaiBaseURL": url + "/v1", "anthropicBaseURL": url, "bill": url + "/bill"})
		if err != nil {
			return err
		}
		return a.data(view{body: body, name: "url"})
	}
	p := a.out
	p.line("%s", p.bold("pawl mock-llm is running. Ctrl-C stops it."))
	p.line("%s", p.yellow("*** NO MODEL IS ASKED: ALL ANSWERS COME FROM A SCRIPT. ***"))
	p.line("")
	p.line("  OpenAI     %s", p.green("OPENAI_BASE_URL="+url+"/v1"))
	p.line("  Anthropic  %s", p.green("ANTHROPIC_BASE_URL="+url))
	p.line("  bill       %s", url+"/bill")
	p.line("  answers    %s", answers)
	return nil
}
