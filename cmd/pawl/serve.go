package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/telemetry"
	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	var newKey, forget bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a server for production, which asks for keys",
		Long: `Run a server for production: an engine on a store, and the HTTP API, which asks everybody for a
key. The first start makes an admin key, shows it once and writes it into a file that only you can
read; make others with "keys create". It also makes the secret that tokens of hooks and signed links are derived
from: all servers of a store must have the same, so for a PostgreSQL database give it to each, in
PAWL_SECRET, PAWL_SECRET_FILE or --secret-file.

Secrets of services and senders ("secrets set") are sealed with the keys in PAWL_ENCRYPTION_KEYS, PAWL_ENCRYPTION_KEYS_FILE or
--encryption-keys-file: make one with "openssl rand -base64 32", and keep it elsewhere than the store. A server does not start where a key of
secrets that are there is missing.

It has the example workflows, and runs the flows that are deployed to it with "pawl deploy"; with --workflows flows, those
alone. With --workflows none it works no runs: it is an API beside the workers
of your own program, where runs are looked at, steered and answered, and not started: what a start
needs, such as limits and the check of the input, is in the program that has the workflow. To serve your own workflows, embed
the same handler in your program: http.Handle("/", api.New(engine, api.Options{Auth: &api.Auth{}})), beside engine.Run.

Examples and flows ask the model of --model, or the first whose OPENAI_API_KEY, OPENAI_BASE_URL or ANTHROPIC_API_KEY is
set, as with "pawl dev". Settings come from flags, the environment and a file; see "config show --origin".`,
		Example: a.examples("serve --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem --public-url https://pawl.example.com:8443", "serve --config pawl.yaml", "serve --store postgres://db.example.com/pawl --secret-file /run/secrets/pawl --workflows none"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), s, newKey, forget)
		},
	}
	a.configFlags(cmd)
	cmd.Flags().BoolVar(&newKey, "new-admin-key", false, "make another admin key, where the first was lost")
	cmd.Flags().BoolVar(&forget, "forget-lost-secrets", false, "delete secrets whose encryption key is not given: it is lost, and they are to be set again")
	return cmd
}

