package publish

import (
	"context"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// ownSource is the source of control's own follower. It finds the newest snapshot even if a later one is lost.
type ownSource struct {
	journal.Source
	stream *stream.Stream
}

func newOwnSource(s *stream.Stream) ownSource {
	return ownSource{journal.FromStream(s.Reader, "control"), s}
}

// Newest implements journal.Source.
func (o ownSource) Newest(ctx context.Context) (journal.SequencedRecord, error) {
	r, err := o.stream.Last(ctx, string(journal.RecordSnapshot))
	return journal.SequencedRecord{Sequence: r.Sequence, Data: r.Data}, err
}
