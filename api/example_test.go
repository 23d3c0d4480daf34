package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
)

// The handler stands beside the routes of one's own. A program serves the mux with [api.Serve].
func ExampleNew() {
	orders := pawl.Define("orders", func(c *pawl.Context, item string) (string, error) { return item + " is packed", nil })
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		panic(err)
	}
	engine := pawl.New(store, nil)
	if err := engine.Register(orders); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()

	pawls := api.New(engine, api.Options{}) // nobody is asked for a key: for this machine only
	mux := http.NewServeMux()
	mux.Handle("/api/", pawls)
	mux.Handle(pawl.WebhookPath, pawls)
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a route of one's own") })
	server := httptest.NewServer(mux)

	show := func(res *http.Response, err error) {
		if err != nil {
			panic(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			panic(err)
		}
		fmt.Println(res.StatusCode, strings.TrimSpace(string(body)))
	}
	show(http.Get(server.URL + "/hello"))
	show(http.Get(server.URL + "/readyz")) // not mounted here
	client, err := api.NewClient(server.URL, nil)
	if err != nil {
		panic(err)
	}
	run, err := client.Start(ctx, api.StartRequest{Workflow: "orders", ID: "order-1", Input: []byte(`"rope"`)}, 10*time.Second)
	if err != nil {
		panic(err)
	}
	fmt.Println(run.ID, run.State, string(run.Result))

	server.Close()
	stop()
	if err := <-done; err != nil {
		panic(err)
	}
	if err := store.Close(); err != nil {
		panic(err)
	}
	// Output:
	// 200 a route of one's own
	// 404 404 page not found
	// order-1 completed "rope is packed"
}
