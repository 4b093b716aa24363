package changeset

import (
	"encoding/json"
	"fmt"
	"time"

	"rempart/internal/journal/publish"
)

// Receipt is the state and history of a change set in the format of the API.
type Receipt struct {
	ID       string    `json:"id" doc:"The ID of the change set."`
	Kind     string    `json:"kind,omitempty" enum:"suspend,resume" doc:"Absent for a change set. Suspending and resuming enforcement (the kill switch) have receipts too."`
	State    State     `json:"state" enum:"pending,published,staged,held,rejected,refused,undone,dry-run" doc:"The state of the change set."`
	Version  uint64    `json:"version,omitempty" doc:"The version of the set from which on the change set is in force."`
	Time     time.Time `json:"time" doc:"When the change set was pushed or, once it is published, when it was published."`
	By       string    `json:"by" doc:"The name of the token with which the change set was pushed."`
	Authors  []string  `json:"authors,omitempty" doc:"The IDs of the author keys that signed the change set."`
	Approved []string  `json:"approved,omitempty" doc:"The names of the tokens with which the change set was approved."`
	Comment  string    `json:"comment,omitempty" doc:"The comment with which the change set was pushed."`
	Accepted int       `json:"accepted" doc:"The number of changes that are applied once the change set is published."`
	Refusals int       `json:"refusals" doc:"The number of changes that are refused and never applied."`
	Refused  []Refusal `json:"refused,omitempty" doc:"The first thousand refused changes, each with its reason."`
	Holds    int       `json:"holds,omitempty" doc:"The number of reasons for which the change set is held."`
	Held     []Refusal `json:"held,omitempty" doc:"The first thousand reasons for which the change set is held."`
	HeldAs   string    `json:"held_as,omitempty" doc:"The ID of the change set that holds the changes which guards hold. Present if the push asked to hold them separately."`
	SetApart int       `json:"set_apart,omitempty" doc:"The number of changes in the change set that held_as names."`
	HeldNow  State     `json:"held_as_state,omitempty" enum:"pending,published,staged,held,rejected,refused,undone" doc:"The present state of the change set that held_as names."`
	PartOf   string    `json:"part_of,omitempty" doc:"The ID of the change set with which these changes were pushed. They are held separately because guards hold them."`
	Undoes   string    `json:"undoes,omitempty" doc:"The ID of the change set that this one undoes."`
	UndoneBy string    `json:"undone_by,omitempty" doc:"The ID of the change set that undid this one."`
	Note     string    `json:"note,omitempty" doc:"An explanation of the state, for example the reason why control withdrew the change set."`
	Digest   string    `json:"digest,omitempty" doc:"The SHA-512 of the signed bytes, in hexadecimal."`
	Reaches  *int      `json:"reaches,omitempty" doc:"The number of reporting servers for which the change set has a change: when it was pushed or published or, while it is staged, now. Absent if its changes are for all servers."`
	Warnings []string  `json:"warnings,omitempty" doc:"Warnings about countries and operators that no server reports: changes for them have no effect. Also a warning if a staged change set reaches no server."`
	Nodes    []string  `json:"nodes,omitempty" doc:"The names of the reporting servers on which the staged change set is in force."`
}

// Refusal is the reason why a change of a change set is refused or held.
type Refusal struct {
	Line  int    `json:"line" doc:"The line of the upload, or the position in the list of changes, from 1."`
	Name  string `json:"name,omitempty" doc:"The name that the change concerns."`
	Guard string `json:"guard" doc:"The guard that refuses or holds the change, or the field that is wrong."`
	Why   string `json:"why" doc:"The reason, as a sentence."`
}

// Stored is a receipt as the journal's bucket of receipts stores it.
type Stored struct {
	Receipt
	Content  string   `json:"content"`           // hash of the upload: another upload with the same ID is another change set
	Owner    string   `json:"owner"`             // the person who pushed it
	Until    int64    `json:"until,omitempty"`   // Unix seconds from which on it must not be published
	Touched  int64    `json:"touched"`           // Unix seconds of the last write
	Instance string   `json:"instance"`          // the run of a control that wrote this receipt last
	Stage    *Stage   `json:"stage,omitempty"`   // while it is staged
	Share    float64  `json:"share,omitempty"`   // the share of nodes it was staged to when it was undone
	Decider  string   `json:"decider,omitempty"` // the token that rejected it; empty if nobody decided in time
	Left     []string `json:"left,omitempty"`    // of a change set that undoes another: names that later change sets changed
	Lefts    int      `json:"lefts,omitempty"`   // the number of those names
	Audience Audience `json:"audience,omitzero"`

	revision uint64 // of the bucket's value that was read or written last
}

// Stage is the stored progress of a staged change set: it is in force on a share of the nodes, until it is extended to all of
// them or withdrawn.
type Stage struct {
	Share      float64             `json:"share"`
	Until      int64               `json:"until"`           // Unix seconds at which it is extended to all nodes
	Usual      map[string]Baseline `json:"usual,omitempty"` // block rates of the nodes that have it, from before
	Withdrawal string              `json:"back,omitempty"`  // the reason why it is withdrawn; "" if it is not
	UndoID     string              `json:"asked,omitempty"` // ID of the change set that withdraws it and waits for a second person
	Stuck      bool                `json:"stuck,omitempty"` // it cannot be withdrawn as a whole
}

