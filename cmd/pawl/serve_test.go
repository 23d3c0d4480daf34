package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

var servingLine = regexp.MustCompile(`"msg":"serving","address":"(https?://[^"]+)"`)

// serving runs "pawl serve" in this process until the test ends.
func serving(t *testing.T, env environment, args ...string) (url string, stop func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var stdout, stderr lockedBuffer
	ended := make(chan struct{})
	var code int
	go func() {
		defer close(ended)
		code = run(ctx, append([]string{"pawl", "serve", "--listen", "127.0.0.1:0"}, args...), env.get, strings.NewReader(""), &stdout, &stderr)
	}()
	stop = func() result {
		cancel()
		<-ended
		return result{code, stdout.String(), stderr.String()}
	}
	t.Cleanup(func() { stop() })
	eventually(t, func() bool {
		select {
		case <-ended:
			t.Fatalf("pawl serve has ended: %s%s", &stdout, &stderr)
		default:
		}
		return servingLine.MatchString(stderr.String())
	}, &stderr)
	return servingLine.FindStringSubmatch(stderr.String())[1], stop
}

func TestServeAsksForKeys(t *testing.T) {
	for name, where := range map[string]func(t *testing.T) (store, keyFile string, env environment){
		"sqlite": func(t *testing.T) (string, string, environment) {
			store := filepath.Join(t.TempDir(), "pawl.db")
			return store, store + ".admin-key", environment{}
		},
		"postgres": func(t *testing.T) (string, string, environment) {
			return pgtest.URL(t), "pawl.admin-key", environment{"PAWL_SECRET": strings.Repeat("s", 32)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			store, file, env := where(t)
			url, stop := serving(t, env, "--store", store)
			pawlAt(t, url, "runs", "list").want(t, 4, "--api-key-file FILE", "context set NAME --server "+url)
			pawlAt(t, url, "health").want(t, 0)
			admin, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key's file: %v, %v", info, err)
			}
			as := func(key string, args ...string) result {
				return pawlWith(t, environment{"PAWL_SERVER": url, "PAWL_API_KEY": key}, "", args...)
			}
			root := strings.TrimSpace(string(admin))
			as(root, "start", "rag-agent", "-i", `{"question":"fees?"}`, "--wait").want(t, 0, "no model was asked")
			reader := strings.TrimSpace(as(root, "keys", "create", "reader", "--scope", "runs:read").want(t, 0, "keys revoke").stdout)
			as(reader, "runs", "list", "--jq", ".items|length").want(t, 0, "1")
			as(reader, "runs", "cancel", "--all", "-y").want(t, 0, "no run fits")
			as(reader, "start", "rag-agent").want(t, 4, "runs:start")
			as(reader, "keys", "list").want(t, 4)
			as(root, "keys", "create", "none").want(t, 2, "runs:read")
			as(root, "keys", "create", "kept", "--scope", "admin", "--file", "kept.key").want(t, 0)
			as("", "runs", "list", "--api-key-file", "kept.key").want(t, 0)
			if r := as(root, "keys", "list").want(t, 0, "reader", "kept", "admin, made by pawl serve"); strings.Contains(r.stdout, reader) {
				t.Errorf("a key shows: %s", r.stdout)
			}
			id := strings.TrimSpace(as(root, "keys", "list", "--jq", `.items[]|select(.name=="reader")|.id`).stdout)
			as(root, "keys", "revoke", id).want(t, 0)
			eventually(t, func() bool { return as(reader, "runs", "list").code == 4 }, &lockedBuffer{})
			r := stop().want(t, 0, "shown this once", root, "stopped")
			if strings.Contains(r.stderr, root) {
				t.Errorf("the key stands in the log: %s", r.stderr)
			}
			// The second start makes no key, and the first one's opens.
			url, stop = serving(t, env, "--store", store)
			as(root, "runs", "list").want(t, 0)
			if r := stop(); strings.Contains(r.stdout, "pawl_") {
				t.Errorf("the second start shows a key: %s", r.stdout)
			}
			url, stop = serving(t, env, "--store", store, "--new-admin-key", "--workflows", "none")
			as(root, "workflows", "list", "-q").want(t, 0)
			stop().want(t, 0, "shown this once")
		})
	}
}

func TestServeRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("open.secret", []byte(strings.Repeat("s", 40)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  environment
		args string
		code int
		text string
	}{
		{environment{"PAWL_SECRET": "short"}, "", 2, "32 or more"},
		{environment{}, "--store " + pgtest.URL(t), 2, "must share one secret"},
		{environment{}, "--secret-file open.secret", 2, "chmod 600"},
		{environment{}, "--tls-cert x.pem", 2, "belong together"},
		{environment{}, "--tls-cert x.pem --tls-key y.pem", 2, "no such file"},
		{environment{}, "--public-url pawl.example.com", 2, "not an address"},
		{environment{}, "--workflows mine", 2, "examples, flows, none"},
		{environment{}, "--log-level loud", 2, "debug, info"},
		{environment{}, "--listen 999.1.1.1:0", 1, "listen on"},
	} {
		args := append([]string{"serve", "--listen", "127.0.0.1:0"}, strings.Fields(c.args)...)
		pawlWith(t, c.env, "", args...).want(t, c.code, c.text)
	}
}

// Where others can reach the server somebody must be able to get in, and nobody else.
func TestServeRefusesAPublicAddressWithoutAKey(t *testing.T) {
	t.Chdir(t.TempDir())
	_, stop := serving(t, environment{}, "--store", "pawl.db")
	stop().want(t, 0)
	store, err := sqlite.Open("pawl.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := api.Keys{Engine: pawl.New(store, nil)}
	all, err := keys.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := keys.Revoke(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	pawlWith(t, environment{}, "", "serve", "--listen", "0.0.0.0:0", "--store", "pawl.db").want(t, 2, "no valid key", "--new-admin-key")
}

// certify writes a certificate for 127.0.0.1 with a serial number.
func certify(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "pawl"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: pkcs}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(serial) * time.Second) // file systems may have coarse clocks
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificatesAreReadAnew(t *testing.T) {
	t.Chdir(t.TempDir())
	certify(t, "cert.pem", "key.pem", 1)
	url, stop := serving(t, environment{}, "--store", "pawl.db", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
	serial := func() int64 {
		c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("serial %d", n)
	}
	certify(t, "cert.pem", "key.pem", 2)
	eventually(t, func() bool { return serial() == 2 }, &lockedBuffer{})
	// A pair that can't be read does not end the service.
	c := &certificate{cert: "cert.pem", key: "key.pem", log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if err := c.read(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("key.pem", []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.get(); got == nil || got.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("the old certificate does not go on: %v", got)
	}
	if n := serial(); n != 2 {
		t.Errorf("serial %d", n)
	}
	stop().want(t, 0, "stopped")
}

// "pawl serve" finds its models as "pawl dev" does: in flags, the environment and its file.
func TestServeAsksTheModelThatIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	env, script := provider(t, 0)
	url, stop := serving(t, env, "--store", "s.db", "--model", "tiny-1", "--embedder", "tiny-vectors")
	as := func(args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": "s.db.admin-key"}, "", args...)
	}
	as("start", "rag-agent", "-i", `{"question":"What does it cost to be late?"}`, "--wait").want(t, 0, `"supported": true`)
	for _, call := range script.Calls() {
		if call.Model != "tiny-1" {
			t.Errorf("asked %q", call.Model)
		}
	}
	if embeds := script.Embeds(); len(embeds) == 0 || embeds[0].Model != "tiny-vectors" {
		t.Errorf("asked for %d embeddings", len(embeds))
	}
	if r := stop().want(t, 0, "tiny-1"); strings.Contains(r.stderr, "SCRIPT") {
		t.Errorf("it warns of a script: %s", r.stderr)
	}
	pawlWith(t, environment{}, "", "serve", "--store", "s.db", "--listen", "127.0.0.1:0", "--model", "openai/gpt-4o-mini").want(t, 2, "OPENAI_API_KEY is not set")
	pawlWith(t, environment{"PAWL_MODEL": "openai/x", "PAWL_BASE_URL": "http://127.0.0.1:1"}, "", "config", "show", "--origin").want(t, 0, "openai/x", "$PAWL_MODEL")
	// With no workflows it says where one is started.
	url, _ = serving(t, environment{}, "--store", "s.db", "--workflows", "none")
	as("start", "rag-agent").want(t, 3, "started in it", "--server URL")
}
