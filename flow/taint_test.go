package flow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

// handedOn is a flow whose last step asks a model, and in which each step may hand on what the one behind it in the document brings; the first
// of them all hands it to a variable that the address of a call is made of.
func handedOn(n int) string {
	var b strings.Builder
	b.WriteString(`{"id": "h", "steps": [{"id": "a0", "type": "transform", "config": {"set": {"v0": "variables.v1"}}, "next": "a1"}`)
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, `,{"id": "a%d", "type": "transform", "config": {"set": {"v%d": "variables.v%d"}}, "next": "a%d"}`, i, i, i+1, i+1)
	}
	fmt.Fprintf(&b, `,{"id": "a%d", "type": "ai-decision", "config": {"prompt": "x", "outputVariable": "v%d"}, "next": "end"}]}`, n, n)
	return b.String()
}

// What a model's words come to is found in whatever order the steps stand, in a time that grows with their number.
func TestWordsOfModelsAreFoundInOnePass(t *testing.T) {
	took := func(n int) time.Duration {
		root, err := readObject([]byte(handedOn(n)))
		if err != nil {
			t.Fatal(err)
		}
		made := read(&findings{}, root, World{Services: service.Set{}, Model: "m"})
		best := time.Hour
		for range 3 {
			began := time.Now()
			found := wordsOf(made.main)
			best = min(best, time.Since(began))
			for i := range n {
				if !found[fmt.Sprintf("variable:v%d", i)] || !found[fmt.Sprintf("step:a%d", i)] {
					t.Fatalf("of %d steps, what step a%d brings is not found", n, i)
				}
			}
		}
		return best
	}
	took(100)
	if few, many := took(500), took(5000); many > 60*few+20*time.Millisecond {
		t.Errorf("500 steps take %v, 5000 take %v", few, many)
	} else {
		t.Logf("500 steps take %v, 5000 take %v", few, many)
	}
}
