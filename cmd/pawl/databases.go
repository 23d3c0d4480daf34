package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/pawlrun/pawl/trigger/dbchange"
	"github.com/pawlrun/pawl/trigger/dbchange/pglisten"
	"go.yaml.in/yaml/v3"
)

// databaseSetting is where one database is that flows and triggers name. In the file it is an address, or an object.
type databaseSetting struct {
	DSN     string `yaml:"dsn"`     // postgres://user:password@host/name, or sqlite:path of a file that exists
	DSNFile string `yaml:"dsnFile"` // a file that has it
	Execute bool   `yaml:"execute"` // lets flows write
	Once    bool   `yaml:"once"`    // has a repeated attempt write nothing; see database.Connection
}

// UnmarshalYAML takes an address in place of the object.
func (d *databaseSetting) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&d.DSN)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; !slices.Contains([]string{"dsn", "dsnFile", "execute", "once"}, key) {
			return fmt.Errorf("there is no %q in a database", key)
		}
	}
	type plain databaseSetting
	return n.Decode((*plain)(d))
}

// databaseSettings are all of them, by name.
type databaseSettings map[string]databaseSetting

// UnmarshalText reads them from a variable of the environment.
func (d *databaseSettings) UnmarshalText(text []byte) error {
	return readByName(text, (*map[string]databaseSetting)(d), "databases are written as {NAME: {dsnFile: FILE}}, or {NAME: postgres://…}")
}

// UnmarshalYAML reads them from the file of settings.
func (d *databaseSettings) UnmarshalYAML(n *yaml.Node) error { return readNode(n, d) }

// String names the databases and no password.
func (d databaseSettings) String() string {
	return showByName(d, func(one databaseSetting) string { return cmp.Or(one.DSNFile, shownURL(one.DSN)) })
}

// inline reports whether an address itself is given that may hold a password, and not only its file.
func (d databaseSettings) inline() bool {
	for _, one := range d {
		if strings.Contains(one.DSN, "://") {
			return true
		}
	}
	return false
}

var databaseName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)

// read returns the addresses, and what is wrong with one.
func (d databaseSettings) read() (map[string]string, error) {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		one := d[name]
		if !databaseName.MatchString(name) {
			return nil, fmt.Errorf("databases: the name %.100q must be a letter, then letters, digits, - and _", name)
		}
		if (one.DSN == "") == (one.DSNFile == "") {
			return nil, fmt.Errorf("databases: %s: give one of dsn and dsnFile", name)
		}
		dsn := one.DSN
		if one.DSNFile != "" {
			data, err := os.ReadFile(one.DSNFile)
			if err != nil {
				return nil, fmt.Errorf("databases: %s: %w", name, err)
			}
			dsn = strings.TrimSpace(string(data))
		}
		scheme, _, _ := strings.Cut(dsn, ":")
		if !slices.Contains([]string{"postgres", "postgresql", "mysql", "sqlite"}, scheme) {
			return nil, fmt.Errorf("databases: %s: its address begins with postgres://, mysql:// or sqlite:", name)
		}
		out[name] = dsn
	}
	return out, nil
}

// watchedDatabases opens databases for triggers when they are first asked for, and keeps them open.
type watchedDatabases struct {
	dsns map[string]string

	mu   sync.Mutex
	open map[string]dbchange.Connection
}

// connect is a dbchange.Runner's Connect.
func (w *watchedDatabases) connect(_ context.Context, name string) (dbchange.Connection, error) {
	dsn, ok := w.dsns[name]
	if !ok {
		if len(w.dsns) == 0 {
			return dbchange.Connection{}, fmt.Errorf("%w: database %q: the settings have none; name it there: databases: {%s: {dsnFile: FILE}}", pawl.ErrNotFound, name, name)
		}
		return dbchange.Connection{}, fmt.Errorf("%w: the settings have no database %q; %s", pawl.ErrNotFound, name, spelling.Choice(name, slices.Sorted(maps.Keys(w.dsns))))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.open[name]; ok {
		return c, nil
	}
	driver, d := "pgx", dbchange.Postgres
	switch scheme, rest, _ := strings.Cut(dsn, ":"); scheme {
	case "sqlite":
		// A file that is not there must not be made: it would be watched in vain.
		driver, d = "sqlite", dbchange.SQLite
		dsn = (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: rest}).EscapedPath(), RawQuery: "mode=rw&_pragma=busy_timeout(10000)"}).String()
	case "mysql":
		return dbchange.Connection{}, fmt.Errorf("%w: database %s: changes are watched in PostgreSQL and SQLite, not in MySQL", pawl.ErrInput, name)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return dbchange.Connection{}, fmt.Errorf("database %s: its address can't be read", name) // the error may hold a password
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if w.open == nil {
		w.open = map[string]dbchange.Connection{}
	}
	c := dbchange.Connection{DB: db, Dialect: d}
	if d == dbchange.Postgres {
		c.Listen = pglisten.On(db)
	}
	w.open[name] = c
	return c, nil
}

// close closes those that were opened.
func (w *watchedDatabases) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var failed error
	for _, c := range w.open {
		failed = errors.Join(failed, c.DB.Close())
	}
	return failed
}
