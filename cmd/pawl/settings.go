package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// settings are how "pawl serve" is set up. Each has one name in the file (yaml), one in
// the environment (env, and env_FILE for a file with the value; also is read if both are
// not set) and one as a flag, of which the flag goes before the environment, that before
// the file, and that before the default.
type settings struct {
	Store          string           `yaml:"store" env:"PAWL_STORE" also:"DATABASE_URL" flag:"store" help:"where the runs are kept: a file, or a postgres:// URL"`
	Listen         string           `yaml:"listen" env:"PAWL_LISTEN" flag:"listen" help:"address to serve on"`
	PublicURL      string           `yaml:"publicUrl" env:"PAWL_PUBLIC_URL" flag:"public-url" help:"address at which others reach the server, for links and webhooks"`
	Hosts          []string         `yaml:"hosts" env:"PAWL_HOSTS" flag:"host" help:"further names, without port, under which the server may be addressed"`
	TLSCert        string           `yaml:"tlsCert" env:"PAWL_TLS_CERT" flag:"tls-cert" help:"file with the certificate chain, PEM; read anew when it changes"`
	TLSKey         string           `yaml:"tlsKey" env:"PAWL_TLS_KEY" flag:"tls-key" help:"file with the certificate's key, PEM"`
	Secret         string           `yaml:"-" env:"PAWL_SECRET" secret:"secret" help:"the secret itself, in place of a file"`
	SecretFile     string           `yaml:"secretFile" env:"PAWL_SECRET_PATH" flag:"secret-file" help:"file with the secret that tokens and links are made of; made at the first start (default beside the store)"`
	OtherSecrets   []string         `yaml:"otherSecretFiles" env:"PAWL_OTHER_SECRET_FILES" flag:"other-secret-file" help:"files with further secrets, whose tokens and links hold too; to change the secret"`
	EncryptionKeys string           `yaml:"-" env:"PAWL_ENCRYPTION_KEYS" secret:"encryptionKeys" help:"the keys that secrets are sealed with, in place of a file: the base64 of 32 bytes each, with commas between; the first seals, all open"`
	EncryptionFile string           `yaml:"encryptionKeysFile" env:"PAWL_ENCRYPTION_KEYS_PATH" flag:"encryption-keys-file" help:"file with the keys that secrets are sealed with, a line each"`
	AdminKeyFile   string           `yaml:"adminKeyFile" env:"PAWL_ADMIN_KEY_FILE" flag:"admin-key-file" help:"file that the first start writes the admin key into (default beside the store)"`
	Workflows      string           `yaml:"workflows" env:"PAWL_WORKFLOWS" flag:"workflows" help:"examples (and flows), flows (alone), or none: an API beside the workers of your own program"`
	Model          string           `yaml:"model" env:"PAWL_MODEL" flag:"model" help:"the model that examples and flows ask where they name none, such as openai/gpt-4o-mini (default the first that the environment has a key for)"`
	Embedder       string           `yaml:"embedder" env:"PAWL_EMBEDDER" flag:"embedder" help:"the embedding model that they ask, such as openai/text-embedding-3-small"`
	BaseURL        string           `yaml:"baseUrl" env:"PAWL_BASE_URL" flag:"base-url" help:"address of a server that speaks OpenAI's protocol; goes before OPENAI_BASE_URL"`
	Prices         string           `yaml:"prices" env:"PAWL_PRICES" flag:"prices" help:"file of prices that go before the known ones"`
	TrustForwarded bool             `yaml:"trustForwarded" env:"PAWL_TRUST_FORWARDED" flag:"trust-forwarded" help:"take callers' addresses from X-Forwarded-For: only behind a proxy of yours that writes it"`
	MaxWaiting     int              `yaml:"maxWaiting" env:"PAWL_MAX_WAITING" flag:"max-waiting" help:"connections of one address that ask for nothing; behind a proxy at least as many as it keeps idle"`
	Webhooks       webhookSecrets   `yaml:"webhooks" env:"PAWL_WEBHOOKS" help:"secrets of senders that sign their webhooks, by name; see below"`
	Databases      databaseSettings `yaml:"databases" env:"PAWL_DATABASES" help:"databases that flows ask and whose changes start runs, by name; see below"`
	Services       string           `yaml:"services" env:"PAWL_SERVICES" flag:"services" help:"folder of descriptions of services, YAML or JSON, that flows call (default services in or beside ./flows)"`
	HTTPAllow      []string         `yaml:"http.allow" env:"PAWL_HTTP_ALLOW" flag:"http-allow" help:"hosts, addresses and ranges that flows may reach besides the public internet, such as vault.internal:8200"`
	HTTPDeny       []string         `yaml:"http.deny" env:"PAWL_HTTP_DENY" flag:"http-deny" help:"those that they may not reach, whatever else is allowed"`
	HTTPClosed     bool             `yaml:"http.closed" env:"PAWL_HTTP_CLOSED" flag:"http-closed" help:"let flows reach nothing but what is allowed by name"`
	SlackToken     string           `yaml:"-" env:"SLACK_BOT_TOKEN" secret:"slack.token" help:"the token with which flows write into Slack"`
	SlackWebhook   string           `yaml:"-" env:"SLACK_WEBHOOK_URL" secret:"slack.webhookUrl" help:"address of an incoming webhook of Slack, for who has no token"`
	SlackChannel   string           `yaml:"slack.channel" env:"SLACK_CHANNEL" help:"the channel of messages that name none; with a token"`
	SlackSigning   string           `yaml:"-" env:"SLACK_SIGNING_SECRET" secret:"slack.signingSecret" help:"the signing secret of the Slack app, with which presses of the buttons of approvals are taken at /slack/interactions"`
	SlackPeople    []string         `yaml:"slack.people" env:"SLACK_PEOPLE" help:"who is who in Slack, as ID=name of an approver, such as U024BE7LH=ann; others are slack:ID"`
	SMTPHost       string           `yaml:"smtp.host" env:"SMTP_HOST" help:"the server that flows send mail by"`
	SMTPPort       int              `yaml:"smtp.port" env:"SMTP_PORT" help:"its port; 0: 587 with starttls, 465 with tls, 25 with none"`
	SMTPUsername   string           `yaml:"smtp.username" env:"SMTP_USERNAME" also:"SMTP_USER" help:"who logs in there; none: nobody"`
	SMTPPassword   string           `yaml:"-" env:"SMTP_PASSWORD" also:"SMTP_PASS" secret:"smtp.password" help:"the password of that login"`
	SMTPFrom       string           `yaml:"smtp.from" env:"SMTP_FROM" help:"the sender of all mail, such as Support <support@example.org>"`
	SMTPTLS        string           `yaml:"smtp.tls" env:"SMTP_TLS" help:"starttls, tls, or none (this machine only) (default starttls)"`
	SMTPTemplates  string           `yaml:"smtp.templates" env:"SMTP_TEMPLATES" help:"folder of templates of mails, NAME.html and NAME.txt"`
	MCP            mcpSettings      `yaml:"mcp" env:"PAWL_MCP" help:"servers of tools that agents of flows may use, by name; see below"`
	MaxQueued      int              `yaml:"maxQueued" env:"PAWL_MAX_QUEUED" flag:"max-queued" help:"runs of a tenant that may wait for their beginning before more are refused; -1: any number"`
	MaxInFlight    int              `yaml:"maxInFlight" env:"PAWL_MAX_IN_FLIGHT" flag:"max-in-flight" help:"requests of a tenant that are worked on at once before more are refused, live views, waits and webhooks aside; -1: any number"`
	MaxUnread      int              `yaml:"maxUnread" env:"PAWL_MAX_UNREAD" flag:"max-unread" help:"events and payloads that may wait in one run before more are refused; -1: any number"`
	Drain          time.Duration    `yaml:"drain" env:"PAWL_DRAIN" flag:"drain" help:"how long steps under way and requests may take after the first signal"`
	LogLevel       string           `yaml:"logLevel" env:"PAWL_LOG_LEVEL" also:"LOG_LEVEL" flag:"log-level" help:"debug, info, warn or error"`
	LogFormat      string           `yaml:"logFormat" env:"PAWL_LOG_FORMAT" flag:"log-format" help:"text or json (default text on a terminal, else json)"`
}

