package setup

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rempart/internal/config"
)

func TestSystemResolvers(t *testing.T) {
	for name, tt := range map[string]struct {
		text   string
		listen string
		want   []string
		err    []string
	}{
		"two resolvers": {text: "search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", listen: "127.0.0.1:53",
			want: []string{"udp://192.0.2.1", "udp://[2001:db8::1]"}},
		"own address among others": {text: "nameserver 127.0.0.1\nnameserver 192.0.2.1\n", listen: "127.0.0.1:53",
			want: []string{"udp://192.0.2.1"}},
		"only own address": {text: "nameserver 127.0.0.1\n", listen: "127.0.0.1:53",
			err: []string{"names only this server", "127.0.0.1", "REMPART_UPSTREAMS"}},
		"only own address, listening on all addresses": {text: "nameserver 127.0.0.53\nnameserver ::1\n", listen: ":53",
			err: []string{"names only this server", "REMPART_UPSTREAMS"}},
		"own address, listening on another port": {text: "nameserver 127.0.0.1\n", listen: "127.0.0.1:5300",
			want: []string{"udp://127.0.0.1"}},
		"no resolver": {text: "# nothing\n", listen: "127.0.0.1:53", err: []string{"names no name server", "REMPART_UPSTREAMS"}},
		"one unusable resolver": {text: "nameserver dns.example\nnameserver 192.0.2.1\n", listen: "127.0.0.1:53",
			want: []string{"udp://192.0.2.1"}},
		"only unusable resolvers": {text: "nameserver dns.example\n", listen: "127.0.0.1:53", err: []string{"dns.example", "REMPART_UPSTREAMS"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var c config.Config
			if err := c.Listen.UnmarshalText([]byte(tt.listen)); err != nil {
				t.Fatal(err)
			}
			list, err := systemEndpoints(&c, "UPSTREAMS", path, filepath.Join(filepath.Dir(path), "behind"))
			var got []string
			for _, e := range list {
				got = append(got, e.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
			if (err != nil) != (tt.err != nil) {
				t.Fatalf("error: %v", err)
			}
			for _, want := range tt.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		})
	}
	c := config.Config{DNS: config.DNS{Listen: config.Addrs{netip.MustParseAddrPort("127.0.0.1:53")}}}
	missing := filepath.Join(t.TempDir(), "resolv.conf")
	if _, err := systemEndpoints(&c, "UPSTREAMS", missing, missing); err == nil ||
		!strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "REMPART_UPSTREAMS") {
		t.Errorf("without a resolv.conf: %v", err)
	}
}
