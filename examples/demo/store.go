package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
)

// Open opens a store: a file, or a database by a postgres:// URL, which several processes
// may share.
func Open(ctx context.Context, where string) (pawl.Store, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return postgres.Open(ctx, where, nil)
	}
	return sqlite.Open(where, nil)
}

// Secret is what tokens of hooks are derived of, so that no journal holds one: PAWL_SECRET, or what is
// in a file beside the store, STORE.secret, which only its owner can read and the first start makes.
// For a database there is no such place that all its processes share: without PAWL_SECRET there is
// none, and tokens are random and kept in the journal.
func Secret(store string, env func(name string) string) ([]byte, error) {
	if secret := env("PAWL_SECRET"); secret != "" || strings.Contains(store, "://") {
		return []byte(secret), nil
	}
	name := store + ".secret"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		secret, err := os.ReadFile(name)
		if secret = bytes.TrimSpace(secret); err == nil && len(secret) < 32 {
			err = fmt.Errorf("the secret in %s has %d characters, at least 32 are needed: give PAWL_SECRET, or remove the file and have another made, which ends the addresses given out", name, len(secret))
		}
		return secret, err
	}
	if err != nil {
		return nil, fmt.Errorf("the secret beside the store: %w", err)
	}
	secret := rand.Text() + rand.Text()
	_, err = f.WriteString(secret + "\n")
	return []byte(secret), errors.Join(err, f.Sync(), f.Close())
}
