package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Read returns the answer that text gives, as JSON: of OneOf and Text a string, of the others
// what their names say. It is the canonical form, whatever the model made of it: for every
// shape but Text, reading it again returns it.
//
// What models put around an answer is forgiven: white space, a leading <think> block, fences,
// the wrapper of Schema, and what OneOf, Number, Boolean and JSON tell. Read never chooses:
//   - an answer that mentions one value of OneOf as a whole word, in up to 100 words and 4 KiB, is that
//     value; one that mentions two, or has a word of negation or doubt in it, is an error
//   - "4/5", "4 out of 5", "about 4", "1,000", "0x4" and "NaN" are no numbers, "Severity: 4" is 4
//   - text with two JSON values in it, or with an object that has a member twice, is no JSON
//
// The error is an *AnswerError. An answer over 1 MiB is one too, and JSON that is nested deeper
// than 64 or that would take very long to validate, as the alternatives of a recursive schema can make it.
func (s *Shape) Read(text string) (json.RawMessage, error) {
	v, why := s.tree(text)
	if why != "" {
		return nil, s.unfit(text, why)
	}
	return encode(v), nil
}

// ReadAs is Read that decodes the answer into a T. Members that the schema allows and T does
// not have are dropped. A value that does not fit T is an *AnswerError.
func ReadAs[T any](s *Shape, text string) (T, error) {
	var v T
	data, err := s.Read(text)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		var none T
		return none, s.unfit(text, "it does not fit: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return v, nil
}

func (s *Shape) unfit(text, why string) *AnswerError {
	e := &AnswerError{Want: s.want, Why: why, Size: len(text)}
	if strings.TrimSpace(text) != "" {
		e.Got = excerpt(strings.TrimSpace(text), 300)
	}
	return e
}

func (s *Shape) tree(text string) (any, string) {
	if len(text) > maxAnswer {
		return nil, fmt.Sprintf("it is %d bytes long, the limit is %d", len(text), maxAnswer)
	}
	text = strings.TrimFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' })
	if s.wish != nil || s.schema != nil {
		text = withoutThoughts(text)
	}
	if text == "" {
		return nil, "it is empty"
	}
	return s.read(text)
}

// scalar returns the words of an answer that is no object: out of its fence, its quotes, its
// wrapper.
func scalar(text string) (words, around, why string) {
	words, around = unfenced(text)
	v, err := parseWhole(words, 2)
	if _, ok := v.(json.Number); ok && err == nil {
		return words, around, "" // as it is written
	}
	if err != nil {
		found, more, broken := values(words, 2, false)
		switch {
		case more:
			return "", "", "it holds more than one JSON value"
		case broken != nil:
			return "", "", "it holds no JSON that can be read: " + broken.Error()
		case len(found) == 0:
			return words, around, ""
		}
		v = found[0]
	}
	if o, ok := v.(object); ok && len(o) == 1 && o[0].key == wrapper {
		v = o[0].value
	}
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v), "", ""
	case json.Number, bool:
		return fmt.Sprint(v), "", ""
	}
	return "", "", "it is JSON of another kind: " + kindOf(v)
}

// label splits "Severity: 4": a single line with words before its colon.
func label(text string) (before, after string, ok bool) {
	before, after, ok = strings.Cut(text, ":")
	return before, after, ok && labels.MatchString(before) && !strings.ContainsAny(after, ":\n?")
}

var labels = regexp.MustCompile(`^[\pL\pM\pZ'’"_*#()-]{1,60}$`)

const maxWords = 4 << 10 // bytes of an answer that is one of some values, with all that is said about it

