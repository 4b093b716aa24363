package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Reads use JetStream's direct gets, single and batched (NATS ADR-31), instead of consumers. So a server keeps no state for a reader, and a node needs no
// permission to create consumers. The creator of a consumer chooses its delivery subject, and could publish to any subject.

// query is the request of a direct get.
type query struct {
	Sequence uint64 `json:"seq,omitempty"`          // the message of this sequence, or the first one from it on
	Last     string `json:"last_by_subj,omitempty"` // the newest message of this subject
	Next     string `json:"next_by_subj,omitempty"` // the messages of this subject from Sequence on
	Batch    int    `json:"batch,omitempty"`        // number of messages in the answer
	MaxBytes int    `json:"max_bytes,omitempty"`    // bound of a batch, which one message may exceed
}

// The bounds of a batch.
const (
	maxBatch      = 256
	maxBatchBytes = 1 << 20
)

// errOversizedBatch is returned if a server exceeds the bounds of a batch.
var errOversizedBatch = errors.New("the server sent more than was requested")

// message is a message in the answer to a direct get.
type message struct {
	sequence uint64
	subject  string
	time     string
	data     []byte
}

// Headers of answers to direct gets, and of republished messages.
const (
	sequenceHeader = "Nats-Sequence"
	subjectHeader  = "Nats-Subject"
	timeHeader     = "Nats-Time-Stamp"
	pendingHeader  = "Nats-Num-Pending"
	statusHeader   = "Status"
	descHeader     = "Description"
)

// get returns the message that q requests, or ErrNone.
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

// fetchBatch calls each with the messages that q requests, in order; there may be none. Each may keep the messages' data. It returns the number of messages
// after the batch. It stops reading when the server sends more than was requested.
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

// eachMessage calls fetchBatch until the last message.
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

// nextMessage returns the next message of a subscription, or an error after readTimeout.
func nextMessage(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// parseAnswer parses an answer to a direct get. end is true for the end of a batch.
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
