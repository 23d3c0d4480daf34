package pawl_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pawlrun/pawl"

// A room is a package, or with "/..." all packages below it, and those of ours that it may import outside its tests.
type room struct {
	path      string
	mayImport []string
}

// everything lets a room import every other, except testRooms.
var everything = []string{"..."}

// rooms is the house: who may know whom. Tests may import anything. A room need not exist yet.
var rooms = []room{
	{"pawl", nil}, // the root, which takes nothing from other modules either
	{"sqlite", []string{"pawl", "internal/sqlstore"}},
	{"postgres", []string{"pawl", "internal/sqlstore"}},
	{"internal/sqlstore", []string{"pawl"}},
	{"storetest", []string{"pawl"}},
	{"storetest/pgtest", nil},
	{"pawltest", []string{"pawl", "sqlite"}},
	{"machine", []string{"pawl"}},
	{"llm", nil},
	{"llm/internal/exchange", []string{"llm"}}, // what the clients of all providers do alike
	{"llm/...", []string{"llm", "llm/internal/exchange"}},
	{"internal/schema", nil},   // JSON Schemas that others have written
	{"internal/spelling", nil}, // the name that was meant where another one stands
	{"approval", []string{"pawl", "internal/schema"}},
	{"agent", []string{"pawl", "llm", "approval"}},
	{"agent/mcp", []string{"pawl", "agent"}},
	{"service", []string{"internal/schema", "internal/spelling"}},
	{"service/...", []string{"service", "internal/schema"}}, // those that bring dependencies of their own
	{"expr", []string{"internal/spelling"}},
	{"flow", []string{"pawl", "expr", "llm", "agent", "approval", "service", "trigger", "trigger/dbchange", "internal/schema", "internal/spelling"}},
	{"flow/draft", []string{"pawl", "flow", "llm", "agent"}},
	{"flow/flowtest", []string{"pawl", "flow", "llm", "llm/llmtest", "agent", "service", "sqlite", "approval", "internal/spelling"}}, // a part of the program: pawl test
	{"trigger", []string{"pawl", "expr", "internal/spelling"}},
	{"trigger/...", []string{"pawl", "trigger"}},
	{"templates", nil},
	{"secret", []string{"pawl"}},
	{"api", []string{"pawl", "flow", "flow/draft", "trigger", "secret", "llm", "agent", "approval", "templates", "service", "internal/schema", "internal/spelling"}},
	{"telemetry", []string{"pawl"}},
	{"ui", nil},
	{"cmd/pawl", everything},
	{"cmd/pawl/...", everything},
	{"examples/...", everything},
	{"docs/...", everything},
}

// testRooms serve tests, so no program may contain them.
var testRooms = []string{"storetest", "storetest/pgtest", "pawltest", "service/servicetest"}

func TestImportsFollowTheTable(t *testing.T) {
	for _, pkg := range listPackages(t, "./...") {
		importer := roomPath(pkg.ImportPath)
		row, ok := roomOf(importer)
		if !ok {
			t.Errorf("package %s has no row in the table of rooms: give it one, or put its code into a room that exists", importer)
			continue
		}
		for _, imported := range pkg.Imports {
			if ours(imported) && !row.allows(roomPath(imported)) {
				t.Errorf("%s imports %s; it may import %s", importer, roomPath(imported), row.allowed())
			}
		}
	}
}

func TestTheRootNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, pkg := range listPackages(t, "-deps", ".") {
		if !pkg.Standard && pkg.ImportPath != module {
			t.Errorf("package pawl depends on %s, which is not in the standard library", pkg.ImportPath)
		}
	}
}

// The C library that modernc.org/sqlite is translated against is part of its build: with another version it may crash or corrupt.
func TestSQLiteHasTheLibcItWasBuiltWith(t *testing.T) {
	var sqlite, libc struct{ Version, GoMod string }
	goJSON(t, &sqlite, "list", "-m", "-json", "modernc.org/sqlite")
	goJSON(t, &libc, "list", "-m", "-json", "modernc.org/libc")
	var mod struct {
		Require []struct{ Path, Version string }
	}
	goJSON(t, &mod, "mod", "edit", "-json", sqlite.GoMod)
	for _, required := range mod.Require {
		if required.Path == "modernc.org/libc" {
			if libc.Version != required.Version {
				t.Errorf("go.mod selects modernc.org/libc %s, but modernc.org/sqlite %s was built with %s: run go get modernc.org/libc@%s",
					libc.Version, sqlite.Version, required.Version, required.Version)
			}
			return
		}
	}
	t.Errorf("modernc.org/sqlite %s does not require modernc.org/libc any more: this test can go", sqlite.Version)
}

func TestTheTableAllowsAndRefuses(t *testing.T) {
	for _, c := range []struct {
		importer, imported string
		allowed            bool
	}{
		{"pawl", "sqlite", false},
		{"sqlite", "pawl", true},
		{"sqlite", "internal/sqlstore", true},
		{"machine", "internal/sqlstore", false},
		{"llm/openai", "llm", true},
		{"llm/openai", "llm/llmtest", false},
		{"llm", "llm/openai", false},
		{"storetest/pgtest", "pawl", false},
		{"cmd/pawl", "ui", true},
		{"cmd/pawl", "storetest", false},
		{"examples/refund", "pawltest", false},
		{"cmd/pawl", "service/servicetest", false},
		{"service/servicetest", "service", true},
		{"service", "service/servicetest", false},
	} {
		row, ok := roomOf(c.importer)
		if !ok {
			t.Errorf("%s has no row", c.importer)
		} else if row.allows(c.imported) != c.allowed {
			t.Errorf("%s importing %s: allowed is %v, want %v", c.importer, c.imported, !c.allowed, c.allowed)
		}
	}
	for _, unknown := range []string{"util", "sqlite/dialect", "cmd/other", "examples"} {
		if row, ok := roomOf(unknown); ok {
			t.Errorf("%s is taken for room %s, want none", unknown, row.path)
		}
	}
}

// roomOf returns the row that names pkg itself, else the one whose "/..." covers it.
func roomOf(pkg string) (room, bool) {
	for name := pkg; ; name = path.Dir(strings.TrimSuffix(name, "/...")) + "/..." {
		if i := slices.IndexFunc(rooms, func(r room) bool { return r.path == name }); i >= 0 {
			return rooms[i], true
		}
		if name == "./..." {
			return room{}, false
		}
	}
}

func (r room) allows(imported string) bool {
	if slices.Contains(r.mayImport, "...") {
		return !slices.Contains(testRooms, imported)
	}
	return slices.Contains(r.mayImport, imported)
}

func (r room) allowed() string {
	if len(r.mayImport) == 0 {
		return "none of ours"
	}
	if slices.Contains(r.mayImport, "...") {
		return "all but " + strings.Join(testRooms, ", ") + ", which are for tests"
	}
	return strings.Join(r.mayImport, ", ")
}

func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// roomPath is a package's path inside the module; the root is called pawl.
func roomPath(importPath string) string {
	if importPath == module {
		return "pawl"
	}
	return strings.TrimPrefix(importPath, module+"/")
}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string // without those of tests
}

// listPackages lists broken packages too (-e): the compiler complains of those, and they must not hide the others.
func listPackages(t *testing.T, args ...string) []listed {
	t.Helper()
	out := runGo(t, append([]string{"list", "-e", "-json=ImportPath,Standard,Imports"}, args...)...)
	decoder := json.NewDecoder(strings.NewReader(out))
	var packages []listed
	for {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, pkg)
	}
}

func goJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(runGo(t, args...)), into); err != nil {
		t.Fatal(err)
	}
}

func runGo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
