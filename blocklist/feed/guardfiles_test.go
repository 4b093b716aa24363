//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package feed

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rempart/blocklist/feed/guardfile"
)

// TestUnusableGuardFileKeepsEarlierGuards replaces each file of the guards by a pipe, a folder, and a link to an endless device: lists are still loaded, with
// the earlier guards.
func TestUnusableGuardFileKeepsEarlierGuards(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		for _, name := range []string{"essential.txt", "popular.csv", "released.txt"} {
			t.Run(what+" "+name, func(t *testing.T) {
				f := newFixture(t)
				list := f.file("a.txt", "first.example\n")
				l := f.start(Config{Lists: []string{list}, Guards: f.guards(guardfile.Config{
					Essential: f.file("essential.txt", "precious.example\n"), Popular: f.file("popular.csv", "1,liked.example\n"), Released: f.file("released.txt", "# none\n"),
				})})
				f.run(l)
				path := f.dir + "/" + name
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the mistake is logged", func() bool { return strings.Contains(f.log.String(), "not a regular file") })
				f.file("a.txt", "first.example\nsecond.example\nprecious.example\nliked.example\n")
				eventually(t, "the new name", func() bool { return blocks(t, l, "second.example") })
				if blocks(t, l, "precious.example") || blocks(t, l, "liked.example") {
					t.Error("the earlier guards are not in use")
				}
			})
		}
	}
}

// TestMistypedGuardLinesAreSkipped uses files of essential and released names with lines that cannot be read: the other lines are in effect, and lists are
// loaded.
func TestMistypedGuardLinesAreSkipped(t *testing.T) {
	f := newFixture(t)
	list := f.file("a.txt", "precious.example\nliked.example\nevil.example\n")
	l := f.start(Config{Lists: []string{list}, Guards: f.guards(guardfile.Config{
		Essential: f.file("essential.txt", "not a name\nprecious.example\n=fr\n"+strings.Repeat("x", 100_000)+"\nlast.example\n"),
		Popular:   f.file("popular.csv", "1,liked.example\n"), Released: f.file("released.txt", "liked.example\n???\n"),
	})})
	f.run(l)
	if !blocks(t, l, "evil.example") || !blocks(t, l, "liked.example") || blocks(t, l, "precious.example") {
		t.Error("the lines that can be read are not in effect")
	}
	if essential, released := l.Guards().Skipped(); essential != 3 || released != 1 {
		t.Errorf("%d and %d lines are counted", essential, released)
	}
	for _, want := range []string{"line 1: ", "line 3: ", "line 4: longer than", "released.txt, line 2: "} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, f.log.String())
		}
	}
	f.file("a.txt", "evil.example\nlater.example\nlast.example\n")
	eventually(t, "the later name", func() bool { return blocks(t, l, "later.example") })
	if blocks(t, l, "last.example") {
		t.Error("a name on a line after a skipped line is not protected")
	}
}
