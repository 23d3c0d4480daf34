package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
)

// flowsHere is the folder of flows below the one that the program was started in; "": there is none.
func flowsHere() string {
	if isFolder(flowsFolder) {
		return flowsFolder
	}
	return ""
}

// devFlows is the folder that dev deploys from; "": none.
func (a *app) devFlows(folder string) (string, error) {
	if folder == "" {
		return flowsHere(), nil
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", folder)
	}
	if err != nil {
		return "", a.usage("--flows: %w; make one with a first flow: %s init", err, a.self)
	}
	return folder, nil
}

// watcher deploys the flows of a folder whenever they are saved. It looks at the files, not at what the system tells of
// them: that works on every file system.
type watcher struct {
	app    *app
	flows  *flow.Registry
	folder string
	seen   map[string]state // what was there at the last look
	failed string           // why the folder could not be read
}

// state is what a file was like, and whether it was deployed so.
type state struct {
	size  int64
	saved time.Time
	done  bool
}

// flowsEvery is how often files are looked at. One that has changed is deployed when it is as it was at the look before: whoever
// writes it is done.
const flowsEvery = 250 * time.Millisecond

func (w *watcher) watch(ctx context.Context) {
	if w.folder == "" {
		return
	}
	tick := time.NewTicker(flowsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(ctx)
		}
	}
}

// look deploys what was saved.
func (w *watcher) look(ctx context.Context) {
	if w.folder == "" {
		return
	}
	files, err := filesAt(w.folder)
	if err != nil {
		if w.failed != err.Error() {
			w.app.out.line("%s %s", w.app.out.red("✗"), err)
		}
		w.failed = err.Error()
		return
	}
	w.failed = ""
	before := w.seen
	w.seen = map[string]state{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // it has gone meanwhile
		}
		now := state{size: info.Size(), saved: info.ModTime()}
		was, there := before[file]
		if there && was.size == now.size && was.saved.Equal(now.saved) {
			now.done = true
			if !was.done {
				w.deploy(ctx, file)
			}
		}
		w.seen[file] = now
	}
	for _, file := range slices.Sorted(maps.Keys(before)) {
		if _, there := w.seen[file]; !there && before[file].done {
			w.app.out.line("%s is gone; what was deployed of it stays, until: %s", file, style(w.app.hint("workflows deactivate")+" ID"))
		}
	}
}

// deploy deploys a file, and says what came of it.
func (w *watcher) deploy(ctx context.Context, file string) {
	out, shown := w.app.out, filepath.ToSlash(file)
	data, err := readFlow(file)
	if err != nil {
		out.line("%s %s: %s", out.red("✗"), shown, err)
		return
	}
	d, err := w.flows.Deploy(ctx, flow.Deployment{Document: data, By: "pawl dev"})
	if found, bad := errors.AsType[flow.Problems](err); bad {
		for _, p := range found {
			sign := out.red("✗")
			if p.Warning {
				sign = out.yellow("!")
			}
			out.line("%s %s", sign, problemLine(shown, api.FindingOf(p)))
		}
		return
	}
	switch {
	case err != nil && ctx.Err() != nil:
	case errors.Is(err, pawl.ErrConflict), errors.Is(err, pawl.ErrDuplicate):
		out.line("%s %s: %s", out.red("✗"), shown, err)
	case err != nil:
		out.line("%s %s: it could not be deployed: %s", out.red("✗"), shown, err)
	default:
		for _, p := range d.Warnings {
			out.line("%s %s", out.yellow("!"), problemLine(shown, api.FindingOf(p)))
		}
		out.line("%s %s: %s version %d; %s", out.green("✓"), shown, d.ID, d.Version, d.WorstCase.Summary)
	}
}
