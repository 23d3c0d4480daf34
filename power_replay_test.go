package pawl_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// This file is the disk that a power cut leaves behind: what was synced, and of the rest
// whatever the disk pleases.

// survival is what becomes of changes that no sync had covered when the power went.
type survival int

const (
	surviveNone   survival = iota // they are gone
	survivePrefix                 // those before some earlier moment are there
	surviveSubset                 // each is there or not, by chance
	surviveTorn                   // the same for each 512-byte sector of each
	survivals
)

func (s survival) String() string {
	return [...]string{"none", "a prefix", "a subset", "torn sectors"}[s]
}

// disk follows a recording: at a moment that only grows, it holds what is durable.
type disk struct {
	r       *recording
	durable map[*file]*content
}

type content struct {
	data    []byte
	changes int // how many of the file's changes are in data
}

func newDisk(r *recording) *disk { return &disk{r: r, durable: map[*file]*content{}} }

// image returns the files that a power cut at a moment leaves. Moments of one disk must
// not decrease.
func (d *disk) image(moment int, s survival, random *rand.Rand) map[string][]byte {
	likely := []float64{0.1, 0.5, 0.9}[random.IntN(3)]
	grown := random.IntN(2) == 0 // lengths are written before what is in the files
	earlier := d.oldest(moment)
	earlier += random.IntN(moment - earlier + 1)
	survives := func(begin int) bool {
		switch s {
		case survivePrefix:
			return begin < earlier
		case surviveSubset, surviveTorn:
			return random.Float64() < likely
		}
		return false
	}

	names, gone := map[string]*file{}, map[string]bool{}
	settled := coveredAt(d.r.dirSyncs, moment)
	for i, n := range d.r.names {
		if n.begin >= moment {
			break
		}
		if i >= settled && (gone[n.name] || !survives(n.begin)) {
			gone[n.name] = true // nor are later changes of this name
			continue
		}
		if n.file == nil {
			delete(names, n.name)
		} else {
			names[n.name] = n.file
		}
	}
	image := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		data := slices.Clone(d.settle(f, moment))
		for _, ch := range f.changes[d.durable[f].changes:] {
			switch {
			case ch.begin >= moment:
			case !survives(ch.begin):
				if grown && ch.data != nil && s >= surviveSubset {
					data = lengthened(data, ch.offset+int64(len(ch.data)))
				}
			case s == surviveTorn && ch.data != nil:
				for from := 0; from < len(ch.data); {
					to := min(len(ch.data), from+512-int(ch.offset+int64(from))%512)
					if random.IntN(2) == 0 {
						data = applied(data, change{offset: ch.offset + int64(from), data: ch.data[from:to]})
					}
					from = to
				}
			default:
				data = applied(data, ch)
			}
		}
		image[name] = data
	}
	return image
}

// settle returns what is durable of a file.
func (d *disk) settle(f *file, moment int) []byte {
	c := d.durable[f]
	if c == nil {
		c = &content{}
		d.durable[f] = c
	}
	for n := coveredAt(f.syncs, moment); c.changes < n; c.changes++ {
		if ch := f.changes[c.changes]; !ch.lost {
			c.data = applied(c.data, ch)
		}
	}
	return c.data
}

// oldest returns when the oldest change began that is not durable.
func (d *disk) oldest(moment int) int {
	for _, f := range d.r.files {
		if n := coveredAt(f.syncs, moment); n < len(f.changes) {
			moment = min(moment, f.changes[n].begin)
		}
	}
	return moment
}

// coveredAt returns how many changes are durable at a moment.
func coveredAt(syncs []barrier, moment int) (covers int) {
	for _, b := range syncs {
		if b.end < moment {
			covers = max(covers, b.covers)
		}
	}
	return covers
}

func applied(data []byte, ch change) []byte {
	if ch.data == nil {
		return lengthened(data, ch.offset)[:ch.offset]
	}
	data = lengthened(data, ch.offset+int64(len(ch.data)))
	copy(data[ch.offset:], ch.data)
	return data
}

func lengthened(data []byte, length int64) []byte {
	if more := length - int64(len(data)); more > 0 {
		data = append(data, make([]byte, more)...)
	}
	return data
}

// shown is what the files hold for those who read them without a power cut.
func (r *recording) shown() map[string][]byte {
	image := map[string][]byte{}
	for name, f := range r.live {
		image[name] = nil
		for _, ch := range f.changes {
			image[name] = applied(image[name], ch)
		}
	}
	return image
}

// differs compares the files that are there with what all calls of the recording together
// make: if the two differ, the recording has missed something.
func (r *recording) differs() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	want := r.shown()
	for _, e := range entries {
		name, ours := r.tracked(filepath.Join(r.dir, e.Name()))
		if !ours {
			continue
		}
		have, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return err
		}
		if made, ok := want[name]; !ok || !bytes.Equal(have, made) {
			return fmt.Errorf("%s has %d bytes, the recording makes %d, or others", name, len(have), len(made))
		}
		delete(want, name)
	}
	for name := range want {
		return fmt.Errorf("%s is gone", name)
	}
	return nil
}
