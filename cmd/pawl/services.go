package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/service/email"
)

// called is what flows can call, as the settings say.
type called struct {
	set     service.Set
	unset   map[string]string // services that are not there, by name, and what to set
	stands  map[string]string // stand-ins, by name, and what to set to have the real ones
	boxes   map[string]flow.Toolbox
	closers []func() error
}

// services makes what flows can call: the same in serve and in dev. It asks nobody yet. Without secrets, which is where flows are
// looked at and not run, what needs a key to work is there without one.
func (a *app) services(s settings, secrets *secret.Store) (*called, error) {
	return a.servicesOr(s, secrets, false)
}

// servicesBeside is services on a server that stands in the folder of its flows, or is told which it is; "": it has none. Where no
// folder of descriptions is set, those count that the flows have with them: one whose address or key is not in the environment is not there.
func (a *app) servicesBeside(s settings, secrets *secret.Store, flows string) (*called, error) {
	if s.Services != "" || flows == "" {
		return a.services(s, secrets)
	}
	s.Services = servicesOf(flows)
	made, err := a.servicesOr(s, secrets, true)
	if err != nil && s.Services != "" {
		err = fmt.Errorf("%w\n%s", err, besideFlows(s.Services))
	}
	return made, err
}

// besideFlows says why a folder is read that no setting names.
func besideFlows(folder string) string {
	return filepath.ToSlash(folder) + " is read as descriptions of services, since it is where flows have theirs; name another folder with PAWL_SERVICES"
}

// servicesOr is services. With lacking, a described service whose address or key is not in the environment is one that is not there.
func (a *app) servicesOr(s settings, secrets *secret.Store, lacking bool) (_ *called, err error) {
	c := &called{set: service.Set{}, unset: map[string]string{}, stands: map[string]string{}, boxes: map[string]flow.Toolbox{}}
	defer func() {
		if err != nil {
			err = errors.Join(a.usage("services: %w", err), c.close())
		}
	}()
	http := service.HTTPOptions{Network: service.Network{Allow: s.HTTPAllow, Deny: s.HTTPDeny, Closed: s.HTTPClosed}}
	if c.set["http"], err = service.NewHTTP(http); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	for _, add := range []func() error{
		func() error { return c.webhook(http, secrets) },
		func() error { return c.slack(s, secrets == nil) },
		func() error { return c.email(s, secrets == nil) },
		func() error { return c.database(s.Databases, secrets == nil) },
		func() error { return c.described(a, s.Services, http, secrets, lacking) },
		func() error { return c.mcp(a, s.MCP) },
	} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// into gives them to flows.
func (c *called) into(opt *flow.Options) {
	opt.Services, opt.Unset, opt.Toolboxes = c.set, c.unset, c.boxes
}

// close ends what calls have left open.
func (c *called) close() error {
	var failed error
	for _, end := range c.closers {
		failed = errors.Join(failed, end())
	}
	c.closers = nil
	return failed
}

// on names what is there, and is no stand-in.
func (c *called) on() string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(c.set)), func(name string) bool { return c.stands[name] != "" })
	for _, name := range slices.Sorted(maps.Keys(c.boxes)) {
		names = append(names, "mcp:"+name)
	}
	return strings.Join(names, ", ")
}

// reasons names services, each with what to set.
func reasons(of map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, name+" ("+of[name]+")")
	}
	return strings.Join(all, ", ")
}

// noSecrets is the error of a call where flows are not run.
var noSecrets = errors.New("there are no secrets here")

// webhook signs with the secrets of the run's tenant.
func (c *called) webhook(http service.HTTPOptions, secrets *secret.Store) (err error) {
	if secrets != nil && secrets.Keys == nil {
		c.unset["webhook"] = "set PAWL_ENCRYPTION_KEYS: it signs with a secret"
		return nil
	}
	made, err := service.NewWebhook(service.WebhookOptions{HTTP: http, Secrets: func(ctx context.Context, name string) ([]string, error) {
		if secrets == nil {
			return nil, noSecrets
		}
		if name == "" {
			return nil, &service.Error{Code: service.Invalid, Message: `a webhook is signed: name a secret that "pawl secrets set" has set, as secret`}
		}
		values, err := secrets.Values(ctx, pawl.InfoOf(ctx).Tenant, name)
		return values, unknownSecret(name, err)
	}})
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	c.set["webhook"] = made
	return nil
}

