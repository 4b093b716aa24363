package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rempart/internal/durable"
)

// The keys that a control has of its own, each in a file of its name.
const (
	RootKey    = "root"    // signs key rings and orders; better kept elsewhere
	ControlKey = "control" // signs records
	FeedsKey   = "feeds"   // signs what lists say
	DeskKey    = "desk"    // signs for those who push with a token and no key of their own
	ringFile   = "ring"
	keySuffix  = ".key"
)

// Keys is a folder of keys and the ring that says what they may do.
type Keys struct{ dir string }

// OpenKeys returns the keys in dir. Where there is no ring it makes one, with a key of each kind, and says so in made.
func OpenKeys(dir string) (k *Keys, created bool, err error) {
	k = &Keys{dir}
	_, err = os.Stat(k.path(ringFile))
	if err == nil {
		return k, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	if err := k.create(); err != nil {
		return nil, false, fmt.Errorf("make keys in %s: %w", dir, err)
	}
	return k, true, nil
}

// ExistingKeys are the keys in dir, which it does not make.
func OpenExistingKeys(dir string) (*Keys, error) {
	k := &Keys{dir}
	if _, err := os.Stat(k.path(ringFile)); err != nil {
		return nil, fmt.Errorf("no keys were made yet: %w", err)
	}
	return k, nil
}

func (k *Keys) path(name string) string { return filepath.Join(k.dir, name) }

// Path is where the secret key of a name is, or would be.
func (k *Keys) Path(name string) string { return k.path(name + keySuffix) }

func (k *Keys) create() error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	ring := &Ring{Serial: 1}
	var root *SecretKey
	for _, n := range []struct {
		name string
		role Role
	}{{RootKey, ""}, {ControlKey, RoleControl}, {FeedsKey, RoleFeeds}, {DeskKey, RoleAuthor}} {
		key, err := WriteNewKey(k.Path(n.name), n.name)
		if err != nil {
			return err
		}
		if n.role == "" {
			root = key
			ring.Roots = []string{key.String()}
			continue
		}
		ring.Keys = append(ring.Keys, RingKey{Key: key.String(), Roles: []Role{n.role}})
	}
	sealed, err := ring.Seal(root)
	if err != nil {
		return err
	}
	return writeKeyFile(k.path(ringFile), sealed) // last: it says that the others are there
}

// WriteNewKey makes a key and its file. A file that is there is kept, and an error.
func WriteNewKey(path, name string) (*SecretKey, error) {
	key, err := NewKey(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already: it is not written over", path)
	}
	return key, writeKeyFile(path, []byte(key.Text()))
}

// Rotate replaces one of the folder's keys by a new one, in a ring that a root key signs, and gives it the role, which the old one keeps during overlap.
func (k *Keys) Rotate(root *SecretKey, name string, role Role, overlap time.Duration) (*SecretKey, error) {
	old, err := k.Secret(name)
	if err != nil {
		return nil, err
	}
	key, err := NewKey(name)
	if err != nil {
		return nil, err
	}
	err = k.Change(root, func(ring *Ring) error {
		for i := range ring.Keys {
			if current := &ring.Keys[i]; current.Key == old.String() {
				current.Until = time.Now().Add(overlap).Unix()
			}
		}
		ring.Keys = append(ring.Keys, RingKey{Key: key.String(), Roles: []Role{role}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return key, writeKeyFile(k.Path(name), []byte(key.Text()))
}

// write puts a file in place, which its owner alone may read.
func writeKeyFile(path string, data []byte) error {
	return durable.WriteBytes(path, data)
}

// Secret reads a secret key of the folder.
func (k *Keys) Secret(name string) (*SecretKey, error) { return ReadSecretKey(k.Path(name)) }

// ReadSecretKey reads a file of one secret key.
func ReadSecretKey(path string) (*SecretKey, error) {
	data, err := readFile(path, 4<<10)
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	key, err := ParseSecretKey(string(data))
	if err != nil {
		return nil, fmt.Errorf("secret key %s: %w", path, err)
	}
	return key, nil
}

// StoredRing is the key ring of a folder.
type StoredRing struct {
	*Ring
	Sealed   []byte      // the ring as the root key signed it
	RootKeys []PublicKey // the keys of Ring.Roots
}

// Ring reads the folder's key ring and checks that one of the roots that it names signed it.
func (k *Keys) Ring() (*StoredRing, error) {
	sealed, err := readFile(k.path(ringFile), maxRing)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	roots, err := ownRoots(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path(ringFile), err)
	}
	ring, err := OpenRing(sealed, roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path(ringFile), err)
	}
	return &StoredRing{ring, sealed, roots}, nil
}

// Change replaces the key ring by what edit makes of it, signed by a root key. Control publishes the new ring.
func (k *Keys) Change(root *SecretKey, edit func(*Ring) error) error {
	stored, err := k.Ring()
	if err != nil {
		return err
	}
	ring, roots := stored.Ring, stored.RootKeys
	if !slices.ContainsFunc(roots, func(r PublicKey) bool { return r.ID() == root.ID() }) {
		return fmt.Errorf("%s is no root of this ring", root.ID())
	}
	if err := edit(ring); err != nil {
		return err
	}
	ring.Serial++
	sealed, err := ring.Seal(root)
	if err == nil {
		_, err = OpenRing(sealed, roots)
	}
	if err != nil {
		return err
	}
	return writeKeyFile(k.path(ringFile), sealed)
}
