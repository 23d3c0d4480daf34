package expr

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common"
)

// syntax makes an error of one of CEL's parser.
func (c *compiler) syntax(fault *common.Error) error {
	message := strings.TrimPrefix(fault.Message, "Syntax error: ")
	e := &Error{Source: c.source, Line: fault.Location.Line(), Column: fault.Location.Column() + 1}
	if strings.HasPrefix(message, "expression recursion limit") {
		limit := &LimitError{"depth", int64(c.env.limits.Depth)}
		return &Error{Source: c.source, Message: limit.Error(), Err: limit}
	}
	if e.Line < 1 {
		e.Line, e.Column = 1, 1
	}
	rest := ""
	if lines := strings.Split(c.source, "\n"); e.Line <= len(lines) {
		line := []rune(lines[e.Line-1])
		at := min(e.Column-1, len(line))
		if at > 0 && line[at-1] == '?' && at < len(line) && line[at] == '?' {
			e.Column, at = e.Column-1, at-1 // a ?? b
		}
		rest = strings.TrimRight(string(line[at:]), "\r")
	}
	e.Message, e.Hint = sayFault(message, rest)
	return e
}

// sayFault says what CEL's parser found in words of this package, given the rest of the line.
func sayFault(message, rest string) (string, string) {
	shown := strings.TrimSpace(rest)
	if r := []rune(shown); len(r) > 20 {
		shown = string(r[:20]) + "…"
	}
	hint := ""
	for _, typical := range []struct{ begins, hint string }{
		{"===", "write =="}, {"!==", "write !="}, {"=>", "write list.map(x, x + 1)"}, {"=", "two values are compared with =="}, {"and ", "write &&"}, {"or ", "write ||"}, {"not ", "write !"},
		{"&", "write &&"}, {"|", "write ||"}, {"<>", "write !="}, {"??", "write default(a, b)"}, {"?.", "write default(a.b, null), or has(a.b)"}, {"`", "other names stand in brackets: a['b-c']"},
		{"++", "write + 1"}, {"\\", ""}, {";", "an expression is one value; there are no statements"}, {"{{", "an expression has no {{ }}"}, {"}}", "an expression has no {{ }}"}, {"$", "names stand without $"},
	} {
		if strings.HasPrefix(strings.TrimSpace(rest)+" ", typical.begins) {
			hint = typical.hint
			break
		}
	}
	switch {
	case strings.Contains(message, "unterminated"):
		return "a text that begins here has no end", "close it with the same quote"
	case strings.HasPrefix(message, "invalid int literal"):
		return "the number does not fit into 64 bits", "write it with a point: 1e20, 12345678901234567890.0"
	case strings.Contains(message, "invalid double"):
		return "the number is too large", ""
	case strings.HasPrefix(message, "reserved identifier: "):
		return fmt.Sprintf("%q is a word of CEL and no name here", strings.TrimPrefix(message, "reserved identifier: ")), "other names stand in brackets: variables['if']"
	case strings.Contains(message, "escape") || strings.Contains(message, "unescape"):
		return "a text has a \\ that means nothing", `write \\, or r'…' for a text in which \ means itself`
	case shown == "":
		return "the expression ends too early", strings.TrimSpace(strings.ReplaceAll(wanted(message), "\n", " "))
	}
	if hint == "" {
		hint = wanted(message)
	}
	return fmt.Sprintf("%q is not expected here", shown), hint
}

// wanted is what the parser was waiting for.
func wanted(message string) string {
	for _, sign := range []string{")", "]", "}", ":"} {
		if strings.Contains(message, "'"+sign+"'") && strings.Contains(message, "expect") {
			return "a " + sign + " is missing"
		}
	}
	return ""
}
