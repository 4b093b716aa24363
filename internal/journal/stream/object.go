package stream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Objects have the format of JetStream's object stores (NATS ADR-20): chunks under a subject of their own for each write, and a message under the object's name
// that holds that subject, the size in bytes and the hash. This package reads and writes them one chunk at a time. The client library's writer keeps thousands
// of chunks in memory, and its reader needs a consumer.

// chunkSize is the size of an object's chunks in bytes; the last one may be smaller.
const chunkSize = 512 << 10

const (
	chunkSubject = "$O." + objectBucket + ".C."
	metaSubject  = "$O." + objectBucket + ".M."
)

// ObjectInfo describes an object.
type ObjectInfo struct {
	Name    string
	Size    uint64 // in bytes
	ModTime time.Time
}

// metaSubjectOf returns the subject of an object's description.
func metaSubjectOf(name string) string {
	return metaSubject + base64.URLEncoding.EncodeToString([]byte(name))
}

// PutObject writes the content of r as an object, and replaces an object of that name atomically. If r fails, PutObject returns its error, and the existing
// object stays.
func (s *Stream) PutObject(ctx context.Context, name string, r io.Reader) error {
	if token(name) == "" {
		return badName("object", name)
	}
	if err := s.putObject(ctx, name, r); err != nil {
		return fmt.Errorf("object %s: %w", name, err)
	}
	return nil
}

func (s *Stream) putObject(ctx context.Context, name string, r io.Reader) error {
	before, err := s.objectInfo(ctx, name)
	if err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	info := jetstream.ObjectInfo{Bucket: objectBucket, NUID: nuid.Next(), ObjectMeta: jetstream.ObjectMeta{
		Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize},
	}}
	if err := s.putChunks(ctx, &info, r); err != nil {
		s.purgeChunks(info.NUID)
		return err
	}
	if err := s.putMeta(ctx, info); err != nil {
		if !errors.Is(err, ErrUnknown) {
			s.purgeChunks(info.NUID)
		}
		return err
	}
	if before.NUID != "" && !before.Deleted {
		s.purgeChunks(before.NUID)
	}
	return nil
}

// putChunks writes an object's chunks, and sets their number, size and hash in info.
func (s *Stream) putChunks(ctx context.Context, info *jetstream.ObjectInfo, r io.Reader) error {
	digest := sha256.New()
	chunk := make([]byte, min(chunkSize, s.MaxRecord()))
	for last := false; !last; {
		n, err := io.ReadFull(r, chunk)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			last = true
		case err != nil:
			return err
		}
		if n == 0 {
			break
		}
		if info.Chunks == math.MaxUint32 {
			return errors.New("it is too large")
		}
		digest.Write(chunk[:n])
		m := &nats.Msg{Subject: chunkSubject + info.NUID, Data: chunk[:n]}
		if _, err := s.publish(ctx, m, jetstream.WithExpectStream(objectStream)); err != nil {
			return err
		}
		info.Size += uint64(n)
		info.Chunks++
	}
	info.Digest = jetstream.GetObjectDigestValue(digest)
	return nil
}

// putMeta writes the description of an object, and replaces the previous one.
func (s *Stream) putMeta(ctx context.Context, info jetstream.ObjectInfo) error {
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	m := nats.NewMsg(metaSubjectOf(info.Name))
	m.Data = body
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err = s.publish(ctx, m, jetstream.WithExpectStream(objectStream))
	return err
}

// purgeChunks removes chunks that no object refers to. If that fails, the next start removes them.
func (s *Stream) purgeChunks(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := s.purge(ctx, chunkSubject+id); err != nil {
		s.log.Warn("journal: removing an object's old chunks failed; the next start removes them", "err", err)
	}
}

