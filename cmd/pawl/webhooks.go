package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
	"go.yaml.in/yaml/v3"
)

// webhookSecret is what tells the requests of one sender. Webhooks name it: pawl.Signed("github", "NAME").
type webhookSecret struct {
	Scheme      trigger.Scheme `yaml:"scheme"`
	Secrets     []string       `yaml:"secrets"`     // the old and the new one while it is being changed
	SecretFiles []string       `yaml:"secretFiles"` // each has one
	Header      string         `yaml:"header"`      // of hmac: where the signature is
	Prefix      string         `yaml:"prefix"`      // of hmac: what stands before it
	IDHeader    string         `yaml:"idHeader"`    // where the delivery's id is
}

// webhookSecrets are those of all senders, by name.
type webhookSecrets map[string]webhookSecret

// UnmarshalText reads them from a variable of the environment, as YAML or JSON.
func (w *webhookSecrets) UnmarshalText(text []byte) error {
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	var read map[string]webhookSecret
	if err := d.Decode(&read); err != nil {
		return fmt.Errorf("webhooks are written as {NAME: {scheme: github, secretFiles: [FILE]}}: %w", err)
	}
	*w = read
	return nil
}

// UnmarshalYAML reads them from the file of settings, and refuses names that are none.
func (w *webhookSecrets) UnmarshalYAML(n *yaml.Node) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	return w.UnmarshalText(text)
}

// String names the senders and no secret.
func (w webhookSecrets) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		all = append(all, name+": "+string(w[name].Scheme))
	}
	return strings.Join(all, ", ")
}

// inline reports whether a secret itself is given, and not only its file.
func (w webhookSecrets) inline() bool {
	for _, s := range w {
		if len(s.Secrets) > 0 {
			return true
		}
	}
	return false
}

type verifyFunc = func(scheme, secretName string, header http.Header, body []byte, now time.Time) (string, error)

// verify makes what the API checks signatures with.
func (w webhookSecrets) verify() (verifyFunc, error) {
	verifiers := map[string]*trigger.Verifier{}
	for name, s := range w {
		keys := slices.Clone(s.Secrets)
		for _, file := range s.SecretFiles {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("webhooks: %s: %w", name, err)
			}
			keys = append(keys, strings.TrimSpace(string(data)))
		}
		v, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: s.Scheme, Secrets: keys, Header: s.Header, Prefix: s.Prefix, IDHeader: s.IDHeader})
		if err != nil {
			return nil, fmt.Errorf("webhooks: %s: %w", name, err)
		}
		verifiers[name] = v
	}
	return func(scheme, name string, header http.Header, body []byte, now time.Time) (string, error) {
		v := verifiers[name]
		switch {
		case v == nil:
			return "", fmt.Errorf("%w: the server has no secret of webhooks named %q: give it in its settings, under webhooks", pawl.ErrNotFound, name)
		case string(v.Scheme()) != scheme:
			return "", fmt.Errorf("%w: the secret %q is for signatures of %s, and the webhook wants those of %s", pawl.ErrState, name, v.Scheme(), scheme)
		}
		signed, err := v.Verify(header, body, now)
		if err != nil {
			return "", err
		}
		if signed.HasID {
			return signed.ID, nil
		}
		return idInBody(v.Scheme(), body), nil
	}, nil
}

// idInBody names a delivery of senders that write its id into the body; "": it has none, as a form
// of Slack's. Of others two equal requests are two: a hash of them would swallow the second.
func idInBody(scheme trigger.Scheme, body []byte) string {
	var has struct {
		ID    string `json:"id"`
		Event string `json:"event_id"`
	}
	if json.Unmarshal(body, &has) != nil {
		return ""
	}
	switch scheme {
	case trigger.Stripe:
		return has.ID
	case trigger.Slack:
		return has.Event
	}
	return ""
}
