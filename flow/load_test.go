package flow

import "testing"

// What is remembered of documents is bounded by their bytes, and the newest is always there.
func TestVersionsAreRememberedByTheirBytes(t *testing.T) {
	var l loaded
	for i := range 1000 {
		at := place{"", "f", i}
		l.put(at, reading{bytes: 1 + i*1000})
		if v, is := l.get(at); !is || v.bytes != 1+i*1000 {
			t.Fatalf("version %d is %+v, %v", i, v, is)
		}
		sum := 0
		for _, v := range l.all {
			sum += v.bytes
		}
		if sum != l.bytes || sum > maxLoaded {
			t.Fatalf("%d bytes of %d versions, and %d are counted", sum, len(l.all), l.bytes)
		}
	}
	for range 3 {
		l.put(place{"", "f", 999}, reading{bytes: 10})
	}
	if l.drop(place{"", "f", 999}); l.bytes < 0 || l.bytes > maxLoaded {
		t.Errorf("%d bytes", l.bytes)
	}
}
