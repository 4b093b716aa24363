package changeset

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rempart/internal/journal/publish"
)

// allStates and allEvents are all states and events of the table.
var (
	allStates = []State{none, Pending, abandoned, Held, Rejected, Refused, Published, Staged, withdrawing, Undone, DryRun}
	allEvents = []Event{
		CheckOnly, Claim, Hold, Refuse, Publish, PublishStaged, Approve, Reject, Expire, Replace, Reopen, Abandon,
		Advance, Withdraw, Continue, RequestUndo, Undo, Restore, RecoverPublished, RecoverStaged,
	}
)

// wanted lists every permitted transition, one row per state and event. The list repeats the table on purpose: whoever changes the table must change the test.
var wanted = []struct {
	from  State
	event Event
	to    State
}{
	{none, CheckOnly, DryRun},
	{none, Claim, Pending},
	{none, RecoverPublished, Published},
	{none, RecoverStaged, Staged},

	{Pending, Claim, Pending},
	{Pending, Hold, Held},
	{Pending, Refuse, Refused},
	{Pending, Publish, Published},
	{Pending, PublishStaged, Staged},
	{Pending, Reopen, Held},
	{Pending, Abandon, abandoned},
	{Pending, Undo, Undone},
	{Pending, RecoverPublished, Published},
	{Pending, RecoverStaged, Staged},

	{abandoned, Claim, Pending},
	{abandoned, Publish, Published},
	{abandoned, PublishStaged, Staged},
	{abandoned, Reopen, Held},
	{abandoned, Abandon, abandoned},
	{abandoned, Undo, Undone},
	{abandoned, RecoverPublished, Published},
	{abandoned, RecoverStaged, Staged},

	{Held, Approve, Pending},
	{Held, Reject, Rejected},
	{Held, Expire, Rejected},
	{Held, Replace, Pending},
	{Held, RecoverPublished, Published},
	{Held, RecoverStaged, Staged},

	{Rejected, RecoverPublished, Published},
	{Rejected, RecoverStaged, Staged},

	{Refused, RecoverPublished, Published},
	{Refused, RecoverStaged, Staged},

	{Published, RequestUndo, Published},
	{Published, Undo, Undone},
	{Published, RecoverPublished, Published},
	{Published, RecoverStaged, Staged},

	{Staged, Advance, Published},
	{Staged, Withdraw, withdrawing},
	{Staged, RequestUndo, Staged},
	{Staged, Undo, Undone},
	{Staged, RecoverPublished, Published},
	{Staged, RecoverStaged, Staged},

	{withdrawing, Continue, Staged},
	{withdrawing, RequestUndo, withdrawing},
	{withdrawing, Undo, Undone},
	{withdrawing, RecoverPublished, Published},
	{withdrawing, RecoverStaged, Staged},

	{Undone, Undo, Undone},
	{Undone, Restore, Published},
	{Undone, RecoverPublished, Published},
	{Undone, RecoverStaged, Staged},
}

// TestTransitions checks each combination of a state and an event: a transition in wanted returns its new state, and every other one returns a TransitionError.
func TestTransitions(t *testing.T) {
	type step struct {
		from  State
		event Event
	}
	to := map[step]State{}
	for _, w := range wanted {
		to[step{w.from, w.event}] = w.to
	}
	if len(to) != len(wanted) {
		t.Fatal("wanted lists a transition twice")
	}
	refusals := 0
	for _, from := range allStates {
		for _, event := range allEvents {
			t.Run(from.text()+" "+string(event), func(t *testing.T) {
				got, err := next(from, event)
				want, possible := to[step{from, event}]
				if possible {
					if err != nil || got != want {
						t.Errorf("got %q (%v), want %q", got, err, want)
					}
					return
				}
				refusals++
				refused := (*TransitionError)(nil)
				if !errors.As(err, &refused) || refused.State != from || refused.Event != event || got != from {
					t.Errorf("got %q (%v), want the old state and a TransitionError", got, err)
				}
			})
		}
	}
	if refusals+len(wanted) != len(allStates)*len(allEvents) {
		t.Errorf("%d transitions and %d refusals, want %d together", len(wanted), refusals, len(allStates)*len(allEvents))
	}
	if len(transitions) != len(allStates) {
		t.Errorf("the table has %d states, and allStates has %d", len(transitions), len(allStates))
	}
}

