package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rempart/internal/signing"
)

// HeartbeatEvery is the longest time between two heartbeats.
const HeartbeatEvery = 5 * time.Second

// Heartbeat is control's signed statement that a version is the newest at a time.
type Heartbeat struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"`
	Hash    string `json:"hash"`
	Time    int64  `json:"time"` // Unix milliseconds
}

// Seal returns the heartbeat signed with control's key.
func (h Heartbeat) Seal(key *signing.SecretKey) ([]byte, error) {
	payload, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return signing.Seal(signing.KindHeartbeat, payload, key), nil
}

// openHeartbeat checks a heartbeat's signature by the ring in force. last is the previous heartbeat.
func (st *State) openHeartbeat(data []byte, last Heartbeat) (Heartbeat, error) {
	h, s, err := peekHeartbeat(data)
	if err != nil {
		return h, err
	}
	key, err := st.SoleSigner(s, h.Time/1000, signing.RoleControl)
	if err == nil {
		err = cmp.Or(last.checkKeyAfter(h.Version, h.Time, key), st.heartbeat().checkKeyAfter(h.Version, h.Time, key))
	}
	return h, err
}

// checkKeyAfter returns an error if a statement about a version, dated at that time (Unix milliseconds), cannot have been signed after heartbeat h: h does not
// know the version, and the key had expired by h.Time. Without this check the holder of an expired key could sign a statement with an earlier date.
func (h Heartbeat) checkKeyAfter(version uint64, at int64, key signing.ParsedKey) error {
	if version > h.Version && !key.HasRole(signing.RoleControl, max(at, h.Time)/1000) {
		return fmt.Errorf("version %d: %w: its key expired before control's last heartbeat, of version %d", version, signing.ErrSeal, h.Version)
	}
	return nil
}

// heartbeat returns the state as a heartbeat: control stated that its version was the newest when it was published.
func (st *State) heartbeat() Heartbeat { return Heartbeat{st.Epoch, st.Version, st.Hash, st.Time} }

// PeekHeartbeat returns the content of a heartbeat without checking its signature.
func PeekHeartbeat(data []byte) (Heartbeat, error) {
	h, _, err := peekHeartbeat(data)
	return h, err
}

func peekHeartbeat(data []byte) (h Heartbeat, s *signing.Sealed, err error) {
	if len(data) > 4<<10 {
		return h, nil, fmt.Errorf("heartbeat: %w: too long", signing.ErrSeal)
	}
	if s, err = signing.Unseal(signing.KindHeartbeat, data); err == nil {
		err = json.Unmarshal(s.Payload, &h)
	}
	if err != nil {
		return h, nil, fmt.Errorf("heartbeat: %w", err)
	}
	return h, s, nil
}

// Heartbeat verifies a heartbeat and stores it. A heartbeat that is not newer than the last one is ignored.
func (w *followerConsumer) Heartbeat(data []byte) error {
	err := w.heartbeat(data)
	if err != nil {
		w.refused.Store(true)
	}
	return err
}

func (w *followerConsumer) heartbeat(data []byte) error {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	h, err := st.openHeartbeat(data, f.beat)
	if err != nil {
		f.stats.Refused++
		return nil // it may be signed under a later key ring; the next records show that
	}
	if h.Time < st.Time && h.Epoch <= st.Epoch { // older than the record in force
		return nil
	}
	if h.Epoch < st.Epoch { // from a journal that was continued without this epoch, at any time
		f.setOlderProblem(h, st)
		return nil
	}
	if h.Time <= f.beat.Time && h.Epoch <= f.beat.Epoch && (h.Epoch < f.beat.Epoch || h.Version <= f.beat.Version) {
		return nil // received before
	}
	if !w.gotHeartbeat { // a restarted control does not know this node yet
		w.gotHeartbeat = true
		f.reportNow()
	}
	f.beat, f.beatReceived, f.beatData = h, time.Now(), data
	f.offset.add(time.UnixMilli(h.Time).Sub(f.beatReceived))
	close(f.beatArrived)
	f.beatArrived = make(chan struct{})
	switch {
	case h.Epoch > st.Epoch:
		return errNewEpoch
	case h.Version < st.Version && h.Time > st.Time:
		f.setOlderProblem(h, st)
	case h.Version == st.Version && h.Hash != st.Hash:
		f.setProblemLocked(ErrFork.Error())
	case h.Version == st.Version && f.problem != "": // no record is missing here
		f.log.Info("control's changes arrive again", "version", st.Version)
		f.problem, f.outage = "", outage{}
		f.reportNow() // otherwise control shows the problem until the next report
	}
	return nil
}

// setOlderProblem stores the problem that control's journal is behind the state in force.
func (f *Follower) setOlderProblem(h Heartbeat, st *State) {
	f.setProblemLocked(fmt.Sprintf("control's newest version is %d, but version %d is in force here: was control restored from an older backup? The version in force stays", h.Version, st.Version))
}

// LastHeartbeat returns the newest heartbeat; its zero value for none.
func (f *Follower) LastHeartbeat() Heartbeat {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.beat
}

// Beat returns the newest heartbeat as it was received, once it names another version than after, or when ctx ends. So a client that is ahead of the journal
// gets an answer at once.
func (f *Follower) Beat(ctx context.Context, after uint64) []byte {
	for {
		f.mu.Lock()
		data, version, beaten := f.beatData, f.beat.Version, f.beatArrived
		f.mu.Unlock()
		if version != after && data != nil {
			return data
		}
		select {
		case <-beaten:
		case <-ctx.Done():
			return data
		}
	}
}

// clockOffset estimates by how much control's clock is ahead of this machine's clock. A heartbeat may be seconds old when it arrives, which makes the measured
// difference smaller. So the largest of the last differences is the best estimate.
type clockOffset struct {
	samples []time.Duration // oldest first
}

// maxOffsets is the number of heartbeats that the estimate uses. A clock that is set back shows after as many heartbeats.
const maxOffsets = 32

func (o *clockOffset) add(d time.Duration) {
	if len(o.samples) == maxOffsets {
		o.samples = append(o.samples[:0], o.samples[1:]...)
	}
	o.samples = append(o.samples, d)
}

// estimate returns 0 before the first heartbeat.
func (o *clockOffset) estimate() time.Duration {
	if len(o.samples) == 0 {
		return 0
	}
	return slices.Max(o.samples)
}
