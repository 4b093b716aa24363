package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrForeign is returned if the destination of a copy holds other data than a part of the source.
var ErrForeign = errors.New("the destination holds another journal")

// ErrCopying is returned if a copy to this journal was started and is not complete.
var ErrCopying = errors.New("a copy to this journal was interrupted")

// copyMark is the name of the object that a destination holds while a copy is in progress. Only the copy may write to a destination with a mark.
const copyMark = "copy-in-progress"

// CopyReport is the result of Copy.
type CopyReport struct {
	Records uint64 // number of journal records, which is the last sequence
	Audits  uint64 // number of audit records
	Objects int    // number of snapshots and large change sets
	Values  int    // number of values in buckets: tokens, holds, receipts, nodes
	Written int    // number of these that the destination lacked
	Last    Record // the journal's last record
}

// Copy makes the destination hold everything that the source holds: records and audit records with the same sequences, objects, and the values of all buckets.
// The newest heartbeat is not copied, because the next one follows within seconds. Nobody may write to source or destination meanwhile. The next call with the
// same source continues an interrupted copy. If the destination holds other data, Copy returns ErrForeign and does not change it. Before Copy returns nil, it
// reads and compares everything. note, which may be nil, is called with the number of records so far.
func Copy(ctx context.Context, from, to *Stream, note func(records uint64)) (CopyReport, error) {
	if note == nil {
		note = func(uint64) {}
	}
	c := &copier{from: from, to: to, note: note}
	err := c.run(ctx)
	return c.report, err
}

// copier is one call of Copy.
type copier struct {
	from, to *Stream
	note     func(records uint64)
	report   CopyReport
}

func (c *copier) run(ctx context.Context) error {
	last, err := c.from.Last(ctx, "")
	if errors.Is(err, ErrNone) {
		return errors.New("the source holds no journal: there is nothing to copy")
	}
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	c.report.Last = last
	resuming, err := c.markDestination(ctx)
	if err != nil {
		return err
	}
	steps := []func(context.Context) error{c.copyRecords, c.copyAudits, c.copyObjects, c.copyValues}
	if !resuming && c.report.Records > 0 { // a complete copy is only compared
		steps = nil
	}
	for _, step := range append(steps, c.verify) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if !resuming && steps == nil {
		return nil
	}
	if err := c.to.DeleteObject(ctx, copyMark); err != nil && !errors.Is(err, ErrNone) {
		return fmt.Errorf("mark the copy as complete: %w", err)
	}
	return nil
}

// mark identifies the source of a copy.
type mark struct {
	First string `json:"first"` // SHA-256 of the source's first record
}

// markDestination returns an error if the destination holds other data, and marks an empty destination. It returns true if a copy of the same source is
// continued. If it returns false, report.Records is the number of records that the destination holds.
func (c *copier) markDestination(ctx context.Context) (resuming bool, err error) {
	first, err := c.from.At(ctx, 1)
	if err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	sum := sha256.Sum256(first.Data)
	own := mark{hex.EncodeToString(sum[:])}
	data, err := readMark(ctx, c.to)
	if err != nil {
		return false, fmt.Errorf("destination: %w", err)
	}
	if data != nil {
		var other mark
		if err := json.Unmarshal(data, &other); err != nil || other != own {
			return false, fmt.Errorf("%w: a copy of another journal to it was interrupted", ErrForeign)
		}
		return true, nil
	}
	last, err := c.to.Last(ctx, "")
	switch {
	case err == nil:
		return false, c.checkIsCopy(ctx, last)
	case !errors.Is(err, ErrNone):
		return false, fmt.Errorf("destination: %w", err)
	}
	if err := c.checkIsEmpty(ctx); err != nil {
		return false, err
	}
	if data, err = json.Marshal(own); err != nil {
		return false, err
	}
	if err := c.to.PutObject(ctx, copyMark, bytes.NewReader(data)); err != nil {
		return false, fmt.Errorf("destination: %w", err)
	}
	return true, nil
}

// checkIsCopy returns an error unless the destination ends with the source's last record. destination is the destination's last record.
func (c *copier) checkIsCopy(ctx context.Context, destination Record) error {
	last := c.report.Last
	if destination.Sequence == last.Sequence && bytes.Equal(destination.Data, last.Data) {
		c.report.Records = destination.Sequence
		return nil
	}
	if destination.Sequence > last.Sequence {
		if same, err := c.to.At(ctx, last.Sequence); err == nil && bytes.Equal(same.Data, last.Data) {
			return fmt.Errorf("%w: the source was copied to it before, and %d records were published there since", ErrForeign, destination.Sequence-last.Sequence)
		}
	}
	return fmt.Errorf("%w with %d records", ErrForeign, destination.Sequence)
}

