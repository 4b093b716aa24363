package format

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"rempart/blocklist/feed/bounded"
)

const (
	maxLayers    = 2       // compressions one within the other
	maxFiles     = 4096    // of a zip archive
	maxDirectory = 2 << 20 // bytes of a zip archive's directory
	// Lists of names compress to between a fifth and a twentieth of their size. A list that expands to more than maxRatio times its compressed size, and
	// to more than uncheckedBytes, was made to exhaust its reader.
	maxRatio       = 100
	uncheckedBytes = 32 << 20
	zstdWindow     = 8 << 20 // bytes that RFC 8878 section 3.1.1.1.2 asks decoders to support
)

// unpacker yields the contents of a list: one, or one for each file of a zip archive. What is
// compressed, as detected by its first bytes, is decompressed.
type unpacker struct {
	plain  *bufio.Reader // the only content, nil once yielded
	files  []*zip.File   // not yet yielded
	limit  int64
	left   [maxLayers + 1]int64 // rest of limit, by layer
	packed int64                // compressed bytes of the files of the archive that were yielded so far, by its directory
	whole  int64                // bytes of the archive: files in it may claim more, or share bytes
	closes []func()             // what the content yielded last holds open
}

// unpack opens r. No layer may yield more than limit bytes over all files, nor more than maxRatio times the compressed bytes. Memory is bounded.
func unpack(r io.Reader, limit int64) (_ *unpacker, err error) {
	u := &unpacker{limit: limit}
	for i := range u.left {
		u.left[i] = limit
	}
	br := u.bound(r, 0)
	if isZip(br) {
		u.files, u.whole, err = zipFiles(r)
		return u, err
	}
	plain, err := u.layers(br, 0)
	u.plain = plain
	return u, err
}

// next is the next content, valid until next or close is called; io.EOF after the last.
func (u *unpacker) next() (*bufio.Reader, error) {
	if r := u.plain; r != nil {
		u.plain = nil
		return r, nil
	}
	u.close()
	if len(u.files) == 0 {
		return nil, io.EOF
	}
	file := u.files[0]
	u.files = u.files[1:]
	r, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("%.100q in a zip archive: %w", file.Name, err)
	}
	u.closes = append(u.closes, func() { r.Close() })
	u.packed = min(u.packed+int64(min(file.CompressedSize64, uint64(u.whole))), u.whole)
	return u.layers(u.bound(r, 1), 1)
}

func (u *unpacker) close() {
	for _, c := range u.closes {
		c()
	}
	u.closes = nil
}

func (u *unpacker) bound(r io.Reader, layer int) *bufio.Reader {
	m := bounded.NewMeter(r, &u.left[layer])
	if layer > 0 {
		m.Check = func() error { return u.checkRatio(layer) }
	}
	return bufio.NewReaderSize(m, MaxLine)
}

// checkRatio returns an error if the bytes that a layer yielded so far are too many for a list, compared with the bytes read of the layer below.
func (u *unpacker) checkRatio(layer int) error {
	packed := u.limit - u.left[layer-1]
	if layer == 1 {
		packed = max(packed, u.packed)
	}
	out := u.limit - u.left[layer]
	if out <= uncheckedBytes || out/maxRatio <= packed {
		return nil
	}
	return fmt.Errorf("%w: it expands to more than %d times its compressed size; publish it as plain text if it is a list", bounded.ErrTooLarge, maxRatio)
}

// layers removes the compressions of br. layer is the number of compressions that were removed already.
func (u *unpacker) layers(br *bufio.Reader, layer int) (*bufio.Reader, error) {
	for {
		r, err := u.decompressor(br)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		if r == nil {
			return decoded(br)
		}
		if layer++; layer > maxLayers {
			return nil, errors.New("compressed more than twice; unpack it first")
		}
		br = u.bound(r, layer)
	}
}

// decompressor is nil if what br holds is not compressed.
func (u *unpacker) decompressor(br *bufio.Reader) (io.Reader, error) {
	head, _ := br.Peek(10)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzip.NewReader(br)
	case isZstd(head):
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		u.closes = append(u.closes, d.Close)
		return d, nil
	case isBzip2(head):
		return bzip2.NewReader(br), nil
	case isZip(br):
		return nil, errors.New("a zip archive within another archive; unpack it first")
	}
	return nil, nil
}

// isZstd knows frames and skippable frames (RFC 8878 sections 3.1.1 and 3.1.2).
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"
}

// isBzip2 asks for the first block's mark too: "BZh9" may begin a name.
func isBzip2(head []byte) bool {
	if len(head) < 10 || string(head[:3]) != "BZh" || head[3] < '1' || head[3] > '9' {
		return false
	}
	mark := string(head[4:10])
	return mark == "\x31\x41\x59\x26\x53\x59" || mark == "\x17\x72\x45\x38\x50\x90"
}

func isZip(br *bufio.Reader) bool {
	head, _ := br.Peek(4)
	return string(head) == "PK\x03\x04" || string(head) == "PK\x05\x06"
}

// zipFiles lists the regular files of the archive that all of r is, and returns its size.
func zipFiles(r io.Reader) (files []*zip.File, size int64, err error) {
	at, isAt := r.(io.ReaderAt)
	seeker, isSeeker := r.(io.Seeker)
	if !isAt || !isSeeker {
		return nil, 0, errors.New("a zip archive can be read from a file only; unpack it first, or publish it gzip-compressed")
	}
	size, err = seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	directory := &directoryReader{r: at, left: maxDirectory}
	archive, err := zip.NewReader(directory, size)
	if err != nil {
		return nil, 0, fmt.Errorf("open zip archive: %w", err)
	}
	directory.open = true
	for _, f := range archive.File {
		if f.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	if len(files) > maxFiles {
		return nil, 0, fmt.Errorf("zip archive of %d files, %d at most are read: %w", len(files), maxFiles, bounded.ErrTooLarge)
	}
	return files, size, nil
}

// directoryReader limits the bytes that are read until open is set: archive/zip reads an archive's whole directory into memory.
type directoryReader struct {
	r    io.ReaderAt
	left int
	open bool
}

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	if !d.open {
		if d.left -= len(p); d.left < 0 {
			return 0, fmt.Errorf("directory of a zip archive: %w", bounded.ErrTooLarge)
		}
	}
	return d.r.ReadAt(p, off)
}
