package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/itchyny/gojq"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

const (
	defaultListen = "127.0.0.1:8420"
	defaultServer = "http://" + defaultListen
)

// Groups of commands, as --help shows them.
const (
	groupStart   = "start"
	groupFlows   = "flows"
	groupRuns    = "runs"
	groupWaiting = "waiting"
	groupOperate = "operate"
	groupServer  = "server"
)

// app is one call of the program.
type app struct {
	self    string // how the program was called, for hints that can be pasted
	command string // the command that runs, after that name; "" before it is known
	env     func(string) string
	account func() (*user.User, error) // who runs the program, where the environment does not say
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer

	server   string // --server, then the address that is asked
	context  string // --context
	keyFile  string // --api-key-file
	output   string
	fields   []string
	jq       string
	noHeader bool
	times    string
	color    string
	quiet    bool
	timeout  time.Duration

	started bool   // the arguments were understood: from here on errors are no usage errors
	where   string // what a hint must say for the same server to be asked
	out     *printer
	query   *gojq.Code // --jq
	client  *api.Client
	meant   shownTarget // the server that is asked
	waits   bool        // for what the server does: that it is gone for a while is worth a word
	mu      sync.Mutex  // guards last and there: bulk actions make requests side by side
	last    answered
	there   presence
	cancel  context.CancelFunc
}

// presence is whether the server has answered.
type presence int

const (
	isUnknown presence = iota // nothing was asked yet
	isThere
	isGone
)

// run carries out the command line args, of which the first is the program's name, and
// returns the exit code. When ctx ends the program is to end too.
func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{self: "pawl", env: env, account: user.Current, stdin: stdin, stdout: stdout, stderr: stderr, cancel: func() {}}
	if strings.ContainsRune(args[0], filepath.Separator) {
		a.self = args[0]
	}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	a.completionHelp(root) // it remembers where root writes
	a.refuseArgs(root)
	err := root.ExecuteContext(ctx)
	a.cancel()
	if err != nil && !a.started {
		var known *exitError
		if !errors.As(err, &known) {
			head, near, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n") // cobra's, over several lines
			if near = strings.TrimSpace(near); ok {
				near, _, _ = strings.Cut(near, "\n")
				err = fmt.Errorf("%s; did you mean %q?", head, near)
			}
			err = a.usage("%w", a.nearby(root, err))
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
		Long: fmt.Sprintf(`pawl runs workflows whose completed steps never run again: not after a crash, a
deploy, a power cut or a week of waiting.

  1. Run a server:           %[1]s dev
  2. See what can be run:    %[1]s workflows list
  3. Start a run:            %[1]s start WORKFLOW --input JSON
  4. See what it waits for:  %[1]s runs show RUN
  5. Answer it:              %[1]s signal RUN EVENT --data JSON
     (or curl, hooks send, approve, reject: step 4 shows the command that fits)
  6. See what came of it:    %[1]s runs result RUN

A RUN is the id that start prints, or as much of its beginning as is not another's.

Exit codes: 0 ok, 1 error, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict, 7 no server
reachable, 8 the run that was waited for failed, 124 --timeout is over, 130 interrupted.`, a.self),
		Example: fmt.Sprintf("  %[1]s dev\n  %[1]s start research-agent --input '{\"topic\":\"tidal power\"}' --follow", a.self),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.begin(cmd)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		a.command = cmd.CommandPath()
		return err
	})
	a.globalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start here:"},
		&cobra.Group{ID: groupFlows, Title: "Flows:"},
		&cobra.Group{ID: groupRuns, Title: "Runs:"},
		&cobra.Group{ID: groupWaiting, Title: "Waiting runs:"},
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
		&cobra.Group{ID: groupServer, Title: "Server:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add(groupStart, a.local(a.devCommand()), a.workflowsCommand(), a.startCommand())
	add(groupFlows, a.local(a.initCommand()), a.local(a.validateCommand()), a.local(a.testCommand()), a.generateCommand(), a.draftsCommand(), a.deployCommand(), a.diffCommand(), a.explainCommand(), a.exportCommand(), a.local(a.schemaCommand()))
	add(groupRuns, a.runsCommand(), a.executionsCommand(), a.stepsCommand(), a.journalCommand(), a.graphCommand(), a.streamCommand(), a.costsCommand(), a.askedCommand(), a.watchCommand())
	add(groupWaiting, a.signalCommand(), a.eventsCommand(), a.hooksCommand(), a.approvalsCommand(), a.approveCommand(), a.rejectCommand())
	add(groupOperate, a.healthCommand(), a.statsCommand(), a.doctorCommand(), a.schedulesCommand(), a.budgetsCommand(), a.breakersCommand(), a.promptsCommand(), a.backtestCommand(), a.local(a.contextCommand()), a.local(a.versionCommand()), a.local(a.manCommand()))
	add(groupServer, a.local(a.serveCommand()), a.keysCommand(), a.secretsCommand(), a.local(a.configCommand()), a.local(a.databasesCommand()), a.local(a.checkCommand()), a.local(a.benchCommand()), a.local(a.mockLLMCommand()))
	root.SetHelpCommandGroupID(groupOperate)
	root.SetCompletionCommandGroupID(groupOperate)
	root.InitDefaultHelpCmd()
	a.ownHelp(root)
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "address of the server (default $PAWL_SERVER, the context's, or "+defaultServer+")")
	flags.StringVar(&a.context, "context", "", `server and key by the name that "context set" gave them (default $PAWL_CONTEXT)`)
	flags.StringVar(&a.keyFile, "api-key-file", "", "file with the key for the server (default $PAWL_API_KEY_FILE; or the key itself in $PAWL_API_KEY)")
	flags.StringVarP(&a.output, "output", "o", "table", "table, wide, json (what the server answered), jsonl, yaml or name")
	flags.StringSliceVar(&a.fields, "json", nil, "print only these fields, as JSON")
	flags.StringVar(&a.jq, "jq", "", "print what this jq expression makes of the JSON")
	flags.BoolVar(&a.noHeader, "no-header", false, "tables without their first line")
	flags.StringVar(&a.times, "time", "relative", "times in tables: relative, iso or local")
	flags.StringVar(&a.color, "color", "auto", "auto, always or never (also $NO_COLOR and $CLICOLOR_FORCE)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "data and errors only, no hints")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after so long, such as 90s (default never)")
	if err := root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return formatsOf(cmd), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err)
	}
	a.complete(root, "time", "relative", "iso", "local")
	a.complete(root, "color", "auto", "always", "never")
	a.completeNames(root, "context", func(context.Context, string) []string { return a.contextNames() })
}

