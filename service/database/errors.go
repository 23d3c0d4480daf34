package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	sqlitedriver "modernc.org/sqlite"

	"github.com/pawlrun/pawl/service"
)

// failed makes a known error of what a driver says. Drivers' own errors hold addresses, so none is a cause of it.
func (d *database) failed(ctx context.Context, p *params, err error) error {
	var known *service.Error
	if errors.As(err, &known) {
		return known
	}
	code, said := d.sort(err)
	var calls *callsError
	if errors.As(err, &calls) && (&service.Error{Code: code}).Fatal() {
		ddl := CallsTable
		if d.dialect == mysql {
			ddl = CallsTableMySQL
		}
		return d.told(ctx, code, "%s: the table pawl_calls, which Once needs, can't be used: %s; make it with %s", d.name, said, ddl)
	}
	var commit *commitError
	switch {
	case code == service.Forbidden && !p.execute:
		return p.wrong("the statement", said)
	case errors.As(err, &commit) && (ctx.Err() != nil || unsure(err)):
		return d.told(ctx, service.TimedOut, "%s: the connection was cut while it committed: it may have been carried out", d.name)
	case ctx.Err() != nil || code == service.TimedOut:
		return d.told(ctx, service.TimedOut, "%s: no answer within %v; nothing was changed", d.name, p.timeout)
	case code == "":
		code = service.Unavailable
	}
	return d.told(ctx, code, "%s: %s", d.name, said)
}

func (d *database) told(ctx context.Context, code, format string, args ...any) error {
	return &service.Error{Code: code, Message: "database: " + d.redact.Text(fmt.Sprintf(format, args...)), Err: context.Cause(ctx)}
}

// unsure reports whether an error of a commit leaves open what became of the transaction: it is no answer, or that of a
// server that goes away.
func unsure(err error) bool {
	var pg *pgconn.PgError
	var my *mysqldriver.MySQLError
	var lite *sqlitedriver.Error
	switch {
	case errors.As(err, &pg):
		class := pg.Code[:min(2, len(pg.Code))]
		return class == "08" || class == "57" || class == "58"
	case errors.As(err, &my):
		return my.Number == 1053
	case errors.As(err, &lite):
		return lite.Code()&0xff == 10
	}
	return true
}

// sort finds the code of what a database says, and its words. The code of what is no answer of a database is "".
func (d *database) sort(err error) (code, said string) {
	var pg *pgconn.PgError
	var my *mysqldriver.MySQLError
	var lite *sqlitedriver.Error
	var long *pgproto3.ExceededMaxBodyLenErr
	switch {
	case errors.As(err, &long), errors.Is(err, errFlood):
		return service.TooLarge, "a row is larger than any result may be"
	case errors.As(err, &pg):
		said = fmt.Sprintf("%s (%s)", pg.Message, pg.Code)
		if pg.Hint != "" {
			said += "; " + pg.Hint
		}
		return postgresCode(pg.Code), short(said)
	case errors.As(err, &my):
		return mysqlCode(my.Number), short(fmt.Sprintf("%s (%d)", my.Message, my.Number))
	case errors.As(err, &lite):
		return sqliteCode(lite.Code()), short(lite.Error())
	}
	if text := err.Error(); strings.HasPrefix(text, "sql: expected ") || strings.Contains(text, "failed to encode args") || strings.HasPrefix(text, "expected ") ||
		strings.Contains(text, "missing argument") || strings.Contains(text, "not enough args") {
		return service.Invalid, short(text) // values that don't fit the places
	}
	return "", "the connection failed: " + short(err.Error())
}

func postgresCode(code string) string {
	switch {
	case code == "25006":
		return service.Forbidden
	case code == "57014":
		return service.TimedOut
	case code == "42501" || strings.HasPrefix(code, "28"):
		return service.Denied
	case code == "3D000":
		return service.NotFound
	case code == "40001", code == "40P01", code == "55P03", code == "25P03", strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57"), strings.HasPrefix(code, "58"):
		return service.Unavailable
	}
	return service.Invalid
}

func mysqlCode(n uint16) string {
	switch {
	case n == 1792:
		return service.Forbidden
	case n == 1969 || n == 3024 || n == 1317 || n == 1028:
		return service.TimedOut
	case slices.Contains([]uint16{1044, 1045, 1142, 1143, 1227, 1370, 1698}, n):
		return service.Denied
	case n == 1049:
		return service.NotFound
	case slices.Contains([]uint16{1020, 1021, 1037, 1038, 1040, 1041, 1053, 1129, 1203, 1205, 1213, 1226, 1290, 1836}, n):
		return service.Unavailable
	}
	return service.Invalid
}

func sqliteCode(n int) string {
	switch n & 0xff {
	case 5, 6, 10, 13, 15: // busy, locked, disk, full, a race of locks
		return service.Unavailable
	case 8:
		return service.Forbidden
	case 9:
		return service.TimedOut
	case 3, 23:
		return service.Denied
	case 14:
		return service.NotFound
	case 18:
		return service.TooLarge
	case 11, 26:
		return service.BadAnswer
	}
	return service.Invalid
}

// short is a database's text on one line, bounded.
func short(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
