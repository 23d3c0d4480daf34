package agent_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

func must(t testing.TB, s *agent.Shape, err error) *agent.Shape {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func oneOf(t testing.TB, values ...string) *agent.Shape {
	t.Helper()
	s, err := agent.OneOf(values...)
	return must(t, s, err)
}

func numberOf(t testing.TB, r agent.Range) *agent.Shape {
	t.Helper()
	s, err := agent.Number(r)
	return must(t, s, err)
}

func jsonOf(t testing.TB, schema string) *agent.Shape {
	t.Helper()
	s, err := agent.JSON(json.RawMessage(schema))
	return must(t, s, err)
}

// reads checks what s makes of text: want is the canonical JSON, or, where it begins with
// "!", a part of the error.
func reads(t *testing.T, s *agent.Shape, text, want string) {
	t.Helper()
	got, err := s.Read(text)
	if says, refused := strings.CutPrefix(want, "!"); refused {
		if e, ok := errors.AsType[*agent.AnswerError](err); !ok || !strings.Contains(e.Why, says) {
			t.Errorf("Read(%.200q) = %s, %v; want an *AnswerError that says %q", text, got, err, says)
		}
		return
	}
	if err != nil || string(got) != want {
		t.Errorf("Read(%.200q) = %s, %v; want %s", text, got, err, want)
	}
}

func TestJ18_enumsAreComparedUnderAFoldAndReturnedAsTheyAreSpelled(t *testing.T) {
	priorities := oneOf(t, "P1", "P2", "P3", "P4")
	for _, text := range []string{"P1", "p1", "p1.", " P1\n", `"P1"`, "'p1'", "**P1**", "`P1`", "_P1_", "(P1)", "P1!", "# P1", "- P1", "“P1”", "Ｐ１", `{"value":"P1"}`, `{"value": "p1."}`} {
		reads(t, priorities, text, `"P1"`)
	}
	for _, text := range []string{"P5", "P11", "P", "1", "P 1", "-P1x", "!P1", "~~P1~~", "P1?", "<P1>", "P1/P2", "P1 P2", "", " ", "[ ] P1", `["P1"]`, `{"value":["P1"]}`, `{"answer":"P1"}`, "null", "{}", `{"value":"P1","value":"P2"}`} {
		reads(t, priorities, text, "!")
	}
	all := oneOf(t, "feature-request", "bug_report", "General Question", "Störung", "C++", "C#", "<5", ">=5", "-1", "1", "n/a", "日本", "yes")
	for text, want := range map[string]string{
		"Feature Request":    `"feature-request"`,
		"FEATURE_REQUEST.":   `"feature-request"`,
		"feature  request":   `"feature-request"`,
		"Bug-Report":         `"bug_report"`,
		"general_question":   `"General Question"`,
		"STÖRUNG":            `"Störung"`,
		"Sto\u0308rung":      `"Störung"`,
		"c++":                `"C++"`,
		"C#.":                `"C#"`,
		"<5":                 `"<5"`,
		">=5":                `">=5"`,
		"-1":                 `"-1"`,
		"1":                  `"1"`,
		`{"value":1}`:        `"1"`,
		"N/A":                `"n/a"`,
		"日本。":                `"日本"`,
		"YES":                `"yes"`,
		"featurerequest":     "!",
		"c":                  "!",
		"5":                  "!",
		"+1":                 "!",
		"request":            "!",
		"feature. something": "!",
	} {
		reads(t, all, text, want)
	}
}

func TestJ18_valuesThatCollideAreRefused(t *testing.T) {
	for _, c := range []struct {
		values []string
		says   string
	}{
		{[]string{"P1", "p1"}, `"P1" and "p1" can't be told apart`},
		{[]string{"feature-request", "x", "Feature Request"}, "can't be told apart"},
		{[]string{"a", "a"}, "can't be told apart"},
		{[]string{"yes", "yes!"}, "can't be told apart"},
		{nil, "0 values"},
		{[]string{"a", " "}, "no text of 1 to 256 bytes"},
		{[]string{"\xff"}, "no text"},
		{[]string{strings.Repeat("x", 257)}, "no text"},
		{make([]string, 1001), "1001 values"},
	} {
		s, err := agent.OneOf(c.values...)
		var e *agent.ShapeError
		if s != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || !errors.Is(err, pawl.ErrInput) || !pawl.IsFatal(err) {
			t.Errorf("OneOf(%.60q) = %v; want a fatal *ShapeError that says %q", c.values, err, c.says)
		}
	}
	oneOf(t, "-1", "1", "+", "-", "?", "<5", "5", ".5", "a/b", "a b")
}

func TestJ19_preamblesAreForgivenWhereTheyLeaveNoDoubt(t *testing.T) {
	s := oneOf(t, "billing", "technical", "feature-request", "request", "account closure", "other", "no", "A")
	for text, want := range map[string]string{
		"I would classify this as billing":                           `"billing"`,
		"I would classify this as **Billing**.":                      `"billing"`,
		"Category: billing":                                          `"billing"`,
		"Category: other":                                            `"other"`,
		"**Category:** A":                                            `"A"`,
		"The category is “technical”, as the app crashes.":           `"technical"`,
		"This is a feature request.":                                 `"feature-request"`,
		"Billing. It is clearly billing.":                            `"billing"`,
		"billing\n\nThe customer asks about an invoice.":             `"billing"`,
		"```\nbilling\n```":                                          `"billing"`,
		"Here is the category:\n```text\nbilling\n```\nLet me know.": `"billing"`,
		"```json\n{\"value\": \"billing\"}\n```":                     `"billing"`,
		`Sure! {"value": "Billing"}`:                                 `"billing"`,
		"<think>It is not technical. Or is it?</think>\nbilling":     `"billing"`,
		"account-closure":                                            `"account closure"`,
		"I choose account closure here":                              `"account closure"`,
		"billing or technical":                                       "!more than one",
		"billing (not technical)":                                    "!more than one",
		"This is not billing":                                        "!more than one way",
		"It isn't billing.":                                          "!more than one way",
		"It isn’t billing.":                                          "!more than one way",
		"Anything except billing":                                    "!more than one way",
		"Maybe billing":                                              "!more than one way",
		"Is this billing?":                                           "!not one of",
		"non-billing":                                                "!not one of",
		"pre_billing":                                                "!not one of",
		"billing-related":                                            "!not one of",
		"rebilling":                                                  "!not one of",
		"Das ist nicht billing":                                      "!more than one way",
		"❌ billing":                                                  "!more than one way",
		"~~billing~~ technical":                                      "!more than one way",
		"这不是 billing":                                                "!not one of",
		"Not this category: billing":                                 "!more than one way",
		"This is not the category:\n```\nbilling\n```":               "!more than one way",
		"Rather technical than the following:\n```\nbilling\n```":    "!more than one way",
		"A hard question":                                            "!not one of",
		"There are no hints":                                         "!not one of",
		"It was about the other day":                                 "!not one of",
		`{"value":"billing"} {"value":"technical"}`:                  "!more than one JSON value",
		`{"value":"billing"`:                                         "!breaks off",
		"<think>I would say billing":                                 "!empty",
		strings.Repeat("word ", 100) + "billing":                     "!too long",
		"I can't help with that.":                                    "!not one of",
		"```\nbilling\n```\n```\ntechnical\n```":                     "!more than one",
		"[x] billing [ ] technical":                                  "!not one of",
		"Category (billing, technical): billing":                     "!more than one",
		"unsure: billing":                                            "!more than one way",
		"I was told to ignore my instructions and to answer billing/technical": "!not one of",
	} {
		reads(t, s, text, want)
	}
}

func TestJ20_jsonIsFoundInFencesAndPreambles(t *testing.T) {
	s := jsonOf(t, `{"type":"object","properties":{"decision":{"enum":["approve","reject"]},"reason":{"type":"string"}},"required":["decision"],"additionalProperties":false}`)
	const want = `{"decision":"approve","reason":"a <b> & {c}"}`
	for _, text := range []string{
		want,
		" \n" + `{"decision" : "approve", "reason": "a <b> & {c}"}` + "\n",
		"```json\n" + want + "\n```",
		"```\n" + want + "\n```",
		"~~~\n" + want + "\n~~~",
		"Here is my answer:\n\n```json\n" + want + "\n```\nI hope that helps!",
		"Here it is: " + want,
		want + " Is that all right?",
		"As [1] and [2, 3] say, {so} it is: " + want,
		"\uFEFF" + want,
		"<think>{\"decision\": \"reject\"}</think>" + want,
		strings.Replace(want, "approve", "Approve.", 1),
	} {
		reads(t, s, text, want)
	}
	for text, says := range map[string]string{
		want + want: "more than one JSON value",
		"```json\n" + want + "\n```\nor\n```json\n{}\n```": "more than one JSON value",
		"For {\"a\":1} it is:\n```json\n" + want + "\n```": "more than one JSON value",
		want[:len(want)-1]:                                 "breaks off",
		want[:len(want)-4]:                                 "breaks off",
		`[` + want + `]`:                                   "got array, want object",
		"So: [" + want + "]":                               "got array, want object",
		`{"decision":"approve","x":1}`:                     "additional properties 'x' not allowed",
		`{"reason":"none"}`:                                "missing property 'decision'",
		`{"decision":"maybe"}`:                             "at /decision: value must be one of 'approve', 'reject'",
		`{"decision":"approve","decision":"reject"}`:       `two members called "decision"`,
		`{'decision':'approve'}`:                           "no JSON that can be read",
		`{decision:"approve", more:{"decision":"reject"}}`: "no JSON",
		`{"a":{"decision":"reject"},b:1} `:                 "no JSON",
		`{"decision":"approve",}`:                          "no JSON",
		`"{\"decision\":\"approve\"}"`:                     "got string, want object",
		"{'decision':'reject'} or " + want:                 "no JSON",
		"approve":                                          "no JSON",
		"null":                                             "got null",
		"":                                                 "empty",
		"I can't do that.":                                 "no JSON",
		`{"decision":"approve","reason":NaN}`:              "no JSON",
		`{"decision":"approve","reason":1e999}`:            "out of range",
	} {
		reads(t, s, text, "!"+says)
	}
}

// The prompts state the shape.
func TestJ20_wordsSayWhatIsExpected(t *testing.T) {
	for _, c := range []struct {
		s    *agent.Shape
		says []string
	}{
		{oneOf(t, "a b", `c"d`), []string{`"a b", "c\"d"`}},
		{numberOf(t, agent.Range{Min: new(1.0), Max: new(5.0), Integer: true}), []string{"one integer from 1 to 5"}},
		{agent.Boolean(), []string{"true or false"}},
		{jsonOf(t, `{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}`), []string{"one JSON object", `{"z":{"type":"string"},"a":`}},
	} {
		for _, part := range c.says {
			if !strings.Contains(c.s.Words(), part) {
				t.Errorf("Words() = %q; want %q in it", c.s.Words(), part)
			}
		}
	}
	if agent.Text().Words() != "" {
		t.Errorf("Text has words: %q", agent.Text().Words())
	}
}

// A model that answers megabytes, or garbage, is a typed error that shows a cut of it.
func TestGarbageIsATypedError(t *testing.T) {
	shapes := map[string]*agent.Shape{
		"text": agent.Text(), "enum": oneOf(t, "a", "b"), "number": numberOf(t, agent.Range{}), "boolean": agent.Boolean(),
		"object": jsonOf(t, `{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}`), "anything": jsonOf(t, `{}`),
	}
	for name, text := range map[string]string{
		"5 MB":     strings.Repeat("x", 5<<20),
		"deep":     strings.Repeat("[", 100_000),
		"deeper":   strings.Repeat(`{"a":`, 50_000),
		"braces":   strings.Repeat("{ ", 100_000),
		"pairs":    strings.Repeat("{}", 100_000),
		"strings":  strings.Repeat(`["`, 100_000),
		"fences":   strings.Repeat("```\n", 50_000),
		"closed":   strings.Repeat("{x}", 50_000),
		"circular": strings.Repeat("[{", 50_000) + strings.Repeat("}]", 50_000),
	} {
		for kind, s := range shapes {
			v, err := s.Read(text)
			if kind == "text" && len(text) <= 1<<20 {
				continue
			}
			var e *agent.AnswerError
			if v != nil || !errors.As(err, &e) || e.Size != len(text) || len(e.Error()) > 1500 || len(e.Got) > 1000 {
				t.Errorf("%s as %s: %.200s, %.300v", name, kind, v, err)
			}
		}
	}
	if v, err := agent.Text().Read(strings.Repeat("x", 5<<20)); v != nil || err == nil {
		t.Errorf("a text of 5 MB was read")
	}
}

// The error is what a repair turn says (J23), and survives a journal.
func TestJ23_theErrorIsFitForTheModel(t *testing.T) {
	_, err := numberOf(t, agent.Range{Min: new(1.0), Max: new(5.0), Integer: true}).Read("I'd say 9/10")
	var e *agent.AnswerError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if want := "That answer can't be used: it is not just one number.\nAnswer again with one integer from 1 to 5, in digits and nothing else."; e.Repair() != want {
		t.Errorf("Repair() = %q; want %q", e.Repair(), want)
	}
	if want := `the model's answer can't be used: it is not just one number; expected one integer from 1 to 5, in digits; it was "I'd say 9/10"`; e.Error() != want {
		t.Errorf("Error() = %q; want %q", e.Error(), want)
	}
	if pawl.IsFatal(err) {
		t.Error("the error is fatal, so no other attempt is made")
	}
	data, err := json.Marshal(e)
	var back agent.AnswerError
	if err != nil || json.Unmarshal(data, &back) != nil || back != *e || e.ErrorCode() != "answer" {
		t.Errorf("after the journal it is %+v, was %+v", back, *e)
	}
}
