// Research-agent runs the workflow of package research on its own, in one process with
// one SQLite file. Kill it, run the same command again, and it goes on.
package main

import (
	"flag"
	"fmt"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/research-agent/research"
)

func main() {
	topic := flag.String("topic", "letting machines call each other over a queue", "what to research")
	p := demo.Parse()
	w := research.New(p.Models)
	report := demo.Run(p, w, research.Input{Topic: *topic})
	fmt.Println(report.Text)
}
