// Summarizer serves the summaries of package summary on one address, from one SQLite file.
// Kill it at any moment and start it again: what was under way goes on.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"
	_ "time/tzdata" // -zone must work where no time zones are installed

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/summarizer/summary"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8421", "the address to serve on")
	store := flag.String("store", cmp.Or(os.Getenv("SUMMARIZER_STORE"), "summaries.db"), "what holds runs and summaries: a file, or a postgres:// URL; also SUMMARIZER_STORE")
	source := demo.Source{Script: summary.Scripted()}
	source.Flags(flag.CommandLine)
	daily := flag.String("daily", "09:00", "when the digest of the day is made; a change holds from the next digest but one")
	zone := flag.String("zone", "UTC", "the time zone of -daily, such as Europe/Oslo")
	draw := flag.Bool("draw", false, "draw the machine as Mermaid, and do nothing else")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%q is no flag; see -help\n", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := demo.UntilSignal()
	defer stop()
	cfg, who, err := configure(source, *daily, *zone)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	service, err := summary.New(cfg)
	if err == nil && *draw {
		fmt.Print(service.Mermaid())
		return
	}
	if err == nil {
		err = run(ctx, service, *listen, *store, who)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// configure finds the model, and says who that is.
func configure(source demo.Source, daily, zone string) (cfg summary.Config, who string, err error) {
	at, err := time.Parse("15:04", daily)
	if err != nil {
		return cfg, "", fmt.Errorf("-daily is %q; it must be a time of day, such as 09:00", daily)
	}
	cfg.Hour, cfg.Minute = at.Hour(), at.Minute()
	if cfg.Zone, err = time.LoadLocation(zone); err != nil {
		return cfg, "", fmt.Errorf("-zone: %w; it must be a name such as Europe/Oslo", err)
	}
	found, err := source.Models()
	if err != nil {
		return cfg, "", err
	}
	if found.Model.Scripted {
		fmt.Fprint(os.Stderr, demo.Warning)
	}
	cfg.Models = found.Models
	return cfg, found.Model.String(), nil
}

func run(ctx context.Context, s *summary.Service, listen, store, who string) error {
	return demo.Server{Listen: listen, Store: store, Definitions: s.Definitions(), Handler: func(ctx context.Context, e *pawl.Engine, at string) (http.Handler, error) {
		daily, err := s.StartDaily(ctx, e)
		if err != nil {
			return nil, err
		}
		opt := summary.HandlerOptions{
			APIKey: os.Getenv("SUMMARIZER_API_KEY"), WebhookSecret: os.Getenv("GITHUB_WEBHOOK_SECRET"), Logger: slog.Default(), Closing: ctx,
		}
		banner(os.Stderr, at, demo.Shown(store), who, daily, opt)
		return s.Handler(e, opt), nil
	}}.Run(ctx)
}

func banner(w io.Writer, at, file, who string, daily pawl.RunInfo, opt summary.HandlerOptions) {
	key := "x-apikey is asked for"
	if opt.APIKey == "" {
		key = "NONE: whoever reaches the address may ask. Set SUMMARIZER_API_KEY to ask for x-apikey"
	}
	webhook := "signatures are verified"
	if opt.WebhookSecret == "" {
		webhook = "refused: set GITHUB_WEBHOOK_SECRET to take them"
	}
	fmt.Fprintf(w, "serving    %s\nstore      %s\nmodel      %s\nkey        %s\nwebhooks   %s\ndaily      run %s is %s\n",
		at, file, who, key, webhook, daily.ID, daily.State)
}
