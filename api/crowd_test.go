package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/api"
)

// Thousands of sockets that never end a request cost no more than as many as one address may
// have waiting; who asks something from the same address is answered, and stays.
func TestConnectionsThatAskNothingAreBounded(t *testing.T) {
	const most, sockets = 16, 400
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	release := make(chan struct{})
	go func() {
		served <- api.Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				w.WriteHeader(200)
				w.(http.Flusher).Flush()
				<-release
			}
			io.WriteString(w, "answered")
		}), time.Second, api.MaxWaiting(most))
	}()
	url := "http://" + l.Addr().String()
	one := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func(path string) string {
		t.Helper()
		res, err := one.Get(url + path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(data)
	}
	long, err := one.Get(url + "/long") // a view that was there before
	if err != nil {
		t.Fatal(err)
	}
	var burst []net.Conn // many that come at once and ask a moment later are answered
	for range 6 * most {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		burst = append(burst, c)
	}
	for i, c := range burst {
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(data), "answered") {
			t.Fatalf("number %d of a burst: %q %v", i, data, err)
		}
		_ = c.Close() // the server has closed it
	}
	var open []net.Conn
	for i := range sockets {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		half := []string{"", "G", "GET / HTTP/1.1\r\nHost: x\r\n"}[i%3]
		if i%4 == 3 { // a whole request first, then an idle connection
			half = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		}
		if _, err := io.WriteString(c, half); err != nil && i < most {
			t.Fatal(err)
		}
		open = append(open, c)
		if i%50 == 49 {
			if got := get("/"); got != "answered" {
				t.Errorf("beside %d sockets: %q", i+1, got)
			}
		}
	}
	count := func() (alive int) {
		for _, c := range open {
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				alive++
			}
		}
		return alive
	}
	if alive := count(); alive > 8*most {
		t.Errorf("%d of %d sockets that came at once are open, want at most %d", alive, sockets, 8*most)
	}
	time.Sleep(time.Second) // none of them is young now, and the next to come sees to it
	if got := get("/"); got != "answered" {
		t.Error(got)
	}
	if alive := count(); alive > most {
		t.Errorf("%d of %d sockets are open, want at most %d", alive, sockets, most)
	}
	close(release)
	data, err := io.ReadAll(long.Body)
	long.Body.Close()
	if err != nil || !strings.Contains(string(data), "answered") {
		t.Errorf("a view that was there before: %q %v", data, err)
	}
	if got := get("/"); got != "answered" {
		t.Error(got)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A line has 2^64 addresses of IPv6: they are one caller, else limits of an address were none.
func TestAddressesOfOneLineAreOneCaller(t *testing.T) {
	h := open(t, api.Options{Auth: &api.Auth{Tries: 3}})
	codes := map[int]int{}
	for i := range 10 {
		r, err := http.NewRequest("GET", "http://localhost/api/runs", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = fmt.Sprintf("[2001:db8:1:2::%x]:%d", i+1, 1000+i)
		bearer("pawl_x_y")(r)
		codes[h.direct(r).Code]++
	}
	if codes[401] != 3 || codes[429] != 7 {
		t.Errorf("ten wrong keys of one line: %v", codes)
	}
}
