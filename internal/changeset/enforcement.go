package changeset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
)

// SetEnforcement suspends or resumes enforcement on all nodes (the kill switch), and returns the version from which on this is in
// force. If enforcement is already suspended or resumed, it returns the present version.
func (l *Lifecycle) SetEnforcement(ctx context.Context, kind journal.RecordKind, by By, reason string) (version uint64, err error) {
	if st := l.cfg.Control.State(); st.Suspended == (kind == journal.RecordSuspend) {
		return st.Version, nil
	}
	published, err := l.publish(ctx, publish.Draft{Kind: kind, By: by.Token, Reason: reason})
	if err != nil {
		return 0, Fail("it is not known whether the record was published", err)
	}
	if err := l.createEnforcementReceipt(context.WithoutCancel(ctx), kind, by.Token, reason, published); err != nil {
		l.log.Error("the receipt of a suspension or its end was not written; the journal holds its record", "version", published.Version, "err", err)
	}
	return published.Version, nil
}

// createEnforcementReceipt writes the receipt of a suspension or its end, so that it is listed with its author and reason.
func (l *Lifecycle) createEnforcementReceipt(ctx context.Context, kind journal.RecordKind, by, reason string, published publish.Receipt) error {
	r := &Stored{Receipt: Receipt{
		ID: fmt.Sprintf("%s-%d", kind, published.Version), Kind: string(kind), State: Published, Version: published.Version,
		Time: time.UnixMilli(published.Time).UTC(), By: by, Comment: reason,
	}, Audience: Audience{All: true}}
	err := l.create(ctx, r)
	if !errors.Is(err, stream.ErrExists) {
		return err
	}
	if other, err := l.receipt(ctx, r.ID); err != nil || other.Kind == r.Kind {
		return err
	}
	r.ID += "~" + l.instance[:8] // another change set already has this ID
	return l.create(ctx, r)
}
