package feed

import (
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
)

// TestAllowFileAcceptsEveryFormat checks that a line of each format allows its name, and that the log names the lines that do not.
func TestAllowFileAcceptsEveryFormat(t *testing.T) {
	f := newFixture(t)
	blocked := names1("n", 12)
	allow := f.file("allow.txt", "\xff\xfe"+fetchtest.UTF16("n0.example#why\r\nhttps://n1.example/\r\nn2[.]example\r\n*.n3.example\r\n@@||n4.example^|\r\n0.0.0.0 n5.example\r\n"+
		"https://n6.example/page\r\n\r\n32.66.216.184.93.rpz-ip CNAME .\r\n", false))
	cfg := Config{Lists: []string{f.file("a.txt", blocked)}, Allow: allow}
	l := f.once(cfg)
	for i, name := range strings.Fields(blocked) {
		if got, want := action(t, l, name), i < 6; (got == blocklist.Allow) != want {
			t.Errorf("%s: decision %v, allowed must be %v", name, got, want)
		}
	}
	f.once(cfg)
	log := f.log.String()
	for _, want := range []string{"line=7 why=\"it is a URL that names a page", "line=9 why="} {
		if n := strings.Count(log, want); n != 1 {
			t.Errorf("%q is logged %d times", want, n)
		}
	}
	if !strings.Contains(log, "file="+allow) {
		t.Error("the log does not name the file")
	}
}
