package service_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

// loopback are rules that open this machine, on every port.
var loopback = service.Network{Allow: []string{"127.0.0.0/8:*", "[::1]:*"}}

// serve starts a server that ends with the test.
func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// webOf is the service HTTP, by rules and options.
func webOf(t testing.TB, opt service.HTTPOptions) *service.HTTP {
	t.Helper()
	s, err := service.NewHTTP(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func web(t testing.TB) *service.HTTP { return webOf(t, service.HTTPOptions{Network: loopback}) }

// params is an object of names and values.
func params(t testing.TB, pairs ...any) json.RawMessage {
	t.Helper()
	object := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		object[name] = pairs[i+1]
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// request calls a service's first action. The error, if any, must be an *Error.
func request(t testing.TB, s service.Service, pairs ...any) (*service.Answer, *service.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := s.Call(ctx, service.Call{Params: params(t, pairs...), Key: "step-1"})
	if err != nil {
		var known *service.Error
		if !errors.As(err, &known) {
			t.Fatalf("%T is no *Error: %v", err, err)
		}
		return nil, known
	}
	answer, is := out.(*service.Answer)
	if !is || answer == nil {
		t.Fatalf("the result is %T", out)
	}
	return answer, nil
}

// asked is request of what must succeed.
func asked(t testing.TB, s service.Service, pairs ...any) *service.Answer {
	t.Helper()
	answer, err := request(t, s, pairs...)
	if err != nil {
		t.Fatalf("%s: %v", err.Code, err)
	}
	return answer
}

// refuses is request of what must fail with a code and words.
func refuses(t testing.TB, s service.Service, code, words string, pairs ...any) *service.Error {
	t.Helper()
	_, err := request(t, s, pairs...)
	if err == nil {
		t.Fatalf("%.200v was carried out", fmt.Sprint(pairs...))
	}
	if err.Code != code || !strings.Contains(err.Error(), words) {
		t.Errorf("%.200v: %s %q, want %s with %q", fmt.Sprint(pairs...), err.Code, err, code, words)
	}
	return err
}

func text(body any) string {
	switch b := body.(type) {
	case string:
		return b
	case json.RawMessage:
		return string(b)
	}
	return ""
}

// nameServer is a DNS server that answers with what look returns for a name, in small letters and without a dot at its end.
func nameServer(t testing.TB, look func(name string) []string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		question := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if answer := answerName(question[:n], look); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); done.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answerName makes the answer to a question of one name, as RFC 1035 writes it.
func answerName(question []byte, look func(string) []string) []byte {
	if len(question) < 17 {
		return nil
	}
	var labels []string
	at := 12
	for at < len(question) && question[at] != 0 {
		end := at + 1 + int(question[at])
		if end >= len(question) {
			return nil
		}
		labels = append(labels, string(question[at+1:end]))
		at = end
	}
	if at+5 > len(question) {
		return nil
	}
	kind := binary.BigEndian.Uint16(question[at+1:])
	answer := append([]byte{}, question[:at+5]...)
	copy(answer[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	for _, text := range look(strings.ToLower(strings.Join(labels, "."))) {
		a := netip.MustParseAddr(text)
		if a.Is4() != (kind == 1) || kind != 1 && kind != 28 {
			continue
		}
		answer[7]++
		answer = append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8))
		answer = append(answer, a.AsSlice()...)
	}
	return answer
}

// quiet is the log of servers whose callers go away on purpose.
var quiet = log.New(io.Discard, "", 0)
