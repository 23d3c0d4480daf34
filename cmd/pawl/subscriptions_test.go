package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSubscriptionsAndBackfill(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		sub := func(args ...string) result {
			return at(append([]string{"events", "subscriptions"}, args...)...)
		}
		sub("list").want(t, 0, "no subscriptions")
		sub("put", "big", "--event", "order", "--workflow", "echo", "--where", "event.data.n > 5").want(t, 0, "order", "event.data.n > 5")
		sub("put", "big", "--event", "order").want(t, 2, "--workflow")
		sub("put", "big", "--workflow", "echo").want(t, 2, "--event")
		sub("put", "big", "--event", "order", "--workflow", "echo", "--if-match", `"1"`).want(t, 5, "events subscriptions list")
		sub("list").want(t, 0, "big", "order", "echo")
		sub("show", "big", "--jq", ".where").want(t, 0, "event.data.n > 5")
		at("events", "send", "order", "-d", `{"n":7}`, "--id", "o-1").want(t, 0, "order o-1")
		sub("events", "big").want(t, 0, "o-1", "big@")
		sub("events", "big", "--since", "soon").want(t, 2, "--since")
		sub("delete", "big").want(t, 0, "deleted")
		sub("delete", "big").want(t, 3, "events subscriptions list")

		at("schedules", "put", "hourly", "--workflow", "echo", "-i", `{"n":1}`, "--cron", "@hourly").want(t, 0)
		to := time.Now().UTC().Truncate(time.Hour)
		span := []string{"--from", to.Add(-3 * time.Hour).Format(time.RFC3339), "--to", to.Format(time.RFC3339), "--overlap", "allow"}
		at(append([]string{"schedules", "backfill", "hourly", "--dry-run"}, span...)...).want(t, 0, "nothing was fired", "3")
		at("schedules", "show", "hourly", "--jq", ".waiting").want(t, 0, "null")
		at(append([]string{"schedules", "backfill", "hourly"}, span...)...).want(t, 0, "schedules occurrences hourly")
		at("schedules", "show", "hourly", "--jq", ".waiting").want(t, 0, "3")
		at("schedules", "backfill", "hourly", "--from", "soon").want(t, 2, "--from")
	}, testWorkflows()...)
}

func TestMaxWaitingIsASetting(t *testing.T) {
	r := pawlWith(t, environment{"PAWL_MAX_WAITING": "7"}, "", "config", "show", "--origin").want(t, 0, "maxWaiting", "PAWL_MAX_WAITING")
	if !strings.Contains(r.stdout, "7") {
		t.Error(r.stdout)
	}
	pawlWith(t, environment{}, "", "serve", "--max-waiting", "0", "--store", filepath.Join(t.TempDir(), "pawl.db")).want(t, 2, "maxWaiting is 0")
}