func readValue(text string, known []value) (any, string) {
	words, around, why := scalar(text)
	if why != "" {
		return nil, why
	}
	if len(words) > maxWords {
		return nil, "it is too long to be one of the values"
	}
	found := ""
	folded := fold(words)
	for _, v := range known { // no two of them are the same under the fold
		if v.text == words || v.folded == folded && !strings.Contains(words, "[ ]") {
			found = v.text
		}
	}
	if before, after, ok := label(words); found == "" && ok {
		for _, v := range known {
			switch v.folded {
			case fold(before):
				return nil, "it names more than one of the values"
			case fold(after):
				found, around = v.text, around+" "+before
			}
		}
	}
	if found == "" {
		if found, why = mentioned(words, known); found == "" {
			return nil, why
		}
	}
	if other, _ := mentioned(around, known); other != "" && other != found || !calm(around) {
		return nil, "it can be read in more than one way"
	}
	return found, ""
}

// calm reports that no word of text casts doubt on what stands beside it.
func calm(text string) bool {
	for _, t := range tokens(text) {
		if slices.ContainsFunc(t, doubtful) {
			return false
		}
	}
	return !strings.ContainsAny(text, "?？")
}

var number = regexp.MustCompile(`^[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$`)

func readNumber(text string, r Range) (any, string) {
	words, around, why := scalar(text)
	if why != "" {
		return nil, why
	}
	if before, after, ok := label(words); ok {
		words, around = after, around+" "+before
	}
	words = undecorated(words)
	if !number.MatchString(words) || !calm(around) || strings.ContainsFunc(around, unicode.IsNumber) {
		return nil, "it is not just one number"
	}
	n, err := plainNumber(json.Number(strings.TrimPrefix(words, "+")))
	switch {
	case err != nil:
		return nil, err.Error()
	case r.Integer && !isWhole(n):
		return nil, fmt.Sprintf("%s is no integer", n)
	case !r.holds(n):
		return nil, fmt.Sprintf("%s is not %s", n, r.words())
	}
	return n, ""
}

// isWhole reports whether n, which plainNumber returned, is an integer; one of over 20 digits
// that is written with an exponent is not taken for one.
func isWhole(n json.Number) bool { return !strings.ContainsAny(string(n), ".eE") }

func readBoolean(text string) (any, string) {
	words, around, why := scalar(text)
	if why != "" {
		return nil, why
	}
	if before, after, ok := label(words); ok {
		words, around = after, around+" "+before
	}
	if calm(around) {
		switch strings.ToLower(undecorated(words)) {
		case "true", "yes":
			return true, ""
		case "false", "no":
			return false, ""
		}
	}
	return nil, "it is neither true nor false"
}

// undecorated drops quotes and markdown around text, and a full stop behind it.
func undecorated(text string) string {
	const around = " \t\r\n*_`\"'“”‘’"
	return strings.Trim(strings.TrimSuffix(strings.Trim(text, around), "."), around)
}

// readJSON finds the JSON in text, and mends and validates it.
func (s *Shape) readJSON(text string, root object, wrapped bool) (any, string) {
	v, why := onlyJSON(text, root)
	if why != "" {
		return nil, why
	}
	tries := []any{v}
	if o, ok := v.(object); ok && wrapped && len(o) == 1 && o[0].key == wrapper {
		tries = append(tries, o[0].value)
	}
	if tooMuch(root, v) {
		return nil, "it is nested too deep for the alternatives of the schema"
	}
	for i, try := range tries {
		err := s.schema.Validate(loose(try))
		if err != nil {
			mended := mend(root, root, try, maxAnswerDepth)
			if err = s.schema.Validate(loose(mended)); err == nil {
				try = mended
			}
		}
		if err == nil {
			return fixed(try)
		}
		if i == len(tries)-1 {
			return nil, "it is not what the schema allows: " + faults(err)
		}
	}
	return nil, ""
}

// fixed returns v if it is read back as itself.
func fixed(v any) (any, string) {
	data := encode(v)
	again, err := parseWhole(string(data), maxAnswerDepth)
	if err != nil || !bytes.Equal(encode(again), data) {
		return nil, "it does not read back as it was written"
	}
	return v, ""
}
