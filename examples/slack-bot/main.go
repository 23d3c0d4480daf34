// Slack-bot serves the bot of package bot on one address, from one store. Kill it at any moment
// and start it again: what was said is answered, once.
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

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/slack-bot/bot"
)

func main() {
	s := demo.Server{}
	s.Flags("127.0.0.1:8427", "runs", "SLACK_BOT_STORE", "slack.db")
	slack := flag.String("slack", cmp.Or(os.Getenv("SLACK_API_URL"), "https://slack.com/api"), "the address of Slack's Web API; also SLACK_API_URL")
	goOn := flag.Int("go-on", 50, "after how many messages a channel's run goes on as a new one")
	var source demo.Source
	source.Flags(flag.CommandLine)
	pace := flag.Duration("pace", 0, "how long the scripted model takes for an answer")
	flag.Parse()
	if flag.NArg() > 0 || *goOn < 1 {
		demo.Refused("there are flags only, and -go-on is at least 1; see -help")
	}
	source.Script = bot.Scripted(*pace)
	found, err := source.Models()
	if err != nil {
		demo.Refused(err.Error())
	}
	if found.Model.Scripted {
		fmt.Fprint(os.Stderr, demo.Warning)
	}
	cfg, token, secret := bot.Config{Models: found.Models, GoOn: *goOn}, os.Getenv("SLACK_BOT_TOKEN"), os.Getenv("SLACK_SIGNING_SECRET")
	if token == "" {
		cfg.Poster = &bot.Played{Out: os.Stdout}
	} else {
		cfg.Poster = &bot.Slack{BaseURL: *slack, Token: token}
	}
	b := bot.New(cfg)
	s.Definitions = []pawl.Definition{b}
	s.Handler = func(_ context.Context, e *pawl.Engine, at string) (http.Handler, error) {
		banner(os.Stderr, at, demo.Shown(s.Store), found.Model.String(), demo.Shown(*slack), token != "", secret != "")
		return b.Handler(e, secret, slog.Default())
	}
	s.Main()
}

func banner(w io.Writer, at, store, model, slack string, token, secret bool) {
	posts, takes := "with chat.postMessage at "+slack, "what is signed"
	if !token {
		posts = "NOWHERE: this program plays Slack, and prints what it would post. Set SLACK_BOT_TOKEN to post"
	}
	if !secret {
		takes = "NOTHING: set SLACK_SIGNING_SECRET to take what Slack sends"
	}
	fmt.Fprintf(w, "store      %s\nmodel      %s\nposts      %s\ntakes      %s\nserving    %s\n", store, model, posts, takes, at)
}