// Baseline is the block rate of a node when a stage began.
type Baseline struct {
	Mean      float64 `json:"mean"`
	Deviation float64 `json:"deviation"`
	Queries   uint64  `json:"queries"` // since the node's start
	Blocked   uint64  `json:"blocked"`
}

// The notes of abandoned change sets: pending, but no call publishes them any more.
const (
	abandonedNote     = "it was not published: push it again with the same id"
	abandonedUndoNote = "it was not published: undo it again"
)

// state returns the receipt's state in the table of transitions.
func (r *Stored) state() State {
	switch {
	case r.State == Pending && (r.Note == abandonedNote || r.Note == abandonedUndoNote):
		return abandoned
	case r.State == Staged && r.Stage != nil && r.Stage.Withdrawal != "":
		return withdrawing
	}
	return r.State
}

// check returns nil if an event is possible in the receipt's state, otherwise a Conflict.
func (r *Stored) check(e Event) error {
	_, err := next(r.state(), e)
	if err == nil {
		return nil
	}
	refusal := &Error{Kind: Conflict, Field: "path.id", Detail: err.Error(), Err: err}
	if r.state() == withdrawing {
		refusal.Detail += " (" + r.Note + ")"
	}
	return refusal
}

// apply moves the receipt to the state that follows an event. The states that receipts show differently are entered by the
// fields that mark them.
func (r *Stored) apply(e Event) error {
	if err := r.check(e); err != nil {
		return err
	}
	switch to := transitions[r.state()][e]; to {
	case abandoned:
		r.State, r.Note = Pending, abandonedNote
		if r.Undoes != "" {
			r.Note = abandonedUndoNote
		}
	case withdrawing:
		r.State = Staged
	default:
		r.State = to
	}
	return nil
}

// markPublished applies Publish or PublishStaged, as the journal's record says. stage is the progress of a staged change set,
// nil for another one.
func (r *Stored) markPublished(j publish.Receipt, stage *Stage) error {
	if stage == nil {
		return r.recordVersion(Publish, j, nil)
	}
	return r.recordVersion(PublishStaged, j, stage)
}

// markRecovered applies RecoverPublished or RecoverStaged, as markPublished does for a change set that was pushed here.
func (r *Stored) markRecovered(j publish.Receipt, stage *Stage) error {
	if stage == nil {
		return r.recordVersion(RecoverPublished, j, nil)
	}
	return r.recordVersion(RecoverStaged, j, stage)
}

func (r *Stored) recordVersion(e Event, j publish.Receipt, stage *Stage) error {
	if err := r.apply(e); err != nil {
		return err
	}
	r.Version, r.Time, r.Note = j.Version, time.UnixMilli(j.Time).UTC(), ""
	if stage != nil {
		r.Stage = stage
	}
	return nil
}

// markAdvanced ends the stage: the change set is on all nodes.
func (r *Stored) markAdvanced(version uint64) error {
	if err := r.apply(Advance); err != nil {
		return err
	}
	r.noteAdvanced(version)
	r.Audience.Share = 0
	return nil
}

func (r *Stored) noteAdvanced(version uint64) {
	r.Stage, r.Note = nil, fmt.Sprintf("on all servers since version %d", version)
}

// markUndone stores the ID of the change set that undid this one, "" for none.
func (r *Stored) markUndone(by string) (withdrawn bool, err error) {
	if err := r.apply(Undo); err != nil {
		return false, err
	}
	if r.Stage != nil {
		r.Share = r.Stage.Share
		if withdrawn = r.Stage.Withdrawal != ""; withdrawn {
			r.Note = "withdrawn by control: " + r.Stage.Withdrawal
		}
	}
	r.UndoneBy, r.Stage = by, nil
	return withdrawn, nil
}

// markRestored applies Restore after the undo of the change set that had undone this one. A change set that was staged is not
// restored.
func (r *Stored) markRestored(by string) (changed bool, err error) {
	if r.State != Undone || r.UndoneBy != by {
		return false, nil
	}
	if r.Share > 0 {
		r.Note = "its undo " + by + " was undone, but a staged change set is not restored: push it again"
		return true, nil
	}
	if err := r.apply(Restore); err != nil {
		return false, err
	}
	r.UndoneBy, r.Note = "", "in force again: "+by+" was undone"
	return true, nil
}

// UndoResult is the receipt of the change set that undoes another, with the names that it leaves as they are.
type UndoResult struct {
	Receipt
	Left  []string `json:"left,omitempty" doc:"The first thousand names that stay as they are, because later change sets changed them."`
	Lefts int      `json:"lefts" doc:"The number of names that stay as they are."`
}

// UndoResult returns the receipt as that of a change set that undoes another.
func (r *Stored) UndoResult() UndoResult {
	return UndoResult{Receipt: r.Receipt, Left: r.Left, Lefts: r.Lefts}
}

// parseStored decodes a value of the bucket of receipts. err is the error of reading that value.
func parseStored(data []byte, err error) (*Stored, error) {
	r := &Stored{}
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	return r, err
}
