package sqlite

import (
	"path/filepath"
	"testing"
)

// The settings of docs/store.md are those that its connections have.
func TestConnectionsHaveTheirSettings(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "pawl.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reader := <-s.readers
	defer func() { s.readers <- reader }()
	for _, of := range []struct {
		name string
		c    *conn
		want map[string]int64
	}{
		{"the one that writes", s.w, map[string]int64{"cache_size": -32768, "synchronous": 2, "query_only": 0, "busy_timeout": 5000, "temp_store": 2, "page_size": 4096}},
		{"one that reads", reader, map[string]int64{"cache_size": -8192, "query_only": 1, "busy_timeout": 5000, "temp_store": 2}},
	} {
		for name, want := range of.want {
			got := int64(-1)
			if err := of.c.query("PRAGMA "+name, nil, func(r row) error { got = r.int(0); return nil }); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s has %s %d, want %d", of.name, name, got, want)
			}
		}
	}
}
