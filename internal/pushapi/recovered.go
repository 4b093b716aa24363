package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// Adopt writes receipts for the records that were recovered into the journal, oldest first: a restored backup does not hold these receipts.
func (a *API) Adopt(ctx context.Context, all []journal.Recovered) error {
	for i := range all {
		if err := a.adopt(ctx, &all[i]); err != nil {
			return fmt.Errorf("version %d: %w", all[i].Record.Version, err)
		}
	}
	return nil
}

func (a *API) adopt(ctx context.Context, one *journal.Recovered) error {
	r := &one.Record
	switch r.Kind {
	case journal.RecordSuspend, journal.RecordResume:
		return a.noteEnforcement(ctx, r.Kind, r.By, r.Reason, journal.Receipt{Version: r.Version, Time: r.Time})
	case journal.RecordAdvance:
		a.amend(ctx, r.Set, func(k *kept) bool {
			k.State, k.Stage, k.Note = Published, nil, fmt.Sprintf("on all nodes since version %d", r.Version)
			return true
		})
		return nil
	}
	if one.Set == nil || len(one.Set.Sources) > 0 { // sets made from lists have no receipts
		return nil
	}
	k := &kept{Receipt: Receipt{
		ID: one.Set.ID, By: r.By, Approved: r.Approved, Comment: one.Set.Comment, Accepted: one.Count, Refusals: len(r.Refused),
	}, Audience: audience{All: true}}
	if undone, ok := strings.CutPrefix(one.Set.Comment, "undoes "); ok && strings.HasPrefix(k.ID, undoBegin) {
		k.Undoes = undone
	}
	a.published(k, one.Set, journal.Receipt{Version: r.Version, Time: r.Time})
	k.Note = "recovered from the copy of a server's folder"
	err := a.create(ctx, k)
	if errors.Is(err, stream.ErrExists) { // the change set was published here, and has another version now
		a.amend(ctx, k.ID, func(old *kept) bool {
			if old.Version == k.Version {
				return false
			}
			old.State, old.Version, old.Time, old.Stage, old.Note = k.State, k.Version, k.Time, k.Stage, "published again after a recovery"
			return true
		})
	} else if err != nil {
		return err
	}
	if k.Undoes != "" {
		a.undone(ctx, k.Undoes, k.ID)
	}
	return nil
}

// create writes a new receipt. If one with the same ID exists, the error is stream.ErrExists.
func (a *API) create(ctx context.Context, k *kept) (err error) {
	k.Touched, k.Instance = time.Now().Unix(), a.instance
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if k.revision, err = a.receipts.Create(ctx, k.ID, data); err == nil {
		a.open.note(k)
	}
	return err
}

// noteEnforcement writes the receipt of a suspension or its end, so that it is listed among the change sets with its author and reason.
func (a *API) noteEnforcement(ctx context.Context, kind journal.RecordKind, by, reason string, r journal.Receipt) error {
	k := &kept{Receipt: Receipt{
		ID: fmt.Sprintf("%s-%d", kind, r.Version), Kind: string(kind), State: Published, Version: r.Version, Time: time.UnixMilli(r.Time).UTC(), By: by, Comment: reason,
	}, Audience: audience{All: true}}
	err := a.create(ctx, k)
	if !errors.Is(err, stream.ErrExists) {
		return err
	}
	if other, err := a.receipt(ctx, k.ID); err != nil || other.Kind == k.Kind {
		return err
	}
	k.ID += "~" + a.instance[:8] // a change set already has that ID
	return a.create(ctx, k)
}
