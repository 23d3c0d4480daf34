package pawl

import (
	"sync"
	"sync/atomic"
	"time"
)

// Observer is told what the engine does, for metrics and traces. Its methods are called
// on the engine's paths: they must be quick, safe for concurrent use, and must not call
// the engine. Embed [NoObserver] to implement a part of it.
type Observer interface {
	RunStarted(RunInfo)                // stored
	RunClaimed(RunInfo)                // its function is about to be run, from the start or from its journal
	RunWaits(RunInfo)                  // suspended
	RunEnded(info RunInfo, end *Entry) // terminal
	StepEnded(info RunInfo, key string, attempt int, took time.Duration, err error)
	// StepSpent is told what an attempt has settled (see [Reservation.Settle]), before StepEnded.
	// What an attempt reserved and never settled is not told: the ledger has it.
	StepSpent(info RunInfo, spent Charge)
}

// NoObserver observes nothing.
type NoObserver struct{}

// RunStarted does nothing.
func (NoObserver) RunStarted(RunInfo) {}

// RunClaimed does nothing.
func (NoObserver) RunClaimed(RunInfo) {}

// RunWaits does nothing.
func (NoObserver) RunWaits(RunInfo) {}

// RunEnded does nothing.
func (NoObserver) RunEnded(RunInfo, *Entry) {}

// StepEnded does nothing.
func (NoObserver) StepEnded(RunInfo, string, int, time.Duration, error) {}

// StepSpent does nothing.
func (NoObserver) StepSpent(RunInfo, Charge) {}

// watchers are those in this process who wait for news of a run: of every commit, which
// without watchers costs one atomic load, or of its end.
type watchers struct {
	count atomic.Int64 // of those who want to know of commits
	mu    sync.Mutex
	byRun map[int64]map[*watcher]bool
}

type watcher struct {
	run  int64
	ends bool          // wants to know of the run's end only
	c    chan struct{} // has an element when there is news
	end  atomic.Pointer[ended]
}

type ended struct {
	info  RunInfo
	entry *Entry
}

func (w *watchers) init() { w.byRun = map[int64]map[*watcher]bool{} }

func (w *watchers) subscribe(run int64) *watcher { return w.add(&watcher{run: run}) }

func (w *watchers) subscribeEnd(run int64) *watcher { return w.add(&watcher{run: run, ends: true}) }

func (w *watchers) add(s *watcher) *watcher {
	run := s.run
	s.c = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byRun[run] == nil {
		w.byRun[run] = map[*watcher]bool{}
	}
	w.byRun[run][s] = true
	if !s.ends {
		w.count.Add(1)
	}
	return s
}

func (w *watchers) unsubscribe(s *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byRun[s.run][s] {
		delete(w.byRun[s.run], s)
		if len(w.byRun[s.run]) == 0 {
			delete(w.byRun, s.run)
		}
		if !s.ends {
			w.count.Add(-1)
		}
	}
}

func (s *watcher) poke() { wakeUp(s.c) }

// touch tells watchers that something of the run was committed.
func (w *watchers) touch(run int64) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.byRun[run] {
		if !s.ends {
			s.poke()
		}
	}
}

func (w *watchers) touchAll() {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, all := range w.byRun {
		for s := range all {
			s.poke()
		}
	}
}

// ended tells watchers how the run ended, so that they need not ask the store.
func (w *watchers) ended(info RunInfo, e *Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.byRun[info.Key] {
		s.end.Store(&ended{info, e})
		s.poke()
	}
}
