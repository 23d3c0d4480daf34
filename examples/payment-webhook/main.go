// Payment-webhook serves the shop of package shop on one address, from one store, and plays its
// payment provider. Kill it at any moment and start it again: what was paid is fulfilled, once.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/payment-webhook/shop"
)

func main() {
	s := demo.Server{}
	s.Flags("127.0.0.1:8424", "orders", "SHOP_STORE", "shop.db")
	flag.StringVar(&s.PublicURL, "public-url", "", "where the provider reaches this server; without it, where it listens")
	provider := flag.String("provider", "", "the `address` of a payment provider; without it this program plays one")
	patience := flag.Duration("patience", 15*time.Second, "how long a payment is waited for")
	flag.Parse()
	secret := os.Getenv("PAYMENT_WEBHOOK_SECRET")
	switch {
	case flag.NArg() > 0 || *patience <= 0:
		demo.Refused("there are flags only, and -patience is more than 0; see -help")
	case *provider != "" && secret == "":
		demo.Refused("with -provider PAYMENT_WEBHOOK_SECRET must be set: it is what the provider signs with")
	}
	sh := shop.New(*patience)
	s.Definitions = []pawl.Definition{sh}
	var played *shop.Provider
	if *provider == "" {
		played = shop.NewProvider(cmp.Or(secret, rand.Text()))
		secret = played.Secret
		s.Definitions = append(s.Definitions, played)
	}
	s.Handler = func(_ context.Context, e *pawl.Engine, at string) (http.Handler, error) {
		mux := http.NewServeMux()
		sh.Provider = *provider
		who := demo.Shown(*provider)
		if played != nil {
			sh.Provider, who = at+"/provider", "NONE: this program plays one, and no money moves. -provider names another"
			played.Handler(mux, e, slog.Default())
		}
		if err := sh.Handler(mux, e, secret, slog.Default()); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "store      %s\nprovider   %s\nserving    %s\n", demo.Shown(s.Store), who, at)
		return mux, nil
	}
	s.Main()
}
