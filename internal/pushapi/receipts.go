package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

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
	Kind     string    `json:"kind,omitempty" enum:"suspend,resume" doc:"Absent for a change set. Suspending and resuming enforcement have receipts too."`
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
	HeldAs   string    `json:"held_as,omitempty" doc:"The change set of those changes that guards hold, where they were asked to be set apart."`
	SetApart int       `json:"set_apart,omitempty" doc:"How many changes that one has."`
	HeldNow  State     `json:"held_as_state,omitempty" enum:"pending,published,staged,held,rejected,refused,undone" doc:"The present state of that one."`
	PartOf   string    `json:"part_of,omitempty" doc:"The change set that these changes were pushed with, and set apart from because guards hold them."`
	Undoes   string    `json:"undoes,omitempty" doc:"The change set it undoes."`
	UndoneBy string    `json:"undone_by,omitempty"`
	Note     string    `json:"note,omitempty" doc:"What happened to it by itself."`
	Digest   string    `json:"digest,omitempty" doc:"SHA-512 of the octets that are signed, in hexadecimal."`
	Reaches  *int      `json:"reaches,omitempty" doc:"For how many of the servers that reported when it was pushed or published it has a change; while it is staged, of those that report. Absent where its changes are for all."`
	Warnings []string  `json:"warnings,omitempty" doc:"Countries and operators that no server reports: its changes for them have no effect. Also that a staged change set is tried on no server."`
	Nodes    []string  `json:"nodes,omitempty" doc:"Of a staged change set: the servers on which it is in force, of those that report."`
}

// kept is a receipt as the bucket holds it.
type kept struct {
	Receipt
	Content  string   `json:"content"`           // what was uploaded, as a hash: the same ID with another one is another change set
	Owner    string   `json:"owner"`             // the person who pushed it
	Until    int64    `json:"until,omitempty"`   // Unix seconds from which it must not be published any more
	Touched  int64    `json:"touched"`           // Unix seconds of the last change of state
	Instance string   `json:"instance"`          // which run of a control wrote this
	Stage    *stage   `json:"stage,omitempty"`   // while it is staged
	Share    float64  `json:"share,omitempty"`   // it was staged to when it was undone
	Decider  string   `json:"decider,omitempty"` // who rejected it; empty where nobody decided in time
	Left     []string `json:"left,omitempty"`    // of what undoes another: what UndoResult tells
	Lefts    int      `json:"lefts,omitempty"`
	Audience audience `json:"audience,omitzero"`

	revision uint64
}

func (a *API) receipt(ctx context.Context, id string) (*kept, error) {
	var data []byte
	var revision uint64
	err := error(stream.ErrNone)
	if idForm.MatchString(id) {
		data, revision, err = a.receipts.Get(ctx, id)
	}
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.id", "no change set of that id was pushed here")
	}
	k, err := readKept(data, err)
	if err != nil {
		return nil, a.unavailable("receipts cannot be read", err)
	}
	k.revision = revision
	return k, nil
}

// readKept reads a receipt that a bucket gave.
func readKept(data []byte, err error) (*kept, error) {
	k := &kept{}
	if err == nil {
		err = json.Unmarshal(data, k)
	}
	return k, err
}

// save writes a receipt, unless somebody else did since it was read: then its error is stream.ErrBehind.
func (a *API) save(ctx context.Context, k *kept) error {
	k.Touched, k.Instance = time.Now().Unix(), a.instance
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if k.revision, err = a.receipts.Update(ctx, k.ID, data, k.revision); err == nil {
		a.open.note(k)
	}
	return err
}

// claimTime is how long a pending change set is left to the control that claimed it.
const claimTime = 2 * time.Minute