func defaultSettings() settings {
	return settings{Store: "./pawl.db", Listen: defaultListen, Workflows: "examples", MaxWaiting: 512, MaxQueued: 100_000, MaxInFlight: 256, MaxUnread: 10_000, Drain: drain, LogLevel: "info"}
}

// A setting is one value and where it was set.
type setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"` // a secret's is masked
	Origin string `json:"origin"`
	Env    string `json:"env"`
	Flag   string `json:"flag,omitempty"`
}

// configFlags are the flags of a command that reads settings.
func (a *app) configFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String("config", "", "file with settings, YAML (default $PAWL_CONFIG, or none)")
	defaults := reflect.ValueOf(defaultSettings())
	for i := range defaults.NumField() {
		field := defaults.Type().Field(i)
		name, help := field.Tag.Get("flag"), field.Tag.Get("help")
		if name == "" {
			continue
		}
		switch v := defaults.Field(i).Interface().(type) {
		case string:
			flags.String(name, v, help)
		case []string:
			flags.StringSlice(name, v, help)
		case time.Duration:
			flags.Duration(name, v, help)
		case bool:
			flags.Bool(name, v, help)
		case int:
			flags.Int(name, v, help)
		}
	}
	a.complete(cmd, "workflows", "examples", "flows", "none")
	a.complete(cmd, "log-level", "debug", "info", "warn", "error")
	a.complete(cmd, "log-format", "text", "json")
}

