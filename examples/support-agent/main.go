// Support-agent runs the agent of package support in one process with one SQLite file, and
// shows its answers as they come. Kill it at any moment, run the same command again, and it
// goes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/support-agent/support"
)

// approvers of refunds above support.FreeCents.
var approvers = []string{"ada", "grace"}

func main() {
	var d desk
	flag.StringVar(&d.store, "store", "support.db", "the file that holds runs and refunds")
	flag.StringVar(&d.message, "message", "", "what the customer says")
	flag.StringVar(&d.id, "id", "", "the conversation's id: a second message with it goes on with the conversation; without it a message stands alone, and the same one always means the same")
	flag.StringVar(&d.approve, "approve", "", "answer what the conversation with this id waits to have approved")
	flag.StringVar(&d.by, "by", "", "who approves, with -approve or at the terminal: "+strings.Join(approvers, " or "))
	flag.BoolVar(&d.deny, "deny", false, "with -approve: deny it")
	flag.StringVar(&d.reason, "reason", "", "with -approve: why, which the model is told of a refund that is denied")
	flag.BoolVar(&d.interactive, "interactive", term.IsTerminal(int(os.Stdin.Fd())), "ask for approvals here; by default if the standard input is a terminal")
	var source demo.Source
	source.Flags(flag.CommandLine)
	pace := flag.Duration("pace", 0, "how long the scripted model takes for an answer")
	flag.Parse()
	if err := check(&d); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the second signal ends the process, and that is no harm either
	source.Script = support.Scripted(*pace)
	found, err := source.Models()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if found.Model.Scripted {
		fmt.Fprint(os.Stderr, demo.Warning)
	}
	d.agent, err = support.New(support.Config{Models: found.Models, Approvers: approvers})
	if err == nil {
		d.in, d.out, d.err = os.Stdin, os.Stdout, os.Stderr
		err = d.serve(ctx)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "stopped; the same command goes on from here")
		os.Exit(130)
	case errors.Is(err, errWaits):
		os.Exit(3)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check reports flags that do not go together.
func check(d *desk) error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("%q is no flag; quote texts of several words, see -help", flag.Arg(0))
	case d.approve != "" && (d.message != "" || d.id != ""):
		return errors.New("-approve names a conversation that is there; it goes with neither -message nor -id")
	case d.approve != "" && d.by == "":
		return fmt.Errorf("-approve needs -by: %s may approve", strings.Join(approvers, " or "))
	case d.approve == "" && (d.deny || d.reason != ""):
		return errors.New("-deny and -reason go with -approve")
	case d.approve == "" && d.message == "" && d.id == "":
		return errors.New(`-message is missing; ask something, such as -message "Where is my order 1001?"`)
	}
	return nil
}
