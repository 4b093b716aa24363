package journal

import (
	"context"
	"fmt"
	"io"
	"time"
)

// forkTimeout bounds the wait for a record that a source may not have.
const forkTimeout = 10 * time.Second

// checkFork returns ErrFork if the source's record after the state belongs to another history. It must be called before a jump over records within an epoch: a
// snapshot is bound to the previous record, not to the state in force. The signature of that record is not checked, because the other history may have
// introduced its key. If the source does not have the record, checkFork returns nil.
func (f *Follower) checkFork(ctx context.Context, st *State) error {
	if st.Version == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, forkTimeout)
	defer cancel()
	var next firstRecord
	_ = f.cfg.Source.Follow(ctx, Position{st.Version, st.Sequence}, &next)
	if next.data == nil {
		return nil
	}
	if r, _, err := ReadRecord(next.data); err == nil && r.Epoch == st.Epoch && r.Version == st.Version+1 && r.Previous != st.Hash {
		return fmt.Errorf("the newest snapshot is not used: %w", ErrFork)
	}
	return nil
}

// firstRecord is a Consumer of one record.
type firstRecord struct{ data []byte }

func (r *firstRecord) Record(e SequencedRecord) error {
	r.data = e.Data
	return io.EOF
}

func (*firstRecord) Heartbeat([]byte) error { return nil }
