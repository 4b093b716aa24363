package signing_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rempart/internal/signing"
)

func newKey(t testing.TB, name string) *signing.SecretKey {
	t.Helper()
	key, err := signing.NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRingRefusesOneKeyUnderTwoNames checks that one key cannot pass as two signers.
func TestRingRefusesOneKeyUnderTwoNames(t *testing.T) {
	root, author := newKey(t, "root"), newKey(t, "author")
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(author.String(), "+", 3)[2])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append([]byte("rempart key twin\n"), raw...))
	twin, err := signing.ParsePublicKey(fmt.Sprintf("twin+%x+%s", sum[:4], base64.StdEncoding.EncodeToString(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		keys  []signing.RingKey
		valid bool
	}{
		{"one name", []signing.RingKey{{Key: author.String(), Roles: []signing.Role{signing.RoleAuthor}}}, true},
		{"two names", []signing.RingKey{
			{Key: author.String(), Roles: []signing.Role{signing.RoleAuthor}}, {Key: twin.String(), Roles: []signing.Role{signing.RoleApprover}},
		}, false},
	} {
		ring := &signing.Ring{Serial: 1, Roots: []string{root.String()}, Keys: tt.keys}
		sealed, err := ring.Seal(root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signing.OpenRing(sealed, []signing.PublicKey{root.PublicKey}); (err == nil) != tt.valid {
			t.Errorf("a ring with a key under %s: got error %v, want valid %t", tt.name, err, tt.valid)
		}
	}
}

// TestSignatureIsValidForOneKindAndPayload checks that a signature cannot be moved to another kind of bytes or to other bytes.
func TestSignatureIsValidForOneKindAndPayload(t *testing.T) {
	key := newKey(t, "author")
	sealed := signing.Seal(signing.KindChanges, []byte("payload\n"), key)
	s, err := signing.Unseal(signing.KindChanges, sealed)
	if err != nil || !s.SignedBy(key.PublicKey) {
		t.Fatalf("the sealed bytes as they were written: %v", err)
	}
	if _, err := signing.Unseal(signing.KindRecord, sealed); !errors.Is(err, signing.ErrSeal) {
		t.Errorf("unsealed as another kind: got %v, want ErrSeal", err)
	}
	renamed := bytes.Replace(sealed, []byte(signing.KindChanges), []byte(signing.KindRecord), 1)
	if s, err := signing.Unseal(signing.KindRecord, renamed); err != nil || s.SignedBy(key.PublicKey) {
		t.Errorf("with the first line of another kind: error %v, want a signature that is not valid", err)
	}
	changed := bytes.Replace(sealed, []byte("payload"), []byte("another"), 1)
	if s, err := signing.Unseal(signing.KindChanges, changed); err != nil || s.SignedBy(key.PublicKey) {
		t.Errorf("with another payload: error %v, want a signature that is not valid", err)
	}
}

// FuzzUnseal checks that bytes which are accepted have one encoding only: the one that SealHead writes for their signatures.
func FuzzUnseal(f *testing.F) {
	sealed := signing.Seal(signing.KindRing, []byte("payload\n"), newKey(f, "root"), newKey(f, "other"))
	f.Add(sealed)
	f.Add(sealed[:len(sealed)/2])
	f.Add(signing.Seal(signing.KindRing, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := signing.Unseal(signing.KindRing, data)
		if err != nil {
			if !errors.Is(err, signing.ErrSeal) {
				t.Fatalf("got %v, want an error that wraps ErrSeal", err)
			}
			return
		}
		if again := append(signing.SealHead(signing.KindRing, s.Signatures), s.Payload...); !bytes.Equal(again, data) {
			t.Fatalf("another encoding was accepted:\n%q\n%q", data, again)
		}
	})
}
