package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

const secret = "whsec_for_tests"

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(pgtest.Main(m))
}

// eachStore runs f on a file, and on a database, at the same time: they wait most of it.
func eachStore(t *testing.T, f func(t *testing.T, program, store string)) {
	t.Parallel()
	program := demotest.Program(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, program, filepath.Join(t.TempDir(), "s.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, program, pgtest.URL(t))
	})
}

// provider plays a payment provider that does what a test says.
type provider struct {
	url string

	mu      sync.Mutex
	charges map[string]charge // by idempotency key
	calls   int
	state   string // that a charge has when it is to be cancelled
	hold    bool   // the next charge is made, and its answer never comes
	held    chan struct{}
}

type charge struct {
	ID      string `json:"id"`
	Amount  int    `json:"amount"`
	Webhook string `json:"webhook"`
}

func play(t *testing.T) *provider {
	v := &provider{charges: map[string]charge{}, state: "canceled", held: make(chan struct{}, 1)}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	v.url = server.URL
	return v
}

func (v *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/cancel") {
		fmt.Fprintf(w, `{"state": %q}`, v.state)
		return
	}
	v.calls++
	key := r.Header.Get("Idempotency-Key")
	c, known := v.charges[key]
	if !known {
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil || key == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.ID = fmt.Sprintf("ch_%d", len(v.charges)+1)
		v.charges[key] = c
	}
	if v.hold {
		v.hold = false
		v.held <- struct{}{}
		v.mu.Unlock()
		<-r.Context().Done()
		v.mu.Lock()
		return
	}
	fmt.Fprintf(w, `{"id": %q}`, c.ID)
}

// only waits for the charge that was made, of which there may be one.
func (v *provider) only(t *testing.T) (c charge) {
	t.Helper()
	demotest.Await(t, "there is a charge", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, c = range v.charges {
			return true
		}
		return false
	}, func() string { return "" })
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.charges) != 1 {
		t.Errorf("%d charges were made", len(v.charges))
	}
	return c
}

func notice(id, kind, charge string, amount int) string {
	return fmt.Sprintf(`{"id": %q, "type": %q, "data": {"object": {"id": %q, "amount": %d}}}`, id, kind, charge, amount)
}

func signature(body, key string, at int64) string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return fmt.Sprintf("t=%d,v1=%s", at, hex.EncodeToString(mac.Sum(nil)))
}

// deliver sends a notice to a webhook, wherever the program is now.
func deliver(t *testing.T, p *demotest.Server, webhook, body, signed string) demotest.Reply {
	t.Helper()
	u, err := url.Parse(webhook)
	if err != nil {
		t.Fatal(err)
	}
	return p.Call(t, "POST", u.Path, body, "Stripe-Signature", signed)
}

func launch(t *testing.T, program, store string, v *provider, more ...string) *demotest.Server {
	t.Helper()
	return demotest.Launch(t, program, t.TempDir(), []string{"PAYMENT_WEBHOOK_SECRET=" + secret}, append([]string{"-store", store, "-lease", "3s", "-provider", v.url}, more...)...)
}

func buy(t *testing.T, p *demotest.Server) string {
	t.Helper()
	r := p.Call(t, "POST", "/orders", `{"item": "rope", "cents": 1290}`, "Idempotency-Key", "one")
	if r.Status > 201 {
		t.Fatalf("%d %s", r.Status, r.Text)
	}
	return r.Object["id"].(string)
}

func awaitStatus(t *testing.T, p *demotest.Server, id, status string) map[string]any {
	t.Helper()
	var r demotest.Reply
	demotest.Await(t, status, func() bool {
		r = p.Call(t, "GET", "/orders/"+id, "")
		return r.Object["status"] == status && (strings.HasPrefix(status, "waiting") || r.Object["state"] == "completed")
	}, func() string { return r.Text + p.Said() })
	return r.Object
}

// parcels are those of the orders that were fulfilled, and how many steps did it. No process may
// have a file open.
func parcels(t *testing.T, store, id string) (parcels, steps int) {
	t.Helper()
	s, err := demo.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := pawl.New(s, nil)
	all, err := e.Records(t.Context(), "payment.parcels", "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Key == "fulfil" {
			steps++
		}
	}
	return len(all), steps
}

// The provider sends each notice three times. The program is killed while it asks for the charge,
// and between the deliveries: the order is fulfilled once.
func TestAPaidOrderIsFulfilledOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		v := play(t)
		v.hold = true
		p := launch(t, program, store, v, "-patience", "1h")
		id := buy(t, p)
		select {
		case <-v.held:
		case <-time.After(time.Minute):
			t.Fatalf("no charge is made\n%s", p.Said())
		}
		p.Kill(t)
		p = launch(t, program, store, v, "-patience", "1h")
		if again := buy(t, p); again != id {
			t.Errorf("the same order again is %s, not %s", again, id)
		}
		awaitStatus(t, p, id, "waiting for its payment")
		c := v.only(t) // two calls with one key
		if v.calls != 2 {
			t.Errorf("%d calls of the provider, want 2", v.calls)
		}
		good, other := notice("evt_1", "payment_intent.succeeded", c.ID, 1290), notice("evt_2", "payment_intent.created", c.ID, 1290)
		for range 2 { // the killed process has taken it; nobody may take it for new
			for _, body := range []string{other, good} {
				if r := deliver(t, p, c.Webhook, body, signature(body, secret, time.Now().Unix())); r.Status != 202 {
					t.Errorf("%d %s", r.Status, r.Text)
				}
			}
			p.Kill(t)
			p = launch(t, program, store, v, "-patience", "1h")
		}
		if got := awaitStatus(t, p, id, "fulfilled"); got["parcel"] != "parcel-"+id || got["state"] != "completed" {
			t.Errorf("the order is %v", got)
		}
		// A repeat that comes when all is over is known; anything new is not wanted.
		if r := deliver(t, p, c.Webhook, good, signature(good, secret, time.Now().Unix())); r.Status != 202 {
			t.Errorf("the third delivery: %d %s", r.Status, r.Text)
		}
		late := notice("evt_3", "payment_intent.succeeded", c.ID, 1290)
		if r := deliver(t, p, c.Webhook, late, signature(late, secret, time.Now().Unix())); r.Status != 410 {
			t.Errorf("a new event afterwards: %d %s", r.Status, r.Text)
		}
		p.Kill(t)
		if n, steps := parcels(t, store, id); n != 1 || steps != 1 {
			t.Errorf("%d parcels in %d steps", n, steps)
		}
	})
}

