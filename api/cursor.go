package api

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// A cursor is opaque so that what is in it can change: a word that says of what list it is,
// and where the next page begins.
func mark(list, at string) string { return base64.RawURLEncoding.EncodeToString([]byte(list + at)) }

// readMark reads a cursor of a list; an empty one is the beginning.
func readMark(list, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	at, ok := strings.CutPrefix(string(raw), list)
	if err != nil || !ok || at == "" {
		return "", badRequest("cursor is %q, which is no cursor of this list: take nextCursor of the page before, as it is", cursor)
	}
	return at, nil
}

// readNumber reads a cursor that holds a positive number; an empty one is 0.
func readNumber(list, cursor string) (int64, error) {
	at, err := readMark(list, cursor)
	if err != nil || at == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n <= 0 {
		return 0, badRequest("cursor is %q, which is no cursor of this list: take nextCursor of the page before, as it is", cursor)
	}
	return n, nil
}
