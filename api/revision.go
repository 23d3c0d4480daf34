package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/trigger"
)

// Revisions are told as ETags, and held against If-Match.

// revisionTag is the ETag of a revision.
func revisionTag(n int64) string { return `"` + strconv.FormatInt(n, 10) + `"` }

// revisionOf reads the revision that an If-Match names; 0: any.
func revisionOf(match string) (int64, error) {
	if match == "" || match == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(match, `"`), 10, 64)
	if err != nil || n <= 0 {
		return 0, matches(match, "another")
	}
	return n, nil
}

// matches holds an ETag against an If-Match.
func matches(match, tag string) error {
	if match == "*" || match == tag {
		return nil
	}
	return lost("it is %s now, not %s", tag, match)
}

// lostChange words the conflict of a change of a revision as what it is to the caller.
func lostChange(err error) error {
	_, of := errors.AsType[*trigger.RevisionError](err)
	if _, is := errors.AsType[*secret.RevisionError](err); !is && !of {
		return err
	}
	return lost("%s", plain(err))
}

func lost(format string, args ...any) *Problem {
	p := newProblem(http.StatusPreconditionFailed, codeChanged, format, args...)
	p.Hint = "somebody else has changed it: look at it again, then decide"
	return p
}
