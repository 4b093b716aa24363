package appeal

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// memory is a Bucket in memory.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	at     map[string]uint64
	last   uint64
	fail   error // of the next writes
}

func (m *memory) Get(_ context.Context, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[key] == nil {
		return nil, 0, stream.ErrNone
	}
	return m.values[key], m.at[key], nil
}

func (m *memory) write(key string, value []byte) (uint64, error) {
	if m.fail != nil {
		return 0, m.fail
	}
	m.last++
	m.values[key], m.at[key] = value, m.last
	return m.last, nil
}

func (m *memory) Create(_ context.Context, key string, value []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[key] != nil {
		return 0, stream.ErrExists
	}
	return m.write(key, value)
}

func (m *memory) Update(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at[key] != revision {
		return 0, stream.ErrBehind
	}
	return m.write(key, value)
}

func (m *memory) Each(_ context.Context, f func(string, []byte) error) error {
	m.mu.Lock()
	all := maps.Clone(m.values)
	m.mu.Unlock()
	for key, value := range all {
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

// testKeys signs with one key.
type testKeys struct{ key *signing.SecretKey }

func (k testKeys) Seal(kind signing.Kind, payload []byte) []byte {
	return signing.Seal(kind, payload, k.key)
}
func (k testKeys) IsControl(s *signing.Sealed, _ int64) bool { return s.SignedBy(k.key.PublicKey) }

// published records the change sets of a test.
type published struct {
	sets   map[string][]journal.Change
	undone []string
	fail   error
}

func (p *published) Publish(_ context.Context, id, _ string, changes []journal.Change) (uint64, error) {
	if p.fail != nil {
		return 0, p.fail
	}
	p.sets[id] = changes
	return uint64(len(p.sets)), nil
}

func (p *published) Undo(_ context.Context, id string) error {
	if p.fail == nil {
		p.undone = append(p.undone, id)
	}
	return p.fail
}

type fixture struct {
	*Desk
	bucket *memory
	out    *published
	now    time.Time
	policy *Policy
	blocks []Block // in force
}

func newFixture(t testing.TB, policy string) *fixture {
	t.Helper()
	key, err := signing.NewKey("control")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{bucket: &memory{values: map[string][]byte{}, at: map[string]uint64{}}, out: &published{sets: map[string][]journal.Change{}}, now: time.Unix(1_800_000_000, 0)}
	if f.policy, err = ParsePolicy([]byte("service = 'The desk'\ncontact = 'desk@isp.example'\n" + policy)); err != nil {
		t.Fatal(err)
	}
	f.Desk = New(Config{
		Bucket: f.bucket, Keys: testKeys{key}, Publish: f.out, Blocks: func(string) []Block { return f.blocks }, Policy: func() *Policy { return f.policy },
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return f.now },
	})
	return f
}

func (f *fixture) file(t testing.TB, block Block) (*Appeal, string) {
	t.Helper()
	f.blocks = []Block{block}
	code := NewCode()
	a, err := f.File(t.Context(), code, Filing{Name: "bad.example", Reason: "It is my shop, and it is safe.", Language: "fr", Block: block})
	if err != nil {
		t.Fatal(err)
	}
	return a, code
}

var (
	alice = changeset.By{Token: "alice-token", Person: "alice"}
	bob   = changeset.By{Token: "bob-token", Person: "bob"}
)

// kindOf returns the kind of a refusal, -1 for another error or none.
func kindOf(err error) changeset.Kind {
	if kind, ok := changeset.KindOf(err); ok {
		return kind
	}
	return -1
}

func TestAppealIsFiledOnce(t *testing.T) {
	f := newFixture(t, "")
	a, code := f.file(t, Block{Lists: []string{"a list"}})
	if a.State != Open || !a.Filed.Equal(f.now) || !a.Due.Equal(f.now.Add(defaultAnswer).UTC()) || len(a.Number) != 11 {
		t.Errorf("appeal %+v", a)
	}
	again, err := f.File(t.Context(), code, Filing{Name: "other.example", Reason: "Another reason, with the same code.", Language: "fr"})
	if err != nil || again.Number != a.Number || again.Name != "bad.example" || len(f.bucket.values) != 1 {
		t.Errorf("the same request again: %+v, %v; %d appeals", again, err, len(f.bucket.values))
	}
	found, err := f.ByCode(t.Context(), code)
	if err != nil || found.Number != a.Number {
		t.Errorf("by its code: %+v, %v", found, err)
	}
	for _, wrong := range []string{"", NewCode(), a.Number, strings.ToUpper(code), code + "a", "../../../etc/passwd"} {
		if _, err := f.ByCode(t.Context(), wrong); kindOf(err) != changeset.NotFound {
			t.Errorf("code %q: %v", wrong, err)
		}
	}
	for _, value := range f.bucket.values {
		if strings.Contains(string(value), code) {
			t.Error("the code of the appellant is stored")
		}
	}
}

func TestInvalidFilings(t *testing.T) {
	f := newFixture(t, "")
	for field, filing := range map[string]Filing{
		"name":     {Reason: "long enough to be read"},
		"reason":   {Name: "a.example", Reason: "short"},
		"email":    {Name: "a.example", Reason: "long enough to be read", Email: "A B <a@b.example>"},
		"language": {Name: "a.example", Reason: "long enough to be read", Language: strings.Repeat("x", 40)},
	} {
		_, err := f.File(t.Context(), NewCode(), filing)
		if e := (*changeset.Error)(nil); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	long := Filing{Name: "a.example", Reason: strings.Repeat("é", maxReason+1)}
	if _, err := f.File(t.Context(), NewCode(), long); kindOf(err) != changeset.Invalid {
		t.Errorf("a long reason: %v", err)
	}
	f.bucket.fail = stream.ErrFull
	if _, err := f.File(t.Context(), NewCode(), Filing{Name: "a.example", Reason: "long enough to be read"}); kindOf(err) != changeset.Unavailable {
		t.Errorf("a full disk: %v", err)
	}
}

func TestUpheldAppealIsPublished(t *testing.T) {
	for name, tt := range map[string]struct {
		block Block
		want  journal.Change
	}{
		"lists":               {Block{Lists: []string{"a list"}, Entry: "example"}, journal.Change{Do: journal.Allow, Name: "bad.example"}},
		"operators":           {Block{Operator: true, Entry: "bad.example"}, journal.Change{Do: journal.Withdraw, Name: "bad.example"}},
		"operators, above":    {Block{Operator: true, Entry: "example"}, journal.Change{Do: journal.Allow, Name: "bad.example"}},
		"operators, target":   {Block{Operator: true, Entry: "bad.example", Target: "x.bad.example"}, journal.Change{Do: journal.Allow, Name: "bad.example"}},
		"lists and operators": {Block{Operator: true, Lists: []string{"a list"}, Entry: "example"}, journal.Change{Do: journal.Allow, Name: "bad.example"}},
	} {
		f := newFixture(t, "")
		a, _ := f.file(t, tt.block)
		a, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Safe, ""})
		if err != nil || a.State != Upheld || !a.IsApplied || a.Version != 1 {
			t.Fatalf("%s: %+v, %v", name, a, err)
		}
		got := f.out.sets[a.ChangeSet]
		if len(got) != 1 || got[0].Do != tt.want.Do || got[0].Name != tt.want.Name || !strings.Contains(got[0].Reason, a.Number) {
			t.Errorf("%s: changes %+v", name, got)
		}
		if _, err := f.Decide(t.Context(), a.Number, alice, Decision{Reject, Dangerous, ""}); kindOf(err) != changeset.Conflict {
			t.Errorf("%s: another decision: %v", name, err)
		}
	}
}

