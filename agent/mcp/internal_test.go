package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// Names are in journals, so the rule by which they are made must never change.
func TestNamesStayAsTheyAre(t *testing.T) {
	for tool, want := range map[string]string{
		"read":                     "files_read",
		"a_b":                      "files_a_b",
		"files/read it":            "files_files_read_it_72c05699",
		"é":                        "files___4a99557e",
		strings.Repeat("x", 58):    "files_" + strings.Repeat("x", 58),
		strings.Repeat("long", 20): "files_" + strings.Repeat("long", 12) + "l_5aa1dce7",
	} {
		if got := nameOf("files", tool); got != want {
			t.Errorf("%q is called %q; want %q", tool, got, want)
		}
	}
	seen := map[string]string{}
	for _, tool := range []string{"a b", "a/b", "a.b", "a_b", "a-b", "a  b", "A b"} {
		name := nameOf("s", tool)
		if other, ok := seen[name]; ok || !modelName.MatchString(name) {
			t.Errorf("%q is called %s, as %q is", tool, name, other)
		}
		seen[name] = tool
	}
}

func TestAResultAsText(t *testing.T) {
	for result, want := range map[string]string{
		`{}`:             "",
		`{"content":[]}`: "",
		`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`:                                        "a\nb",
		`{"structuredContent":[1, 2]}`:                                                                               "[1,2]",
		`{"content":[{"type":"text","text":"{\"n\": 1}"}],"structuredContent":{"n":1}}`:                              `{"n":1}`,
		`{"content":[{"type":"text","text":"{\"n\":9007199254740992}"}],"structuredContent":{"n":9007199254740993}}`: `{"n":9007199254740992}` + "\n" + `{"n":9007199254740993}`,
		`{"content":[{"type":"text","text":"one"}],"structuredContent":{"n":1}}`:                                     "one\n" + `{"n":1}`,
		`{"content":[{"type":"text","text":"` + strings.Repeat("x", 49) + `é"}]}`:                                    strings.Repeat("x", 49) + "…\n[cut: the result has 51 bytes, of which these are the first 49]",
	} {
		if text, err := render(json.RawMessage(result), 50); err != nil || text != want {
			t.Errorf("%s is %q, %v; want %q", result, text, err, want)
		}
	}
	for result, kind := range map[string]Kind{
		`[]`: Malformed, `null`: Malformed, ``: Malformed, `{"content":{}}`: Malformed,
		`{"isError":true}`: Failed, `{"resultType":"input_required"}`: Rejected, `{"inputRequests":{}}`: Rejected,
	} {
		if text, err := render(json.RawMessage(result), 40); err == nil || err.Kind != kind || text != "" {
			t.Errorf("%s is %q, %v; want %s", result, text, err, kind)
		}
	}
}

func TestTheIDOfALineThatIsNotKept(t *testing.T) {
	long := strings.Repeat(`\"}]`, 1000)
	for line, want := range map[string]any{
		`{"jsonrpc":"2.0","id":7,"result":"` + long + `"}`:                            int64(7),
		`{"result":{"id":3,"a":["` + long + `",{"id":4}]}, "id" : 12 }`:               int64(12),
		`{"error":{"message":"` + long + `"},"id":1}`:                                 int64(1),
		`{"method":"x","params":{"result":1,"a":"` + long + `"},"id":5}`:              nil, // a request of theirs
		`{"result":"` + long + `","id":"5"}`:                                          nil, // no id of ours
		`{"result":"` + long + `"}`:                                                   nil,
		`["id",5,"result","` + long + `"]`:                                            nil,
		`{"result":1,"id":99999999999999999999999999999,"x":"` + long + `"}`:          int64(-1),
		`{"result":"` + long + `","identity":5,"id":8}`:                               int64(8),
		`{"a":"id","result":"` + long + `","b":{"id":2},"id":9,"c":[{"id":3}],"d":4}`: int64(9),
	} {
		r := bufio.NewReaderSize(strings.NewReader(line+"\nnext\n"), 64)
		kept, id, err := readMessage(r, 1000)
		if kept != nil || !errors.Is(err, errTooLong) {
			t.Errorf("%.40s: got %d bytes, %v", line, len(kept), err)
		}
		if want == int64(-1) { // any, but no panic
		} else if id.Raw() != want {
			t.Errorf("%.60s: its id is %v; want %v", line, id.Raw(), want)
		}
		if next, _, err := readMessage(r, 1000); string(next) != "next\n" || err != nil {
			t.Errorf("the line after is %q, %v", next, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte("{\"id\":1,\"result\":[\"\\\"\"]}\n\n{\"id\"\n"))
	f.Add([]byte("[{\"jsonrpc\":\"2.0\",\"method\":\"x\"}]\nrubbish"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		for {
			line, id, err := readMessage(r, 50)
			if len(line) > 50 {
				t.Fatalf("a line of %d bytes was kept", len(line))
			}
			var m struct {
				ID     json.RawMessage `json:"id"`
				Result json.RawMessage `json:"result"`
			}
			var plain = regexp.MustCompile(`^\{"id":[1-9][0-9]{0,8},"result":[0-9]*\}\n?$`)
			if plain.Match(line) && json.Unmarshal(line, &m) == nil && !id.IsValid() {
				t.Fatalf("%q has an id", line)
			}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				_, _ = decodeLine(line)
			}
			if errors.Is(err, io.EOF) {
				break
			}
		}
		events := newEvents(io.NopCloser(bytes.NewReader(data)), &exchange{})
		if _, err := io.ReadAll(events); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add([]byte(`{"content":[{"type":"text","text":"a"},{"type":"resource","resource":{"text":"x"}}],"structuredContent":{"a":1e400},"isError":false}`))
	f.Add([]byte(`{"content":null,"structuredContent":"\ud800","inputRequests":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := render(data, 20)
		if err == nil && (!utf8.ValidString(text) || len(text) > 120) {
			t.Fatalf("got %q", text)
		}
		if schemaFlaw(data) == "" && !json.Valid(data) {
			t.Fatalf("%q is taken for a schema", data)
		}
		_ = stubList(data)
		_, _ = (&Server{}).specOf(data)
	})
}
