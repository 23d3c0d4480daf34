package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/pawlrun/pawl"
)

// order carries out an operator's order and answers with the run as it then is.
func (s *server) order(w http.ResponseWriter, r *http.Request, do func(ctx context.Context) (pawl.RunInfo, error)) error {
	ctx, cancel := limited(r)
	defer cancel()
	info, err := do(ctx)
	if err != nil {
		return err
	}
	run, err := s.full(ctx, info)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, run)
}

func (s *server) cancel(w http.ResponseWriter, r *http.Request) error {
	var q ReasonRequest
	if err := s.object(w, r, &q); err != nil {
		return err
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) { return s.engine.Cancel(ctx, ref(r), q.Reason) })
}

func (s *server) pause(w http.ResponseWriter, r *http.Request) error {
	var q ReasonRequest
	if err := s.object(w, r, &q); err != nil {
		return err
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) { return s.engine.Pause(ctx, ref(r), q.Reason) })
}

func (s *server) resume(w http.ResponseWriter, r *http.Request) error {
	if err := s.object(w, r, &struct{}{}); err != nil {
		return err
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) { return s.engine.Unpause(ctx, ref(r)) })
}

func (s *server) retry(w http.ResponseWriter, r *http.Request) error {
	if err := s.object(w, r, &struct{}{}); err != nil {
		return err
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) {
		if info, err := s.engine.Get(ctx, ref(r)); err != nil { // Retry's own error would not name the run
			return info, err
		}
		return s.engine.Retry(ctx, ref(r))
	})
}

func (s *server) wake(w http.ResponseWriter, r *http.Request) error {
	var q WakeRequest
	if err := s.object(w, r, &q); err != nil {
		return err
	}
	var data any
	if q.Data != nil {
		data = q.Data
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) { return s.engine.Wake(ctx, ref(r), q.Key, data) })
}

func (s *server) fork(w http.ResponseWriter, r *http.Request) error {
	var q ForkRequest
	if err := s.object(w, r, &q); err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	if _, err := s.engine.Get(ctx, ref(r)); err != nil { // Fork's own error would not name the run
		return err
	}
	info, err := s.engine.Fork(ctx, ref(r), pawl.ForkOptions{From: q.From, Input: q.Input, Results: q.Results, ID: q.ID})
	if err != nil {
		return err
	}
	w.Header().Set("Location", RunPath(info.ID))
	return answer(w, http.StatusAccepted, Run{RunInfo: info})
}

// payload is a body that goes to a run as it is; none at all is null.
func (s *server) payload(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	data, err := s.body(w, r)
	if data == nil {
		data = []byte("null")
	}
	return data, err
}

func (s *server) signal(w http.ResponseWriter, r *http.Request) error {
	data, err := s.payload(w, r)
	if err != nil {
		return err
	}
	return s.order(w, r, func(ctx context.Context) (pawl.RunInfo, error) {
		if err := s.engine.SignalRef(ctx, ref(r), r.PathValue("event"), data); err != nil {
			return pawl.RunInfo{}, err
		}
		return s.engine.Get(ctx, ref(r))
	})
}

func (s *server) publish(w http.ResponseWriter, r *http.Request) error {
	data, err := s.payload(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	name := r.PathValue("name")
	if err := s.engine.Publish(ctx, name, data); err != nil {
		return err
	}
	return answer(w, http.StatusAccepted, Published{Event: name})
}

// hook tells whoever has a token no more of the run than its id.
func (s *server) hook(w http.ResponseWriter, r *http.Request) error {
	data, err := s.payload(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := limited(r)
	defer cancel()
	info, err := s.engine.Resume(ctx, r.PathValue("token"), data)
	if err != nil {
		return err
	}
	return answer(w, http.StatusAccepted, Accepted{Run: info.ID})
}