func TestOrderNeedsSecondPerson(t *testing.T) {
	f := newFixture(t, "")
	a, _ := f.file(t, Block{Mark: "censored", Operator: true, Entry: "bad.example", Decision: "arcom-1"})
	a, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Safe, ""})
	if err != nil || a.State != Second || len(f.out.sets) != 0 {
		t.Fatalf("after the first decision: %+v, %v", a, err)
	}
	for name, by := range map[string]changeset.By{"same token": alice, "same person": {Token: "another-token", Person: "alice"}} {
		if _, err := f.Confirm(t.Context(), a.Number, by, Uphold, Safe); kindOf(err) != changeset.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.Decide(t.Context(), a.Number, bob, Decision{Reject, Dangerous, ""}); kindOf(err) != changeset.Conflict {
		t.Errorf("another person decides otherwise: %v", err)
	}
	if _, err := f.Confirm(t.Context(), a.Number, bob, Reject, Dangerous); kindOf(err) != changeset.Conflict {
		t.Errorf("another decision than the recorded one is confirmed: %v", err)
	}
	if a, err = f.Confirm(t.Context(), a.Number, bob, Uphold, Safe); err != nil || a.State != Upheld || a.Second != bob.Token || len(f.out.sets) != 1 {
		t.Errorf("after the confirmation: %+v, %v", a, err)
	}
}

