package spelling

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheLikelyName(t *testing.T) {
	known := []string{"research-agent", "content-pipeline", "rag-agent", "sendMessage", "id", "baseURL"}
	for wrote, want := range map[string]string{
		"researhc-agent":                     "research-agent", // two neighbours changed places
		"ragagent":                           "rag-agent",
		"send_message":                       "sendMessage",
		"Base URL":                           "baseURL",
		"basURl":                             "baseURL",
		"ud":                                 "id",
		"Content":                            "", // the beginning is not the name
		"x":                                  "", // one change makes no name of another that has nothing in common with it
		"":                                   "",
		"sendMessageTwice":                   "sendMessage",
		"größe":                              "",
		strings.Repeat("research-agent", 30): "",
	} {
		if got := Likely(wrote, known); got != want {
			t.Errorf("%q: %q, want %q", wrote, got, want)
		}
	}
	if got := Likely("größe", []string{"grösse", "grosse"}); got != "grösse" {
		t.Errorf("%q", got)
	}
	if got := Likely("agent-b", []string{"agent-a", "agent-c"}); got != "agent-a" {
		t.Errorf("of two that are equally near %q is meant, not the first", got)
	}
}

func TestDistances(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, {"ä", "a", 1}, {strings.Repeat("a", 65), "a", far}, {strings.Repeat("a", 300), strings.Repeat("a", 300), 0}} {
		if got, back := distance(c.a, c.b), distance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q and %q: %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

func TestAChoice(t *testing.T) {
	var many []string
	for i := range 25 {
		many = append(many, fmt.Sprintf("name-number-%02d", i))
	}
	for _, c := range []struct {
		name  string
		names []string
		want  string
	}{
		{"lok", []string{"look", "leave"}, `did you mean "look"?`},
		{"stand", []string{"look", "leave"}, "there are: look, leave"},
		{"x", nil, "there is none at all"},
		{"x", many, "there are: " + strings.Join(many[:20], ", ") + ", …"},
	} {
		before := slices.Clone(c.names)
		if got := Choice(c.name, c.names); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if !slices.Equal(before, c.names) {
			t.Errorf("%s: the names are others now: %v", c.name, c.names)
		}
	}
}
