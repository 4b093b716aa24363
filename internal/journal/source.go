package journal

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"rempart/internal/journal/stream"
)

// FromStream returns a Source that reads a stream, and reports under the node's name.
func FromStream(r *stream.Reader, node string) Source { return &streamSource{r, node} }

// gapIfLost wraps ErrGap around an error about lost records, so that the follower fetches the newest snapshot.
func gapIfLost(err error) error {
	if errors.Is(err, stream.ErrLost) {
		return fmt.Errorf("%w: %w", ErrGap, err)
	}
	return err
}

type streamSource struct {
	r    *stream.Reader
	node string
}

func (s *streamSource) Follow(ctx context.Context, after Position, consumer Consumer) error {
	from, err := s.startSequence(ctx, after)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.r.Follow(ctx, from, func(r stream.Record) error {
			if from < after.Sequence || after.Sequence == 0 { // skip the records up to the position's version
				if head, _, err := ReadRecord(r.Data); err == nil && head.Version <= after.Version {
					return nil
				}
			}
			return consumer.Record(SequencedRecord{r.Sequence, r.Data})
		})
	})
	g.Go(func() error { return s.r.FollowBeats(ctx, consumer.Heartbeat) })
	return gapIfLost(g.Wait())
}

// startSequence returns the sequence after which following starts: the position's sequence if the stream holds the position's record there, and 0 if it is
// another stream. If the position's record is lost, the next record shows whether the stream is the same.
func (s *streamSource) startSequence(ctx context.Context, after Position) (uint64, error) {
	r, err := s.r.At(ctx, after.Sequence)
	if errors.Is(err, stream.ErrNone) && after.Sequence > 0 {
		r, err = s.r.At(ctx, after.Sequence+1)
		if err == nil {
			if head, _, err := ReadRecord(r.Data); err == nil && head.Version == after.Version+1 {
				return after.Sequence, nil
			}
			return 0, nil
		}
	}
	if errors.Is(err, stream.ErrNone) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if head, _, err := ReadRecord(r.Data); err != nil || head.Version != after.Version {
		return 0, nil
	}
	return after.Sequence, nil
}

func (s *streamSource) Newest(ctx context.Context) (SequencedRecord, error) {
	r, err := s.r.Last(ctx, string(RecordSnapshot))
	return SequencedRecord{r.Sequence, r.Data}, err
}

func (s *streamSource) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	return s.r.Object(ctx, name)
}

func (s *streamSource) Report(ctx context.Context, status []byte) error {
	return s.r.Report(ctx, s.node, status)
}
