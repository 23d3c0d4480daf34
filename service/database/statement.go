package database

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pawlrun/pawl/service"
)

// What a statement may begin with. The database refuses writing in a query by itself; the words are for what no
// transaction covers: settings, other files, and the end of the transaction.
var (
	readingWords = []string{"SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN", "DESCRIBE"}
	writingWords = []string{"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "SELECT"}
)

// check holds a statement against the rules and tells whether it gives rows.
func (p *params) check() (givesRows bool, err error) {
	words, places, err := wordsOf(p.Query, p.database.dialect)
	if err != nil {
		return false, fault(service.Invalid, "the statement %s", err)
	}
	if p.database.dialect == sqlite && len(p.Values) > places { // the others count themselves
		return false, fault(service.Invalid, "the statement has %d places, and there are %d values", places, len(p.Values))
	}
	if len(words) == 0 {
		return false, fault(service.Invalid, "the statement is empty")
	}
	first := words[0]
	if writes(first) && p.database.Execute {
		p.execute = true // what the connection allows needs no other name
	}
	switch {
	case !p.execute && !slices.Contains(readingWords, first):
		if slices.Contains(writingWords, first) {
			return false, p.wrong(first, "a query only reads")
		}
		return false, fault(service.Forbidden, "a query can't begin with %s; it begins with one of %s", first, strings.Join(readingWords, ", "))
	case p.execute && !slices.Contains(writingWords, first):
		return false, fault(service.Forbidden, "execute can't begin with %s; it begins with one of %s. Schemas, settings and transactions are no work of a flow", first, strings.Join(writingWords, ", "))
	case p.database.dialect == mysql && outfile.MatchString(p.Query):
		return false, fault(service.Forbidden, "the statement writes a file of the server, or has the word for it: bind a text that has")
	case p.database.dialect == sqlite && first == "EXPLAIN" && !explains(words[1:]):
		return false, fault(service.Forbidden, "EXPLAIN is of a statement that reads or writes rows: SQLite carries out others before it explains them")
	}
	return first == "SELECT" || slices.Contains(words, "RETURNING") || first == "WITH" && !slices.ContainsFunc(words, writes), nil
}

func writes(word string) bool {
	return word == "INSERT" || word == "UPDATE" || word == "DELETE" || word == "MERGE" || word == "REPLACE"
}

// outfile finds what no transaction of MySQL covers, quoted or not: what is quoted there depends on settings of the server.
var outfile = regexp.MustCompile(`(?i)\b(OUTFILE|DUMPFILE)\b`)

// explains reports whether what stands behind EXPLAIN is no PRAGMA of SQLite, and nothing else that takes effect when it is only prepared:
// some are for the whole process.
func explains(words []string) bool {
	if len(words) > 1 && words[0] == "QUERY" && words[1] == "PLAN" {
		words = words[2:]
	}
	return len(words) > 0 && (words[0] == "SELECT" || words[0] == "WITH" || words[0] == "VALUES" || writes(words[0]))
}

// wrong is the error of a statement that writes where it may not, with what to do.
func (p *params) wrong(what, why string) error {
	hint := fmt.Sprintf("use the action execute, which the connection %s does not allow now", p.database.name)
	if p.database.Execute {
		hint = "use the action execute"
	}
	return fault(service.Forbidden, "%s is refused: %s; %s", what, why, hint)
}

// wordsOf are the words of a statement in capitals, without what is quoted and without comments, and how many places
// of SQLite's for values there are. It refuses a second statement, and what is a comment for one reader and a statement for another.
func wordsOf(text string, of dialect) (words []string, places int, err error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, 0, errors.New("holds a zero byte, or bytes that are no UTF-8")
	}
	ended := false
	for i := 0; i < len(text); {
		rest := text[i:]
		n := 1
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		case strings.HasPrefix(rest, "--") && (of != mysql || len(rest) == 2 || rest[2] <= ' ' || rest[2] == 0x7f), c == '#' && of == mysql:
			n = until(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			if of == mysql && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")) {
				return nil, 0, errors.New("holds a comment that MySQL carries out (/*! … */)")
			}
			if n = comment(rest, of == postgres); n == 0 {
				return nil, 0, errors.New("ends within a comment")
			}
		case c == ';':
			ended = true
		case ended:
			return nil, 0, errors.New("is more than one: a call carries out one statement")
		case c == '\'' || c == '"' || c == '`' && of != postgres:
			escapes := of == mysql && c != '`' || of == postgres && c == '\'' && i > 0 && (text[i-1] == 'E' || text[i-1] == 'e') && (i < 2 || !inWord(text[i-2]))
			if n = quoted(rest, c, escapes); n == 0 {
				return nil, 0, fmt.Errorf("ends within quotes (%c)", c)
			}
		case c == '[' && of == sqlite:
			n = until(rest, "]")
		case c == '$' && of == postgres && (i == 0 || !inWord(text[i-1])):
			if tag := dollarTag(rest); tag != "" {
				end := strings.Index(rest[len(tag):], tag)
				if end < 0 {
					return nil, 0, fmt.Errorf("ends within quotes (%s)", tag)
				}
				n = end + 2*len(tag)
			}
		case c == '?', (c == ':' || c == '@' || c == '$') && len(rest) > 1 && inWord(rest[1]):
			places++
		case inWord(c):
			for n < len(rest) && (inWord(rest[n]) || rest[n] == '$') {
				n++
			}
			words = append(words, strings.ToUpper(rest[:n]))
		}
		i += n
	}
	return words, places, nil
}

func inWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

// until is the length up to and with an end, or all of it.
func until(text, end string) int {
	if i := strings.Index(text, end); i >= 0 {
		return i + len(end)
	}
	return len(text)
}

// comment is the length of a comment in C's form, or 0 if it does not end.
func comment(text string, nests bool) int {
	depth := 0
	for i := 0; i+1 < len(text); {
		switch {
		case text[i:i+2] == "/*" && (nests || depth == 0):
			depth++
			i += 2
		case text[i:i+2] == "*/":
			if depth--; depth == 0 {
				return i + 2
			}
			i += 2
		default:
			i++
		}
	}
	return 0
}

// quoted is the length of what stands in quotes, or 0 if they don't end. A doubled quote is one within; it reads as two
// that touch, which has the same end.
func quoted(text string, quote byte, escapes bool) int {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == quote:
			return i + 1
		}
	}
	return 0
}

// dollarTag is "$$" or "$name$" at the beginning of a text, or "".
func dollarTag(text string) string {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '$':
			return text[:i+1]
		case !inWord(c) || i == 1 && c >= '0' && c <= '9':
			return ""
		}
	}
	return ""
}
