package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Reads are JetStream's direct gets, single and batched (NATS ADR-31), not consumers: a server keeps no state for a
// reader, and a node needs no permission to create any. A consumer's creator chooses what subject it delivers to, so that
// who may create one can publish anywhere.

// query is what a direct get asks for.
type query struct {
	Sequence uint64 `json:"seq,omitempty"`          // at this sequence, or from it on
	Last     string `json:"last_by_subj,omitempty"` // the newest of a subject
	Next     string `json:"next_by_subj,omitempty"` // from Sequence on, of a subject
	Batch    int    `json:"batch,omitempty"`        // that many, and then an end
	MaxBytes int    `json:"max_bytes,omitempty"`    // bound on a batch, overrun by one message at most
}

// The bounds of a batch.
const (
	maxBatch      = 256
	maxBatchBytes = 1 << 20
)

// errBatch says that a server does not keep to them.
var errOversizedBatch = errors.New("the server sends more than was asked for")

// message is what a direct get found.
type message struct {
	sequence uint64
	subject  string
	time     string
	data     []byte
}

// headers that servers put on what a direct get finds, and on what they publish again.
const (
	sequenceHeader = "Nats-Sequence"
	subjectHeader  = "Nats-Subject"
	timeHeader     = "Nats-Time-Stamp"
	pendingHeader  = "Nats-Num-Pending"
	statusHeader   = "Status"
	descHeader     = "Description"
)

// get is the one message that q asks for, or ErrNone.
func (r *Reader) get(ctx context.Context, stream string, q query) (message, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return message{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := r.nc.RequestWithContext(ctx, directGet+stream, body)
	if err != nil {
		return message{}, fmt.Errorf("read %s: %w", stream, translateError(err))
	}
	m, _, err := parseAnswer(answer)
	return m, err
}

// batch hands the messages that q asks for to each, in order; there may be none. What each keeps of a message it
// may keep for ever. It returns how many more there were after the batch. A server that sends more than was asked for is not listened to any longer.
func (r *Reader) fetchBatch(ctx context.Context, stream string, q query, each func(message) error) (more uint64, err error) {
	q.Batch, q.MaxBytes = maxBatch, maxBatchBytes
	body, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, translateError(err))
	}
	defer sub.Unsubscribe()
	if err := r.nc.PublishRequest(directGet+stream, inbox, body); err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, translateError(err))
	}
	for messages, size := 0, 0; ; messages++ {
		answer, err := nextMessage(ctx, sub)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", stream, translateError(err))
		}
		m, end, err := parseAnswer(answer)
		switch {
		case end:
			more, err := strconv.ParseUint(answer.Header.Get(pendingHeader), 10, 64)
			return more, err
		case errors.Is(err, ErrNone):
			return 0, nil
		case err == nil && (messages == maxBatch || size >= maxBatchBytes):
			err = fmt.Errorf("read %s: %w", stream, errOversizedBatch)
		case err == nil:
			size += len(m.data)
			err = each(m)
		}
		if err != nil {
			return 0, err
		}
	}
}

// all is batch, again and again up to the last message there is.
func (r *Reader) eachMessage(ctx context.Context, stream string, q query, each func(message) error) error {
	for {
		more, err := r.fetchBatch(ctx, stream, q, func(m message) error {
			q.Sequence = m.sequence + 1
			return each(m)
		})
		if err != nil || more == 0 {
			return err
		}
	}
}

// next is the next message of a subscription, which comes soon or not at all.
func nextMessage(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// parse reads an answer to a direct get; end says that it closes a batch.
func parseAnswer(answer *nats.Msg) (m message, end bool, err error) {
	switch status := answer.Header.Get(statusHeader); status {
	case "":
	case "204":
		return message{}, true, nil
	case "404":
		return message{}, false, ErrNone
	case "503":
		return message{}, false, nats.ErrNoResponders
	default:
		return message{}, false, fmt.Errorf("the server answered %.20q: %.100q", status, answer.Header.Get(descHeader))
	}
	sequence, err := strconv.ParseUint(answer.Header.Get(sequenceHeader), 10, 64)
	if err != nil {
		return message{}, false, fmt.Errorf("the server's answer has no sequence: %w", err)
	}
	return message{
		sequence: sequence,
		subject:  answer.Header.Get(subjectHeader),
		time:     answer.Header.Get(timeHeader),
		data:     answer.Data,
	}, false, nil
}
