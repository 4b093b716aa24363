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

// Objects are kept as JetStream's object stores keep them (NATS ADR-20): chunks under a subject of their own for each writing,
// and a message under the object's name that says where they are, how many octets, and their hash. They are written and read here,
// not by the client library, one chunk at a time: its writer keeps thousands of chunks in memory, its reader needs a consumer.

// chunkSize is the length of an object's chunks, in octets; the last may be shorter.
const chunkSize = 512 << 10

const (
	chunkSubject = "$O." + objectBucket + ".C."
	metaSubject  = "$O." + objectBucket + ".M."
)

// ObjectInfo describes an object.
type ObjectInfo struct {
	Name    string
	Size    uint64 // octets
	ModTime time.Time
}

// metaOf is the subject of what is said of an object.
func metaSubjectOf(name string) string {
	return metaSubject + base64.URLEncoding.EncodeToString([]byte(name))
}

// PutObject writes an object of what r gives, in place of the one of that name: readers get the one or the other. What r failed with is returned,
// and nothing is replaced.
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

// putChunks writes an object's octets and notes what is said of them in info.
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
			return errors.New("it has too many octets")
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

// putMeta writes what is said of an object, in place of what was.
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

// purgeChunks removes chunks that nothing leads to, as far as it can: what stays is removed at the next start.
func (s *Stream) purgeChunks(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := s.purge(ctx, chunkSubject+id); err != nil {
		s.log.Warn("journal: an object's old chunks stay until the next start", "err", err)
	}
}

func (s *Stream) purge(ctx context.Context, subject string) error {
	existing, err := s.js.Stream(ctx, objectStream)
	if err != nil {
		return err
	}
	return existing.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// DeleteObject removes an object, or says ErrNone.
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

// Objects lists the objects, in no order.
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

// eachObject hands what is said of each object to f, and the message that says it.
func (s *Stream) eachObject(ctx context.Context, f func(jetstream.ObjectInfo, message)) error {
	return s.eachMessage(ctx, objectStream, query{Sequence: 1, Next: metaSubject + ">"}, func(m message) error {
		var info jetstream.ObjectInfo
		if err := json.Unmarshal(m.data, &info); err != nil {
			return fmt.Errorf("what is said of object %d cannot be read: %w", m.sequence, err)
		}
		if !info.Deleted {
			f(info, m)
		}
		return nil
	})
}

// objectInfo is what is said of an object, and the sequence of the message that says it.
func (r *Reader) objectInfo(ctx context.Context, name string) (info jetstream.ObjectInfo, err error) {
	m, err := r.get(ctx, objectStream, query{Last: metaSubjectOf(name)})
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(m.data, &info); err != nil {
		return info, fmt.Errorf("what is said of it cannot be read: %w", err)
	}
	if info.Deleted {
		return info, ErrNone
	}
	if t := token(info.NUID); t == "" || t != info.NUID {
		return info, errors.New("what is said of it names no chunks")
	}
	return info, nil
}

// Object opens an object, or says ErrNone. It comes in pieces, and its hash is checked at the end: whoever reads must not use what came
// before io.EOF did. An object that is replaced while it is read fails with ErrLost: open it again. The caller Closes it; ctx bounds reading too.
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

// object reads an object's chunks, a batch at a time.
type object struct {
	r       *Reader
	ctx     context.Context
	name    string
	subject string
	left    uint64 // octets yet to come from the server
	want    []byte
	hash    hash.Hash
	from    uint64 // sequence to ask from
	chunks  [][]byte
	err     error
}

// Read is io.Reader's.
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

// Close is io.Closer's.
func (o *object) Close() error {
	o.chunks, o.err = nil, ErrClosed
	return nil
}

// more fetches chunks, or ends the object with io.EOF or what is wrong with it.
func (o *object) fetchMore() error {
	if o.left == 0 {
		if string(o.hash.Sum(nil)) != string(o.want) {
			return fmt.Errorf("object %s: its octets do not have the hash that is said of them", o.name)
		}
		return io.EOF
	}
	start := o.from
	_, err := o.r.fetchBatch(o.ctx, objectStream, query{Sequence: o.from, Next: o.subject}, func(m message) error {
		if uint64(len(m.data)) > o.left {
			return errors.New("it has more octets than is said of it")
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
		return fmt.Errorf("object %s: %w: it was replaced meanwhile", o.name, ErrLost)
	}
	return nil
}

// sweep removes chunks that nothing leads to, which a writer left that was killed. Nobody else may be writing.
func (s *Stream) removeOrphanedChunks(ctx context.Context) error {
	existing, err := s.js.Stream(ctx, objectStream)
	if err != nil {
		return fmt.Errorf("old objects: %w", err)
	}
	state, err := existing.Info(ctx, jetstream.WithSubjectFilter(chunkSubject+">"))
	if err != nil {
		return fmt.Errorf("old objects: %w", err)
	}
	chunks := state.State.Subjects
	if len(chunks) == 0 {
		return nil
	}
	err = s.eachObject(ctx, func(info jetstream.ObjectInfo, _ message) { delete(chunks, chunkSubject+info.NUID) })
	if err != nil {
		return fmt.Errorf("old objects: %w", err)
	}
	for subject := range chunks {
		if err := existing.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("old objects: %w", err)
		}
	}
	return nil
}
