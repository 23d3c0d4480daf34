package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
)

// template is a text with places that are filled in: "Which queue? {{variables.text}}". It holds no logic: a place is a
// path, what stands for it if it names nothing or null, and filters. What is filled in is never read as a template.
// Two opening braces that shall stay are written four times: {{{{.
type template struct {
	source string
	parts  []part
}

// part is a text, or a place.
type part struct {
	text    string
	path    Path
	gone    bool // {{?path}}: it may name nothing
	instead *any // of ?? 'x'
	filters []filter
}

const maxTemplate = 256 << 10 // bytes of a text

// maxTold bounds how many faults of one text are told.
const maxTold = 10

// parseTemplate reads a text. It is nil for one without places, and for one with faults.
func parseTemplate(source string) (*template, []error) {
	if !strings.Contains(source, "{{") {
		return nil, nil
	}
	if len(source) > maxTemplate {
		return nil, []error{fmt.Errorf("the text has %d bytes, the limit is %d", len(source), maxTemplate)}
	}
	t := &template{source: source}
	var faults []error
	rest := source
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.parts = append(t.parts, part{text: literal.String()})
			literal.Reset()
		}
	}
	for {
		at := strings.Index(rest, "{{")
		if at < 0 {
			if literal.WriteString(rest); len(faults) > 0 {
				return nil, faults
			}
			flush()
			return t, nil
		}
		literal.WriteString(rest[:at])
		if strings.HasPrefix(rest[at:], "{{{{") {
			literal.WriteString("{{")
			rest = rest[at+4:]
			continue
		}
		flush()
		p, length, err := readPlace(rest[at:])
		if err != nil {
			faults = append(faults, err)
			end := strings.Index(rest[at:], "}}")
			if end < 0 || len(faults) == maxTold {
				return nil, faults
			}
			rest = rest[at+end+2:]
			continue
		}
		t.parts = append(t.parts, p)
		rest = rest[at+length:]
	}
}

// readPlace reads {{ path ?? 'instead' | filter: argument }}, or {{? path }}, and returns its length.
func readPlace(text string) (p part, length int, err error) {
	i := 2
	if p.gone = strings.HasPrefix(text[i:], "?"); p.gone {
		i++
	}
	i = skip(text, i)
	shown := text
	if end := strings.Index(text, "}}"); end >= 0 {
		shown = text[:end+2]
	}
	bad := func(format string, args ...any) (part, int, error) {
		return part{}, 0, fmt.Errorf("%.80s: %s", shown, fmt.Sprintf(format, args...))
	}
	path, end, err := readPath(text[i:])
	if err != nil {
		return bad("%v", err)
	}
	p.path, i = path, skip(text, i+end)
	if strings.HasPrefix(text[i:], "??") {
		v, next, ok := readLiteral(text, skip(text, i+2))
		if !ok {
			return bad("?? is followed by a text in quotes, a number, true, false or null")
		}
		p.instead, i = &v, skip(text, next)
	}
	for i < len(text) && text[i] == '|' {
		f, next, err := readFilter(text, skip(text, i+1))
		if err != nil {
			return bad("%v", err)
		}
		if p.filters, i = append(p.filters, f), skip(text, next); len(p.filters) > maxFilters {
			return bad("a place has at most %d filters; use a transform", maxFilters)
		}
	}
	switch {
	case strings.HasPrefix(text[i:], "}}"):
		return p, i + 2, nil
	case i >= len(text) || !strings.Contains(text[i:], "}}"):
		return bad("it has no end; close it with }}")
	}
	return bad("%q can't follow; a place is a path, ?? and a value, and filters: {{a.b ?? 'none' | upper}}. Use a transform to calculate", strings.TrimSuffix(shown[min(i, len(shown)):], "}}"))
}

func skip(text string, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
		at++
	}
	return at
}

// readLiteral reads a text in quotes, a number, true, false or null.
func readLiteral(text string, at int) (any, int, bool) {
	if at < len(text) && (text[at] == '\'' || text[at] == '"') {
		s, next, ok := readQuoted(text, at)
		return s, next, ok
	}
	end := at
	for end < len(text) && strings.IndexByte(" \t\r\n|}", text[end]) < 0 {
		end++
	}
	switch word := text[at:end]; word {
	case "true", "false":
		return word == "true", end, true
	case "null":
		return nil, end, true
	default:
		ok := json.Valid([]byte(word)) && finite(word)
		if !ok {
			return nil, end, false
		}
		return number(word), end, true
	}
}

