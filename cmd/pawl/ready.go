package main

import (
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/parity-check/parity"
	"github.com/pawlrun/pawl/examples/rag-agent/rag"
	"github.com/pawlrun/pawl/examples/research-agent/research"
	"github.com/pawlrun/pawl/examples/waits"
)

// exampleWorkflows are what dev has ready to run.
func exampleWorkflows(models *agent.Models) []pawl.Definition {
	numbers, err := parity.New()
	if err != nil {
		panic(err) // it is the same machine each time, and a test starts it
	}
	return []pawl.Definition{numbers, research.New(models), content.New(models, ""), rag.New(models), waits.NewWebhook(), waits.NewApproval(), models.Backtester()}
}
