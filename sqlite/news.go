package sqlite

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	sqlite "modernc.org/sqlite"
)

// maxNews is how many changes a reader may be behind by.
const maxNews = 20_000

// news is what a transaction has changed, for readers of news. As one process only writes
// to the file, SQLite tells it of each row; without readers it is not asked to.
type news struct {
	runs    map[int64]bool // whose rows were written
	entries []heard
}

type heard struct {
	run int64
	pawl.Entry
}

func (n *news) clear() {
	clear(n.runs)
	n.entries = n.entries[:0]
}

// reader is a pawl.NewsReader.
type reader struct {
	s *Store

	mu   sync.Mutex
	news news
	lost bool
}

// News implements pawl.Store.
func (s *Store) News(context.Context, time.Time) (pawl.NewsReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.refused()
	}
	r := &reader{s: s, news: news{runs: map[int64]bool{}}}
	if len(s.listeners) == 0 {
		hooks, ok := s.w.c.(sqlite.HookRegisterer)
		if !ok {
			return nil, errors.New("this SQLite tells of no changes: it was built without pre-update hooks")
		}
		s.tx.news = &news{runs: map[int64]bool{}}
		hooks.RegisterPreUpdateHook(func(d sqlite.SQLitePreUpdateData) {
			if d.TableName == "runs" && s.tx.news != nil {
				s.tx.news.runs[d.OldRowID] = true // an insert has one id only, in both
				s.tx.news.runs[d.NewRowID] = true
			}
		})
	}
	s.listeners = append(s.listeners, r)
	return r, nil
}

// spread tells the readers what was committed. Caller holds mu.
func (s *Store) spread() {
	n := s.tx.news
	if n == nil || len(n.runs)+len(n.entries) == 0 {
		return
	}
	for _, r := range s.listeners {
		r.mu.Lock()
		for run := range n.runs {
			r.news.runs[run] = true
		}
		r.news.entries = append(r.news.entries, n.entries...)
		if len(r.news.runs)+len(r.news.entries) > maxNews {
			r.lost = true
			r.news.clear()
		}
		r.mu.Unlock()
	}
	n.clear()
}

// Next implements pawl.NewsReader.
func (r *reader) Next(ctx context.Context, _ time.Time) (out []pawl.News, err error) {
	r.mu.Lock()
	lost, n := r.lost, r.news
	r.lost, r.news = false, news{runs: map[int64]bool{}}
	r.mu.Unlock()
	if lost {
		return nil, pawl.ErrGap
	}
	if len(n.runs)+len(n.entries) == 0 {
		return nil, nil
	}
	at := map[int64]int{}
	add := func(run int64, moved bool) *pawl.News {
		i, ok := at[run]
		if !ok {
			i, at[run] = len(out), len(out)
			out = append(out, pawl.News{Run: pawl.RunInfo{Key: run}})
		}
		out[i].Moved = out[i].Moved || moved
		return &out[i]
	}
	for _, e := range n.entries { // in the order of commits
		w := add(e.run, false)
		w.Entries = append(w.Entries, e.Entry)
	}
	for run := range n.runs {
		add(run, true)
	}
	gone := map[int64]bool{}
	err = r.s.read(ctx, func(c *conn) error {
		var all []*pawl.RunInfo
		for i := range out {
			info, found, err := c.get(out[i].Run.Key)
			if err != nil {
				return err
			}
			if !found {
				gone[out[i].Run.Key] = true
				continue
			}
			out[i].Run = info
			all = append(all, &out[i].Run)
		}
		return c.dress(all)
	})
	if err != nil {
		r.mu.Lock()
		r.lost = true // what was taken is not told
		r.mu.Unlock()
		return nil, err
	}
	return slices.DeleteFunc(out, func(n pawl.News) bool { return gone[n.Run.Key] }), nil
}

// Close implements pawl.NewsReader.
func (r *reader) Close() error {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *reader) bool { return l == r })
	if len(s.listeners) == 0 && s.w != nil && s.tx.news != nil {
		s.tx.news = nil
		if hooks, ok := s.w.c.(sqlite.HookRegisterer); ok {
			hooks.RegisterPreUpdateHook(nil)
		}
	}
	return nil
}