// settings reads all places, and tells for each setting where it comes from.
func (a *app) settings(flags *pflag.FlagSet) (s settings, all []setting, err error) {
	s = defaultSettings()
	origin := map[string]string{} // by name in the file, or of a field without one its env
	file, _ := flags.GetString("config")
	if file == "" {
		file = a.env("PAWL_CONFIG")
	}
	if file != "" {
		if err := a.readSettings(file, &s, origin); err != nil {
			return s, nil, err
		}
	}
	if err := a.envSettings(&s, origin); err != nil {
		return s, nil, err
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, flag := keyOf(field), flags.Lookup(field.Tag.Get("flag"))
		if flag != nil && flag.Changed {
			switch p := v.Field(i).Addr().Interface().(type) {
			case *string:
				*p = flag.Value.String()
			case *[]string:
				*p, _ = flags.GetStringSlice(flag.Name)
			case *time.Duration:
				*p, _ = flags.GetDuration(flag.Name)
			case *bool:
				*p, _ = flags.GetBool(flag.Name)
			case *int:
				*p, _ = flags.GetInt(flag.Name)
			}
			origin[key] = "--" + flag.Name
		}
		one := setting{Key: key, Value: v.Field(i).Interface(), Origin: origin[key], Env: field.Tag.Get("env"), Flag: field.Tag.Get("flag")}
		switch value := one.Value.(type) {
		case string:
			one.Value = shownURL(value)
			if field.Tag.Get("secret") != "" && value != "" {
				one.Value = "•••"
			}
		case fmt.Stringer:
			one.Value = value.String()
		}
		if one.Origin == "" {
			one.Origin = "default"
		}
		all = append(all, one)
	}
	return s, all, a.checkSettings(s)
}

// keyOf is a setting's name: that in the file, or of one that must not stand there, in
// small letters, what its variable ends in.
func keyOf(field reflect.StructField) string {
	if name := field.Tag.Get("yaml"); name != "-" {
		return name
	}
	return strings.ToLower(strings.TrimPrefix(field.Tag.Get("env"), "PAWL_"))
}

// readSettings reads the file. A name that is no setting's is refused.
func (a *app) readSettings(file string, s *settings, origin map[string]string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return a.usage("--config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return a.usage("%s: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return nil // an empty file
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return a.usage("%s:%d: settings are written as name: value, a line each", file, root.Line)
	}
	return a.readGroup(file, "", root, s, origin)
}

