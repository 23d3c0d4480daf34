package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver named sqlite

	"github.com/pawlrun/pawl/service"
)

const connectTimeout = 15 * time.Second

// open reads an address and makes the pools. Its errors never hold the address.
func open(name string, c Connection) (*database, error) {
	d := &database{Connection: c, name: name}
	scheme, rest, found := strings.Cut(c.DSN, ":")
	secrets := []string{c.DSN}
	var err error
	switch {
	case found && (scheme == "postgres" || scheme == "postgresql"):
		d.dialect = postgres
		var config *pgx.ConnConfig
		if config, err = pgx.ParseConfig(c.DSN); err != nil {
			return nil, errors.New("the DSN is no address of PostgreSQL, such as postgres://user:password@host/name")
		}
		secrets = append(secrets, config.Password)
		d.reading = openPostgres(config)
		d.writing = d.reading
	case found && scheme == "mysql":
		d.dialect = mysql
		var config *mysqldriver.Config
		if config, err = d.mysqlConfig(c.DSN); err != nil {
			return nil, err
		}
		secrets = append(secrets, config.Passwd)
		connector, err := mysqldriver.NewConnector(config)
		if err != nil {
			return nil, errors.New("the DSN can't be used by the driver of MySQL")
		}
		d.reading = sql.OpenDB(connector)
		d.writing = d.reading
	case found && scheme == "sqlite":
		d.dialect = sqlite
		if d.reading, d.writing, err = openSQLite(rest); err != nil {
			return nil, err
		}
		secrets = nil // a path is none
	default:
		return nil, errors.New("the DSN begins with none of postgres://, mysql:// and sqlite:")
	}
	for _, db := range []*sql.DB{d.reading, d.writing} {
		db.SetMaxOpenConns(orElse(c.MaxOpen, defaultMax))
		db.SetConnMaxIdleTime(maxIdle)
		db.SetConnMaxLifetime(maxLife)
	}
	d.redact = service.NewRedactor(secrets...)
	return d, nil
}

// openPostgres speaks the extended protocol, in which a statement is one and values are apart from it. What a
// statement leaves in its session, as locks and settings, is gone before the next one.
func openPostgres(config *pgx.ConnConfig) *sql.DB {
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	config.MaxProtocolMessageBodyLen = 2 * mostBytes
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "pawl"
	}
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["client_encoding"] = "UTF8"
	return stdlib.OpenDB(*config, stdlib.OptionResetSession(func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, "DISCARD ALL"); err != nil {
			return errors.Join(driver.ErrBadConn, err) // of any other error database/sql takes no notice
		}
		return nil
	}))
}

func (d *database) mysqlConfig(dsn string) (*mysqldriver.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.User == nil || strings.Trim(u.Path, "/") == "" || u.Opaque != "" {
		return nil, errors.New("the DSN is no address of MySQL, such as mysql://user:password@host/name; signs in a password are escaped as in addresses")
	}
	config := mysqldriver.NewConfig()
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = strings.TrimPrefix(u.Path, "/")
	config.Net, config.Addr = "tcp", u.Host
	config.TLSConfig = "preferred"
	for name, values := range u.Query() {
		switch v := values[0]; name {
		case "tls":
			config.TLSConfig = v
		case "socket":
			config.Net, config.Addr, config.TLSConfig = "unix", v, "false"
		default:
			return nil, fmt.Errorf("the DSN of MySQL holds the setting %q; it takes tls and socket", name)
		}
	}
	switch config.TLSConfig {
	case "true", "false", "skip-verify", "preferred":
	default:
		return nil, fmt.Errorf("tls in the DSN is %q, want true, skip-verify, preferred or false", config.TLSConfig)
	}
	if config.Net == "tcp" {
		if u.Hostname() == "" {
			return nil, errors.New("the DSN of MySQL names no host")
		}
		port := u.Port()
		if port == "" {
			port = "3306"
		}
		config.Addr = net.JoinHostPort(u.Hostname(), port)
	}
	config.Timeout = connectTimeout
	config.Logger = quiet{}
	config.ClientFoundRows = true // an UPDATE counts the rows that it finds, as elsewhere
	config.ConnectionAttributes = "program_name:pawl"
	config.Params = map[string]string{"time_zone": "'+00:00'"}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &metered{Conn: conn, of: d}, nil
	}
	return config, nil
}

// quiet drops what the driver logs beside the errors that it returns.
type quiet struct{}

func (quiet) Print(...any) {}

// metered ends a connection over which one request is answered with more than any result may have: a driver holds a whole row in memory.
type metered struct {
	net.Conn
	of  *database
	got int
}

func (m *metered) Write(p []byte) (int, error) {
	m.got = 0
	return m.Conn.Write(p)
}

func (m *metered) Read(p []byte) (int, error) {
	if m.got > maxAnswer {
		m.of.floods.Add(1)
		return 0, errFlood
	}
	n, err := m.Conn.Read(p)
	m.got += n
	return n, err
}

const maxAnswer = 4 * mostBytes

var errFlood = fmt.Errorf("the answer has over %d bytes", maxAnswer)

// openSQLite opens a file twice: for reading in a way in which SQLite can't write, whatever a statement says.
func openSQLite(path string) (reading, writing *sql.DB, err error) {
	_, gone := os.Stat(path)
	if path == "" || strings.ContainsAny(path, "?#") && gone != nil || strings.Contains(path, "\x00") || strings.HasPrefix(path, ":memory:") {
		return nil, nil, errors.New("the DSN names no file, such as sqlite:/var/lib/orders.db; it takes no settings")
	}
	if path, err = filepath.Abs(strings.TrimPrefix(path, "//")); err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no file", path)
	}
	address := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	const both = "&_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)&_pragma=foreign_keys(1)"
	if reading, err = sql.Open("sqlite", address+"?mode=ro&_pragma=query_only(1)"+both); err != nil {
		return nil, nil, err
	}
	if writing, err = sql.Open("sqlite", address+"?mode=rw&_txlock=immediate"+both); err != nil {
		return nil, nil, errors.Join(err, reading.Close())
	}
	return reading, writing, nil
}
