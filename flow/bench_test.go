package flow_test

import (
	"fmt"
	"testing"

	"github.com/pawlrun/pawl/flow"
)

// thousandSteps is a flow of 1,000 steps of three types, each of which reads what others brought.
func thousandSteps() string {
	return stepsOf(1000, func(i int) string {
		at, next := max(i-3, 0), then(i, 1000)
		switch i % 3 {
		case 0:
			return fmt.Sprintf(`{"id":"a%d","type":"transform","config":{"expression":"variables.n + %d","outputVariable":"v%d"},"next":%q}`, i, i, i, next)
		case 1:
			return fmt.Sprintf(`{"id":"a%d","type":"service","config":{"service":"desk","action":"send","to":"ann","text":"{{steps.a%d.output}} and {{variables.text}}","n":%d},"next":%q}`, i, i-1, i, next)
		}
		return fmt.Sprintf(`{"id":"a%d","type":"ai-decision","config":{"prompt":"Which? {{variables.v%d}}","outputFormat":"enum","allowedValues":["one","two"]},"next":{"one":%q,"two":%q}}`, i, at/3*3, next, next)
	})
}

func BenchmarkParse1000Steps(b *testing.B) {
	opt := options(b, &desk{})
	doc := []byte(thousandSteps())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := flow.Parse(doc, flow.World{Services: opt.Services, Model: opt.Model}); err != nil {
			b.Fatal(err)
		}
	}
}
