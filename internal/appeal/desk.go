package appeal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Bucket stores the values of appeals by key. See stream.Bucket for the contract.
type Bucket interface {
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Each(ctx context.Context, f func(key string, value []byte) error) error
	Delete(ctx context.Context, key string) error
}

// Keys signs records, and checks their signatures.
type Keys interface {
	Seal(kind signing.Kind, payload []byte) []byte
	// IsControl reports whether a key that was control's at that time (Unix seconds) signed s.
	IsControl(s *signing.Sealed, at int64) bool
}

// Publisher publishes the change sets of decisions. Both methods do nothing if the step was already taken.
type Publisher interface {
	// Publish publishes changes under an ID. version is 0 if the change set is held for a second person.
	Publish(ctx context.Context, id, comment string, changes []journal.Change) (version uint64, err error)
	// Undo undoes the change set of an ID.
	Undo(ctx context.Context, id string) error
}

// Config configures a Desk. All fields are required except Now.
type Config struct {
	Bucket  Bucket
	Keys    Keys
	Publish Publisher
	// Blocks returns all blocks in force now that reach a name in text form: those of the name itself and those of names above it. It ignores allows and
	// exceptions of lists, so that it also returns the blocks of a name that passes because of an allow, such as a suspension.
	Blocks func(name string) []Block
	Policy func() *Policy
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Desk files appeals and records their decisions. Its methods are safe for concurrent use, also by several controls on one store.
type Desk struct {
	cfg        Config
	suspending sync.Mutex // held while a suspension begins or ends: appeals about one name share it

	mu    sync.Mutex
	known map[string]summary // by number, as of the newest reading of the appeal by this Desk
}

// summary is the part of an appeal that stays in memory.
type summary struct {
	name        string
	state       State
	filed       time.Time
	due         time.Time
	decided     time.Time // zero if it is undecided
	isSuspended bool
	lists       []string
}

// New returns a Desk. Run must be called.
func New(cfg Config) *Desk {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Desk{cfg: cfg, known: map[string]summary{}}
}

// NewCode returns a code by which an appellant finds an appeal: 128 random bits.
func NewCode() string { return strings.ToLower(rand.Text()[:codeLength]) }

const (
	codeLength  = 26 // base32 characters of 128 bits
	numberBytes = 6
	maxAppeals  = 20_000 // undecided ones
	stepTries   = 5      // while other writers change the same appeal
)

var (
	errCode   = changeset.NewError(changeset.Invalid, "code", "open the page of the request again")
	errNoCode = changeset.NewError(changeset.NotFound, "", "no appeal has this code")
)

var numberEncoding = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding) // without I, L, O and U