// moreFormats marks commands that know further formats than others, separated by commas.
const moreFormats = "formats"

// formatsOf are what -o takes with a command.
func formatsOf(cmd *cobra.Command) []string {
	if more := cmd.Annotations[moreFormats]; more != "" {
		return append(slices.Clip(formats), strings.Split(more, ",")...)
	}
	return formats
}

// ownHelp lets a command whose arguments are wrong lead to its own help.
func (a *app) ownHelp(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			a.command = cmd.CommandPath()
			return check(cmd, args)
		}
	}
	for _, child := range cmd.Commands() {
		a.ownHelp(child)
	}
}

// isLocal marks commands that ask no server: they need no address, and no --timeout.
const isLocal = "local"

func (a *app) local(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{isLocal: "yes"}
	return cmd
}

// begin is called when the arguments were understood, before the command runs.
func (a *app) begin(cmd *cobra.Command) error {
	a.command = cmd.CommandPath()
	for flag, known := range map[string]struct {
		value string
		words []string
	}{
		"-o": {a.output, formatsOf(cmd)}, "--time": {a.times, []string{"relative", "iso", "local"}}, "--color": {a.color, []string{"auto", "always", "never"}},
	} {
		if !slices.Contains(known.words, known.value) {
			return a.usage("%s is %q; it is one of %s", flag, known.value, strings.Join(known.words, ", "))
		}
	}
	if a.output == "table" && (a.fields != nil || a.jq != "") {
		a.output = "json"
	}
	if a.people() && a.fields != nil || a.output == "name" && (a.fields != nil || a.jq != "") {
		return a.usage("--json and --jq don't go with -o %s", a.output)
	}
	if a.timeout < 0 {
		return a.usage("--timeout %s: write how long to wait, such as 90s", a.timeout)
	}
	if a.jq != "" {
		q, err := gojq.Parse(a.jq)
		if err == nil {
			a.query, err = gojq.Compile(q)
		}
		if err != nil {
			return a.usage("--jq %q: %w", a.jq, err)
		}
	}
	if err := a.once(cmd); err != nil {
		return err
	}
	a.out = a.printerOn(a.stdout)
	local := false
	for c := cmd; c != nil; c = c.Parent() {
		local = local || c.Annotations[isLocal] != "" || strings.HasPrefix(c.Name(), cobra.ShellCompRequestCmd) // which asks only if it must, and says nothing
	}
	if !local {
		if err := a.connect(); err != nil {
			return err
		}
		if a.timeout > 0 {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, errTimeout)
			a.cancel = cancel
			cmd.SetContext(ctx)
		}
	}
	a.started = true
	return nil
}

