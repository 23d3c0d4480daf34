package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// healthReport is what "pawl health" says. Its first two fields are those that scripts
// written for other engines look at.
type healthReport struct {
	AllHealthy bool          `json:"allHealthy"`
	LatencyMs  float64       `json:"latencyMs"` // of the slower of the checks
	Server     string        `json:"server"`
	Version    string        `json:"version,omitempty"`
	Checks     []healthCheck `json:"checks"`
}

type healthCheck struct {
	Name      string  `json:"name"`
	Healthy   bool    `json:"healthy"`
	LatencyMs float64 `json:"latencyMs"`
	Message   string  `json:"message,omitempty"`
}

func (a *app) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Ask the server whether it is well",
		Long: `Ask the server whether it is there and whether its engine and store answer. The exit code is 0 if
all is well, 1 if not, 7 if no server is there. No key is needed.`,
		Example: a.examples("health", "health -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := healthReport{AllHealthy: true, Server: a.client.Address()}
			var failed error
			check := func(name string, ask func() (api.Health, error)) {
				began := time.Now()
				health, err := ask()
				c := healthCheck{Name: name, Healthy: err == nil, LatencyMs: float64(time.Since(began).Microseconds()) / 1000}
				if err != nil {
					c.Message, report.AllHealthy, failed = err.Error(), false, err
				} else {
					report.Version = health.Version
				}
				report.LatencyMs = max(report.LatencyMs, c.LatencyMs)
				report.Checks = append(report.Checks, c)
			}
			check("server", func() (api.Health, error) { return a.client.Health(cmd.Context()) })
			check("engine and store", func() (api.Health, error) { return a.client.Ready(cmd.Context()) })
			body, err := json.Marshal(report)
			if err != nil {
				return err
			}
			if err := a.show(view{body: body, of: report, name: "server", table: func() {
				for _, c := range report.Checks {
					if c.Healthy {
						a.out.line("%s %-18s %s", a.out.green("✓"), c.Name, fmt.Sprintf("%.1fms", c.LatencyMs))
					} else {
						a.out.line("%s %-18s %s", a.out.red("✗"), c.Name, c.Message)
					}
				}
			}}); err != nil {
				return err
			}
			switch {
			case errors.Is(failed, api.ErrUnreachable):
				return a.unreachable(failed)
			case failed != nil:
				return &exitError{exitFailure, errors.New("the server is not well"), []string{"see more: " + a.hint("doctor")}}
			}
			return nil
		},
	}
}
