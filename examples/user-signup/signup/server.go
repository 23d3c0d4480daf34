package signup

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/mail"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
)

const maxBody = 4 << 10 // bytes of a signup

// Handler serves:
//
//	POST /signup   {"email": …}; 202, whether the address is known or not
//	GET  /signups  the newest 20, for whoever runs this
//
// and the links that the mails have.
func (f *Flow) Handler(e *pawl.Engine, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /signup", demo.Answer(log, func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		return f.post(w, r, e)
	}))
	mux.HandleFunc("GET /signups", demo.Answer(log, func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		return list(r, e)
	}))
	mux.Handle(pawl.WebhookPath, api.New(e, api.Options{Logger: log})) // of the API, the webhooks alone
	return mux
}

func (f *Flow) post(w http.ResponseWriter, r *http.Request, e *pawl.Engine) (int, any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return 0, nil, err
	}
	var in Signup
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `the body must be {"email": "ann@example.com"}`)
	}
	in.Email = strings.ToLower(strings.TrimSpace(in.Email))
	parsed, err := mail.ParseAddress(in.Email) // which also keeps line breaks out of the mail's header
	if err != nil || parsed.Address != in.Email || len(in.Email) > 254 {
		return 0, nil, demo.Refuse(http.StatusBadRequest, "email is %.80q; it must be an address such as ann@example.com", in.Email)
	}
	said := map[string]string{"status": "look into your mail"} // the same for all: it tells nobody who has an account
	_, err = e.Record(r.Context(), accounts, in.Email)
	if errors.Is(err, pawl.ErrNotFound) {
		_, err = f.Start(r.Context(), e, in) // one that waits is met, and is no second mail
	}
	return http.StatusAccepted, said, err
}

type shown struct {
	ID     string     `json:"id"`
	State  pawl.State `json:"state"`  // of the run
	Status string     `json:"status"` // Waiting, Confirmed, Expired
	Error  string     `json:"error,omitempty"`
}

func list(r *http.Request, e *pawl.Engine) (int, any, error) {
	runs, err := e.List(r.Context(), pawl.Filter{Workflow: Name, Limit: 20})
	out := make([]shown, len(runs))
	for i, run := range runs {
		out[i] = shown{run.ID, run.State, run.Attrs["status"], run.Reason}
	}
	return http.StatusOK, out, err
}
