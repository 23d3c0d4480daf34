package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// costKinds are what costs can be summed by, as the query names them.
var costKinds = []pawl.CostBy{pawl.ByRun, pawl.ByStep, pawl.ByItem, pawl.ByWorkflow, pawl.ByDay}

func (s *server) costs(w http.ResponseWriter, r *http.Request) error {
	f, err := costFilter(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	costs, err := s.engine.Costs(ctx, f)
	if err != nil {
		return err
	}
	if costs == nil {
		costs = []pawl.Cost{}
	}
	return answer(w, http.StatusOK, CostList{Items: costs})
}

func costFilter(query url.Values) (f pawl.CostFilter, err error) {
	f.By = pawl.CostBy(query.Get("by"))
	if f.By != pawl.ByAll && !slices.Contains(costKinds, f.By) {
		var names []string
		for _, k := range costKinds {
			names = append(names, string(k))
		}
		return f, badRequest("by is %q; it is one of %s", f.By, strings.Join(names, ", "))
	}
	f.RunID, f.Workflow, f.Step, f.Item, f.Meter = query.Get("run"), query.Get("workflow"), query.Get("step"), query.Get("item"), query.Get("meter")
	switch text := query.Get("family"); text {
	case "", "false":
	case "true":
		f.Family = true
	default:
		return f, badRequest("family is %q; it is true or false", text)
	}
	if f.From, err = moment(query, "from"); err != nil {
		return f, err
	}
	f.To, err = moment(query, "to")
	return f, err
}

// moment reads a time of the query: a day in UTC, or a time as RFC 3339 writes it.
func moment(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, badRequest("%s is %q; write a day such as 2026-11-21, or a time such as 2026-11-21T18:00:00Z", name, text)
}
