package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
)

// watchEvery is how often a watched list is asked for anew.
const watchEvery = 2 * time.Second

// watch draws what show prints again and again, over itself, until ctx ends. Where there
// is no terminal it is printed anew whenever it has changed.
func (a *app) watch(ctx context.Context, show func(context.Context) error) error {
	if !a.out.tty && a.times == "relative" {
		a.times = "iso" // what is new each second is no change
	}
	out, height, before := a.stdout, 0, ""
	defer func() { a.stdout, a.out.w = out, out }()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		var b bytes.Buffer
		a.stdout, a.out.w = &b, &b
		err := show(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, api.ErrUnreachable) && height > 0: // it may come back
			b.Reset()
			fmt.Fprintln(&b, clean(err.Error()))
		case err != nil:
			return err
		}
		if text := b.String(); text != before {
			before = text
			if a.out.tty {
				if height > 0 {
					fmt.Fprintf(out, "\x1b[%dA\x1b[J", height) // to where it began, and clear what follows
				}
				text = a.screenful(text)
				height = strings.Count(text, "\n")
			}
			fmt.Fprint(out, text)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// screenful cuts text to what the terminal shows at once: what has scrolled away could
// not be drawn over.
func (a *app) screenful(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if most := a.out.height - 1; a.out.height > 1 && len(lines)-1 > most {
		lines = append(lines[:most-1], fmt.Sprintf("… and %d more\n", len(lines)-most))
	}
	return strings.Join(lines, "")
}
