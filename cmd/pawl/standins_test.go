package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/templates"
)

// All templates are deployed by "pawl dev" as init makes them, without any settings, and run; people are shown what they would get, and
// decide by the link in it.
func TestTemplatesRunInDevelopmentAsTheyAre(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, of := range templates.List() {
		for _, f := range of.Files {
			switch {
			case strings.HasPrefix(f.Path, "flows/"), strings.HasPrefix(f.Path, "services/"):
				write(t, f.Path, f.Data)
			case f.Path == "input.json":
				write(t, of.Name+".json", f.Data)
			}
		}
	}
	p := startDev(t, ".", "127.0.0.1:0", environment{})
	url := addressIn(t, &p.stdout, p.ended, &p.stderr)
	for _, want := range []string{"services   http, webhook\n", "stand-ins  cms (set CMS_URL), companies (set COMPANIES_URL)", "slack (set SLACK_BOT_TOKEN)", "email is a stand-in here, which sends nothing; set SMTP_HOST and SMTP_FROM"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("dev does not say %q: %s", want, &p.stdout)
		}
	}
	asked := []string{"incident-response", "invoice-intake"}
	for _, of := range templates.List() {
		if slices.Contains(asked, of.Name) {
			pawlAt(t, url, "start", of.Name, "--id", of.Name, "--input", "@"+of.Name+".json").want(t, 0)
		} else {
			pawlAt(t, url, "start", of.Name, "--input", "@"+of.Name+".json", "--wait").want(t, 0)
		}
	}
	if r := pawlAt(t, url, "approve", "invoice-intake", "--by", "eve").want(t, exitAuth, "only ann@example.com, bob@example.com may", "say with --by which of them decides"); strings.Contains(r.stderr, "scope") {
		t.Errorf("who is no approver is told of keys: %s", r.stderr)
	}
	for _, name := range asked {
		// The mail to bob, not the one to ann, of this run.
		link := regexp.MustCompile(`of \S*notice-email-2/notify-asked in run ` + name + ` is not sent(?:[^○]*?)(http://\S+/approve/\S+)\n[^○]*to: bob@example\.com`)
		var found []string
		for end := time.Now().Add(30 * time.Second); found == nil; time.Sleep(20 * time.Millisecond) {
			if found = link.FindStringSubmatch(p.stdout.String()); found == nil && time.Now().After(end) {
				t.Fatalf("nobody is told of %s: %s", name, &p.stdout)
			}
		}
		res, err := http.PostForm(found[1], map[string][]string{"decision": {"approve"}})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: the link answers %s", name, res.Status)
		}
		pawlAt(t, url, "runs", "result", name, "--wait").want(t, 0)
		if shown := pawlAt(t, url, "approvals", "list", "--state", "decided", "-o", "json").want(t, 0).stdout; !strings.Contains(shown, "bob@example.com") {
			t.Errorf("%s was not decided by bob: %s", name, shown)
		}
	}
}

// A stand-in refuses what the real service would, shows no secret, and says in its result that nothing was sent.
func TestAStandInHoldsCallsAgainstTheRules(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "flows/good.json", `{"id":"good","steps":[
		{"id":"read","type":"service","config":{"service":"database","connection":"shop","query":"SELECT 1"},"next":"mail"},
		{"id":"mail","type":"service","config":{"service":"email","to":"ann@example.org","subject":"a","template":"greeting","data":{"name":"ann"}},"next":"tell"},
		{"id":"tell","type":"service","config":{"service":"slack","channel":"#desk","text":"the key is {{secrets.desk}}\nsecond line"},"next":"end"}]}`)
	write(t, "flows/bad.json", `{"id":"bad","inputs":{"type":"object"},"steps":[{"id":"mail","type":"service","config":{"service":"email","to":"{{variables.to}}","subject":"a","text":"b"},"next":"end"}]}`)
	write(t, "flows/sql.json", calls("sql", `{"service":"database","query":"DROP TABLE orders"}`))
	p := startDev(t, ".", "127.0.0.1:0", environment{})
	url := addressIn(t, &p.stdout, p.ended, &p.stderr)
	pawlWith(t, environment{"PAWL_SERVER": url}, "SENTINEL-1f2e", "secrets", "set", "desk").want(t, 0)
	out := pawlAt(t, url, "start", "good", "--wait").want(t, 0).stdout
	var result struct{ Channel, TS, StandIn *string }
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Channel == nil || result.TS == nil || result.StandIn == nil || *result.StandIn != "nothing was sent: set SLACK_BOT_TOKEN" {
		t.Errorf("the result is %s", out)
	}
	if shown := p.stdout.String(); strings.Contains(shown+p.stderr.String(), "SENTINEL") || !strings.Contains(shown, "\n      second line") || !strings.Contains(shown, "slack.sendMessage of tell in run") {
		t.Errorf("it shows %s", shown)
	}
	pawlAt(t, url, "start", "bad", "--input", `{"to":"no address"}`, "--wait").want(t, exitRunFailed, "email: to: ")
	pawlAt(t, url, "start", "sql", "--wait").want(t, exitRunFailed, "DROP")

	// What is set is real: nothing stands in for it.
	if err := os.RemoveAll("flows"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join("services", "tickets.yaml"), ticketsYAML)
	write(t, "flows/tickets.json", calls("tickets", `{"service":"tickets","title":"x"}`))
	t.Setenv("TICKETS_URL", "http://127.0.0.1:9/v1")
	p = startDev(t, ".", "127.0.0.1:0", environment{}, "--store", "other.db")
	if shown := p.stdout.String(); !strings.Contains(shown, "services   http, tickets, webhook\n") || strings.Contains(shown, "tickets is a stand-in") {
		t.Errorf("it says %s", shown)
	}
}
