package journal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
	"rempart/internal/signing"
)

// attack is a record that must be refused.
type attack struct {
	kind string
	data []byte
}

// forge makes attacks from a genuine record.
type forge struct {
	t      *testing.T
	k      *journaltest.Keys
	record *journal.Record // the next record of the journal
	body   []byte
	all    []attack
}

func (f *forge) add(kind string, data []byte) { f.all = append(f.all, attack{kind, data}) }

// sealed returns the changed record, signed by the keys.
func (f *forge) sealed(change func(r *journal.Record), body []byte, signers ...*signing.SecretKey) []byte {
	f.t.Helper()
	r := *f.record
	if change != nil {
		change(&r)
	}
	head, err := json.Marshal(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return signing.Seal(signing.KindRecord, append(append(head, '\n'), body...), signers...)
}

// changes returns a change set that is signed by the keys.
func (f *forge) changes(set journal.ChangeSet, signer []*signing.SecretKey, changes ...journal.Change) []byte {
	f.t.Helper()
	if set.ID == "" {
		set.ID = "forged"
	}
	if set.Time == 0 {
		set.Time = f.record.Time / 1000
	}
	payload, err := journal.Encode(&set, changes)
	if err != nil {
		f.t.Fatal(err)
	}
	return signing.Seal(signing.KindChanges, payload, signer...)
}

func (f *forge) make(genuine []byte, others ...[]byte) {
	k, control := f.k, f.k.Control
	one := func(s ...*signing.SecretKey) []*signing.SecretKey { return s }
	f.add("forged: by an unauthorized key", f.sealed(nil, f.body, k.Unauthorized))
	impostor := journaltest.Key(f.t, "control") // with the same name
	f.add("forged: by another key of that name", f.sealed(nil, f.body, impostor))
	sig, err := signing.Unseal(signing.KindRecord, genuine)
	if err != nil {
		f.t.Fatal(err)
	}
	other := f.changes(journal.ChangeSet{}, one(k.Author), journaltest.Block("forged.example"))
	f.add("forged: another body under the same signature",
		append(signing.SealHead(signing.KindRecord, sig.Signatures), append(bytes.SplitAfterN(sig.Payload, []byte("\n"), 2)[0], other...)...))
	f.add("forged: a heartbeat as a record", bytes.Replace(genuine, []byte("record"), []byte("heartbeat"), 1))
	f.add("unsigned: the record", f.sealed(nil, f.body))
	f.add("unsigned: the change set", f.sealed(nil, f.changes(journal.ChangeSet{}, nil, journaltest.Block("forged.example")), control))
	f.add("wrong role: a record by an author", f.sealed(nil, f.body, k.Author))
	f.add("wrong role: a record by an approver", f.sealed(nil, f.body, k.Approver))
	f.add("wrong role: a record by the root", f.sealed(nil, f.body, k.Root))
	for _, s := range one(k.Approver, k.Feeds, k.Control, k.Root, k.Unauthorized) {
		f.add("wrong role: a change set by "+s.Name(), f.sealed(nil, f.changes(journal.ChangeSet{}, one(s), journaltest.Block("forged.example")), control))
	}
	list := journaltest.Block("forged.example")
	list.Source = "a list"
	f.add("wrong role: a list's change set by an author", f.sealed(nil, f.changes(journal.ChangeSet{}, one(k.Author), list), control))
	f.add("wrong role: lists and operators mixed", f.sealed(nil, f.changes(journal.ChangeSet{}, one(k.Author, k.Feeds), list, journaltest.Block("forged.example")), control))
	as := list
	as.Source = journal.Operator
	f.add("wrong role: a list that calls itself the operator", f.sealed(nil, f.changes(journal.ChangeSet{}, one(k.Feeds), as), control))
	now := f.record.Time / 1000
	for what, set := range map[string]journal.ChangeSet{
		"expired: by its own word":   {Time: now - 100, Expires: now - 1},
		"expired: by its age":        {Time: now - int64(journal.MaxAge/time.Second) - 1},
		"expired: not yet made":      {Time: now + 3600},
		"expired: at that very time": {Time: now - 10, Expires: now},
	} {
		f.add(what, f.sealed(nil, f.changes(set, one(k.Author), journaltest.Block("forged.example")), control))
	}
	for i, o := range others {
		f.add(fmt.Sprintf("replayed or reordered: record %d", i), o)
	}
	for what, change := range map[string]func(*journal.Record){
		"reordered: a version ahead":         func(r *journal.Record) { r.Version += 1 },
		"reordered: another one before it":   func(r *journal.Record) { r.Previous = "00" + r.Previous[2:] },
		"reordered: no one before it":        func(r *journal.Record) { r.Previous = "" },
		"replayed: the version in force":     func(r *journal.Record) { r.Version -= 1 },
		"replayed: an epoch before":          func(r *journal.Record) { r.Epoch = 0 },
		"replayed: in an epoch of its own":   func(r *journal.Record) { r.Epoch++ },
		"forged: of a kind nobody knows":     func(r *journal.Record) { r.Kind = "erase" },
		"forged: refuses what is not there":  func(r *journal.Record) { r.Refused = []int{7} },
		"forged: a snapshot without a ring":  func(r *journal.Record) { r.Kind = journal.RecordSnapshot },
		"forged: version 0":                  func(r *journal.Record) { r.Version = 0 },
		"forged: without a time":             func(r *journal.Record) { r.Time = 0 },
		"forged: a ring that is a changeset": func(r *journal.Record) { r.Kind = journal.RecordRing },
	} {
		f.add(what, f.sealed(change, f.body, control))
	}
	ring := k.Ring
	ring.Serial = 9
	ring.Keys = append(ring.Keys, signing.RingKey{Key: k.Unauthorized.String(), Roles: []signing.Role{signing.RoleControl, signing.RoleAuthor}})
	for _, s := range one(k.Unauthorized, k.Control, k.Author) {
		sealed, err := ring.Seal(s)
		if err != nil {
			f.t.Fatal(err)
		}
		f.add("wrong role: a key ring by "+s.Name(), f.sealed(func(r *journal.Record) { r.Kind = journal.RecordRing }, sealed, control))
	}
	next := k.Ring
	next.Serial = 9
	roots, err := next.Seal(k.Root)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range one(k.Author, k.Approver, k.Root, k.Unauthorized) {
		f.add("wrong role: a root's key ring by "+s.Name(), f.sealed(func(r *journal.Record) { r.Kind = journal.RecordRing }, roots, s))
	}
	old := k.Ring
	old.Keys = ring.Keys
	sealed, err := old.Seal(k.Root)
	if err != nil {
		f.t.Fatal(err)
	}
	f.add("replayed: a key ring of the same serial", f.sealed(func(r *journal.Record) { r.Kind = journal.RecordRing }, sealed, control))
	for _, bad := range []string{`{"do":"block"}`, `{"do":"destroy","name":"x.example"}`, `{"do":"block","name":"x.example","unknown":1}`, `{`, `{"do":"block","name":"x.example","mark":"?"}`} {
		payload := fmt.Sprintf(`{"id":"x","time":%d}`+"\n%s\n", now, bad)
		f.add("forged: "+bad, f.sealed(nil, signing.Seal(signing.KindChanges, []byte(payload), k.Author), control))
	}
	for n := range len(genuine) {
		f.add("truncated", genuine[:n])
	}
	for range 2000 {
		flipped := bytes.Clone(genuine)
		flipped[rand.IntN(len(flipped))] ^= 1 << rand.IntN(8)
		f.add("forged: a bit of it", flipped)
	}
	f.add("forged: longer", append(bytes.Clone(genuine), 0))
	f.malleable(genuine)
}

// malleable adds copies of the record with other bytes around its signature. An edge that accepted such a copy would refuse the next record, which contains the
// hash of the genuine record.
func (f *forge) malleable(genuine []byte) {
	s, err := signing.Unseal(signing.KindRecord, genuine)
	if err != nil {
		f.t.Fatal(err)
	}
	own := s.Signatures[0]
	line := func(id, signature string) []byte { return []byte(id + " " + signature + "\n") }
	text := base64.StdEncoding.EncodeToString(own.Bytes)
	junk := line("x", base64.StdEncoding.EncodeToString(make([]byte, 64)))
	first := line(own.Key, text)
	with := func(what string, lines ...[]byte) {
		head := append([]byte("rempart/1 record\n"), bytes.Join(lines, nil)...)
		f.add("malleable: "+what, append(append(head, '\n'), s.Payload...))
	}
	with("a signature that nobody made before it", junk, first)
	with("a signature that nobody made after it", first, junk)
	with("sixteen signatures", slices.Concat(first, bytes.Repeat(junk, 15)))
	with("its signature twice", first, first)
	with("a second one that is another key's", first, line(f.k.Author.ID(), text))
	for _, k := range []*signing.SecretKey{f.k.Author, f.k.Root, f.k.Unauthorized, journaltest.Key(f.t, "control2")} { // a key without a role in the ring
		sig := k.Sign(signing.KindRecord, s.Digest)
		other := line(sig.Key, base64.StdEncoding.EncodeToString(sig.Bytes))
		with("signed by "+k.Name()+" too", first, other)
		with("signed by "+k.Name()+" before", other, first)
	}
	with("under another key's ID", line(strings.ToUpper(own.Key), text))
	with("a space more", line(own.Key, " "+text))
	with("a space at the end", line(own.Key, text+" "))
	with("a carriage return at the end", line(own.Key, text+"\r"))
	with("a carriage return within", line(own.Key, text[:40]+"\r"+text[40:]))
	with("a carriage return for a character", line(own.Key, text[:40]+"\r"+text[41:]))
	with("without padding", line(own.Key, strings.TrimRight(text, "=")))
	with("other bits in the last character", line(own.Key, strings.TrimSuffix(text, text[85:])+string(text[85]+1)+"=="))
	with("an empty line before", []byte("\n"), first)
	f.add("malleable: lines that end in CR LF", bytes.Replace(genuine, []byte("record\n"), []byte("record\r\n"), 1))
}

// TestAddedSignatureIsRefused checks that an edge refuses a record to which a mirror added a signature line, and then accepts the genuine record.
func TestAddedSignatureIsRefused(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	at := c.State().Version
	c.Push(t, k.ChangeSet(t, "next", journaltest.Block("next.example")))
	last := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), alteringSource{journaltest.FromStream(c, "e"), at + 1, new(atomic.Int32)}, journal.Node{ID: "e"})
	e.Reaches(t, last.Version)
	journaltest.WantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
}

