package api

import "testing"

// What readers of one thing have in common is there for as long as one of them is, and no longer: a server that has
// shown a million runs keeps nothing of them.
func TestNothingIsKeptOfViewsThatAreOver(t *testing.T) {
	var all fans
	one, leave := all.join("run 1")
	same, leaveToo := all.join("run 1")
	_, leaveOther := all.join("run 2")
	if one != same || len(all.all) != 2 {
		t.Errorf("two readers of one thing share it: %v, of %d", one == same, len(all.all))
	}
	leave()
	if again, leave := all.join("run 1"); again != one {
		t.Error("who comes while another reads has none of what that one has")
	} else {
		leave()
	}
	leaveToo()
	leaveOther()
	if len(all.all) != 0 {
		t.Errorf("of views that are over %d are kept", len(all.all))
	}
}