// readGroup reads the settings in a mapping of the file: all, or those whose names begin with a prefix such as "smtp.".
func (a *app) readGroup(file, prefix string, group *yaml.Node, s *settings, origin map[string]string) error {
	v := reflect.ValueOf(s).Elem()
	fields, names, secrets := map[string]reflect.Value{}, []string{}, map[string]string{}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if name := tag.Get("yaml"); name != "-" {
			fields[name] = v.Field(i)
			names = append(names, name)
		} else {
			secrets[tag.Get("secret")] = tag.Get("env")
		}
	}
	for i := 0; i < len(group.Content); i += 2 {
		name, value := group.Content[i], group.Content[i+1]
		key := prefix + name.Value
		field, ok := fields[key]
		inGroup := func(name string) bool { return strings.HasPrefix(name, key+".") }
		switch {
		case secrets[key] != "":
			hint := secrets[key] + " or " + secrets[key] + "_FILE"
			if _, is := fields[key+"File"]; is {
				hint = key + "File, " + hint
			}
			return a.usage("%s:%d: a secret does not belong into this file: give %s", file, name.Line, hint)
		case !ok && slices.ContainsFunc(names, inGroup):
			if value.Kind != yaml.MappingNode {
				var inside []string
				for _, name := range names {
					if inGroup(name) {
						inside = append(inside, strings.TrimPrefix(name, key+"."))
					}
				}
				return a.usage("%s:%d: %s is written as {name: value}, with %s", file, name.Line, key, strings.Join(inside, ", "))
			}
			if err := a.readGroup(file, key+".", value, s, origin); err != nil {
				return err
			}
			continue
		case !ok:
			return a.usage("%s:%d: there is no setting %q; %s", file, name.Line, key, spelling.Choice(key, names))
		case origin[key] != "":
			return a.usage("%s:%d: %s is set twice", file, name.Line, key)
		}
		if err := value.Decode(field.Addr().Interface()); err != nil {
			return a.usage("%s: %s: %w", file, key, err)
		}
		origin[key] = fmt.Sprintf("%s:%d", file, name.Line)
		if s.Webhooks.inline() || s.Databases.inline() || s.MCP.inline() { // then they stand in this file
			if err := a.closedToOthers(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// envSettings reads the environment.
func (a *app) envSettings(s *settings, origin map[string]string) error {
	vars := map[string]string{}
	t := reflect.TypeFor[settings]()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, key := tag.Get("env"), keyOf(t.Field(i))
		value, file := a.env(name), a.env(name+"_FILE")
		switch {
		case value != "" && file != "":
			return a.usage("$%s and $%s_FILE are both set; unset one", name, name)
		case value != "":
			vars[name], origin[key] = value, "$"+name
		case file != "":
			data, err := os.ReadFile(file)
			if err != nil {
				return a.usage("$%s_FILE: %w", name, err)
			}
			vars[name], origin[key] = strings.TrimSpace(string(data)), "$"+name+"_FILE"
		default:
			if also := tag.Get("also"); also != "" && a.env(also) != "" && origin[key] == "" {
				vars[name], origin[key] = a.env(also), "$"+also
			}
		}
	}
	if err := env.ParseWithOptions(s, env.Options{Environment: vars}); err != nil {
		return a.usage("the environment: %w", err)
	}
	return nil
}

// checkSettings says all that is wrong with the settings at once.
func (a *app) checkSettings(s settings) error {
	var faults []string
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	one := func(name, value string, words ...string) {
		fault(!slices.Contains(words, value), "%s is %q; it is one of %s", name, value, strings.Join(words, ", "))
	}
	one("workflows", s.Workflows, "examples", "flows", "none")
	one("logLevel", s.LogLevel, "debug", "info", "warn", "error")
	if s.LogFormat != "" {
		one("logFormat", s.LogFormat, "text", "json")
	}
	_, err := publicURL(s.PublicURL)
	fault(err != nil, "publicUrl: %v", err)
	fault((s.TLSCert == "") != (s.TLSKey == ""), "tlsCert and tlsKey belong together; give both")
	fault(s.MaxWaiting < 1, "maxWaiting is %d; it is at least 1", s.MaxWaiting)
	for name, n := range map[string]int{"maxQueued": s.MaxQueued, "maxInFlight": s.MaxInFlight, "maxUnread": s.MaxUnread} {
		fault(n == 0 || n < -1, "%s is %d; it is a count from 1, or -1 for any number", name, n)
	}
	fault(s.Drain < 0, "drain is %s; it is a time such as 10s", s.Drain)
	if s.EncryptionKeys != "" {
		_, err = parseKeys(s.EncryptionKeys)
		fault(err != nil, "$PAWL_ENCRYPTION_KEYS: %v", err)
	}
	_, err = s.Webhooks.verify()
	fault(err != nil, "%v", err)
	_, err = s.Databases.read()
	fault(err != nil, "%v", err)
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults) // those of a map come in any order
	return a.usage("%s", strings.Join(faults, "\n"))
}

func (a *app) configCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "config", Short: "See how the server would be set up",
		Example: a.examples("config show --config pawl.yaml --origin", "config show -o yaml"),
	}, a.configShowCommand())
}

func (a *app) configShowCommand() *cobra.Command {
	var origin bool
	cmd := &cobra.Command{
		Use: "show", Short: "Show each setting of the server, and where it comes from",
		Long: `Show each setting as a server would take it that is started here and now with these flags. A flag
goes before the environment, that before the file, and that before the default. Each variable
may be given as NAME_FILE instead: the file with the value. Secrets are masked.`,
		Example: a.examples("config show --config pawl.yaml --origin", "config show --listen :443 -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, all, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			body, err := json.Marshal(map[string]any{"items": all})
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: setting{}, list: true, name: "key", table: func() {
				head := columns{"KEY", "VALUE", "+ENV", "+FLAG"}
				if origin {
					head = columns{"KEY", "VALUE", "ORIGIN", "+ENV", "+FLAG"}
				}
				var rows [][]any
				for _, s := range all {
					value := fmt.Sprint(s.Value)
					if list, ok := s.Value.([]string); ok {
						value = strings.Join(list, ",")
					}
					row := []any{s.Key, value, s.Origin, s.Env, s.Flag}
					if !origin {
						row = slices.Delete(row, 2, 3)
					}
					rows = append(rows, row)
				}
				a.table(head, rows)
			}})
		},
	}
	a.configFlags(cmd)
	cmd.Flags().BoolVar(&origin, "origin", false, "also show where each value comes from")
	return cmd
}