// alteringSource is a source that adds a signature to the record of a version the first two times.
type alteringSource struct {
	journal.Source
	version uint64
	times   *atomic.Int32
}

func (a alteringSource) Follow(ctx context.Context, after journal.Position, to journal.Consumer) error {
	return a.Source.Follow(ctx, after, alteringConsumer{to, a})
}

type alteringConsumer struct {
	journal.Consumer
	by alteringSource
}

func (a alteringConsumer) Record(e journal.SequencedRecord) error {
	if r, _, err := journal.ReadRecord(e.Data); err == nil && r.Version == a.by.version && a.by.times.Add(1) <= 2 {
		at := bytes.Index(e.Data, []byte("\n\n"))
		junk := "\nx " + base64.StdEncoding.EncodeToString(make([]byte, 64))
		e.Data = slices.Concat(e.Data[:at], []byte(junk), e.Data[at:])
	}
	return a.Consumer.Record(e)
}

// TestHugeRecordIsRefusedBeforeParsing checks that unsigned records with as many elements as possible are refused before they are parsed, which would allocate
// a hundred times their size.
func TestHugeRecordIsRefusedBeforeParsing(t *testing.T) {
	within := map[string]string{
		"scoped":   `{"kind":"snapshot","snapshot":{"scoped":[%s]}}`,
		"sources":  `{"kind":"snapshot","snapshot":{"changes":{"set":{"sources":[%s]}}}}`,
		"signed":   `{"kind":"snapshot","snapshot":{"changes":{"signatures":[%s]}}}`,
		"approved": `{"kind":"changes","approved":[%s]}`,
		"refused":  `{"kind":"changes","refused":[%s]}`,
		"quoted":   `{"kind":"]\"}","unknown":[[{}]],"snapshot":{"scoped":[%s]}}`,
	}
	for what, line := range within {
		for _, element := range []string{"{}", "0", "null", `""`, "[]"} {
			elements := strings.TrimSuffix(strings.Repeat(element+",", (journal.MaxRecord-200)/(len(element)+1)), ",")
			data := []byte("rempart/1 record\n\n" + fmt.Sprintf(line, elements) + "\n")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := journal.ReadRecord(data)
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || took > 8 {
				t.Errorf("%s of %s: %v, %d MB allocated", what, element, err, took)
			}
		}
	}
	deep := "rempart/1 record\n\n" + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"
	if _, _, err := journal.ReadRecord([]byte(deep)); !errors.Is(err, signing.ErrSeal) {
		t.Errorf("deeply nested record: error %v", err)
	}
}

