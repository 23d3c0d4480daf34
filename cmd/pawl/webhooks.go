package main

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

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

// UnmarshalText reads them from a variable of the environment.
func (w *webhookSecrets) UnmarshalText(text []byte) error {
	return readByName(text, (*map[string]webhookSecret)(w), "webhooks are written as {NAME: {scheme: github, secretFiles: [FILE]}}, or with secrets: [SECRET], header, prefix and idHeader")
}

// UnmarshalYAML reads them from the file of settings.
func (w *webhookSecrets) UnmarshalYAML(n *yaml.Node) error { return readNode(n, w) }

// String names the senders and no secret.
func (w webhookSecrets) String() string {
	return showByName(w, func(one webhookSecret) string { return string(one.Scheme) })
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

// schemes are the schemes of all, by their names.
func (w webhookSecrets) schemes() map[string]string {
	all := map[string]string{}
	for name, s := range w {
		all[name] = string(s.Scheme)
	}
	return all
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
	return trigger.VerifyFunc(verifiers), nil
}
