package main

import (
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/rag-agent/rag"
	"github.com/pawlrun/pawl/examples/research-agent/research"
	"github.com/pawlrun/pawl/llm"
)

// modelAndEmbedder is what the examples ask.
type modelAndEmbedder interface {
	llm.Model
	llm.Embedder
}

// exampleWorkflows are what dev has ready to run.
func exampleWorkflows(m modelAndEmbedder, model, embedder string) []pawl.Definition {
	var all []pawl.Definition
	all = append(all, research.Workflows(m, m, model)...)
	all = append(all, content.Workflows(m, m, model)...)
	return append(all, rag.New(rag.Config{Model: m, Embedder: m, Name: model, EmbedderName: embedder}))
}

// scripted answers what the examples ask without asking a model, slowly enough to watch.
func scripted() modelAndEmbedder { return demo.Paced(500 * time.Millisecond) }
