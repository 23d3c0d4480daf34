package dbchange

import (
	"fmt"
	"strings"
)

// Dialect is what a database speaks.
type Dialect string

// The dialects.
const (
	Postgres Dialect = "postgres" // 13 or newer
	SQLite   Dialect = "sqlite"
)

// quoted is a name as SQL takes it, whatever is in it. Names with NUL are refused before.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal is a text as SQL takes it. It is used where nothing can be bound: in the text of triggers.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// tableName is a table's name, and its schema's if that was given.
type tableName struct{ schema, name string }

// parseTable reads NAME or SCHEMA.NAME. Names are taken as they are written; one with a dot stands in double quotes.
func parseTable(text string) (tableName, error) {
	var parts []string
	rest := text
	for {
		var part string
		if quote, ok := strings.CutPrefix(rest, `"`); ok {
			end := 0
			for end < len(quote) && (quote[end] != '"' || strings.HasPrefix(quote[end:], `""`)) {
				if quote[end] == '"' {
					end++
				}
				end++
			}
			if end >= len(quote) {
				return tableName{}, fmt.Errorf("table %.100q: a quote is not closed", text)
			}
			part, rest = strings.ReplaceAll(quote[:end], `""`, `"`), quote[end+1:]
			if rest != "" && rest[0] != '.' {
				return tableName{}, fmt.Errorf("table %.100q: write NAME or SCHEMA.NAME", text)
			}
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		rest = rest[1:] // a dot
	}
	if len(parts) > 2 || len(text) > maxTable || strings.ContainsRune(text, 0) {
		return tableName{}, fmt.Errorf("table %.100q: write NAME or SCHEMA.NAME, in double quotes where a name has a dot, at most %d bytes", text, maxTable)
	}
	for _, part := range parts {
		if part == "" {
			return tableName{}, fmt.Errorf("table %.100q: a name is empty", text)
		}
	}
	if len(parts) == 1 {
		return tableName{name: parts[0]}, nil
	}
	return tableName{schema: parts[0], name: parts[1]}, nil
}

func (t tableName) quoted() string {
	if t.schema == "" {
		return quoted(t.name)
	}
	return quoted(t.schema) + "." + quoted(t.name)
}

// bind makes of a query one that can stand in parentheses, with its value at $1 or ?1. It refuses what is more than
// one statement, and a query without the value: it would show the same rows for ever.
func bind(query string, d Dialect) (string, error) {
	var out strings.Builder
	values, depth := 0, 0
	for i := 0; i < len(query); {
		rest := query[i:]
		if n := skipped(rest, d); n != 0 {
			if n < 0 {
				return "", fmt.Errorf("the query: what begins at %.20q is not closed", rest)
			}
			out.WriteString(rest[:n])
			i += n
			continue
		}
		c := rest[0]
		digits := 1
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		switch {
		case c == 0:
			return "", fmt.Errorf("the query has a NUL")
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return "", fmt.Errorf("the query closes a parenthesis that it did not open")
			}
		case c == ';':
			if strings.Trim(rest, "; \t\r\n") != "" {
				return "", fmt.Errorf("the query is more than one statement: leave out what is behind the semicolon")
			}
			i = len(query)
			continue
		case c == '$' && digits > 1, c == '?' && d == SQLite:
			if n := rest[1:digits]; n != "1" && n != "" {
				return "", fmt.Errorf("the query has a value %s; there is one, the cursor: $1", rest[:digits])
			}
			values++
			if d == SQLite {
				out.WriteString("?1")
			} else {
				out.WriteString("$1")
			}
			i += digits
			continue
		}
		out.WriteByte(c)
		i++
	}
	if depth != 0 {
		return "", fmt.Errorf("the query leaves a parenthesis open")
	}
	if values == 0 {
		return "", fmt.Errorf("the query does not name the cursor's value: select the rows above it, as in WHERE id > $1")
	}
	return out.String(), nil
}

// skipped is how long the text, name or comment is that stands at the beginning of s; 0: none does; less: it has no end.
func skipped(s string, d Dialect) int {
	until := func(from int, end string) int {
		if i := strings.Index(s[from:], end); i >= 0 {
			return from + i + len(end)
		}
		return -1
	}
	switch {
	case strings.HasPrefix(s, "--"):
		if n := until(2, "\n"); n > 0 {
			return n
		}
		return len(s) // what wraps the query begins a new line
	case strings.HasPrefix(s, "/*"):
		if d == SQLite {
			return until(2, "*/")
		}
		for depth, i := 1, 2; i+1 < len(s); i++ { // PostgreSQL's nest
			switch s[i : i+2] {
			case "/*":
				depth, i = depth+1, i+1
			case "*/":
				if depth, i = depth-1, i+1; depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	case s[0] == '\'', s[0] == '"': // a doubled quote ends it and begins the next
		return until(1, s[:1])
	case d == SQLite && (s[0] == '`' || s[0] == '['):
		return until(1, map[byte]string{'`': "`", '[': "]"}[s[0]])
	case d == Postgres && len(s) > 1 && (s[0] == 'E' || s[0] == 'e') && s[1] == '\'':
		for i := 2; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '\'':
				return i + 1
			}
		}
		return -1
	case isWord(s[0]): // a whole word, so that e'' and $tags$ are not found in its middle
		n := 1
		for n < len(s) && (isWord(s[n]) || s[n] >= '0' && s[n] <= '9' || s[n] == '$') {
			n++
		}
		return n
	case d == Postgres && s[0] == '$': // $tag$ … $tag$
		n := 1
		for n < len(s) && (isWord(s[n]) || n > 1 && s[n] >= '0' && s[n] <= '9') {
			n++
		}
		if n < len(s) && s[n] == '$' {
			return until(n+1, s[:n+1])
		}
	case s[0] >= '0' && s[0] <= '9':
		n := 1
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	return 0
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
