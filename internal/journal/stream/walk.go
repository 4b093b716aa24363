package stream

import (
	"context"
	"fmt"
)

// End returns the last sequence that the journal assigned to a record, even if that record is lost. It returns 0 for an empty journal.
func (s *Stream) End(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	journal, err := s.js.Stream(ctx, journalStream)
	if err != nil {
		return 0, fmt.Errorf("end of the journal: %w", translateError(err))
	}
	return journal.CachedInfo().State.LastSeq, nil
}

// Walk calls each with the records between two sequences that the journal still holds, in order. Unlike Follow it skips lost records: each sees them as gaps
// between sequences. It returns the first error of each.
func (r *Reader) Walk(ctx context.Context, from, to uint64, each func(Record) error) error {
	if from > to {
		return nil
	}
	err := r.eachMessage(ctx, journalStream, query{Sequence: max(from, 1)}, func(m message) error {
		if m.sequence > to {
			return errStopWalk
		}
		record, err := m.record()
		if err != nil {
			return err
		}
		return each(record)
	})
	if err == errStopWalk {
		return nil
	}
	return err
}

// errStopWalk ends a walk.
var errStopWalk = fmt.Errorf("the walk is complete")
