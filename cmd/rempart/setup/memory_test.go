package setup

import (
	"runtime/debug"
	"testing"
)

// TestMemorySaverRestoresSettings checks that GOGC is low while at least one reader is active and as before afterwards.
func TestMemorySaverRestoresSettings(t *testing.T) {
	before := debug.SetGCPercent(150)
	defer debug.SetGCPercent(before)
	current := func() int {
		p := debug.SetGCPercent(150)
		debug.SetGCPercent(p)
		return p
	}
	var m memorySaver
	first, second := m.enter(), m.enter()
	first()
	if got := current(); got != readingGC {
		t.Errorf("GOGC is %d while a list is read", got)
	}
	second()
	if got := current(); got != 150 {
		t.Errorf("GOGC is %d afterwards", got)
	}
}
