package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

const (
	defaultListen = "127.0.0.1:8420"
	defaultServer = "http://" + defaultListen
)

// app is one call of the program.
type app struct {
	self   string // how the program was called, for hints that can be pasted
	env    func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	server  string
	output  string
	noColor bool

	started bool // the arguments were understood: from here on errors are no usage errors
	out     *printer
	client  *api.Client
	body    []byte // the last JSON answer of the server, as it came
}

// run carries out the command line args, of which the first is the program's name, and
// returns the exit code. When ctx ends the program is to end too.
func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{self: "pawl", env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	if strings.ContainsRune(args[0], filepath.Separator) {
		a.self = args[0]
	}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started {
		var known *exitError
		if !errors.As(err, &known) {
			err = a.usage("%w", err)
		}
	}
	return a.report(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "pawl",
		Short:         "Durable workflows whose completed steps never run again",
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `pawl runs workflows whose completed steps never run again: not after a crash, a
deploy, a power cut or a week of waiting.

Start a server with "pawl dev", then start and watch runs from another terminal.

Exit codes: 0 ok, 1 error, 2 wrong usage, 3 not found, 5 conflict, 7 no server reachable,
8 the run that was waited for failed, 130 interrupted.`,
		Example: fmt.Sprintf("  %[1]s dev\n  %[1]s start research-agent --input '{\"topic\":\"tidal power\"}' --follow", a.self),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.begin()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return err })
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "address of the server (default $PAWL_SERVER, or "+defaultServer+")")
	flags.StringVarP(&a.output, "output", "o", "table", "table, or json: exactly what the server answered")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours (also $NO_COLOR)")
	a.complete(root, "output", "table", "json")
	root.AddCommand(a.devCommand(), a.startCommand(), a.runsCommand(), a.signalCommand(), a.costsCommand(), a.mockLLMCommand(), a.versionCommand())
	return root
}

// begin is called when the arguments were understood, before the command runs.
func (a *app) begin() error {
	if !slices.Contains([]string{"table", "json"}, a.output) {
		return a.usage("-o is %q; it is table or json", a.output)
	}
	if err := a.connect(); err != nil {
		return err
	}
	a.started = true
	a.out = newPrinter(a.stdout, !a.noColor && a.env("NO_COLOR") == "")
	return nil
}

// connect makes the client. It asks nothing of the server.
func (a *app) connect() (err error) {
	if a.server == "" {
		a.server = a.env("PAWL_SERVER")
	}
	if a.server == "" {
		a.server = defaultServer
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the server is on this machine
	a.client, err = api.NewClient(a.server, &api.ClientOptions{HTTP: &http.Client{
		Transport:     &recorder{app: a, next: transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return a.usage("%w; give --server, or PAWL_SERVER, an http:// address", err)
	}
	return nil
}

func (a *app) json() bool { return a.output == "json" }

// recorder keeps the server's JSON answers as they came, for -o json.
type recorder struct {
	app  *app
	next http.RoundTripper
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.next.RoundTrip(req)
	if err != nil {
		return res, err
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "application/json" {
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		r.app.body = body
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return res, nil
}

// noun is a command that only holds others.
func (a *app) noun(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(children...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %q?", near[0])
		}
		return errors.New(text)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}
