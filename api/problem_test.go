package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// A sentinel without a row would reach callers as an internal error.
func TestEverySentinelOfTheEngineHasARow(t *testing.T) {
	paths, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../approval/*.go")
	if err != nil {
		t.Fatal(err)
	}
	paths = append(paths, more...)
	rows := map[string]bool{}
	for _, row := range table {
		rows[row.err.Error()] = true
	}
	found := 0
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Err") || len(spec.Values) != 1 {
				return true
			}
			call, ok := spec.Values[0].(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			found++
			var message string
			if err := json.Unmarshal([]byte(text.Value), &message); err != nil {
				t.Fatal(err)
			}
			if !rows[message] {
				t.Errorf("%s (%q) has no row in the table of problems", spec.Names[0].Name, message)
			}
			return true
		})
	}
	if found != len(table) {
		t.Errorf("found %d sentinels, the table has %d rows", found, len(table))
	}
}

// Each row: wrapped as the engine wraps it, sent, received, and still the same error.
func TestEveryRowSurvivesTheWire(t *testing.T) {
	var thrown error
	s := &server{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerRequestID, "req_1")
		s.refuse(w, r, thrown)
	}))
	defer front.Close()
	client, err := NewClient(front.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, row := range table {
		thrown = fmt.Errorf("deed to run %s: %w", "x", row.err)
		_, err := client.Run(t.Context(), "x", 0)
		var p *Problem
		if !errors.As(err, &p) || p.Status != row.status || p.Code != row.code || p.RequestID != "req_1" || !errors.Is(err, row.err) {
			t.Errorf("%v arrives as %+v", row.err, err)
			continue
		}
		for _, other := range table {
			if other.err != row.err && errors.Is(err, other.err) {
				t.Errorf("%v arrives as %v too", row.err, other.err)
			}
		}
		if strings.Contains(p.Detail, "pawl:") || !strings.HasPrefix(p.Detail, "deed to run x: ") {
			t.Errorf("detail %q", p.Detail)
		}
		if codes[row.code] {
			t.Errorf("two rows have the code %s", row.code)
		}
		codes[row.code] = true
	}
	thrown = fmt.Errorf("open /home/me/secret: permission denied")
	if _, err := client.Run(t.Context(), "x", 0); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "log") {
		t.Errorf("an internal error arrives as %v", err)
	}
	thrown = fmt.Errorf("ask: %w", context.DeadlineExceeded)
	if _, err := client.Run(t.Context(), "x", 0); !errors.Is(err, pawl.ErrTimeout) {
		t.Errorf("a timeout arrives as %v", err)
	}
	thrown = fmt.Errorf("%w: %w", pawl.ErrUnknownOutcome, context.DeadlineExceeded)
	if _, err := client.Run(t.Context(), "x", 0); !errors.Is(err, pawl.ErrUnknownOutcome) {
		t.Errorf("an unknown outcome arrives as %v", err)
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	var log strings.Builder
	s := New(pawl.New(nil, nil), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "http://localhost/api/runs", nil) // the store is nil
	s.ServeHTTP(rec, req)
	if rec.Code != 500 || rec.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(rec.Body.String(), "nil pointer") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if !strings.Contains(log.String(), "nil pointer") || !strings.Contains(log.String(), "stack=") {
		t.Errorf("log: %s", &log)
	}
}
