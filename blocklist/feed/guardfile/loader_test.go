package guardfile

import (
	"log/slog"
	"os"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

func outcome(t *testing.T, l *Loader, text string) guard.Outcome {
	t.Helper()
	g, err := l.Guards()
	if err != nil {
		t.Fatal(err)
	}
	name, err := blocklist.AppendName(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	return g.Check(blocklist.Listing{Name: name, Scope: blocklist.Exact}).Outcome
}

// TestReloadedGuardsAreReturned checks that Guards and Acquire return the new guards after Reload, and those from before while a file
// cannot be used.
func TestReloadedGuardsAreReturned(t *testing.T) {
	path := file(t, "essential.txt", "a.example\n")
	l, err := New(Config{Essential: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); changed || err != nil {
		t.Errorf("unchanged files: %v, %v", changed, err)
	}
	if err := os.WriteFile(path, []byte("b.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); !changed || err != nil {
		t.Errorf("a changed file: %v, %v", changed, err)
	}
	select {
	case <-l.Changed():
	default:
		t.Error("the change is not reported")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); changed || err == nil || l.Problem() == "" {
		t.Errorf("a missing file: %v, %v", changed, err)
	}
	pushes, err := l.Guards()
	if err != nil {
		t.Fatal(err)
	}
	if lists, err := l.Acquire(); err != nil || lists != pushes {
		t.Errorf("lists and pushes use different guards: %v", err)
	}
	if outcome(t, l, "a.example") != guard.Pass || outcome(t, l, "b.example") != guard.Refuse {
		t.Error("the guards of the last good file are not in use")
	}
}

// TestReleaseKeepsConfiguredGuards checks that guards of configured files stay in memory, and that guards of the shipped lists do not unless
// KeepInMemory was called.
func TestReleaseKeepsConfiguredGuards(t *testing.T) {
	for _, tt := range []struct {
		cfg       Config
		keep      bool
		wantInUse bool
	}{{Config{}, false, false}, {Config{}, true, true}, {Config{Released: file(t, "released.txt", "a.example\n")}, false, true}} {
		l, err := New(tt.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if tt.keep {
			l.KeepInMemory()
		}
		before, err := l.Acquire()
		if err != nil || !l.Acquired() || !l.Release() || l.Acquired() || l.Release() {
			t.Errorf("%+v: not acquired and released, %v", tt, err)
		}
		if after, err := l.Guards(); err != nil || (after == before) != tt.wantInUse {
			t.Errorf("%+v: in memory after Release: %v, %v", tt, after == before, err)
		}
	}
}