// checkIsEmpty returns an error if a destination without a journal holds any other data.
func (c *copier) checkIsEmpty(ctx context.Context) error {
	if r, err := c.to.LastAudit(ctx); err == nil {
		return fmt.Errorf("%w: its audit trail has %d records", ErrForeign, r.Sequence)
	} else if !errors.Is(err, ErrNone) {
		return fmt.Errorf("destination: %w", err)
	}
	for _, name := range buckets() {
		err := c.to.Bucket(name).Each(ctx, func(string, []byte) error { return errNotEmpty })
		if errors.Is(err, errNotEmpty) {
			return fmt.Errorf("%w: its bucket %s is not empty", ErrForeign, name)
		}
		if err != nil {
			return fmt.Errorf("destination: %w", err)
		}
	}
	return nil
}

var errNotEmpty = errors.New("the bucket is not empty")

// readMark returns the mark of a copy that is not complete; nil if there is none.
func readMark(ctx context.Context, s *Stream) ([]byte, error) {
	o, err := s.Object(ctx, copyMark)
	if errors.Is(err, ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(io.LimitReader(o, 4<<10))
}

// refuseUnfinishedCopy returns ErrCopying if a copy to this journal is not complete.
func (s *Stream) refuseUnfinishedCopy(ctx context.Context) error {
	if s.cfg.Copying {
		return nil
	}
	if data, err := readMark(ctx, s); err != nil || data == nil {
		return err
	}
	return ErrCopying
}

// copyRecords copies the journal's records that the destination lacks.
func (c *copier) copyRecords(ctx context.Context) error {
	after := uint64(0)
	destination, err := c.to.Last(ctx, "")
	if err == nil {
		after = destination.Sequence
		source, err := c.from.At(ctx, after)
		if err != nil && !errors.Is(err, ErrNone) {
			return fmt.Errorf("source: %w", err)
		}
		if !bytes.Equal(source.Data, destination.Data) {
			return fmt.Errorf("%w: its record %d differs from the source's", ErrForeign, after)
		}
	} else if !errors.Is(err, ErrNone) {
		return fmt.Errorf("destination: %w", err)
	}
	err = c.from.eachMessage(ctx, journalStream, query{Sequence: after + 1}, func(m message) error {
		if m.sequence != after+1 {
			return fmt.Errorf("source: %w: record %d follows record %d", ErrLost, m.sequence, after)
		}
		r, err := m.record()
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if _, err := c.to.Append(ctx, after, r.Kind, r.Data); err != nil {
			return fmt.Errorf("destination: %w", err)
		}
		after = m.sequence
		c.report.Written++
		c.note(after)
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy records: %w", err)
	}
	return nil
}

// copyAudits copies the audit records that the destination lacks.
func (c *copier) copyAudits(ctx context.Context) error {
	after := uint64(0)
	destination, err := c.to.LastAudit(ctx)
	if err == nil {
		after = destination.Sequence
	} else if !errors.Is(err, ErrNone) {
		return fmt.Errorf("destination: %w", err)
	}
	err = c.from.EachAudit(ctx, after+1, func(r Record) error {
		if r.Sequence != after+1 {
			return fmt.Errorf("%w: audit record %d follows %d", ErrLost, r.Sequence, after)
		}
		if _, err := c.to.AppendAudit(ctx, after, r.Data); err != nil {
			return fmt.Errorf("destination: %w", err)
		}
		after = r.Sequence
		c.report.Written++
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy audit records: %w", err)
	}
	return nil
}

// digests returns the hash of each object by name, except the mark of a copy.
func (s *Stream) digests(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	err := s.eachObject(ctx, func(info jetstream.ObjectInfo, _ message) {
		if info.Name != copyMark {
			all[info.Name] = info.Digest
		}
	})
	return all, err
}

// copyObjects copies the objects that the destination lacks or holds with other content.
func (c *copier) copyObjects(ctx context.Context) error {
	source, err := c.from.digests(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	destination, err := c.to.digests(ctx)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	for name, digest := range source {
		if destination[name] == digest {
			continue
		}
		o, err := c.from.Object(ctx, name)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		err = c.to.PutObject(ctx, name, o) // fails if the object cannot be read or its hash is wrong
		o.Close()
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		c.report.Written++
	}
	for name := range destination {
		if _, ok := source[name]; !ok { // the source deleted it since the copy was interrupted
			if err := c.to.DeleteObject(ctx, name); err != nil {
				return fmt.Errorf("destination: %w", err)
			}
		}
	}
	return nil
}

// values returns all values of a bucket by key.
func (b *Bucket) values(ctx context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := b.Each(ctx, func(key string, value []byte) error {
		all[key] = bytes.Clone(value)
		return nil
	})
	return all, err
}

// copyValues copies the values of buckets, and deletes those that the source no longer holds.
func (c *copier) copyValues(ctx context.Context) error {
	for _, name := range buckets() {
		values, err := c.readBucket(ctx, name)
		if err != nil {
			return err
		}
		for key, value := range values.source {
			if had, ok := values.destination[key]; ok && bytes.Equal(had, value) {
				continue
			}
			if _, err := c.to.Bucket(name).Put(ctx, key, value); err != nil {
				return fmt.Errorf("destination: %w", err)
			}
			c.report.Written++
		}
		for key := range values.destination {
			if _, ok := values.source[key]; ok {
				continue
			}
			if err := c.to.Bucket(name).Delete(ctx, key); err != nil {
				return fmt.Errorf("destination: %w", err)
			}
		}
	}
	return nil
}

// bucketValues holds the values of a bucket on both sides of a copy, by key.
type bucketValues struct{ source, destination map[string][]byte }

func (c *copier) readBucket(ctx context.Context, name string) (v bucketValues, err error) {
	if v.source, err = c.from.Bucket(name).values(ctx); err != nil {
		return v, fmt.Errorf("source: %w", err)
	}
	if v.destination, err = c.to.Bucket(name).values(ctx); err != nil {
		return v, fmt.Errorf("destination: %w", err)
	}
	return v, nil
}

// verifyTimeout bounds the wait for a server of a cluster that has not read the last writes yet.
const verifyTimeout = 30 * time.Second

// verify reads and compares everything. A server of a cluster may lag behind the servers that acknowledged the writes, so that a difference is checked again
// until verifyTimeout.
func (c *copier) verify(ctx context.Context) error {
	for end := time.Now().Add(verifyTimeout); ; {
		err := c.compare(ctx)
		if err == nil || !errors.Is(err, errDiffers) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// errDiffers is returned if source and destination differ.
var errDiffers = errors.New("the copy differs from its source")

// compare reads and compares both sides once.
func (c *copier) compare(ctx context.Context) error {
	for stream, count := range map[string]*uint64{journalStream: &c.report.Records, auditStream: &c.report.Audits} {
		source, n, err := c.from.hashStream(ctx, stream)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		destination, m, err := c.to.hashStream(ctx, stream)
		if err != nil {
			return fmt.Errorf("destination: %w", err)
		}
		if source != destination {
			return fmt.Errorf("%w: %s has %d records, and the copy %d, or different ones", errDiffers, stream, n, m)
		}
		*count = n
	}
	source, err := c.from.digests(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	destination, err := c.to.digests(ctx)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if name := firstDifference(source, destination, func(a, b string) bool { return a == b }); name != "" {
		return fmt.Errorf("%w: object %s", errDiffers, name)
	}
	c.report.Objects, c.report.Values = len(source), 0
	for _, name := range buckets() {
		values, err := c.readBucket(ctx, name)
		if err != nil {
			return err
		}
		if firstDifference(values.source, values.destination, bytes.Equal) != "" { // does not name the key, because keys of tokens are secret
			return fmt.Errorf("%w: %s", errDiffers, name)
		}
		c.report.Values += len(values.source)
	}
	return nil
}

// firstDifference returns a key whose values differ, or that one side lacks; "" if there is none.
func firstDifference[V any](a, b map[string]V, same func(V, V) bool) string {
	for key, value := range a {
		if other, ok := b[key]; !ok || !same(value, other) {
			return key
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			return key
		}
	}
	return ""
}

// hashStream returns a hash of the sequences, subjects and data of all messages of a stream, and their number.
func (s *Stream) hashStream(ctx context.Context, stream string) (sum string, n uint64, err error) {
	all := sha256.New()
	err = s.eachMessage(ctx, stream, query{Sequence: 1}, func(m message) error {
		fmt.Fprintf(all, "%d %s %d\n", m.sequence, strings.TrimSpace(m.subject), len(m.data))
		all.Write(m.data)
		n++
		return nil
	})
	return hex.EncodeToString(all.Sum(nil)), n, err
}
