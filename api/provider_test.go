package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl/api"
)

// What a provider answers can't fill the memory, and can't send the server elsewhere.
func TestAProviderIsNotTrustedWithMoreThanItsHost(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	var sent atomic.Int64
	var front *httptest.Server
	for name, answer := range map[string]http.HandlerFunc{
		"another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/latest/meta-data", http.StatusFound)
		},
		"another again": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
		},
		"a file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"itself": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"an endless document": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if _, err := io.WriteString(w, `{"issuer":"`); err != nil {
				return
			}
			piece := []byte(strings.Repeat("x", 1<<16))
			for sent.Load() < 1<<30 {
				n, err := w.Write(piece)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			front = httptest.NewServer(answer)
			defer front.Close()
			auth := unlimited()
			auth.OIDC = &api.OIDC{Issuer: front.URL, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback"}
			h := open(t, api.Options{Auth: auth})
			p := h.refused(http.StatusServiceUnavailable, "provider", "GET", "/login?return=/", "")
			if len(p.Detail) > 4096 || strings.Contains(p.Detail, "hush") {
				t.Errorf("it tells %s", fmt.Sprint(p))
			}
		})
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("the server was sent elsewhere %d times", n)
	}
	if n := sent.Load(); n > 64<<20 { // what lies in the buffers of the connection is sent too
		t.Errorf("%d bytes of an endless document were taken", n)
	}
}
