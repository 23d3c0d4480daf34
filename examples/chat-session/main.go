// Chat-session serves the chats of package chat on one address, from one store. Kill it at any
// moment and start it again: the answer that was under way is given, and readers go on where they were.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/chat-session/chat"
	"github.com/pawlrun/pawl/examples/demo"
)

func main() {
	s := demo.Server{}
	s.Flags("127.0.0.1:8423", "chats", "CHAT_STORE", "chats.db")
	goOn := flag.Int("go-on", 50, "after how many answers a chat's run goes on as a new one")
	var source demo.Source
	source.Flags(flag.CommandLine)
	pace := flag.Duration("pace", 100*time.Millisecond, "how long the scripted model takes for a word")
	flag.Parse()
	if flag.NArg() > 0 || *goOn < 1 {
		demo.Refused("there are flags only, and -go-on is at least 1; see -help")
	}
	source.Script = chat.Scripted(*pace)
	found, err := source.Models()
	if err != nil {
		demo.Refused(err.Error())
	}
	if found.Model.Scripted {
		fmt.Fprint(os.Stderr, demo.Warning)
	}
	chats := chat.New(chat.Config{Models: found.Models, GoOn: *goOn})
	s.Definitions = []pawl.Definition{chats}
	s.Handler = func(ctx context.Context, e *pawl.Engine, at string) (http.Handler, error) {
		fmt.Fprintf(os.Stderr, "store      %s\nmodel      %s\nserving    %s\n", demo.Shown(s.Store), found.Model, at)
		return chats.Handler(ctx, e, slog.Default()), nil
	}
	s.Main()
}