func (s *Stream) purge(ctx context.Context, subject string) error {
	existing, err := s.js.Stream(ctx, objectStream)
	if err != nil {
		return err
	}
	return existing.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// DeleteObject removes an object. It returns ErrNone if there is none.
func (s *Stream) DeleteObject(ctx context.Context, name string) error {
	info, err := s.objectInfo(ctx, name)
	if err != nil {
		return fmt.Errorf("object %s: %w", name, err)
	}
	s.purgeChunks(info.NUID)
	if err := s.purge(ctx, metaSubjectOf(name)); err != nil {
		return fmt.Errorf("object %s: %w", name, err)
	}
	return nil
}

// Objects returns all objects, in no order.
func (s *Stream) Objects(ctx context.Context) ([]ObjectInfo, error) {
	var all []ObjectInfo
	err := s.eachObject(ctx, func(info jetstream.ObjectInfo, m message) {
		modified, _ := time.Parse(time.RFC3339Nano, m.time)
		all = append(all, ObjectInfo{Name: info.Name, Size: info.Size, ModTime: modified})
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return all, nil
}

// eachObject calls f with the description of each object and the message that holds it.
func (s *Stream) eachObject(ctx context.Context, f func(jetstream.ObjectInfo, message)) error {
	return s.eachMessage(ctx, objectStream, query{Sequence: 1, Next: metaSubject + ">"}, func(m message) error {
		var info jetstream.ObjectInfo
		if err := json.Unmarshal(m.data, &info); err != nil {
			return fmt.Errorf("the description of object %d cannot be read: %w", m.sequence, err)
		}
		if !info.Deleted {
			f(info, m)
		}
		return nil
	})
}

// objectInfo returns the description of an object, or ErrNone.
func (r *Reader) objectInfo(ctx context.Context, name string) (info jetstream.ObjectInfo, err error) {
	m, err := r.get(ctx, objectStream, query{Last: metaSubjectOf(name)})
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(m.data, &info); err != nil {
		return info, fmt.Errorf("its description cannot be read: %w", err)
	}
	if info.Deleted {
		return info, ErrNone
	}
	if t := token(info.NUID); t == "" || t != info.NUID {
		return info, errors.New("its description names no chunks")
	}
	return info, nil
}

// Object opens an object, or returns ErrNone. The hash is checked at the end: the caller must not use the data before Read returned io.EOF. If the object is
// replaced while it is read, Read returns ErrLost, and the caller may open it again. The caller closes the object. ctx bounds reading too.
func (r *Reader) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	info, err := r.objectInfo(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", name, err)
	}
	digest, err := jetstream.DecodeObjectDigest(info.Digest)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", name, err)
	}
	return &object{r: r, ctx: ctx, name: name, subject: chunkSubject + info.NUID, left: info.Size,
		want: digest, hash: sha256.New(), from: 1}, nil
}

// object reads an object's chunks, one batch at a time.
type object struct {
	r       *Reader
	ctx     context.Context
	name    string
	subject string
	left    uint64 // bytes that were not received yet
	want    []byte
	hash    hash.Hash
	from    uint64 // sequence of the next request
	chunks  [][]byte
	err     error
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (int, error) {
	for len(o.chunks) == 0 && o.err == nil {
		o.err = o.fetchMore()
	}
	if len(o.chunks) == 0 {
		return 0, o.err
	}
	n := copy(p, o.chunks[0])
	if o.chunks[0] = o.chunks[0][n:]; len(o.chunks[0]) == 0 {
		o.chunks = o.chunks[1:]
	}
	return n, nil
}

// Close implements io.Closer.
func (o *object) Close() error {
	o.chunks, o.err = nil, ErrClosed
	return nil
}

// fetchMore fetches chunks. At the end it returns io.EOF, or an error if the hash is wrong.
func (o *object) fetchMore() error {
	if o.left == 0 {
		if string(o.hash.Sum(nil)) != string(o.want) {
			return fmt.Errorf("object %s: its data does not match its hash", o.name)
		}
		return io.EOF
	}
	start := o.from
	_, err := o.r.fetchBatch(o.ctx, objectStream, query{Sequence: o.from, Next: o.subject}, func(m message) error {
		if uint64(len(m.data)) > o.left {
			return errors.New("it has more bytes than its description says")
		}
		o.from, o.left = m.sequence+1, o.left-uint64(len(m.data))
		o.hash.Write(m.data)
		if len(m.data) > 0 {
			o.chunks = append(o.chunks, m.data)
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("object %s: %w", o.name, err)
	case o.from == start:
		return fmt.Errorf("object %s: %w: it was replaced while it was read", o.name, ErrLost)
	}
	return nil
}

// removeOrphanedChunks removes chunks that no object refers to, which a killed writer left. Nobody else may write meanwhile.
func (s *Stream) removeOrphanedChunks(ctx context.Context) error {
	existing, err := s.js.Stream(ctx, objectStream)
	if err != nil {
		return fmt.Errorf("remove orphaned chunks: %w", err)
	}
	state, err := existing.Info(ctx, jetstream.WithSubjectFilter(chunkSubject+">"))
	if err != nil {
		return fmt.Errorf("remove orphaned chunks: %w", err)
	}
	chunks := state.State.Subjects
	if len(chunks) == 0 {
		return nil
	}
	err = s.eachObject(ctx, func(info jetstream.ObjectInfo, _ message) { delete(chunks, chunkSubject+info.NUID) })
	if err != nil {
		return fmt.Errorf("remove orphaned chunks: %w", err)
	}
	for subject := range chunks {
		if err := existing.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("remove orphaned chunks: %w", err)
		}
	}
	return nil
}
