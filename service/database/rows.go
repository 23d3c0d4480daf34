package database

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl/service"
)

// read takes rows up to the limits. Over one of them there is no result: half of one would pass for the whole.
func (d *database) read(got *sql.Rows, p *params) (*Result, error) {
	columns, err := got.Columns()
	if err != nil {
		return nil, err
	}
	types, err := got.ColumnTypes()
	if err != nil {
		return nil, err
	}
	names := make([][]byte, len(columns))
	for i, name := range columns {
		if slices.Contains(columns[:i], name) {
			return nil, fault(service.Invalid, "two columns are named %q: name them apart with AS", name)
		}
		if names[i], err = json.Marshal(name); err != nil {
			return nil, err
		}
	}
	out := &Result{Rows: []json.RawMessage{}, Columns: columns}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	size := 0
	for got.Next() {
		if len(out.Rows) == p.maxRows {
			return nil, fault(service.TooLarge, "the result has over %d rows, the limit (maxRows): ask for less with LIMIT", p.maxRows)
		}
		if err := got.Scan(into...); err != nil {
			return nil, err
		}
		var row bytes.Buffer
		row.WriteByte('{')
		for i, v := range values {
			if i > 0 {
				row.WriteByte(',')
			}
			row.Write(names[i])
			row.WriteByte(':')
			data, err := json.Marshal(told(v, types[i].DatabaseTypeName(), d.dialect))
			if err != nil {
				return nil, fault(service.BadAnswer, "column %s holds what can't be told: %v", columns[i], err)
			}
			row.Write(data)
			if size+row.Len() > p.maxBytes {
				return nil, fault(service.TooLarge, "the result has over %d bytes, the limit (maxBytes): ask for less rows or columns", p.maxBytes)
			}
		}
		row.WriteByte('}')
		size += row.Len()
		out.Rows = append(out.Rows, row.Bytes())
	}
	out.RowCount = int64(len(out.Rows))
	return out, got.Err()
}

// numbers are the types whose text is a number, which JSON takes with all digits.
var numbers = []string{"NUMERIC", "DECIMAL", "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "YEAR"}

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// told is a value as JSON tells it.
func told(v any, kind string, of dialect) any {
	kind = strings.TrimPrefix(strings.TrimPrefix(kind, "UNSIGNED "), "UNSIGNED")
	switch v := v.(type) {
	case time.Time:
		if kind == "DATE" {
			return v.Format(time.DateOnly)
		}
		return v.UTC().Format(time.RFC3339Nano)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64) // JSON has no number for it
		}
		if kind == "FLOAT4" {
			return float32(v) // the digits that it has
		}
		return v
	case []byte:
		if of != mysql || strings.Contains(kind, "BLOB") || strings.Contains(kind, "BINARY") || kind == "BIT" || kind == "GEOMETRY" {
			if of == postgres && (kind == "JSON" || kind == "JSONB") {
				return ofText(string(v), kind, of)
			}
			return base64.StdEncoding.EncodeToString(v)
		}
		return ofText(string(v), kind, of)
	case string:
		return ofText(v, kind, of)
	}
	return v
}

// ofText is a value that the driver gives as text.
func ofText(text, kind string, of dialect) any {
	switch {
	case of == sqlite: // whose columns hold anything, whatever they are called
	case (kind == "JSON" || kind == "JSONB") && json.Valid([]byte(text)):
		return json.RawMessage(text)
	case slices.Contains(numbers, kind) && number.MatchString(text):
		return json.Number(text)
	case of == mysql && (kind == "DATETIME" || kind == "TIMESTAMP"):
		if at, err := time.Parse("2006-01-02 15:04:05.999999", text); err == nil {
			return at.Format(time.RFC3339Nano)
		}
	}
	if !utf8.ValidString(text) {
		return base64.StdEncoding.EncodeToString([]byte(text))
	}
	return text
}
