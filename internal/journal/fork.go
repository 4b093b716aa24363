package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// forkPatience bounds the wait for the record that a source may not have.
const forkPatience = 10 * time.Second

// forked reports, as ErrFork, that the record after the state is another history's. Who jumps over records within an epoch has to ask: a snapshot is bound to the
// record before it, not to what is in force here. A source that has not that record is no reason to stay behind, and nor is what nobody rightly signed.
func (f *Follower) forked(ctx context.Context, st *State) error {
	if st.Version == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, forkPatience)
	defer cancel()
	var next firstRecord
	_ = f.cfg.Source.Follow(ctx, Position{st.Version, st.Sequence}, &next)
	if next.data == nil {
		return nil
	}
	if _, err := st.check(next.data, f.cfg.Trust); errors.Is(err, ErrFork) {
		return fmt.Errorf("the newest snapshot is not gone to: %w", err)
	}
	return nil
}

// firstRecord is a Reader of one record.
type firstRecord struct{ data []byte }

func (r *firstRecord) Record(e Entry) error {
	r.data = e.Data
	return io.EOF
}

func (*firstRecord) Heartbeat([]byte) error { return nil }