// claim makes a change set's receipt before anything else happens, so that a crash leaves a trace of it. Where there is one already, done is it,
// resolved. Whoever claims has entered the ID.
func (a *API) claim(ctx context.Context, k *kept) (done *kept, err error) {
	k.State = Pending
	if err = a.create(ctx, k); err == nil {
		return nil, nil
	}
	if !errors.Is(err, stream.ErrExists) {
		return nil, a.unavailable("the change set was not taken", err)
	}
	old, err := a.receipt(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	if old.Content != k.Content && old.Content != "" { // of a recovered one it is not known
		return nil, otherSet()
	}
	if old.State != Pending {
		return old, nil
	}
	if free, err := a.resolve(ctx, old); err != nil || !free {
		return old, err
	}
	k.revision = old.revision // whoever began it did not end it: it is this call's now
	switch err := a.save(ctx, k); {
	case errors.Is(err, stream.ErrBehind):
		return nil, underWay()
	case err != nil:
		return nil, a.unavailable("the change set was not taken", err)
	}
	return nil, nil
}

// otherSet is the answer to a change set whose ID another one has.
func otherSet() error {
	return problem(http.StatusConflict, "id", "another change set has this id: each needs an id of its own")
}

// conclude ends what a crash left: a change set that is pending for long, and that nobody has in hand.
func (a *API) conclude(ctx context.Context, id string) error {
	k, err := a.receipt(ctx, id)
	switch {
	case err != nil:
		return err
	case k.State != Pending:
		a.open.note(k) // another control concluded it
		return nil
	case !k.stale() || a.flights.taken(id): // a call may have it for long: nobody waits for that
		return nil
	}
	return a.decide(ctx, id, Pending, func(k *kept) error {
		free, err := a.resolve(ctx, k)
		if err != nil {
			return err
		}
		if !free {
			a.letGo(ctx, id, true)
			return nil
		}
		_, _, err = a.holds.Get(ctx, id)
		switch {
		case err == nil && time.Since(time.Unix(k.Touched, 0)) < claimTime+largeTime:
			return nil // another control may be publishing it still, large as it is
		case err == nil:
			k.State, k.Approved = Held, nil // the crash came before what was approved was published
		case errors.Is(err, stream.ErrNone):
			if k.Note = lost; k.Undoes != "" {
				k.Note = lostUndo
			}
		default:
			return err
		}
		return a.save(ctx, k)
	})
}

// The notes of pending change sets that nobody publishes any more.
const (
	lost     = "it was not published: push it again with the same id"
	lostUndo = "it was not published: undo it again"
)

// isLost reports whether nobody publishes it any more.
func (k *kept) isLost() bool { return k.Note == lost || k.Note == lostUndo }

// stale reports whether a pending change set was left by the control that claimed it.
func (k *kept) stale() bool { return time.Since(time.Unix(k.Touched, 0)) > claimTime }

// resolve looks what became of a pending change set: the journal says it. free says that it was not published, and that nobody is about to.
func (a *API) resolve(ctx context.Context, k *kept) (free bool, err error) {
	r, set, err := a.cfg.Control.FindSet(ctx, k.ID)
	if errors.Is(err, stream.ErrNone) {
		if k.Instance == a.instance || k.stale() {
			return true, nil
		}
		return false, underWay()
	}
	if err != nil {
		return false, a.unavailable("the journal cannot be read", err)
	}
	a.published(k, set, journal.Receipt{Version: r.Version, Time: r.Time})
	if err := a.save(ctx, k); err != nil && !errors.Is(err, stream.ErrBehind) {
		return false, a.unavailable("the receipt was not written; the change set is published", err)
	}
	if k.Undoes != "" {
		a.undone(ctx, k.Undoes, k.ID)
	}
	return false, nil
}

// underWay is the answer while another control has a change set in hand, or had when it ended.
func underWay() error {
	err := problem(http.StatusServiceUnavailable, "id", "this change set is being published: push it again in a moment")
	return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"10"}})
}

// published notes what the journal says of a change set.
func (a *API) published(k *kept, set *journal.Set, r journal.Receipt) {
	k.State, k.Version, k.Time, k.Note = Published, r.Version, time.UnixMilli(r.Time).UTC(), ""
	if set.Stage != nil {
		k.State, k.Stage = Staged, a.fleet.begin(k.ID, set.Stage, r)
	}
}

// newest hands the newest receipts that f wants to it, newest first. It reads them all.
func (a *API) newest(ctx context.Context, most int, want func(*kept) bool) ([]Receipt, error) {
	var all []Receipt
	order := func(x, y Receipt) int { return y.Time.Compare(x.Time) }
	err := a.receipts.Each(ctx, func(_ string, value []byte) error {
		var k kept
		if err := json.Unmarshal(value, &k); err != nil || !want(&k) {
			return err
		}
		k.Refused, k.Held = slices.Clone(k.Refused[:min(len(k.Refused), 10)]), slices.Clone(k.Held[:min(len(k.Held), 10)])
		if all = append(all, k.Receipt); len(all) >= 2*most {
			slices.SortFunc(all, order)
			all = all[:most]
		}
		return nil
	})
	slices.SortFunc(all, order)
	return all[:min(len(all), most)], err
}

// flights are what calls have in hand: one at a time each.
type flights struct {
	mu sync.Mutex
	by map[string]chan struct{}
}

// enter has a change set in hand until leave is called, once nobody else has it.
func (a *API) enter(ctx context.Context, id string) (leave func(), err error) {
	f := &a.flights
	for {
		f.mu.Lock()
		other := f.by[id]
		if other == nil {
			done := make(chan struct{})
			f.by[id] = done
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.by, id)
				f.mu.Unlock()
				close(done)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, a.unavailable("another call has the change set in hand", ctx.Err())
		}
	}
}

// taken reports whether a call has a change set in hand.
func (f *flights) taken(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.by[id] != nil
}

// open are the change sets that something happens to by itself: what is staged, held, or pending.
type open struct {
	mu sync.Mutex
	by map[string]State
}

// note notes how a change set stands.
func (o *open) note(k *kept) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k.State == Held || k.State == Staged || k.State == Pending && !k.isLost() {
		o.by[k.ID] = k.State
	} else {
		delete(o.by, k.ID)
	}
}

// ids are those that stand so, in order.
func (o *open) ids(states ...State) (ids []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, s := range o.by {
		if slices.Contains(states, s) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
