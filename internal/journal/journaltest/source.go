package journaltest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
)

// OverHTTP returns a source that reads control's journal over HTTP.
func OverHTTP(t testing.TB, c *Control) journal.Source {
	t.Helper()
	srv := httptest.NewServer(mirror.NewHandler(c, func(*http.Request, []byte) error { return nil }))
	t.Cleanup(srv.Close)
	client, err := mirror.NewClient(srv.URL, nil, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// FromStream returns a source that reads control's own stream, as a node in control's process does.
func FromStream(c *Control, name string) journal.Source {
	return journal.FromStream(c.Stream.Reader, name)
}

// Offline is a source that cannot be reached.
type Offline struct{}

var errUnreachable = errors.New("unreachable")

// Follow implements journal.Source, as the other methods do.
func (Offline) Follow(context.Context, journal.Position, journal.Consumer) error {
	return errUnreachable
}

func (Offline) Newest(context.Context) (journal.SequencedRecord, error) {
	return journal.SequencedRecord{}, errUnreachable
}

func (Offline) Object(context.Context, string) (io.ReadCloser, error) { return nil, errUnreachable }

func (Offline) Report(context.Context, []byte) error { return errUnreachable }

// Tap is a source that keeps the consumer that follows it, so that a test can pass records and heartbeats of its own to the follower.
type Tap struct {
	journal.Source

	mu       sync.Mutex
	consumer journal.Consumer
}

// Follow implements journal.Source.
func (s *Tap) Follow(ctx context.Context, after journal.Position, to journal.Consumer) error {
	s.mu.Lock()
	s.consumer = to
	s.mu.Unlock()
	return s.Source.Follow(ctx, after, to)
}

// Consumer returns the consumer that followed last. It waits until there is one.
func (s *Tap) Consumer(t testing.TB) (c journal.Consumer) {
	t.Helper()
	WaitFor(t, "a follower", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		c = s.consumer
		return c != nil
	})
	return c
}

// SlowSource delays the objects of a source until Open is closed.
type SlowSource struct {
	journal.Source
	Open chan struct{}
}

// Object implements journal.Source.
func (s SlowSource) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	select {
	case <-s.Open:
		return s.Source.Object(ctx, name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
