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