func (a *app) serve(ctx context.Context, s settings, newKey, forget bool) (err error) {
	log := a.logger(s)
	public, err := publicURL(s.PublicURL)
	if err != nil {
		return a.usage("publicUrl: %w", err)
	}
	wrap := func(l net.Listener) net.Listener { return l }
	if s.TLSCert != "" {
		if wrap, err = withTLS(s.TLSCert, s.TLSKey, log); err != nil {
			return a.usage("%w", err)
		}
	}
	l, err := a.bind(s.Listen, "serve")
	if err != nil {
		return err
	}
	defer l.Close()
	store, err := a.openStore(ctx, s.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	secret, err := a.secret(s)
	if err != nil {
		return err
	}
	others, err := a.otherSecrets(s)
	if err != nil {
		return err
	}
	encryption, err := a.encryptionKeys(s)
	if err != nil {
		return err
	}
	verify, err := s.Webhooks.verify()
	if err != nil {
		return a.usage("%w", err)
	}
	databases, err := s.Databases.read()
	if err != nil {
		return a.usage("%w", err)
	}
	address := s.address(l)
	metrics := telemetry.New()
	engine := pawl.New(store, &pawl.Options{Logger: log, Observer: &chronicle{metrics, log}, Drain: s.Drain, Secret: secret, OtherSecrets: others, PublicURL: cmp.Or(s.PublicURL, address), CheckSchema: checkSchema})
	defer func() { err = errors.Join(err, engine.Close()) }()
	secrets, err := a.keepSecrets(ctx, engine, encryption, forget)
	if err != nil {
		return err
	}
	var defs []pawl.Definition
	opt := flow.Options{Model: cmp.Or(s.Model, "that of the workers")} // none is asked here
	if s.Workflows != "none" {
		found, err := a.models(s, log)
		if err != nil {
			return err
		}
		if s.Workflows == "examples" {
			defs = exampleWorkflows(found.Models)
		}
		opt = serveModels(s, found)
	}
	if err := engine.Register(defs...); err != nil {
		return err
	}
	watched := &watchedDatabases{dsns: databases}
	defer func() { err = errors.Join(err, watched.close()) }()
	opt.Logger, opt.BaseURL, opt.Databases = log, cmp.Or(s.PublicURL, address), watched.connect
	giveSecrets(&opt, secrets, s.Webhooks)
	services, err := a.servicesBeside(s, secrets, flowsHere())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, services.close()) }()
	flows, err := a.flows(ctx, engine, services, opt)
	if err != nil {
		return err
	}
	drafts, err := a.drafts(engine, flows, opt)
	if err != nil {
		return err
	}
	keys := api.Keys{Engine: engine}
	if err := a.adminKey(ctx, keys, s, newKey, cmp.Or(s.PublicURL, address)); err != nil {
		return err
	}
	if err := a.guarded(ctx, keys, l); err != nil {
		return err
	}
	hosts := append([]string{l.Addr().(*net.TCPAddr).IP.String()}, s.Hosts...)
	if public != nil {
		hosts = append(hosts, public.Hostname())
	}
	log.Info("serving", "address", address, "publicUrl", s.PublicURL, "store", shownURL(s.Store), "tls", s.TLSCert != "", "workflows", strings.Join(engine.Workflows(), ","), "encryptionKeys", strings.Join(encryption.IDs(), ","))
	log.Info("services of flows", "on", services.on(), "off", reasons(services.unset))
	if !loopback(l) && s.TLSCert == "" {
		log.Warn("keys go over the network unencrypted: give --tls-cert and --tls-key, or put a proxy with TLS before this server")
	}
	if !loopback(l) && public == nil && len(s.Hosts) == 0 {
		log.Warn("others can reach this server, but it answers only to localhost and to the address it listens on: say under which names it is called, with --public-url or --host", "address", address)
	}
	buttons, err := a.slackButtons(engine, s, log)
	if err != nil {
		return err
	}
	err = a.work(ctx, server{engine: engine, slack: buttons, flows: flows, drafts: drafts, works: s.Workflows != "none", l: wrap(l), drain: s.Drain, log: log, watched: watched, serve: []api.ServeOption{api.MaxWaiting(s.MaxWaiting)},
		api: api.Options{Metrics: metrics, Observe: metrics.Served, Hosts: hosts, Auth: &api.Auth{Keys: keys}, PublicURL: s.PublicURL, TrustForwarded: s.TrustForwarded, Verify: verify, Secrets: secrets, Draw: drawings(defs), MaxQueued: s.MaxQueued, MaxInFlight: s.MaxInFlight, MaxUnread: s.MaxUnread}})
	if err == nil {
		a.note("stopped; runs go on at the next start")
	}
	return err
}

func publicURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an address such as https://pawl.example.com", shownURL(text))
	}
	return u, nil
}

// address is that of the server, as seen from this machine.
func (s *settings) address(l net.Listener) string {
	if s.TLSCert != "" {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

func loopback(l net.Listener) bool { return l.Addr().(*net.TCPAddr).IP.IsLoopback() }

// logger writes to standard error: for people on a terminal, else JSON.
func (a *app) logger(s settings) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		panic(err) // it was checked
	}
	p := a.printerOn(a.stderr)
	if s.LogFormat == "json" || s.LogFormat == "" && !p.tty {
		return slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(a.stderr, &tint.Options{Level: level, TimeFormat: time.DateTime, NoColor: !p.color}))
}

// models are what the example workflows and flows ask.
func (a *app) models(s settings, log *slog.Logger) (*demo.Found, error) {
	source := demo.Source{Env: a.env, Model: s.Model, Embedder: s.Embedder, BaseURL: s.BaseURL, Prices: s.Prices, Script: demo.Paced(0)}
	found, err := source.Models()
	if err != nil {
		return nil, a.usage("%w", err)
	}
	if !found.Model.Scripted {
		log.Info("models", "model", found.Model.String(), "embedder", found.Embedder.String())
		return found, nil
	}
	log.Warn("NO MODEL IS ASKED: the examples' answers come from a script, and decisions of flows fail unless --model names it; set OPENAI_API_KEY, ANTHROPIC_API_KEY or OPENAI_BASE_URL, and start again")
	return found, nil
}

// minSecret is how many bytes the engine wants of a secret.
const minSecret = 32

