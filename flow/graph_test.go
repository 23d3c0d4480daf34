package flow_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// wellFormed reads a picture, and returns the texts in it.
func wellFormed(t *testing.T, picture string) (texts []string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		switch token := token.(type) {
		case xml.StartElement:
			for _, a := range token.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q>", token.Name.Local, a.Name.Local, a.Value)
				}
			}
			if token.Name.Local == "script" || token.Name.Local == "foreignObject" {
				t.Errorf("<%s>", token.Name.Local)
			}
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
}

func TestGraphsAsText(t *testing.T) {
	d := &desk{}
	f := parse(t, `{"id": "g", "steps": [
	  {"id": "end-all", "name": "Say \"hi\" 100% <b>", "type": "service", "config": {"service": "desk", "action": "look"}, "onFailure": "fallback", "fallbackStep": "both", "next": [{"when": "output.ok", "to": "both"}, {"to": "fail"}]},
	  {"id": "both", "type": "parallel", "config": {"branches": [{"id": "a", "steps": [{"id": "wait", "type": "wait", "config": {"for": "approval", "onTimeout": "end"}, "next": {"approved": "end", "rejected": "fail"}}]}]}, "next": "end"}]}`, options(t, d))
	want := `flowchart TD
    n1(["start"])
    n2["Say #quot;hi#quot; 100#37; #lt;b#gt;<br/>desk look"]
    subgraph n3["both"]
        subgraph n3b1["a"]
            n4(["start"])
            n5{{"wait<br/>for approval"}}
            n6(["end"])
            n7(["fail"])
            n4 --> n5
            n5 -->|"approved, on timeout"| n6
            n5 -->|"rejected"| n7
        end
    end
    n8(["fail"])
    n9(["end"])
    n1 --> n2
    n2 -->|"output.ok, on failure"| n3
    n2 -->|"else"| n8
    n3 --> n9
`
	if got := f.Graph().Mermaid(); got != want {
		t.Errorf("got\n%s", got)
	}
}

// Whatever a document says, its picture is a picture, and the same each time.
func TestPictures(t *testing.T) {
	hostile := []string{`</text><script>alert(1)</script>`, `"><a href="javascript:x">`, "\\u0000\\ufffe\\u2028", `]]>&amp;<!--`, strings.Repeat("long ", 40)}
	docs := []string{everything, triage}
	for _, h := range hostile {
		h = strings.ReplaceAll(h, `"`, `\"`)
		docs = append(docs, fmt.Sprintf(`{"id": "%s", "name": "%s", "steps": [{"id": "%s", "name": "%s", "type": "wait", "config": {"for": "%s", "onTimeout": "%s"}, "next": {"%s": "gone"}}]}`, h, h, h, h, h, h, h))
	}
	for _, doc := range docs {
		g, err := flow.Sketch([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		picture, err := g.SVG()
		if err != nil {
			t.Fatal(err)
		}
		texts := strings.Join(wellFormed(t, picture), "|")
		if !strings.Contains(texts, "start") {
			t.Errorf("it shows %s", texts)
		}
		for range 5 {
			again, err := flow.Sketch([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if other, err := again.SVG(); err != nil || other != picture || again.Mermaid() != g.Mermaid() {
				t.Errorf("another time it is another picture, %v", err)
			}
		}
		if lines := strings.Split(g.Mermaid(), "\n"); strings.Contains(g.Mermaid(), "<script") || !strings.HasPrefix(lines[0], "flowchart TD") {
			t.Errorf("%s", g.Mermaid())
		}
	}
	g, err := flow.Sketch([]byte(`{"steps": [{"id": "a", "type": "transform", "next": {"x": "nowhere", "y": "a"}}]}`))
	picture, bad := g.SVG()
	if err != nil || bad != nil || !strings.Contains(picture, "there is no such step") || !strings.Contains(g.Mermaid(), "class n3 missing") {
		t.Errorf("%v, %v\n%s", err, bad, g.Mermaid())
	}
	if _, err := flow.Sketch([]byte(`[1]`)); !errors.As(err, new(flow.Problems)) {
		t.Errorf("no flow: %v", err)
	}
}

func TestAPictureHasRoomForSoMuch(t *testing.T) {
	var steps []string
	for i := range 501 {
		steps = append(steps, fmt.Sprintf(`{"id": "s%d", "type": "transform", "config": {"expression": "variables"}, "onFailure": "fallback", "fallbackStep": "s499", "next": "s%d"}`, i, i+1))
	}
	g, err := flow.Sketch([]byte(`{"id": "many", "steps": [` + strings.Join(steps, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.SVG(); !errors.Is(err, pawl.ErrTooLarge) {
		t.Errorf("%d nodes: %v", len(g.Nodes), err)
	}
	g, err = flow.Sketch([]byte(`{"id": "many", "steps": [` + strings.Join(steps[:490], ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if picture, err := g.SVG(); err != nil || len(wellFormed(t, picture)) == 0 {
		t.Error(err)
	}
}
