package flow

import (
	"encoding/json"
	"strings"
	"testing"
)

// Texts are read as encoding/json reads them, also those for which there is a shorter way.
func TestTextsAreReadAsJSONReadsThem(t *testing.T) {
	for _, in := range []string{
		`""`, `"a"`, ` "a" `, "\t\"a\"\n", `"ä€𝄞"`, `"a\nb"`, `"a\"b"`, `"\\"`, `"\u0041"`, `"\ud83d\ude00"`, `"\ud800"`, `"/"`, `"</script>"`, "\"\u2028\u007f\"", "\"\xff\"", "\"a\xc3\"", "\"\xed\xa0\x80\"",
		`"`, `"a`, `a"`, `"\"`, `"\x"`, "\"a\nb\"", "\"\x00\"", "\"\x1f\"", "\"\t\"", `'a'`,
		`"` + strings.Repeat("x", 3000) + `"`, `"` + strings.Repeat("é", 3000) + "\x01" + `"`,
	} {
		var want string
		wantErr := json.Unmarshal([]byte(in), &want)
		got, err := decode([]byte(in))
		if (err == nil) != (wantErr == nil) || err == nil && got != want {
			t.Errorf("%.40q: got %.40q, %v; want %.40q, %v", in, got, err, want, wantErr)
		}
	}
}

// Measures what a step brings that is a long text.
func BenchmarkDecodeText(b *testing.B) {
	data := []byte(`"` + strings.Repeat("a line of a long text; ", 2_000_000/23) + `"`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

// What is refused before it is read would be refused when it was.
func TestAtLeastIsNoMoreThanTheSize(t *testing.T) {
	for _, text := range []string{
		`null`, `1`, `"text"`, `"{[{[\"{["`, `{}`, `[]`, `{"a":1}`, `[[],[[]],{}]`, `[{"a":1},{"a":{"b":[1]}}]`, ` { "a" : [ { "b" : "\\" } ] }`, `{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}`,
	} {
		v, err := decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if least, size := atLeast([]byte(text)), sizeOf(v, 1<<30); least > size {
			t.Errorf("%s takes %d bytes, and not %d or more", text, size, least)
		}
	}
	if objects := `[` + strings.Repeat(`{"a":1},`, 999) + `{"a":1}]`; atLeast([]byte(objects)) < 300_000 {
		t.Error("small objects are not told")
	}
}
