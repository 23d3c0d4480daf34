// Content-pipeline runs the workflow of package content on its own, in one process with
// one SQLite file, and asks the reviewer at the terminal. Kill it while it waits, come
// back within the week, run the same command again, and it asks again.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/demo"
)

func main() {
	topic := flag.String("topic", "backups that nobody has ever restored", "what to write about")
	audience := flag.String("audience", "people who run a small shop", "whom to write for")
	outbox := flag.String("outbox", string(content.DefaultOutbox), "the file to publish to")
	p := demo.Parse()
	w := content.New(p.Models, content.Outbox(*outbox))
	r := demo.Run(p, w, content.Input{Topic: *topic, Audience: *audience}, askReviewer)
	fmt.Printf("%s after %d drafts: %q", r.Status, r.Drafts, r.Article.Title)
	if r.Key != "" {
		fmt.Printf("; in %s under the key %s", *outbox, r.Key)
	}
	fmt.Println()
}

// askReviewer shows each draft as it comes and sends what is typed as the event "review".
func askReviewer(ctx context.Context, e *pawl.Engine, runID string) {
	answers := bufio.NewScanner(os.Stdin)
	for chunk, err := range e.ReadStream(ctx, "", runID, "drafts", 0) {
		var d content.Draft
		if err != nil || json.Unmarshal(chunk.Data, &d) != nil {
			return
		}
		info, err := e.Get(ctx, pawl.Ref{ID: runID})
		if err != nil {
			return
		}
		if info.State.Terminal() || info.Attrs["phase"] != "review" || info.Attrs["draft"] != strconv.Itoa(d.Number) {
			continue // reviewed before this process was started
		}
		fmt.Fprintf(os.Stderr, "\n# %s\n\n%s\n\nDraft %d. y publishes it, n rejects it, anything else says what to change:\n", d.Title, d.Body, d.Number)
		if !answers.Scan() {
			fmt.Fprintln(os.Stderr, "nobody is there to answer; the run waits, end with Ctrl-C and come back with the same command")
			return
		}
		review := content.Review{Draft: d.Number}
		switch text := strings.TrimSpace(answers.Text()); strings.ToLower(text) {
		case "y", "yes":
			review.Approved = true
		case "n", "no", "":
		default:
			review.Comment = text
		}
		if err := e.Signal(ctx, runID, "review", review); err != nil {
			fmt.Fprintln(os.Stderr, "the review did not arrive:", err)
		}
	}
}
