package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/flow"
)

// worlds are what flows in files can refer to here: what a server would have that is started with the same environment, and with the
// descriptions of services that the flows have with them.
type worlds struct {
	app  *app
	made map[string]flow.World // by the folder of descriptions
}

// of is the world of a file. The setting of descriptions goes before the folder that the flow has with it.
func (w *worlds) of(file string) (flow.World, error) {
	s := defaultSettings()
	if err := w.app.envSettings(&s, map[string]string{}); err != nil {
		return flow.World{}, err
	}
	found := ""
	if s.Services == "" {
		found = servicesOf(filepath.Dir(filepath.FromSlash(file)))
		s.Services = found
	}
	if made, is := w.made[s.Services]; is {
		return made, nil
	}
	services, err := w.app.services(s, nil)
	if err != nil && found != "" {
		err = fmt.Errorf("%w\n%s", err, besideFlows(found))
	}
	if err != nil {
		return flow.World{}, err
	}
	made := flow.World{Services: services.set, Unset: services.unset, Model: "the server's --model"}
	models, err := demo.Source{Env: w.app.env, Model: s.Model, Embedder: s.Embedder, BaseURL: s.BaseURL, Prices: s.Prices}.Models()
	if err != nil {
		return flow.World{}, errors.Join(w.app.usage("%w", err), services.close())
	}
	made.Provider, made.Price, made.Unpriced = models.Provider, models.Models.Price, models.Models.Unpriced()
	if !models.Model.Scripted {
		made.Model = models.Model.Name
	}
	if w.made == nil {
		w.made = map[string]flow.World{}
	}
	w.made[s.Services] = made
	return made, services.close() // none is called
}
