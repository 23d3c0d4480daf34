package dbchange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rows are of any size, and whoever writes them may mean no good. What is larger than a run can take is not read: its row is refused, with
// what it can be found by.

const (
	mostBytes    = 16 << 20 // of rows that are read at once
	mostRow      = 8 << 20  // of a row, as JSON
	mostKey      = 64 << 10 // of what tells a row apart, as JSON
	mostPosition = 200      // of a cursor, as text
	surelyFits   = 64 << 10 // of a row as it is stored: however well it was packed, its JSON can be made
)

// errLarge is why a row is refused that was not read.
var errLarge = fmt.Errorf("it has more than %d MiB as JSON, or its key more than %d KiB: let the query select less of it", mostRow>>20, mostKey>>10)

// bounded is an expression that gives an expression's text if that has at most so many bytes, and else NULL. stored gives the bytes
// of what the text is made of: where these are too many it is not made at all, as no database makes any text.
func bounded(text, stored string, most int) string {
	return fmt.Sprintf("CASE WHEN (%[1]s) > %[2]d THEN NULL WHEN (%[1]s) <= %[3]d THEN %[4]s WHEN octet_length(%[4]s) <= %[2]d THEN %[4]s END", stored, most, min(surelyFits, most/8), text)
}

// postgresBytes gives how many bytes columns have: of text and bytes all, of others as they are packed.
func postgresBytes(names, types []string) string {
	parts := []string{"0"}
	for i, name := range names {
		size := "pg_column_size"
		if slices.Contains([]string{"TEXT", "VARCHAR", "BPCHAR", "BYTEA"}, types[i]) {
			size = "octet_length"
		}
		parts = append(parts, "coalesce("+size+"(pawl_q."+quoted(name)+"), 0)::bigint")
	}
	return strings.Join(parts, " + ")
}

// liteBytes gives how many bytes columns have. SQLite reads none of them for that.
func liteBytes(names []string) string {
	parts := []string{"0"}
	for _, name := range names {
		parts = append(parts, "coalesce(octet_length(pawl_q."+quoted(name)+"), 0)")
	}
	return strings.Join(parts, " + ")
}

// liteCanonical are expressions that give the kind and the text of a column's value, and whether it is one that has a position.
func liteCanonical(column string) (at, placed string) {
	most := strconv.Itoa(mostPosition)
	fits := "octet_length(" + column + ") <= " + most
	at = "CASE WHEN " + fits + " THEN typeof(" + column + ") ELSE 'longer than " + most + " bytes' END, CASE WHEN " + fits + " THEN CAST(" + column + " AS TEXT) ELSE '' END"
	return at, "typeof(" + column + ") IN ('integer', 'text') AND " + fits
}
