package api

import (
	"io"
	"net/http"
	"time"
)

const (
	// readLimit is how long a body may take to arrive that is wanted.
	readLimit = 30 * time.Second
	// unreadLimit is how long one may take that is not. It must be well under writeLimit: the
	// time of an answer runs while net/http reads what is left of a body.
	unreadLimit = 10 * time.Second
)

// expectBody bounds how long the body of a request may take that nobody reads: before net/http
// sends an answer it reads what is left of the body, for as long as that takes.
func expectBody(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadLimit)) // not every ResponseWriter has one
	}
}

// readBody reads the body of a request to its end, if it has no more than most bytes, within readLimit. After an
// error the deadline stays: what else comes is not waited for.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(readLimit))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil { // left behind, the deadline would end a request that goes on for long
		_ = rc.SetReadDeadline(time.Time{})
	}
	return data, err
}
