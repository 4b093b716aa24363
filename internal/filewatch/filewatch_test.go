package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// must fails the test if a step of its preparation returns an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func put(path, content string) error { return os.WriteFile(path, []byte(content), 0o644) }

// TestEachChangeIsReportedOnce checks that each kind of change at a path is reported once, after the file no longer changes.
func TestEachChangeIsReportedOnce(t *testing.T) {
	tests := map[string]struct {
		prepare func(dir string) error // the watched path is dir/f
		change  func(dir string) error
	}{
		"written in place": {
			func(dir string) error { return put(dir+"/f", "a") },
			func(dir string) error { return put(dir+"/f", "bb") },
		},
		"written in place with its size and time kept": {
			func(dir string) error {
				return firstOf(put(dir+"/f", "a"), os.Chtimes(dir+"/f", time.Unix(1, 0), time.Unix(1, 0)))
			},
			func(dir string) error {
				time.Sleep(20 * time.Millisecond) // the resolution of the inode's change time
				return firstOf(put(dir+"/f", "b"), os.Chtimes(dir+"/f", time.Unix(1, 0), time.Unix(1, 0)))
			},
		},
		"renamed over": {
			func(dir string) error { return put(dir+"/f", "a") },
			func(dir string) error { return firstOf(put(dir+"/.f.swp", "b"), os.Rename(dir+"/.f.swp", dir+"/f")) },
		},
		"removed": {
			func(dir string) error { return put(dir+"/f", "a") },
			func(dir string) error { return os.Remove(dir + "/f") },
		},
		"appears": {
			func(string) error { return nil },
			func(dir string) error { return put(dir+"/f", "a") },
		},
		"appears behind a dangling link": {
			func(dir string) error { return os.Symlink(dir+"/later/f", dir+"/f") },
			func(dir string) error { return firstOf(os.Mkdir(dir+"/later", 0o755), put(dir+"/later/f", "a")) },
		},
		"written behind a link": {
			func(dir string) error {
				return firstOf(os.Mkdir(dir+"/far", 0o755), put(dir+"/far/f", "a"), os.Symlink("far/f", dir+"/f"))
			},
			func(dir string) error { return put(dir+"/far/f", "bb") },
		},
		"a link of a folder switched, as Kubernetes does": {
			func(dir string) error {
				return firstOf(os.Mkdir(dir+"/v1", 0o755), os.Mkdir(dir+"/v2", 0o755), put(dir+"/v1/f", "a"), put(dir+"/v2/f", "b"),
					os.Symlink("v1", dir+"/..data"), os.Symlink("..data/f", dir+"/f"))
			},
			func(dir string) error {
				return firstOf(os.Symlink("v2", dir+"/..tmp"), os.Rename(dir+"/..tmp", dir+"/..data"))
			},
		},
		"permissions changed": {
			func(dir string) error { return put(dir+"/f", "a") },
			func(dir string) error {
				time.Sleep(20 * time.Millisecond)
				return os.Chmod(dir+"/f", 0o600)
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			must(t, tt.prepare(dir))
			w := New(path)
			if got := w.Poll(); got != nil {
				t.Errorf("reported before the change: %q", got)
			}
			must(t, tt.change(dir))
			if got := w.Poll(); got != nil {
				t.Errorf("reported while it may still be written: %q", got)
			}
			if got := w.Poll(); !slices.Equal(got, []string{path}) {
				t.Errorf("the change is not reported: %q", got)
			}
			if got := w.Poll(); got != nil {
				t.Errorf("reported twice: %q", got)
			}
		})
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestFileThatKeepsChangingIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	w := New(path)
	content := ""
	for range 2 * patience {
		content += "x"
		must(t, put(path, content))
		if w.Poll() != nil {
			return
		}
	}
	t.Error("a file that is written all the time is never reported")
}

func TestSetKeepsStates(t *testing.T) {
	dir := t.TempDir()
	kept, added := filepath.Join(dir, "kept"), filepath.Join(dir, "added")
	w := New(kept, filepath.Join(dir, "dropped"))
	must(t, put(kept, "a"), put(added, "a"), put(filepath.Join(dir, "dropped"), "a"))
	w.Set(kept, added)
	w.Poll()
	if got := w.Poll(); !slices.Equal(got, []string{kept}) {
		t.Errorf("changed: %q, want only the path that is still watched", got)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	w := New(path)
	must(t, put(path, "a"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	w.Run(ctx, time.Millisecond, func(paths []string) {
		got = paths
		cancel()
	})
	if !slices.Equal(got, []string{path}) {
		t.Errorf("changed: %q", got)
	}
}

func TestFilesThatChangeTogetherAreReportedTogether(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	w := New(a, b)
	must(t, put(a, "a"))
	w.Poll()
	must(t, put(b, "b"))
	if got := w.Poll(); got != nil {
		t.Errorf("reported while another file is being written: %q", got)
	}
	if got := w.Poll(); !slices.Equal(got, []string{a, b}) {
		t.Errorf("changed: %q", got)
	}
}
