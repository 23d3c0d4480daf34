package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent/mcp"
	"github.com/pawlrun/pawl/sqlite"
)

// A run lists the tools in a step and calls one in another: after a restart it has the same
// tools, and what was called is not called again.
func Example() {
	endpoint := weatherServer() // somebody else's
	defer endpoint.Close()

	weather, err := mcp.New(mcp.Options{Name: "weather", URL: endpoint.URL, Allow: []string{"forecast"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer weather.Close()

	plan := pawl.Define("plan", func(c *pawl.Context, city string) (string, error) {
		snap, err := pawl.Step(c, "tools", weather.Snapshot)
		if err != nil {
			return "", err
		}
		tools, err := weather.Bind(snap) // for an agent
		if err != nil {
			return "", err
		}
		forecast, err := pawl.Step(c, "forecast", func(ctx context.Context) (string, error) {
			return weather.Call(ctx, "forecast", json.RawMessage(`{"city":"`+city+`"}`))
		})
		return tools[0].Name + ": " + forecast, err
	})

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(plan); err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- engine.Run(ctx) }()
	run, err := plan.Start(ctx, engine, "Vienna")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.Result(ctx))
	stop()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	// Output: weather_forecast: rain in Vienna <nil>
}

func weatherServer() *httptest.Server {
	type place struct {
		City string `json:"city"`
	}
	s := sdk.NewServer(&sdk.Implementation{Name: "weather", Version: "1"}, nil)
	sdk.AddTool(s, &sdk.Tool{Name: "forecast", Description: "Tells tomorrow's weather."},
		func(_ context.Context, _ *sdk.CallToolRequest, in place) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "rain in " + in.City}}}, nil, nil
		})
	return httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s }, nil))
}
