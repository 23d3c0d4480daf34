// User-signup serves the signups of package signup on one address, from one store. Kill it at any
// moment and start it again: links stay good, and reminders come when they are due.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/user-signup/signup"
)

func main() {
	s := demo.Server{}
	s.Flags("127.0.0.1:8425", "signups", "SIGNUP_STORE", "signups.db")
	flag.StringVar(&s.PublicURL, "public-url", "", "the address that the links in mails begin with; without it, where it listens")
	outbox := flag.String("outbox", "outbox", "the folder to which mails go without SMTP_HOST")
	remind := flag.Duration("remind", 5*time.Second, "how long after the mail the reminder follows")
	expiry := flag.Duration("expiry", 24*time.Hour, "how long the link is good")
	flag.Parse()
	if flag.NArg() > 0 || *remind <= 0 || *expiry <= *remind {
		demo.Refused("there are flags only, and -expiry is longer than -remind; see -help")
	}
	cfg, mails := signup.Config{Remind: *remind, Expiry: *expiry}, ""
	if host := os.Getenv("SMTP_HOST"); host != "" {
		from := os.Getenv("MAIL_FROM")
		if from == "" {
			demo.Refused("with SMTP_HOST MAIL_FROM must be set: the address that mails are from")
		}
		cfg.Mailer = &signup.SMTP{Host: host, User: os.Getenv("SMTP_USER"), Password: os.Getenv("SMTP_PASSWORD"), From: from}
		mails = "by " + host
	} else {
		cfg.Mailer = &signup.Outbox{Dir: *outbox}
		mails = "NOWHERE: they are put into the folder " + *outbox + ". Set SMTP_HOST and MAIL_FROM to send them"
	}
	f := signup.New(cfg)
	s.Definitions = []pawl.Definition{f}
	s.Handler = func(_ context.Context, e *pawl.Engine, at string) (http.Handler, error) {
		fmt.Fprintf(os.Stderr, "store      %s\nmails      %s\nserving    %s\n", demo.Shown(s.Store), mails, at)
		return f.Handler(e, slog.Default()), nil
	}
	s.Main()
}