func TestBlockIsSuspendedUntilTheDecision(t *testing.T) {
	f := newFixture(t, "suspend = ['arcom-*']\nsecond = []\n")
	other, _ := f.file(t, Block{Decision: "other-1"})
	if other.Suspension != "" {
		t.Errorf("another authority's block is suspended: %+v", other)
	}
	a, _ := f.file(t, Block{Mark: "censored", Decision: "arcom-1", Operator: true})
	if set := f.out.sets[a.Suspension]; len(set) != 1 || set[0].Do != journal.Allow {
		t.Fatalf("suspension %q: %+v", a.Suspension, set)
	}
	if a, err := f.Decide(t.Context(), a.Number, alice, Decision{Reject, Dangerous, ""}); err != nil || len(f.out.undone) != 1 || f.out.undone[0] != a.Suspension {
		t.Errorf("after the rejection: %+v, %v; undone %v", a, err, f.out.undone)
	}
}

// TestLaterOrderNeedsSecondPerson checks that a decision looks at the blocks in force at that time, not only at the one that was known when the appeal was filed.
func TestLaterOrderNeedsSecondPerson(t *testing.T) {
	f := newFixture(t, "suspend = ['lists']\n")
	a, _ := f.file(t, Block{Lists: []string{"a list"}})
	f.blocks = append(f.blocks, Block{Mark: "censored", Operator: true, Decision: "arcom-1"})
	if a, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Safe, ""}); err != nil || a.State != Second {
		t.Errorf("%+v, %v", a, err)
	}
	sets := len(f.out.sets)
	code := NewCode()
	if b, err := f.File(t.Context(), code, Filing{Name: "sub.bad.example", Reason: "long enough to be read", Block: Block{Lists: []string{"a list"}}}); err != nil || b.Suspension != "" || len(f.out.sets) != sets {
		t.Errorf("a name that an order blocks too is suspended: %+v, %v", b, err)
	}
}

// TestAppealsAboutOneNameShareSuspension checks that the name is blocked again when all appeals about it are rejected, and when they end undecided.
func TestAppealsAboutOneNameShareSuspension(t *testing.T) {
	f := newFixture(t, "suspend = ['lists']\nanswer = '2d'\nretention = '3d'\n")
	block := Block{Lists: []string{"a list"}}
	a, _ := f.file(t, block)
	b, _ := f.file(t, block)
	if a.Suspension == "" || b.Suspension != a.Suspension || len(f.out.sets) != 1 {
		t.Fatalf("suspensions %q and %q: %v", a.Suspension, b.Suspension, f.out.sets)
	}
	for i, number := range []string{a.Number, b.Number} {
		if _, err := f.Decide(t.Context(), number, alice, Decision{Reject, Dangerous, ""}); err != nil || len(f.out.undone) != i {
			t.Errorf("rejection %d: %v; undone %v", i+1, err, f.out.undone)
		}
	}
	c, _ := f.file(t, block)
	f.out.fail = errors.New("the journal cannot be written")
	f.now = f.now.Add(4 * 24 * time.Hour)
	f.sweep(t.Context())
	if _, err := f.Get(t.Context(), c.Number); err != nil {
		t.Errorf("an appeal ended before its suspension: %v", err)
	}
	f.out.fail = nil
	f.sweep(t.Context())
	if _, err := f.Get(t.Context(), c.Number); kindOf(err) != changeset.NotFound || len(f.out.undone) != 2 || f.out.undone[1] != c.Suspension {
		t.Errorf("after the retention: %v; undone %v", err, f.out.undone)
	}
}

