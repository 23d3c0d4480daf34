package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
)

func TestDoctor(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "waits", "--id", "w").want(t, 0)
		until(t, h.client, "w", pawl.Waiting)
		pawlAt(t, h.url, "doctor").want(t, 0, "✓ settings", "✓ server", "✓ clock", "✓ store", "✓ workers   1 alive", "✓ ready", "✓ timers    no runs", "✓ blocked")
	}, testWorkflows()...)
	pawlWith(t, environment{}, "", "doctor", "--server", "http://127.0.0.1:1").want(t, 1, "✗ server", "pawl dev", "1 check failed")
	pawlWith(t, environment{}, "", "doctor", "--server", "http://127.0.0.1:1", "--config", "nowhere.yaml", "-o", "json").want(t, 1, `"check":"settings","state":"fail"`)
	file := filepath.Join(t.TempDir(), "pawl.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pawlWith(t, environment{}, "", "doctor", "--server", "http://127.0.0.1:1", "--store", file).want(t, 1, "disk", "an fsync beside")
}

// Runs that nobody takes, timers that nobody rings and clocks that differ are seen.
func TestDoctorSeesWhatIsWrong(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "application/json")
		run := pawl.RunInfo{ID: "r", Workflow: "w", State: pawl.Pending, Created: old, Updated: old}
		page := api.RunPage{Items: []pawl.RunInfo{}}
		switch r.URL.Query().Get("state") {
		case "pending":
			gated := run
			gated.Gate = "limit"
			page.Items = append(page.Items, run, gated)
		case "waiting":
			run.State, run.Due = pawl.Waiting, old
			page.Items = append(page.Items, run)
		case "blocked":
			run.State = pawl.Blocked
			page.Items = append(page.Items, run, run)
		default:
			if r.URL.Path == "/api/stats" {
				io.WriteString(w, `{"runs":{"pending":2},"ready":1,"workers":0,"oldestReady":1}`)
				return
			}
			io.WriteString(w, `{"status":"ok","name":"pawl","version":"v0.0.1"}`)
			return
		}
		if err := json.NewEncoder(w).Encode(page); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	pawlAt(t, server.URL, "doctor").want(t, 1, "! version", "v0.0.1", "! clock", "NTP",
		"✗ workers   no worker is alive", "✗ ready     1 run ready that nobody takes", "✗ timers    1 run", "✗ blocked   2 runs", "pawl runs retry --state blocked", "4 checks failed")
}

func TestBench(t *testing.T) {
	dir := t.TempDir()
	var report benchReport
	r := pawlWith(t, environment{}, "", "bench", "--runs", "4", "--steps", "5", "--rounds", "3", "--dir", dir, "-o", "json").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]spread{"speed": report.StepsPerSec, "alone": report.AloneMs, "fsync": report.FsyncMs, "ratio": report.StepsPerFsync} {
		if s.Least <= 0 || s.Least > s.Median || s.Median > s.Most {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind: %v", left, err)
	}
	pawlWith(t, environment{}, "", "bench", "--rounds", "0").want(t, 2, "1 or more")
	pawlWith(t, environment{}, "", "bench", "--dir", filepath.Join(dir, "no")).want(t, 2, "--dir")
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	pawlWith(t, environment{}, "", "man", dir).want(t, 0, "man "+dir+"/pawl.1")
	page, err := os.ReadFile(filepath.Join(dir, "pawl-runs-cancel.1"))
	if err != nil || !strings.Contains(string(page), "dry-run") || !strings.Contains(string(page), ".TH") {
		t.Errorf("%.200s: %v", page, err)
	}
}

// check holds the journals of a store against the workflows of this program.
func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := provider(t, 0)
	url, stop := dev(t, env)
	pawlAt(t, url, "start", "content-pipeline", "--id", "article", "--input", `{"topic":"knots","audience":"sailors"}`).want(t, 0)
	client, err := api.NewClient(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	until(t, client, "article", pawl.Waiting)
	pawlWith(t, env, "", "check").want(t, 1, "in use by another process", "pawl runs list")
	stop()
	pawlWith(t, env, "", "check").want(t, 0, "1 run fits")
	store, err := sqlite.Open("other.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := serveOn(t, store, testWorkflows()...)
	pawlAt(t, h.url, "start", "waits", "--id", "foreign").want(t, 0)
	until(t, h.client, "foreign", pawl.Waiting)
	h.stop()
	pawlWith(t, env, "", "check", "--store", "other.db").want(t, 1, "foreign", `no workflow is called "waits" here`, "1 run does not fit")
	pawlWith(t, env, "", "check", "--store", "none.db").want(t, 2, "no such file")
	pawlWith(t, env, "", "check", "--store", "other.db", "--workflow", "waits").want(t, 1, "foreign")
	pawlWith(t, env, "", "check", "--workflow", "content-pipelin").want(t, 2, `no workflow "content-pipelin"`, `did you mean "content-pipeline"?`)
}

// A run with a hook fits if the secret is the server's, and is not called blocked for want of it.
func TestCheckOfHooksTakesTheServersSecret(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	url, stop := dev(t, environment{})
	for workflow, input := range map[string]string{"webhook-demo": "null", "approval-demo": `{"text":"x"}`} {
		pawlAt(t, url, "start", workflow, "--id", workflow, "-i", input).want(t, 0)
		client, err := api.NewClient(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		until(t, client, workflow, pawl.Waiting)
	}
	stop()
	at := func(env environment, args ...string) result {
		return pawlWith(t, env, "", append([]string{"check"}, args...)...)
	}
	at(environment{}).want(t, 0, "2 runs fit")
	if err := os.Rename("pawl.db.secret", "kept"); err != nil {
		t.Fatal(err)
	}
	at(environment{}).want(t, 0, "2 runs fit", "no secret is given, so tokens of hooks were not checked (runs with some: 2)", "--secret-file")
	at(environment{}, "-o", "json").want(t, 0, `"noSecret":true`)
	for _, r := range []result{at(environment{}, "--secret-file", "kept"), at(environment{"PAWL_SECRET_FILE": "kept"})} {
		if r.want(t, 0, "2 runs fit"); strings.Contains(r.stderr, "no secret") {
			t.Error(r.stderr)
		}
	}
	at(environment{"PAWL_SECRET": strings.Repeat("z", 40)}).want(t, 1, "another secret", "2 runs do not fit")
	at(environment{}, "--secret-file", "nowhere").want(t, 2, "nowhere")
	if _, err := os.Stat("nowhere"); err == nil {
		t.Error("a check has made a secret")
	}
}
