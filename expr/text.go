package expr

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// textFunctions count characters, not bytes.
var textFunctions = map[string]function{
	"contains":   {"text.contains(part)", []kinds{textKind, textKind}, 2, false, boolKind, find(strings.Contains)},
	"startsWith": {"text.startsWith(part)", []kinds{textKind, textKind}, 2, false, boolKind, find(strings.HasPrefix)},
	"endsWith":   {"text.endsWith(part)", []kinds{textKind, textKind}, 2, false, boolKind, find(strings.HasSuffix)},
	"matches":    {"text.matches(pattern)", []kinds{textKind, textKind}, 2, false, boolKind, matches},
	"lower":      {"lower(text)", []kinds{textKind}, 1, false, textKind, changed(strings.ToLower)},
	"upper":      {"upper(text)", []kinds{textKind}, 1, false, textKind, changed(strings.ToUpper)},
	"lowerAscii": {"lowerAscii(text)", []kinds{textKind}, 1, false, textKind, changed(ascii('A', 'Z', 'a'-'A'))},
	"upperAscii": {"upperAscii(text)", []kinds{textKind}, 1, false, textKind, changed(ascii('a', 'z', 'A'-'a'))},
	"trim":       {"trim(text)", []kinds{textKind}, 1, false, textKind, trim},
	"split":      {"text.split(between, most?)", []kinds{textKind, textKind, intKind}, 2, false, listKind, split},
	"join":       {"list.join(between?)", []kinds{listKind, textKind}, 1, false, textKind, join},
	"replace":    {"text.replace(old, new, most?)", []kinds{textKind, textKind, textKind, intKind}, 3, false, textKind, replace},
	"substring":  {"text.substring(from, to?)", []kinds{textKind, intKind, intKind}, 2, false, textKind, substring},
	"charAt":     {"text.charAt(index)", []kinds{textKind, intKind}, 2, false, textKind, charAt},
	"indexOf":    {"text.indexOf(part, from?)", []kinds{textKind, textKind, intKind}, 2, false, intKind, indexOf},
}

func find(in func(s, part string) bool) func(*machine, []any) (any, error) {
	return func(m *machine, args []any) (any, error) {
		s, part := args[0].(string), args[1].(string)
		if err := m.scan(len(s)); err != nil {
			return nil, err
		}
		return in(s, part), nil
	}
}

// changed is for what makes a text that is about as long as the one it is given.
func changed(change func(string) string) func(*machine, []any) (any, error) {
	return func(m *machine, args []any) (any, error) {
		s := args[0].(string)
		if err := m.step(len(s) / 16); err != nil { // case takes longer than looking
			return nil, err
		}
		if err := m.text(len(s)); err != nil {
			return nil, err
		}
		out := change(s)
		return out, m.produce(max(0, len(out)-len(s))) // some letters have longer ones; none more than 3 times
	}
}

func ascii(from, to rune, by rune) func(string) string {
	return func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= from && r <= to {
				return r + by
			}
			return r
		}, s)
	}
}

func trim(m *machine, args []any) (any, error) {
	s := args[0].(string)
	if err := m.scan(len(s)); err != nil {
		return nil, err
	}
	return strings.TrimSpace(s), m.produce(textBytes)
}

func split(m *machine, args []any) (any, error) {
	s, between := args[0].(string), args[1].(string)
	most := int64(-1)
	if len(args) == 3 {
		most = args[2].(int64)
	}
	if err := m.scan(len(s)); err != nil {
		return nil, err
	}
	parts := int64(strings.Count(s, between)) + 1
	if between == "" {
		parts-- // Count counts the place at the end
	}
	if most >= 0 {
		parts = min(parts, most)
	}
	if err := m.step(int(parts)); err != nil {
		return nil, err
	}
	if err := m.produce(int(parts) * 2 * (slotBytes + textBytes)); err != nil {
		return nil, err
	}
	out := []any{}
	for _, part := range strings.SplitN(s, between, int(min(max(most, -1), 1<<31))) {
		out = append(out, part)
	}
	return out, nil
}

func join(m *machine, args []any) (any, error) {
	list, between := args[0].([]any), ""
	if len(args) == 2 {
		between = args[1].(string)
	}
	if err := m.list0(len(list)); err != nil {
		return nil, err
	}
	texts := make([]string, len(list))
	size := 0
	for i, item := range list {
		v, err := settle(item)
		if err != nil {
			return nil, operand("%v", err)
		}
		s, is := scalarText(v)
		if !is {
			return nil, operand("item %d is %s and no text", i, kindOf(v))
		}
		texts[i] = s
		if size += len(s); i > 0 {
			size += len(between)
		}
		if size > m.program.limits.Bytes {
			return nil, m.produce(size)
		}
	}
	if err := m.text(size); err != nil {
		return nil, err
	}
	return strings.Join(texts, between), nil
}

func replace(m *machine, args []any) (any, error) {
	s, old, with := args[0].(string), args[1].(string), args[2].(string)
	most := int64(-1)
	if len(args) == 4 {
		most = args[3].(int64)
	}
	if err := m.scan(len(s)); err != nil {
		return nil, err
	}
	times := int64(strings.Count(s, old))
	if most >= 0 {
		times = min(times, most)
	}
	if err := m.step(int(times)); err != nil {
		return nil, err
	}
	size := int64(len(s)) - times*int64(len(old))
	if more := int64(len(with)); times > 0 && more > (1<<40)/times {
		size = 1 << 40
	} else {
		size += times * more
	}
	if err := m.text(int(size)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, with, int(times)), nil
}

// offset is the byte at which a character begins; len(s) for the one behind the last.
func offset(s string, character int64) (int, bool) {
	if character < 0 || character > int64(len(s)) {
		return 0, false
	}
	for i := range s {
		if character == 0 {
			return i, true
		}
		character--
	}
	return len(s), character == 0
}

func substring(m *machine, args []any) (any, error) {
	s := args[0].(string)
	if err := m.scan(4 * len(s)); err != nil {
		return nil, err
	}
	from, is := offset(s, args[1].(int64))
	to := len(s)
	if is && len(args) == 3 {
		to, is = offset(s, args[2].(int64))
	}
	if !is || from > to {
		return nil, operand("%s is not within the text, which has %d characters", bounds(args[1:]), utf8.RuneCountInString(s))
	}
	return s[from:to], m.produce(textBytes)
}

func bounds(args []any) string {
	if len(args) == 1 {
		return fmt.Sprint(args[0])
	}
	return fmt.Sprintf("%d to %d", args[0], args[1])
}

func charAt(m *machine, args []any) (any, error) {
	s := args[0].(string)
	if err := m.scan(4 * len(s)); err != nil {
		return nil, err
	}
	at, is := offset(s, args[1].(int64))
	if !is {
		return nil, operand("%d is not within the text, which has %d characters", args[1], utf8.RuneCountInString(s))
	}
	_, size := utf8.DecodeRuneInString(s[at:])
	return s[at : at+size], m.produce(textBytes)
}

func indexOf(m *machine, args []any) (any, error) {
	s, part := args[0].(string), args[1].(string)
	if err := m.scan(4 * len(s)); err != nil {
		return nil, err
	}
	from := int64(0)
	if len(args) == 3 {
		from = args[2].(int64)
	}
	at, is := offset(s, from)
	if !is {
		return nil, operand("%d is not within the text", from)
	}
	i := strings.Index(s[at:], part)
	if i < 0 {
		return int64(-1), nil
	}
	return from + int64(utf8.RuneCountInString(s[at:at+i])), nil
}