// whole reports whether the text is one place and nothing else: its value keeps its type.
func (t *template) whole() bool { return len(t.parts) == 1 && t.parts[0].path != nil }

// paths are those that the template reads, with whether each may name nothing.
func (t *template) paths() (out []use) {
	for _, p := range t.parts {
		if p.path != nil {
			optional := p.instead != nil || p.gone
			out = append(out, use{path: p.path, optional: optional, changed: optional || len(p.filters) > 0})
		}
	}
	return out
}

// use is a path that something reads.
type use struct {
	path      Path
	optional  bool // it may name nothing
	condition bool // it stands in a condition or an expression, else in a template
	changed   bool // what is filled in may be another value
}

// instead is how to say what stands for the path if it names nothing.
func (u use) instead() string {
	if u.condition {
		return "default(" + expr.Use{Path: u.path}.String() + ", …)"
	}
	return "{{" + u.path.String() + " ?? '…'}}"
}

// into says how a value is written into a text behind what is there.
type into func(before string, p part, v any) (string, error)

// filling is a value that is being filled in, with all that stands in it: how many bytes of JSON it may still become, and how
// many filters may still go through. Little memory may be much text, as a value may stand in many places.
type filling struct {
	root    map[string]any
	left    int
	looking int
}

func newFilling(root map[string]any) *filling { return &filling{root, maxMade, maxLookedOn} }

// take counts what was filled in, of so many bytes.
func (n *filling) take(p part, size int) error {
	if n.left -= size; n.left < 0 {
		return pawl.Fatal(fmt.Errorf("all that is filled in would be over %d bytes of JSON with {{%s}}", maxMade, p.path))
	}
	return nil
}

// fill is the text with its places filled in, or the value of the one place that it is.
func (t *template) fill(in *filling) (any, error) {
	if !t.whole() {
		return t.text(in, nil)
	}
	v, err := t.parts[0].value(in)
	if err != nil {
		return nil, err
	}
	return v, in.take(t.parts[0], jsonSizeOf(v, in.left))
}

// text is the text with its places filled in, also if it is one place. A nil write is plain.
func (t *template) text(in *filling, write into) (string, error) {
	if write == nil {
		write = plainly
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.path == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := p.value(in)
		if err != nil {
			return "", err
		}
		if v == nil && p.gone {
			continue
		}
		if v == nil {
			return "", &UnresolvedError{Path: p.path.String(), At: p.path.String(), Reason: "is null"}
		}
		var text string
		if !over(v, maxFilled) {
			if text, err = write(b.String(), p, v); err != nil {
				return "", err
			}
		}
		if b.Len()+len(text) > maxFilled || over(v, maxFilled) {
			return "", pawl.Fatal(fmt.Errorf("the text would be over %d bytes once {{%s}} is filled in", maxFilled, p.path))
		}
		b.WriteString(text)
		if err := in.take(p, textSizeOf(text)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// over reports whether a value makes a text of more than so many bytes, without making it.
func over(v any, most int) bool {
	if s, is := v.(string); is {
		return len(s) > most
	}
	return jsonSizeOf(v, most) > most
}

// value is what a place stands for.
func (p part) value(in *filling) (any, error) {
	v, err := p.path.Lookup(in.root)
	var unresolved *UnresolvedError
	if nothing := v == nil && err == nil || errors.As(err, &unresolved); nothing && p.instead != nil {
		v, err = *p.instead, nil
	} else if nothing && p.gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range p.filters {
		if s, is := v.(string); is {
			in.looking -= len(s)
		} else {
			in.looking -= jsonSizeOf(v, maxMade)
		}
		switch v, err = f.applied(v); {
		case err != nil:
			return nil, pawl.Fatal(fmt.Errorf("{{%s | %s}}: %w", p.path, f.name, err))
		case in.looking < 0:
			return nil, pawl.Fatal(fmt.Errorf("{{%s | %s}}: filters would go through more than %d bytes in one value", p.path, f.name, maxLookedOn))
		}
	}
	return v, nil
}

func plainly(_ string, _ part, v any) (string, error) { return textOf(v), nil }

// textOf is a value as text: texts as they are, whole numbers without a point, all else as JSON.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatInt(int64(v), 10)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return jsonOf(v)
}

// jsonOf is a value of JSON as its text.
func jsonOf(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
