package flow

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl/internal/spelling"
)

// filter changes a value on its way into a text.
type filter struct {
	name     string
	argument any
	apply    func(v any) (any, error)
}

// filters are those that there are, by name: what a template may do, and no more. Each makes its function from its argument.
var filters = map[string]struct {
	doc  string
	make func(argument any) (func(v any) (any, error), error)
}{
	"upper":    {"the text in capitals", ofText(strings.ToUpper)},
	"lower":    {"the text in small letters", ofText(strings.ToLower)},
	"trim":     {"the text without space at its ends", ofText(strings.TrimSpace)},
	"json":     {"the value as JSON", plainFilter(func(v any) (any, error) { return jsonOf(v), nil })},
	"length":   {"how many characters, items or fields it has", plainFilter(length)},
	"first":    {"the first item of a list", plainFilter(func(v any) (any, error) { return item(v, 0) })},
	"last":     {"the last item of a list", plainFilter(func(v any) (any, error) { return item(v, -1) })},
	"truncate": {"at most so many characters of the text, an ellipsis for the rest: truncate: 80", truncate},
	"join":     {"the items of a list as one text, with this between them: join: ', '", join},
	"round":    {"the number with so many digits behind the point: round: 2", round},
	"date":     {"the day of a time (RFC 3339) as text: date: 'YYYY-MM-DD hh:mm'", date},
	"trusted":  {"in a prompt: the text as it stands, without the marks of data from outside", plainFilter(func(v any) (any, error) { return v, nil })},
}

// applied is apply within the bound of a text that is filled in.
func (f filter) applied(v any) (any, error) {
	switch f.name {
	case "json", "truncate":
		if over(v, maxMade) {
			return nil, fmt.Errorf("the value would be over %d bytes", maxMade)
		}
	}
	v, err := f.apply(v)
	if s, is := v.(string); is && len(s) > maxMade {
		return nil, fmt.Errorf("the text would be over %d bytes", maxMade)
	}
	return v, err
}

// readFilter reads name, or name: argument.
func readFilter(text string, at int) (filter, int, error) {
	end := nameEnd(text, at)
	name := text[at:end]
	known, is := filters[name]
	if !is {
		return filter{}, 0, fmt.Errorf("there is no filter %q; %s", name, spelling.Choice(name, slices.Sorted(maps.Keys(filters))))
	}
	var argument any
	if next := skip(text, end); next < len(text) && text[next] == ':' {
		var ok bool
		if argument, end, ok = readLiteral(text, skip(text, next+1)); !ok {
			return filter{}, 0, fmt.Errorf("the filter %s is followed by a text in quotes or a number", name)
		}
	}
	apply, err := known.make(argument)
	if err != nil {
		return filter{}, 0, fmt.Errorf("the filter %s: %w", name, err)
	}
	return filter{name, argument, apply}, end, nil
}

func plainFilter(apply func(v any) (any, error)) func(any) (func(any) (any, error), error) {
	return func(argument any) (func(any) (any, error), error) {
		if argument != nil {
			return nil, errors.New("it takes no argument")
		}
		return apply, nil
	}
}

func ofText(apply func(string) string) func(any) (func(any) (any, error), error) {
	return plainFilter(func(v any) (any, error) {
		s, is := v.(string)
		if !is {
			return nil, fmt.Errorf("it is %s and no text", kindOf(v))
		}
		return apply(s), nil
	})
}

func length(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, fmt.Errorf("%s has no length", kindOf(v))
}

func item(v any, at int) (any, error) {
	list, is := v.([]any)
	switch {
	case !is:
		return nil, fmt.Errorf("it is %s and no list", kindOf(v))
	case len(list) == 0:
		return nil, errors.New("the list is empty")
	case at < 0:
		return list[len(list)-1], nil
	}
	return list[at], nil
}

func truncate(argument any) (func(any) (any, error), error) {
	most, is := argument.(int64)
	if !is || most < 1 {
		return nil, errors.New("it needs a whole number above 0: truncate: 80")
	}
	return func(v any) (any, error) {
		s := textOf(v)
		if int64(utf8.RuneCountInString(s)) <= most {
			return s, nil
		}
		return string([]rune(s)[:most-1]) + "…", nil
	}, nil
}

func join(argument any) (func(any) (any, error), error) {
	between, is := argument.(string)
	if !is {
		return nil, errors.New("it needs a text: join: ', '")
	}
	return func(v any) (any, error) {
		list, is := v.([]any)
		if !is {
			return nil, fmt.Errorf("it is %s and no list", kindOf(v))
		}
		texts, size := make([]string, len(list)), 0
		for i, item := range list {
			if over(item, maxFilled) {
				return nil, fmt.Errorf("the text would be over %d bytes", maxFilled)
			}
			texts[i] = textOf(item)
			if size += len(texts[i]) + len(between); size > maxFilled {
				return nil, fmt.Errorf("the text would be over %d bytes", maxFilled)
			}
		}
		return strings.Join(texts, between), nil
	}, nil
}

func round(argument any) (func(any) (any, error), error) {
	digits, is := argument.(int64)
	if argument == nil {
		digits, is = 0, true
	}
	if !is || digits < 0 || digits > 15 {
		return nil, errors.New("it needs a number of digits from 0 to 15: round: 2")
	}
	return func(v any) (any, error) {
		switch n := v.(type) {
		case int64:
			return n, nil
		case float64:
			by := math.Pow10(int(digits))
			if r := math.Round(n*by) / by; !math.IsInf(n*by, 0) {
				return r, nil
			}
			return n, nil
		}
		return nil, fmt.Errorf("it is %s and no number", kindOf(v))
	}, nil
}

// dates are the signs of the filter date, and how Go writes them. The longer stand first.
var dates = strings.NewReplacer("YYYY", "2006", "MM", "01", "DD", "02", "hh", "15", "mm", "04", "ss", "05", "MON", "Jan", "DAY", "Mon")

func date(argument any) (func(any) (any, error), error) {
	layout := "YYYY-MM-DD"
	if argument != nil {
		s, is := argument.(string)
		if !is {
			return nil, errors.New("it needs a text of YYYY, MM, DD, hh, mm, ss: date: 'YYYY-MM-DD'")
		}
		layout = s
	}
	return func(v any) (any, error) {
		t, err := time.Parse(time.RFC3339, textOf(v))
		if err != nil {
			return nil, fmt.Errorf("%.40q is no time as RFC 3339 writes it", textOf(v))
		}
		return t.Format(dates.Replace(layout)), nil
	}, nil
}
