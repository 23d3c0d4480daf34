package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// Secrets are set, listed, rotated and deleted by command; their values are in no file, log or answer; and a server that lacks their
// key does not start.
func TestSecretsByCommandLine(t *testing.T) {
	for name, where := range map[string]func(t *testing.T) string{"sqlite": func(*testing.T) string { return "pawl.db" }, "postgres": func(t *testing.T) string { return pgtest.URL(t) }} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			store, old, young := where(t), secret.NewKey(), secret.NewKey()
			env := func(keys string) environment {
				return environment{"PAWL_SECRET": strings.Repeat("s", 32), "PAWL_ENCRYPTION_KEYS": keys, "PAWL_ADMIN_KEY_FILE": ""}
			}
			url, stop := serving(t, env(old), "--store", store, "--workflows", "none", "--admin-key-file", "admin.key")
			var said strings.Builder
			as := func(stdin string, args ...string) result {
				r := pawlWith(t, environment{"PAWL_SERVER": url}, stdin, append(args, "--api-key-file", "admin.key")...)
				said.WriteString(r.stdout + r.stderr)
				return r
			}
			as("", "secrets", "list").want(t, 0, "no secrets")
			as("SENTINEL-one-77c0\n", "secrets", "set", "stripe").want(t, 0, "stripe is set")
			as("SENTINEL-two-77c0", "secrets", "set", "hub", "-o", "name").want(t, 0, "hub")
			as("SENTINEL-three-77c0\r\n", "secrets", "set", "hub", "--keep-previous", "1h").want(t, 0, "are good until")
			as("", "secrets", "list").want(t, 0, "hub", "stripe", "admin, made by pawl serve", "PREVIOUS UNTIL")
			as("", "secrets", "list", "--prefix", "s", "--jq", ".items|length").want(t, 0, "1")
			as("x", "secrets", "set", "hub", "--if-match", `"1"`).want(t, 5, "secrets list")
			as("", "secrets", "set", "hub").want(t, 2, "has no value")
			as(strings.Repeat("x", 64<<10+1), "secrets", "set", "hub").want(t, 2, "65536")
			as(strings.Repeat("x", 64<<10)+"\n", "secrets", "set", "large").want(t, 0)
			as("x", "secrets", "set", "1st").want(t, 2, "begins with a letter")
			as("x", "secrets", "set", "hub", "SENTINEL-argv-77c0").want(t, 2, "does not stand on the command line")
			as("x", "secrets", "set", "hub=SENTINEL-argv-77c0").want(t, 2, "does not stand on the command line")
			as("", "secrets", "delete", "large").want(t, 0, "deleted")
			as("", "secrets", "delete", "large").want(t, 3, "secrets list")
			as("", "secrets", "keys", "--jq", ".items[0].secrets").want(t, 0, "3")
			said.WriteString(stop().want(t, 0).stderr)

			// Without the key, or with another, it does not start, and says which it needs.
			missing := regexp.MustCompile(`3 secrets are sealed with the encryption key ([0-9a-f]{16})`)
			id := ""
			for _, keys := range []string{"", young} {
				r := pawlWith(t, env(keys), "", "serve", "--listen", "127.0.0.1:0", "--store", store, "--workflows", "none", "--admin-key-file", "admin.key").want(t, 2, "--forget-lost-secrets")
				if m := missing.FindStringSubmatch(r.stderr); m == nil || id != "" && m[1] != id {
					t.Fatalf("it does not name the key: %s", r.stderr)
				} else {
					id = m[1]
				}
			}
			pawlWith(t, env(""), "", "serve", "--listen", "127.0.0.1:0", "--store", store, "--workflows", "none", "--admin-key-file", "admin.key", "--forget-lost-secrets").want(t, 2, "all secrets would be deleted")
			// The key is changed: the new one is known first, then it seals, then the old one goes.
			if err := os.WriteFile("keys", []byte(old+"\n"+young+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			url, stop = serving(t, env(""), "--store", store, "--workflows", "none", "--encryption-keys-file", "keys")
			as("", "secrets", "rotate").want(t, 0, "0 sealed anew", id)
			said.WriteString(stop().want(t, 0).stderr)
			url, stop = serving(t, env(young+","+old), "--store", store, "--workflows", "none")
			as("", "secrets", "rotate").want(t, 0, "3 sealed anew", "no secret is sealed with "+id+" any more")
			as("", "secrets", "rotate", "--jq", ".rewrapped").want(t, 0, "0")
			said.WriteString(stop().want(t, 0).stderr)
			url, stop = serving(t, env(young), "--store", store, "--workflows", "none")
			as("", "secrets", "list").want(t, 0, "hub", "stripe")
			said.WriteString(stop().want(t, 0).stderr)
			// A key that is lost.
			url, stop = serving(t, env(old), "--store", store, "--workflows", "none", "--forget-lost-secrets")
			as("", "secrets", "list").want(t, 0, "no secrets")
			said.WriteString(stop().want(t, 0, "deleted 3 values").stderr)

			files, err := filepath.Glob("*")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(data), "SENTINEL") {
					t.Errorf("a value is in %s", file)
				}
			}
			if strings.Contains(said.String(), "SENTINEL") || strings.Contains(said.String(), old) || strings.Contains(said.String(), young) {
				t.Errorf("a value or a key was said: %s", &said)
			}
		})
	}
}

func TestEncryptionKeysOfSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	key := secret.NewKey()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("open.keys", key, 0o644)
	write("closed.keys", key, 0o600)
	write("bad.keys", "not-a-key", 0o600)
	write("in.yaml", "encryptionKeys: "+key+"\n", 0o600)
	write("by.yaml", "encryptionKeysFile: closed.keys\n", 0o644)
	for _, c := range []struct {
		env  environment
		args string
		text string
	}{
		{environment{"PAWL_ENCRYPTION_KEYS": "short"}, "", "PAWL_ENCRYPTION_KEYS: encryption key 1 of 1 is not the base64 of 32 bytes"},
		{environment{"PAWL_ENCRYPTION_KEYS": key + "," + key}, "", "is there twice"},
		{environment{}, "--encryption-keys-file open.keys", "chmod 600"},
		{environment{}, "--encryption-keys-file bad.keys", "openssl rand -base64 32"},
		{environment{}, "--encryption-keys-file no.keys", "no such file"},
		{environment{}, "--config in.yaml", "does not belong into this file"},
	} {
		r := pawlWith(t, c.env, "", append([]string{"serve", "--listen", "127.0.0.1:0"}, strings.Fields(c.args)...)...).want(t, 2, c.text)
		if strings.Contains(r.stdout+r.stderr, key) {
			t.Errorf("a key was said: %s", r.stderr)
		}
	}
	r := pawlWith(t, environment{"PAWL_ENCRYPTION_KEYS_FILE": "open.keys"}, "", "config", "show", "--origin", "--config", "by.yaml").want(t, 0, "•••", "$PAWL_ENCRYPTION_KEYS_FILE", "closed.keys")
	if strings.Contains(r.stdout, key) {
		t.Errorf("a key was said: %s", r.stdout)
	}
	_, stop := serving(t, environment{}, "--config", "by.yaml")
	stop().want(t, 0)
}

