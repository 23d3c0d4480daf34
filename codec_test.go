package pawl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What reads itself gets what json.Unmarshal would give it, and its errors.
func TestWhatReadsItselfIsReadAsJSONReadsIt(t *testing.T) {
	t.Parallel()
	for _, in := range []string{`null`, ` null `, `1`, "\t{\"a\": [1, 2]}\r\n", `"2026-11-22T10:00:00Z"`, `"x"`, `[]`, `{`, `1 2`, `nul`, "\"\x01\"", "", " ", "\u00a01", "\v1"} {
		for _, of := range []any{json.RawMessage(nil), time.Time{}, (*time.Time)(nil), map[string]json.RawMessage(nil), "", 0, any(nil)} {
			made := func() reflect.Value {
				if of == nil {
					return reflect.ValueOf(new(any))
				}
				return reflect.New(reflect.TypeOf(of))
			}
			got, want := made(), made()
			err, wantErr := unmarshal([]byte(in), got.Interface()), json.Unmarshal([]byte(in), want.Interface())
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%q as %T: got %v, %v; want %v, %v", in, of, got.Elem(), err, want.Elem(), wantErr)
			}
		}
	}
	data := []byte(`[1]`)
	var kept json.RawMessage
	if err := unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	if data[1] = '2'; string(kept) != "[1]" {
		t.Errorf("it shares the bytes that it was read of: %s", kept)
	}
}

// Measures how what a step of raw JSON has brought is read.
func BenchmarkDecodeRaw(b *testing.B) {
	data := []byte(`{"text": "` + strings.Repeat("a line of a long text; ", 2_000_000/23) + `"}`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var v json.RawMessage
		if err := decode("a result", data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

// given is JSON that is given away.
type given struct{ json.RawMessage }

func (g given) GiveJSON() json.RawMessage { return g.RawMessage }

// A value that gives its JSON away is recorded as json.Marshal would write it, also where it is not copied; no other is shared.
func TestReadyJSONIsAsMarshalWritesIt(t *testing.T) {
	for _, text := range []string{
		`1`, `"a b"`, ` 1`, "{\"a\": 1}", `{"a":[1,"x y",null]}`, `"a\"b c"`, `"a\\"`, `"<"`, `"&"`, "\"\u2028\"", "\"\u2029\"", "\"\u2027é\"", "\"\xe2\"", `{`, ``, `1 2`, "\"\n\"",
	} {
		v := given{json.RawMessage(text)}
		want, err := json.Marshal(v)
		got := ready(v)
		switch {
		case got == nil: // encode does it
		case err != nil:
			t.Errorf("%q: it is %s, and should be refused: %v", text, got, err)
		case !bytes.Equal(got, want):
			t.Errorf("%q: it is %s, not %s", text, got, want)
		}
	}
	large := json.RawMessage(`{"a":[1,"x y",null]}`)
	if &ready(given{large})[0] != &large[0] {
		t.Error("JSON that is given away is copied")
	}
	for _, v := range []any{large, &large, nil, time.Unix(0, 0).UTC(), given{nil}} {
		if data := ready(v); data != nil {
			t.Errorf("%T is not copied: %s", v, data)
		}
	}
}
