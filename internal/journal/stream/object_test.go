package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestObjects(t *testing.T) {
	ctx := t.Context()
	c := testConfig(t)
	s := open(t, c)
	node := connect(t, s)
	eventually(t, "the connection", func() bool { _, err := node.Object(ctx, "none"); return errors.Is(err, ErrNone) })
	big := make([]byte, 20<<20+77)
	rand.NewChaCha8([32]byte{}).Read(big)
	contents := map[string][]byte{"empty": {}, "a name/of. any > kind": []byte("small"), "big": big, "exact": big[:2*chunkSize]}
	for name, content := range contents {
		for range 2 { // the second write replaces the object of the first one
			if err := s.PutObject(ctx, name, oddly(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, content := range contents {
		for _, r := range []*Reader{s.Reader, node} {
			if got, err := readObject(ctx, r, name); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(content), err)
			}
		}
	}
	var names []string
	infos, err := s.Objects(ctx)
	for _, info := range infos {
		names = append(names, info.Name)
		if info.Size != uint64(len(contents[info.Name])) || time.Since(info.ModTime) > time.Hour {
			t.Errorf("object %+v, want the size %d and a recent time", info, len(contents[info.Name]))
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"a name/of. any > kind", "big", "empty", "exact"}, names); err != nil || diff != "" {
		t.Errorf("Objects: %v, names (-want +got):\n%s", err, diff)
	}

	boom := errors.New("boom")
	if err := s.PutObject(ctx, "big", io.MultiReader(bytes.NewReader(big), failing{boom})); !errors.Is(err, boom) {
		t.Errorf("a failing reader: %v", err)
	}
	// The next start removes chunks that a killed writer left.
	if _, err := s.js.Publish(ctx, chunkSubject+"LEFT", big[:1000]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, c)
	if got, err := readObject(ctx, s.Reader, "big"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("after a failed replacement: %d bytes, %v", len(got), err)
	}
	there, err := s.js.Stream(ctx, objectStream)
	if err != nil {
		t.Fatal(err)
	}
	// These are 41 chunks of the object big, 1 of the small object, 2 of exact, and 4 descriptions.
	if n := there.CachedInfo().State.Msgs; n != 41+1+2+4 {
		t.Errorf("the stream has %d messages", n)
	}

	open, err := s.Object(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, chunkSize)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteObject(ctx, "big"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(open); !errors.Is(err, ErrLost) {
		t.Errorf("read of an object that was removed during the read: error %v", err)
	}
	if err := s.DeleteObject(ctx, "big"); !errors.Is(err, ErrNone) {
		t.Errorf("second removal: error %v", err)
	}
	if _, err := s.Object(ctx, "big"); !errors.Is(err, ErrNone) {
		t.Errorf("opened a removed object: %v", err)
	}
}

// oddly returns a Reader whose reads return an odd number of bytes.
func oddly(b []byte) io.Reader { return oddReader{bytes.NewReader(b)} }

type oddReader struct{ r io.Reader }

func (o oddReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 100_003)]) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func readObject(ctx context.Context, r *Reader, name string) ([]byte, error) {
	o, err := r.Object(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}
