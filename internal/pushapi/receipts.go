package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// State is what became of a change set.
type State string

// The states.
const (
	Pending   State = "pending"   // being published; or a crash came between, and the journal says what became of it
	Published State = "published" // in the journal
	Staged    State = "staged"    // in the journal, in force on a share of the nodes
	Held      State = "held"      // waits for a second person
	Rejected  State = "rejected"  // by a second person, or by nobody for too long
	Refused   State = "refused"   // nothing of it counts
	Undone    State = "undone"
	DryRun    State = "dry-run"
)

// Receipt is what became of a change set.
type Receipt struct {
	ID       string    `json:"id"`
	State    State     `json:"state" enum:"pending,published,staged,held,rejected,refused,undone,dry-run"`
	Version  uint64    `json:"version,omitempty" doc:"Of the set, from which on it is in force."`
	Time     time.Time `json:"time" doc:"When it was taken, and once published, when that was."`
	By       string    `json:"by" doc:"Whose token."`
	Authors  []string  `json:"authors,omitempty" doc:"The keys that signed it."`
	Approved []string  `json:"approved,omitempty"`
	Comment  string    `json:"comment,omitempty"`
	Accepted int       `json:"accepted" doc:"How many changes count."`
	Refusals int       `json:"refusals" doc:"How many do not."`
	Refused  []Refusal `json:"refused,omitempty" doc:"The first thousand of those, each with its reason."`
	Holds    int       `json:"holds,omitempty" doc:"For how many reasons it is held."`
	Held     []Refusal `json:"held,omitempty" doc:"The first thousand of those."`
	Undoes   string    `json:"undoes,omitempty" doc:"The change set it undoes."`
	UndoneBy string    `json:"undone_by,omitempty"`
	Note     string    `json:"note,omitempty" doc:"What happened to it by itself."`
	Digest   string    `json:"digest,omitempty" doc:"SHA-512 of the octets that are signed, in hexadecimal."`
}

// kept is a receipt as the bucket holds it.
type kept struct {
	Receipt
	Content string `json:"content"`         // what was uploaded, as a hash: the same ID with another one is another change set
	Owner   string `json:"owner"`           // the person who pushed it
	Touched int64  `json:"touched"`         // Unix seconds of the last change of state
	Stage   *stage `json:"stage,omitempty"` // while it is staged

	revision uint64
}

func (a *API) receipt(ctx context.Context, id string) (*kept, error) {
	data, revision, err := a.receipts.Get(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.id", "no change set of that id was pushed here")
	}
	k := &kept{revision: revision}
	if err == nil {
		err = json.Unmarshal(data, k)
	}
	if err != nil {
		return nil, a.unavailable("receipts cannot be read", err)
	}
	return k, nil
}

// save writes a receipt, unless somebody else did since it was read.
func (a *API) save(ctx context.Context, k *kept) error {
	k.Touched = time.Now().Unix()
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	k.revision, err = a.receipts.Update(ctx, k.ID, data, k.revision)
	return err
}

// claimTime is how long a pending change set is left to who claimed it.
const claimTime = 2 * time.Minute

// claim makes a change set's receipt before anything else happens. Where there is one already, done is it, resolved.
func (a *API) claim(ctx context.Context, k *kept) (done *kept, err error) {
	k.State, k.Touched = Pending, time.Now().Unix()
	data, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	for range 100 {
		k.revision, err = a.receipts.Create(ctx, k.ID, data)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, stream.ErrExists) {
			return nil, a.unavailable("the change set was not taken", err)
		}
		old, err := a.receipt(ctx, k.ID)
		if err != nil {
			return nil, err
		}
		if old.Content != k.Content {
			return nil, problem(http.StatusConflict, "id", "another change set has this id: each needs an id of its own")
		}
		if old.State != Pending {
			return old, nil
		}
		if found, err := a.inJournal(ctx, old); err != nil || found {
			return old, err
		}
		if time.Since(time.Unix(old.Touched, 0)) > claimTime { // whoever began it did not end it: it is this call's now
			k.revision = old.revision
			if err := a.save(ctx, k); err == nil {
				return nil, nil
			}
		}
		select { // another call publishes it
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, problem(http.StatusConflict, "id", "this change set is being published: ask for it in a moment")
}

// inJournal completes a pending receipt by what the journal holds, if it does.
func (a *API) inJournal(ctx context.Context, k *kept) (bool, error) {
	r, set, err := a.cfg.Control.FindSet(ctx, k.ID)
	if errors.Is(err, stream.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, a.unavailable("the journal cannot be read", err)
	}
	k.State, k.Version, k.Time = Published, r.Version, time.UnixMilli(r.Time).UTC()
	if set.Stage != nil {
		k.State, k.Stage = Staged, newStage(set.Stage, r)
	}
	if err := a.save(ctx, k); err != nil && !errors.Is(err, stream.ErrBehind) {
		return true, a.unavailable("the receipt was not written; the change set is published", err)
	}
	return true, nil
}

// each hands every receipt to f, newest first.
func (a *API) eachReceipt(ctx context.Context, f func(*kept)) error {
	var all []*kept
	err := a.receipts.Each(ctx, func(_ string, value []byte) error {
		k := &kept{}
		if err := json.Unmarshal(value, k); err != nil {
			return err
		}
		all = append(all, k)
		return nil
	})
	if err != nil {
		return a.unavailable("receipts cannot be read", err)
	}
	slices.SortFunc(all, func(x, y *kept) int { return y.Time.Compare(x.Time) })
	for _, k := range all {
		f(k)
	}
	return nil
}

// newStage is a stage that begins with a record.
func newStage(s *journal.Stage, r *journal.Record) *stage {
	return &stage{Share: s.Share, Until: r.Time/1000 + s.Seconds}
}
