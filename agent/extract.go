package agent

import (
	"regexp"
	"slices"
	"strings"
)

// withoutThoughts drops the block that models write while they reason, where it comes first.
func withoutThoughts(text string) string {
	if rest, ok := strings.CutPrefix(text, "<think>"); ok {
		_, text, _ = strings.Cut(rest, "</think>")
	}
	return strings.TrimSpace(text)
}

var fences = regexp.MustCompile("(?ms)^[ \t]*```[^\n`]*\n(.*?)\n?[ \t]*```[ \t]*$")

// unfenced returns what is in the only fence of text and what is around it.
func unfenced(text string) (inside, around string) {
	found := fences.FindAllStringSubmatchIndex(text, 2)
	if len(found) != 1 {
		return text, ""
	}
	f := found[0]
	return strings.TrimSpace(text[f[2]:f[3]]), strings.TrimSpace(text[:f[0]] + " " + text[f[1]:])
}

// onlyJSON returns the one JSON value in text. Text may be around an object or an array, and
// a fence around any value.
func onlyJSON(text string, root object) (any, string) {
	inside, around := unfenced(text)
	v, err := parseWhole(inside, maxAnswerDepth)
	if err == nil && !strings.ContainsAny(around, "{[") {
		return v, ""
	}
	lists := len(kinds(root)) == 0 || slices.Contains(kinds(root), "array")
	found, more, broken := values(text, maxAnswerDepth, lists)
	switch {
	case more:
		return nil, "it holds more than one JSON value"
	case len(found) == 1:
		return found[0], ""
	case broken != nil:
		err = broken
	case err == nil:
		return v, ""
	}
	return nil, "it holds no JSON that can be read: " + err.Error()
}

// values returns the first object or array in text, and whether there is another. Arrays
// without an object in them, such as [1], count only where lists are looked for. What looks
// like JSON and is broken is an error: a part of it is not the answer.
func values(text string, depth int, lists bool) (found []any, more bool, err error) {
	for at := 0; ; {
		i := strings.IndexAny(text[at:], "{[")
		if i < 0 {
			return found, false, nil
		}
		at += i
		v, end, err := parse(text[at:], depth)
		if err != nil {
			next := strings.TrimLeft(text[at+1:], " \t\r\n")
			end = closing(text[at:])
			if end == 0 || next != "" && strings.IndexByte(`"'{[`, next[0]) >= 0 {
				return nil, false, err
			}
			at += end
			continue
		}
		if lists || text[at] == '{' || strings.Contains(text[at:at+end], "{") {
			if found = append(found, v); len(found) > 1 {
				return nil, true, nil
			}
		}
		at += end
	}
}

// closing returns the index after the bracket that closes the one with which text begins,
// those in quotes left out; 0 if there is none.
func closing(text string) int {
	open, shut, level, quoted := text[0], text[0]+2, 0, false // [ and ], { and }
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == open && !quoted:
			level++
		case c == shut && !quoted:
			if level--; level == 0 {
				return i + 1
			}
		}
	}
	return 0
}
