package rag

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

// The corpus is the handbook of an invented tool library. Put your own Markdown files into
// the folder corpus: each paragraph becomes a passage.
//
//go:embed corpus/*.md
var files embed.FS

// Passage is a paragraph of the corpus.
type Passage struct {
	ID   string `json:"id"` // file and number, as in fees#3
	Text string `json:"text"`
}

// corpus is read once: an embedded file cannot fail to be read, and does not change while
// the program runs.
var corpus = passages()

func passages() []Passage {
	entries, err := files.ReadDir("corpus")
	if err != nil {
		panic(err)
	}
	var all []Passage
	for _, e := range entries {
		data, err := files.ReadFile(path.Join("corpus", e.Name()))
		if err != nil {
			panic(err)
		}
		title, body, _ := strings.Cut(string(data), "\n")
		n := 0
		for text := range strings.SplitSeq(body, "\n\n") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			n++
			all = append(all, Passage{
				ID: fmt.Sprintf("%s#%d", strings.TrimSuffix(e.Name(), ".md"), n),
				// The title goes along: a passage is found by what its page is about too.
				Text: strings.TrimPrefix(title, "# ") + ": " + text,
			})
		}
	}
	return all
}
