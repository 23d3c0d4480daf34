package pawl_test

import (
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

func TestPrefixEnd(t *testing.T) {
	for prefix, want := range map[string]string{
		"": "", "a": "b", "ab/": "ab0", "a\U0010FFFF": "b", "\U0010FFFF": "", "x\ud7ff": "x\ue000", "é": "ê",
	} {
		got := pawl.PrefixEnd(prefix)
		if got != want {
			t.Errorf("after %q comes %q, want %q", prefix, got, want)
		}
		for _, tail := range []string{"", "a", "\U0010FFFF\U0010FFFF"} {
			if got != "" && (prefix+tail >= got || strings.HasPrefix(got, prefix)) {
				t.Errorf("%q is not behind %q", got, prefix+tail)
			}
		}
	}
}
