package pawl_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// TestPowerCut cuts the power at random moments of a recording, and looks at what every
// kind of disk would have kept: nothing that was acknowledged may be missing (P2).
func TestPowerCut(t *testing.T) {
	t.Parallel()
	images := 200
	if long() {
		images = 2000
	}
	p := newPowerStory(t, false)
	p.record()
	p.cut(images, 50)
	for i, f := range slices.Concat(p.lost, p.faults) {
		if t.Error(f); i == 10 {
			break
		}
	}
}

// TestPowerNoticesNormal: a store that does not sync its commits must be caught losing
// them, and nothing worse: it keeps whole commits, in their order.
func TestPowerNoticesNormal(t *testing.T) {
	t.Parallel()
	images := 60
	if long() {
		images = 600
	}
	p := newPowerStory(t, true)
	p.record()
	p.cut(images, 0)
	if len(p.lost) == 0 {
		t.Error("a store with synchronous=NORMAL lost nothing: the test would not see it elsewhere either")
	}
	for i, f := range p.faults {
		if t.Error(f); i == 10 {
			break
		}
	}
}

// powerStory is one recording and the images made of it.
type powerStory struct {
	t      *testing.T
	cfg    crashConfig
	rec    *recording
	random *rand.Rand
	place  string

	mu     sync.Mutex
	lost   []string // what was acknowledged and is missing
	faults []string // what should never be seen, whatever the settings
	images int
	losers int // images that lost something
	acked  int // acknowledgements looked for, in all images
	kept   bool
}

func newPowerStory(t *testing.T, unsafe bool) *powerStory {
	seed := crashSeed(t)
	t.Logf("PAWL_CRASH_SEED=%d repeats the programs and the choice of images, not the timing", seed)
	p := &powerStory{t: t, random: rand.New(rand.NewPCG(seed, 2)), place: memoryDir(t)}
	dir := filepath.Join(p.place, "db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.rec = &recording{dir: dir, ledger: filepath.Join(p.place, "ledger"), live: map[string]*file{}}
	p.cfg = crashConfig{Store: filepath.Join(dir, "pawl.db"), Ledger: p.rec.ledger, Seed: seed, Lease: 2 * time.Second, Drive: true, Unsafe: unsafe}
	return p
}

// memoryDir is a directory in memory where there is one: images need no real disk.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "pawl-power-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { removeAll(t, dir) })
	return dir
}

func removeAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// record lets workers work, one after the other: the first makes the file, the others find
// one and a log of zeros made for it. It ends when the log was begun anew often enough.
func (p *powerStory) record() {
	p.t.Helper()
	enough := 1
	if long() {
		enough = 4
	}
	for n := 0; p.restarts() < enough; n++ {
		if n == 10 {
			p.t.Fatal("nothing happened: too few checkpoints")
		}
		p.cfg.Runs += 40 + 100*min(n, 1)
		if code, stderr, _ := p.rec.trace(p.t, p.cfg, 2*time.Minute); code != 0 {
			p.t.Fatalf("the worker ended with %d\n%s", code, stderr)
		}
		if err := p.rec.differs(); err != nil {
			p.t.Fatal(err)
		}
	}
	syncs, writes := 0, map[string]int{}
	for _, f := range p.rec.files {
		syncs += len(f.syncs)
		writes[f.name] += len(f.changes)
	}
	p.t.Logf("recorded %d ledger lines, %d syncs, %d logs begun anew, writes to %v", len(p.rec.lines), syncs, p.restarts(), writes)
	if len(p.rec.lines) < 1000 || len(p.rec.faults) > 0 {
		p.t.Fatal("nothing happened: too few steps")
	}
}

// restarts counts how often SQLite began a log anew at its front, over what was there: it
// writes 32 bytes first.
func (p *powerStory) restarts() (n int) {
	for _, f := range p.rec.files {
		begun := 0
		for _, ch := range f.changes {
			if strings.HasSuffix(f.name, "-wal") && ch.offset == 0 && len(ch.data) == 32 {
				begun++
			}
		}
		n += max(begun-1, 0)
	}
	return n
}

