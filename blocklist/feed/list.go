package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
)

// Kind is where a list comes from.
type Kind string

const (
	KindFile  Kind = "file"
	KindURL   Kind = "url"
	KindAllow Kind = "allow" // a file, of names that are never blocked
)

// list is one configured list. It belongs to the writer.
type list struct {
	source string // as configured; may hold a password or a token
	name   string // the same without, unique: what people and logs see
	key    string // of its files in the store
	kind   Kind

	copy   *record          // of its last good copy, nil if there is none
	memory *blocklist.Input // read-only use: what was parsed without leaving a copy

	result   Result
	err      error
	failures int // in a row
	parses   int
	busy     bool // being fetched
	next     time.Time
}

// configured makes the lists of a configuration, duplicates dropped.
func configured(cfg Config) ([]*list, error) {
	var lists []*list
	add := func(source, name string, kind Kind) {
		sum := sha256.Sum256([]byte(string(kind) + "\x00" + source))
		key := hex.EncodeToString(sum[:8])
		if slices.ContainsFunc(lists, func(o *list) bool { return o.key == key }) {
			return
		}
		unique := name
		for i := 2; slices.ContainsFunc(lists, func(o *list) bool { return o.name == unique }); i++ {
			unique = fmt.Sprintf("%s (%d)", name, i)
		}
		lists = append(lists, &list{source: source, name: unique, key: key, kind: kind, result: Waiting})
	}
	if cfg.Allow != "" {
		add(cfg.Allow, cfg.Allow, KindAllow)
	}
	for i, source := range cfg.Lists {
		switch {
		case source == "":
			return nil, fmt.Errorf("list %d is empty", i+1)
		case !strings.Contains(source, "://"):
			add(source, source, KindFile)
		default:
			u, err := url.Parse(source)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return nil, fmt.Errorf("list %d is neither a path nor an http or https URL", i+1)
			}
			add(source, redacted(u), KindURL)
		}
	}
	return lists, nil
}

// redacted is a URL without what may be a secret: user, password, query, fragment.
func redacted(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	text := shown.String()
	if u.RawQuery != "" || u.User != nil {
		text += "?…"
	}
	return text
}

// current reports whether the list's copy was made by this version of the parser.
func (li *list) current() bool { return li.copy != nil && li.copy.Parser == parserRevision }

// errEmptied refuses the content of a list that had names and has none.
var errEmptied = errors.New("it lists nothing any more; take it out of the configuration if that is meant")

// parseFile parses the file at path as the content of li.
func parseFile(li *list, path string, fetched time.Time) (*blocklist.Input, record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, record{}, err
	}
	defer f.Close()
	li.parses++
	hash := xxhash.New()
	into := &building{b: blocklist.NewBuilder()}
	var sink Sink = into
	if li.kind == KindAllow {
		sink = Allowing(into)
	}
	body := io.TeeReader(&bounded{r: f, left: maxBody}, hash)
	stats, err := Parse(body, Options{}, sink)
	if err == nil {
		err = into.err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, body) // what Parse left, for the hash
	}
	if err != nil {
		return nil, record{}, err
	}
	input := into.b.Input(blocklist.Source{Name: li.name, Fetched: fetched})
	if input.Len() == 0 && li.kind != KindAllow && li.copy != nil && li.copy.Entries > 0 {
		return nil, record{}, errEmptied
	}
	return input, record{
		Source: li.name, Parser: parserRevision, Body: hash.Sum64(), Fetched: fetched,
		Entries: input.Len(), Refused: stats.Refused.Map(),
	}, nil
}

// building is a Sink into a Builder.
type building struct {
	b   *blocklist.Builder
	err error // the first
}

func (s *building) Add(_ int, l blocklist.Listing) {
	if err := s.b.Add(l); err != nil && s.err == nil {
		s.err = err
	}
}
func (s *building) Cancel(_ int, name []byte, scope blocklist.Scope) { s.b.Cancel(name, scope) }
func (s *building) Refuse(int, Reason)                               {}

// refreshFile brings the copy of a file up to date with it.
func (l *Lists) refreshFile(li *list) {
	now := time.Now()
	err := l.readFile(li, now)
	l.settle(li, now, err)
}

func (l *Lists) readFile(li *list, now time.Time) error {
	state, err := fileStateOf(li.source, now)
	if err != nil {
		return err
	}
	if li.current() && state.known() && li.copy.File == state {
		li.copy.Fetched = now
		return nil
	}
	if li.current() {
		if body, err := hashFile(li.source); err != nil {
			return err
		} else if body == li.copy.Body {
			li.copy.File, li.copy.Fetched = state, now
			return l.store.saveRecord(li.key, li.copy)
		}
	}
	input, rec, err := parseFile(li, li.source, now)
	if err != nil {
		return err
	}
	rec.File = state // as it was before reading: a change since is seen next time
	return l.keep(li, input, rec)
}

// keep makes input the last good copy of li.
func (l *Lists) keep(li *list, input *blocklist.Input, rec record) error {
	if err := l.store.save(li.key, input, &rec); err != nil {
		return err
	}
	li.copy = &rec
	l.log.Info("list loaded", "list", li.name, "entries", rec.Entries, "refused", sum(rec.Refused))
	return nil
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// fileState tells one content of a file from another without reading it.
type fileState struct {
	Size    int64
	ModTime int64 // Unix nanoseconds; 0 when too fresh to tell a further change by
	Inode   uint64
}

func (s fileState) known() bool { return s.ModTime != 0 }

// fresh is how old a time stamp must be before two changes cannot share it.
const fresh = 2 * time.Second

func fileStateOf(path string, now time.Time) (fileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	switch {
	case !info.Mode().IsRegular():
		return fileState{}, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case info.Size() > maxBody:
		return fileState{}, fmt.Errorf("%s: %d octets: %w", path, info.Size(), ErrTooLarge)
	}
	s := fileState{Size: info.Size(), ModTime: info.ModTime().UnixNano(), Inode: inode(info)}
	if now.Sub(info.ModTime()) < fresh {
		s.ModTime = 0
	}
	return s, nil
}

func hashFile(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	hash := xxhash.New()
	if _, err := io.Copy(hash, &bounded{r: f, left: maxBody}); err != nil {
		return 0, err
	}
	return hash.Sum64(), nil
}

// fingerprint stands for the content of the whole set.
func (l *Lists) fingerprint() uint64 {
	var b bytes.Buffer
	fmt.Fprintf(&b, "parser %d\n", parserRevision)
	for _, x := range l.cfg.BuiltIn {
		fmt.Fprintf(&b, "%q %d %d %d %d %d %d\n", x.Name, x.Scope, x.Category, x.Decision, x.Mark, x.Start, x.Expiry)
	}
	for _, li := range l.lists {
		if li.copy != nil {
			fmt.Fprintf(&b, "%s %s %x\n", li.kind, li.key, li.copy.Checksum)
		}
	}
	return xxhash.Sum64(b.Bytes())
}
