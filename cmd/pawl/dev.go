package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/telemetry"
	"github.com/spf13/cobra"
)

type devOptions struct {
	listen string
	store  string
	flows  string   // a folder; "": ./flows, if that is there
	forget bool     // secrets whose key is lost
	folder string   // of descriptions of services
	allow  []string // what flows may reach besides the public internet
	source demo.Source
}

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a server for development, with the example workflows ready",
		Long: `Run a server for development: an engine on a SQLite file or a PostgreSQL database, the
HTTP API, and the example workflows. Kill it in any way and start it again: runs go on where they were.

The workflows ask OpenAI, or what speaks its protocol, if OPENAI_API_KEY or
OPENAI_BASE_URL is set, and Anthropic if ANTHROPIC_API_KEY is. If none of them is, a
script answers in place of a model.

Flows of a folder are deployed, and again whenever a file is saved; what is wrong with them is told at once. It is the
folder of --flows, or ./flows if there is one; "pawl init" makes a first flow. Without a model their decisions are
answered by a script too: with the first value that is allowed. A service whose settings are not there is stood in for:
what flows would send by it is shown, and goes nowhere.

webhook-demo and approval-demo ask no model: the one waits for a request, the other for a
person. The secret that tokens of hooks are derived from is kept beside the store, as
pawl.db.secret; for a database in ./pawl.secret, or give PAWL_SECRET. Secrets of senders that sign
their webhooks are given as to "pawl serve", in PAWL_WEBHOOKS or PAWL_WEBHOOKS_FILE; or set with "pawl secrets set", as those
of services are, sealed with a key that is kept in pawl.db.encryption-keys, for a database in
./pawl.encryption-keys, or given in PAWL_ENCRYPTION_KEYS.`,
		Example: a.examples("dev", "dev --flows ./flows", "dev --model anthropic/claude-haiku-4-5") + "\n  OPENAI_BASE_URL=http://localhost:11434/v1 " + a.self + " dev --model llama3.2 --embedder nomic-embed-text",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", defaultListen, "address to serve on, of this machine only")
	flags.StringVar(&o.store, "store", "./pawl.db", "where the runs are kept: a file, or a postgres:// URL")
	flags.StringVar(&o.flows, "flows", "", "folder of flows, deployed whenever they are saved (default ./flows, if it is there)")
	flags.BoolVar(&o.forget, "forget-lost-secrets", false, "delete secrets whose encryption key is not there: it is lost, and they are to be set again")
	flags.StringVar(&o.folder, "services", "", "folder of descriptions of services, YAML or JSON, that flows call (default $PAWL_SERVICES, or services beside the flows)")
	flags.StringSliceVar(&o.allow, "http-allow", nil, "what flows may reach besides the public internet, such as localhost:9000 (default $PAWL_HTTP_ALLOW)")
	models := flag.NewFlagSet("", flag.ContinueOnError)
	o.source.Flags(models)
	flags.AddGoFlagSet(models)
	return cmd
}