// stored returns a stored receipt that is in a state of the table.
func stored(s State) *Stored {
	r := &Stored{Receipt: Receipt{ID: "x", State: s}}
	switch s {
	case abandoned:
		r.State, r.Note = Pending, abandonedNote
	case Staged:
		r.Stage = &Stage{Share: 0.5}
	case withdrawing:
		r.State, r.Stage = Staged, &Stage{Share: 0.5, Withdrawal: "unusual"}
	}
	return r
}

// shown returns the state that a receipt shows for a state of the table.
func shown(s State) State {
	switch s {
	case abandoned:
		return Pending
	case withdrawing:
		return Staged
	}
	return s
}

// TestReceiptTakesStateOfTable checks each event on a receipt in each state: the receipt takes the state of the table, and a refused event does not change it.
func TestReceiptTakesStateOfTable(t *testing.T) {
	for _, from := range allStates {
		for _, event := range allEvents {
			r := stored(from)
			if r.state() != from {
				t.Fatalf("the stored form of state %q is read as state %q", from, r.state())
			}
			to, refused := next(from, event)
			err := r.apply(event)
			switch {
			case refused != nil:
				if kind, ok := KindOf(err); !ok || kind != Conflict || r.state() != from {
					t.Errorf("%q, %q: %v, state %q", from, event, err, r.state())
				}
			case err != nil:
				t.Errorf("event %q in state %q was refused: %v", event, from, err)
			case r.State != shown(to):
				t.Errorf("%q, %q: the receipt shows %q, want %q", from, event, r.State, shown(to))
			}
		}
	}
}

// TestStepsSetReceiptFields checks the fields that the named steps of a receipt set.
func TestStepsSetReceiptFields(t *testing.T) {
	published := publish.Receipt{Version: 7, Time: 1_700_000_000_000}
	at := time.UnixMilli(published.Time).UTC()

	r := stored(Pending)
	if err := r.markPublished(published, &Stage{Share: 0.1}); err != nil || r.state() != Staged || r.Version != 7 || !r.Time.Equal(at) {
		t.Errorf("staged: %v, %+v", err, r)
	}
	if err := r.startWithdrawal("too much"); err != nil || r.state() != withdrawing || !strings.Contains(r.Note, "too much") {
		t.Errorf("withdrawing: %v, %+v", err, r)
	}
	if err := r.check(Advance); err == nil || !strings.Contains(err.Error(), "being withdrawn") {
		t.Errorf("advanced while being withdrawn: %v", err)
	}
	if err := r.continueStage(&Stored{Receipt: Receipt{ID: "undo-x"}, Decider: "eve"}); err != nil || r.state() != Staged || !strings.Contains(r.Note, "rejected by eve") {
		t.Errorf("continued: %v, %+v", err, r)
	}
	if err := r.markAdvanced(8); err != nil || r.state() != Published || r.Stage != nil {
		t.Errorf("advanced: %v, %+v", err, r)
	}
	if _, err := r.markUndone("undo-x"); err != nil || r.state() != Undone || r.UndoneBy != "undo-x" {
		t.Errorf("undone: %v, %+v", err, r)
	}
	if changed, err := r.markRestored("undo-y"); err != nil || changed {
		t.Errorf("restored by another undo: %v", err)
	}
	if changed, err := r.markRestored("undo-x"); err != nil || !changed || r.state() != Published || r.UndoneBy != "" {
		t.Errorf("restored: %v, %+v", err, r)
	}

	r = stored(withdrawing)
	if withdrawn, err := r.markUndone(""); err != nil || !withdrawn || r.Share != 0.5 || r.Stage != nil {
		t.Errorf("withdrawn: %v, %+v", err, r)
	}
	if changed, err := r.markRestored(""); err != nil || !changed || r.state() != Undone {
		t.Errorf("a staged change set was restored: %v, %+v", err, r)
	}
}

// TestRefusalNamesPossibleStates checks that the error of an event that a person requested names the states in which the event is possible.
func TestRefusalNamesPossibleStates(t *testing.T) {
	for _, c := range []struct {
		from  State
		event Event
		want  string
	}{
		{Published, Approve, "the change set is published: only a held change set can be approved"},
		{Held, RequestUndo, "the change set is held: only a published or staged change set can be undone"},
		{withdrawing, Advance, "the change set is being withdrawn: only a staged change set can be extended to all servers"},
	} {
		_, err := next(c.from, c.event)
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	if slices.Contains(allEvents, "") {
		t.Error("allEvents contains an event with an empty name")
	}
}
