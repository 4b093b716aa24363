package journaltest

import (
	"testing"
	"time"

	"rempart/internal/journal"
	"rempart/internal/signing"
)

// Keys holds one key per role (two authors), a key without a role, and the root key of their ring.
type Keys struct {
	Root, Control, Author, Second, Approver, Feeds, Unauthorized *signing.SecretKey
	Ring                                                         signing.Ring
	Sealed                                                       []byte // the ring, signed by Root
}

// Key returns a new key.
func Key(t testing.TB, name string) *signing.SecretKey {
	t.Helper()
	k, err := signing.NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// NewKeys returns new keys, and their ring.
func NewKeys(t testing.TB) *Keys {
	k := &Keys{
		Root: Key(t, "root"), Control: Key(t, "control"), Author: Key(t, "desk"), Second: Key(t, "other"), Approver: Key(t, "boss"),
		Feeds: Key(t, "feeds"), Unauthorized: Key(t, "unauthorized"),
	}
	k.Ring = signing.Ring{Serial: 1, Roots: []string{k.Root.String()}, Keys: []signing.RingKey{
		{Key: k.Control.String(), Roles: []signing.Role{signing.RoleControl}},
		{Key: k.Author.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.Second.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.Approver.String(), Roles: []signing.Role{signing.RoleApprover}},
		{Key: k.Feeds.String(), Roles: []signing.Role{signing.RoleFeeds}},
	}}
	k.Seal(t)
	return k
}

// Seal signs the ring again, after a change of it.
func (k *Keys) Seal(t testing.TB) {
	t.Helper()
	var err error
	if k.Sealed, err = k.Ring.Seal(k.Root); err != nil {
		t.Fatal(err)
	}
}

// Trust returns the root keys that a follower trusts.
func (k *Keys) Trust() []signing.PublicKey { return []signing.PublicKey{k.Root.PublicKey} }

// ChangeSet returns a change set that the author signed.
func (k *Keys) ChangeSet(t testing.TB, id string, changes ...journal.Change) []byte {
	t.Helper()
	payload, err := journal.Encode(&journal.ChangeSet{ID: id, Time: time.Now().Unix()}, changes)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Seal(signing.KindChanges, payload, k.Author)
}

// Block returns a change that blocks a name and the names below it.
func Block(name string) journal.Change {
	return journal.Change{Do: journal.Block, Name: name, Category: "phishing", Reason: "seen in a mail"}
}
