package expr_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/expr"
)

// What docs/expressions.md shows is so.
func TestThePageIsTrue(t *testing.T) {
	text, err := os.ReadFile("../docs/expressions.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("the page has no values")
	}
	d := json.NewDecoder(strings.NewReader(block[1]))
	d.UseNumber()
	var values map[string]any
	if err := d.Decode(&values); err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (error: )?`([^`]+)` \\|$").FindAllStringSubmatch(page, -1)
	if len(rows) < 30 {
		t.Errorf("%d examples are too few: has the form of the tables changed?", len(rows))
	}
	for _, row := range rows {
		source, fails, want := row[1], row[2] != "", row[3]
		var got any
		p, err := env.Parse(source)
		if err == nil {
			got, err = p.Eval(t.Context(), values)
		}
		if fails || err != nil {
			if !fails || err == nil || err.Error() != want {
				t.Errorf("%s: %v, %v; the page says %s", source, got, err, want)
			}
			continue
		}
		data, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var is, says any
		if err := json.Unmarshal(data, &is); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &says); err != nil || !reflect.DeepEqual(is, says) || strings.HasPrefix(want, "9") && string(data) != want {
			t.Errorf("%s: %s; the page says %s", source, data, want)
		}
	}
	for _, name := range expr.Functions() {
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`"+name+"(") {
			t.Errorf("the page does not have the function %s", name)
		}
	}
	if block := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(page); block == nil || !strings.Contains(example(t), regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block[1], "\t$1")) {
		t.Error("the page's Go is not that of the example")
	}
}

func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
