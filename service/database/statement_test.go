package database

import (
	"errors"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/service"
)

func TestWordsOfStatements(t *testing.T) {
	for _, test := range []struct {
		of         dialect
		text, want string // the words, or "!" and a part of the error
	}{
		{postgres, "select a, 'b;c' from \"d;e\" -- f\n /* g /* h */ i */ where j = $1;", "SELECT A FROM WHERE J 1"},
		{postgres, `SELECT E'a\'; DELETE' , 'b\', c`, "SELECT E C"},
		{postgres, "SELECT $$a; b$$, $x$ $$ ; $x$, y", "SELECT Y"},
		{postgres, "SELECT a$b$c", "SELECT A$B$C"},
		{postgres, "SELECT $1, $2", "SELECT 1 2"},
		{postgres, "SELECT 'it''s; so' x ; -- end", "SELECT X"},
		{postgres, "SELECT 1; x", "!more than one"},
		{postgres, "SELECT $$a", "!within quotes"},
		{postgres, "SELECT /* /* */", "!within a comment"},
		{mysql, `SELECT 'a\'; b' , "c;d", ` + "`e;f`" + ` # g`, "SELECT"},
		{mysql, "SELECT 1--1", "SELECT 1 1"},
		{mysql, "SELECT 1 -- ;x\n", "SELECT 1"},
		{mysql, "SELECT /*!50000 x */ 1", "!carries out"},
		{mysql, "SELECT /*M! x */ 1", "!carries out"},
		{sqlite, "SELECT [a;b], 'c\\', `d;`", "SELECT"},
		{sqlite, "SELECT 'a", "!within quotes"},
		{sqlite, "a\x00b", "!zero byte"},
		{sqlite, "SELECT Ünal", "SELECT ÜNAL"},
		{sqlite, " \n;", ""},
	} {
		words, _, err := wordsOf(test.text, test.of)
		if part, fails := strings.CutPrefix(test.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %q, %v; want an error with %q", test.text, words, err, part)
			}
		} else if got := strings.Join(words, " "); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.text, got, err, test.want)
		}
	}
}

// What is quoted, and what is a comment, is not the same for every server of MySQL: with ANSI_QUOTES a backslash ends no "name".
func TestNoStatementOfMySQLNamesAFile(t *testing.T) {
	for _, text := range []string{`SELECT "a\" INTO OUTFILE '/tmp/x' FROM t -- "`, "SELECT 1 --\x7f'\nINTO DUMPFILE '/tmp/x' -- '", "TABLE t INTO outfile '/tmp/x'"} {
		p := &params{Query: text, database: &database{dialect: mysql}}
		var e *service.Error
		if _, err := p.check(); !errors.As(err, &e) || e.Code != service.Forbidden {
			t.Errorf("%s: %v, want it forbidden", text, err)
		}
	}
	p := &params{Query: "SELECT my_outfiles FROM t", database: &database{dialect: mysql}}
	if _, err := p.check(); err != nil {
		t.Error(err)
	}
}

// No text takes the reader past its end, and a bound place changes no words.
func FuzzWordsOf(f *testing.F) {
	for _, text := range []string{"SELECT 1", "E'\\", "$a$", "/*", "--", "`", "[", "'"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, of := range []dialect{postgres, mysql, sqlite} {
			words, _, err := wordsOf(text, of)
			if err == nil && len(strings.Join(words, "")) > 3*len(text) {
				t.Errorf("%q has the words %q", text, words)
			}
		}
	})
}
