package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rempart/internal/durable"
	"rempart/internal/signing"
)

// maxTail bounds the bytes of records that are read at a start.
const maxTail = 1 << 30

const frameHeaderSize = 12 // the record's length (4 bytes) and sequence (8 bytes)

// recordPrefix is the start of every record. It does not occur within one, so that the next frame can be found behind damaged bytes.
var recordPrefix = []byte(signing.SealBegin + string(signing.KindRecord) + "\n")

func frame(e SequencedRecord) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHeaderSize+len(e.Data)), uint32(len(e.Data)))
	b = binary.LittleEndian.AppendUint64(b, e.Sequence)
	return append(b, e.Data...)
}

// tail holds the records of the files of records. They are not verified yet.
type tail struct {
	entries []SequencedRecord
	size    int64 // of the file, up to the end of the last record that is not torn
	damaged bool  // some bytes differ from those that were written
	isTorn  bool  // a crash may have cut the last record
}

// readTail reads the records after the state of a version.
func (d *disk) readTail(version uint64) (*tail, error) {
	f, err := os.Open(d.tailPath(version))
	if errors.Is(err, fs.ErrNotExist) {
		return &tail{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTail)) // the rest is fetched again from the source
	if err != nil {
		return nil, err
	}
	return readFrames(data), nil
}

// readLaterTails adds the records of the files that follow later states than that of a version. Those states could not be read.
func (d *disk) readLaterTails(version uint64, t *tail) error {
	paths, err := filepath.Glob(d.path(tailPrefix + "*"))
	if err != nil {
		return err
	}
	var later []uint64
	for _, path := range paths {
		v, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(path), tailPrefix), 10, 64)
		if err == nil && v > version {
			later = append(later, v)
		}
	}
	slices.Sort(later)
	for _, v := range later {
		more, err := d.readTail(v)
		if err != nil {
			return err
		}
		t.entries, t.damaged, t.isTorn = append(t.entries, more.entries...), t.damaged || more.damaged, more.isTorn
	}
	return nil
}

// readFrames reads the records in the bytes of a file. It skips bytes that are not a record. If the length of a record is damaged, the record ends where the
// next one starts.
func readFrames(data []byte) *tail {
	t := &tail{}
	for at := 0; len(data)-at >= frameHeaderSize; {
		if !frameAt(data, at) {
			next := nextFrame(data, at+1)
			t.damaged = t.damaged || next < len(data) || len(data)-at >= frameHeaderSize+len(recordPrefix)
			at = next
			continue
		}
		begin := at + frameHeaderSize
		end := begin + int(binary.LittleEndian.Uint32(data[at:]))
		if end-begin > MaxRecord || end > len(data) || len(data)-end >= frameHeaderSize+len(recordPrefix) && !frameAt(data, end) {
			next := nextFrame(data, begin)
			t.damaged, t.isTorn = t.damaged || next < len(data), next == len(data)
			if end < next && end-begin <= MaxRecord { // if the next frame is damaged, and not this length
				t.add(data, at, end)
			}
			end = next
		}
		t.add(data, at, end)
		if at = end; !t.isTorn {
			t.size = int64(at)
		}
	}
	return t
}

// add adds the record of the frame between two offsets.
func (t *tail) add(data []byte, at, end int) {
	if begin := at + frameHeaderSize; end-begin <= MaxRecord {
		t.entries = append(t.entries, SequencedRecord{binary.LittleEndian.Uint64(data[at+4:]), data[begin:end:end]})
	}
}

// frameAt reports whether a record starts behind a frame header at an offset.
func frameAt(data []byte, at int) bool {
	return len(data)-at > frameHeaderSize && bytes.HasPrefix(data[at+frameHeaderSize:], recordPrefix)
}

// nextFrame returns the offset of the next frame from an offset on; the data's length for none.
func nextFrame(data []byte, from int) int {
	if from+frameHeaderSize >= len(data) {
		return len(data)
	}
	at := bytes.Index(data[from+frameHeaderSize:], recordPrefix)
	if at < 0 {
		return len(data)
	}
	return from + at
}

// damagedPrefix is the start of the names of files that were set aside because they are damaged. They are neither read nor removed.
const damagedPrefix = "damaged-"

// setAside renames a damaged file.
func (d *disk) setAside(name string) error {
	err := durable.Rename(d.path(name), d.path(fmt.Sprintf("%s%s-%d", damagedPrefix, name, time.Now().UnixNano())))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rewriteTail replaces the file of records after the state of a version, and returns its size in bytes. If aside is set, it keeps the old file under another
// name.
func (d *disk) rewriteTail(version uint64, entries []SequencedRecord, aside bool) (size int64, err error) {
	var b bytes.Buffer
	for _, e := range entries {
		b.Write(frame(e))
	}
	if aside {
		if err := d.setAside(filepath.Base(d.tailPath(version))); err != nil {
			return 0, err
		}
	}
	return int64(b.Len()), durable.WriteBytes(d.tailPath(version), b.Bytes())
}
