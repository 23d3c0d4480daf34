package demotest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// KilledAtEveryCall runs the program in the current folder undisturbed, and then once more
// for each of its calls to the provider, killing the process while it waits for the
// answer. A second process takes over. What it prints must be the same, and the calls it
// makes must be those whose results were not recorded: no more and no fewer.
//
// local are the keys of steps that call nobody.
func KilledAtEveryCall(t *testing.T, provider *Provider, local []string, args ...string) {
	program := Program(t)
	calling := func(keys []string) int {
		return len(slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(local, k) }))
	}

	dir := t.TempDir()
	want := Start(t, program, dir, provider, args...).Result(t)
	all := provider.Take()
	if n := calling(Recorded(t, dir)); n != len(all) || n == 0 {
		t.Fatalf("undisturbed, there were %d calls for %d steps", len(all), n)
	}

	for n := 1; n <= len(all); n++ {
		t.Run(fmt.Sprintf("call-%d", n), func(t *testing.T) {
			dir := t.TempDir()
			held := provider.Hold(n)
			Start(t, program, dir, provider, args...).KillAt(t, held)
			provider.Take()
			recorded := Recorded(t, dir)

			second := Start(t, program, dir, provider, args...)
			if got := second.Result(t); got != want {
				t.Errorf("after the kill it printed\n%s\nundisturbed it was\n%s", got, want)
			}
			again := provider.Take()
			if len(again) != len(all)-calling(slices.Clone(recorded)) {
				t.Errorf("%d of %d calls were recorded (%s), and then %d more were made",
					calling(slices.Clone(recorded)), len(all), strings.Join(recorded, ", "), len(again))
			}
			if n := strings.Count(second.Log(), "not run again"); n < len(recorded) {
				t.Errorf("the second process says of %d steps that they are not run again, there are %d\n%s", n, len(recorded), second.Log())
			}
		})
	}
}