// isCode reports whether text may be the code of an appeal.
func isCode(text string) bool {
	return len(text) == codeLength && !strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// numberOf returns the number of the appeal with a code, and the hash of the code that is stored. The number does not reveal the code.
func numberOf(code string) (number, hash string) {
	sum := sha256.Sum256([]byte(code))
	text := numberEncoding.EncodeToString(sum[:numberBytes])
	return text[:5] + "-" + text[5:], hex.EncodeToString(sum[:])
}

// File stores a new appeal under a code of NewCode, and returns it once it is durable. An appeal that was filed with the same code before is returned as it is: a
// repeated request files nothing twice. An error is a *changeset.Error.
func (d *Desk) File(ctx context.Context, code string, f Filing) (*Appeal, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if !isCode(code) {
		return nil, errCode
	}
	number, hash := numberOf(code)
	if old, err := d.read(ctx, number); err == nil && old.Code == hash {
		return old, nil
	}
	if d.undecided() >= maxAppeals {
		return nil, changeset.NewError(changeset.Unavailable, "", fmt.Sprintf("%d requests wait for a decision already", maxAppeals))
	}
	s := &stored{}
	f.Block.Lists = f.Block.Lists[:min(len(f.Block.Lists), maxLists)]
	due := d.cfg.Now().Add(d.cfg.Policy().Answer).Unix()
	data, err := d.add(s, record{Kind: filed, Number: number, Filing: &f, Code: hash, Due: due})
	if err == nil {
		_, err = d.cfg.Bucket.Create(ctx, number, data)
	}
	if errors.Is(err, stream.ErrExists) {
		return d.repeated(ctx, number, hash)
	}
	if err != nil {
		return nil, changeset.Fail("storing an appeal failed", err)
	}
	a, err := d.read(ctx, number)
	if err != nil || !d.needsSuspension(a, d.suspendedNames()) {
		return a, err
	}
	d.suspend(ctx, number)
	return d.read(ctx, number)
}

// repeated returns the appeal that an earlier request with the same code filed.
func (d *Desk) repeated(ctx context.Context, number, hash string) (*Appeal, error) {
	old, err := d.read(ctx, number)
	if err == nil && old.Code != hash {
		err = errCode // another code has the same number
	}
	return old, err
}

func (f *Filing) check() error {
	f.Reason = printable(f.Reason)
	length := utf8.RuneCountInString(f.Reason)
	address, err := mail.ParseAddress(f.Email)
	switch {
	case f.Name == "" || len(f.Name) > 253:
		return changeset.NewError(changeset.Invalid, "name", "a domain name")
	case length < minReason || length > maxReason:
		return changeset.NewError(changeset.Invalid, "reason", fmt.Sprintf("%d to %d characters", minReason, maxReason))
	case f.Email != "" && (err != nil || address.Address != f.Email || len(f.Email) > maxEmail):
		return changeset.NewError(changeset.Invalid, "email", "an e-mail address")
	case len(f.Language) > 35:
		return changeset.NewError(changeset.Invalid, "language", "a language tag")
	}
	return nil
}

// printable returns text without control characters, except line feeds.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// needsSuspension reports whether the block of an appeal should be suspended and is not. suspended are the names with a suspension that the appeal can share.
func (d *Desk) needsSuspension(a *Appeal, suspended map[string]bool) bool {
	return !a.State.IsDecided() && a.Suspension == "" && (suspended[a.Name] || d.cfg.Policy().suspends(d.cfg.Blocks(a.Name)))
}

// suspend lets the name of an appeal pass until the decision, if the policy says so for all blocks of the name. Appeals about one name share the suspension. If it
// fails, Run tries again.
func (d *Desk) suspend(ctx context.Context, number string) {
	d.suspending.Lock()
	defer d.suspending.Unlock()
	_, err := d.step(ctx, number, func(a *Appeal) (*record, error) {
		if a.State.IsDecided() || a.Suspension != "" {
			return nil, nil
		}
		if id, err := d.sharedSuspension(ctx, a); err != nil || id != "" {
			return &record{Kind: suspended, ChangeSet: id}, err
		}
		if !d.cfg.Policy().suspends(d.cfg.Blocks(a.Name)) {
			return nil, nil
		}
		id := "appeal-" + number + "-suspension"
		version, err := d.cfg.Publish.Publish(ctx, id, "until the decision about appeal "+number, []journal.Change{{Do: journal.Allow, Name: a.Name, Reason: "appeal " + number + " is pending"}})
		if err != nil {
			return nil, err
		}
		return &record{Kind: suspended, ChangeSet: id, Version: version}, nil
	})
	if err != nil {
		d.cfg.Log.Error("suspending a block until the decision about its appeal failed; control tries again", "appeal", number, "error", err)
	}
}

// sharedSuspension returns the suspension of another undecided appeal about the name of a; "" if there is none.
func (d *Desk) sharedSuspension(ctx context.Context, a *Appeal) (id string, err error) {
	all, err := d.List(ctx, "")
	if err != nil {
		return "", err
	}
	for _, other := range all {
		if other.Number != a.Number && other.Name == a.Name && !other.State.IsDecided() && other.Suspension != "" {
			return other.Suspension, nil
		}
	}
	return "", nil
}

// endSuspension ends the suspension of an appeal, unless another undecided appeal shares it.
func (d *Desk) endSuspension(ctx context.Context, a *Appeal) error {
	if a.Suspension == "" {
		return nil
	}
	d.suspending.Lock()
	defer d.suspending.Unlock()
	if id, err := d.sharedSuspension(ctx, a); err != nil || id == a.Suspension {
		return err
	}
	return d.cfg.Publish.Undo(ctx, a.Suspension)
}

// ByCode returns the appeal with a code. An error is a *changeset.Error.
func (d *Desk) ByCode(ctx context.Context, code string) (*Appeal, error) {
	if !isCode(code) {
		return nil, errNoCode
	}
	number, hash := numberOf(code)
	a, err := d.read(ctx, number)
	if err == nil && a.Code != hash {
		err = errNoCode
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Get returns the appeal with a number. An error is a *changeset.Error.
func (d *Desk) Get(ctx context.Context, number string) (*Appeal, error) {
	return d.read(ctx, strings.ToUpper(number))
}

// read is load without the stored value.
func (d *Desk) read(ctx context.Context, number string) (*Appeal, error) {
	a, _, _, err := d.load(ctx, number)
	return a, err
}

// load returns the appeal with a number, its stored value and the revision of that value.
func (d *Desk) load(ctx context.Context, number string) (*Appeal, *stored, uint64, error) {
	data, revision, err := d.cfg.Bucket.Get(ctx, number)
	if errors.Is(err, stream.ErrNone) || number == "" || len(number) > 64 {
		return nil, nil, 0, changeset.NewError(changeset.NotFound, "", "no appeal has this number")
	}
	if err != nil {
		return nil, nil, 0, changeset.Fail("reading an appeal failed", err)
	}
	a, s, err := d.parse(data)
	if err != nil {
		return nil, nil, 0, changeset.Fail("reading an appeal failed", fmt.Errorf("appeal %s: %w", number, err))
	}
	return a, s, revision, nil
}

// parse returns the appeal in a stored value, and notes the state of the appeal for Stats.
func (d *Desk) parse(data []byte) (*Appeal, *stored, error) {
	records, s, err := d.open(data)
	if err != nil {
		return nil, nil, err
	}
	a, err := replay(records)
	if err != nil {
		return nil, nil, err
	}
	d.note(a)
	return a, s, nil
}

// List returns the appeals in a state, "" for all, the oldest first. Damaged ones are logged and left out.
func (d *Desk) List(ctx context.Context, state State) ([]*Appeal, error) {
	var all []*Appeal
	err := d.cfg.Bucket.Each(ctx, func(number string, data []byte) error {
		a, _, err := d.parse(data)
		if err != nil {
			d.cfg.Log.Error("an appeal cannot be read", "appeal", number, "error", err)
			return nil
		}
		if state == "" || a.State == state {
			all = append(all, a)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, changeset.Fail("reading the appeals failed", err)
	}
	slices.SortFunc(all, func(x, y *Appeal) int { return x.Filed.Compare(y.Filed) })
	return all, nil
}

// step reads an appeal, and appends the record that next returns, again if another writer appended one meanwhile. Without a record nothing is written.
func (d *Desk) step(ctx context.Context, number string, next func(*Appeal) (*record, error)) (*Appeal, error) {
	for range stepTries {
		a, s, revision, err := d.load(ctx, number)
		if err != nil {
			return nil, err
		}
		r, err := next(a)
		if err != nil || r == nil {
			return a, err
		}
		r.Number = number
		data, err := d.add(s, *r)
		if err == nil {
			_, err = d.cfg.Bucket.Update(ctx, number, data, revision)
		}
		if errors.Is(err, stream.ErrBehind) {
			continue
		}
		if err != nil {
			return nil, changeset.Fail("storing a step of an appeal failed", err)
		}
		return d.read(ctx, number)
	}
	return nil, changeset.NewError(changeset.Conflict, "", "the appeal is being changed by others: try again")
}
