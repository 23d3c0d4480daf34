package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/secret"
)

// flows makes the registry of the flows in an engine's store, and tells the engine those that are there. The engine has not
// begun to run.
func (a *app) flows(ctx context.Context, engine *pawl.Engine, services *called, opt flow.Options) (*flow.Registry, error) {
	services.into(&opt)
	r := flow.NewRegistry(engine, opt)
	if err := engine.Register(r.Backtester()); err != nil {
		return nil, err
	}
	return r, r.Refresh(ctx)
}

// giveSecrets lets flows have the secrets of their tenants, and deployments know which of them are there, or among the settings.
func giveSecrets(opt *flow.Options, secrets *secret.Store, settings webhookSecrets) {
	opt.Secret, opt.HasSecret, opt.SecretNames, opt.Signers = secrets.Value, secrets.Has, secrets.Names, settings.schemes()
}

// drafts makes the drafts of flows, and tells the engine the workflow that writes them.
func (a *app) drafts(engine *pawl.Engine, flows *flow.Registry, opt flow.Options) (*draft.Drafts, error) {
	d := draft.New(engine, flows, draft.Options{Models: opt.Models, Model: opt.Model, Provider: opt.Provider})
	return d, engine.Register(d.Workflow())
}

// flowModels are what decisions of flows ask: the models that were found.
func flowModels(found *demo.Found) flow.Options {
	return flow.Options{Models: found.Models, Model: found.Model.Name, Provider: found.Provider}
}

// scriptPrices say that a script costs nothing, whatever it is called.
const scriptPrices = `{"prices": [{"provider": "scripted", "model": "*", "input": 0, "output": 0}, {"provider": "openai", "model": "*", "input": 0, "output": 0}, {"provider": "anthropic", "model": "*", "input": 0, "output": 0}]}`

// scriptedModels let a script answer decisions, whichever model they name. Its answers fit what is asked for and mean
// nothing.
func scriptedModels(pause time.Duration) flow.Options {
	prices, err := (&llm.Prices{}).With("the prices of the script", []byte(scriptPrices))
	if err != nil {
		panic(err) // they stand above
	}
	rule := llmtest.Echo()
	rule.Delay = pause
	script := llmtest.Script(scriptedDraft(pause), rule)
	const model = "scripted/script"
	return flow.Options{Model: model, Provider: func(string) string { return "scripted" }, Models: agent.New(agent.Options{
		Providers: map[string]llm.Model{"scripted": script, "openai": script, "anthropic": script}, Model: model, Prices: prices,
	})}
}

// serveModels are what decisions of flows ask in production: no script, unless it is named.
func serveModels(s settings, found *demo.Found) flow.Options {
	if !found.Model.Scripted {
		return flowModels(found)
	}
	if s.Model != "" {
		return scriptedModels(0)
	}
	return flow.Options{Model: found.Model.Name}
}

// flowEndings are what files of flows end in.
var flowEndings = []string{".json", ".yaml", ".yml"}

// flowFiles lists the files at paths, each of which has one.
func (a *app) flowFiles(paths []string) (files []string, err error) {
	for _, path := range paths {
		found, err := filesAt(path)
		if err != nil {
			return nil, a.usage("%w", err)
		}
		if len(found) == 0 {
			return nil, a.usage("there is no flow in %s: files end in %s", path, strings.Join(flowEndings, ", "))
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// filesAt lists a file, or those below a folder that end as flows do. What begins with a dot, files of cases, and folders of
// descriptions of services are left out there. Of a folder that has a folder of flows, as init makes it, that is meant.
func filesAt(path string) (files []string, err error) {
	root := path
	if isFolder(path) {
		if flows := filepath.Join(path, flowsFolder); isFolder(flows) {
			path = flows
		}
		root = strings.TrimRight(path, string(filepath.Separator)) + string(filepath.Separator) // what a link leads to
	}
	err = filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case at != root && (strings.HasPrefix(entry.Name(), ".") || entry.IsDir() && entry.Name() == servicesFolder):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
		case at != root && isCases(at):
		case at == root || slices.Contains(flowEndings, strings.ToLower(filepath.Ext(at))):
			files = append(files, at)
		}
		return nil
	})
	return files, err
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// flowsFolder and servicesFolder are what the folders of flows, and of the descriptions of services that they have with them, are called.
const (
	flowsFolder    = "flows"
	servicesFolder = "services"
)

// servicesOf is the folder of descriptions of services that the flows of a folder have with them: in it, or beside it if it is called
// flows, as init makes it; "": there is none.
func servicesOf(folder string) string {
	if at := filepath.Join(folder, servicesFolder); isFolder(at) {
		return at
	}
	if whole, err := filepath.Abs(folder); err == nil && filepath.Base(whole) == flowsFolder {
		if at := filepath.Join(folder, "..", servicesFolder); isFolder(at) {
			return at
		}
	}
	return ""
}

// readFlow reads a file of a flow, no more of it than a flow may have.
func readFlow(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	case info.Size() > flow.MaxDocument:
		return nil, errors.New("it is larger than a flow may be")
	}
	return os.ReadFile(file)
}
