package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxReport is the largest size of a node's report in bytes.
const maxReport = 64 << 10

// Append writes a record of a kind after the record of sequence after, 0 for the first, and returns its sequence, after+1. If err is nil, the record is on
// disk; in a cluster, on the disks of most servers. Errors are ErrBehind if another record follows after, ErrFull, ErrUnknown, and other errors, after which
// nothing was written.
func (s *Stream) Append(ctx context.Context, after uint64, kind string, data []byte) (sequence uint64, err error) {
	t := token(kind)
	if t == "" {
		return 0, fmt.Errorf("append: %w", badName("kind", kind))
	}
	sequence, err = s.publish(ctx, &nats.Msg{Subject: journalSubject + t, Data: data},
		jetstream.WithExpectStream(journalStream), jetstream.WithExpectLastSequence(after))
	if err != nil {
		return 0, fmt.Errorf("append after %d: %w", after, err)
	}
	return sequence, nil
}

// Beat publishes a heartbeat, which replaces the one before.
func (s *Stream) Beat(ctx context.Context, data []byte) error {
	ctx, cancel := s.writeContext(ctx)
	defer cancel()
	if _, err := s.js.Publish(ctx, beatsSubject, data, jetstream.WithExpectStream(beatsStream)); err != nil {
		return fmt.Errorf("heartbeat: %w", s.writeError(err))
	}
	return nil
}

// AppendAudit writes an audit record after the record of sequence after, 0 for the first, and returns its sequence. Audit records are never deleted. Errors are
// those of Append.
func (s *Stream) AppendAudit(ctx context.Context, after uint64, data []byte) (sequence uint64, err error) {
	sequence, err = s.publish(ctx, &nats.Msg{Subject: auditSubject, Data: data},
		jetstream.WithExpectStream(auditStream), jetstream.WithExpectLastSequence(after))
	if err != nil {
		return 0, fmt.Errorf("audit after %d: %w", after, err)
	}
	return sequence, nil
}

// LastAudit returns the newest audit record, or ErrNone. AppendAudit requires its sequence.
func (s *Stream) LastAudit(ctx context.Context) (Record, error) {
	m, err := s.get(ctx, auditStream, query{Last: auditSubject})
	if err != nil {
		return Record{}, fmt.Errorf("last audit record: %w", err)
	}
	return Record{Sequence: m.sequence, Data: m.data}, nil
}

// EachAudit calls each with the audit records from a sequence on, in order, and returns after the last one.
func (s *Stream) EachAudit(ctx context.Context, from uint64, each func(Record) error) error {
	err := s.eachMessage(ctx, auditStream, query{Sequence: max(from, 1)}, func(m message) error {
		return each(Record{Sequence: m.sequence, Data: m.data})
	})
	if err != nil {
		return fmt.Errorf("audit records from %d: %w", from, err)
	}
	return nil
}

// FollowReports calls each with every report that a node publishes, and the node's name, until ctx ends. Reports are lost if they arrive faster than each
// returns.
func (s *Stream) FollowReports(ctx context.Context, each func(node string, data []byte)) error {
	arrived := make(chan *nats.Msg, 256)
	sub, err := s.reports.ChanSubscribe(reportSubject+"*", arrived)
	if err != nil {
		return fmt.Errorf("reports: %w", translateError(err))
	}
	defer sub.Unsubscribe()
	changed := s.reports.StatusChanged(nats.CLOSED)
	defer s.reports.RemoveStatusListener(changed)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			return ErrClosed
		case m := <-arrived:
			// A report has no headers. A message with headers is a server's answer that a node redirected to this subject.
			node, ok := untoken(m.Subject[len(reportSubject):])
			if ok && len(m.Data) <= maxReport && len(m.Header) == 0 {
				each(node, m.Data)
			}
		}
	}
}

// At returns the record of a sequence, or ErrNone. After an Append with unknown outcome, the record may appear a moment later; another Append after the same
// sequence then fails with ErrBehind. A server that has just become a cluster's leader may not have read all its records yet: a caller that knows of later
// records must ask again.
func (s *Stream) At(ctx context.Context, sequence uint64) (Record, error) {
	if sequence == 0 {
		return Record{}, ErrNone
	}
	r, err := s.getFromLeader(ctx, query{Sequence: sequence})
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", sequence, err)
	}
	return r, nil
}

// Last returns the newest record of a kind, or of all kinds for "", or ErrNone. Like At, it may be late on a new leader.
func (s *Stream) Last(ctx context.Context, kind string) (Record, error) {
	subject, err := lastOf(kind)
	if err != nil {
		return Record{}, err
	}
	r, err := s.getFromLeader(ctx, query{Last: subject})
	if errors.Is(err, ErrNone) {
		r, err = s.lastRemaining(ctx, kind)
	}
	if err != nil {
		return Record{}, fmt.Errorf("last record %s: %w", kind, err)
	}
	return r, nil
}

// lastRemaining searches the newest record of a kind. It is called if the server names none, which also happens if the newest record is lost.
func (s *Stream) lastRemaining(ctx context.Context, kind string) (last Record, err error) {
	end, err := s.End(ctx)
	if err != nil {
		return last, err
	}
	const step = 1000
	for ; end > 0 && last.Sequence == 0; end -= min(end, step) {
		err := s.Walk(ctx, end-min(end, step)+1, end, func(r Record) error {
			if kind == "" || r.Kind == kind {
				last = r
			}
			return nil
		})
		if err != nil {
			return last, err
		}
	}
	if last.Sequence == 0 {
		return last, ErrNone
	}
	return last, nil
}

// getFromLeader asks the server that writes the journal. A direct get asks any server with a copy, which may be further behind.
func (s *Stream) getFromLeader(ctx context.Context, q query) (Record, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+journalStream, body)
	if err != nil {
		return Record{}, translateError(err)
	}
	var found struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return Record{}, fmt.Errorf("the server's answer: %w", err)
	}
	switch {
	case found.Error != nil && found.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Record{}, ErrNone
	case found.Error != nil:
		return Record{}, found.Error
	case found.Message == nil:
		return Record{}, errors.New("the server's answer holds no record")
	}
	return message{sequence: found.Message.Sequence, subject: found.Message.Subject, data: found.Message.Data}.record()
}
