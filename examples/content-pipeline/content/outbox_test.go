package content_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pawlrun/pawl/examples/content-pipeline/content"
)

func TestOutboxTakesAKeyOnce(t *testing.T) {
	o := content.Outbox(filepath.Join(t.TempDir(), "outbox.jsonl"))
	for _, key := range []string{"a", "b", "a", "b", "c"} {
		if err := o.Put(content.Message{Key: key, Text: "of " + key}); err != nil {
			t.Fatal(err)
		}
	}
	keysAre(t, o, "a", "b", "c")
}

func TestOutboxCutsOffAHalfWrittenLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.jsonl")
	if err := os.WriteFile(path, []byte("{\"key\":\"a\"}\n{\"key\":\"b\",\"ti"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := content.Outbox(path)
	keysAre(t, o, "a")
	for _, key := range []string{"b", "c"} {
		if err := o.Put(content.Message{Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	keysAre(t, o, "a", "b", "c")
}

func TestOutboxRefusesAForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("buy milk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := content.Outbox(path).Put(content.Message{Key: "a"}); err == nil {
		t.Error("a file that is no outbox was written to")
	}
	if b, _ := os.ReadFile(path); string(b) != "buy milk\n" {
		t.Errorf("the file is now %q", b)
	}
}

func keysAre(t *testing.T, o content.Outbox, want ...string) {
	t.Helper()
	var got []string
	for _, m := range messages(t, o) {
		got = append(got, m.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the outbox holds %q, want %q", got, want)
	}
}