// TestForgedRecordsAreRefused checks that an edge refuses all kinds of records of an attacker who has some of the keys, but not both control's and an author's.
func TestForgedRecordsAreRefused(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	for i := range 3 {
		c.Push(t, k.ChangeSet(t, fmt.Sprint("before", i), journaltest.Block(fmt.Sprintf("before%d.example", i))))
	}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	at := c.State().Version
	e.Reaches(t, at)
	e.Stop()
	var others [][]byte
	for v := at - 3; v <= at; v++ {
		data, err := c.Record(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, data)
	}
	c.Push(t, k.ChangeSet(t, "next", journaltest.Block("next.example")))
	last := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	genuine, err := c.Record(t.Context(), at+1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := c.Record(t.Context(), last.Version)
	if err != nil {
		t.Fatal(err)
	}
	r, body, err := journal.ReadRecord(genuine)
	if err != nil {
		t.Fatal(err)
	}
	f := &forge{t: t, k: k, record: r, body: body}
	f.make(genuine, append(others, after)...)

	victim, err := journal.NewFollower(journal.FollowerConfig{Dir: filepath.Join(dir, "e"), Source: journaltest.Offline{}, Trust: k.Trust(), Node: journal.Node{ID: "e"}})
	if err == nil {
		err = victim.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if v := victim.State().Version; v != at {
		t.Fatalf("version %d, want %d", v, at)
	}
	view := victim.Set().View()
	accepted := map[string]int{}
	for _, a := range f.all {
		if err := victim.Feed(journal.SequencedRecord{Data: a.data}); err == nil || victim.Set().View() != view {
			accepted[a.kind]++
			t.Errorf("accepted: %s", a.kind)
		}
	}
	beat := func(h journal.Heartbeat, s *signing.SecretKey) []byte {
		payload, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return signing.Seal(signing.KindHeartbeat, payload, s)
	}
	_ = victim.FeedHeartbeat(beat(journal.Heartbeat{Epoch: 9, Version: 99, Time: time.Now().UnixMilli()}, k.Unauthorized))
	if h := victim.Health(); h.Newest == 99 {
		t.Error("a forged heartbeat was accepted")
	}
	t.Logf("forged, replayed, reordered, truncated, unsigned, expired, wrong-role records accepted: %d of %d", len(accepted), len(f.all))
	if diff := cmp.Diff(map[string]int{}, accepted); diff != "" {
		t.Error(diff)
	}
	for _, data := range [][]byte{genuine, after} {
		if err := victim.Feed(journal.SequencedRecord{Data: data}); err != nil {
			t.Errorf("genuine record: error %v", err)
		}
	}
	journaltest.WantVerdict(t, victim.Set().View(), "after.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, victim.Set().View(), "forged.example", blocklist.Pass)
}

// TestThresholdRequiresTwoKeys checks that a change set with two changes needs valid signatures of two keys if the threshold is one change.
func TestThresholdRequiresTwoKeys(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	k.Ring.Threshold = signing.Threshold{Changes: 1, Keys: 2}
	k.Seal(t)
	c := journaltest.StartControl(t, k, dir, nil)
	c.Push(t, k.ChangeSet(t, "small", journaltest.Block("one.example")))
	payload, err := journal.Encode(&journal.ChangeSet{ID: "large", Time: time.Now().Unix()}, []journal.Change{journaltest.Block("a.example"), journaltest.Block("b.example")})
	if err != nil {
		t.Fatal(err)
	}
	for _, signers := range [][]*signing.SecretKey{{k.Author}, {k.Author, k.Unauthorized}, {k.Author, k.Feeds}, {k.Approver, k.Control}} {
		_, err := c.Publish(t.Context(), publish.Draft{Kind: journal.RecordChanges, Body: signing.Seal(signing.KindChanges, payload, signers...)})
		if !errors.Is(err, publish.ErrRefused) {
			t.Errorf("%d signatures: %v", len(signers), err)
		}
	}
	c.Push(t, signing.Seal(signing.KindChanges, payload, k.Author, k.Approver))
	journaltest.WantVerdict(t, c.State().View(), "b.example", blocklist.BlockedBy)
}

// TestControlAndRootKeysAreReplaced checks that an edge follows a control whose key and root key were replaced.
func TestControlAndRootKeysAreReplaced(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	c.Push(t, k.ChangeSet(t, "before", journaltest.Block("before.example")))
	c.Stop()
	next := journaltest.Key(t, "control2")
	root := journaltest.Key(t, "root2")
	k.Ring.Serial, k.Ring.Roots = 2, []string{root.String()}
	k.Ring.Keys = append(k.Ring.Keys, signing.RingKey{Key: next.String(), Roles: []signing.Role{signing.RoleControl}})
	k.Seal(t) // the previous root key, which every edge trusts, signs the ring
	c = journaltest.StartControl(t, k, dir, nil)
	k.Control = next
	c.Stop()
	c = journaltest.StartControl(t, k, dir, nil)
	r := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	e.Stop()
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version)
	journaltest.WantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
}