func (a *app) dev(ctx context.Context, o devOptions) (err error) {
	o.source.Env, o.source.Script = a.env, demo.Paced(500*time.Millisecond) // slowly enough to watch
	found, err := o.source.Models()
	if err != nil {
		return a.usage("%w", err)
	}
	folder, err := a.devFlows(o.flows)
	if err != nil {
		return err
	}
	l, err := a.listen(o.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	address := "http://" + l.Addr().String()
	store, err := a.openStore(ctx, o.store)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	s := defaultSettings()
	if err := a.envSettings(&s, map[string]string{}); err != nil {
		return errors.Join(err, store.Close())
	}
	s.Services, s.HTTPAllow = cmp.Or(o.folder, s.Services), append(o.allow, s.HTTPAllow...)
	databases, err := s.Databases.read()
	if err != nil {
		return errors.Join(a.usage("%w", err), store.Close())
	}
	derived, encryption, verify, err := a.devSecrets(s, o.store)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	metrics := telemetry.New()
	engine := pawl.New(store, &pawl.Options{Logger: log, Observer: &chronicle{metrics, log}, Drain: drain, PublicURL: address, Secret: derived, CheckSchema: checkSchema})
	buttons, err := a.slackButtons(engine, s, log)
	if err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	secrets, err := a.keepSecrets(ctx, engine, encryption, o.forget)
	if err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	defs := exampleWorkflows(found.Models)
	if err := engine.Register(defs...); err != nil {
		return errors.Join(err, store.Close())
	}
	opt := flowModels(found)
	if found.Model.Scripted {
		opt = scriptedModels(500 * time.Millisecond)
	}
	watch := &watchedDatabases{dsns: databases}
	defer func() { err = errors.Join(err, watch.close()) }()
	opt.Logger, opt.BaseURL, opt.Databases = log, address, watch.connect
	giveSecrets(&opt, secrets, s.Webhooks)
	services, err := a.servicesBeside(s, secrets, folder)
	if err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	defer func() { err = errors.Join(err, services.close()) }()
	if err := services.standIns(a, s, secrets, folder); err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	flows, err := a.flows(ctx, engine, services, opt)
	if err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	drafts, err := a.drafts(engine, flows, opt)
	if err != nil {
		return errors.Join(err, engine.Close(), store.Close())
	}
	saved := watcher{app: a, flows: flows, folder: folder}
	saved.look(ctx)
	saved.look(ctx) // what is there is whole
	a.banner(engine, services, o, address, found)
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { saved.watch(watched) })
	err = a.work(ctx, server{engine: engine, slack: buttons, flows: flows, drafts: drafts, works: true, l: l, drain: drain, log: log, watched: watch,
		api: api.Options{Metrics: metrics, Observe: metrics.Served, Hosts: []string{l.Addr().(*net.TCPAddr).IP.String()}, PublicURL: address, Verify: verify, Secrets: secrets, Draw: drawings(defs)}})
	stop()
	watching.Wait()
	err = errors.Join(err, engine.Close())
	if cerr := store.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close %s: %w", shownURL(o.store), cerr))
	}
	if err == nil {
		a.note("stopped; %s", "runs go on at the next start")
	}
	return err
}

// devSecrets are what tokens of hooks are derived of, what secrets are sealed with, and what checks signatures. The first two are made
// beside the store; for a database, in this directory; for a store in memory they are kept nowhere.
func (a *app) devSecrets(s settings, store string) ([]byte, *secret.Keyring, verifyFunc, error) {
	verify, err := s.Webhooks.verify()
	if err != nil {
		return nil, nil, nil, a.usage("%w", err)
	}
	s.Store = store
	encryption, err := a.devEncryptionKeys(s)
	if err != nil {
		return nil, nil, nil, err
	}
	if store == sqlite.Memory && s.Secret == "" && s.SecretFile == "" {
		return []byte(rand.Text() + rand.Text()), encryption, verify, nil
	}
	if s.SecretFile == "" && strings.Contains(store, "://") {
		s.SecretFile = "pawl.secret"
	}
	derived, err := a.secret(s)
	return derived, encryption, verify, err
}

// listen refuses addresses that others can reach: there are no accounts yet.
func (a *app) listen(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, a.usage("--listen %q is not host:port, such as %s", address, defaultListen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, a.usage("--listen %s would let others on the network start and cancel runs: it has no accounts here, so it serves this machine only; use 127.0.0.1", address)
	}
	return a.bind(address, "dev")
}

// banner says what is there and what to type next.
func (a *app) banner(engine *pawl.Engine, services *called, o devOptions, address string, found *demo.Found) {
	p := a.out
	if a.server = address; address != defaultServer {
		a.where = " --server " + address
	}
	p.line("%s", p.bold("pawl dev is running. Ctrl-C stops it; runs go on at the next start."))
	p.line("")
	p.line("  API        %s", p.green(address))
	p.line("  store      %s", shownURL(o.store))
	p.line("  model      %s", found.Model)
	p.line("  embedder   %s", found.Embedder)
	p.line("  workflows  %s", strings.Join(startable(engine), ", "))
	p.line("  services   %s", services.on())
	if off := reasons(services.stands); off != "" {
		p.line("  stand-ins  %s: what flows send by them is shown here, and goes nowhere", off)
	}
	if off := reasons(services.unset); off != "" {
		p.line("  off        %s", off)
	}
	p.line("")
	if found.Model.Scripted {
		p.line("%s", p.yellow(demo.Warning))
	}
	p.line("In another terminal:")
	p.line("  %s", style(a.hint(`start research-agent --input '{"topic":"tidal power"}' --follow`)))
	p.line("  %s", style(a.hint("start webhook-demo --follow")))
	p.line("  %s", style(a.hint("runs list")))
	p.line("")
}

// startable are the workflows that people start.
func startable(e *pawl.Engine) []string {
	return slices.DeleteFunc(e.Workflows(), func(name string) bool {
		w, err := e.Workflow(name)
		return err != nil || w.Internal
	})
}
