package spelling

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"REMPART_LISTS", "REMPART_LISTEN", "REMPART_FEEDS", "REMPART_ALLOW", "check", "feeds", "--json"}
	for word, want := range map[string]string{
		"REMPART_LIST": "REMPART_LISTS", "REMPART_LSITS": "REMPART_LISTS", "rempart_allow": "REMPART_ALLOW", "REMPART_FEED": "REMPART_FEEDS",
		"chekc": "check", "chek": "check", "feed": "feeds", "--jsno": "--json", "REMPART_SOMETHING_ELSE": "", "serve": "", "x": "", "": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
