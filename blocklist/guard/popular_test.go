package guard

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
)

func TestEachPopular(t *testing.T) {
	type ranked struct {
		Rank int
		Name string
	}
	read := func(list string) (got []ranked) {
		t.Helper()
		err := EachPopular(strings.NewReader(list), func(rank int, name []byte) error {
			got = append(got, ranked{rank, blocklist.NameText(name)})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	for list, want := range map[string][]ranked{
		"":                                       nil,
		"1,a.example\n7,B.example\n":             {{1, "a.example"}, {7, "b.example"}},
		"# names\na.example\n\nb.example":        {{1, "a.example"}, {2, "b.example"}},
		"1,com\nx,a.example\n0,a.example\n9,a b": nil,
	} {
		if diff := cmp.Diff(want, read(list)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
	enough, n := errors.New("enough"), 0
	err := EachPopular(nil, func(rank int, name []byte) error {
		if n++; rank < 1 || len(name) < 4 {
			t.Errorf("rank %d of %q", rank, name)
		}
		if n == 20_000 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 20_000 {
		t.Errorf("the shipped list: %d names, %v", n, err)
	}
}
