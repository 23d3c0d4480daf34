package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow/draft"
)

// A new user without a key: words become a draft of a script that says so, which is approved as it was shown, compared and exported.
func TestJ9_FromWordsOnTheCommandLine(t *testing.T) {
	t.Chdir(t.TempDir())
	h := serve(t, testWorkflows()...)
	told := func(id string) (d struct {
		draft.Draft
		Text string `json:"text"`
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(pawlAt(t, h.url, "drafts", "show", id, "-o", "json").stdout), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	pawlAt(t, h.url, "generate", "Sort", "tickets", "--out", "f.json").want(t, 0, "draft_", "A run takes at most", "Asks the server's model", "drafts approve draft_", "written to f.json")
	id := strings.TrimSpace(pawlAt(t, h.url, "drafts", "list", "-o", "name").stdout)
	d := told(id)
	if d.WorkflowID != "scripted-sort-tickets" || !strings.Contains(d.Text, "A SCRIPT WROTE THIS, NO MODEL WAS ASKED") {
		t.Errorf("%+v", d)
	}
	pawlAt(t, h.url, "drafts", "approve", id).want(t, 2, "--digest")
	pawlAt(t, h.url, "drafts", "approve", id, "--digest", "abc").want(t, 5, "digest")
	pawlAt(t, h.url, "drafts", "approve", id, "--digest", d.Digest).want(t, 0, "scripted-sort-tickets version 1 is deployed")
	pawlAt(t, h.url, "drafts", "approve", id, "--digest", d.Digest).want(t, 5, "is approved")
	pawlAt(t, h.url, "generate", "--change", "scripted-sort-tickets", "be", "kind").want(t, 0, "changes", "version 1", "~ flow description", "be kind")
	pawlAt(t, h.url, "generate", "--change", "nobody", "x").want(t, 3, "nobody")
	pawlAt(t, h.url, "generate").want(t, 2, "needs words")
	pawlAt(t, h.url, "diff", "f.json").want(t, 0, "they say the same")
	data, err := os.ReadFile("f.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("f.json", []byte(strings.ReplaceAll(string(data), `"Look at this"`, `"Look"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	pawlAt(t, h.url, "diff", "f.json").want(t, 0, `~ step ask config.title: "Look at this" → "Look"`)
	pawlAt(t, h.url, "drafts", "propose", "f.json", "--comment", "shorter").want(t, 0, "shorter", "drafts approve")
	pawlAt(t, h.url, "drafts", "list", "--state", "open").want(t, 0, "be kind", "shorter")
	second := told(strings.Fields(pawlAt(t, h.url, "drafts", "list", "-o", "name").stdout)[0]).ID
	pawlAt(t, h.url, "drafts", "reject", second, "--comment", "no").want(t, 0, "is rejected")
	pawlAt(t, h.url, "drafts", "delete", second).want(t, 5, "rejected")
	pawlAt(t, h.url, "explain", "f.json").want(t, 0, "1. sort: Asks", "What it can do")
	pawlAt(t, h.url, "explain", "scripted-sort-tickets").want(t, 0, "1. sort: Asks")
	pawlAt(t, h.url, "export", "--dir", "out").want(t, 0, "out/scripted-sort-tickets.json")
	pawlAt(t, h.url, "deploy", "out").want(t, 0, "unchanged")
	pawlAt(t, h.url, "export").want(t, 2, "--dir")
}
