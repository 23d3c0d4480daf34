package service_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/service"
)

// secrets are such as people have: with signs that each way of writing escapes.
var secrets = []string{
	"sk-live-4f9a8b7c6d", "hunter2", "p@ss/w+rd&x=<1>", `quo"te\slash`, "pässwörd-ключ-🔑", "a b c d e f", "123456789", "ends with newline\n",
}

func TestASecretIsTakenOutInEachForm(t *testing.T) {
	for _, secret := range secrets {
		r := service.NewRedactor("unrelated-secret", secret)
		bare := strings.TrimSpace(secret)
		quoted, _ := json.Marshal(bare)
		forms := map[string]string{
			"as it is":            bare,
			"query":               url.QueryEscape(bare),
			"path":                url.PathEscape(bare),
			"user of an address":  strings.TrimPrefix(url.UserPassword("u", bare).String(), "u:"),
			"JSON":                strings.Trim(string(quoted), `"`),
			"hex":                 hex.EncodeToString([]byte(bare)),
			"HEX":                 fmt.Sprintf("%X", bare),
			"all that is escaped": strings.ReplaceAll(url.QueryEscape(bare), "+", "%20"),
		}
		for around := range 4 {
			before := "user:name"[:around]
			for name, e := range map[string]*base64.Encoding{"std": base64.StdEncoding, "url": base64.URLEncoding, "raw": base64.RawStdEncoding} {
				forms[fmt.Sprintf("base64 %s behind %d", name, around)] = e.EncodeToString([]byte(before + bare))
				forms[fmt.Sprintf("base64 %s between %d", name, around)] = e.EncodeToString([]byte(before + bare + ":behind"))
			}
		}
		for name, text := range forms {
			got := r.Text("before " + text + " behind")
			if !strings.Contains(got, service.Redacted) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " behind") {
				t.Errorf("%q as %s: %q became %q", secret, name, text, got)
			}
			if !strings.HasPrefix(name, "base64") && got != "before [secret] behind" {
				t.Errorf("%q as %s: %q became %q", secret, name, text, got)
			}
		}
	}
}

// What is left of base64 around a secret tells nothing of it.
func TestOfBase64NoBitOfTheSecretIsLeft(t *testing.T) {
	const secret = "0123456789abcdef"
	r := service.NewRedactor(secret)
	for before := range 6 {
		for behind := range 6 {
			rest := func(secret string) string {
				return base64.StdEncoding.EncodeToString([]byte("......"[:before] + secret + "......"[:behind]))
			}
			got := r.Text(rest(secret))
			left, right, found := strings.Cut(got, service.Redacted)
			other := rest("XXXXXXXXXXXXXXXX")
			if !found || !strings.HasPrefix(other, left) || !strings.HasSuffix(other, right) {
				t.Errorf("with %d before and %d behind: %q", before, behind, got)
			}
		}
	}
}

