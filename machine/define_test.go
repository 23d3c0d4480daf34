package machine_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

// What is wrong with a machine is said before anything runs: all of it, with machine, state
// and what to do.
func TestDefineRefuses(t *testing.T) {
	end := []string{machine.End}
	done := machine.Done()
	ok := plain("ok", done, machine.End)
	call := func(*pawl.Context, *value) (next, error) { return done, nil }
	for _, c := range []struct {
		name, machine, start string
		opt                  *machine.Options
		states               []state
		want                 []string
	}{
		{name: "no name", start: "ok", states: []state{ok}, want: []string{`its name "" is empty; give it one`}},
		{name: "name with slash", machine: "a/b", start: "ok", states: []state{ok}, want: []string{`its name "a/b" contains one of "/"; rename it`}},
		{name: "no states", machine: "m", start: "ok", want: []string{"it has no states; give it some"}},
		{name: "no start", machine: "m", start: "nowhere", states: []state{ok}, want: []string{`it starts in "nowhere", which is none of its states; it has "ok"`}},
		{name: "duplicate", machine: "m", start: "ok", states: []state{ok, ok}, want: []string{`there are two states "ok"; rename one`}},
		{name: "names", machine: "m", start: "ok", states: []state{ok, plain("", done), plain("a/b", done), plain("$x", done), plain("a\nb", done),
			plain("\xff", done), plain(machine.End, done), plain(strings.Repeat("x", 101), done), plain("a:b", done)},
			want: []string{
				`the name of state "" is empty; give it one`, `the name of state "a/b" contains one of "/#%:"; rename it`,
				`the name of state "$x" begins with $, which is pawl's own; rename it`, `the name of state "a\nb" contains a control character; rename it`,
				`the name of state "\xff" is not UTF-8; correct it`, `the name of state "[*]" is what stands for the end; rename it`,
				`the name of state "` + strings.Repeat("x", 40) + `" is 101 bytes long; the limit is 100`, `the name of state "a:b" contains one of "/#%:"; rename it`}},
		{name: "functions", machine: "m", start: "a", states: []state{{Name: "a"}, {Name: "b", Do: do("b", done), Call: call},
			{Name: "c", Call: call, Step: []pawl.StepOption{pawl.MaxAttempts(1)}}, {Name: "d", Do: do("d", done), Step: []pawl.StepOption{nil}}},
			want: []string{`state "a" has neither Do nor Call; give it one`, `state "b" has both Do and Call; take one away`,
				`state "c" has options for a step, but its Call is none; give them to the steps that it makes`, `state "d" has an option that is nil; remove it`}},
		{name: "options", machine: "m", start: "ok", opt: &machine.Options{Use: []machine.Middleware{nil}, Workflow: []pawl.Option{nil}}, states: []state{ok},
			want: []string{"one of Options.Workflow is nil; remove it", "one of Options.Use is nil; remove it"}},
		{name: "unknown target", machine: "m", start: "ok", states: []state{plain("ok", done, "gone", "away")},
			want: []string{`state "ok" declares that it goes to "gone", which is no state; add that, or correct To`, `state "ok" declares that it goes to "away", which is no state; add that, or correct To`}},
		{name: "unreachable", machine: "m", start: "ok", states: []state{ok, plain("lost", done, machine.End)},
			want: []string{`state "lost" cannot be reached from "ok": no state declares that it goes there; add it to the To of one, or remove it`}},
		{name: "no end", machine: "m", start: "a", states: []state{plain("a", done, "b", machine.End), {Name: "b", Do: do("b", done), To: []string{"c"}, MaxVisits: 3}, plain("c", done, "b")},
			want: []string{`from state "b" no end can be reached; declare a way to one that has End in its To`, `from state "c" no end can be reached; declare a way to one that has End in its To`}},
		{name: "nowhere to go", machine: "m", start: "a", states: []state{{Name: "a", Do: do("a", done), To: []string{}}},
			want: []string{`from state "a" no end can be reached; declare a way to one that has End in its To`}},
		{name: "loop", machine: "m", start: "a", states: []state{plain("a", done, "b"), plain("b", done, "c", machine.End), plain("c", done, "b")},
			want: []string{`the loop "b" → "c" → "b" has no limit; set MaxVisits on one of its states (negative: without limit on purpose)`}},
		{name: "loop on itself", machine: "m", start: "a", states: []state{plain("a", done, "a", machine.End)},
			want: []string{`the loop "a" → "a" has no limit; set MaxVisits on one of its states (negative: without limit on purpose)`}},
		{name: "good", machine: "m", start: "ok", states: []state{ok}},
		{name: "limited loop", machine: "m", start: "a", states: []state{{Name: "a", Do: do("a", done), To: []string{"a", machine.End}, MaxVisits: -1}}},
		{name: "limited machine", machine: "m", start: "a", opt: &machine.Options{MaxVisits: 5}, states: []state{plain("a", done, "a", machine.End)}},
		{name: "undeclared may go anywhere", machine: "m", start: "a", states: []state{plain("a", done), {Name: "b", Do: do("b", done), To: end}, plain("c", done, "b")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := machine.Define(c.machine, c.start, c.states, c.opt)
			if len(c.want) == 0 {
				if err != nil || m == nil || m.Name() != c.machine {
					t.Errorf("it is refused: %v", err)
				}
				return
			}
			var wrong *machine.DefinitionError
			if !errors.As(err, &wrong) || m != nil {
				t.Fatalf("it is accepted: %v", err)
			}
			if got, want := strings.Join(wrong.Problems, "\n"), strings.Join(c.want, "\n"); got != want || wrong.Machine != c.machine {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if text := err.Error(); !strings.HasPrefix(text, "machine "+c.machine) || !strings.Contains(text, c.want[0]) {
				t.Errorf("the error says %s", text)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the golden files")

func TestMermaid(t *testing.T) {
	odd := define(t, "odd names", "end", nil,
		plain("end", machine.Goto(`a "b" <c>; & \d`), `a "b" <c>; & \d`),
		plain(`a "b" <c>; & \d`, machine.Done(), machine.End))
	rounds := twiceForked(t)
	seen := func(m *machine.Machine[value], in ...value) (edges []machine.Edge) {
		pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
			for _, v := range in {
				run, id := begin(t, h, m, v)
				pawltest.Result(h, run)
				s, err := m.State(h.Context(), h.Engine(), id)
				if err != nil {
					t.Fatal(err)
				}
				edges = machine.Seen(edges, s.Edges)
			}
		}, m)
		return edges
	}
	for name, text := range map[string]string{
		"parity":      parity(t).Mermaid(),
		"parity-seen": parity(t).Mermaid(seen(parity(t), value{N: 2}, value{N: 4}, value{N: 5})...),
		"undeclared":  rounds.Mermaid(),
		"rounds-seen": rounds.Mermaid(seen(rounds, value{})...),
		"payment":     payment(t).Mermaid(seen(payment(t), value{})...),
		"odd-names":   odd.Mermaid(),
	} {
		file := filepath.Join("testdata", name+".mmd")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, text, want)
		}
	}
}