// cut makes n images and inspects them; of every k-th a worker must bring all runs to their end.
func (p *powerStory) cut(n, k int) {
	p.t.Helper()
	began := time.Now()
	type job struct {
		path, what string
		image      map[string][]byte
		lines      []ledgerLine
	}
	jobs := make(chan job)
	var inspectors sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4) {
		inspectors.Go(func() {
			for j := range jobs {
				found := inspect(j.path, p.cfg.Unsafe, j.lines)
				removeAll(p.t, filepath.Dir(j.path))
				p.note(j.what, j.image, found)
			}
		})
	}
	finishing := time.Duration(0)
	d := newDisk(p.rec)
	for i, moment := range p.moments(n) {
		s := survival(i % int(survivals))
		image := d.image(moment, s, p.random)
		lines := p.rec.lines[:countBefore(p.rec.lines, func(l ledgerLine) int { return l.begin }, moment)]
		what := fmt.Sprintf("power cut at line %d of %d, survived: %s", moment, p.rec.end, s)
		jobs <- job{p.lay(i, image), what, image, lines}
		if k > 0 && i%k == k/2 {
			at := time.Now()
			p.finish(p.lay(-i, image), what, lines)
			finishing += time.Since(at)
		}
	}
	close(jobs)
	inspectors.Wait()
	p.t.Logf("%d images, %.0f/s; %d acknowledgements looked for; %d images lost some, %d lost in all; %d other faults",
		p.images, float64(p.images)/(time.Since(began)-finishing).Seconds(), p.acked, p.losers, len(p.lost), len(p.faults))
}

// moments are where the power is cut, in order: as many anywhere as just after something was
// acknowledged, while the log is written back to the database, and while the file is made.
func (p *powerStory) moments(n int) (at []int) {
	var acks, checkpoints []int
	made := p.rec.lines[0].begin
	for _, l := range p.rec.lines {
		if l.text[0] == 'R' || l.text[0] == 'S' {
			acks = append(acks, l.begin+1)
		}
	}
	for _, f := range p.rec.files {
		if f.name == filepath.Base(p.cfg.Store) {
			for _, ch := range f.changes {
				checkpoints = append(checkpoints, ch.begin+1)
			}
			for _, b := range f.syncs {
				checkpoints = append(checkpoints, b.end, b.end+1)
			}
		}
	}
	for i := range n {
		switch i % 4 {
		case 0:
			at = append(at, p.random.IntN(p.rec.end+1))
		case 1:
			at = append(at, p.random.IntN(made))
		case 2:
			at = append(at, acks[p.random.IntN(len(acks))])
		default:
			at = append(at, checkpoints[p.random.IntN(len(checkpoints))])
		}
	}
	slices.Sort(at)
	return at
}

// lay writes an image and returns the path of its database.
func (p *powerStory) lay(i int, image map[string][]byte) string {
	dir := filepath.Join(p.place, fmt.Sprintf("image%d", i))
	if err := writeImage(dir, image); err != nil {
		p.t.Fatal(err)
	}
	return filepath.Join(dir, filepath.Base(p.cfg.Store))
}

