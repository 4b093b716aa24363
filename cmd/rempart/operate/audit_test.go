package operate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"rempart/cmd/rempart/cli"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// TestBrokenAuditTrailIsReported checks that the output names the entry at which the hash chain is broken if entries were changed or omitted.
func TestBrokenAuditTrailIsReported(t *testing.T) {
	t.Parallel()
	key, err := signing.NewKey("control")
	if err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	previous := ""
	for i := range 5 {
		payload, err := json.Marshal(pushapi.AuditEntry{Time: int64(i), Who: "ada", Call: "GET /v1/nodes", Outcome: "OK", Previous: previous})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, signing.Seal(signing.KindAudit, append(payload, '\n'), key))
		sum := sha256.Sum256(entries[i])
		previous = hex.EncodeToString(sum[:])
	}
	changed := slices.Clone(entries)
	changed[2] = []byte(strings.Replace(string(changed[2]), "ada", "eve", 1))
	for name, tt := range map[string]struct {
		entries [][]byte
		at      string
	}{"whole": {entries, ""}, "left out": {slices.Concat(entries[:2], entries[3:]), "entry 3"}, "changed": {changed, "entry 4"}, "first left out": {entries[1:], "entry 1"}} {
		var out strings.Builder
		tr := &auditReader{out: &out, from: 1, number: 1}
		var err error
		for _, e := range tt.entries {
			if err = tr.check(e); err != nil {
				break
			}
		}
		if (tt.at == "") != (err == nil) || tt.at != "" && (!errors.Is(err, cli.Negative) || !strings.Contains(out.String(), "broken at "+tt.at)) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}
