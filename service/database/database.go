// Package database is the service by which flows ask SQL databases: PostgreSQL, MySQL and MariaDB, and files of SQLite.
// It is a room of its own, so that who asks none does not link drivers.
//
// A flow names a connection and never an address. The text of a statement takes no templates; values are bound, and
// travel apart from it. Reading happens in a transaction or on a file that the database itself keeps from writing.
package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl/service"
)

// Connection is a database that flows may name.
type Connection struct {
	// DSN is its address: postgres://user:password@host/name?sslmode=verify-full, mysql://user:password@host/name?tls=true,
	// or sqlite:path of a file that exists. mysql takes tls (true, skip-verify, preferred, which is the default, or false) and socket, a path.
	DSN string
	// Execute allows the action execute. Give flows that only read a role that can only read all the same.
	Execute bool
	// Once has execute write the step's key into the table pawl_calls of that database, in the same transaction, so
	// that a repeated attempt does nothing and gives the first one's result. The table must be there; see [CallsTable].
	Once bool
	// MaxOpen bounds the connections open at a time; 0: 4.
	MaxOpen int
}

// CallsTable makes the table that [Connection].Once needs. Rows are needed as long as a step may be repeated: delete
// those of some weeks ago by the column at, which holds seconds since 1970.
const CallsTable = `CREATE TABLE pawl_calls (id VARCHAR(64) NOT NULL PRIMARY KEY, at BIGINT NOT NULL, result TEXT)`

// CallsTableMySQL is CallsTable for MySQL and MariaDB, where TEXT ends at 64 KiB.
const CallsTableMySQL = `CREATE TABLE pawl_calls (id VARCHAR(64) NOT NULL PRIMARY KEY, at BIGINT NOT NULL, result LONGTEXT) ENGINE=InnoDB`

// Options says which databases there are. A call may ask for less than the limits, and for more up to their ends.
type Options struct {
	Connections map[string]Connection // by name: a letter, then letters, digits, "-" and "_"
	Timeout     time.Duration         // of a call that sets no timeoutMs; 0: 30 s. At most 10 minutes
	MaxRows     int                   // of a call that sets no maxRows; 0: 1,000. At most 100,000
	MaxBytes    int                   // of a result as JSON, if a call sets no maxBytes; 0: 1 MiB. At most 16 MiB
}

const (
	longest    = 10 * time.Minute
	mostRows   = 100_000
	mostBytes  = 16 << 20
	maxText    = 1 << 20 // bytes of a statement, and of one value
	maxValues  = 1000
	maxBound   = 16 << 20 // bytes of all values
	maxIdle    = 5 * time.Minute
	maxLife    = time.Hour
	defaultMax = 4
)

// Service asks databases. Close it when no call goes on.
type Service struct {
	opt   Options
	named map[string]*database
}

var connectionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// New reads the addresses. It connects to nothing: a database is connected to by the first call that names it.
func New(opt Options) (*Service, error) {
	if len(opt.Connections) == 0 {
		return nil, errors.New("database: there are no Connections")
	}
	opt.Timeout, opt.MaxRows, opt.MaxBytes = orElse(opt.Timeout, 30*time.Second), orElse(opt.MaxRows, 1000), orElse(opt.MaxBytes, 1<<20)
	if opt.Timeout < time.Millisecond || opt.Timeout > longest || opt.MaxRows < 0 || opt.MaxRows > mostRows || opt.MaxBytes < 0 || opt.MaxBytes > mostBytes {
		return nil, fmt.Errorf("database: a limit can't be: Timeout up to %v, MaxRows up to %d, MaxBytes up to %d", longest, mostRows, mostBytes)
	}
	s := &Service{opt: opt, named: map[string]*database{}}
	for _, name := range slices.Sorted(maps.Keys(opt.Connections)) {
		c := opt.Connections[name]
		if !connectionName.MatchString(name) {
			return nil, errors.Join(fmt.Errorf("database: the connection name %q is no letter, then letters, digits, - and _", name), s.Close())
		}
		if c.Once && !c.Execute || c.MaxOpen < 0 {
			return nil, errors.Join(fmt.Errorf("database: connection %s: Once needs Execute, and MaxOpen is not negative", name), s.Close())
		}
		d, err := open(name, c)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("database: connection %s: %w", name, err), s.Close())
		}
		s.named[name] = d
	}
	return s, nil
}

// Close closes all connections. Calls that go on fail.
func (s *Service) Close() error {
	var errs []error
	for _, d := range s.named {
		errs = append(errs, d.reading.Close())
		if d.writing != d.reading {
			errs = append(errs, d.writing.Close())
		}
	}
	return errors.Join(errs...)
}