// secret is what tokens and links are derived from. For a store in a file it is made at the
// first start, beside it; servers of a database are given one, since each could make another.
func (a *app) secret(s settings) ([]byte, error) {
	if s.Secret != "" {
		if len(s.Secret) < minSecret {
			return nil, a.usage("PAWL_SECRET has %d characters, it needs %d or more", len(s.Secret), minSecret)
		}
		return []byte(s.Secret), nil
	}
	file := s.SecretFile
	if file == "" && strings.Contains(s.Store, "://") {
		return nil, &exitError{exitUsage, errors.New("servers of a database must share one secret, and none is given"), []string{
			"give PAWL_SECRET, PAWL_SECRET_FILE or --secret-file, the same to all of them", "make one: openssl rand -base64 48"}}
	}
	file = cmp.Or(file, s.Store+".secret")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(rand.Text() + rand.Text() + "\n")
		if err = createPrivate(file, data); err == nil {
			a.note("made the secret %s; keep it with the store: without it open hooks can't be answered", file)
		}
	}
	if err != nil {
		return nil, a.usage("the secret: %w", err)
	}
	return a.readSecret(file, data)
}

// otherSecrets are those that still hold, or will: see pawl.Options.OtherSecrets.
func (a *app) otherSecrets(s settings) (all [][]byte, err error) {
	for _, file := range s.OtherSecrets {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, a.usage("otherSecretFiles: %w", err)
		}
		secret, err := a.readSecret(file, data)
		if err != nil {
			return nil, err
		}
		all = append(all, secret)
	}
	return all, nil
}

// readSecret takes the secret out of what a file has, which nobody else may read.
func (a *app) readSecret(file string, data []byte) ([]byte, error) {
	if err := a.closedToOthers(file); err != nil {
		return nil, err
	}
	secret := strings.TrimSpace(string(data))
	if len(secret) < minSecret {
		return nil, a.usage("the secret in %s has %d characters, it needs %d or more", file, len(secret), minSecret)
	}
	return []byte(secret), nil
}

// createPrivate makes a file that only its owner can read, and that was not there.
func createPrivate(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// closedToOthers refuses a file with a secret that others on this machine can read.
func (a *app) closedToOthers(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return a.usage("%w", err)
	}
	if info.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return &exitError{exitUsage, fmt.Errorf("everybody on this machine can read %s", file), []string{"close it: chmod 600 " + shellQuote(file)}}
	}
	return nil
}

// adminKey makes the first key, or another one where that was lost.
func (a *app) adminKey(ctx context.Context, keys api.Keys, s settings, another bool, address string) error {
	all, err := keys.List(ctx)
	if err != nil {
		return fmt.Errorf("the keys: %w", err)
	}
	if len(all) > 0 && !another {
		return nil
	}
	key, secret, err := keys.Create(ctx, api.KeySpec{Name: "admin, made by pawl serve", Scopes: []api.Scope{api.Admin}})
	if err != nil {
		return fmt.Errorf("make the admin key: %w", err)
	}
	file := s.AdminKeyFile
	if file == "" && strings.Contains(s.Store, "://") {
		file = "pawl.admin-key"
	}
	file = cmp.Or(file, s.Store+".admin-key")
	if err := writePrivate(file, []byte(secret+"\n")); err != nil {
		return errors.Join(fmt.Errorf("keep the admin key: %w", err), keys.Revoke(ctx, key.ID)) // nobody has seen it
	}
	a.out.line("%s", a.out.bold("The admin key of this server, shown this once:"))
	a.out.line("")
	a.out.line("  %s", secret)
	a.out.line("")
	a.out.line("It is also in %s. Use it:", file)
	a.out.line("  %s context set NAME --server %s --api-key-file %s", a.self, style(shellQuote(address)), style(shellQuote(file)))
	return nil
}

// guarded refuses to serve others where no key would let anybody in.
func (a *app) guarded(ctx context.Context, keys api.Keys, l net.Listener) error {
	if loopback(l) {
		return nil
	}
	all, err := keys.List(ctx)
	if err != nil {
		return fmt.Errorf("the keys: %w", err)
	}
	for _, k := range all {
		if k.Revoked.IsZero() && (k.Expires.IsZero() || k.Expires.After(time.Now())) {
			return nil
		}
	}
	return &exitError{exitUsage, fmt.Errorf("%s can be reached by others, and there is no valid key", l.Addr()), []string{"make one: " + a.self + " serve --new-admin-key"}}
}
