package descriptors

import (
	"log/slog"
	"strings"
	"testing"
)

// TestSharesStayBelowLimit checks that the descriptors of all kinds together stay below the limit, with two web listeners and five sockets per four
// queries.
func TestSharesStayBelowLimit(t *testing.T) {
	for _, limit := range []uint64{256, 1024, 4096, 20_000, enough, 1 << 63} {
		d := Share(limit)
		if all := d.Streams + d.Questions*5/4 + 3*d.Web + d.API; uint64(all) > limit/5*4 || d.Web < 8 || d.Questions < 64 {
			t.Errorf("%d of %d: %+v", all, limit, d)
		}
	}
	if d := Share(20); d.Web < 1 || d.API < 1 {
		t.Errorf("few files: %+v", d)
	}
	if d := Share(enough); d != (Shares{4096, 4096, 512, 8192}) {
		t.Errorf("Share: %+v, want {4096 4096 512 8192}", d)
	}
}

// TestConfiguredConnections checks that REMPART_CONNECTIONS replaces the share of connections, and is refused where the system allows fewer.
func TestConfiguredConnections(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if d, err := OfProcess(7, log); err != nil || d.Streams != 7 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := OfProcess(9_999_999, log); err == nil || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Errorf("unexpected error %v", err)
	}
}