func TestOnlyWhatTheProviderSignsCounts(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		v := play(t)
		p := launch(t, program, store, v, "-patience", "1h")
		id := buy(t, p)
		awaitStatus(t, p, id, "waiting for its payment")
		c, now := v.only(t), time.Now().Unix()
		good := notice("evt_1", "payment_intent.succeeded", c.ID, 1290)
		for name, signed := range map[string]string{
			"none":         "",
			"other secret": signature(good, "other", now),
			"other body":   signature(good+" ", secret, now),
			"replayed":     signature(good, secret, now-301),
			"v0 only":      strings.Replace(signature(good, secret, now), "v1", "v0", 1),
		} {
			if r := deliver(t, p, c.Webhook, good, signed); r.Status != 401 {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		if r := deliver(t, p, c.Webhook+"x", good, signature(good, secret, now)); r.Status != 404 {
			t.Errorf("another webhook: %d %s", r.Status, r.Text)
		}
		for name, body := range map[string]string{ // signed, and nothing that pays this order
			"too little":     notice("evt_2", "payment_intent.succeeded", c.ID, 1),
			"another charge": notice("evt_3", "payment_intent.succeeded", "ch_9", 1290),
			"another event":  notice("evt_4", "payment_intent.processing", c.ID, 1290),
		} {
			if r := deliver(t, p, c.Webhook, body, signature(body, secret, now)); r.Status != 202 {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		declined := notice("evt_5", "payment_intent.payment_failed", c.ID, 1290)
		deliver(t, p, c.Webhook, declined, signature(declined, secret, now))
		if got := awaitStatus(t, p, id, "cancelled"); got["why"] != "the payment was declined" {
			t.Errorf("the order is %v", got)
		}
		p.Kill(t)
		if n, _ := parcels(t, store, id); n != 0 {
			t.Errorf("%d parcels", n)
		}
	})
}

// When no notice comes in time the provider is asked, and what it says counts.
func TestAnOrderThatIsNotPaidInTime(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		for i, c := range []struct{ state, status string }{{"canceled", "cancelled"}, {"succeeded", "fulfilled"}} {
			v := play(t)
			v.state = c.state
			p := launch(t, program, store, v, "-patience", "300ms")
			r := p.Call(t, "POST", "/orders", fmt.Sprintf(`{"item": "rope", "cents": %d}`, i+1))
			awaitStatus(t, p, r.Object["id"].(string), c.status)
			p.Kill(t)
			if n, _ := parcels(t, store, r.Object["id"].(string)); n != i {
				t.Errorf("%s: %d parcels", c.state, n)
			}
		}
	})
}

// The provider that the program plays repeats its notices, and is killed with it.
func TestThePlayedProvider(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is the same after the kill: it is in the webhook's address
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	args := []string{"-listen", at, "-store", filepath.Join(dir, "s.db"), "-patience", "3s"}
	p := demotest.Launch(t, program, dir, nil, args...)
	ids := map[string]string{}
	for card := range map[string]string{"good": "", "declined": "", "late": "", "none": ""} {
		r := p.Call(t, "POST", "/orders", fmt.Sprintf(`{"item": "rope", "cents": 1290, "card": %q}`, card))
		ids[card] = r.Object["id"].(string)
	}
	awaitStatus(t, p, ids["good"], "waiting for its payment")
	p.Kill(t)
	p = demotest.Launch(t, program, dir, nil, args...)
	for card, status := range map[string]string{"good": "fulfilled", "declined": "cancelled", "late": "fulfilled", "none": "cancelled"} {
		awaitStatus(t, p, ids[card], status)
	}
	p.Kill(t)
	if n, _ := parcels(t, filepath.Join(dir, "s.db"), ids["good"]); n != 2 {
		t.Errorf("%d parcels, want 2", n)
	}
}

func TestRequestsAndFlagsThatAreRefused(t *testing.T) {
	program := demotest.Program(t)
	p := launch(t, program, filepath.Join(t.TempDir(), "s.db"), play(t))
	buy(t, p)
	for name, c := range map[string]struct {
		status int
		reply  demotest.Reply
	}{
		"no item":   {400, p.Call(t, "POST", "/orders", `{"cents": 5}`)},
		"no price":  {400, p.Call(t, "POST", "/orders", `{"item": "rope", "cents": -5}`)},
		"key twice": {409, p.Call(t, "POST", "/orders", `{"item": "sail", "cents": 5}`, "Idempotency-Key", "one")},
		"no order":  {404, p.Call(t, "GET", "/orders/nothing", "")},
	} {
		if c.reply.Status != c.status {
			t.Errorf("%s: %d %s", name, c.reply.Status, c.reply.Text)
		}
	}
	out, err := exec.CommandContext(t.Context(), program, "-provider", "http://localhost:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "PAYMENT_WEBHOOK_SECRET") {
		t.Errorf("a provider without a secret: %v %s", err, out)
	}
}