// Actions are query and, if a connection allows it, execute. Its effect is Once only if all those connections say Once.
func (s *Service) Actions() []service.Action {
	query := service.Action{Name: "query", Effect: service.Reads, Params: s.schema(false), Result: resultSchema,
		Doc: "Asks a database with one statement that reads. The database itself refuses one that writes."}
	once, writes := true, false
	for _, d := range s.named {
		if d.Execute {
			writes, once = true, once && d.Once
		}
	}
	if !writes {
		return []service.Action{query}
	}
	query.Effect, query.Doc = service.Writes, "Asks a database with one statement that reads. One that writes is carried out as by execute where the connection allows that."
	execute := service.Action{Name: "execute", Effect: service.Writes, Params: s.schema(true), Result: resultSchema,
		Doc: "Carries out one INSERT, UPDATE, DELETE, MERGE or REPLACE in a transaction of its own."}
	if once {
		query.Effect, execute.Effect = service.Once, service.Once
	}
	return []service.Action{query, execute}
}

var resultSchema = json.RawMessage(`{"type":"object","required":["rows","columns","rowCount"],"properties":{
"rows":{"description":"Each an object by column","type":"array","x-pawl-most":"maxRows","items":{"type":"object"}},
"columns":{"type":"array","items":{"type":"string"}},
"rowCount":{"description":"The rows that were read, or written","type":"integer"}}}`)

// schema is that of an action's parameters. It knows the connections' names, so that deploying checks them.
func (s *Service) schema(execute bool) json.RawMessage {
	names := s.names(execute)
	list, err := json.Marshal(names)
	if err != nil {
		panic(err) // texts always are JSON
	}
	required := `["connection","query"]`
	if len(names) == 1 {
		required = `["query"]`
	}
	return json.RawMessage(fmt.Sprintf(`{"type":"object","required":%s,"additionalProperties":false,"properties":{
"connection":{"description":"The name of a database; may be left out if there is one only","enum":%s,"x-pawl-fill":"none","x-pawl-trusted":true},
"query":{"description":"One SQL statement, with $1 (PostgreSQL) or ? for values","type":"string","minLength":1,"maxLength":%d,"x-pawl-fill":"none"},
"values":{"description":"What is bound to $1 or ?, in their order. Objects and lists are bound as JSON","type":"array","maxItems":%d},
"timeoutMs":{"type":"integer","minimum":1,"maximum":%d},
"maxRows":{"type":"integer","minimum":1,"maximum":%d},
"maxBytes":{"type":"integer","minimum":1,"maximum":%d}}}`, required, list, maxText, maxValues, longest.Milliseconds(), mostRows, mostBytes))
}

func (s *Service) names(execute bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.named)) {
		if !execute || s.named[name].Execute {
			names = append(names, name)
		}
	}
	return names
}

// Call carries out one statement. It returns a [Result].
func (s *Service) Call(ctx context.Context, c service.Call) (any, error) {
	if c.Action != "" && c.Action != "query" && c.Action != "execute" {
		return nil, fault(service.Invalid, "there is no action %q; there are query and execute", c.Action)
	}
	p, err := s.readParams(c.Params, c.Action == "execute")
	if err != nil {
		return nil, err
	}
	d := p.database
	if p.execute && d.Once && c.Key == "" {
		return nil, fault(service.Invalid, "execute on %s needs a key, since the connection says Once", d.name)
	}
	if c.DryRun {
		return service.Plan{Would: fmt.Sprintf("%s %s: %s", p.action(), d.name, p.Query), Request: map[string]any{"query": p.Query, "values": p.Values}}, nil
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	floods := d.floods.Load()
	var out *Result
	if p.execute {
		out, err = d.execute(limited, p, c.Key)
	} else {
		out, err = d.query(limited, p)
	}
	if err != nil && d.floods.Load() > floods {
		err = errors.Join(errFlood, err) // the driver of MySQL only says that its connection is gone
	}
	if err != nil {
		return nil, d.failed(limited, p, err)
	}
	return out, nil
}

// Endpoint is the connection that a call names; "" if it names none, or one that is not there. See [service.Located].
func (s *Service) Endpoint(c service.Call) string {
	var p struct {
		Connection string `json:"connection"`
	}
	if json.Unmarshal(c.Params, &p) != nil || s.named[p.Connection] == nil {
		return ""
	}
	return p.Connection
}

// Result is what a call returns.
type Result struct {
	// Rows are objects by column. Numbers keep all their digits, also those of numeric and decimal. Points in time are
	// RFC 3339, those without a zone are told in UTC; dates are 2006-01-02; bytes are base64; JSON is what it says; other types are as
	// the database writes them.
	Rows     []json.RawMessage `json:"rows"`
	Columns  []string          `json:"columns"`
	RowCount int64             `json:"rowCount"` // rows read, or rows that were written
}

// database is a named connection. Of PostgreSQL and MySQL both pools are the same.
type database struct {
	Connection
	name             string
	dialect          dialect
	reading, writing *sql.DB
	redact           *service.Redactor
	floods           atomic.Int64 // connections that were ended since too much came over them
}

// dialect is what differs between databases.
type dialect int

const (
	postgres dialect = iota
	mysql
	sqlite
)

func orElse[T int | time.Duration](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

func fault(code, format string, args ...any) error {
	return &service.Error{Code: code, Message: "database: " + fmt.Sprintf(format, args...)}
}
