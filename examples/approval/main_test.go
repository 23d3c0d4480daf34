package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

// The program is killed while it waits for a decision, and started again: a link from before
// still decides.
func TestAKilledExpenseIsApprovedByItsLink(t *testing.T) {
	program, nobody, dir := demotest.Program(t), demotest.Serve(t, demo.Model()), t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := demotest.Start(t, program, dir, nobody, "-listen", addr)
	p.KillAt(t, p.Says("bob decides at"))
	p = demotest.Start(t, program, dir, nobody, "-listen", addr, "-linger", "20s")
	p.Await(t, p.Says("bob decides at"))
	// The links are derived, not stored: the first process's are those of the second.
	link := regexp.MustCompile(`ann decides at (\S+)`).FindStringSubmatch(p.Log())
	if link == nil {
		t.Fatalf("there is no link in %s", p.Log())
	}
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	page, err := client.Get(link[1])
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(page.Body)
	if err = errors.Join(err, page.Body.Close()); err != nil || !strings.Contains(string(body), "Pay $249.00 to eve?") {
		t.Fatalf("the page is %s, %v", body, err)
	}
	res, err := client.PostForm(link[1], url.Values{"decision": {"approve"}, "f.account": {`"travel"`}})
	if err != nil || res.StatusCode != http.StatusSeeOther || res.Body.Close() != nil {
		t.Fatalf("decided: %v, %v", res, err)
	}
	// The other approver comes too late, and is told so.
	p.Await(t, p.Says("it is decided"))
	other := regexp.MustCompile(`bob decides at (\S+)`).FindStringSubmatch(p.Log())
	late, err := client.Get(other[1])
	if err != nil {
		t.Fatal(err)
	}
	body, err = io.ReadAll(late.Body)
	if err = errors.Join(err, late.Body.Close()); err != nil || !strings.Contains(string(body), "Approved by ann on") {
		t.Errorf("who is late reads %s, %v", body, err)
	}
	p.Interrupt(t)
	if out := p.Exits(t, 0); out != "$249.00 is paid, from travel\n" {
		t.Errorf("it printed %q", out)
	}
	// The same command again only reads.
	if out := demotest.Start(t, program, dir, nobody, "-listen", addr).Exits(t, 0); out != "$249.00 is paid, from travel\n" {
		t.Errorf("then it printed %q", out)
	}
	if info, err := os.Stat(filepath.Join(dir, "runs.db.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}
