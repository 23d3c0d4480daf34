package pawl

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"sync"
	"time"
)

// crockford is the alphabet of ids: no I, L, O, U; sorts as the bytes do.
var crockford = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newID returns "run_" and 26 characters: 48 bits of milliseconds and 80 random bits, so
// that ids sort by the time of their making and can't be guessed.
func newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	random(b[6:])
	return "run_" + crockford.EncodeToString(b[:])
}

// randomToken returns 192 random bits as text: what a hook's address is made of.
func randomToken() string {
	var b [24]byte
	random(b[:])
	return crockford.EncodeToString(b[:])
}

func newSeed() int64 {
	var b [8]byte
	random(b[:])
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// entropy is read in blocks: one system call for some hundred ids.
var entropy struct {
	sync.Mutex
	buf  [4096]byte
	left []byte
}

func random(b []byte) {
	entropy.Lock()
	defer entropy.Unlock()
	if len(entropy.left) < len(b) {
		rand.Read(entropy.buf[:]) // never fails: it would end the process
		entropy.left = entropy.buf[:]
	}
	n := copy(b, entropy.left)
	clear(entropy.left[:n])
	entropy.left = entropy.left[n:]
}
