package journal

import (
	"context"
	"fmt"
	"io"
	"time"
)

// forkPatience bounds the wait for the record that a source may not have.
const forkTimeout = 10 * time.Second

// forked reports, as ErrFork, that the record after the state is another history's. Who jumps over records within an epoch has to ask: a snapshot is bound to the
// record before it, not to what is in force here. Who signed that record does not matter: the key may be one that another history
// brought. A source that has it not is no reason to stay behind.
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
		return fmt.Errorf("the newest snapshot is not gone to: %w", ErrFork)
	}
	return nil
}

// firstRecord is a Reader of one record.
type firstRecord struct{ data []byte }

func (r *firstRecord) Record(e SequencedRecord) error {
	r.data = e.Data
	return io.EOF
}

func (*firstRecord) Heartbeat([]byte) error { return nil }
