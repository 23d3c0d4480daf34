package expr_test

import (
	"testing"
)

func BenchmarkEval(b *testing.B) {
	for name, source := range map[string]string{
		"condition": `variables.score >= 4 && variables.kind == "x"`,
		"loop":      `variables.items.exists(i, i.price > 7)`,
		"text":      `variables.name.lower() + "-" + string(variables.score)`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := env.Parse(source)
			if err != nil {
				b.Fatal(err)
			}
			vars := vars(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Eval(b.Context(), vars); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := env.Parse(`variables.score >= 4 && variables.kind == "x"`); err != nil {
			b.Fatal(err)
		}
	}
}