// refuseArgs lets every command below cmd say of arguments that it does not take how it is called, and
// where its help is.
func (a *app) refuseArgs(cmd *cobra.Command) {
	for _, child := range cmd.Commands() {
		a.refuseArgs(child)
		check := child.Args
		if check == nil {
			continue
		}
		child.Args = func(cmd *cobra.Command, args []string) error {
			a.command = cmd.CommandPath()
			err := check(cmd, args)
			switch {
			case err == nil:
			case strings.HasPrefix(err.Error(), "accepts "): // cobra's counts, which name nothing
				err = fmt.Errorf("it is called as: %s", strings.Replace(cmd.UseLine(), " [flags]", "", 1))
			case !cmd.HasSubCommands() && strings.HasPrefix(err.Error(), "unknown command "):
				err = fmt.Errorf("%s takes no argument: %q is too much", cmd.CommandPath(), args[0])
			}
			return err
		}
	}
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
	if i := slices.IndexFunc(children, func(c *cobra.Command) bool { return c.Name() == "list" }); i >= 0 {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			children[i].SetContext(cmd.Context())
			a.note("what else there is: %s --help", a.self+strings.TrimPrefix(cmd.CommandPath(), "pawl"))
			return children[i].RunE(children[i], nil)
		}
	}
	return cmd
}

// alsoCalled are words that people know of other programs.
var alsoCalled = map[string]string{"ps": "runs list", "ls": "runs list", "list": "runs list", "status": "runs show", "logs": "runs follow", "log": "runs follow",
	"why": "runs show", "send": "events send", "publish": "events send", "run": "start", "exec": "start", "server": "serve", "login": "context set", "rm": "runs delete", "execute": "start", "new": "init", "lint": "validate",
	"show": "runs show", "get": "runs show", "describe": "runs show", "delete": "runs delete", "stop": "runs cancel", "kill": "runs cancel", "abort": "runs cancel", "restart": "runs retry", "rerun": "runs retry", "replay": "runs retry", "unpause": "runs resume"}

// nearby adds to the error of a command that there is not the one of that name that is below another.
func (a *app) nearby(root *cobra.Command, err error) error {
	var word string
	if _, serr := fmt.Sscanf(err.Error(), `unknown command %q for "pawl"`, &word); serr != nil {
		return err
	}
	found := alsoCalled[word]
	switch alike := strings.Contains(err.Error(), "did you mean"); {
	case alike && found == "":
		return err
	case alike: // what people mean by a word goes before what is spelled like it
		err = fmt.Errorf("unknown command %q for %q", word, root.Name())
	}
	for _, noun := range root.Commands() {
		for _, cmd := range noun.Commands() {
			if found == "" && (cmd.Name() == word || cmd.HasAlias(word)) && noun.Name() != "completion" {
				found = strings.TrimPrefix(cmd.CommandPath(), "pawl ")
			}
		}
	}
	if found == "" {
		return err
	}
	return fmt.Errorf("%w; did you mean %q?", err, a.self+" "+found)
}

// examples writes the lines of a command's Example, each after the program's name.
func (a *app) examples(lines ...string) string {
	for i, line := range lines {
		lines[i] = "  " + a.self + " " + line
	}
	return strings.Join(lines, "\n")
}