func TestDevMakesItsOwnEncryptionKey(t *testing.T) {
	t.Chdir(t.TempDir())
	url, stop := dev(t, environment{})
	const file = "pawl.db.encryption-keys"
	made, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	at := func(stdin string, args ...string) result {
		return pawlWith(t, environment{"PAWL_SERVER": url}, stdin, args...)
	}
	at("hush", "secrets", "set", "hub").want(t, 0)
	stop().want(t, 0)
	url, stop = dev(t, environment{})
	at("", "secrets", "list").want(t, 0, "hub")
	stop().want(t, 0)
	if again, err := os.ReadFile(file); err != nil || string(again) != string(made) {
		t.Errorf("it was made anew: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	pawlWith(t, environment{}, "", "dev", "--listen", "127.0.0.1:0").want(t, 2, "1 secret is sealed with the encryption key", "--forget-lost-secrets")
	url, stop = dev(t, environment{}, "--forget-lost-secrets")
	at("", "secrets", "list").want(t, 0, "no secrets")
	stop().want(t, 0)
	url, stop = dev(t, environment{}, "--store", ":memory:")
	at("hush", "secrets", "set", "hub").want(t, 0)
	stop().want(t, 0)
	if _, err := os.Stat(":memory:.encryption-keys"); err == nil {
		t.Error("a key was kept of a store in memory")
	}
}

// A deployment tells of secrets that are neither set nor among the settings, and how to set them; without a server nothing is known of them.
func TestADeploymentTellsHowToSetASecretThatIsNotThere(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "paid.yaml", `id: paid
triggers:
- {type: webhook, path: /paid, scheme: github, secret: hub}
- {type: webhook, path: /shop, scheme: stripe, secret: shop}
steps:
- id: wait
  type: wait
  config: {for: webhook, scheme: stripe, secret: strpe}
  next: say
- id: say
  type: service
  config: {service: http, url: "https://example.com/", auth: {bearer: "{{secrets.token}}"}}
  next: end
`)
	const hub = "there is no secret \"hub\": until it is set, requests are refused; set it: pawl secrets set hub\n"
	told := []string{"paid.yaml:3:56: warning: " + hub, "paid.yaml:8:50: warning: there is no secret \"strpe\": until it is set, requests are refused; did you mean \"stripe\"? Or set it: pawl secrets set strpe\n",
		"paid.yaml:12:", "warning: there is no secret \"token\": until it is set, calls with it fail; set it: pawl secrets set token\n"}
	if r := pawlWith(t, environment{}, "", "validate", "paid.yaml").want(t, 0); strings.Contains(r.stderr, "there is no secret") {
		t.Errorf("no server was asked: %s", r.stderr)
	}
	settings := environment{"PAWL_ENCRYPTION_KEYS": secret.NewKey(), "PAWL_WEBHOOKS": "{shop: {scheme: stripe, secrets: [whsec_shop_0123456789]}}"}
	url, stop := serving(t, settings, "--store", "pawl.db", "--workflows", "flows", "--model", "scripted/script")
	admin := environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": "pawl.db.admin-key"}
	pawlWith(t, admin, "sk_0123456789", "secrets", "set", "stripe").want(t, 0)
	pawlWith(t, admin, "", "deploy", "paid.yaml", "--dry-run").want(t, 0, told...)
	if r := pawlWith(t, admin, "", "deploy", "paid.yaml").want(t, 0, told...); strings.Contains(r.stderr, `"shop"`) {
		t.Errorf("the settings have it: %s", r.stderr)
	}
	for _, name := range []string{"hub", "strpe", "token"} {
		pawlWith(t, admin, "sk_0123456789", "secrets", "set", name).want(t, 0)
	}
	if r := pawlWith(t, admin, "", "deploy", "paid.yaml").want(t, 0, "unchanged"); strings.Contains(r.stderr, "there is no secret") {
		t.Errorf("all are set: %s", r.stderr)
	}
	stop()

	if err := os.Mkdir("flows", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename("paid.yaml", "flows/paid.yaml"); err != nil {
		t.Fatal(err)
	}
	_, end := dev(t, environment{"PAWL_WEBHOOKS": settings["PAWL_WEBHOOKS"]}, "--store", "dev.db")
	if r := end(); !strings.Contains(r.stdout+r.stderr, "flows/paid.yaml:3:56: "+hub) {
		t.Errorf("dev does not tell: %s%s", r.stdout, r.stderr)
	}
}
