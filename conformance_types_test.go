package pawl_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// raced reports whether the race detector is compiled in.
func raced() bool {
	info, is := debug.ReadBuildInfo()
	return is && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestB3_DEF_typesAreChecked holds wrong programs against the compiler's type checker: what
// upstream finds when a run starts, or in tests of types, does not compile here.
func TestB3_DEF_typesAreChecked(t *testing.T) {
	t.Parallel()
	args := []string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "github.com/pawlrun/pawl"}
	if raced() { // what was compiled for the tests will do
		args = slices.Insert(args, 1, "-race")
	}
	list := exec.Command("go", args...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	files := token.NewFileSet()
	imp := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	// check returns what the compiler says to a body of statements.
	check := func(body string) string {
		src := `package p
import ("context"; "errors"; "time"; "github.com/pawlrun/pawl")
type event struct{ Approved bool }
var double = pawl.Define("double", func(c *pawl.Context, n int) (string, error) { return "", errors.New("no") })
func body(ctx context.Context) (int, error) { return 1, nil }
func f(ctx context.Context, c *pawl.Context, e *pawl.Engine) {
	_ = time.Second
` + body + `
}`
		f, err := parser.ParseFile(files, "p.go", src, 0)
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		var said []string
		conf := types.Config{Importer: imp, Error: func(err error) { said = append(said, err.Error()) }}
		if _, err := conf.Check("p", files, []*ast.File{f}, nil); err == nil {
			return ""
		}
		return strings.Join(said, "\n")
	}

	for what, body := range map[string]string{
		"a start, its result":         `r, _ := double.Start(ctx, e, 1, pawl.ID("x"), pawl.Timeout(time.Second)); var s string; s, _ = r.Result(ctx); _ = s`,
		"a step's result":             `var n int; n, _ = pawl.Step(c, "s", body, pawl.MaxAttempts(2), pawl.Timeout(time.Second)); _ = n`,
		"an event's data":             `var v event; v, _ = pawl.WaitFor[event](c, "e", pawl.Timeout(time.Second)); _ = v.Approved`,
		"a hook's payload":            `h, _ := pawl.NewHook[event](c); v, _ := h.Wait(c); _ = v.Approved; for p, err := range h.All(c) { _, _ = p.Approved, err }`,
		"a child's result":            `var s string; s, _ = double.Call(c, 1); _ = s`,
		"results of parallel workers": `var out []string; out, _ = pawl.Map(c, "m", []int{1}, func(c *pawl.Context, n int) (string, error) { return "", nil }, pawl.Limit(2)); _ = out`,
	} {
		if said := check(body); said != "" {
			t.Errorf("%s does not compile: %s", what, said)
		}
	}
	for what, c := range map[string]struct{ body, said string }{
		"input of another type":            {`double.Start(ctx, e, "one")`, `"one" (untyped string constant) as int value`},
		"a result of another type":         {`r, _ := double.Start(ctx, e, 1); var n int; n, _ = r.Result(ctx); _ = n`, "as int value in assignment"},
		"a step's result of another type":  {`var s string; s, _ = pawl.Step(c, "s", body); _ = s`, "as string value in assignment"},
		"an event of another type":         {`var s string; s, _ = pawl.WaitFor[event](c, "e"); _ = s`, "as string value in assignment"},
		"a payload of another type":        {`h, _ := pawl.NewHook[event](c); var s string; s, _ = h.Wait(c); _ = s`, "as string value in assignment"},
		"a child's input of another type":  {`double.Call(c, "one")`, `"one" (untyped string constant) as int value`},
		"a parallel part of another type":  {`pawl.Map(c, "m", []int{1}, func(c *pawl.Context, s string) (string, error) { return s, nil })`, "does not match"},
		"a step that gets a *Context":      {`pawl.Step(c, "s", func(c *pawl.Context) (int, error) { return 1, nil })`, "does not match"},
		"a durable call with a step's ctx": {`pawl.Do(c, "s", func(ctx context.Context) error { return pawl.Do(ctx, "inner", nil) })`, "as *pawl.Context value"},
		"a *Context as a context":          {`body(c)`, "does not implement context.Context"},
		"a step's option on a workflow":    {`pawl.Define("w", func(c *pawl.Context, n int) (int, error) { return n, nil }, pawl.AttemptTimeout(time.Second))`, "does not implement pawl.Option"},
		"a start's option on a step":       {`pawl.Do(c, "s", nil, pawl.Tenant("t"))`, "does not implement pawl.StepOption"},
		"a hook's option on a wait":        {`pawl.WaitFor[int](c, "e", pawl.Token("t"))`, "does not implement pawl.WaitOption"},
	} {
		if said := check(c.body); !strings.Contains(said, c.said) {
			t.Errorf("%s: the compiler says %q, want %q in it", what, said, c.said)
		}
	}
}