// TestManyProposalsLeaveRoom checks that a reviewer who changes a decision again and again does not damage the appeal.
func TestManyProposalsLeaveRoom(t *testing.T) {
	f := newFixture(t, "")
	f.blocks = []Block{{Mark: "censored"}}
	a, err := f.File(t.Context(), NewCode(), Filing{Name: "bad.example", Reason: strings.Repeat("\u2028", maxReason), Block: f.blocks[0]})
	if err != nil {
		t.Fatal(err)
	}
	refusals := 0
	for i := range 40 {
		_, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Safe, strings.Repeat("<", maxNote-i)})
		if kindOf(err) == changeset.Conflict {
			refusals++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if a, err = f.Get(t.Context(), a.Number); err != nil || a.State != Second || refusals == 0 {
		t.Fatalf("%+v, %v; %d refusals", a, err, refusals)
	}
	if a, err = f.Confirm(t.Context(), a.Number, bob, Uphold, Safe); err != nil || a.State != Upheld || !a.IsApplied {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestMissingStepsAreTakenAgain(t *testing.T) {
	f := newFixture(t, "suspend = ['lists']\n")
	f.out.fail = errors.New("the journal cannot be written")
	a, _ := f.file(t, Block{Lists: []string{"a list"}})
	a, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Repaired, ""})
	if err != nil || a.State != Upheld || a.IsApplied {
		t.Fatalf("while the journal cannot be written: %+v, %v", a, err)
	}
	f.out.fail = nil
	f.sweep(t.Context())
	if a, err = f.Get(t.Context(), a.Number); err != nil || !a.IsApplied || len(f.out.sets) != 1 {
		t.Errorf("afterwards: %+v, %v; %v", a, err, f.out.sets)
	}
}

func TestAppealsEnd(t *testing.T) {
	f := newFixture(t, "answer = '10d'\nretention = '30d'\n")
	a, _ := f.file(t, Block{})
	f.now = f.now.Add(11 * 24 * time.Hour)
	f.sweep(t.Context())
	if st := f.Stats(); st.Overdue != 1 || st.ByState[Open] != 1 || st.Oldest != 11*24*time.Hour {
		t.Errorf("after the answer was due: %+v", st)
	}
	f.now = f.now.Add(20 * 24 * time.Hour)
	f.sweep(t.Context())
	if _, err := f.Get(t.Context(), a.Number); kindOf(err) != changeset.NotFound || len(f.bucket.values) != 0 {
		t.Errorf("after the retention: %v", err)
	}
	if st := f.Stats(); st.ByState[Open] != 0 {
		t.Errorf("after the retention: %+v", st)
	}
}

func TestDamagedAppealIsRefused(t *testing.T) {
	f := newFixture(t, "")
	a, _ := f.file(t, Block{})
	if _, err := f.Decide(t.Context(), a.Number, alice, Decision{Reject, Dangerous, "no"}); err != nil {
		t.Fatal(err)
	}
	whole := f.bucket.values[a.Number]
	for i := 0; i < len(whole); i += 7 {
		damaged := []byte(strings.Clone(string(whole)))
		damaged[i] ^= 1
		f.bucket.values[a.Number] = damaged
		if got, err := f.Get(t.Context(), a.Number); err == nil && (got.State != Rejected || got.Decision.Note != "no" || got.Name != "bad.example") {
			t.Fatalf("byte %d changed: %+v", i, got)
		}
	}
	if all, err := f.List(t.Context(), ""); err != nil || len(all) > 1 {
		t.Errorf("list: %v, %v", all, err)
	}
}

func TestUpheldAppealsByList(t *testing.T) {
	f := newFixture(t, "")
	for range 2 {
		a, _ := f.file(t, Block{Lists: []string{"wrong list", "other"}})
		if _, err := f.Decide(t.Context(), a.Number, alice, Decision{Uphold, Safe, ""}); err != nil {
			t.Fatal(err)
		}
	}
	if st := f.Stats(); st.Upheld["wrong list"] != 2 || st.Upheld["other"] != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestInvalidPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "service",
		"service='x'":                           "contact",
		"service='x'\ncontact='x'\nanswer='1h'": "answer",
		"service='x'\ncontact='x'\nanswer='20d'\nretention='10d'": "retention",
		"service='x'\ncontact='x'\nsilent='x'":                    "silent",
		"service='x'\ncontact='x'\n[silence]\nfr=''":              "silence.fr",
		"service=1": "string",
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// BenchmarkSweep measures one reading of 300 open appeals, and of what they need.
func BenchmarkSweep(b *testing.B) {
	f := newFixture(b, "")
	for range 300 {
		f.file(b, Block{Entry: "bad.example", Lists: []string{"a list"}})
	}
	for b.Loop() {
		f.sweep(b.Context())
	}
}
