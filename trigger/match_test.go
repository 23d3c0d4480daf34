package trigger

import (
	"strings"
	"testing"
)

// Whether a number of JSON happens to be whole decides nothing but the digits it keeps.
func TestNumbersInMatches(t *testing.T) {
	const data = `{"n": 150, "whole": 2.0, "f": 1.5, "neg": -3, "big": 9007199254740993, "max": 9223372036854775807, "over": 18446744073709551616, "e": 1e3, "s": "x", "l": [1, 2.5]}`
	for source, want := range map[string]bool{
		"event.data.n > 100":                                 true,
		"event.data.n > 100.5":                               true,
		"event.data.n == 150.0":                              true,
		"event.data.f > 1":                                   true,
		"event.data.f < 1":                                   false,
		"event.data.f >= event.data.n":                       false,
		"event.data.whole == 2":                              true,
		"event.data.e == 1000":                               true,
		"event.data.n + 1 == 151":                            true,
		"event.data.f + 1 == 2.5":                            true,
		"1 + event.data.f == 2.5":                            true,
		"event.data.f - 1 < 1":                               true,
		"2 - event.data.f == 0.5":                            true,
		"event.data.f * 2 == 3":                              true,
		"event.data.n * 1.5 > 224":                           true,
		"event.data.n / 4 == 37":                             true, // ints stay ints
		"event.data.n / 4.0 == 37.5":                         true,
		"3 / event.data.f == 2":                              true,
		"1 + 1.5 == 2.5":                                     true,
		"event.data.neg + 0.5 < -2":                          true,
		"-event.data.f + 2 == 0.5":                           true,
		"event.data.big == 9007199254740993":                 true,
		"event.data.big == 9007199254740992":                 false, // which a double could not tell
		"event.data.big + 1 == 9007199254740994":             true,
		"event.data.big > 9007199254740992":                  true,
		"event.data.max == 9223372036854775807":              true,
		"event.data.over > event.data.max":                   true,
		"event.data.n in [149, 150.0]":                       true,
		"2.5 in event.data.l && 1 in event.data.l":           true,
		"event.data.l.map(x, x + 1) == [2, 3.5]":             true,
		"event.data.s + 'y' == 'xy'":                         true,
		"event.data.l + [3] == [1, 2.5, 3]":                  true,
		"duration('1m') + duration('1s') == duration('61s')": true,
		"event.data.n % 2 == 0":                              true,
	} {
		m, err := ParseMatch(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := m.Fits(t.Context(), "", "", []byte(data)); err != nil || got != want {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
	for source, want := range map[string]string{
		"event.data.max + 1 > 0":     "overflow",
		"event.data.s + 1 > 0":       "+ does not take a text and a whole number",
		"event.data.f % 2 == 1":      "% does not take a fraction",
		"event.data.n / 0 == 1":      "division by zero",
		"event.data.missing + 1 > 0": `no field "missing"`,
	} {
		m, err := ParseMatch(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := m.Fits(t.Context(), "", "", []byte(data)); got || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", source, got, err, want)
		}
	}
}
