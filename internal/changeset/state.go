package changeset

import (
	"slices"
	"strings"
)

// State is the state of a change set, as its receipt shows it.
type State string

// The states that receipts show.
const (
	Pending   State = "pending"   // a call is publishing it, or a crash interrupted that call: then the journal is searched for it
	Published State = "published" // in the journal, in force on all nodes that it is for
	Staged    State = "staged"    // in the journal, in force on a share of the nodes
	Held      State = "held"      // waiting for a second person's decision
	Rejected  State = "rejected"  // by a second person, or because nobody approved it in time
	Refused   State = "refused"   // no change of it is applied: guards refused all of them, or the journal refused the change set
	Undone    State = "undone"    // another change set undoes it, or none of its changes is in force any more
	DryRun    State = "dry-run"   // only checked; never stored
)

// The states that only the table has. A receipt shows them as another state with a note.
const (
	none        State = ""            // there is no receipt yet
	abandoned   State = "abandoned"   // shown as Pending: no call publishes it any more, and the journal does not hold it
	withdrawing State = "withdrawing" // shown as Staged: control withdraws it from the nodes that have it
)

// Event is a step of a change set that a person requests, or that control takes.
type Event string

// The events.
const (
	CheckOnly     Event = "check only"     // a dry run ended
	Claim         Event = "claim"          // a call starts to process a pushed change set
	Hold          Event = "hold"           // a guard or the key ring demands a second person
	Refuse        Event = "refuse"         // no change is left to apply, or the journal refused the change set
	Publish       Event = "publish"        // the journal holds it, for all nodes
	PublishStaged Event = "publish staged" // the journal holds it, for a share of the nodes
	Approve       Event = "approve"        // a second person approves it
	Reject        Event = "reject"         // a second person rejects it
	Expire        Event = "expire"         // nobody approved it before its end
	Replace       Event = "replace"        // its author pushes it again, without the changes that guards hold
	Reopen        Event = "reopen"         // an approval was interrupted before the journal held it
	Abandon       Event = "abandon"        // the call that claimed it was interrupted before the journal held it
	Advance       Event = "advance"        // its stage ends: it is extended to all nodes
	Withdraw      Event = "withdraw"       // control starts to withdraw it, because nodes block unusually much or little
	Continue      Event = "continue"       // a person rejected its withdrawal: its stage continues
	RequestUndo   Event = "request undo"   // a person asks for a change set that undoes it
	Undo          Event = "undo"           // the journal holds a change set that undoes it, or none of its changes is in force any more
	Restore       Event = "restore"        // the change set that undid it was undone itself

	// After a restore from a backup, receipts can be older than the journal. These events set the state that the journal shows.
	RecoverPublished Event = "recover as published"
	RecoverStaged    Event = "recover as staged"
)

// transitions is the table of transitions. For each state it holds the possible events and the states that follow them.
// Every other event is refused with a TransitionError.
var transitions = map[State]map[Event]State{
	none:        {CheckOnly: DryRun, Claim: Pending, RecoverPublished: Published, RecoverStaged: Staged},
	Pending:     {Claim: Pending, Hold: Held, Refuse: Refused, Publish: Published, PublishStaged: Staged, Reopen: Held, Abandon: abandoned, Undo: Undone, RecoverPublished: Published, RecoverStaged: Staged},
	abandoned:   {Claim: Pending, Publish: Published, PublishStaged: Staged, Reopen: Held, Abandon: abandoned, Undo: Undone, RecoverPublished: Published, RecoverStaged: Staged},
	Held:        {Approve: Pending, Reject: Rejected, Expire: Rejected, Replace: Pending, RecoverPublished: Published, RecoverStaged: Staged},
	Rejected:    {RecoverPublished: Published, RecoverStaged: Staged},
	Refused:     {RecoverPublished: Published, RecoverStaged: Staged},
	Published:   {RequestUndo: Published, Undo: Undone, RecoverPublished: Published, RecoverStaged: Staged},
	Staged:      {Advance: Published, Withdraw: withdrawing, RequestUndo: Staged, Undo: Undone, RecoverPublished: Published, RecoverStaged: Staged},
	withdrawing: {Continue: Staged, RequestUndo: withdrawing, Undo: Undone, RecoverPublished: Published, RecoverStaged: Staged},
	Undone:      {Undo: Undone, Restore: Published, RecoverPublished: Published, RecoverStaged: Staged},
	DryRun:      {},
}

// next returns the state that follows an event, or a TransitionError if the event is not possible in the state.
func next(s State, e Event) (State, error) {
	if to, ok := transitions[s][e]; ok {
		return to, nil
	}
	return s, &TransitionError{State: s, Event: e}
}

// A TransitionError is the error of an event that is not possible in the state of a change set.
type TransitionError struct {
	State State
	Event Event
}

// Error names the state, and the states in which the event is possible.
func (e *TransitionError) Error() string {
	participle, asked := map[Event]string{
		Approve: "approved", Reject: "rejected", Expire: "expired", Replace: "replaced", Advance: "extended to all servers", Withdraw: "withdrawn", RequestUndo: "undone",
	}[e.Event]
	if !asked {
		return "the change set is " + e.State.text() + ", in which state the event " + string(e.Event) + " is not possible"
	}
	var possible []string
	for s, events := range transitions {
		if _, ok := events[e.Event]; ok && s != none && s != withdrawing && s != abandoned {
			possible = append(possible, s.text())
		}
	}
	slices.Sort(possible)
	return "the change set is " + e.State.text() + ": only a " + strings.Join(possible, " or ") + " change set can be " + participle
}

// text returns the name of the state for messages.
func (s State) text() string {
	switch s {
	case none:
		return "new"
	case abandoned:
		return string(Pending)
	case withdrawing:
		return "being withdrawn"
	}
	return string(s)
}