func writeImage(dir string, image map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range image {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// finish lets a worker go on from an image as if the power had come back, and holds what
// it makes of it against the ledger as it was.
func (p *powerStory) finish(path, what string, lines []ledgerLine) {
	p.t.Helper()
	defer removeAll(p.t, filepath.Dir(path))
	var ledger strings.Builder
	for _, l := range lines {
		ledger.WriteString(l.text + "\n")
	}
	s := &story{t: p.t, cfg: p.cfg, patience: 2 * time.Minute}
	s.cfg.Store, s.cfg.Ledger = path, path+".ledger"
	if err := os.WriteFile(s.cfg.Ledger, []byte(ledger.String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := s.finish(); err != nil {
		p.t.Errorf("%s: the next worker: %v\n%s", what, err, unfinished(path))
		return
	}
	for _, f := range s.faults() {
		p.t.Errorf("%s: after the next worker: %s", what, f)
	}
}

// unfinished tells what the first runs that have not ended are waiting for.
func unfinished(path string) string {
	store, err := openCrashStore(path)
	if err != nil {
		return err.Error()
	}
	defer store.Close()
	ctx := context.Background()
	e := pawl.New(store, nil)
	runs, err := e.List(ctx, pawl.Filter{Limit: 1000, States: []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting, pawl.Blocked}})
	text := fmt.Sprintf("%d runs have not ended: %v\n", len(runs), err)
	for _, run := range runs[:min(len(runs), 5)] {
		why, err := e.Why(ctx, pawl.Ref{ID: run.ID})
		text += fmt.Sprintf("%s: %s %v\n", run.ID, why, err)
	}
	return text
}

// note counts what an image showed, and keeps the first one with a fault.
func (p *powerStory) note(what string, image map[string][]byte, f findings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.images++
	p.acked += f.acked
	if len(f.lost) > 0 {
		p.losers++
	}
	for _, l := range f.lost {
		p.lost = append(p.lost, what+": "+l)
	}
	for _, l := range f.faults {
		p.faults = append(p.faults, what+": "+l)
	}
	if !p.kept && (len(f.faults) > 0 || len(f.lost) > 0 && !p.cfg.Unsafe) {
		p.kept = true
		dir := filepath.Join(".crash", fmt.Sprintf("power-%d", p.cfg.Seed))
		p.t.Logf("the first image with a fault is kept in %s: %v", dir, writeImage(dir, image))
	}
}

// findings is what one image shows.
type findings struct {
	acked  int
	lost   []string
	faults []string
}

// inspect opens a database and holds it against the ledger lines written until then.
func inspect(path string, unsafe bool, lines []ledgerLine) (f findings) {
	fault := func(format string, args ...any) { f.faults = append(f.faults, fmt.Sprintf(format, args...)) }
	ended := map[string]string{} // step → hash of what its bodies return
	recorded := map[string]bool{}
	sent := map[string]int{}
	for _, l := range lines {
		switch w := strings.Fields(l.text); w[0] {
		case "E":
			ended[w[1]] = w[2]
		case "R":
			recorded[w[1]] = true
		case "S":
			sent[w[1]]++
		}
	}
	f.acked = len(recorded) + len(sent)

	store, err := sqlite.Open(path, &sqlite.Options{WALSize: 1 << 20, Readers: 1, Unsafe: unsafe})
	if err != nil {
		fault("%v", err)
		return f
	}
	ctx := context.Background()
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	received := map[string]int{}
	over := map[string]bool{}
	for cursor := int64(0); ; {
		page, err := e.List(ctx, pawl.Filter{Limit: 1000, Cursor: cursor})
		if err != nil {
			fault("%v", err)
		}
		for _, run := range page {
			cursor = run.Key
			over[run.ID] = run.State.Terminal()
			entries, err := store.Journal(ctx, run.Key, -1, 1<<20)
			if err != nil {
				fault("journal of %s: %v", run.ID, err)
			}
			for i, entry := range entries {
				if entry.Seq != int64(i) {
					fault("run %s: entry %d is in place %d", run.ID, entry.Seq, i)
				}
				switch entry.Kind {
				case pawl.KindEvent, pawl.KindPayload:
					received[run.ID]++
				case pawl.KindStep:
					id := run.ID + "/" + entry.Key
					delete(recorded, id)
					if !entry.Failed && hashOf(entry.Data) != ended[id] {
						fault("P1: step %s has a recorded result that no body returned: %s", id, entry.Data)
					}
				}
			}
		}
		if len(page) == 0 || err != nil {
			break
		}
	}
	if found, err := e.Audit(ctx); err != nil || len(found) > 0 {
		fault("P5: audit: %v %v", found, err)
	}
	if err := store.Close(); err != nil {
		fault("close: %v", err)
	}
	if err := inspectFile(path, received); err != nil {
		fault("%v", err)
	}
	for id := range recorded {
		f.lost = append(f.lost, fmt.Sprintf("P2: step %s was acknowledged and is not in the journal", id))
	}
	for run, n := range sent {
		if over, known := over[run]; !known || !over && received[run] < n {
			f.lost = append(f.lost, fmt.Sprintf("P4: run %s was sent %d messages that were accepted, %d are there", run, n, received[run]))
		}
	}
	return f
}

// inspectFile checks the file as SQLite sees it, and adds the messages in inboxes.
func inspectFile(path string, received map[string]int) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		return fmt.Errorf("integrity check: %s %w", verdict, err)
	}
	rows, err := db.Query("SELECT r.id, count(*) FROM inbox i JOIN runs r ON r.key = i.run WHERE i.name LIKE 'event:%' OR i.name LIKE 'hook:%' GROUP BY r.id")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var run string
		var n int
		if err := rows.Scan(&run, &n); err != nil {
			return err
		}
		received[run] += n
	}
	return rows.Err()
}
