package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
)

// encryptionKeys are those of the settings; nil: none are given.
func (a *app) encryptionKeys(s settings) (*secret.Keyring, error) {
	text := s.EncryptionKeys
	if text == "" && s.EncryptionFile == "" {
		return nil, nil
	}
	if text == "" {
		data, err := os.ReadFile(s.EncryptionFile)
		if err != nil {
			return nil, a.usage("the encryption keys: %w", err)
		}
		if err := a.closedToOthers(s.EncryptionFile); err != nil {
			return nil, err
		}
		text = string(data)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, a.usage("%w", err)
	}
	return keys, nil
}

// parseKeys reads keys; its error is worded for a person, who knows whose it is.
func parseKeys(text string) (*secret.Keyring, error) {
	keys, err := secret.ParseKeys(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), pawl.ErrInput.Error()+": "))
	}
	return keys, nil
}

// devEncryptionKeys are those of the settings, or one that is made at the first start, beside the store; for a database, in this
// directory; for a store in memory it is kept nowhere.
func (a *app) devEncryptionKeys(s settings) (*secret.Keyring, error) {
	if s.EncryptionKeys != "" || s.EncryptionFile != "" {
		return a.encryptionKeys(s)
	}
	s.EncryptionFile = s.Store + ".encryption-keys"
	switch {
	case s.Store == sqlite.Memory:
		s.EncryptionKeys = secret.NewKey()
		return a.encryptionKeys(s)
	case strings.Contains(s.Store, "://"):
		s.EncryptionFile = "pawl.encryption-keys"
	}
	err := createPrivate(s.EncryptionFile, []byte(secret.NewKey()+"\n"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, a.usage("the encryption key: %w", err)
	}
	return a.encryptionKeys(s)
}

// keepSecrets opens the secrets of a store, if all can be opened; with forget it deletes those that can't.
func (a *app) keepSecrets(ctx context.Context, engine *pawl.Engine, keys *secret.Keyring, forget bool) (*secret.Store, error) {
	kept := &secret.Store{Engine: engine, Keys: keys}
	if forget {
		n, err := kept.Forget(ctx)
		if errors.Is(err, pawl.ErrState) {
			return nil, a.usage("%s", strings.TrimPrefix(err.Error(), pawl.ErrState.Error()+": "))
		}
		if err != nil {
			return nil, fmt.Errorf("forget the secrets whose key is lost: %w", err)
		}
		a.note("deleted %d values of secrets whose key is lost; set them again", n)
	}
	err := kept.Check(ctx)
	if lost, ok := errors.AsType[*secret.LostKeysError](err); ok {
		return nil, &exitError{exitUsage, lost, []string{"if a key is lost for good, --forget-lost-secrets deletes what is sealed with it"}}
	}
	return kept, err
}
