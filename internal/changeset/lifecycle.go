package changeset

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"rempart/blocklist/guard"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Config configures a Lifecycle. All fields are required.
type Config struct {
	Control    *publish.Control
	Desk       *signing.SecretKey            // signs change sets that no author signed; an author in the key ring
	Guards     func() (*guard.Guards, error) // returns the guards by which changes are judged
	Fleet      Fleet
	Dir        string // of uploads while they are processed
	Log        *slog.Logger
	MaxChanges int // in one change set
}

// Fleet provides information about the nodes that report to control. Its methods are safe for concurrent use.
type Fleet interface {
	// Baselines returns the present block rates of the nodes to which a change set is staged, by node.
	Baselines(set string, share float64) map[string]Baseline
	// Unusual describes a node that blocks unusually much or little compared with its baseline, "" for none.
	Unusual(usual map[string]Baseline) string
	// Reach returns the numbers of nodes to which a change set applies.
	Reach(set string, to *Audience) Reach
	// Holders returns the names of the nodes that a change set is for and on which a version of an epoch is in force, in order.
	Holders(set string, to *Audience, epoch, version uint64) []string
}

// By identifies the token with which a step is requested, and its owner. Two tokens of one owner are the same person.
type By struct {
	Token, Person string
}

// control identifies the steps that control takes without a request.
var control = By{"control", "control"}

// Lifecycle moves change sets through their states. Its methods are safe for concurrent use; calls for one change set run one
// after another.
type Lifecycle struct {
	cfg      Config
	log      *slog.Logger
	instance string // identifies this run of control
	holds    *stream.Bucket
	receipts *stream.Bucket
	locks    idLocks
	watched  watchlist
	stats    stats

	records Gate // of calls that publish a record
	undos   Gate // of calls that make an undo
	lists   Gate // of calls that read all receipts
}

// New returns a Lifecycle. Run must be called, because it takes the steps that nobody requests.
func New(cfg Config) *Lifecycle {
	s := cfg.Control.Stream
	return &Lifecycle{
		cfg: cfg, log: cfg.Log, instance: crand.Text(), holds: s.Bucket(stream.Holds), receipts: s.Bucket(stream.Receipts),
		locks: idLocks{by: map[string]chan struct{}{}}, watched: watchlist{by: map[string]State{}}, stats: newStats(),
		records: NewGate(1), undos: NewGate(1), lists: NewGate(1),
	}
}

// NewJudge returns a judge of an upload. split makes it hold the changes that a guard holds as a separate change set.
func (l *Lifecycle) NewJudge(split bool) (*Judge, error) {
	guards, err := l.cfg.Guards()
	if err != nil {
		return nil, Fail("the lists of the guards cannot be read", err)
	}
	return &Judge{dir: l.cfg.Dir, view: l.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: l.cfg.MaxChanges, split: split}, nil
}

// Result is the receipt of a change set after a step.
type Result struct {
	*Stored
	Repeated bool // an earlier call took the step, and this call changed nothing
}

// Submission describes a push.
type Submission struct {
	Content     string // hash of everything that was pushed
	By          By
	DryRun      bool // only return the receipt that a push would get
	WithoutHeld bool // the judge holds the changes that guards hold separately
}

// Submit processes an upload that j judged: it is published, held for a second person, or refused. A change set that was pushed
// before with the same content is not processed again.
func (l *Lifecycle) Submit(ctx context.Context, u *Upload, j *Judge, s Submission) (*Result, error) {
	j.checkMassChange(u)
	r := &Stored{Content: s.Content, Owner: s.By.Person}
	if err := l.sign(u, r); err != nil {
		return nil, err
	}
	r.describe(u, s.By)
	r.updateReach(l.cfg.Fleet)
	if apart := j.apart; apart != nil && apart.lines > 0 {
		if r.HeldAs, r.SetApart = apart.set.ID, apart.lines; u.accepted == 0 {
			r.Note = "all changes of this change set are held separately"
		}
	}
	if s.DryRun {
		return &Result{Stored: r}, r.apply(CheckOnly)
	}
	unlock, err := l.lock(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	done, err := l.claimPush(ctx, u, r, s.WithoutHeld)
	if err != nil {
		return nil, err
	}
	if done != nil {
		l.present(ctx, done)
		return &Result{Stored: done, Repeated: true}, nil
	}
	if r.HeldAs != "" { // before the rest is published: a repeated push then finds both change sets, or processes both
		if err := l.holdSeparately(ctx, j.apart, r, s.By); err != nil {
			return nil, err
		}
	}
	l.stats.addActs(j.acts)
	return &Result{Stored: r}, l.process(ctx, u, r)
}

// describe sets the fields of a receipt that an upload determines.
func (r *Stored) describe(u *Upload, by By) {
	r.Receipt.ID, r.By, r.Comment, r.Time, r.Until = u.set.ID, by.Token, u.set.Comment, time.Now().UTC(), u.set.Deadline()
	r.Accepted, r.Refusals, r.Refused, r.Holds, r.Held = u.accepted, u.refusals, u.refused, u.holds, u.held
	if r.Audience = u.audience; u.set.Stage != nil {
		r.Audience.Share = u.set.Stage.Share
	}
}

// process publishes a claimed change set, holds it, or refuses it because no change is left.
func (l *Lifecycle) process(ctx context.Context, u *Upload, r *Stored) error {
	if u.accepted > 0 && u.holds == 0 {
		return l.publishUpload(ctx, u, r)
	}
	event := Refuse
	if u.accepted > 0 {
		event = Hold
		if err := l.storeHeld(ctx, u, r.ID); err != nil {
			return Fail("the change set was not held", err)
		}
	}
	if err := r.apply(event); err != nil {
		return err
	}
	if err := l.save(ctx, r); err != nil {
		return Fail("the receipt was not written", err)
	}
	l.stats.addState(r.State)
	return nil
}

// maxHeld bounds the number of held change sets: each may be large.
const maxHeld = 1000

// checkRoom returns an error if no more change sets can be held.
func (l *Lifecycle) checkRoom() error {
	if len(l.watched.ids(Held)) >= maxHeld {
		return fmt.Errorf("%d change sets are held already", maxHeld)
	}
	return nil
}
