// Rag-agent runs the workflow of package rag on its own, in one process with one SQLite
// file. Kill it, run the same command again, and it goes on.
package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/rag-agent/rag"
)

func main() {
	question := flag.String("question", "What does it cost if I bring a tool back late?", "what to ask the handbook")
	p := demo.Parse()
	w := rag.New(p.Models)
	r := demo.Run(p, w, rag.Input{Question: *question})
	if !r.Supported {
		fmt.Println("WARNING: this answer did not pass the fact check:", strings.Join(r.Problems, "; "))
	}
	fmt.Println(r.Answer)
	fmt.Println("Sources:", strings.Join(r.Citations, ", "))
}