func TestShortSecretsDoNotTakeWordsApart(t *testing.T) {
	r := service.NewRedactor("no", "", "   ", "pass", "12345")
	for in, want := range map[string]string{
		"no way":                "no way",
		"the pass is pass":      "the [secret] is [secret]",
		"password, compass":     "password, compass",
		"pin=12345&x=123456":    "pin=[secret]&x=123456",
		"überpass pass-through": "überpass [secret]-through",
	} {
		if got := r.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestSecretsThatOverlapLeaveNothing(t *testing.T) {
	r := service.NewRedactor("abcdefgh", "efghijkl", "abcdef", "aaaaaaaa")
	for in, want := range map[string]string{
		"xabcdefghijklx":          "x[secret]x",
		"abcdefabcdefgh":          "[secret][secret]",
		strings.Repeat("a", 1000): "[secret]",
		"abcde":                   "abcde",
		"":                        "",
	} {
		if got := r.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// Who quotes a text may cut it off within a secret: of that, no beginning is left before the ellipsis.
func TestTheBeginningOfASecretBeforeAnEllipsis(t *testing.T) {
	r := service.NewRedactor("correct-horse-battery", "tiny5")
	for in, want := range map[string]string{
		"Key correct-horse-bat…":         "Key [secret]…",
		"Key correct-horse-battery…":     "Key [secret]…",
		"a corrcorrect-h... (HTTP 503)":  "a corr[secret]... (HTTP 503)",
		"correct-correct-h…":             "correct-[secret]…",
		"Y29ycmVjdC1ob3Jz…, correct-ho…": "[secret]…, [secret]…",
		"it is corre… and tin…":          "it is corre… and tin…",
		"correct-horse and more…":        "correct-horse and more…",
		"…":                              "…",
	} {
		if got := r.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	began := time.Now()
	r.Text(strings.Repeat("correct-hors…", 1<<20/15))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestLinesOfAKeyAreSecrets(t *testing.T) {
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----\n"
	if got := service.NewRedactor(key).Text("bad line: EFAASCBKcwggSjAgEAAoIBAQ (3)"); got != "bad line: [secret] (3)" {
		t.Error(got)
	}
}

// An address that is a secret is told in errors without its query, and its query without the rest.
func TestPartsOfAnAddressAreSecrets(t *testing.T) {
	for _, secret := range []string{"https://discord.example/api/webhooks/123/tok-en-tok-en?wait=true", "HTTPS://discord.example/api/webhooks/123/tok-en-tok-en", "https://discord.example/api/webhooks/123/tok-en-tok-en#x"} {
		r := service.NewRedactor(secret)
		for _, text := range []string{"%s", "POST %s: no answer", "%s/more"} {
			if got, want := r.Text(fmt.Sprintf(text, "https://discord.example/api/webhooks/123/tok-en-tok-en")), fmt.Sprintf(text, "[secret]"); got != want {
				t.Errorf("of %s: %s, want %s", secret, got, want)
			}
		}
		if text := "https://discord.example/api is down"; r.Text(text) != text {
			t.Errorf("of %s: %s", secret, r.Text(text))
		}
	}
	r := service.NewRedactor("https://logic.example/run?version=2026-01-01&sig=AbCdEf0123456789%2Bx")
	if got := r.Text(`{"version": "2026-01-01", "sig": "AbCdEf0123456789+x", "raw": "AbCdEf0123456789%2Bx"}`); got != `{"version": "2026-01-01", "sig": "[secret]", "raw": "[secret]"}` {
		t.Error(got)
	}
	if text := "https://logic.example/ is there"; service.NewRedactor("https://logic.example/?key=1234").Text(text) != text {
		t.Error("what is no secret is taken out")
	}
	r = service.NewRedactor("postgres://pawl:pass-of-the-role@db.example/x")
	if got := r.Text("password pass-of-the-role is wrong"); got != "password [secret] is wrong" {
		t.Error(got)
	}
}

func TestJSONIsCleanedAsItReads(t *testing.T) {
	r := service.NewRedactor("hunter2", "123456789", `quo"te\slash`)
	for in, want := range map[string]string{
		`{"a": "x hunter2 y", "n":1.50, "b":[1e3,null,true]}`: `{"a": "x [secret] y", "n":1.50, "b":[1e3,null,true]}`,
		`{"hunter2":1}`:                     `{"[secret]":1}`,
		`["\u0068unter\u0032"]`:             `["[secret]"]`,
		`[123456789, -1234567890, 12]`:      `["[secret]", "-[secret]0", 12]`,
		`"quo\"te\\slash"`:                  `"[secret]"`,
		`{"nested":"{\"a\":\"hunter2\"}"}`:  `{"nested":"{\"a\":\"[secret]\"}"}`,
		"[\n  \"hunter2\" ,\n\t\"<ok>\"\n]": "[\n  \"[secret]\" ,\n\t\"<ok>\"\n]",
		`9007199254740993`:                  `9007199254740993`,
	} {
		got, err := r.JSON(json.RawMessage(in))
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("%s became %s (%v), want %s", in, got, err, want)
		}
	}
	got, err := r.JSON(map[string]any{"token": "hunter2", "n": 1})
	if err != nil || string(got) != `{"n":1,"token":"[secret]"}` {
		t.Errorf("%s %v", got, err)
	}
	if _, err := r.JSON(json.RawMessage(`{"a":`)); err == nil {
		t.Error("what is no JSON was taken")
	}
	if _, err := r.JSON(make(chan int)); err == nil {
		t.Error("what JSON can't say was taken")
	}
}

func TestAnErrorKeepsWhatAnEngineAsks(t *testing.T) {
	r := service.NewRedactor("hunter2")
	clean := fmt.Errorf("nothing here: %w", context.Canceled)
	if r.Error(clean) != clean || r.Error(nil) != nil {
		t.Error("an error without secrets is another one")
	}
	hidden := &service.Error{Code: service.RateLimited, Message: "slow down", Status: 429, After: time.Minute, Err: fmt.Errorf("key hunter2: %w", context.DeadlineExceeded)}
	for _, err := range []error{
		hidden, // only its cause tells
		fmt.Errorf("call of hunter2: %w", hidden),
		errors.Join(errors.New("first"), hidden),
	} {
		got := r.Error(err)
		for e := got; e != nil; e = errors.Unwrap(e) {
			for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q"} {
				if strings.Contains(fmt.Sprintf(verb, e), "hunter2") {
					t.Errorf("%s shows %s", verb, fmt.Sprintf(verb, e))
				}
			}
		}
		var known *service.Error
		if !errors.As(got, &known) || known.Code != service.RateLimited || known.Status != 429 || known.Err != nil {
			t.Errorf("%v is no *Error as before: %+v", got, known)
		}
		var asks interface {
			Fatal() bool
			ErrorCode() string
			RetryAfter() (time.Duration, bool)
		}
		if !errors.As(got, &asks) || asks.Fatal() || asks.ErrorCode() != service.RateLimited {
			t.Errorf("%v lost what it says", got)
		}
		if after, is := asks.RetryAfter(); !is || after != time.Minute {
			t.Errorf("try again after %v %v", after, is)
		}
		if !errors.Is(got, context.DeadlineExceeded) || errors.Is(got, context.Canceled) {
			t.Errorf("%v is another sentinel", got)
		}
	}
	if got := r.Error(&service.Error{Code: service.Denied, Message: "hunter2 is wrong"}); got.Error() != "[secret] is wrong" {
		t.Error(got)
	}
}

func TestARedactorShowsNoSecret(t *testing.T) {
	r := service.NewRedactor("hunter2")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, r); strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyM") {
			t.Errorf("%s: %s", verb, text)
		}
	}
	var none *service.Redactor
	if none.Text("hunter2") != "hunter2" || none.String() == "" || none.Error(clean) != clean {
		t.Error("a nil one does something")
	}
	if data, err := none.JSON("x"); err != nil || string(data) != `"x"` {
		t.Errorf("%s %v", data, err)
	}
}

var clean = errors.New("clean")

// A large answer with a secret that begins at every byte is cleaned in time that grows with it.
func TestALargeAnswerIsCleanedInTime(t *testing.T) {
	r := service.NewRedactor(strings.Repeat("a", 64), "sk-live-4f9a8b7c6d")
	begun := time.Now()
	if got := r.Text(strings.Repeat("a", 4<<20)); got != service.Redacted {
		t.Errorf("%d bytes are left", len(got))
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func FuzzNoSecretIsLeft(f *testing.F) {
	f.Add("sk-live-4f9a8b7c6d", "x", "y")
	f.Add("\xff\xfe\xfd\xfc\xfb\xfa", "\"", "%")
	f.Fuzz(func(t *testing.T, secret, before, behind string) {
		r := service.NewRedactor(secret)
		secret = strings.TrimSpace(secret)
		if len(secret) < 6 || strings.Contains(service.Redacted, secret) || strings.Contains(secret, service.Redacted) {
			return
		}
		got := r.Text(before + secret + behind)
		if !strings.Contains(got, service.Redacted) || !strings.Contains(before+service.Redacted+behind, service.Redacted) {
			t.Errorf("%q in %q", secret, got)
		}
		data, err := r.JSON(map[string]string{"a": before + secret + behind})
		if err != nil || !json.Valid(data) {
			t.Errorf("%s %v", data, err)
		}
	})
}

// What holds no secret is not copied; what may hold one is read value by value, and then is clean.
func TestJSONWithoutSecretsIsNotCopied(t *testing.T) {
	r := service.NewRedactor("hunter2-hunter2")
	for _, text := range []string{`{"a":["b",1]}`, `"a\nb"`, `"cut off…"`, `"hunter2"`} {
		data := json.RawMessage(text)
		got, err := r.JSON(data)
		if err != nil || &got[0] != &data[0] {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for _, text := range []string{`{"hunter2-hunter2":1}`, `"hunter2\u002dhunter2"`, `"a hunter2-hun…"`, `"a hunter2-hun..."`} {
		got, err := r.JSON(json.RawMessage(text))
		if err != nil || strings.Contains(string(got), "hunter2") || !strings.Contains(string(got), service.Redacted) {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for _, v := range []any{"plain", "", "a \"b\"", "<é>", "\x00", "\xff", json.RawMessage(nil), nil, 1.5} {
		want, _ := json.Marshal(v)
		got, err := service.NewRedactor().JSON(v)
		if err != nil || string(got) != string(want) {
			t.Errorf("%q is %s, %v; want %s", v, got, err, want)
		}
	}
}
