package changeset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
)

// Recover writes the receipts of records that were recovered into the journal, oldest first. A restored backup does not have these
// receipts.
func (l *Lifecycle) Recover(ctx context.Context, all []publish.Recovered) error {
	for i := range all {
		if err := l.recoverOne(ctx, &all[i]); err != nil {
			return fmt.Errorf("receipt of version %d: %w", all[i].Record.Version, err)
		}
	}
	return nil
}

func (l *Lifecycle) recoverOne(ctx context.Context, one *publish.Recovered) error {
	record := &one.Record
	published := publish.Receipt{Version: record.Version, Time: record.Time}
	switch record.Kind {
	case journal.RecordSuspend, journal.RecordResume:
		return l.createEnforcementReceipt(ctx, record.Kind, record.By, record.Reason, published)
	case journal.RecordAdvance:
		l.amend(ctx, record.ChangeSetID, func(r *Stored) (bool, error) {
			if err := r.apply(RecoverPublished); err != nil {
				return false, err
			}
			r.noteAdvanced(record.Version)
			return true, nil
		})
		return nil
	}
	if one.ChangeSet == nil || len(one.ChangeSet.Sources) > 0 { // change sets that are made from lists have no receipts
		return nil
	}
	return l.recoverSet(ctx, one, published)
}

func (l *Lifecycle) recoverSet(ctx context.Context, one *publish.Recovered, published publish.Receipt) error {
	r := &Stored{Receipt: Receipt{
		ID: one.ChangeSet.ID, By: one.Record.By, Approved: one.Record.Approved, Comment: one.ChangeSet.Comment, Accepted: one.Count, Refusals: len(one.Record.Refused),
	}, Audience: Audience{All: true}}
	if undone, ok := strings.CutPrefix(one.ChangeSet.Comment, undoComment); ok && strings.HasPrefix(r.ID, undoPrefix) {
		r.Undoes = undone
	}
	stage := l.newStage(one.ChangeSet, published)
	if err := r.markRecovered(published, stage); err != nil {
		return err
	}
	r.Note = "recovered from the copy of a server's folder"
	err := l.create(ctx, r)
	if errors.Is(err, stream.ErrExists) { // published here before, perhaps as another version
		l.amend(ctx, r.ID, func(old *Stored) (bool, error) {
			if old.Version == r.Version {
				return false, nil
			}
			old.Stage = nil
			err := old.markRecovered(published, stage)
			old.Note = "published again after a recovery"
			return true, err
		})
	} else if err != nil {
		return err
	}
	if r.Undoes != "" {
		l.noteUndone(ctx, r.Undoes, r.ID)
	}
	return nil
}
