// Package tsig parses the keys of transaction signatures (TSIG, RFC 8945) for both sides of a zone transfer: fetching lists and serving policy zones.
package tsig

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// Algorithm is a hash algorithm for signatures.
type Algorithm struct {
	Name string // in lower case, without the trailing dot
	Hash func() hash.Hash
}

// ParseAlgorithm returns the algorithm with a name: hmac-sha256, hmac-sha384 or hmac-sha512, in any case. HMAC-MD5 and HMAC-SHA1 are not recommended any more
// (RFC 8945 section 6), and truncated signatures are not accepted. The error quotes name only if it begins like the name of an algorithm: it may be a misplaced
// secret.
func ParseAlgorithm(name string) (Algorithm, error) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	switch name {
	case "hmac-sha256":
		return Algorithm{name, sha256.New}, nil
	case "hmac-sha384":
		return Algorithm{name, sha512.New384}, nil
	case "hmac-sha512":
		return Algorithm{name, sha512.New}, nil
	}
	if strings.HasPrefix(name, "hmac-md5") || strings.HasPrefix(name, "hmac-sha") {
		return Algorithm{}, fmt.Errorf("the TSIG algorithm %.20q is too weak; make a key for hmac-sha256, hmac-sha384 or hmac-sha512", name)
	}
	return Algorithm{}, errors.New("the TSIG algorithm is not known; use hmac-sha256, hmac-sha384 or hmac-sha512")
}

// ParseSecret decodes a secret in base64. The error does not quote it.
func ParseSecret(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(secret) == 0 {
		return nil, errors.New("the secret of the TSIG key is not base64")
	}
	return secret, nil
}
