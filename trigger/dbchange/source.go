package dbchange

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Source is a row that says which changes of which database start which workflow. Exactly one of Query and Table is given.
type Source struct {
	ID         string `json:"id"` // letters, digits, ".", "_", "-", ":"; at most 128; one that begins with flow: is an owner's
	Tenant     string `json:"tenant,omitempty"`
	Workflow   string `json:"workflow"`   // its input is a [Change]
	Connection string `json:"connection"` // a name that Runner.Connect knows

	// Query selects the rows above the cursor, which is $1: SELECT * FROM orders WHERE id > $1. On SQLite ? is taken
	// too. It must not limit its rows, and need not order them.
	Query string `json:"query,omitempty"`
	// Cursor is the column of its rows that grows: integer, numeric, timestamp, date or uuid on PostgreSQL, integer or
	// text on SQLite.
	Cursor string `json:"cursor,omitempty"`
	// Key are the columns that tell rows with the same cursor apart. Empty means id, or if there is no such column all.
	Key []string `json:"key,omitempty"`
	// Settle is for how long rows may still come with a lower cursor than one that was seen, beside those of
	// transactions that PostgreSQL knows to be open. 0 means 10 s, less than 0 not at all. At most 1 h.
	Settle time.Duration `json:"settle,omitzero"`
	// Existing has the rows that are there at the beginning start runs too.
	Existing bool `json:"existing,omitempty"`

	// Table is watched by triggers, which [Outbox.Install] makes: NAME or SCHEMA.NAME, in quotes where a name has a dot.
	Table      string      `json:"table,omitempty"`
	Operations []Operation `json:"operations,omitempty"` // of the table; empty means insert

	// Interval is the pause between two looks. 0 means 30 s for a query, 2 s for a table; at least 10 ms.
	Interval time.Duration `json:"interval,omitzero"`
	// Paused leaves the changes where they are. What came meanwhile is started when it goes on.
	Paused     bool              `json:"paused,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // of every run, besides "trigger", the source's id
	Priority   int               `json:"priority,omitempty"`
	BudgetUSD  float64           `json:"budgetUSD,omitempty"` // of every run; 0: none

	// Owner is who alone changes it, see [Replace]. "": everybody may.
	Owner string `json:"owner,omitempty"`

	// Told by Sources, not given to it but for Revision, see Put.
	Revision int64     `json:"revision,omitempty"` // another after each change
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
}

// Operation is what was done to a row.
type Operation string

// The operations that an outbox tells of.
const (
	Insert Operation = "insert"
	Update Operation = "update"
	Delete Operation = "delete"
)

// Change is the input of a run.
type Change struct {
	// Row is the row as an object, of a Delete as it was. Bytes are text: \x and hex digits.
	Row json.RawMessage `json:"changeRecord"`
	Old json.RawMessage `json:"previousRecord,omitempty"` // of an Update: the row before

	Operation Operation `json:"operation,omitempty"` // of a table
	Table     string    `json:"table,omitempty"`
	At        string    `json:"at,omitempty"` // of a table: when it was written, by the database's clock, RFC 3339
}

// Bounds of a source.
const (
	maxQuery        = 64 << 10
	maxTable        = 300
	maxKey          = 16
	settleDefault   = 10 * time.Second
	queryInterval   = 30 * time.Second
	tableInterval   = 2 * time.Second
	leastInterval   = 10 * time.Millisecond
	mostSettle      = time.Hour
	mostInterval    = 24 * time.Hour
	maxConnection   = 128
	maxColumnLength = 128
)

// Check says what is wrong with a source as far as can be told without its database: ErrInput.
func (s *Source) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: database source %.128q: %s", pawl.ErrInput, s.ID, fmt.Sprintf(format, args...))
	}
	if err := trigger.CheckID(s.ID); err != nil {
		return bad("its id %v", err)
	}
	switch {
	case len(s.Tenant) > 128:
		return bad("its tenant's name is %d bytes long, the limit is 128", len(s.Tenant))
	case s.Workflow == "":
		return bad("name the workflow that it starts")
	case s.Connection == "" || len(s.Connection) > maxConnection:
		return bad("name its connection, in 1 to %d bytes", maxConnection)
	case (s.Query == "") == (s.Table == ""):
		return bad("give exactly one of query and table")
	case s.Interval != 0 && (s.Interval < leastInterval || s.Interval > mostInterval):
		return bad("its interval is %v; it must be from %v to %v", s.Interval, leastInterval, mostInterval)
	case s.Settle > mostSettle:
		return bad("settle is %v; it must be at most %v", s.Settle, mostSettle)
	case s.BudgetUSD < 0:
		return bad("budgetUSD must not be negative")
	}
	for name, value := range s.Attributes {
		if name == trigger.TriggerAttribute {
			return bad("attribute %q is set by the source itself", name)
		}
		if len(name) > 256 || len(value) > 256 {
			return bad("attribute %.40q is longer than 256 bytes", name)
		}
	}
	if s.Table != "" {
		if s.Cursor != "" || len(s.Key) > 0 || s.Existing || s.Settle != 0 {
			return bad("cursor, key, settle and existing belong to a query, not to a table")
		}
		if _, err := parseTable(s.Table); err != nil {
			return bad("%v", err)
		}
		if err := checkOperations(s.Operations); err != nil {
			return bad("%v", err)
		}
		return nil
	}
	if len(s.Operations) > 0 {
		return bad("operations belong to a table; a query shows rows, and not what was done to them")
	}
	if s.Cursor == "" || len(s.Cursor) > maxColumnLength || strings.ContainsRune(s.Cursor, 0) {
		return bad("name the column that grows as its cursor, in 1 to %d bytes", maxColumnLength)
	}
	if len(s.Key) > maxKey || slices.ContainsFunc(s.Key, func(k string) bool {
		return k == "" || len(k) > maxColumnLength || strings.ContainsRune(k, 0)
	}) {
		return bad("its key has at most %d columns, named in 1 to %d bytes", maxKey, maxColumnLength)
	}
	if len(s.Query) > maxQuery {
		return bad("its query is %d bytes long, the limit is %d", len(s.Query), maxQuery)
	}
	// Which dialect it is of is not known here: it must be a query of one of them.
	if _, err := bind(s.Query, Postgres); err != nil {
		if _, lite := bind(s.Query, SQLite); lite != nil {
			return bad("%v", err)
		}
	}
	return nil
}

func checkOperations(all []Operation) error {
	for i, op := range all {
		if !slices.Contains([]Operation{Insert, Update, Delete}, op) {
			return fmt.Errorf("operation %q is unknown; there are insert, update and delete", op)
		}
		if slices.Contains(all[:i], op) {
			return fmt.Errorf("operation %s is named twice", op)
		}
	}
	return nil
}

func (s *Source) operations() []Operation {
	if len(s.Operations) == 0 {
		return []Operation{Insert}
	}
	return s.Operations
}

func (s *Source) interval() time.Duration {
	if s.Table != "" {
		return cmp.Or(s.Interval, tableInterval)
	}
	return cmp.Or(s.Interval, queryInterval)
}

func (s *Source) settle() time.Duration { return max(cmp.Or(s.Settle, settleDefault), 0) }

// options are those of the run of one row.
func (s *Source) options(id string) []pawl.StartOption {
	attrs := map[string]any{trigger.TriggerAttribute: s.ID}
	for name, value := range s.Attributes {
		attrs[name] = value
	}
	// The id must stay one and the same: a workflow's own policy could make another of it.
	opts := []pawl.StartOption{pawl.ID(id), pawl.Tenant(s.Tenant), pawl.Attributes(attrs), pawl.OnConflict(pawl.ReturnExisting)}
	if s.Priority != 0 {
		opts = append(opts, pawl.Priority(s.Priority))
	}
	if s.BudgetUSD > 0 {
		opts = append(opts, pawl.BudgetUSD(s.BudgetUSD))
	}
	return opts
}
