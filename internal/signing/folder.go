package signing

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

// The names of a control's own keys. Each key has a file of its name.
const (
	RootKey    = "root"    // signs key rings and orders; should be stored elsewhere
	ControlKey = "control" // signs records
	FeedsKey   = "feeds"   // signs the changes of lists
	DeskKey    = "desk"    // signs for operators who push with a token and without a key of their own
	ringFile   = "ring"
	keySuffix  = ".key"
)

// Keys is a folder with secret keys and the key ring of their roles.
type Keys struct{ dir string }

// OpenKeys opens the keys in dir. If there is no key ring, it creates RootKey, ControlKey, FeedsKey and DeskKey and a ring, and created is true.
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
		return nil, false, fmt.Errorf("create keys in %s: %w", dir, err)
	}
	return k, true, nil
}

// OpenExistingKeys opens the keys in dir. It creates none: with a typing error in the setting, servers would trust keys that control does not use.
func OpenExistingKeys(dir string) (*Keys, error) {
	k := &Keys{dir}
	if _, err := os.Stat(k.path(ringFile)); err != nil {
		return nil, fmt.Errorf("there are no keys in %s (%w): set REMPART_KEYS to control's folder of keys, or make keys with \"rempart keys init\"", dir, err)
	}
	return k, nil
}

func (k *Keys) path(name string) string { return filepath.Join(k.dir, name) }

// Path returns the path of the file of a secret key. The file need not exist.
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
	return writeKeyFile(k.path(ringFile), sealed) // written last, because OpenKeys takes it as proof that the keys exist
}

// WriteNewKey creates a key and writes it to a file. It returns an error if the file exists.
func WriteNewKey(path, name string) (*SecretKey, error) {
	key, err := NewKey(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s exists already and is not overwritten", path)
	}
	return key, writeKeyFile(path, []byte(key.Text()))
}

// Rotate creates a new key under the name of one of the folder's keys, and writes it to the folder together with a ring that lists both keys. The new key has
// the role at once, and the old key keeps it during overlap.
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

// writeKeyFile writes a file that only its owner can read. It replaces an existing file.
func writeKeyFile(path string, data []byte) error {
	return durable.WriteBytes(path, data)
}

// Secret reads a secret key of the folder.
func (k *Keys) Secret(name string) (*SecretKey, error) { return ReadSecretKey(k.Path(name)) }

// ReadSecretKey reads a file that holds one secret key.
func ReadSecretKey(path string) (*SecretKey, error) {
	data, err := durable.ReadRegular(path, 4<<10)
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
	sealed, err := durable.ReadRegular(k.path(ringFile), MaxRing)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	roots, err := UncheckedRoots(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path(ringFile), err)
	}
	ring, err := OpenRing(sealed, roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path(ringFile), err)
	}
	return &StoredRing{ring, sealed, roots}, nil
}

// Change calls edit, which changes the ring in place, increases its serial number, signs it with a root key and stores it. Control publishes a changed ring.
func (k *Keys) Change(root *SecretKey, edit func(*Ring) error) error {
	stored, err := k.Ring()
	if err != nil {
		return err
	}
	ring, roots := stored.Ring, stored.RootKeys
	if !slices.ContainsFunc(roots, func(r PublicKey) bool { return r.ID() == root.ID() }) {
		return fmt.Errorf("%s is not a root key of this ring", root.ID())
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