// unknownSecret says what to do about a secret that is not there. It will not be there for the next attempt either.
func unknownSecret(name string, err error) error {
	if errors.Is(err, pawl.ErrNotFound) {
		return pawl.Fatal(fmt.Errorf("%w; set it: pawl secrets set %s", err, name))
	}
	return err
}

// slackButtons takes the presses of the buttons of approvals; nil without a signing secret.
func (a *app) slackButtons(engine *pawl.Engine, s settings, log *slog.Logger) (http.Handler, error) {
	people := map[string]string{}
	for _, one := range s.SlackPeople {
		id, name, is := strings.Cut(one, "=")
		if id, name = strings.TrimSpace(id), strings.TrimSpace(name); !is || id == "" || name == "" {
			return nil, a.usage("slack.people (SLACK_PEOPLE): %q is not of the form ID=name, such as U024BE7LH=ann", one)
		}
		people[id] = name
	}
	if s.SlackSigning == "" {
		return nil, nil
	}
	h, err := api.NewSlack(engine, api.SlackOptions{Secrets: []string{s.SlackSigning}, People: people, Logger: log})
	if err != nil {
		return nil, a.usage("%w", err)
	}
	return h, nil
}

func (c *called) slack(s settings, offline bool) error {
	opt := service.SlackOptions{Token: s.SlackToken, Channel: s.SlackChannel}
	switch {
	case opt.Token != "":
	case s.SlackWebhook != "":
		opt.Webhooks = map[string]string{"": s.SlackWebhook}
	case offline:
		opt.Token = "none"
	default:
		c.unset["slack"] = "set SLACK_BOT_TOKEN"
		return nil
	}
	made, err := service.NewSlack(opt)
	if err != nil {
		return err
	}
	c.set["slack"] = made
	return nil
}

func (c *called) email(s settings, offline bool) error {
	opt := email.Options{Host: s.SMTPHost, Port: s.SMTPPort, User: s.SMTPUsername, Password: s.SMTPPassword, From: s.SMTPFrom, TLS: email.TLS(s.SMTPTLS)}
	var missing []string
	if opt.Host == "" {
		missing = append(missing, "SMTP_HOST")
	}
	if opt.From == "" {
		missing = append(missing, "SMTP_FROM")
	}
	switch {
	case len(missing) > 0 && !offline:
		c.unset["email"] = "set " + strings.Join(missing, " and ")
		return nil
	case offline:
		opt = email.Options{Host: cmp.Or(opt.Host, "none.invalid"), From: cmp.Or(opt.From, "none@none.invalid")}
	}
	if s.SMTPTemplates != "" {
		opt.Templates = os.DirFS(s.SMTPTemplates)
	}
	made, err := email.New(opt)
	if err != nil {
		return err
	}
	c.set["email"] = made
	if offline && opt.Templates == nil {
		c.set["email"] = anyTemplate(made)
	}
	return nil
}

func (c *called) database(databases databaseSettings, offline bool) error {
	if len(databases) == 0 && offline {
		made, err := anyDatabase()
		c.set["database"] = made
		return err
	}
	if len(databases) == 0 {
		c.unset["database"] = "set databases, or PAWL_DATABASES"
		return nil
	}
	dsns, err := databases.read()
	if err != nil {
		return err
	}
	opt := database.Options{Connections: map[string]database.Connection{}}
	for name, dsn := range dsns {
		opt.Connections[name] = database.Connection{DSN: dsn, Execute: databases[name].Execute, Once: databases[name].Once}
	}
	made, err := database.New(opt)
	if err != nil {
		return err
	}
	c.set["database"] = made
	c.closers = append(c.closers, made.Close)
	return nil
}
